"""What of a tree feeds an estimator without a target: cells or plain rows, how many, and the fits on cells."""

from __future__ import annotations

from numbers import Real
from typing import Any, Literal

from sklearn.cluster import BisectingKMeans, KMeans, MiniBatchKMeans
from sklearn.mixture import GaussianMixture

from coretree.coreset.cells import Cells
from coretree.errors import ConfigError
from coretree.learn.clustering import ClusterFit, fit_clusters
from coretree.learn.mixture import MixtureFit, fit_mixture
from coretree.learn.threads import limited_threads
from coretree.run.settings import AUTO_CELLS

Way = Literal["cells", "mixture", "rows"]
CELLS_A_CLUSTER, CELLS_A_COMPONENT, LEAST_CELLS = 60, 200, 2000
STARTS = 5


def way_of(estimator: Any) -> Way:
    """What an estimator is fitted on.

    Raises
    ------
    ConfigError
        It cannot say anything of rows that it was not fitted on.

    Examples
    --------
    >>> way_of(KMeans(3)), way_of(GaussianMixture(2))
    ('cells', 'mixture')
    """
    if type(estimator) in (KMeans, MiniBatchKMeans, BisectingKMeans):
        return "cells"
    if type(estimator) is GaussianMixture:
        return "mixture"
    if not hasattr(estimator, "predict"):
        name = type(estimator).__name__
        instead = (
            "LocalOutlierFactor(novelty=True)" if name == "LocalOutlierFactor" else "KMeans, GaussianMixture or Birch"
        )
        raise ConfigError(
            f"{name} has no predict, so that fitted on some rows it says nothing of all others. Use {instead}."
        )
    return "rows"


def needed_cells(estimator: Any) -> int:
    """Cells for the accuracy that is promised; 0 for estimators of plain rows."""
    way = way_of(estimator)
    if way == "rows":
        return 0
    if way == "mixture":
        return max(LEAST_CELLS, CELLS_A_COMPONENT * int(estimator.n_components))
    return max(AUTO_CELLS, CELLS_A_CLUSTER * int(estimator.n_clusters))


def needs_scatter(estimator: Any) -> bool:
    """Whether cells must know their scatter matrices.

    Examples
    --------
    >>> needs_scatter(GaussianMixture(2)), needs_scatter(GaussianMixture(2, covariance_type="diag"))
    (True, False)
    """
    return type(estimator) is GaussianMixture and estimator.covariance_type in ("full", "tied")


def check_request(estimator: Any, passes: int, cells: int | None, *, reads: bool) -> None:
    """Refuse what cannot work before any row is read.

    Raises
    ------
    ConfigError
    """
    name = type(estimator).__name__
    if not isinstance(passes, int) or passes < 0:
        raise ConfigError(f"refine={passes!r} must be a number of passes over all rows: 0, 1 or more.")
    if passes and type(estimator) not in (KMeans, MiniBatchKMeans):
        raise ConfigError(
            f"refine={passes} moves the centres of KMeans and MiniBatchKMeans; {name} does not predict by centres "
            "alone. Leave it out."
        )
    if passes and not reads:
        raise ConfigError(f"refine={passes} reads all rows once more: call fit(data), not fit().")
    if cells is not None and cells < 1:
        raise ConfigError(f"cells={cells} must be at least 1, and 40 a cluster or more.")
    wanted = {"cells": "n_clusters", "mixture": "n_components"}.get(way_of(estimator))
    if wanted and cells is not None and getattr(estimator, wanted) > cells:
        raise ConfigError(
            f"{wanted}={getattr(estimator, wanted)} needs as many cells, but cells={cells}; "
            f"use cells={needed_cells(estimator)}."
        )


def clusters_of(estimator: Any, cells: Cells, seed: int) -> ClusterFit:
    """k-means on cells; on one thread, so that every machine finds the same bits."""
    if getattr(estimator, "n_init", None) == "auto" and isinstance(estimator.init, str):
        estimator.set_params(n_init=STARTS)
    with limited_threads(1):
        return fit_clusters(estimator, cells, seed=seed)


def mixture_of(estimator: GaussianMixture, cells: Cells, seed: int) -> MixtureFit:
    """A mixture on cells; on one thread, so that every machine finds the same bits."""
    with limited_threads(1):
        return fit_mixture(estimator, cells, seed=seed)


def contamination_of(estimator: Any) -> float | None:
    """Share of outliers that a detector is asked for; None where it has a rule of its own.

    Examples
    --------
    >>> from sklearn.ensemble import IsolationForest
    >>> from sklearn.svm import OneClassSVM
    >>> contamination_of(IsolationForest()), contamination_of(OneClassSVM(nu=0.1))
    (None, 0.1)
    """
    share = getattr(estimator, "contamination", getattr(estimator, "nu", None))
    return float(share) if isinstance(share, Real) else None
