"""Pseudo-rows: p + 1 rows that carry every first and second moment of n rows, making least squares on them exact."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from coretree.coreset.rows import Float
from coretree.coreset.second_moments import Summary
from coretree.errors import EmptyDataError


@dataclass(frozen=True, eq=False)
class PseudoRows:
    """k = p + 1 rows of equal weight, with the count, mean and scatter of the rows that they stand for.

    Attributes
    ----------
    X : ndarray, shape (k, d)
        Features.
    y : ndarray, shape (k,) or (k, t), or None
        Target or targets, real numbers whatever the real ones were.
    weights : ndarray, shape (k,)
        All equal and positive; they sum to the weight of the original rows.
    """

    X: Float
    y: Float | None
    weights: Float


def helmert(p: int) -> Float:
    """Return the Helmert matrix Q, shape (p + 1, p): orthonormal columns, each of sum zero.

    Examples
    --------
    >>> Q = helmert(3)
    >>> bool(np.allclose(Q.T @ Q, np.eye(3))), bool(np.allclose(Q.sum(axis=0), 0))
    (True, True)
    """
    j = np.arange(1, p + 1)
    Q: Float = np.triu(np.ones((p + 1, p))) / np.sqrt(j * (j + 1.0))
    Q[j, j - 1] = -np.sqrt(j / (j + 1.0))
    return Q


def pseudo_rows(summary: Summary, *, centred: bool = False) -> PseudoRows:
    """Turn second moments back into rows: ``1 mean' + sqrt(k / weight) Q R``, each of weight ``weight / k``.

    With R'R the scatter and Q the Helmert matrix, their weighted count, mean and scatter are those of all the rows.
    Whatever sees the data through these comes out the same: ordinary, ridge, lasso, elastic net and non-negative
    least squares with sample weights, Bayesian ridge, R squared, the residual variance. Moments of the rows outside
    of a fold, merged from the other folds' totals, give exact cross-validation; the fold itself is scored on its own.

    Parameters
    ----------
    summary : CoMoments or RFactor
        The targets are its last ``n_targets`` columns. An `RFactor` keeps accuracy where the condition number of the
        columns exceeds about 1e6.
    centred : bool
        Leave the means out. Fits with an intercept lose less to rounding so; the intercept is restored afterwards as
        ``mean_y - mean_x'coef``.

    Returns
    -------
    PseudoRows

    Raises
    ------
    EmptyDataError
        If the summary has seen no row.

    Notes
    -----
    Not for losses other than squares, nor for leave-one-out or generalised cross-validation. Interactions and
    transformed targets must be columns before the moments are gathered. Cost: O(p^3).

    Examples
    --------
    >>> from coretree.coreset.comoments import comoments
    >>> x = np.arange(10.0)
    >>> rows = pseudo_rows(comoments(x[:, None], 3 * x + 1))
    >>> rows.X.shape, float(rows.weights.sum()), bool(np.allclose(rows.y, 3 * rows.X[:, 0] + 1))
    ((3, 1), 10.0, True)
    """
    if not summary.weight > 0:
        raise EmptyDataError("pseudo-rows need the moments of at least one row of positive weight, found none.")
    p, t = summary.n_columns, summary.n_targets
    k = p + 1
    Z = np.sqrt(k / summary.weight) * (helmert(p) @ summary.root())
    if not centred:
        Z = Z + summary.mean
    y = None if t == 0 else Z[:, p - t :].copy()
    if y is not None and t == 1:
        y = y[:, 0]
    return PseudoRows(Z[:, : p - t].copy(), y, np.full(k, summary.weight / k))
