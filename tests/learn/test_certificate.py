"""Bounds hold at any parameters of any problem, are sharp near the optimum, and break when they are meddled with."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from sklearn.linear_model import (
    ElasticNet,
    GammaRegressor,
    LinearRegression,
    LogisticRegression,
    PoissonRegressor,
    Ridge,
    TweedieRegressor,
)
from sklearn.svm import LinearSVC

from coretree.learn.certificate import Excess, excess_of, kept, local_lasso
from coretree.learn.curvature import CurvatureTally, Probe, curvature_tally, metric, probe_at, sample_metric
from coretree.learn.margins import Float, MarginLoss
from coretree.learn.penalised import Penalised, penalised

KINDS = [
    "logistic",
    "logistic + l1",
    "softmax",
    "squared",
    "squared + l1",
    "squared hinge",
    "poisson",
    "gamma",
    "tweedie",
]


def estimator(kind: str, strength: float, n: float) -> Any:
    """Scikit-learn's estimator, to the last digit it gives; ``strength`` is the penalty beside summed losses."""
    newton: dict[str, Any] = {"solver": "newton-cholesky", "tol": 1e-12, "max_iter": 1000}
    return {
        "logistic": LogisticRegression(C=1 / strength, **newton),
        "softmax": LogisticRegression(C=1 / strength, **newton),
        "logistic + l1": LogisticRegression(C=1 / strength, l1_ratio=1, solver="liblinear", tol=1e-12, max_iter=1000),
        "squared": Ridge(alpha=strength),
        "squared + l1": ElasticNet(alpha=strength / n, tol=1e-13, max_iter=100_000),
        "squared hinge": LinearSVC(C=1 / strength, dual=False, tol=1e-12, max_iter=100_000),
        "poisson": PoissonRegressor(alpha=strength / n, **newton),
        "gamma": GammaRegressor(alpha=strength / n, **newton),
        "tweedie": TweedieRegressor(power=1.5, alpha=strength / n, **newton),
    }[kind]


def rows(kind: str, n: int, d: int, seed: int) -> tuple[Float, Float, Float]:
    """Features with heavy tails and repeated rows, targets, weights."""
    rng = np.random.default_rng(seed)
    X = rng.standard_t(5, (n, d))
    X[n // 2 :: 7] = X[0]
    z = X @ rng.normal(size=d) / np.sqrt(d) + rng.logistic(size=n)
    y: Any = (z > 0).astype(float)
    if kind == "softmax":
        y = np.digitize(z, [-1.0, 1.0]).astype(float)
    elif kind.startswith("squared") and "hinge" not in kind:
        y = z
    elif kind in ("poisson", "tweedie"):
        y = rng.poisson(np.exp(np.clip(z / 4, -2, 2))).astype(float)
    elif kind == "gamma":
        y = rng.gamma(2.0, np.exp(np.clip(z / 4, -2, 2))) + 1e-3
    if len(np.unique(y)) < 3:
        y[:3] = [0, 1, 2] if kind == "softmax" else [0, 1, 1]
    return X, y, rng.integers(1, 4, n).astype(float)


class Problem:
    """All rows, the objective, and scikit-learn's optimum."""

    def __init__(self, kind: str, n: int, d: int, strength: float, seed: int) -> None:
        X, self.y, self.w = rows(kind, n, d, seed)
        self.best = estimator(kind, strength, self.w.sum())
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # tolerances below rounding
            self.best.fit(X, self.y, sample_weight=self.w)
        found = penalised(self.best)
        assert found is not None
        self.objective: Penalised = found
        self.X = found.design(X)
        self.l2 = found.penalties(self.w.sum())[0][: len(found.theta)]
        self.optimum = self.at(found.theta)  # of scikit-learn: certified, not trusted

    def tally(self, theta: Float, part: Any = slice(None)) -> tuple[Probe, CurvatureTally]:
        loss = self.objective.loss
        core = slice(None, None, 2)  # any sample makes a metric
        found = sample_metric(loss, theta, self.l2, self.X[core], self.y[core], 2 * self.w[core])
        probe = probe_at(loss, theta, found)
        return probe, curvature_tally(probe, self.X[part], self.y[part], self.w[part])

    def at(self, theta: Float) -> Excess:
        return excess_of(self.objective, *self.tally(theta))

    def moved(self, size: float, seed: int) -> Float:
        step = np.random.default_rng(seed).normal(size=self.objective.theta.shape)
        return np.asarray(self.objective.theta + size * step, np.float64)


def holds(found: Excess, optimum: Excess) -> None:
    """lower <= F - min F <= upper, where min F is known to be within the optimum's own certificate."""
    slack = 1e-11 * abs(found.objective)
    true_low = found.objective - optimum.objective
    assert found.lower <= true_low + optimum.upper + slack
    assert true_low <= found.upper + slack


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(KINDS), st.integers(20, 150), st.integers(1, 4), st.sampled_from([0.01, 1.0, 30.0]),
    st.sampled_from([1e-4, 1e-2, 0.1, 1.0]), st.integers(0, 999),
)  # fmt: skip
def test_bounds_hold_at_any_parameters(kind: str, n: int, d: int, strength: float, size: float, seed: int) -> None:
    problem = Problem(kind, n, d, strength, seed)
    found = problem.at(problem.moved(size, seed))
    assert 0 <= found.lower <= found.upper <= found.objective
    holds(found, problem.optimum)


