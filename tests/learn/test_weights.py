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
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC, LinearSVC, OneClassSVM
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor
from threadpoolctl import threadpool_limits

from coretree.learn.masses import checked_weights, class_weights
from coretree.learn.prior_shift import PriorShift
from coretree.learn.weights import accepts_weights, treatment

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
