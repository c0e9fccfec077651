"""CoresetClusterer: clusters, mixtures and outlier detectors for data of any size, with what is known of all rows."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import partial
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from sklearn.base import ClusterMixin, clone, is_clusterer
from sklearn.cluster import KMeans
from sklearn.pipeline import Pipeline
from sklearn.utils import get_tags
from sklearn.utils.metaestimators import available_if

from coretree.coreset.cells import Cells
from coretree.data.dataset import Dataset
from coretree.data.prepare import PrepareRules
from coretree.data.to_sklearn import features, to_sklearn
from coretree.errors import ConfigError
from coretree.learn.anomalies import has_threshold, score_edges, score_tally, with_threshold
from coretree.learn.clustering import lloyd_tally, refine
from coretree.run.build import Progress
from coretree.run.cell_fits import (
    check_request,
    clusters_of,
    contamination_of,
    mixture_of,
    needed_cells,
    needs_scatter,
    way_of,
)
from coretree.run.coreset_tree import CoresetTree
from coretree.run.every_row import over_every_row
from coretree.run.executor import executor_for
from coretree.run.fitted import inner_has
from coretree.run.fitting import fitted_as
from coretree.run.inputs import is_lazy
from coretree.run.unsupervised import UnsupervisedModel


class CoresetClusterer(ClusterMixin, UnsupervisedModel):
    """A scikit-learn clusterer, mixture or outlier detector, fitted on data of any size.

    - `KMeans`, `MiniBatchKMeans` and `BisectingKMeans` are fitted on kd cells of all rows, with a bound on what the
      clusters cost on all of them; ``refine=1`` reads the rows once more, improves the centres and knows their cost.
    - `GaussianMixture` is fitted on cells that know the scatter within, and bounds the likelihood of all rows.
    - Everything else that predicts is fitted on plain rows: `IsolationForest`, `OneClassSVM`, `SGDOneClassSVM`,
      `EllipticEnvelope`, `LocalOutlierFactor(novelty=True)`, `Birch`. Where a share of outliers is asked for
      (``contamination``, ``nu``), it is a share of all rows: they are scored in one pass. Without data at hand it is
      that of the weighted sample; `LocalOutlierFactor` keeps its own.

    Parameters
    ----------
    estimator : scikit-learn estimator, optional
        Not touched; a clone is fitted, on features that are scaled, encoded and without gaps. Default:
        ``KMeans(8)``. ``n_init="auto"`` is five starts here: on cells they cost little.
    tree : CoresetTree or path, optional
        Where the tree is, or will be built; a temporary one by default. One of your own carries cells with
        ``CoresetTree(cells=4000)``, and their scatter with ``scatter=True``; without a target cells are the default.
    size : int, optional
        Plain rows to fit outlier detectors on; all that the tree keeps by default.
    prepare : PrepareRules or mapping, optional
        For a tree that is made here.
    random_state : int
        For the tree that is made here, and for the estimator where it has none.
    client : optional
        See ``CoresetTree.build``.
    refine : int
        Exact passes of Lloyd's algorithm over all rows, for `KMeans` and `MiniBatchKMeans`.
    cells : int, optional
        kd cells: 40 to 100 a cluster, 200 a component of a mixture. Default: enough for the estimator, or all that
        the given tree has.

    Attributes
    ----------
    estimator_ : sklearn.pipeline.Pipeline
        Plain scikit-learn: the frozen preparation and the fitted estimator; predicts on raw pandas rows.
    tree_ : CoresetTree
    cells_ : Cells
        What k-means and mixtures were fitted on.
    coreset_ : Coreset
        What other estimators were fitted on.
    cost_on_cells_, delta_, upper_ : float
        k-means: cost of the cells' means, squared error within cells, and a bound (their sum, smaller after
        ``refine``): the cost of all rows at their nearest centres is never more.
    exact_cost_ : float or None
        After ``refine``: the cost of all rows at the centres before the last pass.
    bound_ : float
        Mixtures: the mean log-likelihood of all rows is at least this.
    flagged_share_ : float
        Outliers: the share of all rows below the threshold, where they were scored.
    labels_ : ndarray (n,)
        Clusters of the training rows, where those are in memory.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(3000, 2)) + 8 * rng.integers(0, 3, size=(3000, 1))
    >>> model = CoresetClusterer(KMeans(3), refine=1).fit(X)
    >>> np.bincount(model.predict(X)).min() > 900, model.upper_ <= model.exact_cost_
    (np.True_, True)
    """

    _task = "clustering"
    _learned = ("cost_on_cells_", "delta_", "upper_", "exact_cost_", "bound_", "flagged_share_")

    def __init__(
        self,
        estimator: Any = None,
        *,
        tree: CoresetTree | str | os.PathLike[str] | None = None,
        size: int | None = None,
        prepare: PrepareRules | Mapping[str, Any] | None = None,
        random_state: int = 0,
        client: Any = None,
        refine: int = 0,
        cells: int | None = None,
    ) -> None:
        super().__init__(estimator, tree=tree, size=size, prepare=prepare, random_state=random_state, client=client)
        self.refine = refine
        self.cells = cells

    def __sklearn_tags__(self) -> Any:
        tags, inner = super().__sklearn_tags__(), get_tags(self._estimator())
        tags.estimator_type, tags.transformer_tags = inner.estimator_type, inner.transformer_tags
        return tags

    def fit(
        self,
        X: Any = None,
        y: Any = None,  # noqa: ARG002
        sample_weight: Any = None,
        *,
        progress: Progress | None = None,
    ) -> Self:
        """Build the tree where it is not built yet, and fit on its cells or plain rows.

        Parameters
        ----------
        X : Dataset, Dask DataFrame, pandas DataFrame, array (n, d), or None
            Training rows; the target of a Dataset is left out. None: the tree as it is.
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
        way = way_of(estimator)
        check_request(estimator, self.refine, self.cells, reads=X is not None)
        tree, data = self._built(X, sample_weight, progress)
        for name in (*self._learned, "cells_", "coreset_", "labels_"):
            self.__dict__.pop(name, None)
        if way == "rows":
            pipeline = self._fit_on_sample(estimator, tree, executor)
            self.estimator_ = self._with_share(pipeline, tree, data, progress)
        else:
            self.cells_ = self._cells_of(tree)
            if way == "mixture":
                found = executor.one(mixture_of, estimator, self.cells_, int(self.random_state))
                self.bound_, model = found.bound, found.model
            else:
                model = self._clusters(estimator, tree, data, progress)
            self.estimator_ = Pipeline([("prepare", to_sklearn(tree.recipe_.preparation)), ("model", model)])
        self.tree_ = tree
        fitted_as(self, self.estimator_, tree.recipe_.schema, tree.recipe_.clean, None)
        if is_clusterer(estimator) and not (X is None or isinstance(X, Dataset) or is_lazy(X)):
            self.labels_ = self.predict(X)
        return self

    def _clusters(self, estimator: Any, tree: CoresetTree, data: Dataset | None, progress: Progress | None) -> Any:
        """Fit k-means on cells, then as many exact passes as were asked for."""
        found = executor_for(self.client).one(clusters_of, estimator, self.cells_, int(self.random_state))
        for _ in range(self.refine):
            assert data is not None
            tally = partial(lloyd_tally, centers=found.centers)
            sums = over_every_row(tally, data, tree.recipe_.preparation, "refine", self.client, progress)
            found = refine(found, sums)
        self.cost_on_cells_, self.delta_ = found.cost_on_cells, found.delta
        self.upper_, self.exact_cost_ = found.upper, found.exact_cost
        return found.model

    def _with_share(
        self, pipeline: Pipeline, tree: CoresetTree, data: Dataset | None, progress: Progress | None
    ) -> Pipeline:
        """Move the threshold of an outlier detector to where it flags the share of all rows that was asked for."""
        prepare, model = pipeline.named_steps["prepare"], pipeline.named_steps["model"]
        share = contamination_of(model)
        if share is None or not has_threshold(model):
            return pipeline
        X = features(prepare, self.coreset_.X)
        edges = score_edges(model, X)
        if data is None:
            sums = score_tally(model, X, edges, self.coreset_.sample_weight)
        else:
            tally = partial(score_tally, model, edges=edges)
            sums = over_every_row(tally, data, tree.recipe_.preparation, "score", self.client, progress)
        threshold, found = sums.threshold(share)
        if data is not None:
            self.flagged_share_ = found
        return Pipeline([("prepare", prepare), ("model", with_threshold(model, threshold))])

    def _cells_of(self, tree: CoresetTree) -> Cells:
        cells = tree.root_.cells
        assert cells is not None
        if self.cells is None or self.cells == cells.capacity:
            return cells
        if self.cells > cells.capacity:
            raise ConfigError(
                f"cells={self.cells} are more than the {cells.capacity} that this tree carries. Ask for fewer, or "
                f"build it with CoresetTree(..., cells={self.cells})."
            )
        return cells.reduce(self.cells)

    def _default(self) -> Any:
        return KMeans(8)

    def _tree_options(self) -> dict[str, Any]:
        estimator = self._estimator()
        return {"cells": self.cells or needed_cells(estimator), "scatter": needs_scatter(estimator)}

    def _check_tree(self, tree: CoresetTree, task: str | None) -> None:
        estimator = self._estimator()
        if way_of(estimator) == "rows":
            return
        if tree.is_built:
            cells = tree.root_.cells
            there, scatter = cells is not None, cells is not None and (cells.scatter is not None or cells.delta == 0)
        else:
            there, scatter = tree.settings.n_cells(task) > 0, tree.settings.scatter
        name, wanted = type(estimator).__name__, self.cells or needed_cells(estimator)
        if not there:
            raise ConfigError(
                f"{name} is fitted on kd cells, which this tree does not carry: build another one with "
                f"CoresetTree(..., cells={wanted})."
            )
        if needs_scatter(estimator) and not scatter:
            raise ConfigError(
                f"{name}(covariance_type={estimator.covariance_type!r}) needs to know the scatter within cells, which "
                f"this tree does not carry: build another one with CoresetTree(..., cells={wanted}, scatter=True), or "
                "use covariance_type='diag'."
            )

    @available_if(inner_has("predict"))
    def predict(self, X: Any) -> npt.NDArray[Any]:
        """Cluster, component, or 1 and -1 for outliers, of raw rows; a Dask DataFrame lazily (as a Dask array)."""
        return self._answer(X, "predict")

    def fit_predict(self, X: Any, y: Any = None, sample_weight: Any = None) -> npt.NDArray[Any]:  # noqa: ARG002
        """Fit, and predict the same rows; for rows in memory and Dask DataFrames."""
        return self.fit(X, sample_weight=sample_weight).predict(X)

    @available_if(inner_has("transform"))
    def fit_transform(self, X: Any, y: Any = None, sample_weight: Any = None) -> npt.NDArray[np.float64]:  # noqa: ARG002
        """Fit, and transform the same rows; for rows in memory and Dask DataFrames."""
        return self.fit(X, sample_weight=sample_weight).transform(X)

    @available_if(inner_has("predict_proba"))
    def predict_proba(self, X: Any) -> npt.NDArray[np.float64]:
        """Responsibilities of a mixture's components, (n, k)."""
        return self._answer(X, "predict_proba")

    @available_if(inner_has("transform"))
    def transform(self, X: Any) -> npt.NDArray[np.float64]:
        """Distances to the centres, (n, k)."""
        return self._answer(X, "transform")

    @available_if(inner_has("score_samples"))
    def score_samples(self, X: Any) -> npt.NDArray[np.float64]:
        """Log-likelihoods of a mixture, or the scores of an outlier detector (lower is more abnormal), (n,)."""
        return self._answer(X, "score_samples")

    @available_if(inner_has("decision_function"))
    def decision_function(self, X: Any) -> npt.NDArray[np.float64]:
        """Score less the threshold, (n,); negative for outliers."""
        return self._answer(X, "decision_function")

    @property
    def offset_(self) -> Any:
        """Threshold of an outlier detector: ``decision_function`` is ``score_samples`` less this."""
        return self.estimator_[-1].offset_

    @available_if(inner_has("score"))
    def score(self, X: Any, y: Any = None) -> float:  # noqa: ARG002
        """Score of the estimator on raw rows: minus the cost of k-means, the mean log-likelihood of a mixture."""
        return self._score(X)
