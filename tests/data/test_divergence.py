"""Distances from summaries against the raw rows: scipy's statistics, and what chance does without any shift."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2, ks_2samp

from coretree.data.categories import HeavyHitters, heavy_hitters
from coretree.data.divergence import (
    ks_distance,
    level_change,
    level_counts,
    psi,
    psi_by_chance,
    quantile_counts,
    thinning_error,
    total_variation,
    unseen_by_chance,
)
from coretree.data.quantiles import Digest, digest

counts = st.lists(st.tuples(st.integers(0, 500), st.integers(0, 500)), min_size=2, max_size=12)
values = st.lists(st.integers(-50, 50) | st.floats(-1e3, 1e3), min_size=2, max_size=300)


@settings(max_examples=50, deadline=None)
@given(counts)
def test_psi_is_symmetric_and_positive_and_zero_for_itself(pairs: list[tuple[int, int]]) -> None:
    a, b = np.array(pairs).T
    assert psi(a, b) == psi(b, a) >= 0.0
    assert psi(a, a) == 0.0
    order = np.random.default_rng(0).permutation(len(a))
    assert psi(a[order], b[order]) == pytest.approx(psi(a, b), rel=1e-12, abs=1e-15)


def test_psi_is_the_textbook_sum_for_many_rows() -> None:
    p, q = np.array([0.2, 0.3, 0.5]), np.array([0.1, 0.3, 0.6])
    assert psi(p * 1e9, q * 1e9) == pytest.approx(float(np.sum((q - p) * np.log(q / p))), rel=1e-6)
    assert np.isfinite(psi([10, 0], [0, 10]))
    assert psi([3], [9]) == psi([0, 0], [1, 2]) == 0.0
    with pytest.raises(ValueError, match="same bins"):
        psi([1, 2], [1, 2, 3])


@pytest.mark.parametrize(("n", "m", "bins"), [(100, 400, 10), (3000, 200, 5), (50, 50, 2)])
def test_chance_explains_what_it_says(n: int, m: int, bins: int) -> None:
    """Pairs drawn from one distribution: the mean is as stated, and the limit is passed about as rarely as stated."""
    rng = np.random.default_rng(n)
    shares = rng.dirichlet(np.full(bins, 20.0))
    found = np.array([psi(rng.multinomial(n, shares), rng.multinomial(m, shares)) for _ in range(4000)])
    expected, limit = psi_by_chance(n, m, bins, 0.01)
    assert found.mean() == pytest.approx(expected, rel=0.1)
    assert (found > limit).mean() < 0.025
    assert (found > psi_by_chance(n, m, bins, 0.5)[1]).mean() == pytest.approx(0.5, abs=0.08)


def test_the_limit_is_a_chi_square_quantile() -> None:
    for bins in (3, 10, 200):
        for level in (0.05, 1e-4):
            exact = chi2.isf(level, bins - 1) * (1 / 500 + 1 / 80)
            assert psi_by_chance(500, 80, bins, level)[1] == pytest.approx(exact, rel=0.06)
    assert psi_by_chance(10, 10, 1, 0.01) == (0.0, 0.0)


@settings(max_examples=60, deadline=None)
@given(values, values)
def test_ks_is_within_its_bound_of_the_raw_rows(a: list[float], b: list[float]) -> None:
    one, two = digest(a), digest(b)
    found = ks_distance(one, two)
    assert abs(found - ks_2samp(a, b, method="asymp").statistic) <= one.rank_error + two.rank_error + 1e-9
    assert found == pytest.approx(ks_distance(two, one), abs=1e-12)
    assert ks_distance(one, one) == 0.0


@pytest.mark.parametrize("kind", ["normal", "ties", "heavy", "two values"])
def test_ks_of_merged_digests_is_within_its_bound(kind: str) -> None:
    rng = np.random.default_rng(5)

    def draw(n: int, shift: float) -> npt.NDArray[np.float64]:
        x = rng.normal(size=n) + shift
        if kind == "ties":
            return np.round(x)
        if kind == "heavy":
            return np.sinh(3 * x)
        return (x > 1).astype(float) if kind == "two values" else x

    for shift in (0.0, 0.1, 1.0):
        a, b = draw(20_000, 0.0), draw(15_000, shift)
        one = sum((digest(part) for part in np.array_split(a, 40)), Digest.empty())
        two = sum((digest(part) for part in np.array_split(b, 30)), Digest.empty())
        truth = ks_2samp(a, b, method="asymp").statistic
        assert abs(ks_distance(one, two) - truth) <= one.rank_error + two.rank_error


def test_an_empty_side_has_no_distance() -> None:
    assert np.isnan(ks_distance(digest([]), digest([1.0])))
    assert [len(c) for c in quantile_counts(digest([]), digest([1.0]))] == [0, 0]
    assert np.isnan(total_variation(heavy_hitters(pa.array([None], pa.string())), heavy_hitters(pa.array(["a"])))[0])


def test_bins_are_the_references_deciles() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=5000), rng.normal(0.5, 1.0, 4000)
    one, two = quantile_counts(digest(a), digest(b))
    edges = np.quantile(a, np.arange(1, 10) / 10)
    np.testing.assert_allclose(one, np.bincount(np.searchsorted(edges, a), minlength=10), atol=10)
    np.testing.assert_allclose(two, np.bincount(np.searchsorted(edges, b), minlength=10), atol=10)
    assert (one.sum(), two.sum()) == (pytest.approx(5000), pytest.approx(4000))


@pytest.mark.parametrize("share", [0.5, 0.03])
def test_few_values_make_few_bins(share: float) -> None:
    """Interpolation between two values is no bin: a boolean has two, in one digest or after many merges."""
    rng = np.random.default_rng(1)
    a, b = (rng.random(9000) < share).astype(float), (rng.random(9000) < share + 0.02).astype(float)
    merged = sum((digest(part) for part in np.array_split(a, 60)), Digest.empty())
    for one in (digest(a), merged):
        left, right = quantile_counts(one, digest(b))
        assert len(left) == 2
        np.testing.assert_allclose(left / 9000, [1 - a.mean(), a.mean()], atol=0.006)
        np.testing.assert_allclose(right / 9000, [1 - b.mean(), b.mean()], atol=0.006)
    assert len(quantile_counts(digest(np.zeros(9)), digest(np.zeros(9)))[0]) == 1
    assert len(quantile_counts(digest(np.zeros(90)), digest(np.ones(90)))[0]) == 2  # a constant that moved


def test_small_windows_get_fewer_bins() -> None:
    x = np.arange(1000.0)
    assert [len(quantile_counts(digest(x), digest(x[:n]))[0]) for n in (9, 30, 500)] == [2, 6, 10]


def test_thinned_digests_state_their_error() -> None:
    x = np.arange(1000.0)
    assert thinning_error(digest(x), 1000, 1000) == 0.0
    assert thinning_error(digest(x), 500, 20_000) == 0.0  # digested more than the thinned rows: all of them
    assert thinning_error(digest(x), 1000, 20_000) == pytest.approx(np.sqrt(np.log(200) / 2000))


def levels(rng: np.random.Generator, n: int, k: int, decay: float = 1.0) -> HeavyHitters:
    """Rows on k levels of falling frequency."""
    share = 1.0 / np.arange(1, k + 1) ** decay
    return heavy_hitters(pa.array(rng.choice([f"v{i}" for i in range(k)], n, p=share / share.sum())))


def test_levels_are_pooled_but_never_lost() -> None:
    rng = np.random.default_rng(2)
    one, two = levels(rng, 4000, 300), levels(rng, 2500, 300)
    a, b = level_counts(one, two)
    assert (a.sum(), b.sum()) == (4000, 2500)
    assert 10 < len(a) < 60
    turned = level_counts(two, one)
    assert sorted(zip(*turned, strict=True)) == sorted(zip(b, a, strict=True))
    assert psi(*turned) == pytest.approx(psi(a, b), rel=1e-12)


def test_missing_values_are_a_bin() -> None:
    one = heavy_hitters(pa.array(["a"] * 90 + [None] * 10))
    two = heavy_hitters(pa.array(["a"] * 50 + [None] * 50))
    assert [c.tolist() for c in level_counts(one, two)] == [[90.0, 10.0], [50.0, 50.0]]
    gone = heavy_hitters(pa.array([None] * 40, pa.string()))
    assert [c.tolist() for c in level_counts(one, gone)] == [[90.0, 10.0], [0.0, 40.0]]


def test_rare_levels_on_one_side_are_told_apart_only_when_they_surprise() -> None:
    rng = np.random.default_rng(3)
    alarms = 0
    for _ in range(100):  # a long tail that neither side exhausts: a fifth of a window is new by chance
        one, two = levels(rng, 1500, 900, 0.3), levels(rng, 800, 900, 0.3)
        assert level_change(one, two).new_share > 0.1
        bins = level_counts(one, two)
        alarms += psi(*bins) > psi_by_chance(1500, 800, len(bins[0]), 0.01)[1]
    assert alarms <= 4
    churned = heavy_hitters(pa.array([f"other{i % 400}" for i in range(800)]))
    assert psi(*level_counts(levels(rng, 1500, 900, 0.3), churned)) > 1.0  # every level new, each of them rare


def test_unseen_levels_come_as_often_as_expected() -> None:
    rng = np.random.default_rng(4)
    found = []
    for _ in range(30):
        one, two = levels(rng, 2000, 900, 0.7), levels(rng, 2000, 900, 0.7)
        found.append(level_change(one, two).new_share - unseen_by_chance(one))
    assert abs(np.mean(found)) < 0.004


def test_changes_of_levels_are_named() -> None:
    one = heavy_hitters(pa.array(["a"] * 6 + ["b"] * 4))
    two = heavy_hitters(pa.array(["a"] * 3 + ["c"] * 1 + [None]))
    change = level_change(one, two)
    assert change.new == (("c", 0.25),)
    assert change.vanished == (("b", 0.4),)
    assert (change.n_new, change.n_vanished, change.new_share, change.vanished_share) == (1, 1, 0.25, 0.4)
    assert [m[0] for m in change.moved] == ["b", "c", "a"]
    assert total_variation(one, two) == (pytest.approx(0.4), 0.0)


def test_inexact_counts_call_nothing_new_and_bound_their_error() -> None:
    rng = np.random.default_rng(6)
    tail = [f"t{i}" for i in range(3000)]
    raw = [np.concatenate([rng.choice(["a", "b"], 5000, p=[p, 1 - p]), rng.choice(tail, 1000)]) for p in (0.5, 0.6)]
    one, two = (heavy_hitters(pa.array(x), capacity=100) for x in raw)
    assert not one.exact
    assert level_change(one, two).n_new == level_change(one, two).n_vanished == 0
    names = np.union1d(*raw)
    p, q = (np.array([(x == v).mean() for v in names]) for x in raw)
    found, error = total_variation(one, two)
    assert abs(found - np.abs(p - q).sum() / 2) <= error < 0.5
