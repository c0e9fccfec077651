"""One chunk of any Arrow types becomes blocks of clean columns; every cell or row that changes is counted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from coretree.data.columns import F64, Changes, Coded, Columns, Level
from coretree.data.levels import codes_and_values, label_level, number_level, parse_numbers, text_level
from coretree.data.read import Chunk
from coretree.data.schema import Feature, Schema, is_text
from coretree.data.timestamps import to_seconds
from coretree.errors import ConfigError, DataError

LARGEST_EXACT_INTEGER = 2**53
_HASH_KEY = "coretree-row-key"  # 16 bytes, as pandas.util.hash_array wants
_NO_VALUE = "\0no value"  # hashed in place of null


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
        marks: Any = self.missing_values
        object.__setattr__(self, "missing_values", (marks,) if isinstance(marks, str) else tuple(marks))
        if self.infinite not in ("missing", "fail"):
            raise ConfigError(f"clean.infinite='{self.infinite}' is unknown; use 'missing' or 'fail'.")

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)


class Cleaner:
    """The columns of one chunk, with the changes made so far.

    ``roles`` says which rows there are, ``features`` reads those that are wanted, in the order that is wanted: a cell
    is copied once.
    """

    def __init__(self, chunk: Chunk, schema: Schema, rules: CleanRules) -> None:
        self.chunk, self.table, self.schema, self.rules = chunk, chunk.table, schema, rules
        self.marks = frozenset(rules.missing_values)
        self.where = f"{chunk.path}, row group {chunk.row_group}"
        self.counts: list[tuple[tuple[str, str], int]] = []

    def note(self, what: str, column: str, n: np.integer[Any] | int) -> None:
        """Count a change."""
        if n:
            self.counts.append(((what, column), int(n)))

    def plain(self, name: str) -> pa.ChunkedArray:
        """A column; a dictionary of numbers or times is spread out, one of text is kept."""
        column = self.table.column(name)
        if pt.is_dictionary(column.type) and not is_text(column.type):
            return column.cast(column.type.value_type)
        return column

    def number(self, name: str) -> npt.NDArray[Any]:
        """A float array with NaN for missing; text is parsed, ±inf becomes missing. It may be the file's own memory."""
        column = self.plain(name)
        if is_text(column.type):
            values = self._parsed(name, parse_numbers)
        elif pt.is_floating(column.type):
            if column.null_count and column.type != pa.float16():  # four times as fast as leaving it to to_numpy
                column = column.fill_null(pa.scalar(np.nan, column.type))
            values = column.to_numpy()
        else:
            values = self._integers(name, column)
        if len(values) and -np.inf < values.min() and values.max() < np.inf:  # false for a NaN, too
            return values
        infinite = np.isinf(values)
        n = np.count_nonzero(infinite)
        if not n:
            return values
        if self.rules.infinite == "fail":
            raise DataError(
                f"{self.where}: column '{name}' holds {n} infinite values, and clean.infinite is \"fail\". "
                'Mend the data, or set clean.infinite = "missing" to read them as missing.'
            )
        self.note("infinite", name, n)
        return np.where(infinite, values.dtype.type(np.nan), values)

    def _integers(self, name: str, column: pa.ChunkedArray) -> npt.NDArray[Any]:
        if pt.is_null(column.type):
            return np.full(len(column), np.nan)
        if pt.is_boolean(column.type):
            column = column.cast(pa.int8())
        if pt.is_integer(column.type) and column.type.bit_width == 64:
            span = pc.min_max(column).as_py()
            if span["max"] is not None:
                self.check_exact(name, max(span["min"], span["max"], key=abs))
        return column.cast(pa.float64(), safe=False).to_numpy()

    def check_exact(self, name: str, value: Any) -> None:
        """Refuse an integer that a float64 would change."""
        if isinstance(value, int) and abs(value) > LARGEST_EXACT_INTEGER:
            raise DataError(
                f"{self.where}: column '{name}' holds the integer {value}, which is not exact as a floating-point "
                f'number (beyond 2**53). If it is an identifier, leave it out: drop = ["{name}"]; if it is a code, '
                "store it as text."
            )

    def _parsed(self, name: str, parse: Callable[[pd.Series[Any]], npt.NDArray[Any]]) -> npt.NDArray[Any]:
        """Parse the distinct texts once, spread the results over the rows; count what did not parse."""
        coded = self.coded(name, str)
        if not coded.levels:
            return np.full(len(coded.codes), np.nan)
        parsed = np.append(parse(pd.Series(list(coded.levels), dtype=object)), np.nan)
        values = parsed[coded.codes]
        self.note("unparsable", name, np.count_nonzero(np.isnan(values) & (coded.codes >= 0)))
        return values

    def seconds(self, name: str) -> F64:
        """Seconds since 1970 (UTC), NaN where missing."""
        column = self.plain(name)
        if is_text(column.type):
            return np.asarray(self._parsed(name, to_seconds), dtype=np.float64)
        if pt.is_null(column.type):
            return np.full(len(column), np.nan)
        if not (pt.is_timestamp(column.type) or pt.is_date(column.type)):
            raise DataError(
                f"{self.where}: column '{name}' is {column.type}, but times are expected. "
                "Store it as timestamps, dates, or text such as 2013-01-31 15:30."
            )
        micro = column.cast(pa.timestamp("us", tz=column.type.tz if pt.is_timestamp(column.type) else None), safe=False)
        whole = micro.cast(pa.int64()).cast(pa.float64(), safe=False)
        return np.asarray(pc.divide(whole, 1e6).to_numpy(), dtype=np.float64)

    def category(self, feature: Feature) -> Coded:
        """Codes and levels of a categorical feature: text, or numbers as float (so that 1 and 1.0 are one level)."""
        coded = self.coded(feature.name, text_level if feature.is_text else number_level)
        broken = [j for j, level in enumerate(coded.levels) if level != level]
        if broken:  # text where the training data had numbers
            self.note("unparsable", feature.name, np.count_nonzero(np.isin(coded.codes, broken)))
            kept = [level for level in coded.levels if level == level]
            return Coded(coded.recode({level: i for i, level in enumerate(kept)}, -1), tuple(kept))
        return coded

    def coded(self, name: str, level: Callable[[Any], Level]) -> Coded:
        """Codes and levels of a column; ``level`` brings a raw value to the type that levels have."""
        column = self.table.column(name)
        if pt.is_null(column.type):
            return Coded(np.full(len(column), -1, dtype=np.int32), ())
        codes, values = codes_and_values(column)
        place: dict[Level, int] = {}
        table = np.empty(len(values) + 1, dtype=np.int32)
        table[-1] = -1
        for i, value in enumerate(values):
            if value is None or value != value or (isinstance(value, str) and value.strip() in self.marks):
                table[i] = -1
                continue
            if level is number_level:
                self.check_exact(name, value)
            table[i] = place.setdefault(level(value), len(place))
        return Coded(table.take(codes), tuple(place))

    def hashes(self, name: str) -> npt.NDArray[np.uint64]:
        """64-bit hashes of a column's values, the same in every process; null hashes like a value of its own.

        A value's hash does not depend on how its file stores it: 7 as int32, int64 or float64, a text in a
        dictionary or not, a time in any unit.
        """
        column = self.table.column(name)
        column = column.cast(column.type.value_type) if pt.is_dictionary(column.type) else column
        if pt.is_timestamp(column.type) or pt.is_date(column.type):
            column = column.cast(pa.timestamp("us", tz=getattr(column.type, "tz", None)), safe=False).cast(pa.int64())
        if pt.is_floating(column.type):
            text = pa.array(
                [None if v is None or v != v else text_level(v) for v in column.to_pylist()], pa.large_string()
            )
        else:
            text = column.cast(pa.large_string())
        words = text.fill_null(_NO_VALUE).to_numpy(zero_copy_only=False)
        return pd.util.hash_array(np.asarray(words, dtype=object), hash_key=_HASH_KEY, categorize=False)

    def weights(self, name: str) -> F64:
        """Base weights, NaN where missing."""
        values = np.asarray(self.number(name), dtype=np.float64)
        negative = np.flatnonzero(values < 0)
        if len(negative):
            raise DataError(
                f"{self.where}: weight column '{name}' holds {len(negative)} negative values "
                f"(first: {values[negative[0]]:g}). Weights must be at least 0."
            )
        return values

    def block(
        self,
        names: tuple[str, ...],
        dtype: str,
        read: Callable[[str], npt.NDArray[Any]],
        at: npt.NDArray[np.intp] | None,
    ) -> npt.NDArray[Any]:
        """Some columns side by side, column-major: the rows at these positions (None: all)."""
        out = np.empty((len(names), self.table.num_rows if at is None else len(at)), dtype=dtype).T
        for j, name in enumerate(names):
            values = read(name)
            if at is None or values.dtype != out.dtype:
                out[:, j] = values if at is None else values.take(at)
            else:  # positions are in range; "clip" spares numpy a buffer
                np.take(values, at, out=out[:, j], mode="clip")
        return out

    def target(self) -> F64 | Coded | None:
        """Quantities or classes; None where the chunk has no target."""
        name = self.schema.target
        if name is None or name not in self.table.column_names:
            return None
        if self.schema.task == "classification":
            return self.coded(name, label_level)
        return np.asarray(self.number(name), dtype=np.float64)

    def roles(self) -> Columns:
        """Columns without features: the rows that have a target and a weight, and who they are."""
        schema, n = self.schema, self.table.num_rows
        target = self.target()
        weights = None if schema.weight is None else self.weights(schema.weight)
        live = np.ones(n, dtype=bool)
        if target is not None:
            live = target.codes >= 0 if isinstance(target, Coded) else ~np.isnan(target)
            self.note("dropped: no target", str(schema.target), n - np.count_nonzero(live))
        if weights is not None:
            no_weight = live & np.isnan(weights)
            self.note("dropped: no weight", str(schema.weight), np.count_nonzero(no_weight))
            live &= ~no_weight
        every = Columns(
            schema=schema,
            path=self.chunk.path,
            row_group=self.chunk.row_group,
            offsets=np.arange(self.chunk.offset, self.chunk.offset + n, dtype=np.uint64),
            numbers=np.empty((n, 0), schema.number_dtype),
            times=np.empty((n, 0)),
            categories=(),
            target=target,
            weights=weights,
            keys=None if schema.id is None else self.hashes(schema.id),
            groups=None if schema.group is None else self.hashes(schema.group),
            seconds=None if schema.time is None else self.seconds(schema.time),
        )
        return every.take(live)

    def features(self, roles: Columns) -> Columns:
        """The rows of ``roles``, a part of what :meth:`roles` gave in any order, with all their columns."""
        schema, n = self.schema, self.table.num_rows
        at = (roles.offsets - np.uint64(self.chunk.offset)).astype(np.intp)
        rows = None if len(at) == n and (at == np.arange(n)).all() else at
        categories = [self.category(f) for f in schema.features if f.kind == "categorical"]
        out = replace(
            roles,
            numbers=self.block(schema.numbers, schema.number_dtype, self.number, rows),
            times=self.block(schema.times, "float64", self.seconds, rows),
            categories=tuple(c if rows is None else c.take(rows) for c in categories),
        )
        return replace(out, changes=Changes.of([*self.counts, (("rows read", ""), n)]))


def clean(chunk: Chunk, schema: Schema, rules: CleanRules) -> Columns:
    """Turn one chunk into clean columns.

    Rows without a target or with a missing weight are dropped and counted; everything else that is missing stays
    missing (NaN, or code -1) for the preparation to fill. The chunk itself is not changed.

    Raises
    ------
    DataError
        A weight is negative, an integer is not exact in float64, or ±inf where the rules say "fail".

    Examples
    --------
    >>> from coretree.data.schema import Feature
    >>> table = pa.table({"x": [1.0, float("inf"), None]})
    >>> schema = Schema((Feature("x", "numeric", "double"),), target=None, task=None)
    >>> columns = clean(Chunk(table, "part.0.parquet", 0, 0), schema, CleanRules())
    >>> columns.numbers[:, 0], columns.changes.by_column("infinite")
    (array([ 1., nan, nan]), {'x': 1})
    """
    cleaner = Cleaner(chunk, schema, rules)
    return cleaner.features(cleaner.roles())