@pytest.mark.parametrize("kind", KINDS)
def test_bounds_are_sharp_near_the_optimum(kind: str) -> None:
    problem = Problem(kind, 2000, 4, 1.0, 3)
    assert problem.optimum.upper < 1e-9 * problem.optimum.objective
    smooth = "l1" not in kind
    for size in (1e-3, 3e-3):
        found = problem.at(problem.moved(size, 1))
        true = found.objective - problem.optimum.objective
        assert 1e-8 < true / found.objective < 1e-4
        assert found.bounded
        assert found.upper / true < (1.1 if kind != "softmax" else 1.5)
        assert 0.5 < found.estimate / true < 2
        assert "hinge" in kind or found.lower / true > (0.9 if smooth else 0.6)


@pytest.mark.parametrize("kind", ["squared", "squared + l1"])
def test_squares_are_known_exactly(kind: str) -> None:
    problem = Problem(kind, 500, 4, 5.0, 3)
    found = problem.at(problem.moved(0.3, 1))
    true = found.objective - problem.optimum.objective
    assert found.estimate == pytest.approx(true, rel=1e-8)
    assert found.lower == pytest.approx(true, rel=1e-3 if "l1" in kind else 1e-8)  # with L1: along the step only
    assert true * (1 - 1e-9) <= found.upper <= true * (1 + 1e-9 if kind == "squared" else 2)


def test_at_the_optimum_of_a_lasso_the_bound_is_its_duality_gap() -> None:
    X, y, w = rows("squared", 400, 6, 0)
    loose = ElasticNet(alpha=0.1, l1_ratio=0.9, tol=1e-3).fit(X, y, sample_weight=w)
    objective = penalised(loose)
    assert objective is not None
    A = objective.design(X)
    probe = probe_at(objective.loss, objective.theta, metric(A.T @ A, np.ones(7), 1.0))
    found = excess_of(objective, probe, curvature_tally(probe, A, y, w))
    # scikit-learn's gap is per unit of weight, at its own dual point
    assert found.upper <= loose.dual_gap_ * w.sum() * (1 + 1e-6) + 1e-9 * found.objective


def test_separable_rows_without_a_penalty_never_get_a_bound() -> None:
    x = np.linspace(-1, 1, 40)
    X, y = np.c_[np.ones(40), x], (x > 0).astype(float)
    for slope in (0.0, 1.0, 10.0, 100.0, 1000.0):
        theta = np.array([[0.0], [slope]])
        objective = Penalised(MarginLoss("logistic"), theta, np.zeros(2), np.zeros(2), False, True)
        probe = probe_at(objective.loss, theta, sample_metric(objective.loss, theta, np.zeros(2), X, y, np.ones(40)))
        found = excess_of(objective, probe, curvature_tally(probe, X, y))
        assert not found.bounded
        assert found.upper == pytest.approx(found.objective, abs=1e-300)


@pytest.mark.parametrize("kind", ["logistic", "softmax", "squared hinge"])
def test_a_bad_metric_costs_tightness_only(kind: str) -> None:
    problem = Problem(kind, 800, 3, 1.0, 2)
    theta = problem.moved(0.01, 0)
    good = problem.at(theta)
    rng = np.random.default_rng(0)
    for scale in (1e-3, 1.0, 1e3):
        B = rng.normal(size=(4, 4))
        probe = probe_at(problem.objective.loss, theta, metric(scale * B @ B.T, np.zeros(4), scale))
        found = excess_of(problem.objective, probe, curvature_tally(probe, problem.X, problem.y, problem.w))
        holds(found, problem.optimum)
        assert found.estimate == pytest.approx(good.estimate, rel=1e-6)
        assert found.objective == pytest.approx(good.objective, rel=1e-13)


