"""Class quotas and the sketches that carry them."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coretree.coreset.class_sketches import ClassSketches, merge_classes, sketch_classes
from coretree.coreset.quotas import KEEP_ALL, class_capacities, class_quotas
from coretree.coreset.rows import uniforms
from coretree.errors import ConfigError

COUNTS = st.lists(st.integers(0, 5000), min_size=1, max_size=8).filter(any)


@settings(max_examples=100, deadline=None)
@given(counts=COUNTS, size=st.integers(1, 6000))
def test_quotas_add_up_and_nobody_gets_less_than_half_of_uniform(counts: list[int], size: int) -> None:
    held = np.array(counts)
    quotas, present = class_quotas(counts, size), np.count_nonzero(held)
    assert quotas.sum() == min(size, held.sum())
    assert (quotas <= held).all()
    if size >= present:
        assert (quotas[held > 0] >= 1).all()
    if size >= 2 * present:
        assert (quotas >= np.minimum(held, 0.5 * size * held / held.sum())).all()
    more = class_quotas(counts, size + 7)
    assert (more >= quotas - 1).all()  # growing only, but for rounding


@settings(max_examples=100, deadline=None)
@given(counts=COUNTS, size=st.integers(1, 6000), growth=st.integers(1, 1000))
def test_capacities_have_room_for_the_quotas_of_a_larger_day(counts: list[int], size: int, growth: int) -> None:
    held = np.array(counts)
    room, quotas = class_capacities(counts, size), class_quotas(counts, size)
    assert (room >= quotas).all()
    assert (room <= size).all()
    assert room.sum() <= 3 * size
    if quotas.sum() == size and (quotas < held)[held > 0].all():
        assert np.abs(room - quotas).max() <= 1  # every class is cut already: it grows with the others
    share = held / (2 * held.sum()) + (held > 0) / (2 * np.count_nonzero(held))
    assert (np.minimum(class_quotas(held * growth, size), 2 * share * size) <= room + 1).all()


def test_capacities_of_budgets_are_the_budgets() -> None:
    assert class_capacities([9_000, 100], 2_000, budgets={1: 500}).tolist() == [1_900, 500]
    assert class_capacities([9_000, 100], 2_000, budgets={1: "all"}).tolist() == [1_900, KEEP_ALL]
    assert class_capacities([0, 10], 5).tolist() == [0, 5]


def test_water_filling_by_hand() -> None:
    assert class_quotas([8000, 1500, 500], 1000).tolist() == [567, 242, 191]
    assert class_quotas([8000, 1900, 100], 1000).tolist() == [616, 284, 100]
    assert class_quotas([5000, 5000], 10_000).tolist() == [5000, 5000]
    assert class_quotas([6, 0, 3], 100).tolist() == [6, 0, 3]
    assert class_quotas([100, 50, 1, 1], 3).sum() == 3


@settings(max_examples=50, deadline=None)
@given(counts=COUNTS, size=st.integers(1, 6000), data=st.data())
def test_budgets_are_kept_and_the_rest_is_shared(counts: list[int], size: int, data: st.DataObject) -> None:
    codes = data.draw(st.sets(st.integers(0, len(counts) - 1)))
    budgets: dict[int, Any] = {c: data.draw(st.one_of(st.integers(0, 50), st.just("all"))) for c in sorted(codes)}
    needed = sum(counts[c] if b == "all" else min(b, counts[c]) for c, b in budgets.items())
    if needed > size:
        with pytest.raises(ConfigError, match=f"Type size={needed} or more"):
            class_quotas(counts, size, budgets=budgets)
        return
    quotas = class_quotas(counts, size, budgets=budgets)
    rows = np.minimum(quotas, counts)
    for c, budget in budgets.items():
        assert quotas[c] == (KEEP_ALL if budget == "all" else min(budget, counts[c]))
    assert rows.sum() <= size
    if len(budgets) < len(counts):
        free = [c for c in range(len(counts)) if c not in budgets]
        assert rows.sum() == size or all(rows[c] == counts[c] for c in free)


def part(first: int, last: int, quotas: npt.ArrayLike, seed: int = 0) -> ClassSketches:
    """Rows first to last of a data set of three classes with weights."""
    i = np.arange(first, last)
    ids = i.astype(np.uint64) * np.uint64(7919)
    y = np.where(i % 50 == 0, 2, i % 2)
    u = uniforms(ids, seed, "quota")
    return sketch_classes(ids, y, {"i": i, "y": y}, quotas, uniforms=u, base=1.0 + (i % 3))


def same(a: ClassSketches, b: ClassSketches) -> None:
    mine, theirs = a.state(), b.state()
    assert mine.keys() == theirs.keys()
    for name, column in mine.items():
        np.testing.assert_array_equal(column, theirs[name])


@settings(max_examples=25, deadline=None)
@given(cuts=st.lists(st.integers(0, 1000), max_size=5), turn=st.randoms(use_true_random=False))
def test_merge_is_the_sketch_of_the_union_in_any_order(cuts: list[int], turn: Any) -> None:
    quotas = [40, 30, KEEP_ALL]
    edges = [0, *sorted(cuts), 1000]
    parts = [part(a, b, quotas) for a, b in itertools.pairwise(edges)]
    turn.shuffle(parts)
    whole = part(0, 1000, quotas)
    same(sum(parts), whole)  # type: ignore[arg-type]
    same(merge_classes(parts), whole)
    same(whole + whole, whole)
    same(ClassSketches.from_state(whole.state()), whole)


def test_reduce_is_the_smaller_sketch() -> None:
    same(part(0, 1000, [40, 30, 8]).reduce([20, 10, 8]), part(0, 1000, [20, 10, 8]))
    same(part(0, 1000, [40, 30, 8]).reduce([40, 99, 8]), part(0, 1000, [40, 30, 8]))


def test_rare_class_is_kept_whole_also_after_growth() -> None:
    quotas = class_quotas([245, 245, 10], 100, budgets={2: "all"})
    sample = (part(0, 500, quotas) + part(500, 1000, quotas)).finalise()
    assert np.bincount(sample.rows["y"]).tolist() == [45, 45, 20]
    rare = sample.rows["y"] == 2
    np.testing.assert_array_equal(sample.weights[rare], sample.base[rare])


def test_weights_keep_the_true_class_shares() -> None:
    i = np.arange(1000)
    y, base = np.where(i % 50 == 0, 2, i % 2), 1.0 + (i % 3)
    totals = np.bincount(y, base)
    found = [part(0, 1000, [40, 30, 10], seed).finalise() for seed in range(300)]
    held = np.array([np.bincount(s.rows["y"], s.weights, minlength=3) for s in found])
    assert (np.abs(held.mean(axis=0) - totals) < 4 * held.std(axis=0) / np.sqrt(300)).all()
    exact = part(0, 1000, [40, 30, 10]).finalise(totals)
    np.testing.assert_allclose(np.bincount(exact.rows["y"], exact.weights), totals)
    whole = part(0, 1000, [KEEP_ALL] * 3).finalise(totals)
    np.testing.assert_array_equal(whole.weights, whole.base)
    assert np.isinf(whole.threshold)


def test_payload_is_asked_for_kept_rows_only() -> None:
    ids = np.arange(100, dtype=np.uint64)
    asked: list[int] = []

    def rows(index: npt.NDArray[np.intp]) -> dict[str, npt.NDArray[Any]]:
        asked.extend(index.tolist())
        return {"i": index}

    sample = sketch_classes(ids, ids % 2, rows, [5, 3], uniforms=uniforms(ids, 0, "quota")).finalise()
    assert len(asked) == 6 + 4
    np.testing.assert_array_equal(sample.ids, sample.rows["i"])
    np.testing.assert_array_equal(sample.rows["i"] % 2, [0] * 5 + [1] * 3)


def test_empty_leaf_and_absent_class() -> None:
    quotas = [5, 5, 5]
    empty = part(0, 0, quotas)
    same(empty + part(0, 49, quotas), part(0, 49, quotas))
    assert len(empty.finalise([0, 0, 0]).ids) == 0
    only = sketch_classes(np.arange(3, dtype=np.uint64), np.zeros(3, int), {}, quotas, uniforms=np.full(3, 0.5))
    assert np.isfinite(only.finalise([3, 0, 9]).weights).all()


@pytest.mark.parametrize(
    ("budgets", "part_of_message"),
    [
        ({0: -1}, "budget of class 'no' must be a number of rows or 'all'; found -1"),
        ({0: "most"}, "found 'most'"),
        ({2: 5}, "names class 2, but there are only 'no', 'yes'"),
        ({0: 80, 1: "all"}, "need 110 rows, but the coreset may have 100. Type size=110"),
    ],
)
def test_mistakes_are_named(budgets: Any, part_of_message: str) -> None:
    with pytest.raises(ConfigError, match=part_of_message):
        class_quotas([500, 30], 100, budgets=budgets, labels=["no", "yes"])


def test_programming_errors() -> None:
    with pytest.raises(ValueError, match="size must be >= 1"):
        class_quotas([1], 0)
    with pytest.raises(ValueError, match=r"whole numbers in \[0, 2\)"):
        sketch_classes(np.arange(2, dtype=np.uint64), np.array([0, 2]), {}, [1, 1], uniforms=np.ones(2) / 2)
    with pytest.raises(ValueError, match="the same classes"):
        part(0, 9, [1, 1, 1]) + sketch_classes(np.zeros(0, np.uint64), np.zeros(0), {}, [1], uniforms=np.zeros(0))
