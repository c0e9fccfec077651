"""Extrapolation: power laws are recovered, bands cover, and what needs no extrapolation is left alone."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coretree.learn.extrapolate import extrapolate

FULL = 220_000


def curve(rows, rate, last, top=0.75, full=FULL):
    """Scores without noise of a power law whose last doubling gains ``last``."""
    m = np.asarray(rows, dtype=float)
    scale = last / (2**rate - 1)
    return (top - scale * ((m / m[0]) ** -rate - (full / m[0]) ** -rate)).tolist()


def noisy(rows, scores, noise, rng, full=FULL):
    """Add what sampling does to prefixes of one sample: a random walk from all rows downwards."""
    sizes = [full, *rows]
    steps = [rng.normal() * noise * np.sqrt(rows[0] / b - rows[0] / a) for a, b in pairwise(sizes)]
    return (np.array(scores) + np.cumsum(steps)).tolist()


@settings(max_examples=25, deadline=None)
@given(rate=st.floats(0.3, 1.0), last=st.floats(1e-4, 0.05), steps=st.integers(2, 4))
def test_a_power_law_is_recovered(rate, last, steps):
    rows = [20_000 >> k for k in range(steps)]
    scores = curve(rows, rate, last)
    found = extrapolate(rows, scores, FULL)
    assert found.low <= 0.75 <= found.high
    assert abs(found.value - 0.75) < 0.75 * abs(scores[0] - 0.75)  # nearer than the score as it is, at any rate


def test_at_the_usual_rate_most_of_the_loss_is_made_good():
    rows = [20_000 >> k for k in range(4)]
    scores = curve(rows, 0.6, 0.006)
    assert abs(extrapolate(rows, scores, FULL).value - 0.75) < 0.2 * abs(scores[0] - 0.75)


@pytest.mark.parametrize("apart", [2, 6])
@pytest.mark.parametrize(("steps", "noise"), [(2, 0.001), (3, 0.001), (3, 0.003)])
def test_bands_cover(steps, noise, apart):
    rng = np.random.default_rng(steps)
    rows = [20_000 // apart**k for k in range(steps)]
    hits = wrong = 0
    for _ in range(120):
        scores = noisy(rows, curve(rows, rng.uniform(0.3, 1.0), rng.uniform(0, 0.01)), noise, rng)
        found = extrapolate(rows, scores, FULL)
        hits += found.low <= 0.75 <= found.high
        wrong += abs(scores[0] - 0.75) <= (found.high - found.low) / 20  # a band that means nothing would not cover
    assert hits >= 0.88 * 120
    assert wrong < 0.5 * 120


def test_a_lower_confidence_has_a_narrower_band_around_the_same_value():
    rows, scores = [8000, 4000, 2000], [0.72, 0.705, 0.70]
    wide, narrow = (extrapolate(rows, scores, FULL, confidence=c) for c in (0.99, 0.5))
    assert wide.value == narrow.value
    assert wide.low < narrow.low < narrow.value < narrow.high < wide.high


def test_without_gains_the_score_stays_and_trees_have_the_wider_band():
    rows = [8000, 4000, 2000]
    calibrated = extrapolate(rows, [0.7001, 0.7003, 0.6998], FULL, gains=False)
    tree = extrapolate(rows, [0.70, 0.68, 0.67], FULL)
    assert calibrated.value == pytest.approx(0.7001)
    assert calibrated.low < 0.7001 < calibrated.high
    assert calibrated.high - calibrated.low < 0.1 * (tree.high - tree.low)


@settings(max_examples=25, deadline=None)
@given(scores=st.lists(st.floats(0, 1), min_size=3, max_size=3), scale=st.floats(0.01, 100), shift=st.floats(-5, 5))
def test_the_unit_of_a_score_does_not_matter(scores, scale, shift):
    rows = [4000, 2000, 1000]
    one = extrapolate(rows, scores, FULL)
    other = extrapolate(rows, [scale * s + shift for s in scores], FULL)
    for name in ("value", "low", "high"):
        expected = scale * getattr(one, name) + shift
        assert getattr(other, name) == pytest.approx(expected, rel=1e-3, abs=1e-3 * scale + 1e-6)


def test_the_order_of_sizes_does_not_matter():
    assert extrapolate([1000, 4000, 2000], [0.6, 0.7, 0.67], FULL) == extrapolate(
        [4000, 2000, 1000], [0.7, 0.67, 0.6], FULL
    )


def test_all_rows_and_equal_scores_leave_nothing_to_extrapolate():
    for found in (extrapolate([500], [0.7], 500), extrapolate([400, 200], [0.7, 0.7], FULL)):
        assert (found.low, found.value, found.high) == (0.7, 0.7, 0.7)
    with pytest.raises(ValueError, match="two or more different sizes"):
        extrapolate([400], [0.7], FULL)
    with pytest.raises(ValueError, match="two or more different sizes"):
        extrapolate([400, 400], [0.7, 0.6], FULL)
