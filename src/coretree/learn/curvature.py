"""What one pass over all rows says about an objective at a model: value, gradient, and curvature by how fast it fades.

Rows are seen in whitened coordinates: a metric M = L L' is fixed before the pass, best the Hessian of a sample at the
model, and a row x becomes v = L^-1 x. Its margin moves by at most |v| when the parameters move by 1 in that metric.
Any metric gives true bounds; a good one gives sharp ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from scipy.linalg import cholesky, solve_triangular

from coretree.coreset.derivatives import blocks
from coretree.errors import DataError
from coretree.learn.margins import Float, MarginLoss

BINS, BINS_WIDE, WIDE = 8, 3, 500  # from so many parameters on, fewer bins: each holds a matrix
_BLOCK = 4096  # rows at a time: whitened rows of a block stay in cache


@dataclass(frozen=True, eq=False)
class Metric:
    """M = L L' over the p rows of theta, shared by its q columns.

    Attributes
    ----------
    root, inverse : ndarray, shape (p, p)
        L and its inverse, lower triangular.
    mass : float
        Sum of the rows' weights times their (mean) curvature, which says how large a typical rate is.
    """

    root: Float
    inverse: Float
    mass: float


def metric(hessian: Float, l2: Float, mass: float) -> Metric:
    """Metric of a Hessian (p, p) of the loss and an L2 penalty (p,).

    Raises
    ------
    DataError
        The Hessian is not finite.
    """
    total = hessian + np.diag(l2)
    if not np.isfinite(total).all():
        raise DataError(
            "the curvature of the objective is not finite: the model's margins overflow on some rows. Clip or scale "
            "the features (PrepareRules), or leave the outliers out."
        )
    # a ridge that makes it definite; it costs tightness in directions that few rows know, never truth
    ridge = 1e-10 * np.diag(total) + 1e-16 * (np.trace(total) or 1.0)
    root = np.asarray(cholesky(total + np.diag(ridge), lower=True), np.float64)
    inverse = np.asarray(solve_triangular(root, np.eye(len(root)), lower=True), np.float64)
    return Metric(root, inverse, float(max(mass, 1e-200)))


def no_metric(n_parameters: int) -> Metric:
    """Metric of rows as they are: for a first pass, whose curvature is the metric of the next."""
    return Metric(np.eye(n_parameters), np.eye(n_parameters), 0.0)


@dataclass(frozen=True, eq=False)
class Probe:
    """Where a pass looks, and how it sorts rows.

    Attributes
    ----------
    loss : MarginLoss
    theta : ndarray, shape (p, q)
    metric : Metric
    edges : ndarray, shape (bins - 1,)
        Rates at which the bins part.
    trials : ndarray, shape (m, p, q)
        Other parameters, for which only the loss is summed.
    """

    loss: MarginLoss
    theta: Float
    metric: Metric
    edges: Float
    trials: Float


def probe_at(loss: MarginLoss, theta: Float, found: Metric, trials: Float | None = None) -> Probe:
    """Probe with bins around the root mean square rate; without a metric all rows share one bin."""
    p, q = theta.shape
    n_bins = 1 if found.mass == 0 else BINS_WIDE if p * q > WIDE else BINS
    typical = np.sqrt((1.0 if loss.basis is None else 2.0) * p / found.mass) if found.mass else 1.0
    step = 3.0 if loss.kink else np.sqrt(2.0)
    edges = typical * step ** (np.arange(n_bins - 1) - (2.0 if n_bins == BINS else 0.0))
    none = np.zeros((0, p, q)) if trials is None else trials
    return Probe(loss, theta, found, np.asarray(edges, np.float64), none)


@dataclass(frozen=True, eq=False)
class CurvatureTally:
    """Sums over rows at a probe, in whitened coordinates; merge with ``+``. b bins, q p parameters.

    Attributes
    ----------
    n_rows : int
        Rows that carry weight.
    weight, value, mass : float
        Sums of the weights, of the weighted loss, and of weight times mean curvature.
    gradient, size : ndarray, shape (q p,)
        Of the loss; and the sum of its absolute terms in coordinates as they come, which bounds the rounding.
    curvature : ndarray, shape (b, q p, q p)
        Hessian of the loss, by bins of the rate at which it can fade.
    rows, rate : ndarray, shape (b,)
        Weight and highest rate in each bin.
    trials : ndarray, shape (m,)
        Loss at the probe's other parameters.
    """

    n_rows: int
    weight: float
    value: float
    mass: float
    gradient: Float
    size: Float
    curvature: Float
    rows: Float
    rate: Float
    trials: Float

    @classmethod
    def empty(cls, probe: Probe) -> Self:
        """Return the tally of no rows."""
        n, b = probe.theta.size, len(probe.edges) + 1
        vectors = np.zeros(n), np.zeros(n), np.zeros((b, n, n)), np.zeros(b), np.zeros(b), np.zeros(len(probe.trials))
        return cls(0, 0.0, 0.0, 0.0, *vectors)

    def __add__(self, other: object) -> CurvatureTally:
        if not isinstance(other, CurvatureTally):
            return NotImplemented
        both = {f.name: (getattr(self, f.name), getattr(other, f.name)) for f in fields(self)}
        if any(np.shape(a) != np.shape(b) for a, b in both.values()):
            raise ValueError("curvature tallies of different probes cannot be added")
        with np.errstate(over="ignore", invalid="ignore"):  # see `finite`
            return CurvatureTally(**{k: np.maximum(a, b) if k == "rate" else a + b for k, (a, b) in both.items()})

    def __radd__(self, zero: object) -> Self:
        return self if zero == 0 else NotImplemented  # the start value of sum()

    @property
    def hessian(self) -> Float:
        """Hessian of the loss, whitened."""
        return np.asarray(self.curvature.sum(axis=0), np.float64)

    @property
    def finite(self) -> bool:
        """Whether every sum is a finite number."""
        return all(bool(np.isfinite(getattr(self, f.name)).all()) for f in fields(self))

    def state(self) -> dict[str, npt.NDArray[Any]]:
        """Return the arrays that rebuild the tally exactly."""
        return {f.name: np.asarray(getattr(self, f.name)) for f in fields(self)}

    @classmethod
    def from_state(cls, state: Mapping[str, npt.NDArray[Any]]) -> Self:
        """Rebuild from :meth:`state`."""
        whole: dict[str, Any] = {name: float(state[name]) for name in ("weight", "value", "mass")}
        whole |= {f.name: state[f.name] for f in fields(cls) if f.name not in ("n_rows", *whole)}
        return cls(n_rows=int(state["n_rows"]), **whole)


def curvature_tally(
    probe: Probe, X: Float, y: npt.NDArray[np.generic], weights: npt.NDArray[Any] | None = None
) -> CurvatureTally:
    """Tally one partition; rows of weight 0 do not count.

    Parameters
    ----------
    probe : Probe
    X : ndarray, shape (n, p)
        Rows of the objective (`Penalised.design`).
    y : ndarray, shape (n,)
        Class codes, or quantities.
    weights : ndarray, shape (n,), optional

    Returns
    -------
    CurvatureTally

    Notes
    -----
    Multiply-adds a row: 2 p^2 for whitening and q (q + 1) / 2 p^2 for the curvature.

    Examples
    --------
    >>> probe = probe_at(MarginLoss("squared"), np.zeros((1, 1)), no_metric(1))
    >>> tally = curvature_tally(probe, np.ones((2, 1)), np.array([1.0, 3.0]))
    >>> tally.value, tally.gradient.tolist(), tally.hessian.tolist()
    (5.0, [-4.0], [[2.0]])
    """
    probe.loss.check(y)
    w = np.ones(len(X)) if weights is None else np.asarray(weights, np.float64)
    if not (w > 0).all():
        X, y, w = X[w > 0], y[w > 0], w[w > 0]
    total = CurvatureTally.empty(probe)
    for part in blocks(len(X), _BLOCK):
        total = total + _block(probe, np.asarray(X[part], np.float64), y[part], w[part])
    return total


def _block(probe: Probe, X: Float, y: npt.NDArray[np.generic], w: Float) -> CurvatureTally:
    loss, (_, q), n_bins = probe.loss, probe.theta.shape, len(probe.edges) + 1
    V = X @ probe.metric.inverse.T
    curvature = np.zeros((n_bins, probe.theta.size, probe.theta.size))
    rows, top = np.zeros(n_bins), np.zeros(n_bins)
    with np.errstate(over="ignore", invalid="ignore"):  # an infinite loss is a finding, see `finite`
        value, slope, curved = loss.rows(X @ probe.theta, y)
        trials = np.array([w @ loss.value(X @ other, y) for other in probe.trials], np.float64)
        rate = loss.rates(np.sqrt(np.einsum("ij,ij->i", V, V)), slope, curved)
        pull, held = w[:, None] * slope, w[:, None, None] * curved
        bin_of = np.searchsorted(probe.edges, rate)
        for j in np.unique(bin_of):
            index = np.flatnonzero(bin_of == j)
            curvature[j] = hessian_of(V[index], held[index])
            rows[j], top[j] = w[index].sum(), rate[index].max()
        mass = float(np.einsum("ikk->", held)) / q
        gradient, size = (V.T @ pull).T.ravel(), (np.abs(X).T @ np.abs(pull)).T.ravel()
        total = float(w @ value)
    return CurvatureTally(len(X), float(w.sum()), total, mass, gradient, size, curvature, rows, top, trials)


def hessian_of(X: Float, held: Float) -> Float:
    """Sum of held_i kron x_i x_i', shape (q p, q p), for curvatures ``held`` (n, q, q); symmetric to the last bit."""
    p, q = X.shape[1], held.shape[1]
    out = np.empty((q, p, q, p))
    for k in range(q):
        for m in range(k, q):
            part = (X * held[:, k, m, None]).T @ X
            part = (part + part.T) / 2
            out[k, :, m], out[m, :, k] = part, part
    return out.reshape(q * p, q * p)


def sample_metric(loss: MarginLoss, theta: Float, l2: Float, X: Float, y: npt.NDArray[np.generic], w: Float) -> Metric:
    """Metric of a weighted sample at a model: its Hessian, averaged over the margins. ``l2`` has shape (p,)."""
    with np.errstate(over="ignore", invalid="ignore"):
        held = w * np.trace(loss.rows(X @ theta, y)[2], axis1=1, axis2=2) / theta.shape[1]
        hessian = hessian_of(X, held[:, None, None])
    return metric(hessian, l2, float(held.sum()))


def tally_metric(tally: CurvatureTally, at: Metric, l2: Float) -> Metric:
    """Metric of all rows, from a tally in another one. ``l2`` has shape (p,)."""
    p = len(at.root)
    q = tally.gradient.size // p
    mean = sum(tally.hessian[k * p : (k + 1) * p, k * p : (k + 1) * p] for k in range(q)) / q
    return metric(at.root @ mean @ at.root.T, l2, tally.mass)
