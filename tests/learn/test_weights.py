"""How weights reach estimators: the table of treatments, and the prior shift."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.cluster import KMeans
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    IsolationForest,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.linear_model import ElasticNet, Lasso, LogisticRegression, PoissonRegressor, Ridge, SGDClassifier
from sklearn.metrics import log_loss
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC, LinearSVC, OneClassSVM
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor
from sklearn.utils.estimator_checks import check_estimator
from threadpoolctl import threadpool_limits

from coretree.errors import ConfigError
from coretree.learn.masses import checked_weights, class_weights
from coretree.learn.weights import PriorShift, accepts_weights, treatment

FloatArray = npt.NDArray[np.float64]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Small fits: more threads would only wait for one another."""
    with threadpool_limits(1):
        yield


KINDS: list[tuple[Any, str]] = [
    (LogisticRegression(), "sum"),
    (Ridge(), "sum"),
    (LinearSVC(), "sum"),
    (SVC(), "sum"),
    (PoissonRegressor(), "sum"),
    (KMeans(), "sum"),
    (HistGradientBoostingRegressor(), "sum"),
    (PriorShift(DecisionTreeClassifier()), "sum"),
    (SGDClassifier(), "mean1"),
    (MLPClassifier(), "mean1"),
    (OneClassSVM(), "mean1"),
    (IsolationForest(), "mean1"),
    (RandomForestRegressor(), "mean1"),
    (DecisionTreeRegressor(), "mean1"),
    (make_pipeline(StandardScaler(), SGDClassifier()), "mean1"),
    (DecisionTreeClassifier(), "unweighted_prior_shift"),
    (RandomForestClassifier(), "unweighted_prior_shift"),
    (HistGradientBoostingClassifier(), "unweighted_prior_shift"),
    (make_pipeline(StandardScaler(), RandomForestClassifier()), "unweighted_prior_shift"),
    (GridSearchCV(DecisionTreeClassifier(), {}), "unweighted_prior_shift"),
    (KNeighborsClassifier(), "none"),
    (make_pipeline(StandardScaler(), KNeighborsClassifier()), "none"),
    (GridSearchCV(make_pipeline(StandardScaler(), LogisticRegression()), {}), "none"),
]


@pytest.mark.parametrize(("estimator", "kind"), KINDS, ids=lambda v: v if isinstance(v, str) else type(v).__name__)
def test_treatment(estimator: Any, kind: str) -> None:
    found = treatment(estimator)
    assert found.kind == kind
    assert found.reason


def test_accepts_weights_looks_through_meta_estimators() -> None:
    assert accepts_weights(GridSearchCV(Ridge(), {}))
    assert not accepts_weights(GridSearchCV(KNeighborsClassifier(), {}))
    assert accepts_weights(make_pipeline(StandardScaler(), Ridge()))


@pytest.mark.parametrize("scale", [1e-2, 1e2])
def test_scaling_table(scale: float) -> None:
    """Which estimators notice the scale of weights: those whose penalty is not divided by their sum."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(300, 4))
    t = X @ [1.0, -1.0, 0.5, 0.0] + rng.normal(size=300)
    y, w = (t > 0).astype(int), rng.uniform(0.5, 5.0, 300)

    def moved(estimator: Any, target: FloatArray) -> float:
        a = clone(estimator).fit(X, target, sample_weight=w)
        b = clone(estimator).fit(X, target, sample_weight=w * scale)
        return float(np.abs(np.ravel(a.coef_) - np.ravel(b.coef_)).max())

    tight: dict[str, Any] = {"tol": 1e-10, "max_iter": 10_000}
    for estimator, target in [(LogisticRegression(**tight), y), (Ridge(), t), (LinearSVC(dual=False, **tight), y)]:
        assert moved(estimator, target) > 1e-4, estimator
    for estimator, target in [(Lasso(0.1, **tight), t), (ElasticNet(0.1, **tight), t), (PoissonRegressor(**tight), y)]:
        assert moved(estimator, target) < 1e-5, estimator


@settings(max_examples=25, deadline=None)
@given(data=st.data(), n_classes=st.integers(1, 4))
def test_class_weights_have_mean_one_in_every_class(data: st.DataObject, n_classes: int) -> None:
    codes = np.array(data.draw(st.lists(st.integers(0, n_classes - 1), min_size=1, max_size=30)))
    weights = np.array(data.draw(st.lists(st.floats(0.1, 1e6), min_size=codes.size, max_size=codes.size)))
    even = class_weights(codes, weights, n_classes)
    for c in np.unique(codes):
        assert even[codes == c].mean() == pytest.approx(1.0)
        np.testing.assert_allclose(even[codes == c] * weights[codes == c][0], weights[codes == c] * even[codes == c][0])


@pytest.mark.parametrize(
    ("weights", "part"),
    [
        ([1.0], r"shape \(2,\), found \(1,\)"),
        ([1.0, -2.0], "row 1 has -2.0"),
        ([np.nan, 1.0], "row 0 has nan"),
        ([0, 0], "every sample_weight is zero"),
    ],
)
def test_wrong_weights_are_named(weights: list[float], part: str) -> None:
    with pytest.raises(ValueError, match=part):
        checked_weights(weights, 2)


def rare(n: int, seed: int) -> tuple[FloatArray, npt.NDArray[np.int64]]:
    """Non-linear classes, about 3 % positives."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 5))
    logit = -5.5 + 1.8 * X[:, 0] * X[:, 1] + 1.5 * np.abs(X[:, 2])
    return X, (rng.random(n) < 1 / (1 + np.exp(-logit))).astype(np.int64)


