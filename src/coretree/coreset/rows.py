"""Rows are named columns, and a row's identity decides its fate: hashing, selecting and joining them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Float: TypeAlias = npt.NDArray[np.float64]
Ids: TypeAlias = npt.NDArray[np.uint64]
Index: TypeAlias = npt.NDArray[np.intp]
Rows: TypeAlias = Mapping[str, npt.NDArray[Any]]
"""Named arrays of equal first dimension: the payload of a sketch."""

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX1, _MIX2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_BLOCK = 1 << 15  # words that are mixed while they are in the cache


def n_rows(rows: Rows) -> int:
    """Return the common first dimension of the columns.

    Raises
    ------
    ValueError
        If two columns differ in length; the message names the first that does.

    Examples
    --------
    >>> n_rows({"x": np.zeros(3), "y": np.zeros((3, 2))})
    3
    """
    lengths = {name: len(column) for name, column in rows.items()}
    first = next(iter(lengths.values()), 0)
    odd = next((name for name, length in lengths.items() if length != first), None)
    if odd is not None:
        raise ValueError(f"rows: all columns must have the same length; {odd!r} has {lengths[odd]}, the first {first}")
    return first


def members(codes: npt.NDArray[Any], n_classes: int) -> list[slice | npt.NDArray[np.intp]]:
    """Rows of each class; where they are grouped by class, slices, which copy nothing.

    Examples
    --------
    >>> members(np.array([0, 0, 2]), 3)
    [slice(0, 2, None), slice(2, 2, None), slice(2, 3, None)]
    """
    if n_classes == 1:
        return [slice(0, len(codes))]
    if (codes[1:] < codes[:-1]).any():
        return [np.flatnonzero(codes == c) for c in range(n_classes)]
    ends = np.searchsorted(codes, np.arange(n_classes + 1)).tolist()
    return [slice(low, high) for low, high in pairwise(ends)]


def take(rows: Rows, index: npt.NDArray[Any]) -> dict[str, npt.NDArray[Any]]:
    """Copy the rows at ``index`` (positions or a mask) out of every column.

    Examples
    --------
    >>> take({"x": np.array([5, 6, 7])}, np.array([2, 0]))
    {'x': array([7, 5])}
    """
    return {name: _pick(column, index) for name, column in rows.items()}


def _pick(column: npt.NDArray[Any], index: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Rows of one payload column, in its own memory order: across the columns of a column-major block numpy is slow."""
    if column.ndim != 2 or not column.flags.f_contiguous or index.dtype == np.bool_:
        return column[index]
    out = np.empty((column.shape[1], len(index)), column.dtype).T
    for j in range(column.shape[1]):
        out[:, j] = column[:, j].take(index)
    return out


def concatenate(parts: Sequence[Rows]) -> dict[str, npt.NDArray[Any]]:
    """Put parts with the same column names one below the other, in the column order of the first part.

    Raises
    ------
    ValueError
        If there is no part, or if the names differ.

    Examples
    --------
    >>> concatenate([{"x": np.array([1.0])}, {"x": np.array([2.0, 3.0])}])
    {'x': array([1., 2., 3.])}
    """
    if not parts:
        raise ValueError("concatenate: at least one part is needed, since an empty list says nothing about the columns")
    names = list(parts[0])
    for i, part in enumerate(parts):
        if set(part) != set(names):
            raise ValueError(f"concatenate: part {i} has columns {sorted(part)}, but part 0 has {sorted(names)}")
    return {name: np.concatenate([part[name] for part in parts]) for name in names}


def splitmix64(x: npt.ArrayLike) -> Ids:
    """Mix 64-bit words: a bijection in which every input bit flips about half of the output bits.

    Parameters
    ----------
    x : array_like of uint64
        Words; any shape.

    Returns
    -------
    ndarray of uint64, same shape

    Notes
    -----
    The finaliser of the splitmix64 generator (Steele, Lea, Flood 2014); arithmetic is modulo 2**64.

    Examples
    --------
    >>> int(splitmix64(0)) == 0xE220A8397B1DCDAF
    True
    """
    with np.errstate(over="ignore"):
        # the only copy: everything below works in it, while a block is in the cache
        z = np.array(x, np.uint64, order="C")
        flat, room = z.reshape(-1), np.empty(min(z.size, _BLOCK), np.uint64)
        for start in range(0, len(flat), _BLOCK):
            part = flat[start : start + _BLOCK]
            shifted = room[: len(part)]
            part += _GOLDEN
            for shift, factor in ((30, _MIX1), (27, _MIX2), (31, None)):
                part ^= np.right_shift(part, np.uint64(shift), out=shifted)
                if factor is not None:
                    part *= factor
        return z


def _word(text: str) -> np.uint64:
    """Return 64 bits of blake2b of a text, little endian: the same on every machine."""
    return np.uint64(int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little"))


def row_ids(path: str, row_group: int, offsets: npt.ArrayLike) -> Ids:
    """Identify physical rows by where they are stored, and by nothing else.

    Parameters
    ----------
    path : str
        Dataset-relative posix path: moving the whole dataset must not change the sample.
    row_group : int
        Number of the row group in the file.
    offsets : array_like of int, shape (n,)
        Position of each row in its row group.

    Returns
    -------
    ndarray of uint64, shape (n,)

    Examples
    --------
    >>> ids = row_ids("2024/03.parquet", 0, np.arange(3))
    >>> len(set(ids.tolist())), bool(ids[1] == row_ids("2024/03.parquet", 0, [1])[0])
    (3, True)
    """
    head = splitmix64(splitmix64(_word(path)) ^ np.uint64(row_group))
    return splitmix64(head ^ np.asarray(offsets).astype(np.uint64))


def uniforms(ids: npt.ArrayLike, seed: int, purpose: str) -> Float:
    """Give each row a number in (0, 1) that depends on its identity, the seed and the purpose alone.

    Parameters
    ----------
    ids : array_like of uint64, shape (n,)
        Row identities.
    seed : int
        The user's seed.
    purpose : str
        What the numbers are for ("split", "pilot", "robust", ...). Purposes are independent of one another: a score
        must never depend on the number it is divided into.

    Returns
    -------
    ndarray of float64, shape (n,)
        Strictly between 0 and 1, 53 bits each.

    Examples
    --------
    >>> u = uniforms([7, 8], 0, "split")
    >>> bool(((0 < u) & (u < 1)).all()), bool((u != uniforms([7, 8], 0, "pilot")).all())
    (True, True)
    """
    word = splitmix64(np.asarray(ids, np.uint64) ^ splitmix64(_word(f"{seed}\x00{purpose}")))
    word >>= np.uint64(11)
    u = word.view(np.int64).astype(np.float64)  # 53 bits: signed words convert eight times as fast
    u += 0.5
    u *= 2.0**-53
    return u
