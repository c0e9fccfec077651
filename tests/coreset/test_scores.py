"""Scores: positive and finite whatever the row, about one in sum, and a state that survives storage."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from coretree.coreset.scores import PilotState, pilot_state, robust_scores
from coretree.coreset.whiten import SKETCH_COLUMNS

LOSSES = ["logistic", "softmax", "squared", "squared_hinge", "hinge", "poisson", "gamma", "tweedie:1.5"]


def problem(name: str, n: int = 4000, d: int = 6) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    X = np.column_stack([np.ones(n), rng.normal(size=(n, d - 1))])
    if name == "softmax":
        y = (X @ rng.normal(size=(d, 4)) + rng.gumbel(size=(n, 4))).argmax(1)
        return X, y, np.bincount(y, minlength=4)
    if name in ("logistic", "squared_hinge", "hinge"):
        y = (X @ rng.normal(size=d) + rng.logistic(size=n) > 2).astype(int)
        return X, y, np.bincount(y)
    return X, rng.gamma(2.0, np.exp(0.3 * X[:, 1])), np.array([n])


@pytest.mark.parametrize("name", LOSSES)
def test_scores_add_up_to_about_one(name: str) -> None:
    X, y, counts = problem(name)
    state = pilot_state(X[::4], y[::4], np.full(1000, 4.0), name, counts)
    s = robust_scores(X, y, state)
    assert s.shape == (4000,)
    assert s.dtype == np.float64
    assert (s >= (0.05 if name == "hinge" else 0.1) / 4000).all()  # so that no weight exceeds 10 (20) times n / m
    assert 0.85 < s.sum() < 1.15
    assert np.allclose(robust_scores(np.asfortranarray(X, np.float32), y, state), s, rtol=1e-3)


@pytest.mark.parametrize("name", LOSSES)
def test_scores_are_finite_whatever_the_row(name: str) -> None:
    X, y, counts = problem(name)
    X = np.column_stack([X, np.zeros(4000), X[:, 1], np.full(4000, -0.01)])  # dead, doubled, a level never seen
    state = pilot_state(X[::4], y[::4], np.full(1000, 4.0), name, counts)
    strange = X[:60].copy()
    strange[0:20, 6] = 1.0
    strange[20:40, 8] = 120.0
    strange[40:50] *= 1e6
    strange[50:60, 7] = -1e4
    for dtype in (np.float32, np.float64):
        s = robust_scores(strange.astype(dtype), y[:60], state)
        assert np.isfinite(s).all()
        assert (s > 0).all()
        assert (s[:40] > 5 * np.median(robust_scores(X, y, state))).all()  # a level never seen is likely to be kept


@pytest.mark.parametrize("name", ["logistic", "softmax"])
def test_classes_missing_from_pilot_or_data(name: str) -> None:
    X, y, counts = problem(name)
    few = np.flatnonzero(y == 0)[:300]
    state = pilot_state(X[few], y[few], np.full(300, 3.0), name, counts)
    assert np.isfinite(robust_scores(X, y, state)).all()
    one = np.r_[few, np.flatnonzero(y == 1)[:1]]
    counts = np.where(np.arange(len(counts)) == 1, 1, counts)
    counts[-1] = 0 if name == "softmax" else counts[-1]
    state = pilot_state(X[one], y[one], np.full(301, 3.0), name, counts)
    s = robust_scores(X, y, state)
    assert np.isfinite(s).all()
    assert (s[y == 1] > 20 * np.median(s[y == 0])).all()  # the only row of a class is all but certain


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("loss", ["logistic", "squared_hinge", "hinge"])
def test_a_bad_row_is_named(loss: str, value: float) -> None:
    X, y, counts = problem("logistic")
    state = pilot_state(X, y, np.ones(4000), loss, counts)
    X[7, 2] = value
    with pytest.raises(ValueError, match="1 rows have one that is not, first row 7"):
        robust_scores(X, y, state)


def test_scores_follow_an_affine_change_of_features() -> None:
    X, y, counts = problem("logistic")
    turn = np.eye(6)
    turn[1:, 1:] = np.linalg.qr(np.random.default_rng(1).normal(size=(5, 5)))[0]
    a = robust_scores(X, y, pilot_state(X, y, np.ones(4000), "logistic", counts))
    b = robust_scores(X @ turn, y, pilot_state(X @ turn, y, np.ones(4000), "logistic", counts))
    assert np.allclose(a, b, rtol=1e-2)


def test_no_rows_no_scores() -> None:
    X, y, counts = problem("softmax")
    state = pilot_state(X, y, np.ones(4000), "softmax", counts)
    assert robust_scores(X[:0], y[:0], state).shape == (0,)


def test_wide_data_use_a_sketch_of_the_leverage() -> None:
    rng = np.random.default_rng(2)
    X = np.column_stack([np.ones(2000), rng.normal(size=(2000, 310))])
    y = (X[:, 1] > rng.normal(size=2000)).astype(int)
    state = pilot_state(X, y, np.ones(2000), "logistic", np.bincount(y))
    assert state.hessian_whitener.shape == (311, SKETCH_COLUMNS)
    assert 0.8 < robust_scores(X, y, state).sum() < 1.2


@pytest.mark.parametrize("name", LOSSES)
def test_state_round_trips_exactly(name: str) -> None:
    X, y, counts = problem(name)
    state = pilot_state(X, y, np.ones(4000), name, counts, lam=0.5)
    back = PilotState.from_state(state.state())
    assert (back.loss, back.lam) == (name, 0.5)
    assert np.array_equal(robust_scores(X, y, back), robust_scores(X, y, state))
    again = pilot_state(X, y, np.ones(4000), name, counts, lam=0.5)
    assert all(np.array_equal(v, again.state()[k]) for k, v in state.state().items())


def test_a_given_model_is_used_as_it_is() -> None:
    X, y, counts = problem("logistic")
    theta = np.arange(6.0) / 10
    assert np.array_equal(pilot_state(X, y, np.ones(4000), "logistic", counts, theta=theta).theta, theta)


@pytest.mark.parametrize(("name", "counts"), [("logistic", [5]), ("squared", [3, 2]), ("softmax", [5])])
def test_counts_must_fit_the_loss(name: str, counts: list[int]) -> None:
    with pytest.raises(ValueError, match=f"counts for loss '{name}' must have"):
        pilot_state(np.ones((5, 1)), np.zeros(5), np.ones(5), name, counts)
    with pytest.raises(ValueError, match="at least one pilot row"):
        pilot_state(np.ones((0, 1)), np.zeros(0), np.ones(0), name, counts)


def test_class_leverage_is_that_of_the_rows_own_class() -> None:
    X, y = two_classes(3)
    state = pilot_state(X, y, np.ones(len(y)), "logistic", np.bincount(y))
    swapped = replace(state, class_whiteners=state.class_whiteners[::-1].copy())
    a, b = robust_scores(X, y, state), robust_scores(X, y, swapped)
    for c in (0, 1):
        own, other = (np.minimum(np.square(X @ state.class_whiteners[k]).sum(1), 1) for k in (c, 1 - c))
        assert np.allclose((a - b)[y == c], (0.3 / (2 * 3) * (own - other))[y == c])


def two_classes(d: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(6)
    X = np.column_stack([np.ones(900), rng.standard_normal((900, d - 1)) * [1, 3]])
    return X, (X[:, 1] + 0.2 * rng.standard_normal(900) > 1).astype(int)
