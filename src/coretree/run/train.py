"""Several models on one tree: each on the sketch made for it, compared by weighted cross-validation on one worker."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from coretree.data.to_sklearn import to_sklearn
from coretree.learn import choose as chooser
from coretree.learn.models import named_estimator, sketch_for
from coretree.run.coreset_tree import CoresetTree
from coretree.run.estimators import CoresetClassifier, CoresetRegressor
from coretree.run.executor import available_cores, executor_for

DEFAULT_SCORING = {"classification": "roc_auc", "regression": "r2"}


@dataclass(frozen=True, eq=False)
class Choice:
    """The models that were compared, the leaderboard, and the best one, fitted on its whole coreset."""

    leaderboard: chooser.Leaderboard
    models: Mapping[str, CoresetClassifier | CoresetRegressor]

    @property
    def name(self) -> str:
        """Name of the best model."""
        return self.leaderboard.best

    @property
    def model(self) -> CoresetClassifier | CoresetRegressor:
        """The best model."""
        return self.models[self.name]


def choose(
    estimators: Sequence[str] | Mapping[str, Any],
    tree: CoresetTree,
    *,
    size: int | None = None,
    scoring: str | None = None,
    cv: int = 5,
    seed: int = 0,
    client: Any = None,
) -> Choice:
    """Compare estimators on a built tree and fit each on its coreset.

    Parameters
    ----------
    estimators : sequence of names, or mapping of name to estimator
        Names: "logistic", "tree", "forest", "svm", "hist_gradient_boosting", or "linear", "ridge" for quantities.
    tree : CoresetTree
        Built.
    size : int, optional
        Rows to fit on.
    scoring : str, optional
        A scikit-learn score name; "roc_auc" or "r2" by default.
    cv : int
        Folds; rows are dealt by a hash of their identity, so a row is held out of every sketch at once.
    seed : int
    client : optional
        See ``CoresetTree.build``; the work is done on a single worker.

    Returns
    -------
    Choice
    """
    executor = executor_for(client)
    recipe = tree.recipe_
    task = recipe.schema.task
    assert task is not None
    if not isinstance(estimators, Mapping):
        estimators = {name: named_estimator(name, task, seed=seed) for name in estimators}
    kind = CoresetClassifier if task == "classification" else CoresetRegressor
    transformer = to_sklearn(recipe.preparation)
    cores = {
        o: tree.coreset(_at_most(size, tree, o), objective=o)
        for o in {sketch_for(e): None for e in estimators.values()}
    }
    prepared = {o: transformer.transform(core.X) for o, core in cores.items()}
    candidates = {}
    for name, estimator in estimators.items():
        objective = sketch_for(estimator)
        core = cores[objective]
        candidates[name] = chooser.Candidate(
            estimator, prepared[objective], core.y.to_numpy(), core.sample_weight, core.ids
        )
    board = executor.one(_compare, candidates, cv, scoring or DEFAULT_SCORING[task], seed)
    models = {
        name: kind(estimator, tree=tree, size=size, random_state=seed, client=client).fit()
        for name, estimator in estimators.items()
    }
    return Choice(board, models)


def _compare(candidates: Mapping[str, chooser.Candidate], cv: int, scoring: str, seed: int) -> chooser.Leaderboard:
    return chooser.choose(candidates, cv=cv, scoring=scoring, seed=seed, n_threads=available_cores())


def _at_most(size: int | None, tree: CoresetTree, objective: str) -> int | None:
    return None if size is None else min(size, tree.root_.sketches[objective].capacity)
