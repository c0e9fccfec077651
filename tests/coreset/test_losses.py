"""Losses: derivatives agree with differences, values with scikit-learn, and nothing overflows."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit
from sklearn.metrics import hinge_loss, log_loss, mean_tweedie_deviance

from coretree.coreset.losses import Loss, loss_named
from coretree.errors import ConfigError

ONE_MARGIN = ["logistic", "squared", "squared_hinge", "smooth_hinge", "poisson", "gamma", "tweedie:1.3", "tweedie:1.9"]


def target(loss: Loss, n: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    if loss.kind == "binary":
        return rng.integers(0, 2, n)
    y = rng.gamma(2.0, 1.0, n)
    if loss.name.startswith("tweedie") or loss.name == "poisson":
        y[::3] = 0.0
    return y


@pytest.mark.parametrize("name", ONE_MARGIN)
def test_derivatives_agree_with_differences(name: str) -> None:
    loss = loss_named(name)
    z = np.random.default_rng(1).normal(0, 2, 400)
    y, e = target(loss, 400), 1e-5
    smooth = np.abs((2 * y - 1) * z - 1) > 1e-3 if name == "squared_hinge" else np.ones(400, bool)
    slope = (loss.value(z + e, y) - loss.value(z - e, y)) / (2 * e)
    curvature = (loss.slope(z + e, y) - loss.slope(z - e, y)) / (2 * e)
    assert np.allclose(loss.slope(z, y), slope, rtol=1e-6, atol=1e-7)
    assert np.allclose(loss.curvature(z, y)[smooth], curvature[smooth], rtol=1e-5, atol=1e-6)


def test_softmax_derivatives_agree_with_differences() -> None:
    loss, e = loss_named("softmax"), 1e-5
    rng = np.random.default_rng(2)
    z, y = rng.normal(0, 2, (50, 4)), rng.integers(0, 4, 50)
    for c in range(4):
        step = e * np.eye(4)[c]
        up, down = z + step, z - step
        assert np.allclose(loss.slope(z, y)[:, c], (loss.value(up, y) - loss.value(down, y)) / (2 * e), atol=1e-8)
        second = (loss.slope(up, y) - loss.slope(down, y))[:, c] / (2 * e)
        assert np.allclose(loss.curvature(z, y)[:, c], second, atol=1e-8)


@pytest.mark.parametrize("name", [*ONE_MARGIN, "hinge"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_extreme_margins_stay_finite_and_in_their_type(name: str, dtype: type[np.floating]) -> None:
    loss = loss_named(name)
    z = np.array([-1e4, -800.0, -31.0, 0.0, 31.0, 800.0, 1e4], dtype)
    for y in (np.zeros(7), np.ones(7)):
        y = np.maximum(y, 1e-3) if name == "gamma" else y
        for got in (loss.value(z, y), loss.slope(z, y), loss.curvature(z, y)):
            assert got.dtype == dtype
            assert np.isfinite(got).all()
        assert (loss.curvature(z, y) >= 0).all()
        assert (np.diff(loss.slope(z, y)) >= 0).all()  # convex


def test_softmax_stays_finite() -> None:
    loss = loss_named("softmax")
    z = np.array([[1e4, 0.0, -1e4], [0.0, 0.0, 0.0]], np.float32)
    assert np.isfinite(loss.value(z, np.array([2, 1]))).all()
    assert np.allclose(loss.slope(z, np.array([2, 1])).sum(1), 0, atol=1e-6)


def test_values_are_those_of_scikit_learn() -> None:
    z = np.random.default_rng(3).normal(size=200)
    y = target(loss_named("logistic"), 200)
    assert np.isclose(loss_named("logistic").value(z, y).mean(), log_loss(y, expit(z)))
    assert np.isclose(loss_named("hinge").value(z, y).mean(), hinge_loss(y, z))
    for name, power in (("poisson", 1), ("gamma", 2), ("tweedie:1.5", 1.5)):
        t = target(loss_named(name), 200)
        assert np.isclose(2 * loss_named(name).value(z, t).mean(), mean_tweedie_deviance(t, np.exp(z), power=power))
    both = np.column_stack([np.zeros(200), z])
    assert np.allclose(loss_named("softmax").value(both, y), loss_named("logistic").value(z, y))


@pytest.mark.parametrize("name", ["log", "tweedie", "tweedie:3", "tweedie:x", ""])
def test_unknown_names_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="must be one of logistic"):
        loss_named(name)


def test_a_loss_is_its_own_name() -> None:
    for name in [*ONE_MARGIN, "hinge", "softmax"]:
        assert loss_named(name).name == name
        assert loss_named(loss_named(name)) is loss_named(name) or name.startswith("tweedie")
