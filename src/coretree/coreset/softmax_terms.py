"""A softmax pilot's sums and scores in one sweep over blocks of rows; the maps that rows of any loss are scored by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from coretree.coreset.derivatives import Matrix, as_floating, block_rows, blocks
from coretree.coreset.rows import Float, members

if TYPE_CHECKING:
    from coretree.coreset.scores import PilotState

_LEAST_BLOCK = 1_536  # rows: with fewer, calls cost more than the cache saves


@dataclass(frozen=True, eq=False)
class SoftmaxTerms:
    """What a sweep over rows leaves.

    Attributes
    ----------
    loss : float
        Weighted loss at the pilot.
    gradient, sums : ndarray of float64, shape (K, d)
        Of the loss, and weighted feature sums of each class.
    pull : ndarray of float64, shape (n,)
        R sqrt(x'M^-1 x) of each row: R^2 = sum of r_c^2 / v_c, r the slopes p - e_y, M the pooled Gram matrix. Empty
        where no scores were asked for.
    leverage : ndarray of float64, shape (n,)
        x'G^-1 x in the row's class, at most 1. Empty as well.
    """

    loss: float
    gradient: Float
    sums: Float
    pull: Float
    leverage: Float


def softmax_terms(
    X: Matrix,
    y: npt.NDArray[Any],
    state: PilotState,
    base: npt.NDArray[Any] | None = None,
    *,
    scored: bool = True,
) -> SoftmaxTerms:
    """Sum and score rows at a softmax pilot; rows that are grouped by class are not copied.

    Parameters
    ----------
    X : ndarray, shape (n, d)
        Float32 or float64 rows, the constant first; F order is fastest.
    y : ndarray, shape (n,)
        Class codes.
    state : PilotState
    base : ndarray, shape (n,), optional
        Base weights: of the sums, not of the scores. Default: 1 each.
    scored : bool
        Whether ``pull`` and ``leverage`` are wanted.

    Notes
    -----
    Products of a block are in X's precision, their sums in float64. Cost a row: 2 K d multiply-adds, and d^2 for the
    scores.

    Examples
    --------
    >>> from coretree.coreset.scores import pilot_state
    >>> X, y = np.column_stack([np.ones(6), np.arange(6.0)]), np.array([0, 0, 1, 1, 2, 2])
    >>> terms = softmax_terms(X, y, pilot_state(X, y, np.ones(6), "softmax", [2, 2, 2]))
    >>> terms.sums.tolist(), abs(float(terms.gradient[:, 0].sum())) < 1e-12
    ([[2.0, 1.0], [2.0, 5.0], [2.0, 9.0]], True)
    """
    X, K, n = as_floating(X), state.n_classes, len(X)
    loss, gradient, sums = 0.0, np.zeros(state.theta.shape), np.zeros(state.theta.shape)
    pull, leverage, floor = np.empty(n * scored), np.empty(n * scored), (1.0 / state.spread).astype(X.dtype)
    with np.errstate(over="ignore", invalid="ignore"):  # of what is not finite, whoever uses it tells
        for c, own in enumerate(members(state.codes(y), K)):
            A = X[own]
            maps, mix = (
                a.astype(X.dtype) for a in (state.joint_maps[c] if scored else (state.theta, np.zeros((0, 0))))
            )
            weight = None if base is None else base[own].astype(X.dtype)
            found = np.empty((2, len(A)))
            for part in blocks(len(A), max(block_rows(*maps.shape), _LEAST_BLOCK)):
                block, v = A[part], None if weight is None else weight[part]
                products, value = _at_softmax(maps, block, c, K)
                slopes = products[: K + 1]
                if v is not None:
                    value, slopes = value * v, slopes * v
                loss += float(value.sum(dtype=np.float64))
                added = slopes @ block
                sums[c] += added[0]
                gradient += added[1:]
                if scored:
                    squares = np.square(products[1:], out=products[1:])
                    lengths = np.fmin(mix @ squares[K:], X.dtype.type(1))  # an overflow is a row far out
                    found[0, part], found[1, part] = np.sqrt(floor @ squares[:K] * lengths[0]), lengths[1]
            if scored:
                pull[own], leverage[own] = found
    return SoftmaxTerms(loss, gradient, sums, pull, leverage)


def joint_maps(state: PilotState) -> list[tuple[Matrix, Matrix]]:
    """What rows of each class are multiplied by, and the mix (2, m) of the squares of what comes out after the margins.

    The mix gives x'M^-1 x and x'G^-1 x. One basis V whitens for both matrices: M^-1 = V V', G^-1 = V diag(s) V'
    (the singular vectors of W_M^-1 W_G); sketched whiteners of wide data are not square and stand side by side.
    """
    W, (d, r), found = state.hessian_whitener, state.hessian_whitener.shape, []
    for own in state.class_whiteners:
        basis, mix = np.hstack([W, own]), np.kron(np.eye(2), np.ones(r))
        if d == r:
            left, sizes, _ = np.linalg.svd(np.linalg.solve(W, own))
            basis, mix = W @ left, np.vstack([np.ones(d), np.square(sizes)])
        found.append((np.vstack([state.theta, basis.T]), mix))
    return found


def _at_softmax(maps: Matrix, block: Matrix, c: int, K: int) -> tuple[Matrix, Matrix]:
    """Ones, the slopes p - e_c and the whitened rows of a block, as columns, and the loss of each."""
    # features first: a reduction over few classes then runs along the rows, which vectorises
    products = np.empty((1 + len(maps), len(block)), block.dtype)
    products[0] = 1
    np.matmul(maps, block.T, out=products[1:])
    z = products[1 : K + 1]
    z -= z.max(axis=0)
    own = z[c].copy()
    np.exp(z, out=z)
    total = z.sum(axis=0)
    z /= total
    z[c] -= 1
    return products, np.log(total) - own
