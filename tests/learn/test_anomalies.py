"""`contamination` must mean a share of all rows, also where the detector was fitted on weighted ones."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from sklearn.cluster import KMeans
from sklearn.ensemble import IsolationForest
from sklearn.linear_model import SGDOneClassSVM
from sklearn.svm import OneClassSVM

from coretree.errors import ConfigError, EmptyDataError
from coretree.learn.anomalies import ScoreTally, score_edges, score_tally, with_threshold

Array = npt.NDArray[Any]


def rows(n: int) -> tuple[Array, Array, Array]:
    """All rows, and a sample of them that holds the rare ones nearly whole, with its weights."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((n, 4))
    X[: n // 100] *= 4
    chance = np.where(np.arange(n) < n // 100, 0.9, 0.05)
    kept = rng.random(n) < chance
    return X, X[kept], 1 / chance[kept]


DETECTORS = [IsolationForest(n_estimators=40, random_state=0), OneClassSVM(nu=0.1), SGDOneClassSVM(random_state=0)]


@pytest.mark.parametrize("detector", DETECTORS, ids=str)
def test_the_flagged_share_of_all_rows_is_the_contamination(detector: Any) -> None:
    X, sample, weights = rows(6000)
    model = detector.fit(sample)
    edges = score_edges(model, sample)
    tally = sum(score_tally(model, part, edges) for part in np.array_split(X, 5))
    threshold, share = tally.threshold(0.02)
    before = model.predict(X)
    flagged = float((with_threshold(model, threshold).predict(X) == -1).mean())
    assert abs(flagged - share) <= 1 / len(X)  # a row exactly at the threshold
    assert 0.8 * 0.02 < flagged < 1.2 * 0.02
    assert np.array_equal(model.predict(X), before)
    moved = with_threshold(model, threshold)
    assert np.allclose(moved.decision_function(X), model.score_samples(X) - threshold)
    assert np.allclose(moved.score_samples(X), model.score_samples(X))
    # from the weighted sample alone, and the negative control: the same sample unweighted
    by_weight, _ = score_tally(model, sample, edges, weights).threshold(0.02)
    by_count, _ = score_tally(model, sample, edges).threshold(0.02)
    scores = model.score_samples(X)
    assert 0.6 * 0.02 < (scores < by_weight).mean() < 1.4 * 0.02
    assert (scores < by_count).mean() < 0.5 * 0.02


def test_tallies_merge_and_return_from_storage() -> None:
    tally = ScoreTally(np.array([0.0, 1.0]), np.array([1.0, 2.0, 3.0]))
    back = ScoreTally.from_state(tally.state())
    assert np.array_equal((tally + back).below, [2.0, 4.0, 6.0])
    assert sum([tally]) is tally
    assert tally.threshold(0.5) == (1.0, 0.5)
    with pytest.raises(ValueError, match="same edges"):
        tally + ScoreTally(np.array([0.0]), np.zeros(2))


def test_bad_requests_are_told() -> None:
    tally = ScoreTally(np.array([0.0]), np.zeros(2))
    with pytest.raises(EmptyDataError):
        tally.threshold(0.1)
    with pytest.raises(ConfigError, match="contamination"):
        ScoreTally(np.array([0.0]), np.ones(2)).threshold(0.9)
    with pytest.raises(ConfigError, match="KMeans"):
        with_threshold(KMeans(2), 0.0)
