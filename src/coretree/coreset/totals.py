"""Totals at the pilot: exact, additive sums over all rows that the coreset's weights are later held to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Any, Literal, Self, TypeAlias

import numpy as np
import numpy.typing as npt

from coretree.coreset.derivatives import (
    Matrix,
    as_floating,
    block_rows,
    blocks,
    margins,
    softmax_hessian,
    weighted_gram,
    weights_or_ones,
)
from coretree.coreset.losses import Loss, Softmax, loss_named
from coretree.coreset.rows import Float, take
from coretree.coreset.scores import PilotState
from coretree.coreset.softmax_terms import SoftmaxTerms, softmax_terms
from coretree.coreset.whiten import EXACT_LIMIT

SOFTMAX_HESSIAN_LIMIT = 450
"""Parameters K d up to which the softmax's Hessian is gathered: its size is their square."""

WIDE = EXACT_LIMIT
"""Columns beyond which the Hessian of any loss is made of thinned rows where the caller thins: n d^2 is too much."""

_LEAST_ROWS, _ROWS_A_PARAMETER, _WIDE_ROWS_A_PARAMETER = 20_000, 100, 400

Thinning: TypeAlias = tuple[npt.NDArray[np.bool_], float | Float]
"""Mask of the rows chosen, shape (n,), and the probability with which each was: one number, or shape (n,)."""


def hessian_rows(state: PilotState) -> int | None:
    """Return how many rows of the full data are enough for the Hessian at a pilot; None where all should be taken.

    The softmax's only gives the direction of one constraint: 100 rows a parameter do. A wide model of one margin
    (more than 300 columns) takes 400: the Hessian then errs by about 5 % of a step that is itself small.

    Examples
    --------
    >>> from coretree.coreset.scores import pilot_state
    >>> X = np.column_stack([np.ones(4), np.arange(4.0)])
    >>> [hessian_rows(pilot_state(X, np.array([0, 1, 0, 1]), np.ones(4), k, [2, 2])) for k in ("logistic", "softmax")]
    [None, 20000]
    """
    if loss_named(state.loss).kind == "multiclass":
        return max(_LEAST_ROWS, _ROWS_A_PARAMETER * state.theta.size)
    return max(_LEAST_ROWS, _WIDE_ROWS_A_PARAMETER * state.n_features) if state.n_features > WIDE else None


def thinning(uniforms: Float, scores: Float, rows: float) -> Thinning:
    """Choose rows for a thinned Hessian in proportion to their robust scores.

    Parameters
    ----------
    uniforms : ndarray, shape (n,)
        From the row identities, for a purpose of their own ("hessian").
    scores : ndarray, shape (n,)
        Robust scores: they sum to about 1 over the full data, so any partition can be thinned on its own.
    rows : float
        Rows wanted from the full data, in expectation; see :func:`hessian_rows`.

    Returns
    -------
    mask : ndarray of bool, shape (n,)
    share : ndarray of float64, shape (n,)
        min(1, rows * score).

    Notes
    -----
    Rare levels decide how well the Hessian is known, and scores favour them: with one-hot columns an even share needs
    several times the rows for the same accuracy.

    Examples
    --------
    >>> mask, share = thinning(np.array([0.1, 0.9]), np.array([0.5, 0.5]), 1)
    >>> mask.tolist(), share.tolist()
    ([True, False], [0.5, 0.5])
    """
    share = np.minimum(1.0, rows * scores)
    return uniforms < share, share


