"""Frequent values of one column, of any type, in a small summary that adds up over partitions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from coretree.errors import SchemaError

Value = str | int | float | bool
Counts = npt.NDArray[np.int64]

CAPACITY = 1000


@dataclass(frozen=True, eq=False)
class HeavyHitters:
    """Mergeable counts of a column's most frequent values (Misra-Gries), exact until there are too many values.

    With more than ``capacity`` different values, the (capacity + 1)-th largest count is subtracted from all and added
    to ``err``; what is left is kept. So in any merge tree ``0 <= true - kept <= err <= n_present / (capacity + 1)``,
    and a value that is not kept occurs at most ``err`` times. ``+`` is associative exactly while ``err`` is 0, and
    within that bound afterwards; ``HeavyHitters.empty()`` is the identity. Build one with `heavy_hitters`. Source:
    Misra and Gries (1982); merging: Agarwal et al., "Mergeable summaries" (2013).

    Parameters
    ----------
    values : ndarray, shape (k,), of str (as object), int64, float64 or bool
        The values kept, all of one type: the most frequent first, equally frequent ones in increasing order.
    counts : ndarray of int64, shape (k,)
        Occurrences, too low by at most ``err``.
    err : int
        Largest undercount.
    n_rows, n_missing : int
        Rows seen, and those among them without a value (null or NaN).
    capacity : int
        Number of counters. Two summaries merge to the smaller of theirs.

    Examples
    --------
    >>> import pyarrow as pa
    >>> both = heavy_hitters(pa.array(["UA", "AA", None])) + heavy_hitters(pa.array(["UA"]))
    >>> both.top(2), both.n_missing, both.exact
    ([('UA', 2), ('AA', 1)], 1, True)
    """

    values: npt.NDArray[Any]
    counts: Counts
    err: int
    n_rows: int
    n_missing: int
    capacity: int = CAPACITY

    @classmethod
    def empty(cls, capacity: int = CAPACITY) -> Self:
        """Return the counts of no rows, of no type yet: the identity of ``+``."""
        return cls(np.zeros(0, object), np.zeros(0, np.int64), 0, 0, 0, capacity)

    @property
    def exact(self) -> bool:
        """Whether every value is here with its true count."""
        return self.err == 0

    def top(self, k: int) -> list[tuple[Value, int]]:
        """Return the `k` most frequent values as plain Python values, each with its count."""
        return list(zip(self.values[:k].tolist(), self.counts[:k].tolist(), strict=True))

    def count(self, value: Value) -> int:
        """Return how often `value` occurs, too low by at most ``err``; 0 if it is not kept."""
        return dict(self.top(len(self.values))).get(value, 0)

    def __add__(self, other: HeavyHitters) -> HeavyHitters:
        """Return the counts over both sets of rows; SchemaError if one counted, say, strings and the other numbers."""
        if not isinstance(other, HeavyHitters):
            return NotImplemented
        typed = [side.values for side in (self, other) if len(side.values)]
        if len({v.dtype for v in typed}) > 1:
            found = " and ".join(f"{type(v[0]).__name__} ({v.tolist()[0]!r})" for v in typed)
            must = "values of one column must have one type in all partitions"
            raise SchemaError(f"{must}, but two of them hold {found}; cast the column when it is cleaned")
        merged = Counter(dict(self.top(len(self.values))))
        merged.update(dict(other.top(len(other.values))))
        # without a value on either side, the side that knows its type decides
        dtype = (typed or sorted((self.values, other.values), key=lambda v: v.dtype.hasobject))[0].dtype
        capacity = min(self.capacity, other.capacity)
        keep, counts, cut = _trim(np.fromiter(merged.values(), np.int64, len(merged)), capacity)
        values, counts = _ordered(np.array(list(merged), dtype)[keep], counts)
        rows, missing = self.n_rows + other.n_rows, self.n_missing + other.n_missing
        return HeavyHitters(values, counts, self.err + other.err + cut, rows, missing, capacity)

    def __radd__(self, other: int) -> HeavyHitters:
        """Accept the 0 that ``sum()`` starts from."""
        return self if other == 0 else NotImplemented

    def state(self) -> dict[str, npt.NDArray[Any]]:
        """Return everything as arrays, to be stored; `from_state` restores it exactly, with the type of the values."""
        numbers = np.array([self.err, self.n_rows, self.n_missing, self.capacity], np.int64)
        return {"values": self.values, "counts": self.counts, "numbers": numbers}

    @classmethod
    def from_state(cls, state: Mapping[str, npt.NDArray[Any]]) -> Self:
        """Restore what `state` returned."""
        return cls(state["values"], state["counts"], *state["numbers"].tolist())


def heavy_hitters(values: Any, capacity: int = CAPACITY) -> HeavyHitters:
    """Count the values of one column; see `HeavyHitters`.

    Takes a pyarrow Array or ChunkedArray (plain or dictionary) of strings, numbers or booleans, or anything that
    ``pyarrow.array`` takes; nulls and NaN are missing, -0.0 is 0.0. Raises SchemaError for any other type.
    """
    if capacity < 1:
        raise ValueError(f"capacity must be at least 1, but is {capacity}")
    array = chunked(values)
    if pa.types.is_dictionary(array.type):
        found, occurs = _dictionary_counts(array)
    else:
        found, occurs = pc.value_counts(canonical(array)).flatten()
    present, counts = np.asarray(found.is_valid()), np.asarray(occurs, np.int64)
    n_missing = int(counts[~present].sum())
    keep, kept, cut = _trim(np.where(present, counts, 0), capacity)  # at 0, the missing ones are never kept
    dtype = np.dtype({pa.int64(): np.int64, pa.float64(): np.float64, pa.bool_(): np.bool_}.get(found.type, np.object_))
    names = np.array(found.filter(pa.array(keep)).to_pylist(), dtype)
    return HeavyHitters(*_ordered(names, kept), cut, len(array), n_missing, capacity)


def _dictionary_counts(array: Any) -> tuple[Any, Any]:
    """Values of a dictionary array that occur, and how often; a null is a value of its own."""
    found, occurs = [], []
    for chunk in array.chunks:
        counts = np.bincount(np.asarray(chunk.indices.drop_null()))  # several times as fast as counting values
        live = np.flatnonzero(counts)
        gaps = [chunk.null_count] if chunk.null_count else []
        found += [chunk.dictionary.take(pa.array(live)), pa.nulls(len(gaps), array.type.value_type)]
        occurs += [counts[live], gaps]
    values = canonical(pa.chunked_array(found, array.type.value_type))
    n = np.concatenate([[], *occurs]).astype(np.int64)
    if pc.count_distinct(values, mode="all").as_py() == len(values):
        return values, n
    # chunks may repeat one another's values, and a dictionary its own
    groups = pa.table({"v": values, "n": n}).group_by("v", use_threads=False)
    return tuple(groups.aggregate([("n", "sum")]).select(["v", "n_sum"]).columns)


def chunked(values: Any) -> Any:
    """Anything that ``pyarrow.array`` takes, as a ChunkedArray."""
    array = values if isinstance(values, pa.Array | pa.ChunkedArray) else pa.array(values, from_pandas=True)
    return array if isinstance(array, pa.ChunkedArray) else pa.chunked_array([array])


def canonical(array: Any) -> Any:
    """Bring a plain array to large_string, int64, float64 (NaN as null, one zero), bool or null."""
    kind = array.type
    if pa.types.is_boolean(kind) or pa.types.is_null(kind):
        return array
    if pa.types.is_floating(kind):
        array = pc.add(array.cast(pa.float64()), 0.0)  # -0.0 + 0.0 is 0.0
        return pc.if_else(pc.is_nan(array), None, array)
    if pa.types.is_integer(kind) and not (kind == pa.uint64() and (pc.max(array).as_py() or 0) >= 1 << 63):
        return array.cast(pa.int64())
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or kind == pa.string_view():
        return array.cast(pa.large_string())
    must = "counted values must be strings, booleans or numbers below 2**63"
    raise SchemaError(f"{must}, but the column is {kind}; cast it to string, or leave it out")


def _trim(counts: Counts, capacity: int) -> tuple[npt.NDArray[np.bool_], Counts, int]:
    """Return which counters stay, what is left of their counts, and how much was taken off each."""
    cut = int(np.partition(counts, -capacity - 1)[-capacity - 1]) if len(counts) > capacity else 0
    return counts > cut, counts[counts > cut] - cut, cut


def _ordered(values: npt.NDArray[Any], counts: Counts) -> tuple[npt.NDArray[Any], Counts]:
    order = np.lexsort((values, -counts))
    return values[order], counts[order]
