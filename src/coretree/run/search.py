"""CoresetSearchCV: scikit-learn's searches on a tree's sketches, with honest folds and weights wherever they belong."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Self

import numpy as np
from sklearn.base import clone

from coretree.data.dataset import Dataset
from coretree.data.prepare import PrepareRules
from coretree.learn.models import sketch_for
from coretree.learn.scorers import SINGLE, scorers_for
from coretree.learn.trials import Trials, check_takes_weights, with_params
from coretree.run.build import Progress
from coretree.run.coreset_tree import CoresetTree
from coretree.run.executor import executor_for
from coretree.run.search_file import TrialFile, digest_of
from coretree.run.search_full import check_full
from coretree.run.search_ground import Ground, full_size, lay_ground
from coretree.run.search_model import SearchedModel, checked_index
from coretree.run.search_optuna import propose
from coretree.run.search_plan import check_arguments, deciding_score, rounds_of, settings_of
from coretree.run.search_rounds import Rounds, validated
from coretree.run.search_runner import Runner, Setting


class CoresetSearchCV(SearchedModel):
    """Search the parameters of an estimator on coresets: scikit-learn's searches for data of any size.

    Every trial is fitted on weighted rows outside a fold, which stand for all the data, and scored with weights on
    uniform rows inside it. The best setting is fitted once more on the whole coreset.

    Parameters
    ----------
    estimator : scikit-learn classifier or regressor
        Not touched. Rows reach it prepared, as for ``CoresetClassifier``; a Pipeline may do more with them.
    param_grid : mapping of parameter to values, or sequence of such
        As for ``GridSearchCV``.
    param_distributions : mapping of parameter to values or distribution, or sequence of such
        As for ``RandomizedSearchCV``; give one of the two. For "optuna" one mapping, of lists, SciPy's ``uniform``,
        ``loguniform`` and ``randint``, or Optuna's distributions.
    tree : CoresetTree or path, optional
        Where the tree is, or will be built; a temporary one by default.
    data : Dataset, optional
        Where ``fit`` is given no rows: what a tree that is not built yet is built from, and what ``validate`` reads.
    strategy : {"grid", "random", "halving", "optuna"}
        All settings; ``n_iter`` random ones; rounds that begin with few rows and many settings, of which one in
        ``factor`` goes on to ``factor`` times the rows (the sizes are nested: prefixes of one sketch); or ``n_iter``
        settings that Optuna proposes (extra ``search``), all tried on the sketch that suits ``estimator``.
    n_iter : int
        Settings drawn from ``param_distributions``.
    factor : int
        For "halving".
    min_size : int, optional
        For "halving": rows of the first round, at least. Default: 500, or 10 a fold and class where that is more.
    size : int, optional
        Rows to fit on; all that the tree keeps by default.
    objective : str
        The sketch to fit on; "auto" is the one that suits the settings.
    cv : int
        Folds.
    folds : {"hash", "time"}
        By row identity, so that each fold is an honest sample of its share of the data; or stretches of time, each
        scored by models of earlier rows only, which are not calibrated, since later totals would be no secret then.
    scoring : str, callable, sequence, mapping or None
        As in scikit-learn; scorers are given weights. None is "roc_auc" or "r2".
    refit : bool, str or callable
        As in scikit-learn: whether to fit the best setting, by which of several scores, or a function of
        ``cv_results_`` that returns the best index.
    validate : {None, "full"}
        "full": the models of the ``n_best`` settings are scored on all rows of their folds in one pass over the data,
        and the best of them by that score is taken.
    n_best : int
        Settings to validate.
    error_score : float or "raise"
        Score of a trial whose estimator failed.
    prepare : PrepareRules or mapping, optional
        For a tree that is made here.
    seed : int
        Of folds, draws, fits, and a tree that is made here.
    client : optional
        See ``CoresetTree.build``. On a cluster what trials share is sent once, and they run on all workers.
    resume : path, optional
        JSON file of finished trials. The same search goes on where it was interrupted and finds the same; of another
        tree or with other settings it starts anew, beside what the file holds.

    Attributes
    ----------
    cv_results_ : dict of arrays
        As of scikit-learn's searches; means over folds are by their weight. "halving" adds ``iter`` and
        ``n_resources``; ``validate="full"`` adds ``split<k>_full``, ``mean_full``, ``std_full`` and ``rank_full``, NaN
        for settings that were not among the best.
    best_index_, best_params_, best_score_
        ``best_score_`` is that of all rows where these were read.
    best_estimator_ : CoresetClassifier or CoresetRegressor
        Fitted on the whole coreset; its ``estimator_`` is a plain scikit-learn Pipeline.
    scorer_, multimetric_, n_splits_, refit_time_
        As in scikit-learn.
    n_resources_, n_candidates_ : list of int
        Rows and settings of each round.
    fold_note_ : str
        Empty, or why folds are not those of the hash alone.
    n_rows_validated_ : int
        Rows read for ``validate="full"``.
    tree_ : CoresetTree

    Examples
    --------
    >>> import pandas as pd
    >>> from sklearn.linear_model import LogisticRegression
    >>> rng = np.random.default_rng(0)
    >>> X = pd.DataFrame(rng.normal(size=(3000, 2)), columns=["a", "b"])
    >>> y = (X["a"] + rng.logistic(size=3000) > 0).astype(int)
    >>> search = CoresetSearchCV(LogisticRegression(), {"C": [1e-6, 1.0]}, size=600, cv=3, scoring="neg_log_loss")
    >>> search.fit(X, y).best_params_
    {'C': 1.0}
    """

    def __init__(
        self,
        estimator: Any,
        param_grid: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None,
        *,
        param_distributions: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None,
        tree: CoresetTree | str | os.PathLike[str] | None = None,
        data: Dataset | None = None,
        strategy: Literal["grid", "random", "halving", "optuna"] = "grid",
        n_iter: int = 10,
        factor: int = 3,
        min_size: int | None = None,
        size: int | None = None,
        objective: str = "auto",
        cv: int = 5,
        folds: Literal["hash", "time"] = "hash",
        scoring: Any = None,
        refit: Any = True,
        validate: Literal["full"] | None = None,
        n_best: int = 3,
        error_score: float | str = np.nan,
        prepare: PrepareRules | Mapping[str, Any] | None = None,
        seed: int = 0,
        client: Any = None,
        resume: str | os.PathLike[str] | None = None,
    ) -> None:
        self.estimator = estimator
        self.param_grid = param_grid
        self.param_distributions = param_distributions
        self.tree = tree
        self.data = data
        self.strategy = strategy
        self.n_iter = n_iter
        self.factor = factor
        self.min_size = min_size
        self.size = size
        self.objective = objective
        self.cv = cv
        self.folds = folds
        self.scoring = scoring
        self.refit = refit
        self.validate = validate
        self.n_best = n_best
        self.error_score = error_score
        self.prepare = prepare
        self.seed = seed
        self.client = client
        self.resume = resume

    def fit(self, X: Any = None, y: Any = None, sample_weight: Any = None, *, progress: Progress | None = None) -> Self:
        """Build the tree where it is not built yet, search, and fit the best setting on the whole coreset.

        Parameters
        ----------
        X : Dataset, Dask DataFrame, pandas DataFrame, array (n, d), or None
            Training rows. None: ``data``, or the tree as it is.
        y : Series, array (n,), column name, or None
            Target for X in memory, or the target's column name in a DataFrame; a Dataset knows its own.
        sample_weight : array (n,), optional
            Base weights for X in memory.
        progress : callable, optional
            As in ``CoresetTree.build``.

        Returns
        -------
        self

        Raises
        ------
        ConfigError
            An unknown parameter, score or strategy; more folds than rows; a size larger than the tree; an estimator
            without weights.
        """
        task, wanted = check_arguments(self), settings_of(self)
        scorers, self.multimetric_ = scorers_for(self.scoring, task)
        decides = deciding_score(self.refit, list(scorers), self.multimetric_, self.validate)
        if self.validate is not None:
            check_full(scorers[decides or SINGLE], reads=X is not None or self.data is not None)
        executor = executor_for(self.client)
        tree, data = self._built(X, y, sample_weight, task, progress)
        tries = [{}] if wanted is None else wanted
        sketches = [self._sketch(params, tree) for params in tries]
        size = full_size(tree, sketches, self.size)
        n_classes = len(tree.recipe_.classes or ()) or 1
        plan = rounds_of(self, len(tries), size, n_classes)
        many = {sketch: [m for _, m in plan] for sketch in sketches}
        ground = lay_ground(tree, many, cv=self.cv, by=self.folds, seed=self.seed)
        for params, sketch in zip(tries, sketches, strict=True):
            check_takes_weights(with_params(self.estimator, params), ground.fits[sketch, size])
        trials = Trials(self.estimator, ground.fits, ground.scored, scorers, ground.classes, self.seed)
        file = TrialFile(self.resume, self._name(tree, ground, trials) if self.resume is not None else "")
        runner = Runner(executor, trials, self.cv, file, self.error_score, progress)
        board = Rounds(runner, {o: rows.masses for o, rows in ground.scored.items()}, decides or next(iter(scorers)))
        settings = [Setting(params, sketch, size) for params, sketch in zip(tries, sketches, strict=True)]
        if wanted is None:
            space: Any = self.param_grid or self.param_distributions
            propose(space, self.n_iter, self.seed, lambda p: float(board.add([Setting(p, sketches[0], size)])[0]))
        else:
            board.halve(settings, plan)
        self._forget()
        self._conclude(board, ground, tree, data, decides, progress)
        return self

    def _conclude(
        self,
        board: Rounds,
        ground: Ground,
        tree: CoresetTree,
        data: Dataset | None,
        decides: str | None,
        progress: Progress | None,
    ) -> None:
        """Choose, look at all rows where that was asked for, and fit the best."""
        trials = board.runner.trials
        table = self.cv_results_ = board.table(rounds=self.strategy == "halving")
        self.scorer_ = dict(trials.scorers) if self.multimetric_ else trials.scorers[SINGLE]
        self.n_splits_, self.fold_note_, self.tree_ = self.cv, ground.note, tree
        if self.strategy == "halving":
            firsts = [board.rounds.index(i) for i in range(board.rounds[-1] + 1)]
            self.n_candidates_ = [board.rounds.count(i) for i in range(len(firsts))]
            self.n_resources_ = [board.settings[i].size for i in firsts]
        if callable(self.refit):
            self.best_index_ = checked_index(self.refit(table), len(board.settings))
        elif decides is not None:
            self.best_index_ = board.best(table, decides)[0]
            self.best_score_ = float(table[f"mean_test_{decides}"][self.best_index_])
        if self.validate is not None and data is not None and decides is not None:
            chosen, scorer = board.best(table, decides, self.n_best), trials.scorers[decides]
            found = validated(board, chosen, table, ground, tree, data, scorer, self.client, progress)
            self.best_index_, self.n_rows_validated_ = found
            self.best_score_ = float(table["mean_full"][self.best_index_])
        if hasattr(self, "best_index_"):
            self.best_params_ = table["params"][self.best_index_]
            if self.refit:
                best = board.settings[self.best_index_]
                core = ground.cores[best.sketch, max(s.size for s in board.settings)]
                self._refit(with_params(self.estimator, best.params), core, tree)

    def _sketch(self, params: Mapping[str, Any], tree: CoresetTree) -> str:
        if self.objective != "auto":
            return self.objective
        return sketch_for(with_params(self.estimator, params), tree.recipe_.offers)

    def _name(self, tree: CoresetTree, ground: Ground, trials: Trials) -> str:
        """Digest of everything that a trial's score depends on besides its parameters, sketch, size and fold."""
        estimator = clone(self.estimator)
        sketches, scorers = sorted(ground.fits), sorted(trials.scorers.items())
        return digest_of(tree.name_, type(estimator), estimator, scorers, ground.rule.to_dict(), sketches, self.seed)