@dataclass(frozen=True, eq=False)
class Totals:
    """Sums over rows at a frozen pilot; merge with ``+``.

    Attributes
    ----------
    n_rows : int
    weight : float
        Sum of the base weights.
    counts : ndarray, shape (K,)
        Base weight of each class (one entry for regression).
    sums : ndarray, shape (K, d)
        Weighted feature sums of each class.
    loss : float
        Weighted loss at the pilot, without the penalty.
    gradient : ndarray, shape (p,)
        Of the loss, flattened; p = d, or K d for the softmax.
    hessian : ndarray, shape (p, p), or None
        Of the loss. For the softmax an unbiased estimate from a thinned share of the rows, because it only chooses a
        direction; None where p is too large.
    """

    n_rows: int
    weight: float
    counts: Float
    sums: Float
    loss: float
    gradient: Float
    hessian: Float | None

    def __add__(self, other: Totals) -> Totals:
        if not isinstance(other, Totals):
            return NotImplemented
        if (self.hessian is None) != (other.hessian is None):
            raise ValueError("totals: both parts must have a Hessian or neither; build them with the same `hessian`")
        hessian = None if self.hessian is None or other.hessian is None else self.hessian + other.hessian
        return Totals(
            self.n_rows + other.n_rows,
            self.weight + other.weight,
            self.counts + other.counts,
            self.sums + other.sums,
            self.loss + other.loss,
            self.gradient + other.gradient,
            hessian,
        )

    def __radd__(self, zero: object) -> Totals:
        if zero == 0:  # the start value of sum()
            return self
        return NotImplemented

    @classmethod
    def of_counts(cls, n_rows: int, counts: Float) -> Self:
        """Totals that know the classes' base weight alone: what samples without a pilot are held to."""
        return cls(n_rows, float(counts.sum()), counts, np.zeros((len(counts), 0)), 0.0, np.zeros(0), None)

    @property
    def finite(self) -> bool:
        """Whether every sum is a finite number."""
        sums = (self.loss, self.gradient, self.sums, 0.0 if self.hessian is None else self.hessian)
        return all(bool(np.isfinite(value).all()) for value in sums)

    def state(self) -> dict[str, npt.NDArray[Any]]:
        """Return the arrays that rebuild the totals exactly: of the Hessian the upper triangle, none where it lacks."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        if self.hessian is not None:
            values["hessian"] = self.hessian[_upper(len(self.hessian))]
        return {name: np.asarray(value) for name, value in values.items() if value is not None}

    @classmethod
    def from_state(cls, state: Mapping[str, npt.NDArray[Any]]) -> Self:
        """Rebuild from :meth:`state`."""
        return cls(
            n_rows=int(state["n_rows"]),
            weight=float(state["weight"]),
            counts=state["counts"],
            sums=state["sums"],
            loss=float(state["loss"]),
            gradient=state["gradient"],
            hessian=_symmetric(state["hessian"], len(state["gradient"])) if "hessian" in state else None,
        )


def totals_at(
    X: Matrix,
    y: npt.NDArray[Any],
    base: npt.NDArray[Any] | None,
    state: PilotState,
    *,
    hessian: Literal["auto", "full", "none"] = "auto",
    thin: Thinning | None = None,
    terms: SoftmaxTerms | None = None,
) -> Totals:
    """Sum one partition at the pilot; no rows give the neutral element.

    Parameters
    ----------
    X : ndarray, shape (n, d)
        Float32 or float64 rows, the constant first; F order is fastest.
    y : ndarray, shape (n,)
    base : ndarray, shape (n,), or None
        Base weights; None is 1 each.
    state : PilotState
    hessian : {"auto", "full", "none"}
        "auto": all rows for losses of one margin, those of ``thin`` (if given) beyond 300 columns; for the softmax
        only where ``thin`` is given and K d <= 450.
        "full": always, from the rows of ``thin`` if given.
    thin : (mask, share), optional
        Rows that the softmax's Hessian, or that of a wide model, is made of: a hash of the row identity below
        ``share``, one number or one a row (see :func:`thinning`). Dividing by the share keeps it unbiased.
    terms : optional
        Of :func:`~coretree.coreset.softmax_terms.softmax_terms` at the same base weights, where they are known.

    Returns
    -------
    Totals

    Notes
    -----
    Work is done in X's precision in blocks of rows and accumulated in float64. Cost a row: d^2 + 3 d multiply-adds,
    softmax 3 K d.

    Examples
    --------
    >>> from coretree.coreset.scores import pilot_state
    >>> X, y = np.array([[1.0, 2.0], [1.0, -2.0]]), np.array([1.0, 0.0])
    >>> state = pilot_state(X, y, np.ones(2), "squared", [2])
    >>> (totals_at(X, y, None, state) + totals_at(X, y, None, state)).n_rows
    4
    """
    X, kind = as_floating(X), loss_named(state.loss)
    weight, codes = weights_or_ones(base, len(X)), state.codes(y)
    K, d, p = state.n_classes, state.n_features, state.theta.size
    softmax = kind.kind == "multiclass"
    wide = softmax and (thin is None or p > SOFTMAX_HESSIAN_LIMIT)
    wanted = hessian == "full" or (hessian == "auto" and not wide)
    thinned = softmax or (thin is not None and d > WIDE and hessian == "auto")
    H = np.zeros((p, p)) if wanted else None
    loss, g, sums = 0.0, np.zeros(p), np.zeros((K, d))
    if softmax:
        found = softmax_terms(X, y, state, base, scored=False) if terms is None else terms
        loss, g, sums = found.loss, found.gradient.ravel(), found.sums
    few = codes.astype(np.uint8) if K <= 256 else codes  # compared with every class: narrow codes are faster
    for part in () if softmax else blocks(len(X), block_rows(K, d)):
        A, v, t = X[part], weight[part], y[part]
        z = margins(A, state.theta)
        loss += float(v @ kind.value(z, t).astype(np.float64, copy=False))
        # the slopes, then the members of each class: one product sums both
        factors = np.vstack([kind.slope(z, t), few[part] == np.arange(K, dtype=few.dtype)[:, None]], dtype=A.dtype)
        if base is not None:
            factors *= v.astype(A.dtype)
        added = factors @ A
        g += added[0]
        sums += added[1:]
        if H is not None and not thinned:
            H += weighted_gram(A, v * kind.curvature(z, t))
    if H is not None and thinned:
        H += _thinned_hessian(X, y, weight, state, kind, thin)
    counts = np.bincount(codes, base, minlength=K).astype(np.float64)
    if H is not None and not softmax:  # BLAS may round the two halves apart; the stored one counts
        H = _symmetric(H[_upper(p)], p)
    return Totals(len(X), float(weight.sum()), counts, sums, loss, g, H)


def _symmetric(upper: Float, p: int) -> Float:
    """The matrix (p, p) of an upper triangle, row by row."""
    H = np.empty((p, p))
    H[_upper(p)] = upper
    H.T[_upper(p)] = upper
    return H


@lru_cache(maxsize=4)
def _upper(p: int) -> npt.NDArray[np.bool_]:
    """Mask of the upper triangle, row by row."""
    return np.tri(p, dtype=np.bool_).T


def _thinned_hessian(
    X: Matrix, y: npt.NDArray[Any], weight: Float, state: PilotState, kind: Loss, thin: Thinning | None
) -> Float:
    """Hessian from the thinned rows, divided by their share."""
    mask, share = (np.ones(len(X), np.bool_), 1.0) if thin is None else thin
    rows = np.flatnonzero(mask)
    v = weight[rows] / np.broadcast_to(share, mask.shape)[rows]
    A = take({"X": X}, rows)["X"]
    z = margins(A, state.theta)
    if isinstance(kind, Softmax):
        return softmax_hessian(A, kind.probabilities(z), v)
    return weighted_gram(A, v * kind.curvature(z, y[rows]))
