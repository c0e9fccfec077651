"""What a finished search can be asked: the answers of its best model; and how it comes to a tree."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, MetaEstimatorMixin, is_classifier
from sklearn.exceptions import NotFittedError
from sklearn.utils import get_tags
from sklearn.utils.metaestimators import available_if

from coretree.data.dataset import Dataset
from coretree.data.schema import Schema
from coretree.errors import ConfigError
from coretree.learn.scorers import WeightedScorer
from coretree.run.build import Progress
from coretree.run.coreset_tree import CoresetTree
from coretree.run.estimators import CoresetClassifier, CoresetRegressor
from coretree.run.executor import executor_for
from coretree.run.inputs import as_dataset
from coretree.tree.coresets import Coreset

_LEARNED = ("best_index_", "best_params_", "best_score_", "best_estimator_", "refit_time_", "n_rows_validated_")
_OF_THE_BEST = ("classes_", "n_features_in_", "feature_names_in_")


def _best_has(method: str) -> Callable[[Any], bool]:
    """Whether the best model has a method; before the search, whether the estimator has it."""
    return lambda search: hasattr(getattr(search, "best_estimator_", search.estimator), method)


class SearchedModel(MetaEstimatorMixin, BaseEstimator):
    """What is not the search itself; see ``CoresetSearchCV``."""

    estimator: Any
    tree: Any
    data: Dataset | None
    size: int | None
    objective: str
    refit: Any
    prepare: Any
    seed: int
    client: Any
    multimetric_: bool
    scorer_: Any

    def __sklearn_tags__(self) -> Any:
        tags, inner = super().__sklearn_tags__(), get_tags(self.estimator)
        tags.estimator_type, tags.target_tags = inner.estimator_type, inner.target_tags
        tags.classifier_tags, tags.regressor_tags = inner.classifier_tags, inner.regressor_tags
        tags.input_tags.allow_nan = tags.input_tags.string = True
        return tags

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "cv_results_")

    def _built(
        self, X: Any, y: Any, sample_weight: Any, task: str, progress: Progress | None
    ) -> tuple[CoresetTree, Dataset | None]:
        """The tree, built where it is not yet, and the rows that it stands for."""
        rows = self.data if X is None else X
        tree = self._model(self.estimator, self.tree)._tree(rows)
        if rows is None:
            self._check_task(tree.recipe_.schema, task)
            return tree, None
        data = as_dataset(rows, y, sample_weight, task)
        self._check_task(data.schema, task)
        if X is None and tree.is_built:
            return tree, data.on_side(tree.recipe_.split)
        return tree.build(data, client=self.client, progress=progress), data

    def _check_task(self, schema: Schema, task: str) -> None:
        if schema.task != task:
            raise ConfigError(
                f"target '{schema.target}' is for {schema.task}, but {type(self.estimator).__name__} does {task}. "
                f'Use another estimator, or open the data with task="{task}".'
            )

    def _model(self, estimator: Any, tree: Any) -> CoresetClassifier | CoresetRegressor:
        kind = CoresetClassifier if is_classifier(self.estimator) else CoresetRegressor
        return kind(
            estimator,
            tree=tree,
            size=self.size,
            objective=self.objective,
            prepare=self.prepare,
            random_state=self.seed,
            client=self.client,
        )

    def _refit(self, estimator: Any, core: Coreset, tree: CoresetTree) -> None:
        began = time.perf_counter()
        self.best_estimator_ = self._model(estimator, tree)._fit_on(core, tree, executor_for(self.client))
        self.refit_time_ = time.perf_counter() - began
        for name in _OF_THE_BEST:
            if hasattr(self.best_estimator_, name):
                setattr(self, name, getattr(self.best_estimator_, name))

    def _forget(self) -> None:
        """Leave nothing of an earlier search behind."""
        for name in (*_LEARNED, *_OF_THE_BEST, "n_candidates_", "n_resources_"):
            self.__dict__.pop(name, None)

    def _best(self) -> CoresetClassifier | CoresetRegressor:
        if not hasattr(self, "best_estimator_"):
            instead = "fit it with refit=True" if hasattr(self, "cv_results_") else "call fit first"
            raise NotFittedError(f"this {type(self).__name__} has no best_estimator_ to answer with: {instead}.")
        found: CoresetClassifier | CoresetRegressor = self.best_estimator_
        return found

    @available_if(_best_has("predict"))
    def predict(self, X: Any) -> npt.NDArray[Any]:
        """Predict raw rows with the best model: pandas and arrays at once, a Dask DataFrame lazily."""
        return self._best().predict(X)

    @available_if(_best_has("predict_proba"))
    def predict_proba(self, X: Any) -> npt.NDArray[np.float64]:
        """Class probabilities (n, K) of the best model."""
        return self._best().predict_proba(X)

    @available_if(_best_has("decision_function"))
    def decision_function(self, X: Any) -> npt.NDArray[np.float64]:
        """Decision values of the best model."""
        return self._best().decision_function(X)

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Score of the best model on raw rows in memory, by the score that decided."""
        scorer: WeightedScorer = self.scorer_[self.refit] if self.multimetric_ else self.scorer_
        return scorer(self._best(), X, y, sample_weight=sample_weight)


def checked_index(index: Any, n: int) -> int:
    """What a refit function returned.

    Raises
    ------
    ConfigError
        No row of the table.
    """
    if not isinstance(index, int | np.integer) or not 0 <= index < n:
        raise ConfigError(f"refit returned {index!r}, which is no row of cv_results_: a number from 0 to {n - 1}.")
    return int(index)
