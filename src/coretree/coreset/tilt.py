"""Exponential tilting: the weights nearest to given ones that meet given totals.

min_w sum (d / q) (r log r - r + 1), r = w / d, subject to B'w = t, has the solution w = d exp(q B lambda): positive
weights and a smooth convex dual in as many unknowns as constraints (Deville and Sarndal 1992). q is the metric.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.linalg import LinAlgError, cho_factor, cho_solve

from coretree.coreset.derivatives import blocks, weighted_gram
from coretree.coreset.quality import kish
from coretree.coreset.rows import Float

CAP = 30.0
"""Largest factor, up or down, by which a weight may be tilted."""
ESS_SHARE = 0.25
"""Smallest share of the Kish effective size that a tilt may leave."""

_MAX_STEPS = 30
_GOOD_STEP = 100.0  # times less slope: the next step, too, is a good one by the same Hessian, whose sum is the cost
_OVERFLOW = 60.0


@dataclass(frozen=True, eq=False)
class Constraints:
    """Totals to meet, in a basis that is orthonormal under D = d q.

    Attributes
    ----------
    basis : ndarray, shape (m, p)
    target : ndarray, shape (p,)
    """

    basis: Float
    target: Float


def class_constraints(codes: npt.NDArray[np.intp], counts: Float, D: Float) -> Constraints:
    """Demand the total weight of each class that the rows hold at all."""
    held = np.bincount(codes, D, minlength=len(counts))
    present = np.flatnonzero(held > 0)
    scale = np.sqrt(held[present])
    member = (codes[:, None] == present) / scale
    return Constraints(np.asarray(member, np.float64), counts[present] / scale)


@dataclass(frozen=True, eq=False)
class Spectrum:
    """A group of columns without the part that earlier constraints explain, as principal directions under D."""

    columns: Float
    target: Float
    variances: Float
    directions: Float

    def kept(self, truncation: float, limit: int) -> int:
        """Leading directions that leave at most the share ``truncation`` of the variance out; at most ``limit``."""
        total = float(self.variances.sum())
        if total <= 0:
            return 0
        left = total - np.cumsum(self.variances)
        enough = int(np.searchsorted(-left, -truncation * total)) + 1
        solid = int((self.variances > 1e-13 * self.variances[0]).sum())
        return max(min(enough, solid, limit), 0)

    def extend(self, earlier: Constraints, n_directions: int) -> Constraints:
        """Add the leading directions to earlier constraints."""
        turn = self.directions[:, :n_directions] / np.sqrt(self.variances[:n_directions])
        m, p = earlier.basis.shape
        basis = np.empty((p + n_directions, m)).T  # column-major, as the columns are: half the time
        basis[:, :p] = earlier.basis
        np.matmul(turn.T, self.columns.T, out=basis[:, p:].T)
        return Constraints(basis, np.concatenate([earlier.target, turn.T @ self.target]))


def spectrum(columns: Float, target: Float, earlier: Constraints, D: Float) -> Spectrum:
    """Residualise a group of columns against earlier constraints and find its principal directions.

    Standardising columns one by one would blow up rare ones that no positive weights can meet; the natural scale and
    truncation by variance leave them for last.
    """
    share = (earlier.basis * D[:, None]).T @ columns
    rest = (share.T @ earlier.basis.T).T  # column-major, as the columns are
    np.subtract(columns, rest, out=rest)
    variances, directions = np.linalg.eigh(weighted_gram(rest, D))
    order = np.argsort(-variances, kind="stable")
    return Spectrum(rest, target - share.T @ earlier.target, variances[order].clip(min=0.0), directions[:, order])


def tilt(d: Float, q: Float, constraints: Constraints) -> Float | None:
    """Newton's method on the dual; None where no acceptable positive weights were found.

    Parameters
    ----------
    d : ndarray, shape (m,)
        Weights to stay near to, > 0.
    q : ndarray, shape (m,)
        Metric, > 0: how freely each weight may move.
    constraints : Constraints
        Orthonormal under d q.

    Returns
    -------
    ndarray of float64, shape (m,), or None
        Met to 1e-10 of the natural scale; every tilt within [1/30, 30], Kish size at least a quarter of d's.
    """
    B, t = constraints.basis, constraints.target
    reach = sum(d[part] @ np.abs(B[part]) for part in blocks(len(B)))
    if (np.abs(t) > CAP * reach * (1 + 1e-9)).any():
        return None  # out of reach whatever the tilts; also keeps absurd totals from overflowing
    lam, natural = np.zeros(len(t)), np.sqrt(float(d @ q))
    noise = 1e-13 * float(d.sum())  # the dual is a difference of sums of this size: smaller decreases cannot be seen
    w, value, miss, factor = d.copy(), 0.0, np.inf, None
    for at in range(_MAX_STEPS):
        slope = B.T @ w - t
        before, miss = miss, float(np.abs(slope).max(initial=0.0))
        if miss <= 1e-10 * natural:
            return w if _acceptable(w, d) else None
        try:
            if at and (factor is None or miss > before / _GOOD_STEP):  # the first Hessian is B'DB = I
                factor = _factored(B, w * q)
            step = slope if factor is None else np.asarray(cho_solve(factor, slope), np.float64)
        except (LinAlgError, ValueError):  # ValueError: an entry overflowed
            return None
        drop, size = float(slope @ step), 1.0
        while size > 1e-4:
            trial = lam - size * step
            exponent = q * (B @ trial)
            if np.abs(exponent).max() < _OVERFLOW:
                reached = float((d / q) @ np.expm1(exponent) - trial @ t)
                if reached <= value - 1e-4 * size * drop + noise:
                    break
            size *= 0.5
        else:
            return None
        lam, value, w = trial, reached, d * np.exp(exponent)
    return None


def _factored(B: Float, v: Float) -> tuple[npt.NDArray[Any], bool]:
    """Factor sum of v b b'. Tilts are bounded, so this Hessian is near I and float32 turns a step little."""
    hessian = weighted_gram(B, v, np.float32)
    hessian[np.diag_indices(len(hessian))] += 1e-7 * np.trace(hessian) / len(hessian)
    factor: tuple[npt.NDArray[Any], bool] = cho_factor(hessian)
    return factor


def residual(w: Float, q: Float, d: Float, constraints: Constraints) -> float:
    """Largest miss of a constraint, as a share of its natural scale."""
    gap = np.abs(constraints.basis.T @ w - constraints.target).max(initial=0.0)
    return float(gap / np.sqrt(max(float(d @ q), 1e-300)))


def _acceptable(w: Float, d: Float) -> bool:
    """Whether the guards hold."""
    r = w / d
    return bool(r.max() <= CAP and r.min() >= 1 / CAP and kish(w) >= ESS_SHARE * kish(d))
