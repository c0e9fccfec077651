"""Digest against sorting all values: rank error by kind of column, exact ends, monotone answers, merge laws."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from coretree.data.quantiles import Digest, digest, digests, merge

Floats = npt.NDArray[np.float64]
laws = settings(max_examples=25, deadline=None)
columns = hnp.arrays(np.float64, st.integers(0, 60), elements=st.floats(allow_nan=True, allow_infinity=True))
GRID = np.linspace(0.001, 0.999, 999)
N = 400_000


def same_bits(a: Digest, b: Digest) -> bool:
    left, right = a.state(), b.state()
    return left.keys() == right.keys() and all(np.array_equal(left[k], right[k]) for k in left)


def rank_error(values: npt.NDArray[Any], got: Floats, q: Floats = GRID) -> float:
    """Worst distance of q from the ranks that the values `got` really have."""
    s = np.sort(values)
    low, high = np.searchsorted(s, got, "left") / len(s), np.searchsorted(s, got, "right") / len(s)
    return float(np.maximum(np.maximum(low - q, q - high), 0).max())


def tree(parts: list[Digest], arity: int) -> Digest:
    while len(parts) > 1:
        parts = [merge(parts[i : i + arity]) for i in range(0, len(parts), arity)]
    return parts[0]


def kinds() -> dict[str, tuple[Floats, float]]:
    """Kinds of columns, each with the rank error that 64 partitions may have (measured, times about two)."""
    rng = np.random.default_rng(0)
    x, i = rng.standard_normal(N), np.arange(N)
    return {
        "normal": (x, 2e-4),
        "lognormal": (np.exp(3 * x), 2e-4),
        "sorted": (np.sort(x), 2e-4),
        "pareto, sorted": (np.sort(rng.pareto(0.5, N)), 2e-4),
        "1000 values": (rng.integers(0, 1000, N) ** 1.5, 1e-3),
        "alternating extremes": (np.where(i % 2, 1e12 * (1 + i), -1e-6 * i), 2e-3),
        "constant": (np.full(N, 0.1), 0.0),
        "two values": ((x > 1).astype(float), 2e-3),
    }


@pytest.mark.parametrize("kind", kinds())
def test_rank_error_over_64_partitions(kind: str) -> None:
    values, bound = kinds()[kind]
    merged = tree([digest(p) for p in np.array_split(values, 64)], 8)
    got = merged.quantile(GRID)
    assert rank_error(values, got) <= bound
    assert rank_error(values, got) <= merged.rank_error
    assert (np.diff(got) >= 0).all()
    assert (merged.minimum, merged.maximum) == (values.min(), values.max())
    assert merged.quantile([0, 1]).tolist() == [values.min(), values.max()]
    assert merged.count == N
    assert len(merged.means) <= merged.delta
    assert (np.diff(merged.means) >= 0).all()


@pytest.mark.parametrize("arity", [2, 64])
def test_rank_error_does_not_hang_on_the_tree(arity: int) -> None:
    values = kinds()["lognormal"][0]
    parts = [digest(p) for p in np.array_split(values, 64)]
    assert rank_error(values, tree(parts, arity).quantile(GRID)) <= 3e-4
    chain = sum(parts, start=Digest.empty())
    assert rank_error(values, chain.quantile(GRID)) <= chain.rank_error


@pytest.mark.parametrize("k", [2, 5, 30])
def test_the_stated_error_covers_few_distinct_values_in_any_tree(k: int) -> None:
    rng = np.random.default_rng(k)
    values = rng.choice(k, 100_000, p=rng.dirichlet(np.ones(k))).astype(float)
    parts, fine = [digest(p) for p in np.array_split(values, 200)], np.linspace(0, 1, 20_001)
    for merged in (tree(parts, 8), tree(parts, 2), sum(parts, start=Digest.empty())):
        found = rank_error(values, merged.quantile(fine), fine)
        assert found <= merged.rank_error
    # negative control: with ties the error is far above that of continuous columns, so a smaller figure would be untrue
    assert k > 2 or found > 5e-4


def test_rank_error_falls_with_delta_and_is_stated() -> None:
    values = kinds()["normal"][0]
    found = []
    for delta in (20, 100, 1000):
        merged = tree([digest(p, delta=delta) for p in np.array_split(values, 64)], 8)
        found.append(rank_error(values, merged.quantile(GRID)))
        assert found[-1] <= merged.rank_error == 8 / delta
        assert len(merged.means) <= delta
    assert found[0] > 5 * found[1] > 5 * found[2]  # negative control: a coarse digest is measurably worse


def test_a_digest_of_few_values_is_exact() -> None:
    values = np.random.default_rng(1).permutation(400.0 + np.arange(300))
    merged = merge([digest(values[:100]), digest(values[100:])])
    np.testing.assert_array_equal(merged.means, np.sort(values))
    np.testing.assert_allclose(merged.quantile((np.arange(300) + 0.5) / 300), np.sort(values), rtol=1e-12)


@laws
@given(columns, columns, columns)
def test_merge_laws(a: Floats, b: Floats, c: Floats) -> None:
    x, y, z = digest(a), digest(b), digest(c)
    left, right = (x + y) + z, x + (y + z)
    every = np.concatenate([a, b, c])
    every = every[np.isfinite(every)]
    for d in (left, right, sum([x, y, z], start=Digest.empty()), merge([z, x, y])):
        assert d.count == len(every)
        assert (d.minimum, d.maximum) == (every.min(initial=np.inf), every.max(initial=-np.inf))
        assert d.weights.min(initial=1) > 0
    if len(every):
        for d in (left, right):
            assert rank_error(every, d.quantile(GRID)) <= max(left.rank_error, 1 / len(every))
    assert same_bits(x + y, y + x)
    assert same_bits(merge([x, y, z]), merge([z, x, y]))


@laws
@given(columns)
def test_empty_is_the_identity_to_the_last_bit(a: Floats) -> None:
    x = digest(a)
    assert same_bits(x + Digest.empty(), x)
    assert same_bits(Digest.empty() + x, x)
    assert same_bits(0 + x, x)
    assert same_bits(merge([Digest.empty(), x, Digest.empty()]), x)
    assert same_bits(Digest.from_state(x.state()), x)


def test_identity_and_state_of_a_large_digest() -> None:
    x = digest(np.random.default_rng(2).standard_normal(50_000), delta=500)
    assert same_bits(x + Digest.empty(), x)
    assert same_bits(Digest.from_state(x.state()), x)
    assert Digest.from_state(x.state()).delta == 500


def test_associative_up_to_the_rank_error() -> None:
    values = kinds()["lognormal"][0]
    x, y, z = (digest(p) for p in np.split(values, [1000, 150_000]))
    left, right = ((x + y) + z).quantile(GRID), (x + (y + z)).quantile(GRID)
    ranks = [np.searchsorted(np.sort(values), v) / N for v in (left, right)]
    assert np.abs(ranks[0] - ranks[1]).max() < 4e-4


@laws
@given(columns, st.lists(st.floats(0, 1), min_size=2, max_size=30))
def test_answers_are_monotone_and_within_the_range(a: Floats, shares: list[float]) -> None:
    d = digest(a)
    q = np.sort(shares)
    got = d.quantile(q)
    if not d.count:
        assert np.isnan(got).all()
        assert np.isnan(d.cdf(0.0))
        assert d.rank_error == 0
        return
    assert (got[1:] >= got[:-1]).all()
    assert ((got >= d.minimum) & (got <= d.maximum)).all()
    with np.errstate(over="ignore"):  # below the smallest float there is -inf
        below = np.nextafter(d.minimum, -np.inf)
    ranks = d.cdf(np.sort(np.r_[got, below, d.maximum]))
    assert (ranks[1:] >= ranks[:-1]).all()
    assert (ranks[0], ranks[-1]) == (0.0, 1.0)


def test_cdf_undoes_quantile_and_counts_shares() -> None:
    values = kinds()["normal"][0]
    d = digest(values)
    np.testing.assert_allclose(d.cdf(d.quantile(GRID)), GRID, atol=1e-9)
    at = np.linspace(-3, 3, 50)
    np.testing.assert_allclose(d.cdf(at), [(values <= v).mean() for v in at], atol=d.rank_error)
    assert np.isnan(d.cdf([np.nan, 0.0])).tolist() == [True, False]
    assert d.cdf([[-np.inf, np.inf]]).tolist() == [[0.0, 1.0]]


def test_whole_weights_say_the_same_as_repeated_values() -> None:
    rng = np.random.default_rng(3)
    x, w = rng.standard_normal(100_000), rng.integers(0, 4, 100_000)
    weighted, repeated = digest(x, w), digest(np.repeat(x, w))
    assert weighted.count == repeated.count
    assert rank_error(np.repeat(x, w), weighted.quantile(GRID)) < 4e-4
    s = np.sort(x)
    gap = np.searchsorted(s, weighted.quantile(GRID)) - np.searchsorted(s, repeated.quantile(GRID))
    assert np.abs(gap).max() / len(s) < 2e-4
    assert np.abs(digest(x).quantile(0.9) - weighted.quantile(0.9)) < 0.05  # independent weights change little
    heavy = digest(x, np.where(x > 0, 3.0, 1.0))  # negative control: weights that lean to one side move the median
    assert heavy.quantile(0.5) > 0.3
    assert digest([1.0, 2.0], [0.0, 0.0]).count == 0


def test_one_heavy_value_is_admitted_in_the_rank_error() -> None:
    d = digest([1.0, 2.0, 3.0], [1.0, 100.0, 1.0])
    assert d.rank_error == pytest.approx(50 / 102)
    assert d.quantile(0.5) == 2.0


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int16, np.bool_])
def test_dtypes_order_and_missing_values(dtype: Any) -> None:
    X = np.random.default_rng(4).integers(0, 2, (5000, 3)).astype(dtype)
    for got, column in zip(digests(np.asfortranarray(X)), X.T, strict=True):
        assert same_bits(got, digest(column.astype(np.float64)))
    gaps = np.r_[np.nan, np.inf, -np.inf, np.arange(10.0), np.nan]
    assert same_bits(digest(gaps), digest(np.arange(10.0)))


def test_float32_is_averaged_in_float64_and_input_stays() -> None:
    x = (np.random.default_rng(5).standard_normal(200_000) + 1e4).astype(np.float32)[::-1]
    x.flags.writeable = False
    d = digest(x)
    exact = float(x.astype(np.float64).mean())
    assert float(d.means @ d.weights) / N * 2 == pytest.approx(exact, rel=1e-12)


def test_the_smallest_delta_wins() -> None:
    x = np.random.default_rng(6).standard_normal(10_000)
    merged = digest(x, delta=100) + digest(x, delta=1000)
    assert merged.delta == 100
    assert len(merged.means) <= 100
    assert len((digest(x) + Digest.empty(50)).means) <= 50


def test_wrong_arguments_say_what_must_hold() -> None:
    with pytest.raises(ValueError, match=r"shape \(n,\).*\(2, 2\)"):
        digest(np.ones((2, 2)))
    with pytest.raises(ValueError, match=r"shape \(n, p\)"):
        digests(np.ones(2))
    with pytest.raises(ValueError, match="at least 10, but is 5"):
        digest(np.ones(2), delta=5)
    with pytest.raises(ValueError, match="2 finite numbers"):
        digest(np.ones(2), [1.0, -1.0])
    with pytest.raises(ValueError, match=r"\[0, 1\], but are 1.5"):
        digest(np.ones(2)).quantile(1.5)
