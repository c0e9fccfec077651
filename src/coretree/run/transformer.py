"""CoresetTransformer: principal components and singular vectors of all rows, from exact moments."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import numpy.typing as npt
from sklearn.base import TransformerMixin, clone
from sklearn.decomposition import PCA
from sklearn.pipeline import Pipeline
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from coretree.data.to_sklearn import to_sklearn
from coretree.learn.exact_models import is_exact
from coretree.run.build import Progress
from coretree.run.executor import executor_for
from coretree.run.fitted import inner_has
from coretree.run.fitting import exactness, fit_on_moments, fitted_as
from coretree.run.unsupervised import UnsupervisedModel


class CoresetTransformer(TransformerMixin, UnsupervisedModel):
    """A scikit-learn transformer, fitted on all rows of data of any size.

    `PCA` and `TruncatedSVD` are exact: they are fitted from the moments of all rows, which the tree carries. Any other
    transformer is fitted on plain rows of the tree.

    Parameters
    ----------
    estimator : scikit-learn transformer, optional
        Not touched; a clone is fitted. Default: ``PCA()``. It sees prepared features: scaled, encoded, without gaps.
    tree : CoresetTree or path, optional
        Where the tree is, or will be built; a temporary one by default. One of your own is exact with
        ``CoresetTree(exact=True)``, or ``exact="qr"`` for ill-conditioned columns.
    size : int, optional
        Rows that a transformer which is not exact is fitted on.
    prepare : PrepareRules or mapping, optional
        For a tree that is made here.
    random_state : int
        For the tree that is made here, and for the estimator where it has none.
    client : optional
        See ``CoresetTree.build``.

    Attributes
    ----------
    estimator_ : sklearn.pipeline.Pipeline
        Plain scikit-learn: the frozen preparation and the fitted estimator; transforms raw pandas rows.
    exact_ : Exactness
        Whether it is the transformer of all rows; with a ``reason``.
    coreset_ : Coreset
        What it was fitted on, where it is not exact.
    tree_ : CoresetTree

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(2000, 1)) + 0.1 * rng.normal(size=(2000, 3))
    >>> model = CoresetTransformer(PCA(1)).fit(X)
    >>> bool(model.exact_), model.transform(X).shape
    (True, (2000, 1))
    """

    _task = "transformation"

    def fit(
        self,
        X: Any = None,
        y: Any = None,  # noqa: ARG002
        sample_weight: Any = None,
        *,
        progress: Progress | None = None,
    ) -> Self:
        """Build the tree where it is not built yet, and fit on it.

        Parameters
        ----------
        X : Dataset, Dask DataFrame, pandas DataFrame, array (n, d), or None
            Training rows. None: the tree as it is.
        y : ignored
        sample_weight : array (n,), optional
            Base weights for X in memory.
        progress : callable, optional
            As in ``CoresetTree.build``.

        Returns
        -------
        self
        """
        executor = executor_for(self.client)
        estimator = clone(self._estimator())
        tree, _ = self._built(X, sample_weight, progress)
        self.__dict__.pop("coreset_", None)
        self.exact_ = exactness(estimator, tree.root_)
        if self.exact_:
            fitted = executor.one(fit_on_moments, estimator, tree.root_.moments)
            self.estimator_ = Pipeline([("prepare", to_sklearn(tree.recipe_.preparation)), ("model", fitted)])
        else:
            self.estimator_ = self._fit_on_sample(estimator, tree, executor)
        self.tree_ = tree
        return fitted_as(self, self.estimator_, tree.recipe_.schema, tree.recipe_.clean, None)

    def _default(self) -> Any:
        return PCA()

    def _tree_options(self) -> dict[str, Any]:
        return {"cells": 0, "exact": True if is_exact(self._estimator()) else None}

    @available_if(inner_has("transform"))
    def transform(self, X: Any) -> npt.NDArray[np.float64]:
        """Transform raw rows: pandas and arrays at once, a Dask DataFrame lazily (as a Dask array)."""
        return self._answer(X, "transform")

    @available_if(inner_has("score"))
    def score(self, X: Any, y: Any = None) -> float:  # noqa: ARG002
        """Score of the estimator on raw rows: for `PCA` their mean log-likelihood."""
        return self._score(X)

    def get_feature_names_out(self, input_features: Any = None) -> npt.NDArray[Any]:  # noqa: ARG002
        """Names of the columns that ``transform`` makes; ``input_features`` is ignored, the fitted names count."""
        check_is_fitted(self, "estimator_")
        names: npt.NDArray[Any] = self.estimator_.get_feature_names_out()
        return names
