"""The blocks of a cleaned chunk: taking rows takes them everywhere, counts add up."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from coretree.data.columns import MOST_ALONE, MOST_COLUMNS, Changes, Coded, take_rows
from coretree.data.encode import to_frame
from coretree.data.schema import Roles
from sample_data import MIXED, cleaned, frame_columns, mixed_frame

keys = st.tuples(st.sampled_from(["infinite", "unparsable"]), st.sampled_from(["a", "b\tc", ""]))
changes = st.lists(st.tuples(keys, st.integers(0, 5)), max_size=6).map(Changes.of)


@settings(max_examples=25, deadline=None)
@given(changes, changes, changes)
def test_changes_are_a_commutative_monoid(a: Changes, b: Changes, c: Changes) -> None:
    assert (a + b) + c == a + (b + c) == sum([c, a, b])
    assert a + b == b + a
    assert a + Changes() == a
    assert Changes.from_state(a.state()) == a


def test_changes_by_column() -> None:
    found = Changes.of([(("infinite", "a"), 2), (("infinite", "b"), 0), (("other", "a"), 1), (("infinite", "a"), 3)])
    assert found.by_column("infinite") == {"a": 5}


def test_taking_rows_takes_them_in_every_block() -> None:
    frame = mixed_frame(300).assign(w=1.5, i=np.arange(300), g=np.arange(300) // 3)
    schema, columns = frame_columns(
        frame, Roles(target="y", categorical=("k",), time="t", weight="w", id="i", group="g")
    )
    mask = np.random.default_rng(1).random(300) < 0.4
    _, wanted = frame_columns(
        frame[mask], Roles(target="y", categorical=("k",), time="t", weight="w", id="i", group="g")
    )
    got = columns.take(mask)
    assert len(got) == mask.sum()
    assert got.numbers.flags.f_contiguous
    np.testing.assert_array_equal(got.offsets, np.flatnonzero(mask))
    for name in ("numbers", "times", "weights", "keys", "groups", "seconds"):
        np.testing.assert_array_equal(getattr(got, name), getattr(wanted, name))
    for a, b in zip(got.categories, wanted.categories, strict=True):
        assert [None if c < 0 else a.levels[c] for c in a.codes] == [None if c < 0 else b.levels[c] for c in b.codes]
    assert isinstance(got.target, Coded)
    assert schema.task == "classification"


def test_taking_all_rows_copies_nothing_and_none_gives_none() -> None:
    _, columns = frame_columns(mixed_frame(50), MIXED)
    assert columns.take(np.ones(50, dtype=bool)) is columns
    assert len(columns.take(np.zeros(50, dtype=bool))) == 0


def test_take_rows_keeps_the_order_of_memory() -> None:
    block = np.asfortranarray(np.arange(12.0).reshape(4, 3))
    out = take_rows(block, np.array([2, 0]))
    assert out.tolist() == block[[2, 0]].tolist()
    assert out.flags.f_contiguous
    assert take_rows(block[:, :0], np.array([1])).shape == (1, 0)


def test_recode_keeps_missing_and_pools_the_rest() -> None:
    coded = Coded(np.array([0, 1, -1, 2], dtype=np.int32), ("a", "b", "c"))
    assert coded.recode({"b": 0, "c": 1}, 9).tolist() == [9, 0, -1, 1]
    assert Coded(np.array([-1], dtype=np.int32), ()).recode({}, 9).tolist() == [-1]


def test_cleaning_never_shares_memory_that_a_caller_could_change() -> None:
    values = np.arange(5.0)
    columns = cleaned({"a": pa.array(values)})
    columns.numbers[0, 0] = 99
    assert values[0] == 0


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**16), st.integers(1, 12), st.integers(0, 80))
def test_rows_of_one_kind_have_the_same_features(seed: int, n_kinds: int, n: int) -> None:
    """Each row is that of its kind, missing cells and all, and no two kinds are the same."""
    rng = np.random.default_rng(seed)
    every = mixed_frame(60).drop(columns="y").head(n_kinds)
    frame = every.iloc[rng.integers(0, n_kinds, n)].reset_index(drop=True)
    _, columns = frame_columns(frame.assign(y=rng.normal(size=n)), Roles(target="y", categorical=("k",)))
    found = columns.kinds()
    distinct = to_frame(columns).drop_duplicates()
    if not n or len(distinct) > MOST_ALONE * n:
        assert found is None
        return
    assert found is not None
    first, kind = found
    assert len(first) == len(distinct)
    np.testing.assert_array_equal(first[kind[first]], first)
    assert (first[kind] <= np.arange(n)).all()
    pd.testing.assert_frame_equal(to_frame(columns.at(first[kind])), to_frame(columns))


def test_kinds_are_not_looked_for_in_wide_rows() -> None:
    frame = pd.DataFrame(np.zeros((9, MOST_COLUMNS + 1))).rename(columns=str)
    wide, narrow = (frame_columns(frame.iloc[:, i:].assign(y=1.0), Roles(target="y"))[1] for i in (0, 1))
    assert wide.kinds() is None
    assert narrow.kinds() is not None
