"""Drift between profiles: nothing moves by chance, what moved is found, and the split of the rows does not matter."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ks_2samp

from coretree.data.drift import Drift, drift
from coretree.data.prepare import PrepareRules
from coretree.data.schema import Roles
from coretree.errors import EmptyDataError, SchemaError
from sample_data import MIXED, cut, frame_columns, mixed_frame, profiled

EXACT = PrepareRules(scale="robust")  # digests of every row


def compared(
    reference: pd.DataFrame, current: pd.DataFrame, roles: Roles = MIXED, rules: PrepareRules | None = None
) -> Drift:
    schema, one = frame_columns(reference, roles)
    two = frame_columns(current, roles)[1]
    return drift(profiled([one], rules), profiled([two], rules), schema)


def quantity(n: int, seed: int, shift: float = 0.0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 3))
    return pd.DataFrame({"a": x[:, 0], "b": np.round(x[:, 1]), "y": x[:, 2] + shift})


def test_nothing_moves_against_itself() -> None:
    for roles in (MIXED, Roles(target="a", time="t"), Roles()):
        frame = mixed_frame(900)
        found = compared(frame, frame, roles)
        assert {s.psi for s in found.shifts} == {s.distance for s in found.shifts} == {0.0}
        assert not found.exceeds(0.0)
        assert {s.missing_change for s in found.shifts} == {0.0}
        assert all(s.levels is None or not (s.levels.n_new or s.levels.n_vanished) for s in found.shifts)
        assert len(found.shifts) == 9


@pytest.mark.parametrize("n", [60, 400])
def test_the_same_distribution_raises_no_alarm(n: int) -> None:
    """Negative control over 20 seeds: small windows too, whose raw index passes the usual threshold by chance."""
    raised, raw = 0, 0
    for seed in range(20):
        found = compared(mixed_frame(n, 2 * seed), mixed_frame(n, 2 * seed + 1))
        raised += len(found.exceeds(0.1))
        raw += sum(s.psi >= 0.1 for s in found.shifts)
    assert raised == 0
    assert raw > 20 or n > 60


def moved(frame: pd.DataFrame, column: str) -> pd.DataFrame:
    """One column shifted in a way that a model would feel."""
    n, out = len(frame), frame.copy()
    rng = np.random.default_rng(9)
    changes: dict[str, Any] = {
        "a": lambda: out["a"] + 3.0,
        "b": lambda: out["b"] // 2,
        "f": lambda: rng.random(n) < 0.6,
        "c": lambda: np.where(rng.random(n) < 0.4, "fresh", out["c"].astype(object)),
        "k": lambda: out["k"].where(rng.random(n) < 0.5),
        "y": lambda: (rng.random(n) < 0.85).astype(int),
    }
    out[column] = changes[column]()
    return out


@pytest.mark.parametrize("column", ["a", "b", "f", "c", "k", "y"])
def test_a_known_shift_is_found_and_only_that(column: str) -> None:
    for seed in (0, 1):
        found = compared(mixed_frame(1500, 10 + seed), moved(mixed_frame(1500, 20 + seed), column))
        assert found.worst is not None
        assert found.worst.name == column
        assert [s.name for s in found.exceeds()] == [column]
        assert found[column].verdict == "large"
        assert found[column].distance > 0.1 or column == "k"  # k went missing: its present values did not move


def test_classes_levels_and_missing_values_are_told() -> None:
    frame = moved(mixed_frame(1200, 21), "c")
    frame.loc[::2, "a"] = np.nan
    frame["y"] = np.where(np.arange(1200) % 3 == 0, 2, frame["y"])
    found = compared(mixed_frame(1500, 11), frame)
    assert found["a"].missing_change == pytest.approx(0.43, abs=0.02)
    assert found["a"].verdict == "large"
    levels, classes = found["c"].levels, found["y"].levels
    assert levels is not None
    assert classes is not None
    assert levels.new[0][0] == "fresh"
    assert levels.new_share == pytest.approx(0.4, abs=0.05)
    assert (classes.new[0][0], classes.n_new) == (2, 1)
    assert found["y"].kind == "class"
    assert found["y"].distance == pytest.approx(1 / 3, abs=0.02)
    assert "1 new (2: 33." in repr(found)


def test_a_quantity_to_predict_is_compared_by_its_distribution() -> None:
    roles = Roles(target="y")
    one, two = quantity(3000, 0), quantity(2500, 1, shift=0.8)
    shift = compared(one, two, roles)["y"]
    assert (shift.kind, shift.verdict) == ("target", "large")
    assert abs(shift.distance - ks_2samp(one.y, two.y, method="asymp").statistic) <= shift.distance_error
    assert compared(one, quantity(2500, 1), roles)["y"].verdict == "stable"


def test_a_column_without_values_counts_as_missing() -> None:
    gone = mixed_frame(600, 1).assign(a=np.nan, c=None)
    found = compared(mixed_frame(600), gone.astype({"c": "str"}))
    assert {s.name for s in found.exceeds()} == {"a", "c"}
    assert np.isnan(found["a"].distance)
    assert found["a"].missing[1] == found["c"].missing[1] == 1.0
    assert found.to_dict()["shifts"][0]["distance"] is None
    again = compared(gone, gone)
    assert again["a"].psi == again["c"].psi == 0.0


@settings(max_examples=10, deadline=None)
@given(st.lists(st.integers(0, 1500), max_size=4), st.lists(st.integers(0, 1200), max_size=4))
def test_the_split_into_parts_does_not_matter(first: list[int], second: list[int]) -> None:
    schema, one = frame_columns(mixed_frame(1500, 3), MIXED)
    two = frame_columns(moved(mixed_frame(1200, 4), "a"), MIXED)[1]

    def parts(columns: Any, cuts: list[int]) -> Any:
        at = [0, *sorted(cuts), len(columns)]
        return profiled([cut(columns, a, b) for a, b in pairwise(at)])

    whole, split = drift(profiled([one]), profiled([two]), schema), drift(parts(one, first), parts(two, second), schema)
    for shift in whole.shifts:
        other = split[shift.name]
        assert other.distance == pytest.approx(shift.distance, abs=2 * shift.distance_error + 1e-12)
        assert other.psi == pytest.approx(shift.psi, rel=0.15, abs=0.02)
        assert other.missing == pytest.approx(shift.missing)
        assert (other.levels, other.verdict) == (shift.levels, shift.verdict)


def test_thinned_digests_stay_within_their_stated_error() -> None:
    one, two = quantity(60_000, 5), quantity(40_000, 6, shift=0.1)
    thin, full = (compared(one, two, Roles(target="y"), rules) for rules in (None, EXACT))
    for name in "aby":
        truth = ks_2samp(one[name], two[name], method="asymp").statistic
        assert thin[name].rows[0] < 20_000 < full[name].rows[0]
        for shift in (thin[name], full[name]):
            assert abs(shift.distance - truth) <= shift.distance_error
        assert full[name].distance_error < thin[name].distance_error


def test_the_calendar_raises_no_alarm_but_the_hour_does() -> None:
    """Two months differ in their month by construction; that all rows now come at night is news."""
    roles = Roles(target="y", time="t", categorical=("k",))
    one, two = mixed_frame(1500, 0), mixed_frame(1500, 1)
    two["t"] += pd.Timedelta(days=90)
    found = compared(one, two, roles)
    assert found["t_month"].kind == "calendar"
    assert found["t_month"].psi > 0.25
    assert not found.exceeds(0.1)
    assert found.shifts[-1].name == "t_month"
    two["t"] = two["t"].dt.floor("D") + pd.Timedelta(hours=3)
    assert [s.name for s in compared(one, two, roles).exceeds()] == ["t_hour"]
    as_feature = compared(one, two, Roles(target="y", categorical=("k",)))  # a time that is no event time: no excuse
    assert {s.name for s in as_feature.exceeds()} == {"t_hour", "t_month"}


def test_windows_of_time_are_compared() -> None:
    roles = Roles(target="y", time="t", categorical=("k",))
    one, two = mixed_frame(1000, 0), mixed_frame(1000, 1)
    two["t"] = pd.date_range("2013-03-01", periods=1000, freq="370s")
    time = compared(one, two, roles).time
    assert time is not None
    assert time.rate_ratio == pytest.approx(6.0, rel=0.01)
    assert time.gap == (two["t"].min() - one["t"].max()).total_seconds()
    assert compared(one, two).time is None


def test_results_as_text_frame_and_plain_data() -> None:
    found = compared(mixed_frame(800), moved(mixed_frame(800, 1), "b"), Roles(target="y", time="t", categorical=("k",)))
    lines = repr(found).splitlines()
    assert lines[0] == "Drift: 800 rows against 800; 1 of 9 columns moved, 1 of them much"
    assert lines[3].startswith("b ")
    assert lines[3].endswith("large")
    frame = found.to_frame()
    assert list(frame.index) == [s.name for s in found.shifts]
    assert frame.loc["b", "verdict"] == "large"
    assert frame["severity"].is_monotonic_decreasing
    plain = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert plain["shifts"][0]["name"] == "b"
    assert plain["time"]["rate_ratio"] == pytest.approx(1.0)
    assert repr(found) == repr(
        compared(mixed_frame(800), moved(mixed_frame(800, 1), "b"), Roles(target="y", time="t", categorical=("k",)))
    )
    with pytest.raises(KeyError, match="no column 'nope'"):
        found["nope"]


def test_what_cannot_be_compared_is_refused() -> None:
    schema, columns = frame_columns(mixed_frame(300), MIXED)
    one = profiled([columns])
    with pytest.raises(EmptyDataError, match="current side has no rows"):
        drift(one, profiled([cut(columns, 0, 0)]), schema)
    _, other = frame_columns(quantity(300, 0), Roles(target="y"))
    with pytest.raises(SchemaError, match="reference profile has 2 numeric and 0 categorical features, the schema 6"):
        drift(profiled([other]), one, schema)
    with pytest.raises(ValueError, match="at least 2"):
        drift(one, one, schema, bins=1)
