"""Frozen statistics against scikit-learn fitted on all rows, and their way through JSON."""

from __future__ import annotations

import itertools
import json
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.impute import SimpleImputer
from sklearn.preprocessing import MinMaxScaler, RobustScaler, StandardScaler

from coretree.data.prepare import Preparation, PrepareRules
from coretree.data.schema import Roles
from coretree.errors import ConfigError
from sample_data import MIXED, mixed_frame, prepared

NUMBERS = ["a", "b", "f"]


def filled(frame: pd.DataFrame, rules: PrepareRules) -> tuple[Any, Any]:
    raw = frame[NUMBERS].astype(float).replace([np.inf, -np.inf], np.nan)
    imputer = SimpleImputer(strategy=rules.missing, fill_value=rules.fill_value)
    return imputer.fit_transform(raw), imputer


@pytest.mark.parametrize("missing", ["mean", "most_frequent", "constant", "median"])
@pytest.mark.parametrize("scale", ["standard", "minmax"])
def test_fills_and_scales_are_those_of_scikit_learn(missing: Any, scale: Any) -> None:
    frame = mixed_frame(3000)
    frame["a"] = frame["a"].round(1)  # a value that is really the most frequent
    rules = PrepareRules(missing=missing, scale=scale, fill_value=2.5)
    prep, _ = prepared(frame, MIXED, rules)
    X, imputer = filled(frame, rules)
    tolerance = 0.05 if missing == "median" else 1e-12
    np.testing.assert_allclose(prep.fill[:3], imputer.statistics_.astype(float), rtol=tolerance)
    if scale == "standard":
        scaler = StandardScaler().fit(X)
        center, spread = scaler.mean_, scaler.scale_
    else:
        scaler = MinMaxScaler().fit(X)
        center, spread = scaler.data_min_, scaler.data_range_
    np.testing.assert_allclose(prep.center[:3], center, rtol=tolerance, atol=1e-12)
    np.testing.assert_allclose(prep.spread[:3], spread, rtol=tolerance)


def test_robust_scaling_is_within_the_rank_error() -> None:
    frame = mixed_frame(4000).dropna(subset=["a"])
    prep, _ = prepared(frame, MIXED, PrepareRules(scale="robust", missing="median"))
    X, _ = filled(frame, PrepareRules(missing="median"))
    scaler = RobustScaler().fit(X)
    ranks = np.mean(X[:, 0] <= prep.center[0])
    assert abs(ranks - 0.5) < 0.005
    assert prep.spread[0] == pytest.approx(scaler.scale_[0], rel=0.03)


def test_clipping_bounds_are_quantiles() -> None:
    frame = mixed_frame(4000)
    prep, _ = prepared(frame, MIXED, PrepareRules(clip=(0.1, 0.9)))
    a = frame["a"].replace(np.inf, np.nan).dropna()
    assert abs((a < prep.low[0]).mean() - 0.1) < 0.005
    assert abs((a > prep.high[0]).mean() - 0.1) < 0.005
    plain, _ = prepared(frame, MIXED, PrepareRules())
    assert np.isneginf(plain.low).all()
    assert np.isposinf(plain.high).all()


def test_columns_without_a_value_or_with_one_value_have_spread_one() -> None:
    frame = pd.DataFrame({"none": np.full(50, np.nan), "one": 0.1, "big": 1e9 + 0.1, "y": np.arange(50) % 2})
    for scale, missing in itertools.product(
        ["standard", "robust", "minmax", "none"], ["mean", "median", "most_frequent"]
    ):
        prep, _ = prepared(frame, Roles(target="y"), PrepareRules(scale=scale, missing=missing, indicator=True))  # type: ignore[arg-type]
        np.testing.assert_array_equal(prep.spread, 1.0)
        assert prep.fill[0] == 0
        assert prep.flagged == (0,)
        np.testing.assert_array_equal(prep.flag_spread, 1.0)


def test_rare_levels_are_pooled_and_counts_decide() -> None:
    frame = pd.DataFrame({"c": ["a"] * 60 + ["b"] * 30 + ["r"] * 9 + [None], "y": np.arange(100) % 2})

    def levels(**rules: Any) -> tuple[Any, ...]:
        return prepared(frame, Roles(target="y"), PrepareRules(**rules))[0].categories[0].levels

    assert levels(min_frequency=0.1) == ("a", "b")
    assert levels(min_frequency=0.09) == ("a", "b", "r")
    assert levels(min_frequency=0.01) == ("(missing)", "a", "b", "r")
    assert levels(max_categories=1, min_frequency=0.1) == ("a",)
    assert levels(missing_categorical="most_frequent") == ("a", "b", "r")


def test_markers_are_never_a_level_that_was_seen() -> None:
    text = ["(other)"] * 30 + ["(missing)"] * 30 + ["(other)'"] * 30 + [None] * 10
    frame = pd.DataFrame({"c": text, "k": pd.array([0, 1, 7, None] * 25, dtype="Int64"), "y": np.arange(100) % 2})
    prep, _ = prepared(frame, Roles(target="y", categorical=("k",)))
    c, k = prep.categories
    assert (c.missing, c.other) == ("(missing)'", "(other)''")
    assert set(c.levels) == {"(missing)", "(missing)'", "(other)", "(other)'"}
    assert (k.missing, k.other) == (-0.5, 8.0)
    assert k.numeric
    assert not c.numeric


def test_json_is_exact() -> None:
    for rules in (
        PrepareRules(),
        PrepareRules(clip=(0.01, 0.99), indicator=True, missing="most_frequent", scale="robust"),
    ):
        prep, _ = prepared(mixed_frame(), MIXED, rules)
        back = Preparation.from_dict(json.loads(json.dumps(prep.to_dict(), allow_nan=False)))
        for name in ("schema", "rules", "numeric", "flagged", "categories"):
            assert getattr(back, name) == getattr(prep, name)
        for name in ("fill", "low", "high", "center", "spread", "flag_center", "flag_spread"):
            assert getattr(back, name).tobytes() == getattr(prep, name).tobytes()


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"missing": "drop"}, "missing='drop' is unknown; use one of mean, median"),
        ({"scale": "z"}, "scale='z' is unknown"),
        ({"clip": (0.9, 0.1)}, "must be two quantiles in order"),
        ({"clip": (0.9,)}, "must be two quantiles"),
    ],
)
def test_unknown_rules_are_refused(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        PrepareRules(**wrong)
