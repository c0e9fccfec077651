"""The R factor: second moments merged by QR, for columns too ill-conditioned for a matrix of co-moments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from scipy.linalg import qr

from coretree.coreset.rows import Float
from coretree.coreset.second_moments import Summary, centred, gather


@dataclass(frozen=True, eq=False)
class RFactor(Summary):
    """Count, mean and the triangular R with R'R = scatter, merged by QR; for ill-conditioned columns.

    Never forming the scatter, it keeps singular values down to about 1e-15 of the largest, where `CoMoments` keeps
    1e-7. Two are merged by factoring the stack of both factors and of ``d sqrt(w_a w_b / (w_a + w_b))`` (tall-skinny
    QR). Costs about three times as much as `CoMoments`. Build one with `rfactor`.

    Attributes
    ----------
    n_rows, weight, mean, n_targets
        As in `CoMoments`.
    factor : ndarray, shape (p, p)
        Upper triangular, with a diagonal >= 0.

    Examples
    --------
    >>> r = rfactor(np.array([[1.0], [3.0]])) + rfactor(np.array([[5.0]]))
    >>> np.round(r.factor.T @ r.factor, 12).tolist()
    [[8.0]]
    """

    factor: Float

    @classmethod
    def empty(cls, n_features: int, n_targets: int = 0) -> Self:
        """Return the factor of no rows: the identity of ``+``."""
        p = n_features + n_targets
        return cls(0, 0.0, np.zeros(p), n_targets, np.zeros((p, p)))

    @classmethod
    def from_state(cls, state: Mapping[str, npt.NDArray[Any]]) -> Self:
        """Restore what ``state`` returned."""
        n_rows, weight, n_targets = int(state["n_rows"]), float(state["weight"]), int(state["n_targets"])
        return cls(n_rows, weight, state["mean"], n_targets, state["factor"])

    def __add__(self, other: object) -> Self:
        if not isinstance(other, type(self)):
            return NotImplemented
        self._check(other)
        if not self.weight or not other.weight:
            return self if self.weight else other
        weight = self.weight + other.weight
        delta, share = other.mean - self.mean, other.weight / weight
        factor = _triangle(np.vstack([self.factor, other.factor, delta * np.sqrt(self.weight * share)]))
        rows = self.n_rows + other.n_rows
        return type(self)(rows, weight, self.mean + delta * share, self.n_targets, factor)

    @property
    def scatter(self) -> Float:
        """R'R: sum of ``w (x - mean)(x - mean)'``, shape (p, p)."""
        return self.factor.T @ self.factor

    def root(self) -> Float:
        """Return R, shape (p, p), with R'R = scatter; columns that are constant to rounding are exactly zero."""
        return np.where(self.constant(np.sqrt((self.factor**2).sum(axis=0))), 0.0, self.factor)

    def scaled(self, factor: float) -> Self:
        """Return the same with every weight multiplied by ``factor`` > 0 (class weights)."""
        return type(self)(self.n_rows, self.weight * factor, self.mean, self.n_targets, self.factor * np.sqrt(factor))

    def with_targets(self, values: npt.ArrayLike) -> Self:
        """Return the same with constant target columns appended (see `CoMoments.with_targets`)."""
        constants = np.atleast_1d(np.asarray(values, np.float64))
        mean, factor = np.concatenate([self.mean, constants]), np.pad(self.factor, (0, len(constants)))
        return type(self)(self.n_rows, self.weight, mean, self.n_targets + len(constants), factor)


def rfactor(
    X: npt.ArrayLike,
    y: npt.ArrayLike | None = None,
    weights: npt.ArrayLike | None = None,
    *,
    names: Sequence[str] | None = None,
) -> RFactor:
    """Gather the triangular factor of one partition; parameters and errors as in `comoments`.

    Examples
    --------
    >>> rfactor([[0.0], [2.0]], [1.0, 5.0]).factor.round(6).tolist()
    [[1.414214, 2.828427], [0.0, 0.0]]
    """
    return gather(X, y, weights, names, RFactor.empty, _factor_of)


def _factor_of(Z: Float, w: Float | None, n_targets: int) -> RFactor:
    weight, mean = centred(Z, w)
    return RFactor(len(Z), weight, mean, n_targets, _triangle(Z))


def _triangle(Z: Float) -> Float:
    """R of Z = QR as a (p, p) array with a diagonal >= 0, which makes it unique."""
    p = Z.shape[1]
    R = np.zeros((p, p))
    if p:
        top = qr(Z, mode="r", check_finite=False)[0][:p]
        R[: len(top)] = np.where(np.diag(top) < 0, -1.0, 1.0)[:, None] * top + 0.0  # and never -0.0
    return R
