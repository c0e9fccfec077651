"""Loss, gradient and Hessian of a weighted sum over rows, in the rows' own precision, block by block.

Everywhere F(theta) = sum of a * loss(x'theta, y) + lam / 2 * |theta without intercept|^2, the constant being the FIRST
column of X. ``theta`` has shape (d,), or (K, d) for the softmax, whose gradients and Hessians are flattened row by row.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy.linalg import LinAlgError, cho_factor, cho_solve

from coretree.coreset.losses import Loss
from coretree.coreset.rows import Float

Matrix: TypeAlias = npt.NDArray[Any]
"""Rows times features, float32 or float64; F order is fastest."""

WIDE_NEWTON = 300
"""Columns beyond which Newton's method takes its Hessian in float32."""

_BLOCK = 2_048  # rows: a block of a few dozen columns and its temporaries stay in a core's second cache (1 to 2 MiB)
_GRAM_BLOCK = 8_192  # rows of a Gram matrix's block: long products are the fastest
_SMALL_PRODUCT = (
    1_000_000  # multiply-adds up to which OpenBLAS takes its kernel for small matrices: 2 to 6 times as fast
)


def blocks(n: int, size: int = _BLOCK) -> Iterator[slice]:
    """Cut n rows into consecutive slices."""
    for start in range(0, n, size):
        yield slice(start, min(start + size, n))


def block_rows(m: int, d: int) -> int:
    """Return the rows of a block for products of an (m, d) matrix with them: few where that makes them fast.

    Examples
    --------
    >>> block_rows(10, 21), block_rows(30, 30), block_rows(100, 100)
    (2048, 1111, 2048)
    """
    small = _SMALL_PRODUCT // max(m * d, 1)
    return min(small, _BLOCK) if small >= 512 else _BLOCK


def as_floating(X: npt.NDArray[Any]) -> Matrix:
    """Return X itself where it is float32 or float64, else a float64 copy."""
    return X if X.dtype in (np.float32, np.float64) else X.astype(np.float64)


def weights_or_ones(weights: npt.NDArray[Any] | None, n: int) -> Float:
    """Return float64 weights; one a row where there are none."""
    return np.ones(n) if weights is None else np.asarray(weights, np.float64)


def margins(X: Matrix, theta: Float) -> Matrix:
    """Return x'theta in X's precision: shape (n,), or (n, K) with classes as the slow axis."""
    theta = theta.astype(X.dtype, copy=False)
    # feature-major product: reductions over few classes then run along the rows, which vectorises
    return X @ theta if theta.ndim == 1 else (theta @ X.T).T


def penalty(shape: tuple[int, ...], lam: float) -> Float:
    """Return the diagonal of the penalty's Hessian: ``lam`` for each coefficient and 0 for intercepts, flattened."""
    diagonal = np.full(shape, float(lam))
    diagonal[..., 0] = 0.0
    return diagonal.ravel()


def objective(theta: Float, X: Matrix, y: npt.NDArray[Any], w: Float, loss: Loss, lam: float) -> float:
    """Return F(theta).

    Examples
    --------
    >>> from coretree.coreset.losses import loss_named
    >>> X, y = np.array([[1.0, 2.0], [1.0, 0.0]]), np.array([2.0, 1.0])
    >>> objective(np.array([0.0, 1.0]), X, y, np.ones(2), loss_named("squared"), lam=1.0)
    1.0
    """
    total = 0.5 * float(penalty(theta.shape, lam) @ np.square(theta.ravel()))
    for part in blocks(len(X)):
        total += float(w[part] @ loss.value(margins(X[part], theta), y[part]).astype(np.float64))
    return total


def gradient(X: Matrix, slopes: Matrix, w: npt.NDArray[Any] | None) -> Float:
    """Return sum of w * slope * x (None: 1 each), flattened: shape (d,) or (K d,)."""
    weighted = slopes
    if w is not None:
        weighted = slopes * (w if slopes.ndim == 1 else w[:, None]).astype(X.dtype, copy=False)
    return np.asarray(weighted.T @ X, np.float64).ravel()


