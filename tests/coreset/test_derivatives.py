"""Gradients and Hessians of F agree with differences, in blocks and in either precision."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest

from coretree.coreset.derivatives import (
    blocks,
    gradient_and_hessian,
    margins,
    newton_step,
    objective,
    penalty,
    weighted_gram,
)
from coretree.coreset.losses import loss_named


def problem(name: str, n: int = 60, d: int = 3) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    X = np.column_stack([np.ones(n), rng.normal(size=(n, d - 1))])
    y = rng.integers(0, 3 if name == "softmax" else 2, n)
    theta = rng.normal(size=(3, d) if name == "softmax" else d)
    return X, y, rng.uniform(0.5, 2, n), theta


@pytest.mark.parametrize("name", ["logistic", "softmax", "poisson", "squared", "smooth_hinge"])
def test_derivatives_agree_with_differences(name: str) -> None:
    X, y, w, theta = problem(name)
    loss, e = loss_named(name), 1e-5
    g, H = gradient_and_hessian(theta, X, y, w, loss)
    for j in range(theta.size):
        step = e * np.eye(theta.size)[j].reshape(theta.shape)
        up, down = theta + step, theta - step
        slope = (objective(up, X, y, w, loss, 0) - objective(down, X, y, w, loss, 0)) / (2 * e)
        second = (gradient_and_hessian(up, X, y, w, loss)[0] - gradient_and_hessian(down, X, y, w, loss)[0]) / (2 * e)
        assert np.isclose(g[j], slope, rtol=1e-6)
        assert np.allclose(H[j], second, rtol=1e-5, atol=1e-6)


def test_the_intercept_is_not_penalised() -> None:
    assert penalty((3,), 2.0).tolist() == [0, 2, 2]
    assert penalty((2, 2), 1.0).tolist() == [0, 1, 0, 1]


def test_blocks_cover_every_row_once() -> None:
    for n in (0, 1, 7, 8, 9):
        assert [i for part in blocks(n, 4) for i in range(n)[part]] == list(range(n))


@pytest.mark.parametrize("order", ["C", "F"])
def test_layout_and_precision_do_not_matter(order: Literal["C", "F"]) -> None:
    X, _, w, theta = problem("softmax", n=500)
    Y = np.asarray(X, np.float32, order=order)
    assert margins(Y, theta).dtype == np.float32
    assert np.allclose(margins(Y, theta), X @ theta.T, atol=1e-5)
    assert np.allclose(weighted_gram(Y, w), X.T @ (X * w[:, None]), rtol=1e-5)


def test_newton_step_survives_a_singular_and_an_indefinite_hessian() -> None:
    assert np.isfinite(newton_step(np.zeros((2, 2)), np.zeros(2), np.ones(2))).all()
    assert np.isfinite(newton_step(np.array([[1.0, 2.0], [2.0, 1.0]]), np.zeros(2), np.ones(2))).all()
