"""The profile of parts, merged in any way, is the profile of all rows; it survives storage with the labels' types."""

from __future__ import annotations

from functools import reduce
from itertools import pairwise
from operator import add
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coretree.data.columns import Columns
from coretree.data.prepare import PrepareRules
from coretree.data.profile import (
    Profile,
    label_from_text,
    label_order,
    label_text,
    merge_profiles,
    numeric_block,
    numeric_names,
)
from coretree.data.schema import Roles
from coretree.errors import TargetError
from sample_data import MIXED, cleaned, cut, frame_columns, mixed_frame, profiled

RULES = PrepareRules(missing="most_frequent", clip=(0.01, 0.99))
ROWS = 600


def whole(**roles: Any) -> Columns:
    return frame_columns(
        mixed_frame(ROWS).assign(w=np.arange(ROWS) % 4 + 0.5), Roles(categorical=("k",), time="t", **roles)
    )[1]


def assert_same(a: Profile, b: Profile) -> None:
    """Counts exact, moments to rounding."""
    assert a.labels == b.labels
    assert (a.n_rows, a.n_thin) == (b.n_rows, b.n_thin)
    assert a.weight == pytest.approx(b.weight, rel=1e-12)
    of_classes = [(a.by_class[k], b.by_class[k]) for k in a.labels]
    for x, y in [*of_classes, (a.moments, b.moments), (a.target, b.target), (a.seconds, b.seconds)]:
        assert x.n_rows == y.n_rows
        np.testing.assert_allclose(x.count, y.count, rtol=1e-12)
        np.testing.assert_allclose(x.mean, y.mean, rtol=1e-12)
        np.testing.assert_allclose(x.m2, y.m2, rtol=1e-9)
        np.testing.assert_array_equal(x.minimum, y.minimum)
        np.testing.assert_array_equal(x.maximum, y.maximum)
    for h, g in zip(a.frequent, b.frequent, strict=True):
        assert h.top(50) == g.top(50)
        assert (h.n_rows, h.n_missing) == (g.n_rows, g.n_missing)
    for d, e in zip(a.distinct, b.distinct, strict=True):
        np.testing.assert_array_equal(d.registers, e.registers)
    ends = (a.target_quantiles, b.target_quantiles)
    for p, q in [*zip(a.quantiles, b.quantiles, strict=True), ends]:
        assert p.count == q.count


@settings(max_examples=10, deadline=None)
@given(
    st.lists(st.integers(0, ROWS), max_size=4),
    st.sampled_from([{"target": "y"}, {"target": "a"}, {"target": "y", "weight": "w"}]),
    st.booleans(),
)
def test_merging_is_one_pass(cuts: list[int], roles: dict[str, str], class_moments: bool) -> None:
    columns = whole(**roles)
    at = [0, *sorted(cuts), ROWS]
    parts = [profiled([cut(columns, a, b)], RULES, class_moments=class_moments) for a, b in pairwise(at)]
    one = profiled([columns], RULES, class_moments=class_moments)
    changes = one.changes  # parts share the whole chunk's counts here: they are tested with the cleaning
    right = parts[0] if len(parts) == 1 else parts[0] + merge_profiles(parts[1:])
    for merged in (merge_profiles(parts), reduce(add, parts), right):
        assert_same(merged, one)
    assert changes == columns.changes


def test_storage_is_exact() -> None:
    for roles, class_moments in (
        ({"target": "y"}, True),
        ({"target": "y"}, False),
        ({"target": "a"}, False),
        ({}, False),
    ):
        one = profiled([whole(**roles)], RULES, class_moments=class_moments)
        two = Profile.from_state(one.state())
        assert_same(one, two)
        assert one.changes == two.changes
        first, second = one.state(), two.state()
        assert list(first) == list(second)
        for key in first:
            assert first[key].dtype == second[key].dtype
            np.testing.assert_array_equal(first[key], second[key])


def test_moments_are_those_of_the_rows() -> None:
    frame = mixed_frame(ROWS)
    one, bare = (profiled([frame_columns(frame, MIXED)[1]], class_moments=asked) for asked in (True, False))
    a = frame["a"].replace(np.inf, np.nan)
    assert one.moments.mean[0] == pytest.approx(a.mean(), rel=1e-12)
    assert bare.moments.mean[0] == pytest.approx(a.mean(), rel=1e-12)
    for label in (0, 1):
        assert one.by_class[label].mean[0] == pytest.approx(a[frame.y == label].mean(), rel=1e-12)
        assert one.by_class[label].n_rows == bare.by_class[label].n_rows == (frame.y == label).sum()
        assert (one + bare).by_class[label].n_features == bare.by_class[label].n_features == 0
    assert one.frequent[0].count("x") == (frame.c == "x").sum()
    assert one.frequent[0].n_missing == frame.c.isna().sum()
    assert one.frequent[1].count(5.0) == (frame.k == 5).sum()