def weighted_gram(X: Matrix, w: npt.NDArray[Any], precision: type[np.floating[Any]] | None = None) -> Float:
    """Return sum of w x x' for w >= 0, shape (d, d), symmetric to the last bit; no copy of all rows is made.

    Products of a block are in ``precision``, by default in that of X, and their sum in float64.
    """
    total = np.zeros((X.shape[1], X.shape[1]))
    for part in blocks(len(X), _GRAM_BLOCK):
        root = np.empty_like(X[part], precision or X.dtype)  # column-major where X is
        np.multiply(X[part], np.sqrt(w[part]).astype(X.dtype, copy=False)[:, None], out=root, casting="same_kind")
        total += root.T @ root  # one array with itself: BLAS does half the work
    return total


def softmax_hessian(X: Matrix, p: Matrix, w: npt.NDArray[Any]) -> Float:
    """Return sum of w (diag p - p p') kron x x', shape (K d, K d), for class probabilities p of shape (n, K).

    Products of a block are in X's precision, their sum in float64.
    """
    d, n_classes = X.shape[1], p.shape[1]
    total = np.zeros((n_classes * d, n_classes * d))
    for part in blocks(len(X), size=2048):  # the rows here are K d wide
        A, q = X[part], p[part].astype(X.dtype, copy=False)
        v = np.asarray(w[part], X.dtype)
        wide = (np.sqrt(v)[:, None, None] * q[:, :, None] * A[:, None, :]).reshape(len(A), -1)
        total -= wide.T @ wide
        for c in range(n_classes):
            at = slice(c * d, (c + 1) * d)
            total[at, at] += (A * (v * q[:, c])[:, None]).T @ A
    return 0.5 * (total + total.T)


def gradient_and_hessian(theta: Float, X: Matrix, y: npt.NDArray[Any], w: Float, loss: Loss) -> tuple[Float, Float]:
    """Return the derivatives of the data term of F, both flattened (the softmax's Hessian is (K d, K d))."""
    g, hessian = np.zeros(theta.size), np.zeros((theta.size, theta.size))
    # a wide Hessian is the cost of a step, and its last digits only turn the step a little: the gradient decides
    short = np.float32 if theta.ndim == 1 and X.shape[1] > WIDE_NEWTON else X.dtype
    for part in blocks(len(X)):
        A, t, v = X[part], y[part], w[part]
        z = margins(A, theta)
        slopes = loss.slope(z, t)
        g += gradient(A, slopes, v)
        if theta.ndim == 1:
            hessian += weighted_gram(A.astype(short, copy=False), v * loss.curvature(z, t))
        else:
            p = slopes.copy()
            p[np.arange(len(t)), t] += 1
            hessian += softmax_hessian(A, p, v)
    return g, hessian


def newton_step(hessian: Float, diagonal: Float, g: Float) -> Float:
    """Solve (hessian + diag(diagonal)) s = g, with a tiny ridge that grows until the factorisation exists.

    The ridge is needed: a common shift of the softmax's intercepts changes nothing, so its Hessian is singular.

    Examples
    --------
    >>> newton_step(np.diag([2.0, 0.0]), np.array([0.0, 4.0]), np.array([2.0, 4.0])).round(6)
    array([1., 1.])
    """
    mean = float(np.trace(hessian) + diagonal.sum()) / len(hessian)
    scale = mean if mean > 0 else 1.0
    ridge = 1e-9
    while True:
        try:
            factor = cho_factor(hessian + np.diag(diagonal + ridge * scale), lower=True)
            return np.asarray(cho_solve(factor, g), np.float64)
        except LinAlgError:
            ridge *= 100.0


def first_bad_row(X: Matrix) -> int | None:
    """Return the first row with an entry that is not a finite number (or whose square is not), else None.

    Examples
    --------
    >>> first_bad_row(np.array([[1.0], [np.nan]])), first_bad_row(np.ones((2, 1)))
    (1, None)
    """
    bad = ~np.isfinite(np.einsum("ij,ij->i", X, X))
    return int(np.argmax(bad)) if bad.any() else None
