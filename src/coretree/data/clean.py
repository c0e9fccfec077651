"""One chunk of any Arrow types becomes blocks of clean columns; every cell or row that changes is counted."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from coretree.data.columns import F64, Changes, Coded, Columns, Level
from coretree.data.read import Chunk
from coretree.data.schema import Schema
from coretree.errors import ConfigError, DataError

LARGEST_EXACT_INTEGER = 2**53
_HASH_KEY = "coretree-row-key"  # 16 bytes, as pandas.util.hash_array wants


@dataclass(frozen=True)
class CleanRules:
    """How cells are read; the same for training and for held-out rows, and part of the recipe.

    Parameters
    ----------
    missing_values : sequence of str
        Texts that stand for a missing value, such as "?" or "NA"; compared after stripping blanks.
    infinite : {"missing", "fail"}
        What becomes of ±inf. It is counted either way, before any statistic sees it.
    """

    missing_values: tuple[str, ...] = ()
    infinite: Literal["missing", "fail"] = "missing"

    def __post_init__(self) -> None:
        """Accept any sequence."""
        object.__setattr__(self, "missing_values", tuple(self.missing_values))
        if self.infinite not in ("missing", "fail"):
            raise ConfigError(f"clean.infinite='{self.infinite}' is unknown; use 'missing' or 'fail'.")

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)


class _Cleaner:
    """The columns of one chunk, with the changes made so far."""

    def __init__(self, chunk: Chunk, schema: Schema, rules: CleanRules) -> None:
        self.table, self.schema, self.rules = chunk.table, schema, rules
        self.where = f"{chunk.path}, row group {chunk.row_group}"
        self.counts: list[tuple[tuple[str, str], int]] = []

    def note(self, what: str, column: str, n: int) -> None:
        if n:
            self.counts.append(((what, column), int(n)))

    def column(self, name: str) -> pa.ChunkedArray:
        return self.table.column(name)

    def number(self, name: str) -> npt.NDArray[Any]:
        """A float array with NaN for missing; text is parsed, ±inf becomes missing."""
        column = self.column(name)
        if _is_text(column.type):
            values = self._parsed(name, lambda text: pd.to_numeric(text, errors="coerce").to_numpy(float))
        elif pt.is_floating(column.type):
            values = column.to_numpy()
        else:
            values = self._integers(name, column)
        infinite = np.isinf(values)
        n = np.count_nonzero(infinite)
        if n:
            if self.rules.infinite == "fail":
                raise DataError(
                    f"{self.where}: column '{name}' holds {n} infinite values. Set clean.infinite = \"missing\" to read them as missing."
                )
            self.note("infinite", name, n)
            values = np.where(infinite, np.nan, values)
        return values

    def _integers(self, name: str, column: pa.ChunkedArray) -> npt.NDArray[Any]:
        if pt.is_null(column.type):
            return np.full(len(column), np.nan)
        if pt.is_boolean(column.type):
            column = column.cast(pa.int8())
        if pt.is_integer(column.type) and column.type.bit_width == 64:
            span = pc.min_max(column).as_py()
            if span["max"] is not None and max(abs(span["min"]), span["max"]) > LARGEST_EXACT_INTEGER:
                raise DataError(
                    f"{self.where}: column '{name}' holds the integer {max(span['min'], span['max'], key=abs)}, which is not exact as a "
                    f'floating-point number. If it is an identifier, drop it: drop = ["{name}"]; if it is a code, categorical = ["{name}"].'
                )
        return column.cast(pa.float64(), safe=False).to_numpy()

    def _parsed(self, name: str, parse: Any) -> npt.NDArray[Any]:
        """Parse the distinct texts once, spread the results over the rows; count what did not parse."""
        coded = self.coded(name)
        if not coded.levels:
            return np.full(len(coded.codes), np.nan)
        parsed = np.append(parse(pd.Series([str(v) for v in coded.levels], dtype=object)), np.nan)
        values = parsed[coded.codes]
        self.note("unparsable", name, np.count_nonzero(np.isnan(values) & (coded.codes >= 0)))
        return values

    def seconds(self, name: str) -> F64:
        """Seconds since 1970 (UTC), NaN where missing."""
        column = self.column(name)
        if _is_text(column.type):
            return np.asarray(self._parsed(name, _parse_times), dtype=np.float64)
        if pt.is_null(column.type):
            return np.full(len(column), np.nan)
        micro = column.cast(pa.timestamp("us", tz=column.type.tz if pt.is_timestamp(column.type) else None), safe=False)
        return np.asarray(
            pc.divide(micro.cast(pa.int64()).cast(pa.float64(), safe=False), 1e6).to_numpy(), dtype=np.float64
        )

    def coded(self, name: str, *, native: bool = False) -> Coded:
        """Codes and levels of a categorical column; ``native`` keeps integers as they are (class labels)."""
        column = self.column(name)
        if pt.is_null(column.type):
            return Coded(np.full(len(column), -1, dtype=np.int32), ())
        if not pt.is_dictionary(column.type):
            column = column.dictionary_encode()
        array = column.unify_dictionaries().combine_chunks()
        array = array.chunk(0) if isinstance(array, pa.ChunkedArray) else array
        codes = array.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int32, copy=False)
        return self._tidy(codes, array.dictionary.to_pylist(), native)

    def _tidy(self, codes: npt.NDArray[np.int32], raw: list[Any], native: bool) -> Coded:
        """Map texts that mean "missing", NaN and nulls to -1, numbers to float, and drop repeated levels."""
        marks = set(self.rules.missing_values)
        place: dict[Level, int] = {}
        table = np.empty(len(raw) + 1, dtype=np.int32)
        table[-1] = -1
        for i, value in enumerate(raw):
            missing = value is None or value != value or (isinstance(value, str) and value.strip() in marks)
            table[i] = -1 if missing else place.setdefault(value if native else _level(value), len(place))
        return Coded(table[codes], tuple(place))

    def hashes(self, name: str) -> npt.NDArray[np.uint64]:
        """64-bit hashes of a column's values, the same in every process; null hashes like a value of its own."""
        values = self.column(name).to_pandas()
        return np.asarray(
            pd.util.hash_array(np.asarray(values.astype(str), dtype=object), hash_key=_HASH_KEY), dtype=np.uint64
        )

    def weights(self, name: str) -> F64:
        values = np.asarray(self.number(name), dtype=np.float64)
        negative = np.flatnonzero(values < 0)
        if len(negative):
            raise DataError(
                f"{self.where}: weight column '{name}' holds {len(negative)} negative values (first: {values[negative[0]]:g}). Weights must be at least 0."
            )
        return values


