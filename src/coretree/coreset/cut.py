"""The kd cut: split the worst cell at its mean, along its widest feature, until there are enough cells."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from coretree.coreset.rows import Float, Index
from coretree.errors import DataError

_Cell: TypeAlias = tuple[float, int, int, float, int, int]
"""Minus the squared error, first point, widest feature, its mean, and the cell's range in the working order."""


def cut(X: Float, weights: Float, m: int) -> Index:
    """Number the cell of each point: at most ``m`` cells, in order of their first point.

    A heap holds the cells by their weighted squared error about the mean. The worst is cut at its mean along the
    feature of largest squared error (points at the mean go left). It ends with m cells, or when no error is left. A
    cell that cannot be cut, its points being equal up to rounding, is closed.

    Parameters
    ----------
    X : ndarray of float64, shape (n, d)
        Finite.
    weights : ndarray of float64, shape (n,)
        Positive.
    m : int
        At least 1.

    Returns
    -------
    ndarray of intp, shape (n,)

    Notes
    -----
    Ties go to the cell whose first point comes first, so the result is a function of the input alone. O(n d log m).

    Examples
    --------
    >>> cut(np.array([[0.0], [9.0], [1.0], [9.0]]), np.ones(4), 2).tolist()
    [0, 1, 0, 1]
    """
    n = len(X)
    label = np.zeros(n, np.intp)
    if n == 0:
        return label
    # cells are ranges of a working copy that is partitioned in place: every cut reads and writes contiguous memory
    points, mass, order = np.ascontiguousarray(X).copy(), weights.copy(), np.arange(n)
    heap = [_measure(points, mass, order, 0, n)]
    while len(heap) < m and heap[0][0] < 0:
        _, first, axis, at, low, high = heapq.heappop(heap)
        left = points[low:high, axis] <= at
        middle = low + int(np.count_nonzero(left))
        if middle in (low, high):
            heapq.heappush(heap, (0.0, first, axis, at, low, high))
            continue
        index = np.concatenate([np.flatnonzero(left), np.flatnonzero(~left)])
        for values in (points, mass, order):
            values[low:high] = values[low:high].take(index, axis=0)
        heapq.heappush(heap, _measure(points, mass, order, low, middle))
        heapq.heappush(heap, _measure(points, mass, order, middle, high))
    for number, cell in enumerate(sorted(heap, key=_first_point)):
        label[order[cell[4] : cell[5]]] = number
    return label


def _first_point(cell: _Cell) -> int:
    return cell[1]


def _measure(points: Float, mass: Float, order: Index, low: int, high: int) -> _Cell:
    P, w = points[low:high], mass[low:high]
    # einsum and not a BLAS product: its bits do not depend on the number of threads
    mean = np.einsum("i,ij->j", w, P) / w.sum()
    error = np.einsum("i,ij,ij->j", w, D := P - mean, D)
    axis = int(error.argmax())
    return (-float(error.sum()), int(order[low]), axis, float(mean[axis]), low, high)


def kd_rows(X: npt.ArrayLike, weights: npt.ArrayLike | None, m: int, *, uniforms: Float) -> tuple[Index, Float]:
    """Choose one real row of each of ``m`` cells, in proportion to weight, to stand for the cell.

    For k-medians, k-medoids and whatever needs real rows. Any weighted sum is unbiased, through every level of a tree
    whose levels use uniforms of their own purpose.

    Parameters
    ----------
    X : array_like, shape (n, d)
    weights : array_like, shape (n,), or None
        Positive; None is 1 each.
    m : int
    uniforms : ndarray, shape (n,)
        In (0, 1), from the row identities (see `coretree.coreset.rows.uniforms`).

    Returns
    -------
    index : ndarray of intp, shape (at most m,)
        Rows chosen.
    weights : ndarray of float64
        Weight of each one's cell.

    Examples
    --------
    >>> rows, w = kd_rows([[0.0], [1.0], [9.0]], None, 2, uniforms=np.array([0.9, 0.1, 0.5]))
    >>> rows.tolist(), w.tolist()
    ([0, 2], [2.0, 1.0])
    """
    A = np.asarray(X, np.float64)
    w = np.ones(len(A)) if weights is None else np.asarray(weights, np.float64)
    check_finite(A, None)
    if not (w > 0).all():
        raise ValueError("weights must be positive: leave out the rows that weigh nothing")
    if len(A) <= m:
        return np.arange(len(A)), w.copy()
    label = cut(A, w, m)
    # of independent exponentials of rates w the smallest is row i with probability w_i / sum w
    order = np.lexsort((-np.log(uniforms) / w, label))
    first = order[np.r_[True, np.diff(label[order]) > 0]]
    return first, np.bincount(label, w)[label[first]].astype(np.float64)


def check_finite(A: Float, names: Sequence[str] | None) -> None:
    """Raise a DataError that names the first feature with a NaN or an infinity."""
    bad = ~np.isfinite(A)
    if not bad.any():
        return
    column = int(bad.any(axis=0).argmax())
    name, row = repr(names[column]) if names is not None else str(column), int(bad[:, column].argmax())
    raise DataError(
        f"feature {name} must be finite for clustering, but {int(bad[:, column].sum())} values are NaN or infinite; "
        f"first: row {row}. Impute missing values in the preparation."
    )