def test_thin_samples_are_thin() -> None:
    n = 40_000
    columns = cleaned({"x": np.arange(float(n)), "c": pa.array([f"c{i % 50}" for i in range(n)])})
    thin, full = profiled([columns]), profiled([columns], PrepareRules(scale="robust"))
    assert thin.n_thin < n
    assert thin.quantiles[0].count == thin.n_thin
    assert full.quantiles[0].count == n
    assert thin.frequent[0].n_rows == n
    assert abs(thin.distinct[0].estimate - 50) < 3


@pytest.mark.parametrize("labels", [[True, False], [0, 3, -2], ["b", "a", "str:x"], [0.5, 1.0]])
def test_labels_keep_their_type_and_are_sorted(labels: list[Any]) -> None:
    rows = labels * 3
    one = profiled(
        [cleaned({"x": np.arange(float(len(rows))), "y": pa.array(rows)}, Roles(target="y", task="classification"))]
    )
    back = Profile.from_state(one.state())
    for found in (one.labels, back.labels, tuple(label_from_text(label_text(v)) for v in one.labels)):
        assert list(found) == sorted(labels)
        assert [type(v) for v in found] == [type(v) for v in sorted(labels)]


def test_labels_of_any_type_have_one_order() -> None:
    assert sorted(["b", 2, True, None, 0.5, "a"], key=label_order) == [None, 0.5, True, 2, "a", "b"]


def test_a_quantity_has_quantiles_and_older_states_load_without() -> None:
    one = profiled([whole(target="a")])
    a = mixed_frame(ROWS)["a"].replace(np.inf, np.nan).dropna()
    assert one.target_quantiles.count == len(a)
    assert float(one.target_quantiles.quantile(0.5)) == pytest.approx(a.median(), abs=0.2)
    assert profiled([whole(target="y")]).target_quantiles.count == 0
    older = {key: value for key, value in one.state().items() if not key.startswith("outcome/")}
    assert Profile.from_state(older).target_quantiles.count == 0
    assert (Profile.from_state(older) + one).target_quantiles.count == len(a)


def test_too_many_classes_are_refused_in_a_chunk_and_in_a_merge() -> None:
    def part(low: int, high: int) -> Columns:
        y = pa.array([f"id{i}" for i in range(low, high)])
        return cleaned({"x": np.zeros(high - low), "y": y}, Roles(target="y"))

    with pytest.raises(TargetError, match=r"part.0.parquet: target 'y' has 1001 distinct.*task = \"regression\""):
        profiled([part(0, 1001)])
    with pytest.raises(TargetError, match=r"more than 1000 classes.*task = \"regression\""):
        profiled([part(0, 600), part(500, 1101)])
    assert len(profiled([part(0, 600), part(400, 1000)]).labels) == 1000


def test_the_block_is_the_numbers_and_then_the_parts_of_times() -> None:
    frame = pd.DataFrame({"t": pd.to_datetime(["2013-01-05 15:30"]), "x": np.array([2.0], np.float32)})
    schema, columns = frame_columns(frame, Roles())
    assert numeric_names(schema) == ("x", "t_month", "t_weekday", "t_hour")
    assert numeric_block(columns).tolist() == [[2, 1, 5, 15]]
    assert numeric_block(columns).dtype == np.float32
    _, plain = frame_columns(frame[["x"]], Roles())
    assert numeric_block(plain) is plain.numbers


def test_no_rows_are_the_identity() -> None:
    columns = whole(target="y")
    none, one = profiled([cut(columns, 0, 0)], RULES), profiled([columns], RULES)
    assert_same(none + one, one)
    assert_same(one + none, one)


def test_profiles_of_old_are_read_and_merged_with_new_ones() -> None:
    """Moments were stored class by class, and of no rows there were none."""
    old = profiled([whole(target="y")], class_moments=True)
    columns = whole(target="y")
    one = profiled([columns.take(np.asarray(columns.target.codes) == 0)])  # a leaf that lacks a class
    assert len(one.labels) < len(old.labels)
    both = old + one
    assert_same(both, Profile.from_state(both.state()))
    assert {m.n_features for m in both.by_class.values()} == {0}
    state = {k: v for k, v in old.state().items() if not k.startswith(("moments/", "classes/"))}
    for i, k in enumerate(old.labels):
        state |= {f"class{i}/{key}": value for key, value in old.by_class[k].state().items()}
    assert_same(Profile.from_state(state | {"n_class": np.array(len(old.labels))}), old)
    nothing = state | {"labels": np.array([], dtype=object), "n_class": np.array(0)}
    assert_same(Profile.from_state(nothing) + one, Profile.from_state(nothing) + one)
    assert Profile.from_state(nothing).moments.n_features == one.moments.n_features
