"""The pilot: which rows of a partition to try first, and the model that they give."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import logsumexp

from coretree.coreset.derivatives import (
    Matrix,
    as_floating,
    block_rows,
    blocks,
    first_bad_row,
    gradient,
    gradient_and_hessian,
    margins,
    newton_step,
    objective,
    penalty,
    weighted_gram,
)
from coretree.coreset.losses import Hinge, Loss, loss_named
from coretree.coreset.rows import Float, members
from coretree.coreset.whiten import leverages, whitener

_NEWTON_LIMIT = 600  # parameters of a softmax model up to which its Hessian is worth factoring
_MAX_STEPS = 60
_FEW_COLUMNS = 64


def pilot_scores(X: Matrix, y_codes: npt.NDArray[Any], n_classes: int) -> Float:
    """Score the rows of one partition for the pilot sketch of their class: half uniform, half leverage in the class.

    Parameters
    ----------
    X : ndarray, shape (n, d)
        Features standardised with the partition's own moments, the constant first; float32 or float64.
    y_codes : ndarray of int, shape (n,)
        Class of each row, below ``n_classes``; ignored for regression (``n_classes=1``).
    n_classes : int

    Returns
    -------
    ndarray of float64, shape (n,)
        1/2 + n_c h / (2 sum of h), h the ridge leverage in the class: positive, mean 1 in each class.

    Raises
    ------
    ValueError
        If a feature is not finite; names the first row.

    Notes
    -----
    The ridge is 1e-3 min(n_c, 50) diag(mean of x^2). At 0.1 % positives such a pilot of 4000 rows has a twentieth of
    the excess of a stratified one. Cost: 1.5 d^2 multiply-adds a row.

    Examples
    --------
    >>> X = np.column_stack([np.ones(4), [0.0, 0.0, 0.0, 9.0]])
    >>> s = pilot_scores(X, np.zeros(4, int), 1)
    >>> int(s.argmax()), round(float(s.mean()), 6)
    (3, 1.0)
    """
    X = as_floating(X)
    with np.errstate(over="ignore", invalid="ignore"):
        squares = np.array([float(column @ column) for column in X.T], np.float64)
    bad = None if np.isfinite(squares).all() else first_bad_row(X)
    if bad is not None:
        raise ValueError(f"pilot_scores: features must be finite numbers; row {bad} has one that is not")
    scores = np.ones(len(X))
    spread = np.diag(squares / max(len(X), 1))
    for own in members(y_codes, n_classes):
        A = X[own]
        if not len(A):
            continue
        gram = _gram(A) + 1e-3 * min(len(A), 50) * spread
        h = leverages(A, whitener(gram))
        total = h.sum()
        scores[own] = 0.5 + 0.5 * (len(A) * h / total if total > 0 else 1.0)
    return scores


def _gram(A: Matrix) -> Float:
    """Sum of x x', block by block: products of a few columns are fastest where a block stays in the cache."""
    d = A.shape[1]
    total = np.zeros((d, d))
    for part in blocks(len(A), block_rows(d, d)):
        block = A[part]
        # the product of a block with itself goes to BLAS's syrk, which is slow for few columns; with a copy it does not
        total += block.T @ (block.copy(order="F") if d < _FEW_COLUMNS else block)
    return 0.5 * (total + total.T)


