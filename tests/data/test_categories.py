"""HeavyHitters against exact counts, DistinctCount against exact unions: bounds, types, merge laws."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coretree.data.categories import HeavyHitters, heavy_hitters
from coretree.data.distinct import DistinctCount, distinct_count
from coretree.errors import SchemaError

laws = settings(max_examples=25, deadline=None)
words = st.lists(st.one_of(st.none(), st.sampled_from(["a", "b", "ä", "", "zz", "7"])), max_size=40)
numbers = st.lists(st.one_of(st.none(), st.integers(-20, 20)), max_size=60)
typed = st.one_of(
    st.tuples(st.just(pa.string()), words),
    st.tuples(st.just(pa.int64()), numbers),
    st.tuples(st.just(pa.bool_()), st.lists(st.one_of(st.none(), st.booleans()), max_size=20)),
    st.tuples(st.just(pa.float64()), st.lists(st.one_of(st.none(), st.floats()), max_size=30)),
)


def same_bits(a: Any, b: Any) -> bool:
    left, right = a.state(), b.state()
    return left.keys() == right.keys() and all(
        left[k].dtype == right[k].dtype and left[k].tolist() == right[k].tolist() for k in left
    )


def present(values: list[Any]) -> list[Any]:
    return [v for v in values if v is not None and v == v]


def ranked(values: list[Any]) -> list[tuple[Any, int]]:
    return sorted(Counter(present(values)).items(), key=lambda item: (-item[1], item[0]))


@laws
@given(typed)
def test_counts_are_exact_while_there_is_room(column: tuple[Any, list[Any]]) -> None:
    kind, values = column
    h = heavy_hitters(pa.array(values, kind))
    assert h.top(1000) == ranked(values)
    assert h.exact
    assert (h.n_rows, h.n_missing) == (len(values), len(values) - len(present(values)))
    assert all(type(v) is type(w) for (v, _), (w, _) in zip(h.top(9), ranked(values), strict=False))
    assert all(h.count(v) == n for v, n in ranked(values))
    assert h.count("not there") == 0


@laws
@given(typed, st.integers(1, 60))
def test_state_keeps_values_and_their_type(column: tuple[Any, list[Any]], capacity: int) -> None:
    h = heavy_hitters(pa.array(column[1], column[0]), capacity)
    again = HeavyHitters.from_state(h.state())
    assert same_bits(again, h)
    assert [type(v) for v, _ in again.top(9)] == [type(v) for v, _ in h.top(9)]
    nothing = HeavyHitters.empty(capacity)
    assert same_bits(h + nothing, h)
    assert same_bits(nothing + h, h)
    assert same_bits(0 + h, h)


@laws
@given(words, words, words)
def test_sum_is_associative_and_equals_the_union_while_exact(a: Any, b: Any, c: Any) -> None:
    x, y, z = (heavy_hitters(pa.array(v, pa.string())) for v in (a, b, c))
    union = heavy_hitters(pa.array(a + b + c, pa.string()))
    for got in ((x + y) + z, x + (y + z), z + x + y, sum([x, y, z], start=HeavyHitters.empty())):
        assert same_bits(got, union)


@laws
@given(st.lists(numbers, min_size=1, max_size=6), st.integers(1, 8), st.randoms(use_true_random=False))
def test_bound_holds_in_any_tree(parts: list[list[Any]], capacity: int, random: Any) -> None:
    nodes = [heavy_hitters(pa.array(p, pa.int64()), capacity) for p in parts]
    while len(nodes) > 1:
        random.shuffle(nodes)
        nodes = [nodes[0] + nodes[1], *nodes[2:]]
    h, truth = nodes[0], Counter(v for part in parts for v in present(part))
    assert len(h.values) <= capacity
    assert all(0 <= n - h.count(v) <= h.err for v, n in truth.items())
    assert all(h.count(v) <= truth[v] for v, _ in h.top(capacity))
    assert h.err * (capacity + 1) <= h.n_rows - h.n_missing == truth.total()
    assert h.exact == (h.err == 0)
    assert list(h.counts) == sorted(h.counts, reverse=True)


def test_zipf_over_64_partitions() -> None:
    z = np.minimum(np.random.default_rng(0).zipf(1.2, 200_000), 10**9)
    h = sum((heavy_hitters(pa.array(p)) for p in np.array_split(z, 64)), start=HeavyHitters.empty())
    truth = Counter(z.tolist())
    kept = dict(h.top(1000))
    worst = max(n - kept.get(v, 0) for v, n in truth.items())
    assert 0 < worst <= h.err <= len(z) / 1001
    assert not h.exact
    assert {v for v, _ in h.top(20)} == {v for v, _ in truth.most_common(20)}
    assert all(n <= truth[v] for v, n in kept.items())
    # negative control: with fewer counters than heavy values, the last of the top 20 are lost
    few = sum((heavy_hitters(pa.array(p), 10) for p in np.array_split(z, 64)), start=HeavyHitters.empty())
    assert len(few.values) <= 10
    assert h.err < few.err <= len(z) / 11


def test_ties_are_kept_in_the_order_of_the_values_whatever_the_order_of_the_rows() -> None:
    rows = ["b", "a", "c", "c", "ä", "B"]
    forward, backward = heavy_hitters(pa.array(rows)), heavy_hitters(pa.array(rows[::-1]))
    assert forward.top(5) == [("c", 2), ("B", 1), ("a", 1), ("b", 1), ("ä", 1)]
    assert same_bits(forward, backward)


dictionary = pa.array(["a", None, "b", "a"]).dictionary_encode()
chunked = pa.chunked_array([dictionary, pa.array(["b", "a"]).dictionary_encode()])
odd = pa.DictionaryArray.from_arrays(pa.array([0, 1, 2, 2, None]), pa.array(["a", "a", None, "never"]))


@pytest.mark.parametrize(
    ("array", "top", "n_missing"),
    [
        (dictionary, [("a", 2), ("b", 1)], 1),
        (chunked, [("a", 3), ("b", 2)], 1),
        (odd, [("a", 2)], 3),
        (dictionary[1:3], [("b", 1)], 1),
        (pa.chunked_array([pa.array([1, 2]), pa.array([2])]), [(2, 2), (1, 1)], 0),
        (pa.array(["x", "x"], pa.large_string()), [("x", 2)], 0),
        (pa.array([0.0, -0.0, float("nan"), None, 1.5], pa.float32()), [(0.0, 2), (1.5, 1)], 2),
        (pa.array([3, 3], pa.uint64()), [(3, 2)], 0),
        (pa.array([None, None]), [], 2),
        (pa.chunked_array([], pa.dictionary(pa.int8(), pa.string())), [], 0),
        (np.array([1.0, np.nan]), [(1.0, 1)], 1),
    ],
)
def test_arrow_types(array: Any, top: list[tuple[Any, int]], n_missing: int) -> None:
    h = heavy_hitters(array)
    assert (h.top(10), h.n_missing, h.n_rows) == (top, n_missing, len(array))
    assert [type(v) for v, _ in h.top(10)] == [type(v) for v, _ in top]
    assert round(distinct_count(array).estimate) == len(top)


def test_a_partition_without_values_takes_the_other_type() -> None:
    nothing, some = heavy_hitters(pa.array([None, None])), heavy_hitters(pa.array([1, 1]))
    assert (nothing + some).top(2) == (some + nothing).top(2) == [(1, 2)]
    assert (nothing + some).n_missing == 2
    empty = heavy_hitters(pa.array([], pa.int64()))
    assert (nothing + empty).values.dtype == (empty + nothing).values.dtype == np.int64


def test_mixed_and_foreign_types_are_refused() -> None:
    with pytest.raises(SchemaError, match=r"one type.*str \('1'\) and int64 \(1\)"):
        heavy_hitters(pa.array(["1"])) + heavy_hitters(pa.array([1]))
    for refused in (pa.array([b"x"]), pa.array([[1]]), pa.array([2**63], pa.uint64())):
        with pytest.raises(SchemaError, match="cast it to string"):
            heavy_hitters(refused)
        with pytest.raises(SchemaError):
            distinct_count(refused)
    with pytest.raises(ValueError, match="at least 1"):
        heavy_hitters(pa.array([1]), 0)
    with pytest.raises(ValueError, match=r"12\.\.18, but is 4"):
        distinct_count(pa.array([1]), 4)
    with pytest.raises(ValueError, match="precision 14 and 12"):
        DistinctCount.empty() + DistinctCount.empty(12)


@laws
@given(typed, st.integers(0, 40))
def test_merged_registers_are_those_of_the_union(column: tuple[Any, list[Any]], cut: int) -> None:
    array = pa.array(column[1], column[0])
    a, b, union = distinct_count(array[:cut]), distinct_count(array[cut:]), distinct_count(array)
    assert same_bits(a + b, union)
    assert same_bits(b + a, union)
    assert same_bits(union + union, union)
    assert same_bits(union + DistinctCount.empty(), union)
    assert same_bits(sum([a, b], start=DistinctCount.empty()), union)
    assert same_bits(0 + union, union)
    assert same_bits(DistinctCount.from_state(union.state()), union)
    assert union.estimate == pytest.approx(len(set(present(column[1]))), abs=0.2)


@pytest.mark.parametrize("n", [0, 1, 10, 1000, 50_000, 500_000])
def test_distinct_estimate(n: int) -> None:
    rng = np.random.default_rng(n)
    ids = np.arange(n) * 7919
    rows = rng.permutation(np.r_[ids, ids[: n // 2]])
    merged = sum((distinct_count(p) for p in np.array_split(rows, 8)), start=DistinctCount.empty())
    assert same_bits(merged, distinct_count(ids))
    # 4 standard deviations: fails by chance once in 15,000 data sets
    assert abs(merged.estimate - n) <= 4 * merged.relative_error * n
    assert merged.relative_error == pytest.approx(0.0081, rel=0.01)


def test_distinct_error_is_as_stated_and_precision_lowers_it() -> None:
    rng = np.random.default_rng(1)
    errors: dict[int, list[float]] = {12: [], 14: []}
    for _ in range(40):
        ids = rng.integers(0, 1 << 62, 20_000)
        for precision, found in errors.items():
            found.append(distinct_count(ids, precision).estimate / len(ids) - 1)
    rms = {p: float(np.sqrt(np.mean(np.square(e)))) for p, e in errors.items()}
    # 40 seeds estimate a standard deviation to 11 %: 1.5 lies more than 4 of its own deviations away
    assert rms[12] < 1.5 * DistinctCount.empty(12).relative_error
    assert rms[14] < 1.5 * DistinctCount.empty(14).relative_error
    assert rms[12] > rms[14]


def test_strings_and_floats_are_told_apart() -> None:
    rng = np.random.default_rng(2)
    rows = pa.array([f"customer {v:05d}" for v in rng.integers(0, 20_000, 60_000)])
    truth = len(rows.unique())
    assert distinct_count(rows).estimate == pytest.approx(truth, rel=0.033)
    assert same_bits(distinct_count(rows), distinct_count(rows.dictionary_encode()))
    x = rng.standard_normal(20_000)
    assert distinct_count(x).estimate == pytest.approx(20_000, rel=0.033)


def test_equal_numbers_hash_alike_and_others_do_not() -> None:
    whole = np.array([1, 0, -5, 2**53])
    reference = distinct_count(whole)
    for other in (whole.astype(float), pa.array([1.0, -0.0, -5.0, 2.0**53]), pa.array(whole).dictionary_encode()):
        assert same_bits(distinct_count(other), reference)
    assert same_bits(distinct_count(np.array([True])), distinct_count(np.array([1.0], np.float32)))
    assert not same_bits(distinct_count(np.array([1.5])), distinct_count(np.array([1.25])))
    assert not same_bits(distinct_count(pa.array(["1"])), distinct_count(pa.array([1])))
    # integers beyond 2**53 stay apart, which a detour over float64 would lose
    assert distinct_count(2**60 + np.arange(3000)).estimate == pytest.approx(3000, rel=0.033)
    assert distinct_count(np.array([np.inf, -np.inf, 1e300, np.nan])).estimate == pytest.approx(3, abs=0.1)


def test_only_values_that_occur_are_counted() -> None:
    wide = pa.DictionaryArray.from_arrays(pa.array([5, 5, None]), pa.array([str(i) for i in range(1000)]))
    assert round(distinct_count(wide).estimate) == 1
    assert heavy_hitters(wide).top(9) == [("5", 2)]


def test_hashes_are_pinned_down() -> None:
    """Stored registers outlive a process, so neither Python's salted hash nor a new release may move them."""
    found = [distinct_count(v).registers.nonzero()[0].tolist() for v in (["a", "ä", "b"], [1.5, 2.5], [1, 2])]
    assert found == [[586, 4445, 12220], [4051, 14650], [9282, 9686]]
