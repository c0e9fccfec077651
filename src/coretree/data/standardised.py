"""Columns in units of their spread, before any preparation is frozen: what pass 1 scores its rows by."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from coretree.data.moments import Moments


def standardised(block: npt.NDArray[Any], found: Moments) -> npt.NDArray[Any]:
    """Return the columns of ``block`` in units of their spread, after a constant first one; missing cells at the mean.

    From (n, p) of float32 or float64 to (n, p + 1) of the same type, column-major and finite.

    Examples
    --------
    >>> from coretree.data.moments import moments
    >>> X = np.array([[1.0], [3.0], [np.nan]])
    >>> standardised(X, moments(X)).tolist()
    [[1.0, -1.0], [1.0, 1.0], [1.0, 0.0]]
    """
    out = np.empty((block.shape[1] + 1, len(block)), dtype=block.dtype).T
    out[:, 0] = 1
    spread = np.where(found.std > 0, found.std, 1.0)
    with np.errstate(over="ignore", invalid="ignore"):
        for j in range(block.shape[1]):
            column = out[:, j + 1]
            np.subtract(block[:, j], block.dtype.type(found.mean[j]), out=column)
            column *= block.dtype.type(1 / spread[j])
            if len(column) and not -np.inf < column.min() <= column.max() < np.inf:  # false for a NaN, too
                np.nan_to_num(column, copy=False, nan=0.0, posinf=0.0, neginf=0.0)
    return out
