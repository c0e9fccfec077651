"""Clusters from kd cells, with a bound on what they cost on all rows, and one exact pass that improves them."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from sklearn.base import clone
from sklearn.cluster import BisectingKMeans, KMeans, MiniBatchKMeans

from coretree.coreset.cells import Cells, nearest
from coretree.errors import ConfigError, DataError, EmptyDataError

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class ClusterFit:
    """A fitted clustering and what is known of its cost on all rows.

    Attributes
    ----------
    model : KMeans, MiniBatchKMeans or BisectingKMeans
        Fitted on the cells' means; ``labels_`` are theirs and ``inertia_`` is `upper`.
    cost_on_cells : float
        S, the cost of the cells' means. By itself it flatters: never report it alone.
    delta : float
        Squared error within the cells.
    upper : float
        S + delta. The cost of all rows, each at its nearest centre, is never more. It becomes exact by `refine`.
    exact_cost : float or None
        Cost of all rows at the centres before the pass, after `refine`.
    """

    model: Any
    cost_on_cells: float
    delta: float
    upper: float
    exact_cost: float | None = None

    @property
    def centers(self) -> FloatArray:
        """Cluster centres, shape (k, d)."""
        centers: FloatArray = np.asarray(self.model.cluster_centers_, np.float64)
        return centers


def fit_clusters(estimator: Any, cells: Cells, *, seed: int) -> ClusterFit:
    """Fit a clone of a k-means estimator on cells, and bound its cost on all rows.

    Parameters
    ----------
    estimator : KMeans, MiniBatchKMeans or BisectingKMeans
        Give ``n_init`` of 5 or more: a start costs little on cells. A ``random_state`` of None becomes ``seed``.
    cells : Cells
        Of all rows; 40 to 100 a cluster, at least 2000, for the accuracy that is promised.
    seed : int

    Returns
    -------
    ClusterFit

    Raises
    ------
    ConfigError
        If the estimator is of another kind, or wants more clusters than there are cells.
    EmptyDataError
        If the cells stand for no rows.
    DataError
        If squared distances overflow.

    Notes
    -----
    The bound is for rows at their nearest centre; `BisectingKMeans` predicts by its tree, which can cost more.

    Examples
    --------
    >>> from coretree.coreset.cells import build
    >>> X = np.random.default_rng(0).standard_normal((1000, 2))
    >>> fit = fit_clusters(KMeans(3, n_init=5), build(X, 200), seed=0)
    >>> -fit.model.score(X) <= fit.upper
    True
    """
    if type(estimator) not in (KMeans, MiniBatchKMeans, BisectingKMeans):
        raise ConfigError(
            f"cells are for KMeans, MiniBatchKMeans and BisectingKMeans, found {type(estimator).__name__}; fit it on "
            "a sample of real rows."
        )
    if not len(cells):
        raise EmptyDataError("clustering needs at least one row, found none.")
    if estimator.n_clusters > len(cells):
        raise ConfigError(
            f"n_clusters={estimator.n_clusters} needs as many cells, but there are {len(cells)} of {cells.n_rows} rows."
        )
    with np.errstate(over="ignore"):
        if not np.isfinite(cells.inertia):
            raise DataError("the squared distances between rows overflow float64: scale the features, or divide them.")
    model = clone(estimator)
    if model.random_state is None:
        model.set_params(random_state=seed)
    model.fit(cells.mean, sample_weight=cells.weight)
    cost = cells.cost(model.cluster_centers_)
    model.inertia_ = cost + cells.delta
    return ClusterFit(model, cost, cells.delta, cost + cells.delta)


@dataclass(frozen=True, eq=False)
class LloydTally:
    """What one pass over rows says about centres; merge with ``+``. A tally of no rows is neutral.

    Attributes
    ----------
    n_rows : int
    counts : ndarray, shape (k,)
        Weight of the rows nearest to each centre.
    shifts : ndarray, shape (k, d)
        Weighted sum of their differences from it, which stays accurate at any mean.
    cost : float
        Exact cost of the rows.
    """

    n_rows: int
    counts: FloatArray
    shifts: FloatArray
    cost: float

    @classmethod
    def empty(cls, k: int, n_features: int) -> Self:
        """Return the tally of no rows."""
        return cls(0, np.zeros(k), np.zeros((k, n_features)), 0.0)

    def __add__(self, other: object) -> LloydTally:
        if not isinstance(other, LloydTally):
            return NotImplemented
        if self.shifts.shape != other.shifts.shape:
            raise ValueError(f"tallies of {self.shifts.shape} and {other.shifts.shape} centres cannot be added")
        rows, counts = self.n_rows + other.n_rows, self.counts + other.counts
        return LloydTally(rows, counts, self.shifts + other.shifts, self.cost + other.cost)

    def __radd__(self, zero: object) -> Self:
        return self if zero == 0 else NotImplemented  # the start value of sum()

    @property
    def moves(self) -> FloatArray:
        """How far each centre moves to the mean of its rows, (k, d); 0 where it has none."""
        counts = self.counts[:, None]
        return np.divide(self.shifts, counts, out=np.zeros_like(self.shifts), where=counts > 0)

    @property
    def cost_after(self) -> float:
        """Upper bound of the cost at the moved centres: exact for the rows' present assignment."""
        return max(self.cost - float((self.moves * self.shifts).sum()), 0.0)

    def state(self) -> dict[str, npt.NDArray[Any]]:
        """Return the arrays that rebuild the tally exactly."""
        return {field.name: np.asarray(getattr(self, field.name)) for field in fields(self)}

    @classmethod
    def from_state(cls, state: Mapping[str, npt.NDArray[Any]]) -> Self:
        """Rebuild from :meth:`state`."""
        return cls(int(state["n_rows"]), state["counts"], state["shifts"], float(state["cost"]))


