"""The parts of a search: rules of folds, means by weight, ranks, rounds, scorers, single trials."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.neighbors import KNeighborsRegressor
from sklearn.tree import DecisionTreeClassifier

from coretree.errors import ConfigError
from coretree.learn.fold_rules import HashFolds, TimeFolds, time_folds
from coretree.learn.scorers import WeightedScorer, scorers_for
from coretree.learn.search_table import fold_means, halving_sizes, ranks, results_table
from coretree.learn.trials import FitRows, ScoredRows, TrialResult, Trials, check_takes_weights

FEW = settings(max_examples=25, deadline=None)


@FEW
@given(st.integers(2, 6), st.integers(0, 99))
def test_every_row_is_in_one_fold_and_learned_from_in_all_others(cv: int, seed: int) -> None:
    ids = np.arange(300, dtype=np.uint64)
    rule = HashFolds(cv, seed)
    folds = rule.of(ids, None)
    assert (rule.of(ids[::-1], None)[::-1] == folds).all()
    for k in range(cv):
        assert sorted([*rule.before(folds, k), *np.flatnonzero(folds == k)]) == list(range(300))


@FEW
@given(st.integers(2, 5), st.lists(st.floats(0, 1e9), min_size=40, max_size=60, unique=True))
def test_folds_by_time_hold_equal_weight_and_learn_from_earlier_rows_alone(cv: int, times: list[float]) -> None:
    seconds = np.array(times)
    rule = time_folds(seconds, np.ones(len(times)), cv)
    folds = rule.of(np.zeros(len(times), np.uint64), seconds)
    assert np.ptp(np.bincount(folds + 1, minlength=cv + 1)) <= 2
    for k in range(cv):
        before = rule.before(folds, k)
        assert len(before)
        assert seconds[before].max() < seconds[folds == k].min()


def test_rows_without_a_time_are_only_learned_from() -> None:
    seconds = np.array([np.nan, 1.0, 2.0, 3.0])
    rule = time_folds(seconds, np.ones(4), 2)
    assert rule == TimeFolds((2.0, 3.0))
    assert rule.of(np.zeros(4, np.uint64), seconds).tolist() == [-1, -1, 0, 1]


@pytest.mark.parametrize(
    ("seconds", "message"),
    [
        (None, "name the column with time="),
        ([np.nan] * 3, "none of these rows"),
        ([1.0, 1.0, 2.0], "2 different times"),
    ],
)
def test_times_that_cannot_be_cut(seconds: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        time_folds(None if seconds is None else np.array(seconds), np.ones(3), 2)


def test_means_are_by_weight_and_failures_are_not_forgiven() -> None:
    scores = np.array([[1.0, 3.0, np.nan], [2.0, np.nan, np.nan]])
    means, deviations = fold_means(scores, np.array([[1.0, 3.0, 5.0]] * 2))
    assert means[0] == 2.5
    assert deviations[0] == pytest.approx(np.sqrt(0.25 * 1.5**2 + 0.75 * 0.5**2))
    assert np.isnan(means[1])  # it failed where another did not; the third fold was scored by nobody
    assert np.isnan(fold_means(np.full((1, 2), np.nan), np.ones((1, 2)))[0]).all()


@FEW
@given(st.lists(st.one_of(st.floats(-5, 5), st.just(float("nan"))), min_size=1, max_size=12))
def test_the_first_rank_is_the_best_and_nan_the_last(values: list[float]) -> None:
    means = np.array(values)
    found = ranks(means)
    assert found.min() == 1
    if not np.isnan(means).all():
        assert means[np.argmin(found)] == np.nanmax(means)
        assert (found[np.isnan(means)] > found[~np.isnan(means)].max()).all()


@FEW
@given(st.integers(1, 200), st.integers(10, 50_000), st.integers(2, 5), st.integers(1, 2000))
def test_rounds_shrink_in_settings_and_grow_to_all_rows(n: int, size: int, factor: int, least: int) -> None:
    found = halving_sizes(n, size, factor, least)
    assert found[0][0] == n
    assert found[-1][1] == size
    assert all(a[0] > b[0] and a[1] < b[1] for a, b in itertools.pairwise(found))
    assert found[0][1] >= min(least, size)


def test_a_table_masks_what_a_setting_has_not() -> None:
    results = [[TrialResult({"score": 0.5}, 1.0, 0.1)] * 2, [TrialResult({"score": 0.7}, 3.0, 0.3)] * 2]
    table = results_table([{"a": 1}, {"b": 2}], results, np.ones((2, 2)), ["score"])
    assert table["param_a"].mask.tolist() == [False, True]
    assert table["rank_test_score"].tolist() == [2, 1]
    assert table["mean_fit_time"].tolist() == [1.0, 3.0]


def rows(n: int = 200) -> tuple[npt.NDArray[Any], ...]:
    rng = np.random.default_rng(0)
    X, w = rng.normal(size=(n, 2)), rng.integers(1, 9, n).astype(float)
    return X, (X[:, 0] + rng.logistic(size=n) > 0).astype(int), w


@pytest.mark.parametrize("name", ["roc_auc", "accuracy", "balanced_accuracy", "f1", "neg_log_loss"])
def test_scorers_are_scikit_learns_with_weights(name: str) -> None:
    X, y, w = rows()
    model = LogisticRegression().fit(X, y)
    scorer = scorers_for(name, "classification")[0]["score"]
    expected = metrics.get_scorer(name)(model, X, y, sample_weight=w)
    assert scorer(model, X, y, sample_weight=w) == pytest.approx(expected, abs=1e-12)
    assert expected != metrics.get_scorer(name)(model, X, y)
    assert scorer(model, X, y) == pytest.approx(metrics.get_scorer(name)(model, X, y), abs=1e-12)


def test_scorers_that_take_no_weights_are_refused() -> None:
    with pytest.raises(ConfigError, match="takes no sample_weight"):
        scorers_for("neg_max_error", "regression")
    with pytest.raises(ConfigError, match="names no score"):
        scorers_for([], "regression")


def trials(estimator: Any) -> Trials:
    X, y, w = rows()
    halves = (np.arange(100), np.arange(100, 200))
    fit = FitRows(X, y, halves[::-1], tuple(w[index] for index in halves[::-1]))
    scorers = {"score": WeightedScorer("accuracy")}
    return Trials(estimator, {("robust", 200): fit}, {"robust": ScoredRows(X, y, w, halves)}, scorers, np.unique(y), 0)


def test_a_trial_never_sees_its_fold() -> None:
    X, y, w = rows()
    plain = LogisticRegression(solver="newton-cholesky")  # the default one would begin elsewhere
    shared = trials(plain)
    assert shared.scored["robust"].masses.tolist() == [w[:100].sum(), w[100:].sum()]
    model = clone(plain).set_params(C=0.3).fit(X[100:], y[100:], sample_weight=w[100:])
    expected = metrics.accuracy_score(y[:100], model.predict(X[:100]), sample_weight=w[:100])
    found = shared.run({"C": 0.3}, "robust", 200, 0)
    assert found.scores == {"score": expected}
    kept = shared.run({"C": 0.3}, "robust", 200, 0, keep=True).model
    assert (kept.coef_ == model.coef_).all()
    assert "ValueError" not in shared.run({}, "robust", 200, 1).error


def test_trials_are_sharpened_only_where_a_score_sees_it() -> None:
    """Sharpening leaves the order of predictions, and so a ranking score, as it is."""
    shared = trials(DecisionTreeClassifier(max_depth=2, random_state=0))
    fits = {key: replace(fit, class_mass="root") for key, fit in shared.fits.items()}

    def found(*names: str) -> tuple[int, Any]:
        own = replace(shared, fits=fits, scorers={name: WeightedScorer(name) for name in names})
        return own.run({}, "robust", 200, 0, keep=True).model.cross_fit, own.run({}, "robust", 200, 0).scores

    (blunt, ranks_alone), (sharp, all_scores) = found("roc_auc"), found("roc_auc", "neg_log_loss")
    assert (blunt, sharp, found("accuracy")[0]) == (0, 3, 3)
    assert ranks_alone["roc_auc"] == pytest.approx(all_scores["roc_auc"], abs=1e-12)


def test_what_an_estimator_cannot_do_is_a_score_of_nan() -> None:
    found = trials(LogisticRegression()).run({"C": -1.0}, "robust", 200, 0)
    assert np.isnan(found.scores["score"])
    assert "'C' parameter" in found.error


def test_an_estimator_without_weights_needs_equal_ones() -> None:
    X, y, w = rows()
    index = np.arange(200)
    with pytest.raises(ConfigError, match="What would work"):
        check_takes_weights(KNeighborsRegressor(), FitRows(X, y, (index,), (w,)))
    check_takes_weights(KNeighborsRegressor(), FitRows(X, y, (index,), (np.full(200, 3.0),)))
    check_takes_weights(Ridge(), FitRows(X, y, (index,), (w,)))
