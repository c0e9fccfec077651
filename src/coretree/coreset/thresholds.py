"""The key below which a sketch of all rows will hold what it keeps, foreseen from a weighted sample of them."""

from __future__ import annotations

import numpy as np

from coretree.coreset.rows import Float


def threshold_for(scores: Float, weights: Float, rows: float) -> float:
    """Return the key that about so many rows stay below: t with sum of w min(1, t s) = rows.

    A row's key is u / s, u uniform, so it is at most t with probability min(1, t s).

    Parameters
    ----------
    scores : ndarray, shape (n,)
        Of a sample of the rows, > 0.
    weights : ndarray, shape (n,)
        Rows that each stands for.
    rows : float

    Returns
    -------
    float
        The largest float64 where there are not more rows than that.

    Examples
    --------
    >>> threshold_for(np.array([1.0, 1.0]), np.array([400.0, 600.0]), 50)
    0.05
    >>> t = threshold_for(np.array([10.0, 1.0]), np.array([20.0, 980.0]), 118)
    >>> round(t, 6), 20 * min(1.0, 10 * t) + 980 * t
    (0.1, 118.0)
    """
    if rows >= weights.sum():
        return float(np.finfo(np.float64).max)
    order = np.argsort(-scores, kind="stable")
    s, w = scores[order], weights[order]
    certain = np.cumsum(w) - w  # rows ahead of each, if all of them are below t
    possible = np.cumsum((w * s)[::-1])[::-1]
    t = (rows - certain) / possible
    return float(t[np.argmax(t * s <= 1.0)])
