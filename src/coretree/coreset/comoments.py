"""Co-moments: count, mean and scatter of a design and its targets, all that least squares ever asks of rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from coretree.coreset.rows import Float
from coretree.coreset.second_moments import Summary, centred, gather


@dataclass(frozen=True, eq=False)
class CoMoments(Summary):
    """Weighted count, mean and scatter of p columns (features, then targets); merge with ``+``.

    The scatter is kept about the mean, in float64, and merged by Chan's update: with ``d = mean_b - mean_a``,
    ``scatter = scatter_a + scatter_b + d d' w_a w_b / (w_a + w_b)``. No cancellation follows from a large mean. Its
    condition number is the square of the data's: above about 1e6 use `RFactor`.

    Attributes
    ----------
    n_rows : int
        Rows of positive weight.
    weight : float
        Sum of their weights; ``n_rows`` where there were none.
    mean : ndarray, shape (p,)
        Weighted mean of each column, in its unit; 0 where there are no rows.
    n_targets : int
        How many of the last columns are targets.
    matrix : ndarray, shape (p, p)
        The scatter: sum of ``w (x - mean)(x - mean)'``, symmetric.

    Notes
    -----
    Source: Chan, Golub and LeVeque, The American Statistician 37 (1983). ``+`` is associative to rounding, and adding
    no rows changes no bit. Build one with `comoments`.

    Examples
    --------
    >>> a, b = comoments(np.array([[1.0], [3.0]])), comoments(np.array([[5.0]]))
    >>> (a + b).mean.tolist(), (a + b).scatter.tolist()
    ([3.0], [[8.0]])
    """

    matrix: Float

    @property
    def scatter(self) -> Float:
        """The matrix itself."""
        return self.matrix

    @classmethod
    def empty(cls, n_features: int, n_targets: int = 0) -> Self:
        """Return the moments of no rows: the identity of ``+``."""
        p = n_features + n_targets
        return cls(0, 0.0, np.zeros(p), n_targets, np.zeros((p, p)))

    @classmethod
    def from_state(cls, state: Mapping[str, npt.NDArray[Any]]) -> Self:
        """Restore what ``state`` returned."""
        n_rows, weight, n_targets = int(state["n_rows"]), float(state["weight"]), int(state["n_targets"])
        return cls(n_rows, weight, state["mean"], n_targets, state["matrix"])

    def __add__(self, other: object) -> Self:
        if not isinstance(other, type(self)):
            return NotImplemented
        self._check(other)
        if not self.weight or not other.weight:
            return self if self.weight else other
        weight = self.weight + other.weight
        delta, share = other.mean - self.mean, other.weight / weight
        scatter = self.scatter + other.scatter + np.outer(delta, delta * (self.weight * share))
        rows = self.n_rows + other.n_rows
        return type(self)(rows, weight, self.mean + delta * share, self.n_targets, scatter)

    def root(self) -> Float:
        """Return R, shape (p, p), with R'R = scatter, for a scatter that may be singular.

        Columns are scaled to unit spread first. Directions whose share of the scatter is below rounding (p eps) are
        set to exactly zero: collinear and constant columns then leave no noise behind.
        """
        spread = np.sqrt(np.maximum(np.diag(self.scatter), 0.0))
        spread[self.constant(spread)] = 0.0
        inverse = np.divide(1.0, spread, out=np.zeros_like(spread), where=spread > 0)
        values, V = np.linalg.eigh(self.scatter * inverse[:, None] * inverse)
        floor = self.n_columns * np.finfo(np.float64).eps * max(values[-1], 0.0) if len(values) else 0.0
        R: Float = np.sqrt(np.where(values > floor, values, 0.0))[:, None] * V.T * spread
        return R

    def scaled(self, factor: float) -> Self:
        """Return the moments with every weight multiplied by ``factor`` > 0 (class weights)."""
        return type(self)(self.n_rows, self.weight * factor, self.mean, self.n_targets, self.scatter * factor)

    def with_targets(self, values: npt.ArrayLike) -> Self:
        """Return the moments with constant target columns appended, as for all rows of one class.

        Parameters
        ----------
        values : array_like, shape (t,)
            Each target's value, the same for all rows.
        """
        constants = np.atleast_1d(np.asarray(values, np.float64))
        scatter = np.pad(self.scatter, (0, len(constants)))
        mean = np.concatenate([self.mean, constants])
        return type(self)(self.n_rows, self.weight, mean, self.n_targets + len(constants), scatter)


def comoments(
    X: npt.ArrayLike,
    y: npt.ArrayLike | None = None,
    weights: npt.ArrayLike | None = None,
    *,
    names: Sequence[str] | None = None,
) -> CoMoments:
    """Gather the co-moments of one partition of a prepared design, in n (d + t)^2 / 2 multiply-adds.

    Every block of rows is centred on its own mean in float64 before it is multiplied, so that float32 input and means
    of 1e6 lose nothing.

    Parameters
    ----------
    X : array_like, shape (n, d)
        Float32 or float64, any memory order, no missing values.
    y : array_like, shape (n,) or (n, t), optional
        Target or targets.
    weights : array_like, shape (n,), optional
        Finite and >= 0; rows of weight 0 count as absent. Default: 1 each.
    names : sequence of str, optional
        Names of the d + t columns, for messages.

    Returns
    -------
    CoMoments
        Of d + t columns.

    Raises
    ------
    DataError
        If a value is NaN or infinite; the column is named.
    ValueError
        If shapes disagree or a weight is negative or not finite.

    Examples
    --------
    >>> m = comoments([[0.0], [2.0]], [1.0, 5.0], weights=[3, 1])
    >>> m.mean.tolist(), m.scatter.tolist(), m.weight
    ([0.5, 2.0], [[3.0, 6.0], [6.0, 12.0]], 4.0)
    """
    return gather(X, y, weights, names, CoMoments.empty, _scatter_of)


def _scatter_of(Z: Float, w: Float | None, n_targets: int) -> CoMoments:
    weight, mean = centred(Z, w)
    with np.errstate(invalid="ignore", over="ignore"):
        return CoMoments(len(Z), weight, mean, n_targets, Z.T @ Z)
