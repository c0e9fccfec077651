"""Frequent and distinct values of one column, of any type, in small summaries that add up over partitions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from math import log, sqrt
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from coretree.errors import SchemaError

Value = str | int | float | bool
Counts = npt.NDArray[np.int64]
Words = npt.NDArray[np.uint64]

CAPACITY = 1000
PRECISION = 14
# fixed, unlike the key of Python's hash(): registers made by different processes must fit together
STRING_KEY = "coretree-strings"
FRACTION_TAG = np.uint64(0x5851F42D4C957F2D)


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


@dataclass(frozen=True, eq=False)
class DistinctCount:
    """Mergeable number of different values of a column (HyperLogLog).

    Each value's 64-bit hash names one of ``2 ** precision`` registers and offers it the number of leading zeros of the
    rest, plus one; a register keeps the largest. ``+`` takes maxima: associative, commutative, idempotent, and bit for
    bit the summary of the union. ``DistinctCount.empty()`` is the identity. Build one with `distinct_count`.
    Source: Ertl, "New cardinality estimation algorithms for HyperLogLog sketches" (2017).

    Parameters
    ----------
    registers : ndarray of uint8, shape (2 ** precision,)

    Examples
    --------
    >>> both = distinct_count(range(600)) + distinct_count(range(400, 1000))
    >>> abs(both.estimate - 1000) < 30
    True
    """

    registers: npt.NDArray[np.uint8]

    @classmethod
    def empty(cls, precision: int = PRECISION) -> Self:
        """Return the summary of no values, with ``2 ** precision`` registers: the identity of ``+``."""
        return cls(np.zeros(1 << precision, np.uint8))

    @property
    def precision(self) -> int:
        """Bits of a hash that name a register."""
        return len(self.registers).bit_length() - 1

    @property
    def relative_error(self) -> float:
        """Standard deviation of `estimate` as a share of the truth: 0.0081 at precision 14."""
        return 1.04 / sqrt(len(self.registers))

    @property
    def estimate(self) -> float:
        """Estimated number of different values, missing ones apart; nearly exact below a few hundred."""
        return _ertl(self.registers, 64 - self.precision)

    def __add__(self, other: DistinctCount) -> DistinctCount:
        """Return the summary of the union; ValueError if the precisions differ."""
        if not isinstance(other, DistinctCount):
            return NotImplemented
        if self.precision != other.precision:
            raise ValueError(f"distinct counts of precision {self.precision} and {other.precision} cannot be added")
        return DistinctCount(np.maximum(self.registers, other.registers))

    def __radd__(self, other: int) -> DistinctCount:
        """Accept the 0 that ``sum()`` starts from."""
        return self if other == 0 else NotImplemented

    def state(self) -> dict[str, npt.NDArray[Any]]:
        """Return everything as arrays, to be stored; `from_state` restores it exactly."""
        return {"registers": self.registers}

    @classmethod
    def from_state(cls, state: Mapping[str, npt.NDArray[Any]]) -> Self:
        """Restore what `state` returned."""
        return cls(state["registers"])


def heavy_hitters(values: Any, capacity: int = CAPACITY) -> HeavyHitters:
    """Count the values of one column; see `HeavyHitters`.

    Takes a pyarrow Array or ChunkedArray (plain or dictionary) of strings, numbers or booleans, or anything that
    ``pyarrow.array`` takes; nulls and NaN are missing, -0.0 is 0.0. Raises SchemaError for any other type.
    """
    if capacity < 1:
        raise ValueError(f"capacity must be at least 1, but is {capacity}")
    array = _arrow(values)
    if pa.types.is_dictionary(array.type):
        pairs = [(c.dictionary, c.indices.value_counts()) for c in array.chunks]
        found = pa.chunked_array([d.take(p.field("values")) for d, p in pairs], array.type.value_type)
        occurs = pa.chunked_array([p.field("counts") for _, p in pairs], pa.int64())
        # chunks may repeat one another's values, and a dictionary its own
        groups = pa.table({"v": _canonical(found), "n": occurs}).group_by("v", use_threads=False)
        found, occurs = groups.aggregate([("n", "sum")]).select(["v", "n_sum"]).columns
    else:
        found, occurs = pc.value_counts(_canonical(array)).flatten()
    present, counts = np.asarray(found.is_valid()), np.asarray(occurs, np.int64)
    n_missing = int(counts[~present].sum())
    keep, kept, cut = _trim(np.where(present, counts, 0), capacity)  # at 0, the missing ones are never kept
    dtype = np.dtype({pa.int64(): np.int64, pa.float64(): np.float64, pa.bool_(): np.bool_}.get(found.type, np.object_))
    names = np.array(found.filter(pa.array(keep)).to_pylist(), dtype)
    return HeavyHitters(*_ordered(names, kept), cut, len(array), n_missing, capacity)


def distinct_count(values: Any, precision: int = PRECISION) -> DistinctCount:
    """Summarise the different values of one column (input as for `heavy_hitters`); see `DistinctCount`.

    Equal numbers count once whatever their type: 1, 1.0 and True, 0.0 and -0.0. Of a dictionary array only the values
    that occur are hashed. ``precision`` lies in 12..18: ``2 ** precision`` bytes.
    """
    if not 12 <= precision <= 18:
        raise ValueError(f"precision must lie in 12..18, but is {precision}")
    array = _arrow(values)
    if pa.types.is_dictionary(array.type):
        taken = [c.dictionary.take(c.indices.unique().drop_null()) for c in array.chunks]
        array = pa.chunked_array(taken, array.type.value_type)
    return DistinctCount(_registers(_hashes(_canonical(array).drop_null()), precision))


def _arrow(values: Any) -> Any:
    array = values if isinstance(values, pa.Array | pa.ChunkedArray) else pa.array(values, from_pandas=True)
    return array if isinstance(array, pa.ChunkedArray) else pa.chunked_array([array])


def _canonical(array: Any) -> Any:
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


def _hashes(array: Any) -> Words:
    if pa.types.is_large_string(array.type):
        words = array.unique().to_numpy(zero_copy_only=False).astype(object)
        return pd.util.hash_array(words, hash_key=STRING_KEY, categorize=False)
    numbers = np.asarray(array)
    if numbers.dtype != np.float64:
        return _splitmix(numbers.astype(np.int64).view(np.uint64))
    # a whole number is hashed as the integer it is; the tag keeps fractions' bit patterns apart from integers
    whole = (numbers == np.floor(numbers)) & (np.abs(numbers) < 2.0**63)
    integers = np.where(whole, numbers, 0.0).astype(np.int64).view(np.uint64)
    return _splitmix(np.where(whole, integers, numbers.view(np.uint64) ^ FRACTION_TAG))


def _splitmix(x: Words) -> Words:
    """Finaliser of the splitmix64 generator (Steele, Lea and Flood 2014): a bijection that mixes every bit."""
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def _registers(hashes: Words, precision: int) -> npt.NDArray[np.uint8]:
    # a sentinel ends the rest of the hash; its top 53 bits are exact in a float64, whose exponent counts the zeros
    rest = (hashes << np.uint64(precision)) | np.uint64(1 << (precision - 1))
    rank = 54 - np.frexp((rest >> np.uint64(11)).astype(np.float64))[1]
    registers = np.zeros(1 << precision, np.uint8)
    np.maximum.at(registers, (hashes >> np.uint64(64 - precision)).astype(np.intp), rank.astype(np.uint8))
    return registers


def _ertl(registers: npt.NDArray[np.uint8], q: int) -> float:
    """Ertl's improved raw estimator: no bias tables, no switch between ranges."""
    m = len(registers)
    share = [int(c) / m for c in np.bincount(registers, minlength=q + 2)]
    empty, full = share[0], share[q + 1]
    if empty == 1.0:
        return 0.0
    # his sigma and tau are series; so many terms are all that a float64 can tell
    sigma = empty + sum(empty ** (1 << k) * 2.0 ** (k - 1) for k in range(1, 40))
    z = (full - sum((1.0 - (1.0 - full) ** 2.0**-k) ** 2 * 2.0**-k for k in range(1, 64))) / 3.0
    for k in range(q, 0, -1):
        z = 0.5 * (z + share[k])
    return float(m / (2.0 * log(2.0)) / (z + sigma))
