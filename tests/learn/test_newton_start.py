"""Newton's method leads a logistic regression to its own optimum, and leaves alone what it does not suit."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression, Ridge
from threadpoolctl import threadpool_limits

from coretree.learn.fit import fit_weighted
from coretree.learn.newton_start import LEAST_STEPS, MOST_UNKNOWNS, fit_from_newton, suits_newton


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Small fits: more threads would only wait for one another."""
    with threadpool_limits(1):
        yield


def rows(n: int, k: int, seed: int, rare: float = 0.02) -> tuple[Any, Any, Any]:
    """Rare columns beside common ones, on which lbfgs crawls; k classes; weights of a coreset."""
    rng = np.random.default_rng(seed)
    X = np.hstack([rng.normal(size=(n, 3)) * [1.0, 5.0, 0.2], rng.random((n, 8)) < rare * np.arange(1, 9)])
    scores = X @ rng.normal(size=(X.shape[1], k)) + rng.gumbel(size=(n, k))
    return X, np.array(["a", "b", "c"])[scores.argmax(axis=1)], rng.gamma(0.5, 40.0, n)


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 1000), k=st.sampled_from([2, 3]), C=st.sampled_from([0.01, 1.0, 10.0]))
def test_the_optimum_is_the_solver_s_own(seed: int, k: int, C: float) -> None:
    X, y, w = rows(300, k, seed)
    ours = fit_from_newton(LogisticRegression(C=C, tol=1e-6, max_iter=2000), X, y, {"sample_weight": w})
    plain = LogisticRegression(C=C, tol=1e-7, max_iter=5000).fit(X, y, sample_weight=w)
    assert np.allclose(ours.predict_proba(X), plain.predict_proba(X), atol=1e-4)
    assert ours.n_iter_.max() <= 2
    assert not ours.warm_start
    assert ours.get_params() == LogisticRegression(C=C, tol=1e-6, max_iter=2000).get_params()


def test_coresets_are_fitted_so_and_in_fewer_steps() -> None:
    X, y, w = rows(2000, 2, 0)
    wanted = LogisticRegression(tol=1e-6, max_iter=2000)
    plain = clone(wanted).fit(X, y, sample_weight=w)
    ours = fit_weighted(wanted, X, y, weights=w)
    assert plain.n_iter_[0] > 30
    assert ours.n_iter_[0] == 0
    assert not hasattr(wanted, "coef_")


@pytest.mark.parametrize("k", [2, 3])
def test_from_a_near_model_it_takes_fewer_steps_to_the_same_one(k: int, monkeypatch: pytest.MonkeyPatch) -> None:
    X, y, w = rows(1500, k, 3)
    steps: list[int] = []

    def noting(estimator: Any) -> Any:
        other = clone(estimator)
        fit = other.fit
        monkeypatch.setattr(other, "fit", lambda *a, **b: steps.append(int(fit(*a, **b).n_iter_.max())))
        return other

    monkeypatch.setattr("coretree.learn.newton_start.clone", noting)
    wanted = LogisticRegression(tol=1e-6, max_iter=2000)
    cold = fit_from_newton(clone(wanted), X, y, {"sample_weight": w})
    near = np.column_stack([cold.intercept_, cold.coef_]) + np.random.default_rng(0).normal(0, 1e-3, (k - (k == 2), 12))
    # near, of another model, of none, far
    others = [near.ravel() if k == 2 else near, np.zeros(5), np.nan * near, 50.0 * np.ones_like(near)]
    for start in others:
        found = fit_from_newton(clone(wanted), X, y, {"sample_weight": w}, start)
        assert np.allclose(found.predict_proba(X), cold.predict_proba(X), atol=1e-4)
        assert found.get_params() == wanted.get_params()
    assert steps[1] <= steps[0] - 2
    assert steps[2] == steps[3] == steps[0]


def test_the_solver_has_the_last_word(monkeypatch: pytest.MonkeyPatch) -> None:
    """The negative control: from a bad start it goes on until its own tolerance."""
    X, y, w = rows(800, 2, 1)
    right = fit_from_newton(LogisticRegression(tol=1e-8, max_iter=5000), X, y, {"sample_weight": w})

    def spoiled(estimator: Any) -> Any:
        other = LogisticRegression(solver="newton-cholesky").fit(X, y[::-1])
        monkeypatch.setattr(other, "fit", lambda *_, **__: other)
        return other

    monkeypatch.setattr("coretree.learn.newton_start.clone", spoiled)
    again = fit_from_newton(LogisticRegression(tol=1e-8, max_iter=5000), X, y, {"sample_weight": w})
    assert again.n_iter_[0] > 5
    assert np.allclose(again.coef_, right.coef_, atol=1e-3)


@pytest.mark.parametrize(
    "estimator",
    [
        LogisticRegression(solver="liblinear"),
        LogisticRegression(solver="saga", l1_ratio=0.5),
        LogisticRegression(C=np.inf),
        LogisticRegression(warm_start=True),
        LogisticRegression(max_iter=LEAST_STEPS - 1),
        Ridge(),
    ],
    ids=repr,
)
def test_others_are_left_alone(estimator: Any) -> None:
    X, y, _ = rows(200, 2, 2)
    assert suits_newton(LogisticRegression(), X, y)
    assert not suits_newton(estimator, X, y)


def test_wide_and_sparse_rows_are_left_alone() -> None:
    X, y, _ = rows(MOST_UNKNOWNS + 44, 3, 3)
    wide = np.zeros((len(X), MOST_UNKNOWNS))
    assert suits_newton(LogisticRegression(), wide[:, :-1], np.arange(len(X)) % 2)
    assert not suits_newton(LogisticRegression(), wide, np.arange(len(X)) % 2)
    assert not suits_newton(LogisticRegression(), wide[:, : MOST_UNKNOWNS // 2], y)  # three classes
    assert not suits_newton(LogisticRegression(), wide[:9, :20], y[:9])  # fewer rows than unknowns
    assert not suits_newton(LogisticRegression(), sparse.csr_array(X), y)


def test_bad_input_is_told_as_ever() -> None:
    X, y, w = rows(100, 2, 4)
    with pytest.raises(ValueError, match="NaN"):
        fit_weighted(LogisticRegression(), np.where(X > 3, np.nan, X), y, weights=w)
    with pytest.raises(ValueError, match="class"):
        fit_weighted(LogisticRegression(), X, np.full(100, "a"), weights=w)
