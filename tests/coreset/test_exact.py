"""Laws of pseudo-rows: they have the moments of all rows, so least squares cannot tell them apart."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coretree.coreset.comoments import CoMoments, comoments
from coretree.coreset.exact import helmert, pseudo_rows
from coretree.coreset.rfactor import rfactor
from coretree.errors import EmptyDataError


@given(n=st.integers(1, 40), d=st.integers(1, 6), targets=st.integers(0, 2), seed=st.integers(0, 99))
@settings(max_examples=25, deadline=None)
def test_they_have_the_moments_of_all_rows(n: int, d: int, targets: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    X, w = rng.standard_normal((n, d)) * 10 ** rng.uniform(-3, 3, d) + 5, rng.integers(0, 3, n) + 0.5
    y = rng.standard_normal((n, targets)) if targets else None
    for gather in (comoments, rfactor):
        m = gather(X, y, w)
        rows = pseudo_rows(m)
        assert len(rows.weights) == d + targets + 1
        assert (rows.y is None) == (targets == 0)
        again = comoments(rows.X, rows.y, rows.weights)
        size = np.sqrt(np.diag(m.scatter)) + 1e-6 * (1 + np.abs(m.mean))
        assert np.isclose(again.weight, m.weight, rtol=1e-14)
        assert np.allclose(again.mean, m.mean, rtol=1e-10, atol=1e-10)
        assert np.abs((again.scatter - m.scatter) / np.outer(size, size)).max() < 1e-8


def test_weighted_least_squares_and_its_r2_are_those_of_all_rows() -> None:
    rng = np.random.default_rng(0)
    X, w = rng.standard_normal((3000, 5)) + 100, rng.exponential(size=3000)
    y = X @ rng.standard_normal(5) + rng.standard_t(4, 3000)

    def solve(A: np.ndarray, b: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, float]:
        A, root = np.column_stack([np.ones(len(A)), A]), np.sqrt(v)
        theta = np.linalg.lstsq(A * root[:, None], b * root)[0]
        mean = np.average(b, weights=v)
        return theta, 1 - v @ (b - A @ theta) ** 2 / (v @ (b - mean) ** 2)

    rows = pseudo_rows(sum(comoments(X[i::7], y[i::7], w[i::7]) for i in range(7)))
    assert rows.y is not None
    (theta, r2), (small, small_r2) = solve(X, y, w), solve(rows.X, rows.y, rows.weights)
    assert np.allclose(small, theta, rtol=1e-9)
    assert abs(small_r2 - r2) < 1e-12
    uniform = rng.choice(3000, 7, replace=False)  # negative control: as many real rows do not do
    assert np.abs(solve(X[uniform], y[uniform], np.ones(7))[0] - theta).max() > 1e-2


def test_centred_rows_differ_by_the_mean_alone() -> None:
    m = comoments(np.random.default_rng(1).standard_normal((50, 3)) + 4)
    assert np.allclose(pseudo_rows(m).X - m.mean, pseudo_rows(m, centred=True).X, atol=1e-12)


def test_one_row_becomes_copies_of_itself_and_none_is_an_error() -> None:
    rows = pseudo_rows(comoments([[1.0, 2.0]], [3.0]))
    assert rows.X.tolist() == [[1.0, 2.0]] * 4
    assert rows.y is not None
    assert rows.y.tolist() == [3.0] * 4
    with pytest.raises(EmptyDataError, match="at least one row"):
        pseudo_rows(CoMoments.empty(2, 1))


@pytest.mark.parametrize("p", [1, 2, 30])
def test_helmert_columns_are_orthonormal_and_sum_to_zero(p: int) -> None:
    Q = helmert(p)
    assert np.allclose(Q.T @ Q, np.eye(p), atol=1e-14)
    assert np.allclose(Q.sum(axis=0), 0, atol=1e-14)
