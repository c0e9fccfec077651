"""Leverage x'M^-1 x as the squared length of a whitened row, through one matrix product."""

from __future__ import annotations

import numpy as np
from scipy.linalg import LinAlgError
from scipy.linalg.lapack import dtrtri

from coretree.coreset.derivatives import Matrix, block_rows, blocks
from coretree.coreset.rows import Float

EXACT_LIMIT = 300
"""Columns up to which leverage is exact; wider data use a Gaussian sketch."""
SKETCH_COLUMNS = 16

_RIDGE = 1e-9


def whitener(gram: Float) -> Float:
    """Return W with |x'W|^2 = x' gram^-1 x.

    Parameters
    ----------
    gram : ndarray of float64, shape (d, d)
        Symmetric, positive semi-definite up to round-off; may be singular.

    Returns
    -------
    ndarray of float64, shape (d, d), or (d, 16) where d > 300
        Beyond 300 columns the inverse factor is multiplied by a fixed Gaussian matrix: leverage is then unbiased with
        a relative standard deviation of 0.35 (Johnson-Lindenstrauss).

    Raises
    ------
    ValueError
        If the matrix is not finite.

    Notes
    -----
    A ridge of 1e-9 is added after scaling to unit diagonal, so that the unit of a column does not matter. Where the
    matrix still has no Cholesky factor, the ridge grows a hundredfold until it has.

    Examples
    --------
    >>> W = whitener(np.diag([4.0, 1.0]))
    >>> np.round(np.square(np.array([2.0, 1.0]) @ W).sum(), 6)
    np.float64(2.0)
    """
    d = len(gram)
    if not np.isfinite(gram).all():
        raise ValueError("whitener: the Gram matrix must be finite; a feature is not a number or far too large")
    scale = np.sqrt(np.diag(gram).clip(min=0.0))
    scale[~(scale > 0)] = max(float(scale.max(initial=0.0)), 1.0) * _RIDGE**0.5  # a dead column: any entry is news
    unit = gram / np.outer(scale, scale)
    ridge = _RIDGE
    while True:
        try:
            lower = np.linalg.cholesky(unit + ridge * np.eye(d))
            break
        except LinAlgError:
            ridge *= 100.0
    inverse: Float = dtrtri(lower, lower=1)[0] / scale  # 30 times as fast for a few columns as solve_triangular
    if d <= EXACT_LIMIT:
        return np.ascontiguousarray(inverse.T)
    mix = np.random.default_rng(20_240_229).standard_normal((d, SKETCH_COLUMNS)) / np.sqrt(SKETCH_COLUMNS)
    return inverse.T @ mix


def squared_lengths(X: Matrix, W: Float) -> Matrix:
    """Return |x'W|^2 of each row in X's precision, shape (n,)."""
    V = W.T.astype(X.dtype) @ X.T
    np.square(V, out=V)
    return np.ones(len(V), X.dtype) @ V  # a product sums columns faster than a reduction along the slow axis


def leverages(X: Matrix, W: Float) -> Float:
    """Return |x'W|^2 of each row as float64, shape (n,), in blocks of rows."""
    out = np.empty(len(X))
    for part in blocks(len(X), block_rows(*W.shape)):
        out[part] = squared_lengths(X[part], W)
    return out
