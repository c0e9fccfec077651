"""The objective read off a fitted estimator is the one that scikit-learn minimised: its optimum is ours."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from sklearn.cluster import KMeans
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import (
    ElasticNet,
    GammaRegressor,
    Lasso,
    LinearRegression,
    LogisticRegression,
    PoissonRegressor,
    Ridge,
    RidgeCV,
    SGDClassifier,
    TweedieRegressor,
)
from sklearn.svm import LinearSVC

from coretree.errors import ConfigError, TargetError
from coretree.learn.certificate import Excess, excess_of
from coretree.learn.curvature import curvature_tally, probe_at, sample_metric
from coretree.learn.margins import MarginLoss, zero_sum_basis
from coretree.learn.penalised import Penalised, penalised

Rows = npt.NDArray[Any]
RNG = np.random.default_rng(5)
X = RNG.standard_normal((400, 4)) * [1.0, 0.5, 2.0, 1.0] + [0.0, 1.0, 0.0, -1.0]
W = RNG.integers(1, 4, 400).astype(float)
SCORE = X @ [1.0, -2.0, 0.3, 0.0] + RNG.logistic(size=400)
TARGETS = {
    "two": (SCORE > 0).astype(int),
    "three": np.digitize(SCORE, [-1, 1]),
    "real": SCORE,
    "count": RNG.poisson(np.exp(np.clip(0.4 * SCORE, -3, 3))).astype(float),
    "positive": RNG.gamma(2.0, np.exp(np.clip(0.4 * SCORE, -3, 3))),
}
NEWTON: dict[str, Any] = {"solver": "newton-cholesky", "tol": 1e-12}
CASES: list[tuple[str, Any]] = [
    ("two", LogisticRegression(C=0.3, **NEWTON)),
    ("two", LogisticRegression(C=0.3, fit_intercept=False, **NEWTON)),
    ("two", LogisticRegression(C=np.inf, **NEWTON)),
    ("two", LogisticRegression(C=0.3, solver="liblinear", intercept_scaling=3.0, tol=1e-12)),
    ("two", LogisticRegression(C=0.02, solver="liblinear", l1_ratio=1, intercept_scaling=2.0, tol=1e-12)),
    ("two", LogisticRegression(C=0.05, solver="saga", l1_ratio=0.7, tol=1e-12, max_iter=20_000)),
    ("three", LogisticRegression(C=0.3, **NEWTON)),
    ("three", LogisticRegression(C=0.05, solver="saga", l1_ratio=0.7, tol=1e-12, max_iter=20_000)),
    ("two", LinearSVC(C=0.1, dual=False, tol=1e-10, max_iter=100_000)),
    ("two", LinearSVC(C=0.1, intercept_scaling=4.0, dual=False, tol=1e-10, max_iter=100_000)),
    ("two", LinearSVC(C=0.01, penalty="l1", dual=False, tol=1e-10, max_iter=100_000)),
    ("real", LinearRegression()),
    ("real", Ridge(alpha=7.0)),
    ("real", Ridge(alpha=7.0, fit_intercept=False)),
    ("real", Lasso(alpha=0.2, tol=1e-12)),
    ("real", ElasticNet(alpha=0.2, l1_ratio=0.3, tol=1e-12)),
    ("count", PoissonRegressor(alpha=0.2, **NEWTON)),
    ("positive", GammaRegressor(alpha=0.2, **NEWTON)),
    ("count", TweedieRegressor(power=1.5, alpha=0.2, **NEWTON)),
    ("real", TweedieRegressor(power=0, alpha=0.2, **NEWTON)),
]
IDS = [f"{type(m).__name__}-{i}" for i, (_, m) in enumerate(CASES)]


def certified(objective: Penalised, y: Rows) -> Excess:
    A = objective.design(X)
    l2 = objective.penalties(W.sum())[0][: A.shape[1]]
    probe = probe_at(objective.loss, objective.theta, sample_metric(objective.loss, objective.theta, l2, A, y, W))
    return excess_of(objective, probe, curvature_tally(probe, A, y, W))


def fitted(model: Any, y: Rows) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tolerances near rounding are not always met; the certificate tells
        return model.fit(X, y, sample_weight=W)


@pytest.mark.parametrize(("target", "model"), CASES, ids=IDS)
def test_the_optimum_of_scikit_learn_is_ours(target: str, model: Any) -> None:
    y = TARGETS[target]
    fitted(model, y)
    objective = penalised(model)
    assert objective is not None
    found = certified(objective, y)
    assert found.bounded
    assert found.upper < 1e-7 * found.objective
    # negative control: were the penalty another one, this would not be an optimum
    if objective.l2.any() or objective.l1.any():
        other = Penalised(objective.loss, objective.theta, 2 * objective.l2, 2 * objective.l1, objective.per_weight,
                          objective.intercept)  # fmt: skip
        assert certified(other, y).estimate > 1e-5 * found.objective


@pytest.mark.parametrize(("target", "model"), CASES, ids=IDS)
def test_parameters_go_back_into_a_plain_estimator(target: str, model: Any) -> None:
    y = TARGETS[target]
    fitted(model, y)
    objective = penalised(model)
    assert objective is not None
    same = objective.at(model, objective.theta)
    assert type(same) is type(model)
    assert np.shape(same.coef_) == np.shape(model.coef_)
    assert np.shape(same.intercept_) == np.shape(model.intercept_)
    np.testing.assert_allclose(same.predict(X), model.predict(X), atol=1e-9)
    moved = objective.at(model, objective.theta + 0.1)
    assert abs(moved.coef_ - model.coef_).max() > 0.01
    assert (penalised(moved).theta != objective.theta).any()  # type: ignore[union-attr]


def test_a_common_part_of_all_classes_is_counted() -> None:
    y = TARGETS["three"]
    model = fitted(LogisticRegression(C=0.3, **NEWTON), y)
    best = certified(penalised(model), y)  # type: ignore[arg-type]
    model.coef_ = model.coef_ + 0.5  # predicts the same, and pays for it
    found = certified(penalised(model), y)  # type: ignore[arg-type]
    paid = found.objective - best.objective
    assert paid == pytest.approx(0.5 / 0.3 * 3 * 4 * 0.25, rel=1e-6)
    assert found.lower <= paid * (1 + 1e-9) <= found.upper * (1 + 2e-9)


def test_what_has_no_known_objective() -> None:
    y = TARGETS["two"]
    for model in (
        LinearSVC(loss="hinge", dual=True, max_iter=100_000),
        Lasso(positive=True),
        TweedieRegressor(power=1, link="identity"),
        TweedieRegressor(power=3),
        RandomForestClassifier(n_estimators=2),
        SGDClassifier(),
        RidgeCV(),
        KMeans(2, n_init=1),
    ):
        assert penalised(fitted(model, y + 1.0 if "Tweedie" in type(model).__name__ else y)) is None
    assert penalised(fitted(LinearSVC(dual=False), TARGETS["three"])) is None
    assert penalised(Ridge().fit(X, np.c_[y, y])) is None


@pytest.mark.parametrize("model", [LogisticRegression(class_weight="balanced"), LinearSVC(class_weight={0: 2.0})])
def test_class_weights_are_refused_by_name(model: Any) -> None:
    with pytest.raises(ConfigError, match=r"class_weight=.*weight column"):
        penalised(fitted(model, TARGETS["two"]))


@pytest.mark.parametrize("name", ["logistic", "squared", "squared_hinge", "poisson", "gamma", "tweedie:1.5", "softmax"])
def test_derivatives_against_differences(name: str) -> None:
    basis = zero_sum_basis(4) if name == "softmax" else None
    loss = MarginLoss(name, basis)
    q, rng = (3 if name == "softmax" else 1), np.random.default_rng(0)
    Z = rng.normal(size=(50, q)) * 2
    y = rng.integers(0, 4, 50) if name == "softmax" else rng.integers(0, 2, 50) + (name == "gamma")
    value, slope, curvature = loss.rows(Z, y)
    assert (value >= 0).all()
    np.testing.assert_allclose(loss.value(Z, y), value, atol=1e-13)
    h = 1e-6
    for k in range(q):
        step = h * np.eye(q)[k]
        np.testing.assert_allclose(
            (loss.value(Z + step, y) - loss.value(Z - step, y)) / (2 * h), slope[:, k], atol=2e-6
        )
        apart = (loss.rows(Z + step, y)[1] - loss.rows(Z - step, y)[1]) / (2 * h)
        np.testing.assert_allclose(apart, curvature[:, k], rtol=1e-5, atol=2e-6)


def test_curvature_has_no_floor_where_the_margins_are_long() -> None:
    assert MarginLoss("logistic").rows(np.array([[100.0]]), np.ones(1))[2][0, 0, 0] < 1e-40


@pytest.mark.parametrize(("name", "y"), [("poisson", -1.0), ("gamma", 0.0)])
def test_targets_outside_the_loss(name: str, y: float) -> None:
    with pytest.raises(TargetError, match=f"{name} loss needs targets"):
        MarginLoss(name).check(np.array([1.0, y]))
    MarginLoss("poisson").check(np.zeros(2))
