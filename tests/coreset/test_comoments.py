"""Laws of co-moments and R factors: any partitioning gives the moments of all rows, and nothing cancels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coretree.coreset.comoments import CoMoments, comoments
from coretree.coreset.rfactor import RFactor, rfactor
from coretree.coreset.second_moments import Summary
from coretree.errors import DataError

Array = npt.NDArray[Any]
Gather = Callable[..., Any]
BOTH = pytest.mark.parametrize("gather", [comoments, rfactor])


def table(n: int, d: int, seed: int) -> tuple[Array, Array, Array]:
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, d)) @ rng.standard_normal((d, d)) + 10 * rng.standard_normal(d)
    return X, rng.standard_normal(n), rng.integers(0, 4, n).astype(float)


def same(a: Summary, b: Summary) -> bool:
    x, y = a.state(), b.state()
    return x.keys() == y.keys() and all(np.array_equal(x[k], y[k]) and x[k].dtype == y[k].dtype for k in x)


def close(a: Summary, b: Summary) -> bool:
    scale = np.sqrt(np.diag(b.scatter).max(initial=0.0)) + 1e-30
    return (
        a.n_rows == b.n_rows
        and np.isclose(a.weight, b.weight, rtol=1e-14)
        and np.allclose(a.mean, b.mean, rtol=1e-12, atol=1e-12)
        and np.allclose(a.scatter / scale**2, b.scatter / scale**2, atol=1e-12)
    )


@BOTH
@given(n=st.integers(0, 60), parts=st.integers(1, 6), seed=st.integers(0, 99), weighted=st.booleans())
@settings(max_examples=25, deadline=None)
def test_any_partition_and_order_gives_the_moments_of_all_rows(
    gather: Gather, n: int, parts: int, seed: int, weighted: bool
) -> None:
    X, y, w = table(n, 3, seed)
    v = w if weighted else None
    shard = np.random.default_rng(seed).integers(0, parts, n)
    pieces = [gather(X[shard == i], y[shard == i], None if v is None else v[shard == i]) for i in range(parts)]
    whole = gather(X, y, v)
    assert close(sum(pieces), whole)
    assert close(sum(pieces[::-1]), whole)
    assert close((pieces[0] + sum(pieces[1:])) if parts > 1 else pieces[0], whole)
    assert np.allclose(whole.root().T @ whole.root(), whole.scatter, atol=1e-9 * (1 + np.abs(whole.scatter).max()))


@BOTH
def test_the_scatter_is_numpys_covariance(gather: Gather) -> None:
    X, y, w = table(500, 4, 0)
    m = gather(X, y, w)
    expected = np.cov(np.column_stack([X, y]).T, fweights=w.astype(int), bias=True) * w.sum()
    assert np.allclose(m.scatter, expected, rtol=1e-11)
    assert (m.n_rows, m.n_features, m.n_targets) == (int((w > 0).sum()), 4, 1)


@BOTH
def test_integer_weights_are_repeated_rows_and_no_rows_change_nothing(gather: Gather) -> None:
    X, y, w = table(200, 3, 1)
    weighted, repeated = gather(X, y, w), gather(np.repeat(X, w.astype(int), 0), np.repeat(y, w.astype(int)))
    assert np.allclose(weighted.scatter, repeated.scatter, rtol=1e-12)
    assert weighted.weight == repeated.weight
    empty = gather(X[:0], y[:0])
    assert same(weighted + empty, weighted)
    assert same(empty + weighted, weighted)
    assert same(sum([weighted]), weighted)
    assert same(empty, type(empty).empty(3, 1))


@BOTH
def test_the_state_restores_every_bit(gather: Gather) -> None:
    X, y, w = table(50, 3, 2)
    m = gather(X, y, w)
    kind: type[CoMoments] | type[RFactor] = type(m)
    assert same(kind.from_state(m.state()), m)


@BOTH
def test_a_large_mean_costs_nothing_but_a_sum_of_squares_would(gather: Gather) -> None:
    rng = np.random.default_rng(3)
    small = rng.integers(-512, 512, (40_000, 4)) / 256.0  # exact in float64 after the shift
    m = sum(gather(part) for part in np.array_split(small + 1e6, 37))
    expected = comoments(small).scatter
    assert np.abs(m.scatter - expected).max() / expected.max() < 1e-11
    raw = (small + 1e6).T @ (small + 1e6) - len(small) * np.outer(m.mean, m.mean)
    assert np.abs(raw - expected).max() / expected.max() > 1e-8


def test_float32_input_is_added_up_in_float64() -> None:
    X = (np.random.default_rng(4).standard_normal((50_000, 3)) + 1000).astype(np.float32)
    assert np.allclose(comoments(X).scatter, comoments(X.astype(float)).scatter, rtol=1e-13)
    assert np.allclose(comoments(np.asfortranarray(X)).scatter, comoments(X).scatter, rtol=1e-13)


def test_the_r_factor_keeps_what_the_co_moments_lose() -> None:
    rng = np.random.default_rng(5)
    X = rng.standard_normal((20_000, 12)) @ np.diag(10.0 ** -np.linspace(0, 8, 12)) @ rng.standard_normal((12, 12)) + 1
    true = np.linalg.svd(X - X.mean(0), compute_uv=False)
    by_qr = np.linalg.svd(sum(rfactor(p) for p in np.array_split(X, 16)).root(), compute_uv=False)
    by_sums = np.linalg.svd(sum(comoments(p) for p in np.array_split(X, 16)).root(), compute_uv=False)
    assert np.abs(by_qr / true - 1).max() < 1e-5
    assert abs(by_sums[-1] / true[-1] - 1) > 0.1
    assert np.abs(by_sums / true - 1)[:5].max() < 1e-6


@BOTH
def test_constant_and_collinear_columns_leave_an_exact_zero(gather: Gather) -> None:
    X, _, _ = table(3000, 4, 6)
    X[:, 1] = 0.1 + 1e5
    X[:, 2] = X[:, 0] - X[:, 3]
    m = sum(gather(p) for p in np.array_split(X, 9))
    assert (m.root()[:, 1] == 0).all()
    singular = np.linalg.svd(m.root(), compute_uv=False)
    assert singular[1] > 1e-3 * singular[0]
    assert singular[2] < 1e-13 * singular[0]


def test_scaling_and_constant_targets() -> None:
    X, _, _ = table(100, 3, 7)
    for gather in (comoments, rfactor):
        m = gather(X)
        assert np.allclose(m.scaled(3.0).scatter, gather(X, weights=np.full(100, 3.0)).scatter)
        two = m.with_targets([1.0, -1.0]) + gather(X + 1).with_targets([-1.0, 1.0])
        direct = gather(np.vstack([X, X + 1]), np.repeat([[1.0, -1.0], [-1.0, 1.0]], 100, axis=0))
        assert close(two, direct)
        assert two.n_targets == 2


@BOTH
@pytest.mark.parametrize("value", [np.nan, np.inf, 1e200])
def test_a_gap_is_a_named_column(gather: Gather, value: float) -> None:
    X, y, _ = table(10, 3, 8)
    X[4, 1] = value
    with pytest.raises(DataError, match=r"column 'b' .* 1 are not; first: .* at row 4"):
        gather(X, y, names=["a", "b", "c", "y"])
    weights = np.ones(10)
    weights[4] = 0
    if np.isfinite(value):
        assert gather(X, y, weights).finite


def test_wrong_shapes_and_weights_are_told() -> None:
    X, y, _ = table(10, 3, 9)
    with pytest.raises(ValueError, match="X must be"):
        comoments(X[0])
    with pytest.raises(ValueError, match="X must be"):
        comoments(X, y[:5])
    with pytest.raises(ValueError, match="weights must be 10 finite"):
        comoments(X, y, -np.ones(10))
    with pytest.raises(ValueError, match="cannot be added"):
        comoments(X) + comoments(X, y)
    with pytest.raises(TypeError):
        comoments(X) + rfactor(X)
    before = X.copy()
    comoments(X, y, np.ones(10))
    assert np.array_equal(X, before)