def fit_pilot(
    X: Matrix,
    y: npt.NDArray[Any],
    w: Float,
    loss: Loss | str,
    *,
    lam: float = 1.0,
    n_classes: int | None = None,
) -> Float:
    """Minimise F(theta) over weighted rows; finite and deterministic on any finite data, separable or not.

    Parameters
    ----------
    X : ndarray, shape (n, d)
        Standardised features, the constant first.
    y : ndarray, shape (n,)
        0/1, class codes, or numbers, as the loss wants.
    w : ndarray of float64, shape (n,)
        Weights that sum to the rows represented.
    loss : Loss or str
    lam : float
        Penalty on all but the intercept; 1 is scikit-learn's ``C=1``.
    n_classes : int, optional
        Number of classes of the softmax where the rows may lack one. Default: the largest code + 1.

    Returns
    -------
    ndarray of float64, shape (d,), or (n_classes, d) for the softmax

    Notes
    -----
    Newton's method with a backtracking line search; a softmax of more than 600 parameters uses L-BFGS. The hinge is
    convolved with a Gaussian of width 0.3. A class without rows gets the intercept of half a row.

    Examples
    --------
    >>> X = np.column_stack([np.ones(4), [-1.0, -1.0, 1.0, 1.0]])
    >>> theta = fit_pilot(X, np.array([0, 0, 1, 1]), np.ones(4), "logistic")
    >>> bool(0.5 < theta[1] < 2)
    True
    """
    kind = loss_named(loss)
    if kind.name == "hinge":
        kind = Hinge(smooth=True)
    A, w = np.asarray(X, np.float64), np.asarray(w, np.float64)
    if kind.kind != "multiclass":
        return _newton(np.zeros(A.shape[1]), A, np.asarray(y), w, kind, lam)
    codes = np.asarray(y).astype(np.intp)
    present, compact = np.unique(codes, return_inverse=True)
    start = np.zeros((len(present), A.shape[1]))
    solve = _newton if start.size <= _NEWTON_LIMIT else _lbfgs
    fitted = solve(start, A, compact, w, kind, lam)
    theta = np.zeros((int(present[-1]) + 1 if n_classes is None else n_classes, A.shape[1]))
    typical = float(w @ logsumexp(margins(A, fitted), axis=1) / w.sum())
    theta[:, 0] = typical + np.log(0.5 / w.sum())
    theta[present] = fitted
    return theta


def _newton(theta: Float, X: Matrix, y: npt.NDArray[Any], w: Float, loss: Loss, lam: float) -> Float:
    """Damped Newton; stops where the decrement cannot matter, so that unbounded intercepts stay finite."""
    P, total = penalty(theta.shape, lam), float(w.sum())
    value = objective(theta, X, y, w, loss, lam)
    for _ in range(_MAX_STEPS):
        g, hessian = gradient_and_hessian(theta, X, y, w, loss)
        g += P * theta.ravel()
        step = newton_step(hessian, P, g)
        drop = float(g @ step)
        if drop <= 1e-11 * abs(value) + 1e-13 * total:
            break
        size = 1.0
        while size > 1e-8:
            trial = theta - size * step.reshape(theta.shape)
            reached = objective(trial, X, y, w, loss, lam)
            if reached <= value - 1e-4 * size * drop:
                break
            size *= 0.5
        else:
            break  # no descent left above round-off
        theta, value = trial, reached
    return theta


def _lbfgs(theta: Float, X: Matrix, y: npt.NDArray[Any], w: Float, loss: Loss, lam: float) -> Float:
    """L-BFGS on the mean objective, for models whose Hessian is too wide to factor."""
    from scipy.optimize import fmin_l_bfgs_b  # a fifth of a worker's start, for the few models that come here

    P, total = penalty(theta.shape, lam), float(w.sum())

    def value_and_gradient(flat: Float) -> tuple[float, Float]:
        at = flat.reshape(theta.shape)
        z = margins(X, at)
        value = float(w @ loss.value(z, y)) + 0.5 * float(P @ np.square(flat))
        return value / total, (gradient(X, loss.slope(z, y), w) + P * flat) / total

    found = fmin_l_bfgs_b(value_and_gradient, theta.ravel(), m=20, factr=1e3, pgtol=1e-7, maxiter=500)
    return np.asarray(found[0], np.float64).reshape(theta.shape)


def class_grams(X: Matrix, codes: npt.NDArray[Any], w: Float, n_classes: int) -> Float:
    """Return the weighted Gram matrix of each class, ridged as in :func:`pilot_scores`; shape (K, d, d).

    A class without rows takes the pooled matrix, scaled to one row.
    """
    d = X.shape[1]
    rows = [np.flatnonzero(codes == c) for c in range(n_classes)]
    grams = np.array([weighted_gram(X[own], w[own]) for own in rows]).reshape(n_classes, d, d)
    pooled = grams.sum(axis=0) / max(float(w.sum()), 1e-300)
    spread = np.diag(np.diag(pooled))
    for gram, own in zip(grams, rows, strict=True):
        if len(own):
            a_row = float(w[own].sum()) / len(own)  # what one pilot row stands for
            gram += a_row * 1e-3 * min(len(own), 50) * spread
        else:
            gram += pooled
    return grams
