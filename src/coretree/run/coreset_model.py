"""What CoresetClassifier and CoresetRegressor share: a tree, the coreset that suits, a fit on a single worker."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import partial
from typing import Any, Self

import numpy.typing as npt
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import Pipeline

from coretree.data.prepare import PrepareRules
from coretree.data.to_sklearn import to_sklearn
from coretree.errors import ConfigError
from coretree.learn.models import loss_objective, sketch_for
from coretree.learn.prior_shift import Prior
from coretree.run.build import Progress
from coretree.run.coreset_tree import CoresetTree
from coretree.run.executor import Executor, executor_for
from coretree.run.fitted import FittedModel
from coretree.run.fitting import (
    at_most,
    by_request,
    exactness,
    fit_on_coreset,
    fit_on_moments,
    fitted_as,
    foreseen,
    threads_for,
)
from coretree.run.inputs import as_dataset
from coretree.tree.coresets import Coreset


class CoresetModel(FittedModel):
    """What the estimators share; see ``CoresetClassifier``."""

    def __init__(
        self,
        estimator: Any = None,
        *,
        tree: CoresetTree | str | os.PathLike[str] | None = None,
        size: int | None = None,
        objective: str = "auto",
        prepare: PrepareRules | Mapping[str, Any] | None = None,
        random_state: int = 0,
        client: Any = None,
    ) -> None:
        self.estimator = estimator
        self.tree = tree
        self.size = size
        self.objective = objective
        self.prepare = prepare
        self.random_state = random_state
        self.client = client

    def fit(self, X: Any = None, y: Any = None, sample_weight: Any = None, *, progress: Progress | None = None) -> Self:
        """Build the tree where it is not built yet, draw the coreset that suits the estimator, and fit on it.

        Parameters
        ----------
        X : Dataset, Dask DataFrame, pandas DataFrame, array (n, d), or None
            Training rows. None: the tree as it is.
        y : Series, array (n,), column name, or None
            Target for X in memory, or the target's column name in a DataFrame; a Dataset knows its own.
        sample_weight : array (n,), optional
            Base weights for X in memory.
        progress : callable, optional
            As in ``CoresetTree.build``.

        Returns
        -------
        self
        """
        executor = executor_for(self.client)
        tree = self._tree(X)
        if X is not None:
            data = as_dataset(X, y, sample_weight, self._task)
            if data.schema.task != self._task:
                raise ConfigError(
                    f"target '{data.schema.target}' is for {data.schema.task}, but {type(self).__name__} does "
                    f"{self._task}. "
                    f'Use the other estimator, or open the data with task="{self._task}".'
                )
            tree.build(data, client=self.client, progress=progress)
        estimator = self._estimator()
        objective = sketch_for(estimator, tree.recipe_.offers) if self.objective == "auto" else self.objective
        core = tree.coreset(at_most(self.size, tree, objective), objective=objective)
        return self._fit_on(core, tree, executor)

    def _fit_on(self, core: Coreset, tree: CoresetTree, executor: Executor) -> Self:
        """Fit on a coreset that was drawn already."""
        transformer = to_sklearn(tree.recipe_.preparation)
        task = self._task_on(core, tree, transformer)
        return self._taking(executor.one(task.func, *task.args), core, tree, transformer)

    def _task_on(self, core: Coreset, tree: CoresetTree, transformer: Any, *, sharpen: bool = True) -> partial[Any]:
        """What a worker does: returns the estimator fitted on prepared rows, or on moments that give it exactly."""
        estimator = clone(self._estimator())
        self.exact_ = exactness(estimator, tree.root_) if self.objective == "auto" else by_request(self.objective)
        if self.exact_:
            return partial(fit_on_moments, estimator, tree.root_.moments)
        seed, threads = int(self.random_state), threads_for(len(core))
        near = foreseen(tree, core.objective)
        prior = self._class_prior()
        return partial(fit_on_coreset, estimator, core, transformer, seed, threads, prior, near, sharpen)

    def _taking(self, fitted: Any, core: Coreset, tree: CoresetTree, transformer: Any) -> Self:
        """Join what the task returned with the preparation."""
        recipe = tree.recipe_
        self.estimator_ = Pipeline([("prepare", transformer), ("model", fitted)])
        self.tree_, self.coreset_ = tree, core
        return fitted_as(self, self.estimator_, recipe.schema, recipe.clean, recipe.classes)

    def _class_prior(self) -> Prior:
        return "data"

    def _default(self) -> Any:
        return LogisticRegression(max_iter=1000) if self._task == "classification" else Ridge()

    def _tree_options(self) -> dict[str, Any]:
        more = [name for name in (loss_objective(self._estimator()), self.objective) if name not in (None, "auto")]
        return {"objectives": ["auto", *more]}

    def predict(self, X: Any) -> npt.NDArray[Any]:
        """Predict raw rows: pandas and arrays at once, a Dask DataFrame lazily (as a Dask array)."""
        return self._answer(X, "predict")
