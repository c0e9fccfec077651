"""Weighted fits: each estimator comes out as the full data would have it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import BaseEstimator, clone
from sklearn.cluster import KMeans
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.linear_model import LogisticRegression, Ridge, SGDRegressor
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from sklearn.svm import LinearSVC
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor
from threadpoolctl import threadpool_info, threadpool_limits

from coretree.errors import ConfigError
from coretree.learn.fit import fit_weighted, resampled, seeded
from coretree.learn.prior_shift import PriorShift
from coretree.learn.threads import limited_threads


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Small fits: more threads would only wait for one another."""
    with threadpool_limits(1):
        yield


def rows(n: int, seed: int = 0) -> tuple[Any, Any, Any]:
    """Features, targets, and whole weights 1 to 5."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 3)) * [1.0, 10.0, 0.1] + [0.0, 5.0, 0.0]
    t = X @ [1.0, -0.1, 5.0] + rng.normal(size=n)
    return X, t, rng.integers(1, 6, n)


EXACT: list[Any] = [
    LogisticRegression(tol=1e-12, max_iter=5000),
    LinearSVC(dual=False, tol=1e-12, max_iter=20_000),
    Ridge(10.0),
    make_pipeline(StandardScaler(), Ridge(10.0)),
    make_pipeline(StandardScaler(), LogisticRegression(tol=1e-12, max_iter=5000)),
    make_pipeline(make_pipeline(StandardScaler(), MinMaxScaler()), make_pipeline(StandardScaler(), Ridge(10.0))),
]


@pytest.mark.parametrize(
    "estimator", EXACT, ids=lambda e: "-".join(s.__class__.__name__ for s in getattr(e, "steps", [e]))
)
def test_weights_equal_repeated_rows(estimator: Any) -> None:
    """The weights reach every step, the scaler too, and the penalty is that of all the rows."""
    X, t, w = rows(200)
    y = t if "Ridge" in repr(estimator) else (t > 0).astype(int)
    weighted = fit_weighted(estimator, X, y, weights=w)
    repeated = clone(estimator).fit(np.repeat(X, w, axis=0), np.repeat(y, w))
    final = "decision_function" if hasattr(weighted, "decision_function") else "predict"
    np.testing.assert_allclose(getattr(weighted, final)(X), getattr(repeated, final)(X), atol=1e-5)


def test_unweighted_scaler_would_be_noticed() -> None:
    """Negative control of the test above: weights to the last step alone give another model."""
    X, t, w = rows(200)
    w = np.where(X[:, 1] > 5, 50, 1)
    model = make_pipeline(StandardScaler(), Ridge(500.0))
    last_only = clone(model).fit(X, t, ridge__sample_weight=w)
    assert np.abs(last_only.predict(X) - fit_weighted(model, X, t, weights=w).predict(X)).max() > 1e-3


@pytest.mark.parametrize(
    "estimator", [SGDRegressor(max_iter=20, tol=None), RandomForestRegressor(5), DecisionTreeRegressor()]
)
def test_mean_one_estimators_do_not_see_the_scale(estimator: Any) -> None:
    X, t, w = rows(200)
    X = StandardScaler().fit_transform(X)
    predictions = [fit_weighted(estimator, X, t, weights=w * scale, seed=1).predict(X) for scale in (1.0, 1024.0)]
    np.testing.assert_array_equal(*predictions)


def test_given_estimator_and_arrays_are_not_touched() -> None:
    X, t, w = rows(50)
    estimator = RandomForestClassifier(5)
    before = (X.copy(), t.copy(), w.copy())
    fit_weighted(estimator, X, t > 0, weights=w)
    assert estimator.random_state is None
    assert not hasattr(estimator, "estimators_")
    for kept, now in zip(before, (X, t, w), strict=True):
        np.testing.assert_array_equal(kept, now)


@pytest.mark.parametrize("n_threads", [1, 2])
def test_deterministic_whatever_the_threads(n_threads: int) -> None:
    X, t, w = rows(300)
    model = fit_weighted(RandomForestClassifier(10), X, t > 0, weights=w, seed=3, n_threads=n_threads)
    expected = fit_weighted(RandomForestClassifier(10), X, t > 0, weights=w, seed=3)
    np.testing.assert_array_equal(model.predict_proba(X), expected.predict_proba(X))
    other = fit_weighted(RandomForestClassifier(10), X, t > 0, weights=w, seed=4)
    assert not np.array_equal(other.predict_proba(X), expected.predict_proba(X))


def test_threads_are_limited_inside_the_fit() -> None:
    class Spy(BaseEstimator):  # type: ignore[misc, unused-ignore]
        def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Spy:
            self.threads_ = {pool["num_threads"] for pool in threadpool_info()}
            return self

    X, t, w = rows(20)
    with threadpool_limits(2):
        assert fit_weighted(Spy(), X, t, weights=w, n_threads=1).threads_ == {1}


def test_tree_classifiers_are_shifted_inside_a_pipeline() -> None:
    X, _, _ = rows(400)
    y = np.where(np.arange(400) < 200, "rare", "usual")
    w = np.where(y == "rare", 1.0, 99.0)
    frame = pd.DataFrame(X, columns=list("abc"))
    model = fit_weighted(make_pipeline(StandardScaler(), DecisionTreeClassifier(max_depth=1)), frame, y, weights=w)
    assert isinstance(model, Pipeline)
    assert isinstance(model[-1], PriorShift)
    assert model.predict_proba(frame)[:, 0].mean() == pytest.approx(0.01, abs=0.01)
    counted = fit_weighted(
        make_pipeline(StandardScaler(), DecisionTreeClassifier(max_depth=1)),
        frame,
        y,
        weights=w,
        class_counts={"rare": 1, "usual": 1},
    )
    assert counted.predict_proba(frame)[:, 0].mean() == pytest.approx(0.5, abs=0.1)


def test_balanced_rows_reach_the_tree_without_weights() -> None:
    class NoWeights(DecisionTreeClassifier):  # type: ignore[misc, unused-ignore]
        def fit(self, X: Any, y: Any, sample_weight: Any = None) -> NoWeights:
            assert sample_weight is None
            super().fit(X, y)
            return self

    X, t, _ = rows(100)
    y = t > np.median(t)
    fit_weighted(NoWeights(), X, y, weights=np.where(y, 3.0, 7.0))
    with pytest.raises(AssertionError):  # weights that differ within a class are passed on
        fit_weighted(NoWeights(), X, y, weights=np.arange(1, 101))


def test_estimators_without_weights() -> None:
    X, t, w = rows(200)
    y = t > 0
    even = fit_weighted(KNeighborsClassifier(), X, y, weights=np.full(200, 3.0))
    np.testing.assert_array_equal(even.predict(X), KNeighborsClassifier().fit(X, y).predict(X))
    with pytest.raises(ConfigError, match=r"KNeighborsClassifier\.fit takes no sample_weight"):
        fit_weighted(KNeighborsClassifier(), X, y, weights=w)
    shifted = fit_weighted(PriorShift(KNeighborsClassifier()), X, y, weights=np.where(y, 1.0, 9.0))
    assert shifted.ratios_[0] > 1 > shifted.ratios_[1]
    drawn = fit_weighted(KNeighborsClassifier(), X, y, weights=w, unsupported="resample")
    assert drawn.n_samples_fit_ == 200


def test_an_estimator_without_weights_takes_nearly_even_ones_and_is_told_what_works_for_others() -> None:
    """The rows of a uniform sketch weigh nearly the same: drawn by weight, hardly any comes twice or never."""
    X, t, _ = rows(400)
    order = np.argsort(t)  # so that a draw by systematic steps has each half's share to one row
    X, t = X[order], t[order]
    nearly = np.where(t > np.median(t), 1.0, 1.1)
    found = fit_weighted(KNeighborsRegressor(1), X, t, weights=nearly)
    assert 330 < len(np.unique(found._y)) < 400
    heavy = int((t <= np.median(t)).sum() * 1.1 / nearly.sum() * 400)
    assert abs(int((found._y <= np.median(t)).sum()) - heavy) <= 1
    with pytest.raises(ConfigError, match=r"takes sample_weight, give it a uniform sketch .*unsupported='resample'"):
        fit_weighted(KNeighborsRegressor(1), X, t, weights=np.where(t > np.median(t), 1.0, 9.0))


def test_estimators_without_target() -> None:
    X = np.array([[0.0], [1.0], [10.0]])
    model = fit_weighted(KMeans(2, n_init=3), X, None, weights=[3.0, 1.0, 1.0], seed=0)
    assert sorted(model.cluster_centers_[:, 0].tolist()) == pytest.approx([0.25, 10.0])


def test_seeded_reaches_wrapped_estimators_and_keeps_given_seeds() -> None:
    pipe = make_pipeline(StandardScaler(), PriorShift(RandomForestClassifier()))
    assert seeded(pipe, 7)[-1].estimator.random_state == 7
    assert seeded(RandomForestClassifier(random_state=1), 7).random_state == 1


@settings(max_examples=50, deadline=None)
@given(
    weights=st.lists(st.floats(0, 100), min_size=1, max_size=30).filter(lambda w: sum(w) > 1e-3), seed=st.integers(0, 9)
)
def test_resampling_is_proportional(weights: list[float], seed: int) -> None:
    w = np.array(weights)
    counts = np.bincount(resampled(w, seed), minlength=w.size)
    assert counts.sum() == w.size
    assert np.abs(counts - w.size * w / w.sum()).max() < 1 + 1e-9
    assert not counts[w == 0].any()


def test_class_mass_and_prior_reach_the_shift_inside_a_pipeline() -> None:
    X, t, _ = rows(300)
    y = (t > 0.5).astype(int)
    w = np.where(y == 1, 1.0, 9.0)
    model = make_pipeline(StandardScaler(), DecisionTreeClassifier(max_depth=3))
    fitted = fit_weighted(model, X, y, weights=w, class_mass="root", prior="balanced", class_counts={0: 9000, 1: 100})
    last = fitted.steps[-1][1]
    assert (last.class_mass, last.prior, last.cross_fit) == ("root", "balanced", 3)
    blunt = fit_weighted(model, X, y, weights=w, class_mass="root", sharpen=False).steps[-1][1]
    assert (blunt.class_mass, blunt.cross_fit, blunt.sharpness_) == ("root", 0, 1.0)
    plain = fit_weighted(model, X, y, weights=w, class_counts={0: 9000, 1: 100}).steps[-1][1]
    assert (plain.class_mass, plain.prior, plain.cross_fit) == ("rows", "data", 0)
    held = np.bincount(y)
    np.testing.assert_allclose(plain.ratios_[0] / plain.ratios_[1], 90 / (held[0] / held[1]))
    linear = [fit_weighted(LogisticRegression(), X, y, weights=w, class_mass=c).coef_ for c in ("rows", "root")]
    np.testing.assert_array_equal(*linear)


def test_blas_has_one_thread_in_a_fit_whatever_the_others_have() -> None:
    """Its sums differ with its threads, and the same fit must have the same bits everywhere."""
    with limited_threads(2):
        found = {info["user_api"]: info["num_threads"] for info in threadpool_info()}
    assert found["blas"] == 1
    assert found.get("openmp", 2) == 2
