"""Robust scores: how likely a row is to change the model, from the pilot alone.

For a smooth loss: 0.5 |g| sqrt(x'H^-1 x) / S + 0.3 leverage in the class / (K d) + 0.1 / n + 0.1 / (K n_y), with g the
slope at the pilot and H its Hessian. The first term minimises the expected excess of a fit on the sample; the second
removes tail failures and makes calibration solvable; the last two bound the weights. Other losses mix them otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from coretree.coreset.derivatives import (
    Matrix,
    as_floating,
    block_rows,
    blocks,
    first_bad_row,
    margins,
    penalty,
    weighted_gram,
)
from coretree.coreset.losses import Loss, loss_named
from coretree.coreset.pilot import class_grams, fit_pilot
from coretree.coreset.rows import Float, members
from coretree.coreset.softmax_terms import SoftmaxTerms, joint_maps, softmax_terms
from coretree.coreset.whiten import squared_lengths, whitener


@dataclass(frozen=True, eq=False)
class PilotState:
    """What every scoring task needs to know; frozen into the recipe.

    Attributes
    ----------
    loss : str
    theta : ndarray, shape (d,) or (K, d)
        Pilot model, the intercept first.
    lam : float
        Penalty on all but the intercept.
    counts : ndarray, shape (K,)
        Base weight of each class in the full data (one entry for regression).
    hessian_whitener : ndarray, shape (d, r)
        |x'W|^2 = x'H^-1 x, H the Hessian at the pilot (softmax: the pooled Gram matrix); r = d, or 16 where d > 300.
    class_whiteners : ndarray, shape (K, d, r)
        The same for the Gram matrix of each class (regression: one, pooled; squared loss: the Hessian's).
    norms : ndarray, shape (2,)
        Full-data sums, estimated on the pilot, of |g| sqrt(x'H^-1 x) and of h x'H^-1 x.
    spread : ndarray, shape (K,) or (0,)
        Softmax: mean of p (1 - p) in each class.
    """

    loss: str
    theta: Float
    lam: float
    counts: Float
    hessian_whitener: Float
    class_whiteners: Float
    norms: Float
    spread: Float

    @property
    def n_classes(self) -> int:
        """Classes that weights are counted in: 1 for regression."""
        return len(self.counts)

    @property
    def n_features(self) -> int:
        """Columns of X, the constant included."""
        return int(self.theta.shape[-1])

    @cached_property
    def joint_maps(self) -> list[tuple[Matrix, Matrix]]:
        """What rows of each class are multiplied by: see :func:`~coretree.coreset.softmax_terms.joint_maps`."""
        return joint_maps(self)

    def codes(self, y: npt.NDArray[Any]) -> npt.NDArray[np.intp]:
        """Return the class of each row: ``y`` itself, or zeros for regression."""
        return np.zeros(len(y), np.intp) if self.n_classes == 1 else np.asarray(y).astype(np.intp)

    def state(self) -> dict[str, npt.NDArray[Any]]:
        """Return the arrays that rebuild the state exactly."""
        return {
            "loss": np.array([self.loss], object),
            "theta": self.theta,
            "lam": np.array(self.lam, np.float64),
            "counts": self.counts,
            "hessian_whitener": self.hessian_whitener,
            "class_whiteners": self.class_whiteners,
            "norms": self.norms,
            "spread": self.spread,
        }

    @classmethod
    def from_state(cls, state: Mapping[str, npt.NDArray[Any]]) -> Self:
        """Rebuild from :meth:`state`."""
        names = ("theta", "counts", "hessian_whitener", "class_whiteners", "norms", "spread")
        return cls(loss=str(state["loss"][0]), lam=float(state["lam"]), **{name: state[name] for name in names})


def pilot_state(
    X: Matrix,
    y: npt.NDArray[Any],
    w: npt.NDArray[Any],
    loss: Loss | str,
    counts: npt.ArrayLike,
    *,
    lam: float = 1.0,
    theta: Float | None = None,
) -> PilotState:
    """Fit the pilot and prepare everything that scores are made of, from the weighted pilot rows.

    Parameters
    ----------
    X : ndarray, shape (n, d)
        Pilot rows, standardised as the full data will be, the constant first.
    y : ndarray, shape (n,)
        0/1, class codes, or numbers, as the loss wants.
    w : ndarray, shape (n,)
        Weights of the pilot sample; rescaled to ``counts`` within each class.
    loss : Loss or str
    counts : array_like, shape (K,)
        Exact base weight of each class in the full data; ``[n]`` for regression.
    lam : float
    theta : ndarray, optional
        A model to use in place of a fitted one: later rounds pass the last fit.

    Returns
    -------
    PilotState

    Raises
    ------
    ValueError
        If there are no pilot rows, or the counts do not fit the loss.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> X = np.column_stack([np.ones(200), rng.standard_normal((200, 2))])
    >>> y = (X[:, 1] > rng.standard_normal(200)).astype(int)
    >>> state = pilot_state(X, y, np.ones(200), "logistic", np.bincount(y))
    >>> s = robust_scores(X, y, state)
    >>> bool((s > 0).all()), bool(0.5 < s.sum() < 1.5)
    (True, True)
    """
    kind = loss_named(loss)
    A, totals = np.asarray(X, np.float64), np.asarray(counts, np.float64).ravel()
    _check(A, kind, totals)
    codes = np.zeros(len(A), np.intp) if len(totals) == 1 else np.asarray(y).astype(np.intp)
    held = np.bincount(codes, np.asarray(w, np.float64), minlength=len(totals))
    weights = np.asarray(w, np.float64) * (totals / np.where(held > 0, held, 1.0))[codes]
    if theta is None:
        theta = fit_pilot(A, y, weights, kind, lam=lam, n_classes=len(totals))
    z = margins(A, theta)
    softmax = kind.kind == "multiclass"
    curvature = kind.curvature(z, codes if softmax else y)
    spread = np.maximum(weights @ curvature / weights.sum(), 1e-6) if softmax else np.zeros(0)
    heaviness = weights if softmax or kind.name == "squared" else weights * curvature
    grams = class_grams(A, codes, weights, len(totals))
    W = whitener(weighted_gram(A, heaviness) + np.diag(penalty(A.shape[1:], lam)))
    parts = (W, W[None] if kind.name == "squared" else np.stack([whitener(g) for g in grams]), np.ones(2), spread)
    draft = PilotState(kind.name, np.asarray(theta, np.float64), lam, totals, *parts)
    length = squared_lengths(A, W)
    if softmax:
        pull, lift = softmax_terms(A, y, draft).pull, np.fmin(length, 1.0)
    else:
        pull, lift = _pull(z, y, kind, length)
    norms = np.maximum([weights @ pull, weights @ lift], 1e-300)
    return PilotState(kind.name, draft.theta, lam, totals, *parts[:2], norms, spread)


def robust_scores(X: Matrix, y: npt.NDArray[Any], state: PilotState, *, terms: SoftmaxTerms | None = None) -> Float:
    """Score rows for models with the pilot's loss; finite and positive, and about 1 in sum over the full data.

    Parameters
    ----------
    X : ndarray, shape (n, d)
        Float32 or float64 rows, the constant first; F order is fastest.
    y : ndarray, shape (n,)
    state : PilotState
    terms : optional
        Of :func:`~coretree.coreset.softmax_terms.softmax_terms`, where they are known.

    Returns
    -------
    ndarray of float64, shape (n,)

    Raises
    ------
    ValueError
        If a feature or target is not a finite number; names the first row.

    Notes
    -----
    Softmax: 0.4 R sqrt(leverage) / S + 0.4 leverage in the class / (K d) + 0.1 / n + 0.1 / (K n_c), R the root of
    sum_c r_c^2 / v_c, r = p - e_y and v_c the mean of p_c (1 - p_c). Rare levels in rare classes need the second term:
    without rows of theirs no positive weights meet the gradient.
    Regression: 0.5 |r| sqrt(leverage) / S + 0.3 leverage / d + 0.2 / n.
    Hinge: 0.4 |g| sqrt(x'H^-1 x) / S + 0.4 h x'H^-1 x / S2 + 0.1 leverage in the class + 0.05 + 0.05.
    Leverages are capped by what they can be in the full data (1 in a class, 1 / h for the Hessian), so a level of a
    category that the pilot never saw makes a row likely, not infinite. Cost: d^2 multiply-adds a row.
    """
    X, kind = as_floating(X), loss_named(state.loss)
    codes = state.codes(y)
    K, n = state.n_classes, max(float(state.counts.sum()), 1.0)
    mix = (0.5, 0.0, 0.3, 0.1)
    if "hinge" in state.loss and state.loss != "squared_hinge":
        mix = (0.4, 0.4, 0.1, 0.05)
    elif kind.kind == "multiclass":
        mix = (0.4, 0.0, 0.4, 0.1)
    floor = mix[3] / n + mix[3] / (K * np.maximum(state.counts, 1.0))
    a_feature = mix[2] / (len(state.class_whiteners) * state.n_features)
    if kind.kind == "multiclass":
        found = softmax_terms(X, y, state) if terms is None else terms
        out = found.pull * (mix[0] / state.norms[0]) + a_feature * found.leverage + floor.take(codes)
    else:
        pull, lift, leverage = _lengths(X, y, codes, state, kind)
        with np.errstate(over="ignore", invalid="ignore"):
            out = pull * (mix[0] / state.norms[0]) + a_feature * leverage + floor.take(codes)
            if mix[1]:
                out += lift * (mix[1] / state.norms[1])
    bad = ~np.isfinite(out)
    if bad.any():
        raise ValueError(
            f"robust_scores: features and target must be finite numbers; {int(bad.sum())} rows have one that is not, "
            f"first row {int(np.argmax(bad))}"
        )
    return out


def uniform_scores(n: int) -> Float:
    """Score all rows alike: n ones."""
    return np.ones(n)


def _lengths(
    X: Matrix, y: npt.NDArray[Any], codes: npt.NDArray[np.intp], state: PilotState, kind: Loss
) -> npt.NDArray[Any]:
    """|g| sqrt(x'H^-1 x), h x'H^-1 x and the leverage in the class, at most 1, of each row: shape (3, n).

    One product a block of rows; rows that are grouped by class are not copied.
    """
    out = np.empty((3, len(X)), X.dtype)
    with np.errstate(over="ignore", invalid="ignore"):
        for own, joint in zip(members(codes, len(state.class_whiteners)), state.joint_maps, strict=True):
            A, t = X[own], y[own]
            maps, mix = (a.astype(X.dtype) for a in joint)
            found = np.empty((3, len(A)), X.dtype)
            for part in blocks(len(A), block_rows(*maps.shape)):
                products = maps @ A[part].T
                length, leverage = mix @ np.square(products[1:], out=products[1:])
                found[:2, part] = _pull(products[0], t[part], kind, length)
                # an overflow is a row far out, an infinite feature is none: its margin is not a number
                found[2, part] = np.fmin(leverage, X.dtype.type(1)) + 0 * products[0]
            out[:, own] = found
    return out


def _pull(z: Matrix, y: npt.NDArray[Any], kind: Loss, length: Matrix) -> tuple[Matrix, Matrix]:
    """|g| sqrt(x'H^-1 x) and h x'H^-1 x of rows with margin z, given x'H^-1 x, in the rows' precision."""
    h = kind.curvature(z, y)
    if kind.name != "hinge":  # its h is a kernel, no curvature of anything
        length = np.fmin(length, 1.0 / np.maximum(h, z.dtype.type(1e-12)))
    return np.abs(kind.slope(z, y)) * np.sqrt(length), h * length


def _check(X: Matrix, kind: Loss, counts: Float) -> None:
    """Refuse what no state can be made of."""
    wanted = {"binary": "2 entries", "real": "1 entry", "multiclass": "at least 2 entries"}[kind.kind]
    fits = {"binary": len(counts) == 2, "real": len(counts) == 1, "multiclass": len(counts) >= 2}[kind.kind]
    if not len(X):
        raise ValueError("pilot_state: at least one pilot row is needed; found none")
    bad = first_bad_row(X)
    if bad is not None:
        raise ValueError(f"pilot_state: features must be finite numbers; pilot row {bad} has one that is not")
    if not fits:
        raise ValueError(f"pilot_state: counts for loss {kind.name!r} must have {wanted}; found {len(counts)}")