def balanced_sample(X: FloatArray, y: npt.NDArray[np.int64], per_class: int, seed: int) -> tuple[Any, Any, FloatArray]:
    rng = np.random.default_rng(seed)
    parts = [rng.permutation(np.flatnonzero(y == c))[:per_class] for c in (0, 1)]
    weights = np.concatenate([np.full(p.size, (y == c).sum() / p.size) for c, p in enumerate(parts)])
    index = np.concatenate(parts)
    return X[index], y[index], weights


MODELS = [HistGradientBoostingClassifier(max_iter=40, early_stopping=False), RandomForestClassifier(30, random_state=0)]


@pytest.mark.parametrize("estimator", MODELS, ids=lambda e: type(e).__name__)
def test_prior_shift_restores_the_base_rate(estimator: Any) -> None:
    X, y = rare(40_000, 1)
    model = PriorShift(estimator).fit(
        *balanced_sample(X, y, 800, 0)[:2], sample_weight=balanced_sample(X, y, 800, 0)[2]
    )
    Xt, yt = rare(40_000, 2)
    p = model.predict_proba(Xt)[:, 1]
    raw = model.estimator_.predict_proba(Xt)[:, 1]
    assert p.mean() == pytest.approx(yt.mean(), rel=0.35)
    assert raw.mean() > 4 * yt.mean()  # negative control: without the shift the rate is far off
    assert log_loss(yt, p) < 0.8 * log_loss(yt, np.full(yt.size, yt.mean()))
    assert log_loss(yt, p) < log_loss(yt, np.column_stack([1 - raw, raw]))


def test_shift_beats_weighted_fit_on_rare_classes() -> None:
    """The reason for the treatment: weighted leaves of a few light positives claim certainty."""
    X, y = rare(40_000, 3)
    Xs, ys, w = balanced_sample(X, y, 800, 0)
    Xt, yt = rare(40_000, 4)
    shifted = PriorShift(MODELS[0]).fit(Xs, ys, sample_weight=w).predict_proba(Xt)
    weighted = clone(MODELS[0]).fit(Xs, ys, sample_weight=w).predict_proba(Xt)
    assert log_loss(yt, shifted) < log_loss(yt, weighted)


def test_full_data_is_left_as_it_is() -> None:
    X, y = rare(2000, 5)
    tree = DecisionTreeClassifier(max_depth=4, random_state=0)
    expected = clone(tree).fit(X, y).predict_proba(X)
    np.testing.assert_array_equal(PriorShift(tree).fit(X, y).predict_proba(X), expected)
    np.testing.assert_array_equal(
        PriorShift(tree).fit(X, y, sample_weight=np.full(2000, 7.0)).predict_proba(X), expected
    )


def test_class_counts_win_over_weights_and_prior_can_be_balanced() -> None:
    X, y = np.zeros((4, 1)), np.array(["no", "no", "no", "yes"])
    tree = DecisionTreeClassifier()
    counted = PriorShift(tree, smoothing=0.0).fit(X, y, class_counts={"no": 98, "yes": 2})
    np.testing.assert_allclose(counted.predict_proba(X[:1]), [[0.98, 0.02]])
    even = PriorShift(tree, prior="balanced", smoothing=0.0).fit(X, y, class_counts={"no": 98, "yes": 2})
    np.testing.assert_allclose(even.predict_proba(X[:1]), [[0.5, 0.5]])
    assert counted.predict(X[:1]).tolist() == ["no"]


