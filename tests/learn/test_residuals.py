"""RegressionTally against scikit-learn, and the laws of merging."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from coretree.learn.metrics import RegressionTally, regression_tally

FEW = settings(max_examples=25, deadline=None)


def assert_same_metrics(first: RegressionTally, second: RegressionTally, *, count_rows: bool = True) -> None:
    expected, found = second.metrics(), first.metrics()
    for name, value in found.items() if count_rows else list(found.items())[1:]:
        if value is None or expected[name] is None:
            assert value is expected[name], name
        else:
            assert value == pytest.approx(expected[name], rel=1e-10, abs=1e-10), name


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("centre", [0.0, 1e6])
def test_metrics_are_those_of_scikit_learn(weighted: bool, centre: float) -> None:
    rng = np.random.default_rng(2)
    y = centre + rng.normal(size=2_000)
    predicted, w = y + rng.normal(0.1, 0.5, size=2_000), rng.gamma(2.0, size=2_000) if weighted else None
    found = regression_tally(y, predicted, weights=w).metrics()
    assert found["mse"] == pytest.approx(sk.mean_squared_error(y, predicted, sample_weight=w), rel=1e-12)
    assert found["rmse"] == pytest.approx(sk.root_mean_squared_error(y, predicted, sample_weight=w), rel=1e-12)
    assert found["mae"] == pytest.approx(sk.mean_absolute_error(y, predicted, sample_weight=w), rel=1e-12)
    assert found["r2"] == pytest.approx(sk.r2_score(y, predicted, sample_weight=w), rel=1e-12)
    assert found["mean_error"] == pytest.approx(np.average(predicted - y, weights=w), rel=1e-9)
    assert found["n_rows"] == 2_000


@FEW
@given(st.integers(0, 10_000), st.integers(0, 40), st.lists(st.integers(0, 40), max_size=5))
def test_any_sharding_merges_to_one_pass(seed: int, n_rows: int, cuts: list[int]) -> None:
    rng = np.random.default_rng(seed)
    y, weights = 1e3 + rng.normal(size=n_rows), rng.choice([0.0, 0.5, 2.0], size=n_rows)
    predicted = y + rng.normal(size=n_rows)
    parts = np.split(np.arange(n_rows), sorted(min(cut, n_rows) for cut in cuts))
    merged = sum(regression_tally(y[s], predicted[s], weights=weights[s]) for s in parts)
    assert isinstance(merged, RegressionTally)
    whole = regression_tally(y, predicted, weights=weights)
    assert_same_metrics(merged, whole)
    kept = np.repeat(np.arange(n_rows), (weights * 2).astype(int))
    repeated = regression_tally(y[kept], predicted[kept], weights=np.full(len(kept), 0.5))
    assert_same_metrics(repeated, whole, count_rows=False)
    # identity and round trip to the bit
    assert RegressionTally.empty() + whole == whole == whole + RegressionTally.empty()
    assert RegressionTally.from_state(whole.state()) == whole


def test_r2_is_undefined_for_one_row_or_a_constant_target() -> None:
    assert regression_tally([3.0], [2.0]).metrics()["r2"] is None
    # 0.1 is no binary fraction: a mean of such rows may round, and must not pass for variance
    merged = RegressionTally.empty()
    for n in (3, 7, 11):
        y = np.concatenate([[7.7], np.full(n, 0.1)])
        merged += regression_tally(y, np.zeros(n + 1), weights=np.where(y > 1.0, 0.0, 0.3))
    found = merged.metrics()
    assert found["r2"] is None
    assert found["mse"] == pytest.approx(0.01)
    assert regression_tally([1.0, 2.0], [1.0, 2.0], weights=[1.0, 0.0]).metrics()["r2"] is None
    assert regression_tally([1.0, 2.0], [1.0, 2.0]).metrics()["r2"] == 1.0


def test_nothing_is_defined_without_rows() -> None:
    found = RegressionTally.empty().metrics()
    assert found.pop("n_rows") == 0
    assert set(found.values()) == {None}
    assert_same_metrics(RegressionTally.empty(), regression_tally([], []))
    assert RegressionTally.empty().mse_interval() is None


def test_small_number_types_are_summed_in_float64() -> None:
    y = np.full(5_000, 60_000, dtype=np.uint16)
    predicted = np.full(5_000, 59_000, dtype=np.float16)
    found = regression_tally(y, predicted).metrics()
    assert found["mean_error"] == float(np.float16(59_000)) - 60_000.0
    assert found["mse"] == found["mean_error"] ** 2


def test_the_interval_of_the_mse_holds_the_truth_as_often_as_it_says() -> None:
    # e^2 of normal errors has mean 1; 400 intervals at 90 %: 360 +- 6 expected, a little less for its skewness.
    # Leaving [330, 385] has probability < 1e-3; half the width would give 59 %
    rng, hits = np.random.default_rng(3), 0
    for _ in range(400):
        low, high = regression_tally(np.zeros(400), rng.normal(size=400)).mse_interval(0.9) or (np.inf, -np.inf)
        hits += low <= 1.0 <= high
    assert 330 <= hits <= 385


def test_shapes_and_values_are_checked() -> None:
    with pytest.raises(ValueError, match="one value a row each"):
        regression_tally([1.0], [1.0, 2.0])
    with pytest.raises(ValueError, match="predicted must be finite; found 1 values"):
        regression_tally([1.0, 2.0], [np.nan, 2.0])
    with pytest.raises(TypeError):
        _ = RegressionTally.empty() + 1  # type: ignore[operator]