def test_features_that_say_the_same_twice() -> None:
    X, y, w = rows("squared", 300, 3, 0)
    level = np.random.default_rng(0).integers(0, 3, 300)
    X = np.c_[X, np.eye(3)[level], X[:, 0]]  # one-hot beside the intercept, and a copy
    model = LinearRegression().fit(X, y, sample_weight=w)
    objective = penalised(model)
    assert objective is not None
    A = objective.design(X)
    for theta in (objective.theta, objective.theta + 0.1 * np.eye(8)[:, [1]]):
        probe = probe_at(objective.loss, theta, sample_metric(objective.loss, theta, np.zeros(8), A, y, w))
        found = excess_of(objective, probe, curvature_tally(probe, A, y, w))
        best = w @ (model.predict(X) - y) ** 2 / 2
        assert found.bounded
        assert found.upper == pytest.approx(found.objective - best, abs=1e-9 * best, rel=1e-6)


def test_half_of_the_gradient_breaks_the_bound() -> None:
    problem = Problem("logistic", 2000, 4, 1.0, 3)
    probe, tally = problem.tally(problem.moved(0.01, 1))
    found = excess_of(problem.objective, probe, replace(tally, gradient=tally.gradient / 2))
    with pytest.raises(AssertionError):
        holds(found, problem.optimum)


def test_a_partition_left_out_breaks_the_bound() -> None:
    problem = Problem("logistic", 2000, 4, 1.0, 3)
    part = slice(0, 1800)
    found = excess_of(problem.objective, *problem.tally(problem.objective.theta, part))
    lacking = excess_of(problem.objective, *problem.tally(problem.objective.theta))
    assert found.lower > 100 * lacking.upper  # it would claim a distance that is not there


def test_one_bin_is_spoiled_by_heavy_rows() -> None:
    many, one = 0, 0
    for seed in range(8):
        rng = np.random.default_rng(seed)
        X = rng.standard_normal((3000, 6)) / np.sqrt(rng.chisquare(2, (3000, 1)) / 2)
        y = (X @ rng.normal(size=6) / 2 + rng.logistic(size=3000) > 0).astype(float)
        problem = Problem.__new__(Problem)
        model = LogisticRegression(solver="newton-cholesky", tol=1e-12).fit(X, y)
        objective = penalised(model)
        assert objective is not None
        problem.objective, problem.X, problem.y = objective, objective.design(X), y
        problem.w, problem.l2 = np.ones(3000), np.r_[0.0, np.ones(6)]
        problem.optimum = problem.at(objective.theta)
        step = problem.moved(1.0, seed) - objective.theta
        theta = objective.theta + step * 0.02
        while problem.at(theta).estimate < 1e-3 * problem.optimum.objective:
            theta = objective.theta + 1.3 * (theta - objective.theta)
        probe, tally = problem.tally(theta)
        many += excess_of(objective, probe, tally).bounded
        alone = replace(probe, edges=np.zeros(0))
        one += excess_of(objective, alone, curvature_tally(alone, problem.X, y)).bounded
    assert many >= 7
    assert one <= many - 3


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 5), st.integers(0, 999))
def test_the_local_lasso_is_a_minimum(p: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    B = rng.normal(size=(p + 2, p))
    H, g, at, l1 = B.T @ B, rng.normal(size=p) * 3, rng.normal(size=p), rng.random(p) * 2

    def value(u: Float) -> float:
        return float(g @ u + u @ H @ u / 2 + l1 @ np.abs(at + u))

    u, s = local_lasso(H, g, at, l1)
    assert (np.abs(s) <= l1).all()
    np.testing.assert_allclose(H @ u + g + s, 0, atol=1e-6)
    other = minimize(value, np.zeros(p), method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-12, "maxiter": 4000})
    assert value(u) <= other.fun + 1e-8


def test_shares_of_curvature_are_integrals_rounded_to_the_safe_side() -> None:
    t = np.linspace(0, 1, 200_001)
    x = np.array([0.0, 1e-6, 5e-4, 0.002, 0.7, 5.0, 60.0])
    slope, value = kept(x, kink=False)
    for i, each in enumerate(x):
        fade = np.exp(-t * each)
        assert slope[i] == pytest.approx(np.trapezoid(fade, t), rel=1e-7)
        assert value[i] == pytest.approx(np.trapezoid((1 - t) * fade, t), rel=1e-7)
        assert value[i] <= np.trapezoid((1 - t) * fade, t) * (1 + 1e-8)
        stays = (t * each < 1).astype(float)
        hinge = [float(v[0]) for v in kept(np.array([each]), kink=True)]
        assert hinge[0] == pytest.approx(np.trapezoid(stays, t), abs=1e-4)
        assert hinge[1] == pytest.approx(np.trapezoid((1 - t) * stays, t), abs=1e-4)
