"""Thresholds: every cut as brute force counts it, weights as repeats, histograms as near as their bins."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics

from coretree.errors import ConfigError, TargetError
from coretree.learn.curves import score_histogram
from coretree.learn.thresholds import ThresholdCounts, costs_at, values_at

NAMED: list[tuple[str, Any]] = [
    ("f1", metrics.f1_score),
    ("balanced_accuracy", metrics.balanced_accuracy_score),
    ("accuracy", metrics.accuracy_score),
]


def case(seed: int, n: int = 60) -> tuple[Any, Any, Any]:
    rng = np.random.default_rng(seed)
    y = rng.random(n) < 0.3
    y[:2] = [True, False]
    return y, np.round(rng.normal(size=n) + y, 1), rng.integers(1, 5, n)  # with ties


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from(NAMED))
def test_every_value_is_scikit_learns_at_that_threshold(seed: int, named: tuple[str, Any]) -> None:
    y, scores, w = case(seed)
    counts = ThresholdCounts.of_rows(y, scores, w)
    values = values_at(counts, named[0])
    assert len(values) == np.unique(scores).size + 1
    for threshold, value in zip(counts.thresholds, values, strict=True):
        expected = named[1](y, scores >= threshold, sample_weight=w)
        assert value == pytest.approx(expected, abs=1e-12)


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 10**6))
def test_weights_are_repeats(seed: int) -> None:
    y, scores, w = case(seed)
    weighted = ThresholdCounts.of_rows(y, scores, w).table()
    repeated = ThresholdCounts.of_rows(np.repeat(y, w), np.repeat(scores, w)).table()
    np.testing.assert_allclose(weighted, repeated, atol=1e-9)
    assert not np.allclose(weighted["true_positive"], ThresholdCounts.of_rows(y, scores).true)  # negative control


def test_a_function_and_its_name_agree() -> None:
    y, scores, w = case(3)
    counts = ThresholdCounts.of_rows(y, scores, w)
    for name, function in NAMED:
        np.testing.assert_allclose(values_at(counts, function), values_at(counts, name), atol=1e-12)


def test_of_many_thresholds_a_function_sees_some() -> None:
    rng = np.random.default_rng(0)
    y = rng.random(5000) < 0.3
    counts = ThresholdCounts.of_rows(y, rng.normal(size=5000) + y)
    tried = values_at(counts, metrics.matthews_corrcoef)
    assert 50 < np.isfinite(tried).sum() <= 202
    assert np.nanmax(values_at(counts, metrics.f1_score)) > values_at(counts, "f1").max() - 5e-3


def test_costs_are_means_over_rows() -> None:
    y, scores, w = case(5)
    counts = ThresholdCounts.of_rows(y, scores, w)
    table = np.array([[0.0, 1.0], [7.0, -2.0]])
    for threshold, value in zip(counts.thresholds, costs_at(counts, table), strict=True):
        each = table[y.astype(int), (scores >= threshold).astype(int)]
        assert value == pytest.approx(np.average(each, weights=w), abs=1e-12)


@pytest.mark.parametrize("first", [False, True])
def test_a_histogram_is_as_good_as_its_bins(first: bool) -> None:
    rng = np.random.default_rng(0)
    y, w = rng.random(4000) < 0.2, rng.integers(1, 4, 4000).astype(float)
    p = 1 / (1 + np.exp(2 - 2 * rng.normal(size=4000) - 2 * y))
    found = ThresholdCounts.of_histogram(score_histogram([p], [y], "probability", w), first_is_positive=first)
    y, p = (~y, 1 - p) if first else (y, p)
    exact = ThresholdCounts.of_rows(y, p, w)
    best = int(np.argmax(values_at(found, "f1")))
    assert values_at(found, "f1")[best] == pytest.approx(values_at(exact, "f1").max(), abs=1e-3)
    guess = p >= found.thresholds[best]
    assert values_at(found, "f1")[best] == pytest.approx(metrics.f1_score(y, guess, sample_weight=w), abs=1e-9)


def test_the_place_of_a_threshold_predicts_the_same_rows() -> None:
    y, scores, w = case(1)
    counts = ThresholdCounts.of_rows(y, scores, w)
    for threshold in (-9.0, 0.0, 0.55, 9.0):
        i = counts.at(threshold)
        assert counts.true[i] + counts.false[i] == pytest.approx(w[scores >= threshold].sum())


def test_neighbours_in_floating_point_stay_apart() -> None:
    scores = np.array([0.5, np.nextafter(0.5, 1)])
    counts = ThresholdCounts.of_rows([False, True], scores)
    assert (scores >= counts.thresholds[1]).tolist() == [False, True]


def test_what_cannot_be_tuned() -> None:
    with pytest.raises(TargetError, match="both classes"):
        ThresholdCounts.of_rows([True, True], [0.1, 0.2])
    with pytest.raises(TargetError, match="both classes"):
        ThresholdCounts.of_rows([True, False], [0.1, 0.2], [1.0, 0.0])
    counts = ThresholdCounts.of_rows([True, False], [0.1, 0.2])
    with pytest.raises(ConfigError, match="'f2' is unknown; use one of f1"):
        values_at(counts, "f2")
    for cost in ([1, 10], "x", [[0, np.nan], [1, 0]]):
        with pytest.raises(ConfigError, match="a false alarm of 1 and a miss of 10"):
            costs_at(counts, cost)
