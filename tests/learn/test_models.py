"""Named estimators, and the sketch that each estimator asks for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from sklearn.base import BaseEstimator, clone, is_classifier, is_regressor
from sklearn.calibration import CalibratedClassifierCV
from sklearn.cluster import KMeans
from sklearn.compose import TransformedTargetRegressor
from sklearn.datasets import make_classification, make_regression
from sklearn.ensemble import (
    AdaBoostClassifier,
    BaggingClassifier,
    ExtraTreesRegressor,
    HistGradientBoostingClassifier,
    IsolationForest,
    RandomForestClassifier,
    VotingClassifier,
)
from sklearn.linear_model import LogisticRegression, PoissonRegressor, Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC
from sklearn.tree import DecisionTreeClassifier
from threadpoolctl import threadpool_limits

from coretree.errors import ConfigError
from coretree.learn.models import Task, model_names, named_estimator, sketch_for

TASKS: tuple[Task, ...] = ("classification", "regression")
NAMED = [(name, task) for task in TASKS for name in model_names(task)]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Small fits: more threads would only wait for one another."""
    with threadpool_limits(1):
        yield


@pytest.mark.parametrize(("name", "task"), NAMED)
def test_named_estimators_fit_the_same_twice(name: str, task: Task) -> None:
    data = {"classification": make_classification, "regression": make_regression}[task]
    X, y = data(n_samples=120, n_features=6, random_state=0)
    first = named_estimator(name, task, seed=1).fit(X, y).predict(X)
    np.testing.assert_array_equal(first, named_estimator(name, task, seed=1).fit(X, y).predict(X))
    assert (is_classifier if task == "classification" else is_regressor)(named_estimator(name, task, seed=1))


def test_named_estimators_are_fresh_and_clone() -> None:
    first, second = (named_estimator("forest", "classification", seed=4) for _ in range(2))
    assert first is not second
    assert clone(first).get_params() == second.get_params()


@pytest.mark.parametrize(
    ("alias", "task", "name"),
    [
        ("lr", "classification", "logistic"),
        ("lr", "regression", "linear"),
        ("dt", "regression", "tree"),
        ("rf", "classification", "forest"),
        ("hgb", "classification", "hist_gradient_boosting"),
    ],
)
def test_aliases(alias: str, task: Task, name: str) -> None:
    assert repr(named_estimator(alias, task, seed=0)) == repr(named_estimator(name, task, seed=0))


@pytest.mark.parametrize(
    ("name", "task", "part"),
    [
        ("logistc", "classification", "Did you mean 'logistic'?"),
        ("ridge", "classification", "No classification model is named 'ridge'"),
        ("svm", "regression", "Choose from ridge, linear"),
    ],
)
def test_unknown_name_is_explained(name: str, task: Task, part: str) -> None:
    with pytest.raises(ConfigError) as caught:
        named_estimator(name, task, seed=0)
    assert part in str(caught.value)


def test_boosting_survives_a_tiny_class_among_several() -> None:
    """Without l2_regularization the leaves of the tiny class blow up, on full data as on a coreset."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(3000, 4))
    y = np.digitize(X[:, 0], [0.3, 1.0])
    y[:3] = 3
    model = named_estimator("hgb", "classification", seed=0).set_params(max_iter=30).fit(X, y)
    assert model.score(X, y) > 0.98


BALANCED: list[Any] = [
    DecisionTreeClassifier(),
    RandomForestClassifier(),
    HistGradientBoostingClassifier(),
    AdaBoostClassifier(),
    BaggingClassifier(),
    make_pipeline(StandardScaler(), make_pipeline(StandardScaler(), RandomForestClassifier())),
    GridSearchCV(DecisionTreeClassifier(), {"max_depth": [1]}),
    CalibratedClassifierCV(RandomForestClassifier()),
    VotingClassifier([("a", DecisionTreeClassifier()), ("b", RandomForestClassifier())]),
]
ROBUST: list[Any] = [
    LogisticRegression(),
    LinearSVC(),
    PoissonRegressor(),
    Ridge(),
    GaussianNB(),
    TransformedTargetRegressor(regressor=Ridge()),
    make_pipeline(StandardScaler(), LogisticRegression()),
    BaggingClassifier(LogisticRegression()),
    VotingClassifier([("a", DecisionTreeClassifier()), ("b", LogisticRegression())]),
]
UNIFORM: list[Any] = [
    ExtraTreesRegressor(),
    named_estimator("hgb", "regression", seed=0),
    KMeans(),
    IsolationForest(),
    KNeighborsClassifier(),
    make_pipeline(StandardScaler(), KMeans()),
]


@pytest.mark.parametrize(
    ("estimator", "sketch"),
    [(e, "balanced") for e in BALANCED] + [(e, "robust") for e in ROBUST] + [(e, "uniform") for e in UNIFORM],
    ids=lambda value: type(value).__name__ if not isinstance(value, str) else value,
)
def test_sketch_for(estimator: Any, sketch: str) -> None:
    assert sketch_for(estimator) == sketch


def test_boosting_packages_count_as_trees() -> None:
    class LGBMClassifier(LogisticRegression):  # type: ignore[misc, unused-ignore]
        __module__ = "lightgbm.sklearn"

    class LGBMRegressor(Ridge):  # type: ignore[misc, unused-ignore]
        __module__ = "lightgbm.sklearn"

    assert (sketch_for(LGBMClassifier()), sketch_for(LGBMRegressor())) == ("balanced", "uniform")


def test_unknown_estimator_with_weights_gets_the_robust_sketch() -> None:
    class Mine(BaseEstimator):  # type: ignore[misc, unused-ignore]
        def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Mine:
            return self

    assert sketch_for(Mine()) == "robust"
