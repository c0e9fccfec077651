"""Laws of the priority sketch: merging is exact, estimates are unbiased."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coretree.coreset.priority import Sample, Sketch, merge, sketch
from coretree.coreset.rows import row_ids, uniforms

Array = npt.NDArray[Any]


def table(n: int, seed: int = 0) -> tuple[Array, Array, Array]:
    """Identities, scores and values of n rows."""
    value = np.random.default_rng(seed).lognormal(0, 1.5, n)
    return row_ids("a", 0, np.arange(n)), np.sqrt(value) + 0.1, value


def draw(ids: Array, score: Array, k: int, seed: int = 1, base: Array | None = None) -> Sketch:
    return sketch(ids, score, {"id": ids.copy()}, k, uniforms=uniforms(ids, seed, "test"), base=base)


def same(a: Sketch, b: Sketch) -> bool:
    arrays = all(np.array_equal(getattr(a, f), getattr(b, f)) for f in ("ids", "keys", "base", "score"))
    return arrays and np.array_equal(a.rows["id"], b.rows["id"]) and a.capacity == b.capacity


def same_sample(a: Sample, b: Sample) -> bool:
    arrays = all(np.array_equal(getattr(a, f), getattr(b, f)) for f in ("ids", "weights", "base", "score"))
    return arrays and a.threshold == b.threshold


@given(st.integers(0, 400), st.integers(0, 60), st.integers(1, 9), st.integers(0, 2**32 - 1), st.booleans())
@settings(max_examples=25, deadline=None)
def test_any_sharding_and_order_gives_the_one_pass_sketch(
    n: int, k: int, parts: int, seed: int, weighted: bool
) -> None:
    ids, score, _ = table(n)
    rng = np.random.default_rng(seed)
    base = rng.integers(0, 3, n).astype(float) if weighted else None
    one = draw(ids, score, k, base=base)
    shard = rng.integers(0, parts, n)
    nodes = [draw(ids[shard == i], score[shard == i], k, base=None if base is None else base[shard == i])
             for i in range(parts)]  # fmt: skip
    assert same(merge([nodes[i] for i in rng.permutation(parts)]), one)
    while len(nodes) > 1:  # a random tree of pairs
        i, j = rng.choice(len(nodes), 2, replace=False)
        nodes = [s for at, s in enumerate(nodes) if at not in (i, j)] + [nodes[i] + nodes[j]]
    assert same(nodes[0], one)
    assert same_sample(nodes[0].finalise(), one.finalise())


@given(st.integers(1, 200), st.integers(0, 50))
@settings(max_examples=25, deadline=None)
def test_merge_is_idempotent_and_empty_is_neutral(n: int, k: int) -> None:
    ids, score, _ = table(n)
    s, empty = draw(ids, score, k), draw(ids[:0], score[:0], 3)
    assert same(s + s, s)
    assert same(s + empty, s)
    assert same(empty + s, s)
    assert same(sum([empty], start=s), s)
    assert (0 + s) is s
    assert len(empty + empty) == 0
    assert (empty + empty).rows["id"].dtype == np.uint64


def test_a_sketch_contains_every_smaller_one() -> None:
    ids, score, _ = table(500)
    big = draw(ids, score, 100)
    for k in (0, 1, 50, 100):
        assert same(big.reduce(k), draw(ids, score, k))
    with pytest.raises(ValueError, match="capacity 100; found 101"):
        big.reduce(101)


def test_mixed_capacities_keep_the_smaller() -> None:
    ids, score, _ = table(500)
    mixed = draw(ids[:200], score[:200], 40) + draw(ids[200:], score[200:], 100)
    assert same(mixed, draw(ids, score, 40))


def test_nothing_dropped_means_base_weights() -> None:
    ids, score, _ = table(30)
    base = np.arange(30.0)
    for k in (29, 30, 100):  # 29 rows have a weight
        sample = draw(ids, score, k, base=base).finalise()
        order = np.argsort(sample.ids)
        assert np.array_equal(sample.weights, sample.base)
        assert np.array_equal(sample.ids[order], np.sort(ids[1:]))
        assert sample.threshold == np.inf


def test_rows_of_weight_zero_vanish_whatever_their_score() -> None:
    ids, score, _ = table(20)
    base, bad = np.ones(20), score.copy()
    base[3], bad[3] = 0.0, np.nan
    assert not np.isin(ids[3], draw(ids, bad, 50, base=base).ids)


def test_repeated_identities_count_once() -> None:
    ids, score, _ = table(50)
    twice = draw(np.repeat(ids, 2), np.repeat(score, 2), 30)
    assert same(twice, draw(ids, score, 30))
    assert len(np.unique((draw(ids, score, 30) + draw(ids[:20], score[:20], 30)).ids)) == 31


def test_ties_are_broken_by_identity_not_by_order() -> None:
    ids = np.arange(100, dtype=np.uint64)
    shuffled = np.random.default_rng(0).permutation(ids)
    flat = {"uniforms": np.full(100, 0.5)}
    a = sketch(ids, np.ones(100), {"id": ids}, 10, **flat)
    b = sketch(shuffled, np.ones(100), {"id": shuffled}, 10, **flat)
    assert same(a, b)


@pytest.mark.parametrize("shards", [1, 7])
def test_totals_and_their_variance_are_unbiased(shards: int) -> None:
    n, m, draws = 3_000, 200, 400
    ids, score, value = table(n)
    rng = np.random.default_rng(5)
    X = np.column_stack([np.ones(n), value, np.minimum(value, 5) ** 2, np.log1p(np.exp(value - 2)), rng.normal(size=n)])
    estimate, spread = np.empty((draws, X.shape[1])), np.empty((draws, X.shape[1]))
    order = {int(i): at for at, i in enumerate(ids)}
    for t in range(draws):
        parts = [draw(ids[i::shards], score[i::shards], m, seed=t) for i in range(shards)]
        sample = merge(parts).finalise()
        F, w = X[[order[int(i)] for i in sample.ids]], sample.weights
        estimate[t] = w @ F
        spread[t] = (w * (w - 1)) @ F**2
    z = (estimate.mean(0) - X.sum(0)) / (estimate.std(0) / np.sqrt(draws))
    assert np.abs(z).max() < 4  # five statistics: fails by chance with probability 3e-4
    assert np.allclose(spread.mean(0) / estimate.var(0), 1, atol=0.25)


def test_a_score_that_sees_its_own_uniform_is_biased() -> None:
    """Negative control: the law above can fail."""
    n, m = 3_000, 200
    ids, score, _ = table(n)
    found = []
    for t in range(50):
        u = uniforms(ids, t, "test")
        found.append(sketch(ids, score * np.sqrt(u), {"id": ids}, m, uniforms=u).finalise().weights.sum() / n)
    assert abs(np.mean(found) - 1) > 10 * np.std(found) / np.sqrt(50)


def test_short_leaves_lower_the_capacity_and_stay_unbiased() -> None:
    n, draws = 2_000, 300
    ids, score, value = table(n)
    found, kept = np.empty(draws), 0
    for t in range(draws):
        short = draw(ids[:1500], score[:1500], 60, seed=t)  # too short for its share of the root
        rest = [draw(ids[1500:1700], score[1500:1700], 200, seed=t), draw(ids[1700:], score[1700:], 200, seed=t)]
        root = merge([short, *rest], capacity=200)
        assert same(root, merge([rest[1], merge([rest[0], short], capacity=200)], capacity=200))
        assert 60 <= root.capacity < 200
        sample = root.finalise()
        kept += len(sample.ids)
        at = np.searchsorted(np.sort(ids), sample.ids)
        found[t] = sample.weights @ value[np.argsort(ids)[at]]
    z = (found.mean() - value.sum()) / (found.std() / np.sqrt(draws))
    assert abs(z) < 4
    assert kept / draws > 65


def test_long_leaves_merge_to_the_root_capacity() -> None:
    ids, score, _ = table(1000)
    parts = [draw(ids[i::4], score[i::4], 100) for i in range(4)]
    assert same(merge(parts, capacity=100), merge(parts))
    few = [draw(ids[i : 40 : 4], score[i : 40 : 4], 10) for i in range(4)]  # fmt: skip
    assert merge(few, capacity=100).capacity == 100  # nothing was dropped anywhere
    assert len(merge(few, capacity=100)) == 40


def test_payload_is_gathered_only_for_rows_kept() -> None:
    ids, score, _ = table(500)
    seen = []

    def gather(index: Array) -> dict[str, Array]:
        seen.append(len(index))
        return {"id": ids[index]}

    lazy = sketch(ids, score, gather, 20, uniforms=uniforms(ids, 1, "test"))
    assert seen == [21]
    assert same(lazy, draw(ids, score, 20))


def test_inputs_are_neither_written_nor_aliased() -> None:
    ids, score, _ = table(10)
    kept = ids.copy(), score.copy()
    s = draw(ids, score, 20)
    s.finalise().weights[:] = 7.0
    assert np.array_equal(ids, kept[0])
    assert np.array_equal(score, kept[1])
    assert (s.base == 1).all()


def test_state_round_trips_exactly() -> None:
    ids, score, value = table(40)
    rows = {"x": np.column_stack([value, value]).astype(np.float32), "name": np.array(["é", None] * 20, object)}
    for k in (10, 100):
        s = sketch(ids, score, rows, k, uniforms=uniforms(ids, 0, "t"))
        back = Sketch.from_state(s.state())
        assert back.capacity == s.capacity
        for name in ("ids", "keys", "base", "score"):
            assert np.array_equal(getattr(back, name), getattr(s, name))
        assert np.array_equal(back.rows["x"], s.rows["x"])
        assert back.rows["name"].tolist() == s.rows["name"].tolist()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"score": np.array([1.0, -1.0, 1.0])}, "score must be finite and > 0; 1 rows are not, first row 1 with -1.0"),
        ({"score": np.array([1.0, 1.0, np.nan])}, "first row 2 with nan"),
        ({"score": np.array([0.0, 1.0, 1.0])}, "first row 0 with 0.0"),
        ({"base": np.array([1.0, 1.0, -2.0])}, "base weight must be finite and >= 0; 1 rows are not, first row 2"),
        ({"base": np.array([np.inf, 1.0, 1.0])}, "first row 0 with inf"),
        ({"base": np.ones(2)}, r"base must have shape \(3,\)"),
        ({"rows": {"x": np.zeros(2)}}, "rows must have 3 rows"),
        ({"capacity": -1}, "must not be negative"),
    ],
)
def test_errors_name_the_first_offender(change: dict[str, Any], message: str) -> None:
    ids = np.arange(3, dtype=np.uint64)
    given_: dict[str, Any] = {
        "score": np.ones(3),
        "rows": {"x": np.zeros(3)},
        "capacity": 2,
        "uniforms": np.full(3, 0.5),
    } | change
    with pytest.raises(ValueError, match=message):
        sketch(ids, **given_)


def test_merging_nothing_or_strangers_is_refused() -> None:
    ids, score, _ = table(5)
    with pytest.raises(ValueError, match="at least one sketch"):
        merge([])
    other = sketch(ids, score, {"x": ids}, 3, uniforms=uniforms(ids, 0, "t"))
    with pytest.raises(ValueError, match="has columns"):
        draw(ids, score, 3) + other
