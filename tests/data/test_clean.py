"""Cleaning: every Arrow type has one meaning, every changed cell is counted, the input stays as it was."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coretree.data.clean import CleanRules
from coretree.data.columns import Coded, Columns
from coretree.data.levels import codes_and_values
from coretree.data.schema import Feature, Roles, Schema
from coretree.errors import ConfigError, DataError
from sample_data import MIXED, cleaned, mixed_frame

nan, inf = np.nan, np.inf


def values(coded: Coded) -> list[Any]:
    return [None if c < 0 else coded.levels[c] for c in coded.codes]


@pytest.mark.parametrize(
    ("column", "numbers"),
    [
        (pa.array([1.5, None, nan]), [1.5, nan, nan]),
        (pa.array([1.5, None], pa.float32()), [1.5, nan]),
        (pa.array(np.array([1.5, 2.0], np.float16)), [1.5, 2.0]),
        (pa.array([1, None, 3], pa.int64()), [1, nan, 3]),
        (pa.array([0, 255], pa.uint8()), [0, 255]),
        (pa.array([0, 2**53], pa.uint64()), [0, 2.0**53]),
        (pa.array([True, None, False]), [1, nan, 0]),
        (pa.array([Decimal("1.25"), None]), [1.25, nan]),
        (pa.array([3, None, 3], pa.int16()).dictionary_encode(), [3, nan, 3]),
        (pa.nulls(2), [nan, nan]),
    ],
)
def test_numbers_of_every_type(column: pa.Array, numbers: list[float]) -> None:
    columns = cleaned({"x": column})
    np.testing.assert_array_equal(columns.numbers[:, 0], numbers)
    assert columns.changes.counts == ((("rows read", ""), len(column)),)


UTC = dt.UTC


@pytest.mark.parametrize(
    ("column", "seconds"),
    [
        (pa.array([dt.date(1970, 1, 2), None]), [86_400, nan]),
        (pa.array([dt.datetime(1970, 1, 1, 1), None], pa.timestamp("ns")), [3600, nan]),
        (pa.array([dt.datetime(1969, 12, 31, 23, 59, 59, 500_000)], pa.timestamp("ms")), [-0.5]),
        (pa.array([dt.datetime(1970, 1, 1, 1, tzinfo=UTC)], pa.timestamp("us", "Europe/Berlin")), [3600]),
        (pa.array([dt.datetime(9999, 12, 31)], pa.timestamp("s")), [253_402_214_400]),
        (pa.array([dt.date(1970, 1, 2)]).cast(pa.date64()), [86_400]),
    ],
)
def test_times_of_every_type(column: pa.Array, seconds: list[float]) -> None:
    np.testing.assert_array_equal(cleaned({"x": column}).times[:, 0], seconds)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.one_of(st.none(), st.floats(width=32)), max_size=20), st.sampled_from([pa.float32(), pa.float64()]))
def test_every_infinity_is_counted_and_nothing_else_changes(cells: list[float | None], type_: pa.DataType) -> None:
    table = pa.table({"x": pa.array(cells, type_)})
    columns = cleaned(table)
    wanted = np.array([nan if v is None else v for v in cells], dtype=np.float64)
    infinite = np.isinf(wanted)
    np.testing.assert_array_equal(columns.numbers[:, 0], np.where(infinite, nan, wanted))
    assert columns.changes.by_column("infinite") == ({"x": int(infinite.sum())} if infinite.any() else {})
    assert table.equals(pa.table({"x": pa.array(cells, type_)})) or any(v != v for v in cells)


def test_infinities_can_fail_instead() -> None:
    with pytest.raises(
        DataError, match=r'part.0.parquet, row group 0: column .x. holds 2 infinite.*infinite = "missing"'
    ):
        cleaned({"x": [1.0, inf, -inf]}, rules=CleanRules(infinite="fail"))


@pytest.mark.parametrize("encode", [False, True])
def test_text_declared_numeric_or_time_is_parsed_and_counted(encode: bool) -> None:
    number = pa.array(["1", " 2.5 ", "1e3", "?", "soon", "soon", "inf", None, ""])
    when = pa.array(
        ["2013-01-31", "1970-01-01 00:01", "?", "soon", None, "1970-01-01T01:00:00Z", "1970-01-02"] + [None] * 2
    )
    if encode:
        number, when = number.dictionary_encode(), when.dictionary_encode()
    columns = cleaned(
        {"n": number, "t": when}, Roles(numeric=("n",), datetime=("t",)), CleanRules(missing_values=("?", ""))
    )
    np.testing.assert_array_equal(columns.numbers[:, 0], [1, 2.5, 1000, nan, nan, nan, nan, nan, nan])
    np.testing.assert_array_equal(columns.times[:, 0], [1359590400, 60, nan, nan, nan, 3600, 86400, nan, nan])
    assert columns.changes.by_column("unparsable") == {"n": 2, "t": 1}
    assert columns.changes.by_column("infinite") == {"n": 1}


def test_marks_of_missing_categories_are_read_after_stripping() -> None:
    table = {"c": [" ?", "NA", "a", None, "na", "a "]}
    columns = cleaned(table, rules=CleanRules(missing_values=("?", "NA")))
    assert values(columns.categories[0]) == [None, None, "a", None, "na", "a "]
    assert values(cleaned(table).categories[0])[:2] == [" ?", "NA"]  # the control
    assert CleanRules(missing_values="?").missing_values == ("?",)  # type: ignore[arg-type]


def test_numeric_categories_are_one_level_whatever_their_type() -> None:
    feature = Schema((Feature("k", "categorical", "int64"),), None, None)
    for column in (pa.array([1, 2, None, 1]), pa.array([1.0, 2.0, None, 1.0]), pa.array(["1", "2.0", None, " 1"])):
        columns = cleaned({"k": column}, schema=feature)
        assert values(columns.categories[0]) == [1.0, 2.0, None, 1.0]
    odd = cleaned({"k": pa.array(["1", "x", None, "x"])}, schema=feature)
    assert values(odd.categories[0]) == [1.0, None, None, None]
    assert odd.changes.by_column("unparsable") == {"k": 2}


def test_text_categories_given_as_numbers_match_their_text() -> None:
    feature = Schema((Feature("k", "categorical", "string"),), None, None)
    assert values(cleaned({"k": pa.array([1, 7, None])}, schema=feature).categories[0]) == ["1", "7", None]
    assert values(cleaned({"k": pa.array([1.0, 7.5, None])}, schema=feature).categories[0]) == ["1", "7.5", None]


@pytest.mark.parametrize(
    "roles", [Roles(), Roles(categorical=("x",)), Roles(weight="x"), Roles(target="x", task="regression")]
)
@pytest.mark.parametrize("value", [2**53 + 1, -(2**53) - 1])
def test_integers_that_a_float_would_change_are_refused(roles: Roles, value: int) -> None:
    with pytest.raises(DataError, match=rf"column 'x' holds the integer {value}.*2\*\*53.*drop = \[.x.\]"):
        cleaned({"x": pa.array([0, value, None]), "other": [1.0, 2.0, 3.0]}, roles)
    assert cleaned({"x": pa.array([2**53, -(2**53)])}).numbers[:, 0].tolist() == [2.0**53, -(2.0**53)]


def test_such_integers_may_identify_rows() -> None:
    columns = cleaned({"x": [1.0, 2.0], "i": [2**53, 2**53 + 1]}, Roles(id="i"))
    assert columns.keys is not None
    assert columns.keys[0] != columns.keys[1]


def test_rows_without_target_or_weight_are_dropped_and_counted_once() -> None:
    table = {"x": [0.0, 1, 2, 3, 4], "y": [1.0, None, nan, inf, 5], "w": [1.0, None, 1, 1, None]}
    columns = cleaned(table, Roles(target="y", weight="w"))
    assert columns.offsets.tolist() == [0]
    assert columns.changes.by_column("dropped: no target") == {"y": 3}
    assert columns.changes.by_column("dropped: no weight") == {"w": 1}
    assert columns.changes.by_column("infinite") == {"y": 1}
    assert columns.changes.by_column("rows read") == {"": 5}
    assert len(columns) == 5 - 3 - 1


def test_negative_weights_are_refused() -> None:
    with pytest.raises(DataError, match=r"weight column 'w' holds 2 negative values \(first: -1\).*at least 0"):
        cleaned({"x": [0.0] * 3, "w": [0.0, -1.0, -2.0]}, Roles(weight="w"))
    assert len(cleaned({"x": [0.0], "w": [0.0]}, Roles(weight="w"))) == 1


@pytest.mark.parametrize(
    ("target", "labels"),
    [
        (pa.array([True, None, False]), [True, False]),
        (pa.array([3, None, 1]), [3, 1]),
        (pa.array(["a", None, "b"]), ["a", "b"]),
        (pa.array(["a", "?", "b"]).dictionary_encode(), ["a", "b"]),
        (pa.array([Decimal("3"), None, Decimal("1")]), [3, 1]),
        (pa.array([0.5, nan, 1.0]), [0.5, 1.0]),
    ],
)
def test_class_labels_keep_their_type(target: pa.Array, labels: list[Any]) -> None:
    columns = cleaned({"x": [0.0, 1, 2], "y": target}, Roles(target="y", task="classification"), CleanRules(("?",)))
    assert isinstance(columns.target, Coded)
    assert values(columns.target) == labels
    assert [type(v) for v in values(columns.target)] == [type(v) for v in labels]


def hashes(column: Any) -> list[int]:
    keys = cleaned({"x": np.zeros(len(column)), "i": column}, Roles(id="i")).keys
    assert keys is not None
    return [int(k) for k in keys]


def test_a_value_hashes_alike_however_its_file_stores_it() -> None:
    seven = hashes(pa.array([7], pa.int32()))[0]
    assert hashes(pa.array([7, None])) == [seven, hashes(pa.array([None, 1]))[0]]
    assert hashes(pa.array([7.0, None]))[0] == seven
    assert hashes(pa.array(["7"]).dictionary_encode()) == hashes(pa.array(["7"])) == [seven]
    when = dt.datetime(2013, 1, 1)
    assert hashes(pa.array([when], pa.timestamp("s"))) == hashes(pa.array([when], pa.timestamp("ns")))
    assert len(set(hashes(pa.array(range(1000))))) == 1000
    assert hashes(pa.array([0.5, nan, None]))[1:] == [hashes(pa.array([None, 1]))[0]] * 2


def test_hashes_are_the_same_in_every_process() -> None:
    assert hashes(pa.array(["a"])) == [hashes(pa.array(["b", "a"]))[1]]
    assert hashes(pa.array(["a"])) == [int(pd.util.hash_array(np.array(["a"], object), hash_key="coretree-row-key")[0])]


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 299))
def test_cleaning_works_row_by_row(at: int) -> None:
    table = pa.Table.from_pandas(mixed_frame(300), preserve_index=False)
    whole = cleaned(table, MIXED)
    parts = [cleaned(t, MIXED) for t in (table[:at], table[at:])]
    np.testing.assert_array_equal(whole.numbers, np.vstack([p.numbers for p in parts]))
    np.testing.assert_array_equal(whole.times, np.vstack([p.times for p in parts]))
    assert values(whole.categories[0]) == [v for p in parts for v in values(p.categories[0])]
    assert whole.changes == parts[0].changes + parts[1].changes


def test_the_input_is_not_changed() -> None:
    frame = mixed_frame(200)
    table = pa.Table.from_pandas(frame, preserve_index=False)
    before = table.to_pandas()
    columns: Columns = cleaned(table, MIXED)
    columns.numbers[:] = 0
    columns.times[:] = 0
    pd.testing.assert_frame_equal(table.to_pandas(), before)


def test_chunks_without_rows_have_their_columns() -> None:
    table = pa.Table.from_pandas(mixed_frame(50), preserve_index=False)
    columns = cleaned(table[:0], MIXED)
    assert (len(columns), columns.numbers.shape, columns.times.shape) == (0, (0, 3), (0, 1))


def test_times_that_are_none_are_refused() -> None:
    schema = Schema((Feature("t", "datetime", "timestamp[us]"),), None, None)
    with pytest.raises(DataError, match="column 't' is int64, but times are expected"):
        cleaned({"t": [1, 2]}, schema=schema)


def test_unknown_rules_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"clean.infinite='drop' is unknown; use 'missing' or 'fail'"):
        CleanRules(infinite="drop")  # type: ignore[arg-type]


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from([pa.int8(), pa.uint8(), pa.int32(), pa.int64(), pa.uint64()]).flatmap(
        lambda kind: st.tuples(
            st.just(kind),
            st.lists(st.integers(0, 255), min_size=1, max_size=30),
            st.sampled_from([0, 1 << 40, 2**64 - 256]),
        )
    )
)
def test_close_integers_are_coded_as_any_others(drawn: tuple[pa.DataType, list[int], int]) -> None:
    kind, numbers, offset = drawn
    low = -128 if kind == pa.int8() else offset if kind == pa.uint64() else min(offset, 1 << 40) * (kind == pa.int64())
    column = pa.chunked_array([pa.array([v + low for v in numbers], kind)] * 2)
    close, hashed = codes_and_values(column), codes_and_values(column.dictionary_encode())
    for codes, found in (close, hashed):
        assert [found[c] for c in codes] == [v + low for v in numbers] * 2
    assert sorted(close[1]) == sorted(hashed[1])
