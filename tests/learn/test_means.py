"""Weighted means and their intervals."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coretree.learn.means import MeanTally, mean_tally

FEW = settings(max_examples=25, deadline=None)


@FEW
@given(st.integers(0, 10_000), st.integers(1, 30), st.integers(0, 30))
def test_merge_is_one_pass_and_empty_is_neutral(seed: int, n_rows: int, cut: int) -> None:
    rng = np.random.default_rng(seed)
    values, weights = rng.gamma(1.0, size=n_rows), rng.gamma(1.0, size=n_rows)
    whole = mean_tally(values, weights)
    merged = sum([mean_tally(values[:cut], weights[:cut]), mean_tally(values[cut:], weights[cut:])])
    assert isinstance(merged, MeanTally)
    assert np.allclose(merged.to_array(), whole.to_array(), rtol=1e-12)
    assert whole.mean == pytest.approx(np.average(values, weights=weights), rel=1e-12)
    assert MeanTally() + whole == whole == whole + MeanTally() == MeanTally.from_array(whole.to_array())


def test_equal_weights_give_the_textbook_interval_whatever_their_size() -> None:
    values = np.random.default_rng(0).gamma(2.0, size=50)
    reach = 1.959963984540054 * values.std(ddof=1) / np.sqrt(50)
    for weights in (None, np.ones(50), np.full(50, 7.0)):
        found = mean_tally(values, weights).interval()
        assert found is not None
        assert found == pytest.approx((values.mean() - reach, values.mean() + reach), rel=1e-9)


def test_one_heavy_row_widens_the_interval() -> None:
    values = np.random.default_rng(1).gamma(2.0, size=100)
    weights = np.ones(100)
    weights[np.argmax(values)] = 100.0
    heavy, even = mean_tally(values, weights).interval(), mean_tally(values).interval()
    assert heavy is not None
    assert even is not None
    assert heavy[1] - heavy[0] > 3.0 * (even[1] - even[0])


def test_too_few_rows_have_no_interval_and_none_no_mean() -> None:
    assert MeanTally().mean is None
    assert MeanTally().interval() is None
    assert mean_tally(np.array([3.0]), np.array([0.3])).interval() is None
    assert mean_tally(np.array([3.0, 5.0]), np.array([0.3, 0.0])).interval() is None
    assert mean_tally(np.array([2.0, 2.0])).interval() == (2.0, 2.0)


def test_the_interval_never_goes_below_zero_and_needs_a_level() -> None:
    found = mean_tally(np.array([0.0, 0.0, 9.0])).interval()
    assert found is not None
    assert found[0] == 0.0
    with pytest.raises(ValueError, match="level must lie strictly between 0 and 1, found 95"):
        mean_tally(np.array([1.0, 2.0])).interval(95)


def test_only_tallies_add_up() -> None:
    with pytest.raises(TypeError):
        _ = MeanTally() + 1  # type: ignore[operator]
    with pytest.raises(TypeError):
        _ = 1 + MeanTally()