def test_root_of_the_mass_is_shifted_back_to_the_data() -> None:
    """V_c is known, so a model that knows nothing else gives the class shares, whatever the masses."""
    X, y = np.zeros((4, 1)), np.array([0, 0, 0, 1])
    w = np.array([30.0, 40.0, 30.0, 4.0])
    root = PriorShift(DecisionTreeClassifier(), class_mass="root", smoothing=0.0).fit(X, y, sample_weight=w)
    np.testing.assert_allclose(root.estimator_.predict_proba(X[:1]), [[10 / 12, 2 / 12]])  # roots of 100 and 4
    np.testing.assert_allclose(root.predict_proba(X[:1]), [[100 / 104, 4 / 104]])
    even = PriorShift(DecisionTreeClassifier(), class_mass="root", prior="balanced", smoothing=0.0)
    np.testing.assert_allclose(even.fit(X, y, sample_weight=w).predict_proba(X[:1]), [[0.5, 0.5]])
    rows = PriorShift(DecisionTreeClassifier(), smoothing=0.0).fit(X, y, sample_weight=w)
    np.testing.assert_allclose(rows.estimator_.predict_proba(X[:1]), [[0.75, 0.25]])


@pytest.mark.parametrize("class_mass", ["rows", "root"])
def test_sample_that_dropped_nothing_is_fitted_as_it_is(class_mass: str) -> None:
    X, y = rare(2000, 8)
    tree = DecisionTreeClassifier(max_depth=4, random_state=0)
    full = PriorShift(tree, class_mass=class_mass).fit(X, y, sample_weight=np.ones(2000), class_counts={0: 1, 1: 1})
    np.testing.assert_array_equal(full.estimator_.predict_proba(X), clone(tree).fit(X, y).predict_proba(X))
    counted = dict(enumerate(np.bincount(y).tolist()))
    same = PriorShift(tree, class_mass=class_mass).fit(X, y, sample_weight=np.ones(2000), class_counts=counted)
    np.testing.assert_array_equal(same.predict_proba(X), clone(tree).fit(X, y).predict_proba(X))


def test_smoothing_keeps_the_order_and_opens_pure_leaves() -> None:
    X, y = np.arange(6.0)[:, None], np.array([0, 0, 0, 1, 1, 1])
    w = np.array([99.0] * 3 + [1.0] * 3)
    pure = PriorShift(DecisionTreeClassifier(), smoothing=0.0).fit(X, y, sample_weight=w).predict_proba(X)[:, 1]
    open_ = PriorShift(DecisionTreeClassifier()).fit(X, y, sample_weight=w).predict_proba(X)[:, 1]
    assert set(pure.tolist()) == {0.0, 1.0}
    assert 0.9 < open_.max() < 1.0
    assert np.all(np.diff(open_) >= 0)


def test_rows_of_weight_zero_are_absent() -> None:
    X, y = rare(500, 6)
    w = np.where(np.arange(500) % 3 == 0, 0.0, 2.0)
    kept = w > 0
    tree = DecisionTreeClassifier(max_depth=3, random_state=0)
    np.testing.assert_array_equal(
        PriorShift(tree).fit(X, y, sample_weight=w).predict_proba(X),
        PriorShift(tree).fit(X[kept], y[kept], sample_weight=w[kept]).predict_proba(X),
    )


def test_estimators_without_weights_serve_a_balanced_sample() -> None:
    X, y = rare(5000, 7)
    Xs, ys, w = balanced_sample(X, y, 100, 0)
    assert PriorShift(KNeighborsClassifier(9)).fit(Xs, ys, sample_weight=w).predict_proba(Xs).shape == (200, 2)


def test_mistakes_are_named() -> None:
    X, y = np.zeros((2, 1)), np.array([0, 1])
    with pytest.raises(ConfigError, match="prior must be"):
        PriorShift(DecisionTreeClassifier(), prior="uniform").fit(X, y)
    with pytest.raises(ConfigError, match="class_mass must be 'rows' or 'root', found 'log'"):
        PriorShift(DecisionTreeClassifier(), class_mass="log").fit(X, y)
    with pytest.raises(ConfigError, match="no entry for class 1"):
        PriorShift(DecisionTreeClassifier()).fit(X, y, class_counts={0: 1})


def test_is_a_scikit_learn_estimator() -> None:
    """Repeated rows and weights differ by design: rows, not their mass, say how much of a class the trees see."""
    reason = "class mass inside the fit is the number of rows"
    expected = dict.fromkeys(
        [
            "check_sample_weight_equivalence_on_dense_data",
            "check_sample_weight_equivalence_on_sparse_data",
        ],
        reason,
    )
    results = check_estimator(
        PriorShift(DecisionTreeClassifier(random_state=0)), expected_failed_checks=expected, on_skip=None, on_fail=None
    )
    failed = [r["check_name"] + ": " + repr(r["exception"]) for r in results if r["status"] == "failed"]
    assert failed == []
    assert sum(r["status"] == "passed" for r in results) > 40
