"""The value types of a cleaned partition: blocks of numbers, times and category codes, and a count of every change."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from coretree.data.schema import Schema

F64 = npt.NDArray[np.float64]
Level = str | float | int | bool
MOST_ALONE = 0.5  # kinds for each row: with more of them, to find them is not worth it
MOST_COLUMNS = 50  # wide rows are seldom alike, and long looked at


@dataclass(frozen=True)
class Changes:
    """How many cells or rows were changed or dropped, by (what happened, column); ``+`` adds."""

    counts: tuple[tuple[tuple[str, str], int], ...] = ()

    @classmethod
    def of(cls, counts: Iterable[tuple[tuple[str, str], int]]) -> Changes:
        """Sum repeated keys, leave zeros out, sort."""
        total: Counter[tuple[str, str]] = Counter()
        for key, n in counts:
            total[key] += int(n)
        return cls(tuple(sorted((k, n) for k, n in total.items() if n)))

    def __add__(self, other: Changes) -> Changes:
        """Add two partitions' counts."""
        return Changes.of([*self.counts, *other.counts])

    def __radd__(self, zero: int) -> Changes:
        """Let ``sum`` work."""
        return self

    def by_column(self, what: str) -> dict[str, int]:
        """Counts of one kind of change, by column."""
        return {column: n for (kind, column), n in self.counts if kind == what}

    def state(self) -> dict[str, npt.NDArray[Any]]:
        """Arrays for storage."""
        keys = np.array([f"{kind}\t{column}" for (kind, column), _ in self.counts], dtype=object)
        return {"keys": keys, "n": np.array([n for _, n in self.counts], dtype=np.int64)}

    @classmethod
    def from_state(cls, state: dict[str, npt.NDArray[Any]]) -> Changes:
        """Inverse of ``state``."""
        keys = [tuple(str(k).split("\t", 1)) for k in state["keys"]]
        return cls.of(((k[0], k[1]), int(n)) for k, n in zip(keys, state["n"], strict=True))


@dataclass(frozen=True)
class Coded:
    """A categorical column: integer codes into the partition's own levels, -1 where missing."""

    codes: npt.NDArray[np.int32]
    levels: tuple[Level, ...]

    def take(self, index: npt.NDArray[Any]) -> Coded:
        """Some rows, the same levels."""
        return Coded(self.codes.take(index), self.levels)

    def recode(self, to: dict[Level, int], other: int) -> npt.NDArray[np.int32]:
        """Codes under another list of levels: ``to`` maps a level to its code, the rest becomes ``other``; -1 stays."""
        table = np.array([to.get(level, other) for level in self.levels] + [-1], dtype=np.int32)
        return table.take(self.codes)


@dataclass(frozen=True)
class Columns:
    """One cleaned partition, n rows.

    Attributes
    ----------
    path, row_group, offsets : str, int, (n,) uint64
        Where each row comes from.
    numbers : (n, p) float32 or float64, column-major
        Numeric and boolean features, NaN where missing; never infinite.
    times : (n, t) float64, column-major
        Datetime features in seconds since 1970 (UTC), NaN where missing.
    categories : tuple of Coded
        Categorical features.
    target : (n,) float64, Coded or None
        Quantities, or classes.
    weights : (n,) float64 or None
        Base weights, non-negative.
    keys, groups : (n,) uint64 or None
        Hashes of the user's id and group columns.
    seconds : (n,) float64 or None
        Event time.
    changes : Changes
        What cleaning did.
    """

    schema: Schema
    path: str
    row_group: int
    offsets: npt.NDArray[np.uint64]
    numbers: npt.NDArray[Any]
    times: F64
    categories: tuple[Coded, ...]
    target: F64 | Coded | None = None
    weights: F64 | None = None
    keys: npt.NDArray[np.uint64] | None = None
    groups: npt.NDArray[np.uint64] | None = None
    seconds: F64 | None = None
    changes: Changes = field(default_factory=Changes)

    def __len__(self) -> int:
        """Rows in the partition."""
        return len(self.offsets)

    def take(self, mask: npt.NDArray[np.bool_]) -> Columns:
        """The rows where ``mask`` is true; the partition itself where it is true everywhere."""
        if mask.all():
            return self
        return self.at(np.flatnonzero(mask))  # gathering by position is three times as fast as by mask

    def kinds(self) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]] | None:
        """First row of each kind, and the kind of every row: rows of one kind have the same features.

        None where it would not pay to treat them once: most are alone, or there are many columns to look at.
        """
        columns = [*self.times.T, *self.numbers.T, *(category.codes for category in self.categories)]
        kind = np.zeros(len(self), np.int64)
        if not len(self) or not 1 <= len(columns) <= MOST_COLUMNS:
            return None
        for values in columns:
            own = pd.factorize(values, use_na_sentinel=False)[0]
            kind, found = pd.factorize(kind * (own.max() + 1) + own)
            if len(found) > MOST_ALONE * len(self):
                return None
        first = np.empty(len(found), np.intp)
        first[kind[::-1]] = np.arange(len(self))[::-1]  # the last to write a place is the first row of its kind
        return first, kind

    def at(self, index: npt.NDArray[np.intp]) -> Columns:
        """The rows at these positions, in that order."""

        def cut(a: Any) -> Any:
            return None if a is None else a.take(index)

        return replace(
            self,
            offsets=self.offsets.take(index),
            numbers=take_rows(self.numbers, index),
            times=take_rows(self.times, index),
            categories=tuple(c.take(index) for c in self.categories),
            target=cut(self.target),
            weights=cut(self.weights),
            keys=cut(self.keys),
            groups=cut(self.groups),
            seconds=cut(self.seconds),
        )


def grouped(codes: npt.NDArray[np.int32]) -> npt.NDArray[np.intp]:
    """Positions of the rows class by class, in file order within a class.

    Examples
    --------
    >>> grouped(np.array([1, 0, 1, 0], dtype=np.int32)).tolist()
    [1, 3, 0, 2]
    """
    if len(codes) and 0 <= codes.min() <= codes.max() < 256:
        codes = codes.astype(np.uint8)  # numpy sorts small integers by counting them
    return np.argsort(codes, kind="stable")


def class_rows(codes: npt.NDArray[np.int32], n_classes: int) -> list[slice | npt.NDArray[np.intp]]:
    """Rows of each class: a slice, which copies nothing, where the rows are grouped by class, else positions.

    Examples
    --------
    >>> class_rows(np.array([0, 0, 2], dtype=np.int32), 3)
    [slice(0, 2, None), slice(2, 2, None), slice(2, 3, None)]
    """
    if not (codes[1:] < codes[:-1]).any():
        ends = np.searchsorted(codes, np.arange(n_classes + 1)).tolist()
        return [slice(low, high) for low, high in itertools.pairwise(ends)]
    return [np.flatnonzero(codes == code) for code in range(n_classes)]


def take_rows(block: npt.NDArray[Any], index: slice | npt.NDArray[np.intp]) -> npt.NDArray[Any]:
    """Rows of a column-major block as a column-major block (plain indexing would give a row-major one)."""
    if isinstance(index, slice):
        return block[index]
    out = np.empty((block.shape[1], len(index)), dtype=block.dtype).T
    for j in range(block.shape[1]):
        # positions are in range; "clip" spares numpy a buffer
        np.take(block[:, j], index, out=out[:, j], mode="clip")
    return out
