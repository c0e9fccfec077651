"""Folds by row identity: a row is held out of every sketch at once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from coretree.coreset.rows import uniforms

IntArray = npt.NDArray[np.intp]
Ids = npt.NDArray[np.uint64]


def folds_by_hash(ids: npt.NDArray[np.uint64], cv: int, seed: int) -> IntArray:
    """Fold of each row, (m,) in [0, cv), from its identity: the same row falls into the same fold in every sketch.

    Examples
    --------
    >>> folds = folds_by_hash(np.arange(1000, dtype=np.uint64), 5, seed=0)
    >>> bool(folds.min() == 0 and folds.max() == 4)
    True
    """
    return (uniforms(ids, seed, "folds") * cv).astype(np.intp)


def make_folds(ids: npt.NDArray[np.uint64], codes: IntArray | None, cv: int, seed: int) -> tuple[IntArray, str]:
    """Folds by hash; dealt out class by class, in hash order, where a fold would lack a class.

    Parameters
    ----------
    ids : (m,) uint64 array
    codes : (m,) int array of class codes, or None for regression
    cv : int
    seed : int

    Returns
    -------
    folds : (m,) int array in [0, cv)
    note : str
        Empty, or why the folds are not those of `folds_by_hash`.
    """
    folds = folds_by_hash(ids, cv, seed)
    groups = np.zeros(ids.size, dtype=np.intp) if codes is None else codes
    n_groups = int(groups.max()) + 1
    filled = np.zeros((n_groups, cv), dtype=bool)
    filled[groups, folds] = True
    if filled.all():
        return folds, ""
    order = np.lexsort((ids, uniforms(ids, seed, "folds"), groups))
    # One running number over all classes: the leftover rows of small classes then spread over the folds.
    folds[order] = np.arange(ids.size) % cv
    rarest = int(np.bincount(groups, minlength=n_groups).min())
    return folds, f"folds dealt out class by class: by hash, a fold lacked a class (the rarest has {rarest} rows)"


def common_folds(
    ids: Sequence[Ids], codes: Sequence[IntArray] | None, cv: int, seed: int
) -> tuple[list[IntArray], str]:
    """Folds of several samples of the same rows, dealt as `make_folds` deals the union of their rows.

    Parameters
    ----------
    ids : sequence of (m_i,) uint64 arrays
    codes : sequence of (m_i,) int arrays of class codes, or None for regression
    cv : int
    seed : int

    Returns
    -------
    folds : list of (m_i,) int arrays in [0, cv)
        A row has the same fold wherever it occurs.
    note : str
        As of `make_folds`.

    Examples
    --------
    >>> folds, note = common_folds([np.arange(9, dtype=np.uint64), np.arange(3, 6, dtype=np.uint64)], None, 2, seed=0)
    >>> bool((folds[0][3:6] == folds[1]).all()), note
    (True, '')
    """
    union, first, place = np.unique(np.concatenate(ids), return_index=True, return_inverse=True)
    known = None if codes is None else np.concatenate(codes)[first]
    folds, note = make_folds(union, known, cv, seed)
    ends = np.cumsum([len(own) for own in ids])[:-1]
    return list(np.split(folds[place], ends)), note
