"""CoresetClassifier and CoresetRegressor: a scikit-learn estimator fitted on a coreset, on a single worker."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.base import BaseEstimator, ClassifierMixin, MetaEstimatorMixin, RegressorMixin, clone
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from coretree.data.clean import CleanRules
from coretree.data.dataset import Dataset
from coretree.data.encode import clean_frame
from coretree.data.prepare import PrepareRules
from coretree.data.profile import label_from_text, label_text
from coretree.data.schema import Schema
from coretree.data.to_sklearn import to_sklearn
from coretree.errors import ConfigError, ModelFileError
from coretree.learn import persist
from coretree.learn.models import sketch_for
from coretree.run.build import Progress
from coretree.run.coreset_tree import CoresetTree
from coretree.run.executor import Executor, executor_for
from coretree.run.fitting import (
    at_most,
    by_request,
    exactness,
    fit_on_coreset,
    fit_on_moments,
    fitted_as,
    threads_for,
)
from coretree.run.inputs import as_dataset
from coretree.tree.coresets import Coreset

DEFAULT_SIZE = 20_000
MODEL_KIND = "coretree model"


class _CoresetModel(MetaEstimatorMixin, BaseEstimator):
    """What both estimators share; see them."""

    _task = ""

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
        objective = sketch_for(estimator) if self.objective == "auto" else self.objective
        core = tree.coreset(at_most(self.size, tree.root_, objective), objective=objective)
        return self._fit_on(core, tree, executor)

    def _fit_on(self, core: Coreset, tree: CoresetTree, executor: Executor) -> Self:
        """Fit on a coreset that was drawn already."""
        recipe, estimator = tree.recipe_, clone(self._estimator())
        transformer = to_sklearn(recipe.preparation)
        self.exact_ = exactness(estimator, tree.root_) if self.objective == "auto" else by_request(self.objective)
        if self.exact_:
            self.estimator_ = executor.one(fit_on_moments, estimator, tree.root_, transformer)
        else:
            seed, threads = int(self.random_state), threads_for(len(core))
            self.estimator_ = executor.one(fit_on_coreset, estimator, core, transformer, seed, threads)
        self.tree_, self.coreset_ = tree, core
        return fitted_as(self, self.estimator_, recipe.schema, recipe.clean, recipe.classes)

    def _estimator(self) -> Any:
        return self._default() if self.estimator is None else self.estimator

    def _default(self) -> Any:
        return LogisticRegression(max_iter=1000) if self._task == "classification" else Ridge()

    def _tree(self, X: Any) -> CoresetTree:
        if isinstance(self.tree, CoresetTree):
            return self.tree
        if self.tree is not None and (X is None or (self.prepare is None and CoresetTree(self.tree).is_built)):
            return CoresetTree.open(self.tree)
        if X is None:
            raise ConfigError(
                "fit() without data needs a built tree: CoresetClassifier(estimator, tree=CoresetTree(path)).fit()."
            )
        return CoresetTree(self.tree, size=self.size or DEFAULT_SIZE, prepare=self.prepare, seed=int(self.random_state))

    def _rows(self, X: Any) -> pd.DataFrame:
        """Raw rows as the fitted Pipeline wants them."""
        check_is_fitted(self)
        if isinstance(X, Dataset):
            raise ConfigError(
                'a Dataset is predicted part by part: ct.predict(model, data, out="folder"), '
                "or ct.evaluate(model, data)."
            )
        if not isinstance(X, pd.DataFrame):
            X = pd.DataFrame(np.asarray(X), columns=self.feature_names_in_)
        return clean_frame(X, self.schema_, self.clean_)

    def _answer(self, X: Any, method: str) -> Any:
        if hasattr(X, "to_delayed"):
            from coretree.run.on_dask import lazy

            check_is_fitted(self)
            return lazy(self, X, method)
        return getattr(self.estimator_, method)(self._rows(X))

    def predict(self, X: Any) -> npt.NDArray[Any]:
        """Predict raw rows: pandas and arrays at once, a Dask DataFrame lazily (as a Dask array)."""
        return self._answer(X, "predict")

    def save(self, folder: str | os.PathLike[str], **facts: Any) -> None:
        """Save as a new folder with ``model.skops`` and ``manifest.json``; no pickle.

        Parameters
        ----------
        folder : path
            Must not exist.
        **facts
            Anything JSON can hold, kept in the manifest (metrics, for instance).
        """
        check_is_fitted(self)
        classes = (
            [label_text(c.item() if hasattr(c, "item") else c) for c in self.classes_]
            if self._task == "classification"
            else None
        )
        manifest = {
            "kind": MODEL_KIND,
            "task": self._task,
            "schema": self.schema_.to_dict(),
            "clean": self.clean_.to_dict(),
            "classes": classes,
            "tree": self.tree_.name_ if hasattr(self, "tree_") else None,
            **facts,
        }
        persist.save_model(os.fspath(folder), self.estimator_, manifest)


class CoresetClassifier(ClassifierMixin, _CoresetModel):
    """Any scikit-learn classifier, trained on a coreset of data of any size.

    Parameters
    ----------
    estimator : scikit-learn classifier, optional
        Not touched; a clone is fitted. Default: ``LogisticRegression(max_iter=1000)``.
    tree : CoresetTree or path, optional
        Where the tree is, or will be built; a temporary one by default.
    size : int, optional
        Rows to fit on; all that the tree keeps by default.
    objective : {"auto", "robust", "balanced", "uniform"}
        Which sketch of the tree to fit on; "auto" chooses for the estimator: "robust" for linear models, "balanced"
        for trees and boosting, whose probabilities are then shifted back to the true class shares.
    prepare : PrepareRules or mapping, optional
        For a tree that is made here.
    random_state : int
        For the tree that is made here, and for the estimator where it has none.
    client : optional
        See ``CoresetTree.build``.

    Attributes
    ----------
    estimator_ : sklearn.pipeline.Pipeline
        Plain scikit-learn: the frozen preparation and the fitted estimator; predicts on raw pandas rows.
    coreset_ : Coreset
        What it was fitted on.
    exact_ : Exactness
        True where the estimator was fitted from exact moments of all rows (see ``CoresetTree(exact=True)``) and the
        coreset had no part in it; with a ``reason``.
    tree_ : CoresetTree
    classes_ : ndarray of labels

    Examples
    --------
    >>> import pandas as pd
    >>> rng = np.random.default_rng(0)
    >>> X = pd.DataFrame(rng.normal(size=(2000, 2)), columns=["a", "b"])
    >>> y = np.where(X["a"] + rng.logistic(size=2000) > 0, "yes", "no")
    >>> model = CoresetClassifier(LogisticRegression(), size=500).fit(X, y)
    >>> model.predict(pd.DataFrame({"a": [9.0, -9.0], "b": [0.0, 0.0]})).tolist()
    ['yes', 'no']
    """

    _task = "classification"

    @available_if(lambda self: hasattr(getattr(self, "estimator_", None) or self._estimator(), "predict_proba"))
    def predict_proba(self, X: Any) -> npt.NDArray[np.float64]:
        """Class probabilities (n, K) of raw rows, columns as in ``classes_``."""
        return self._answer(X, "predict_proba")

    @available_if(lambda self: hasattr(getattr(self, "estimator_", None) or self._estimator(), "decision_function"))
    def decision_function(self, X: Any) -> npt.NDArray[np.float64]:
        """Decision values of raw rows."""
        return self._answer(X, "decision_function")


class CoresetRegressor(RegressorMixin, _CoresetModel):
    """Any scikit-learn regressor, trained on a coreset; see ``CoresetClassifier`` for the parameters.

    The default estimator is ``Ridge()``. Least squares (linear, ridge, lasso, elastic net, Bayesian ridge) is exact: it
    is fitted from the moments of all rows. Other linear models fit on the "robust" sketch, trees on the "uniform" one.

    Examples
    --------
    >>> import pandas as pd
    >>> rng = np.random.default_rng(0)
    >>> X = pd.DataFrame(rng.normal(size=(2000, 2)), columns=["a", "b"])
    >>> model = CoresetRegressor(size=300).fit(X, 3 * X["a"] + 1)
    >>> model.predict(pd.DataFrame({"a": [1.0], "b": [0.0]})).round(2).tolist()
    [4.0]
    """

    _task = "regression"


def load_model(
    folder: str | os.PathLike[str], *, trusted: tuple[str, ...] = ()
) -> CoresetClassifier | CoresetRegressor:
    """Load a saved model; checksums and types are checked before anything is parsed.

    Parameters
    ----------
    folder : path
        As given to ``save``.
    trusted : tuple of str
        Full names of further types that you know and the file may hold.

    Raises
    ------
    ModelFileError
        Not a model of coretree, damaged, or of types that are not trusted.
    """
    pipeline, manifest = persist.load_model(os.fspath(folder), trusted=trusted)
    if manifest.get("kind") != MODEL_KIND:
        raise ModelFileError(f"{folder}: a saved model, but not one of coretree (kind {manifest.get('kind')!r}).")
    kind = CoresetClassifier if manifest["task"] == "classification" else CoresetRegressor
    classes = manifest["classes"]
    model = fitted_as(
        kind(pipeline.named_steps["model"]),
        pipeline,
        Schema.from_dict(manifest["schema"]),
        CleanRules(**manifest["clean"]),
        None if classes is None else tuple(label_from_text(c) for c in classes),
    )
    model.manifest_ = manifest
    return model
