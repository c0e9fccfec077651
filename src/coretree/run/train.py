"""Several models on one tree: each on the sketch made for it, compared by weighted cross-validation on one worker."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from coretree.data.encode import design
from coretree.data.to_sklearn import features, to_sklearn
from coretree.learn import choose as chooser
from coretree.learn.models import named_estimator, sketch_for
from coretree.learn.reweigh import Recalibration
from coretree.run.coreset_tree import CoresetTree
from coretree.run.estimators import CoresetClassifier, CoresetRegressor
from coretree.run.executor import executor_for
from coretree.run.fitting import at_most, class_mass, threads_for
from coretree.tree.coresets import draw, most_rows

LEAST_ROWS_A_FOLD = 5  # of the rarest class, in a sample that models are scored on
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

    Cross-validation is weighted: each model is fitted on the sketch made for it and scored on uniform rows of the fold
    that no fit has seen, so its scores are those of the full data but for the smaller training sets.

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
    objectives = {name: sketch_for(e, recipe.offers) for name, e in estimators.items()}
    cores = {o: tree.coreset(at_most(size, tree, o), objective=o) for o in dict.fromkeys(objectives.values())}
    prepared = {o: features(transformer, core.X) for o, core in cores.items()}
    reweigh = {o: recalibration(tree, o, len(core)) for o, core in cores.items() if o in tree.totals_}
    candidates = {}
    for name, estimator in estimators.items():
        objective = objectives[name]
        core = cores[objective]
        candidates[name] = chooser.Candidate(
            estimator,
            prepared[objective],
            core.target,
            core.sample_weight,
            core.ids,
            class_mass=class_mass(objective),
            reweigh=reweigh.get(objective),
        )
    validation = validation_rows(tree, transformer, cv)
    board = executor.one(_compare, candidates, validation, cv, scoring or DEFAULT_SCORING[task], seed)
    models = {
        name: kind(estimator, tree=tree, size=size, random_state=seed, client=client)._fit_on(
            cores[objectives[name]], tree, executor
        )
        for name, estimator in estimators.items()
    }
    return Choice(board, models)


def _compare(
    candidates: Mapping[str, chooser.Candidate],
    validation: chooser.Validation | None,
    cv: int,
    scoring: str,
    seed: int,
) -> chooser.Leaderboard:
    threads = threads_for(max(candidate.ids.size for candidate in candidates.values()))
    return chooser.choose(candidates, validation=validation, cv=cv, scoring=scoring, seed=seed, n_threads=threads)


def recalibration(tree: CoresetTree, objective: str, size: int) -> Recalibration:
    """How the rows outside a fold are weighed."""
    recipe, node = tree.recipe_, tree.root_
    sample = draw(node, recipe, size=min(size, most_rows(node, recipe, objective)), objective=objective)
    X = design(sample.rows, recipe.preparation)
    return Recalibration(sample.weights, sample.base, X, sample.rows["y"], *tree.totals_[objective])


def validation_rows(tree: CoresetTree, transformer: Any, cv: int) -> chooser.Validation | None:
    """The uniform sketch, on which all models are scored alike; None where a class is too rare in it to be scored.

    Rows drawn by importance would make a noisy yardstick, and a different one for each sketch.
    """
    if "uniform" not in tree.recipe_.objectives:
        return None
    core = tree.coreset(objective="uniform")
    if core.class_counts is not None:
        held = pd.Series(core.target).value_counts()
        if len(held) < len(core.class_counts) or held.min() < LEAST_ROWS_A_FOLD * cv:
            return None
    return chooser.Validation(features(transformer, core.X), core.target, core.sample_weight, core.ids)