def lloyd_tally(X: npt.ArrayLike, centers: FloatArray, weights: npt.ArrayLike | None = None) -> LloydTally:
    """Assign one partition's rows to their nearest centres, and add up.

    Parameters
    ----------
    X : array_like, shape (n, d)
        Prepared as the cells were.
    centers : ndarray, shape (k, d)
    weights : array_like, shape (n,), optional

    Returns
    -------
    LloydTally

    Examples
    --------
    >>> tally = lloyd_tally([[0.0], [2.0], [9.0]], np.array([[0.0], [9.0]]))
    >>> tally.cost, tally.moves.tolist(), tally.cost_after
    (4.0, [[1.0], [0.0]], 2.0)
    """
    A = np.asarray(X, np.float64)
    w = np.ones(len(A)) if weights is None else np.asarray(weights, np.float64)
    label, squared = nearest(A, centers)
    k = len(centers)
    away = (A - centers[label]) * w[:, None]
    shifts = np.stack([np.bincount(label, column, k) for column in away.T], axis=1).astype(np.float64)
    return LloydTally(int((w > 0).sum()), np.bincount(label, w, k).astype(np.float64), shifts, float(w @ squared))


def refine(fit: ClusterFit, tally: LloydTally) -> ClusterFit:
    """Move the centres to the means of all their rows, after one exact pass at ``fit.centers``.

    Returns
    -------
    ClusterFit
        ``exact_cost`` is that of the centres before; ``upper`` bounds that of the new ones, and both are from all rows.

    Raises
    ------
    ConfigError
        For a `BisectingKMeans`, whose predictions do not follow from its centres.
    """
    if isinstance(fit.model, BisectingKMeans):
        raise ConfigError("BisectingKMeans predicts by its tree, which a Lloyd pass would contradict; use KMeans.")
    model = copy.copy(fit.model)
    model.cluster_centers_ = (fit.centers + tally.moves).astype(fit.model.cluster_centers_.dtype)
    model.inertia_ = tally.cost_after
    return ClusterFit(model, fit.cost_on_cells, fit.delta, tally.cost_after, tally.cost)
