"""The pilot: scores per class, and fits that agree with scikit-learn's and never diverge."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import GammaRegressor, LogisticRegression, PoissonRegressor, Ridge

from coretree.coreset import pilot as module
from coretree.coreset.derivatives import gradient_and_hessian, penalty
from coretree.coreset.losses import loss_named
from coretree.coreset.pilot import class_grams, fit_pilot, pilot_scores


def features(n: int = 800, d: int = 5, seed: int = 0) -> np.ndarray:
    return np.column_stack([np.ones(n), np.random.default_rng(seed).normal(size=(n, d - 1))])


def test_scores_have_mean_one_in_each_class_and_a_floor() -> None:
    X, y = features(), np.random.default_rng(1).integers(0, 3, 800)
    s = pilot_scores(X, y, 3)
    assert s.min() >= 0.5
    for c in range(3):
        assert np.isclose(s[y == c].mean(), 1)
    assert np.allclose(pilot_scores(np.asfortranarray(X, np.float32), y, 3), s, rtol=1e-4)


def test_scores_do_not_depend_on_the_features_units() -> None:
    X, y = features(), np.zeros(800, int)
    scaled = X * np.array([1, 1e3, 1e-3, 7, 1.0])
    assert np.allclose(pilot_scores(X, y, 1), pilot_scores(scaled, y, 1), rtol=1e-6)


def test_degenerate_partitions_have_scores() -> None:
    X = features(20)
    X[:, 2], X[:, 3] = 0.0, X[:, 1]
    y = np.r_[np.zeros(19, int), 1]
    for rows in (slice(0, 0), slice(0, 1), slice(0, 20)):
        s = pilot_scores(X[rows], y[rows], 4)
        assert np.isfinite(s).all()
        assert (s > 0).all()
    X[5, 1] = np.nan
    with pytest.raises(ValueError, match="finite numbers; row"):
        pilot_scores(X, y, 2)


def test_logistic_fit_is_that_of_scikit_learn() -> None:
    X = features()
    rng = np.random.default_rng(2)
    y, w = (X @ rng.normal(size=5) + rng.logistic(size=800) > 0).astype(int), rng.uniform(0.5, 3, 800)
    theta = fit_pilot(X, y, w, "logistic", lam=2.0)
    oracle = LogisticRegression(C=0.5, tol=1e-10, max_iter=1000).fit(X[:, 1:], y, sample_weight=w)
    assert np.allclose(theta, np.r_[oracle.intercept_, oracle.coef_[0]], atol=1e-4)


def test_softmax_fit_is_that_of_scikit_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    X = features()
    rng = np.random.default_rng(3)
    y = (X @ rng.normal(size=(5, 3)) + rng.gumbel(size=(800, 3))).argmax(1)
    oracle = LogisticRegression(tol=1e-10, max_iter=1000).fit(X[:, 1:], y)
    theta = fit_pilot(X, y, np.ones(800), "softmax")
    assert np.allclose(theta[:, 1:], oracle.coef_, atol=1e-4)
    assert np.allclose(np.diff(theta[:, 0]), np.diff(oracle.intercept_), atol=1e-4)
    monkeypatch.setattr(module, "_NEWTON_LIMIT", 1)  # the path of wide models
    assert np.allclose(fit_pilot(X, y, np.ones(800), "softmax")[:, 1:], oracle.coef_, atol=1e-3)


@pytest.mark.parametrize(
    ("name", "oracle"),
    [("poisson", PoissonRegressor), ("gamma", GammaRegressor), ("squared", Ridge)],
)
def test_regressions_are_those_of_scikit_learn(name: str, oracle: type) -> None:
    X, n = features(), 800
    rng = np.random.default_rng(4)
    y = rng.gamma(2.0, np.exp(X @ rng.normal(size=5) * 0.3) / 2) + 1e-3
    model = oracle(alpha=3.0) if name == "squared" else oracle(alpha=3.0 / n, tol=1e-10, max_iter=1000)
    model.fit(X[:, 1:], y)
    theta = fit_pilot(X, y, np.ones(n), name, lam=3.0)
    assert np.allclose(theta, np.r_[model.intercept_, model.coef_], atol=1e-4)


@pytest.mark.parametrize("name", ["logistic", "softmax", "squared_hinge", "hinge", "poisson", "tweedie:1.5"])
def test_every_fit_ends_at_a_stationary_point(name: str) -> None:
    X = features()
    y = (X[:, 1] + np.random.default_rng(5).normal(size=800) > 0.5).astype(int)
    theta = fit_pilot(X, y, np.ones(800), name)
    loss = loss_named("smooth_hinge" if name == "hinge" else name)
    g, H = gradient_and_hessian(theta, X, y, np.ones(800), loss)
    g += penalty(theta.shape, 1.0) * theta.ravel()
    assert g @ np.linalg.pinv(H + np.diag(penalty(theta.shape, 1.0))) @ g < 1e-5


@pytest.mark.parametrize("name", ["logistic", "softmax", "squared_hinge", "hinge", "poisson", "gamma"])
@pytest.mark.parametrize("lam", [1.0, 1e-6])
def test_separable_single_class_and_degenerate_data_stay_finite(name: str, lam: float) -> None:
    X = features(60)
    X[:, 2], X[:, 3] = 0.0, X[:, 1]
    y = (X[:, 1] > 0).astype(int) + (name == "gamma")
    only = np.full(60, 1)
    for t in (y, only):
        theta = fit_pilot(X, t, np.full(60, 1e6), name, lam=lam)
        assert np.isfinite(theta).all()
        assert np.abs(theta).max() < 1e5
    assert np.array_equal(fit_pilot(X, y, np.ones(60), name), fit_pilot(X, y, np.ones(60), name))


def test_a_class_without_rows_gets_half_a_row() -> None:
    X = features()
    y = np.random.default_rng(6).integers(0, 2, 800) * 2  # codes 0 and 2
    theta = fit_pilot(X, y, np.full(800, 10.0), "softmax", n_classes=4)
    z = X @ theta.T
    p = np.exp(z - z.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    assert theta.shape == (4, 5)
    assert np.allclose(10 * p.sum(0)[[1, 3]], 0.5, rtol=0.2)


def test_class_grams_fall_back_and_regularise() -> None:
    X = features(100)
    grams = class_grams(X, np.r_[np.zeros(99, int), 1], np.full(100, 2.0), 3)
    assert np.allclose(grams[0], 2 * X[:99].T @ X[:99], rtol=0.01, atol=0.5)
    assert all(np.linalg.eigvalsh(g).min() > 0 for g in grams)
    assert np.allclose(grams[2], X.T @ X / 100)
