"""Score histograms: bounds that hold on every order inside a bin, and points that scikit-learn draws too."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from coretree.learn.curves import ONE_CURVE_BINS, REACH, Scale, ScoreHistogram, score_histogram

Floats = npt.NDArray[np.float64]
FEW = settings(max_examples=25, deadline=None)
BIN = 2.0 * REACH / ONE_CURVE_BINS


def one(score: Floats, positive: npt.NDArray[np.bool_], scale: Scale, w: Floats | None = None) -> ScoreHistogram:
    return score_histogram([score], [positive], scale, w)


def crowded(seed: int, n_rows: int, n_filled: int) -> tuple[Floats, npt.NDArray[np.bool_], Floats]:
    """Draw decision values that crowd into a few bins near 0, with distinct values inside each bin."""
    rng = np.random.default_rng(seed)
    score = np.expm1((rng.integers(0, n_filled, n_rows) + rng.uniform(0.01, 0.99, n_rows)) * BIN)
    positive = rng.random(n_rows) < 0.5
    positive[:2] = True, False
    return score, positive, rng.choice([0.1, 1.0, 3.0], n_rows)


@FEW
@given(st.integers(0, 10_000), st.integers(2, 60), st.integers(1, 6), st.booleans())
def test_bounds_hold_however_rows_lie_inside_their_bins(seed: int, n: int, n_filled: int, weighted: bool) -> None:
    score, positive, weights = crowded(seed, n, n_filled)
    w = weights if weighted else None
    histogram = one(score, positive, "decision", w)
    auc, precision = histogram.roc_auc(0), histogram.average_precision(0)
    assert auc is not None
    assert precision is not None
    # the drawn order, then the best and the worst that the bins allow
    bins: Floats = np.floor(np.log1p(score) / BIN)
    for order in (score, bins + np.where(positive, 0.5, 0.0), bins + np.where(positive, 0.0, 0.5)):
        assert abs(sk.roc_auc_score(positive, order, sample_weight=w) - auc.value) <= auc.error + 1e-12
        found = sk.average_precision_score(positive, order, sample_weight=w)
        assert abs(found - precision.value) <= precision.error + 1e-12
    best = sk.roc_auc_score(positive, bins + np.where(positive, 0.5, 0.0), sample_weight=w)
    assert best == pytest.approx(auc.value + auc.error, abs=1e-12)


@FEW
@given(st.integers(0, 10_000), st.integers(2, 60), st.integers(1, 6))
def test_areas_are_those_of_scores_rounded_to_their_bin(seed: int, n_rows: int, n_filled: int) -> None:
    score, positive, w = crowded(seed, n_rows, n_filled)
    histogram = one(score, positive, "decision", w)
    rounded = np.floor(np.log1p(score) / BIN)
    auc, precision = histogram.roc_auc(0), histogram.average_precision(0)
    assert auc is not None
    assert precision is not None
    assert auc.value == pytest.approx(sk.roc_auc_score(positive, rounded, sample_weight=w), abs=1e-12)
    expected = sk.average_precision_score(positive, rounded, sample_weight=w)
    assert precision.value == pytest.approx(expected, abs=1e-12)


def test_a_model_whose_scores_share_one_bin_has_a_large_error() -> None:
    # negative control: perfect order, but closer together than a bin is wide; an error of 0 would be a lie
    score: Floats = np.linspace(0.5, 0.5 + 1e-5, 100)
    histogram = one(score, np.arange(100) >= 50, "probability")
    auc, precision = histogram.roc_auc(0), histogram.average_precision(0)
    assert auc is not None
    assert precision is not None
    assert sk.roc_auc_score(np.arange(100) >= 50, score) == 1.0
    assert (auc.value, auc.error) == (0.5, 0.5)
    assert precision.value + precision.error >= 1.0


def test_the_error_reaches_down_to_the_worst_order() -> None:
    # nine positives behind one negative in one bin: the worst order lies further from the tied value than the best
    positive = np.arange(10) > 0
    area = one(np.full(10, 0.5), positive, "probability").average_precision(0)
    assert area is not None
    worst = sk.average_precision_score(positive, -np.arange(10.0))
    assert area.value == pytest.approx(0.9)
    assert area.value - area.error <= worst < 2.0 * area.value - 1.0
    assert area.error == pytest.approx(0.9 - (9.0 - np.log(10.0)) / 9.0)


def test_separated_scores_have_no_error() -> None:
    histogram = one(np.array([0.1, 0.2, 0.7, 0.9]), np.array([False, False, True, True]), "probability")
    auc, precision = histogram.roc_auc(0), histogram.average_precision(0)
    assert auc is not None
    assert precision is not None
    assert (auc.value, auc.error) == (1.0, 0.0)
    assert (precision.value, precision.error) == (1.0, 0.0)


@pytest.mark.parametrize(
    ("scale", "score"),
    [
        ("probability", np.array([0.0, 1e-300, 1e-9, 0.25, 0.5, 0.75, 1.0 - 1e-9, 1.0])),
        ("decision", np.array([-1e300, -1e9, -2.0, 0.0, 1e-3, 2.0, 1e9, 1e300])),
    ],
)
def test_the_map_keeps_the_order_and_holds_every_score(scale: Scale, score: Floats) -> None:
    places = [int(one(np.array([s]), np.array([True]), scale).positives.argmax()) for s in score]
    assert places == sorted(places)
    assert places[0] == 0
    assert places[-1] == ONE_CURVE_BINS - 1
    assert len(set(places)) >= 4


@FEW
@given(st.integers(0, 10_000), st.sampled_from(["probability", "decision"]))
def test_points_are_rates_at_their_thresholds(seed: int, scale: Scale) -> None:
    rng = np.random.default_rng(seed)
    positive = rng.random(400) < 0.4
    score = rng.beta(2.0 + positive, 2.0) if scale == "probability" else rng.normal(positive, 2.0)
    histogram = one(score, positive, scale)
    fpr, tpr, threshold = histogram.roc_points(0, max_points=1_000)
    assert (fpr[0], tpr[0], threshold[0]) == (0.0, 0.0, np.inf)
    assert (fpr[-1], tpr[-1]) == (1.0, 1.0)
    # a hair below the edge, so that rounding of the edge itself loses no score of its bin
    for place in range(1, len(fpr), 40):
        taken = score >= threshold[place] - 1e-9 * (1.0 + abs(threshold[place]))
        assert tpr[place] == pytest.approx(taken[positive].mean())
        assert fpr[place] == pytest.approx(taken[~positive].mean())
    auc = histogram.roc_auc(0)
    assert auc is not None
    assert np.trapezoid(tpr, fpr) == pytest.approx(auc.value, abs=1e-12)
    recall, precision, _ = histogram.pr_points(0, max_points=1_000)
    area = histogram.average_precision(0)
    assert area is not None
    assert (np.diff(recall) @ precision[1:]) == pytest.approx(area.value, abs=1e-12)


def test_thinned_points_are_few_keep_both_ends_and_lie_on_the_curve() -> None:
    rng = np.random.default_rng(0)
    positive = rng.random(20_000) < 0.3
    histogram = one(rng.normal(positive, 1.0), positive, "decision")
    full = histogram.roc_points(0, max_points=10**6)
    thin = histogram.roc_points(0, max_points=100)
    assert len(thin[0]) <= 102
    assert len(full[0]) > 1_000
    assert (thin[0][0], thin[1][0], thin[0][-1], thin[1][-1]) == (0.0, 0.0, 1.0, 1.0)
    assert set(zip(*thin, strict=True)) <= set(zip(*full, strict=True))
    assert np.trapezoid(thin[1], thin[0]) == pytest.approx(np.trapezoid(full[1], full[0]), abs=1e-3)


def test_without_positives_or_negatives_nothing_is_drawn() -> None:
    only_negative = one(np.array([0.2, 0.4]), np.array([False, False]), "probability")
    assert only_negative.roc_auc(0) is None
    assert only_negative.average_precision(0) is None
    assert [len(points) for points in only_negative.roc_points(0)] == [0, 0, 0]
    assert [len(points) for points in only_negative.pr_points(0)] == [0, 0, 0]
    only_positive = one(np.array([0.2, 0.4]), np.array([True, True]), "probability")
    assert only_positive.roc_auc(0) is None
    area = only_positive.average_precision(0)
    assert area is not None
    assert area.value == 1.0


def test_merging_adds_and_refuses_other_bins() -> None:
    score, positive, w = crowded(3, 50, 4)
    whole = one(score, positive, "decision", np.round(w * 10.0))
    parts = [one(score[s], positive[s], "decision", np.round(w[s] * 10.0)) for s in (slice(0, 20), slice(20, 50))]
    merged = sum(parts)
    assert isinstance(merged, ScoreHistogram)
    again = ScoreHistogram.from_state(merged.state())
    assert np.array_equal(again.positives, whole.positives)
    assert np.array_equal(again.negatives, whole.negatives)
    assert again.scale == "decision"
    with pytest.raises(ValueError, match="same scale and bins"):
        _ = whole + ScoreHistogram.empty(1, "probability")
    with pytest.raises(ValueError, match="same scale and bins"):
        _ = whole + ScoreHistogram.empty(3, "decision")
    with pytest.raises(TypeError):
        _ = whole + 1  # type: ignore[operator]