def clean(chunk: Chunk, schema: Schema, rules: CleanRules) -> Columns:
    """Turn one chunk into clean columns.

    Rows without a target or with a missing weight are dropped and counted; everything else that is missing stays
    missing (NaN, or code -1) for the preparation to fill.

    Raises
    ------
    DataError
        A weight is negative, an integer is not exact in float64, or ±inf where the rules say "fail".
    """
    c = _Cleaner(chunk, schema, rules)
    n = chunk.table.num_rows
    numbers = np.empty((len(schema.numbers), n), dtype=schema.number_dtype).T
    for j, name in enumerate(schema.numbers):
        numbers[:, j] = c.number(name)
    times = np.empty((len(schema.times), n)).T
    for j, name in enumerate(schema.times):
        times[:, j] = c.seconds(name)
    categories = tuple(c.coded(name) for name in schema.categories)
    target: F64 | Coded | None = None
    live = np.ones(n, dtype=bool)
    if schema.target is not None and schema.target in chunk.table.column_names:
        target = (
            c.coded(schema.target, native=True)
            if schema.task == "classification"
            else np.asarray(c.number(schema.target), dtype=np.float64)
        )
        live = target.codes >= 0 if isinstance(target, Coded) else ~np.isnan(target)
        c.note("dropped: no target", schema.target, n - np.count_nonzero(live))
    weights = c.weights(schema.weight) if schema.weight is not None else None
    if weights is not None:
        c.note("dropped: no weight", str(schema.weight), np.count_nonzero(np.isnan(weights)))
        live &= ~np.isnan(weights)
    out = Columns(
        schema=schema,
        path=chunk.path,
        row_group=chunk.row_group,
        offsets=np.arange(chunk.offset, chunk.offset + n, dtype=np.uint64),
        numbers=numbers,
        times=times,
        categories=categories,
        target=target,
        weights=weights,
        keys=c.hashes(schema.id) if schema.id is not None else None,
        groups=c.hashes(schema.group) if schema.group is not None else None,
        seconds=c.seconds(schema.time) if schema.time is not None else None,
        changes=Changes.of([*c.counts, (("rows read", ""), n)]),
    )
    return out.take(live)


def _parse_times(text: pd.Series[str]) -> F64:
    when = pd.to_datetime(text, errors="coerce", utc=True, format="mixed")
    return np.asarray((when - pd.Timestamp(0, tz="UTC")) / pd.Timedelta(seconds=1), dtype=np.float64)


def _level(value: Any) -> Level:
    """Numbers as float (so that 1 and 1.0 are one level), everything else as text."""
    return float(value) if isinstance(value, int | float) else str(value)


def _is_text(type_: pa.DataType) -> bool:
    if pt.is_dictionary(type_):
        return _is_text(type_.value_type)
    return bool(pt.is_string(type_) or pt.is_large_string(type_) or pt.is_string_view(type_))
