from __future__ import annotations

import random
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coretree.tree.plan import Plan, canonical_json, digest, plan

LEAVES = tuple(digest("leaf", i) for i in range(1000))
unique_names = st.lists(st.text(max_size=6), min_size=1, max_size=60, unique=True)


def merges(p: Plan) -> set[str]:
    return {name for name, children in p.nodes.items() if children}


def leaves_below(p: Plan, name: str) -> list[str]:
    """The leaves under a node, from left to right."""
    children = p.nodes[name]
    return [leaf for child in children for leaf in leaves_below(p, child)] if children else [name]


def needed(p: Plan, name: str, stored: set[str]) -> set[str]:
    """What is missing, as one would define it."""
    if name in stored:
        return set()
    return {name}.union(*(needed(p, child, stored) for child in p.nodes[name]))


def by_position(leaves: Sequence[str], fan_in: int = 8) -> set[str]:
    """The merges of a tree that groups by position: the negative control."""
    level, found = list(leaves), set()
    while len(level) > 1:
        level = [digest(*level[i : i + fan_in]) for i in range(0, len(level), fan_in)]
        found.update(level)
    return found


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 700), st.integers(2, 12), st.integers())
def test_the_shape(n: int, fan_in: int, salt: int) -> None:
    leaves = [digest(salt, i) for i in range(n)]
    p = plan(leaves, recipe="r", fan_in=fan_in)
    assert leaves_below(p, p.root) == leaves == list(p.names_of_leaves)
    assert p.levels[-1] == (p.root,)
    for lower, upper in zip(p.levels, p.levels[1:], strict=False):
        assert len(upper) <= (len(lower) + 1) // 2
        groups = [(name,) if name in lower else p.nodes[name] for name in upper]
        assert [name for group in groups for name in group] == list(lower)
        assert all(len(group) <= (2 if len(upper) > 1 else 3) * fan_in for group in groups)
        if lower is p.levels[0]:
            assert all(len(group) >= 2 for group in groups[:-1])
    assert set(p.nodes) == {name for level in p.levels for name in level}
    assert all(name == digest("merge", children, "r") for name, children in p.nodes.items() if children)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 300), st.randoms(use_true_random=False), st.floats(0, 1))
def test_the_steps_are_what_is_missing(n: int, rnd: random.Random, share: float) -> None:
    whole = plan(LEAVES[:n], recipe="r", fan_in=4)
    stored = {name for name in sorted(whole.nodes) if rnd.random() < share} | {"of another tree"}
    p = plan(LEAVES[:n], recipe="r", fan_in=4, stored=list(stored))
    assert (p.root, p.levels, p.nodes) == (whole.root, whole.levels, whole.nodes)
    assert {step.name for step in p.steps} == needed(whole, whole.root, stored)
    have, kinds = set(stored), [step.kind for step in p.steps]
    assert kinds == sorted(kinds)  # leaves before merges
    for step in p.steps:
        assert step.name not in have
        assert have.issuperset(step.children)
        have.add(step.name)
        if step.kind == "leaf":
            assert step.children == ()
            assert step.leaf is not None
            assert LEAVES[step.leaf] == step.name
        else:
            assert (step.leaf, step.children) == (None, whole.nodes[step.name])
    positions = [step.leaf for step in p.steps if step.leaf is not None]
    assert positions == sorted(positions)
    assert p.root in have


def test_a_finished_tree_has_nothing_to_do() -> None:
    p = plan(LEAVES, recipe="r")
    assert plan(LEAVES, recipe="r", stored={p.root}).steps == ()
    assert plan(LEAVES, recipe="r", stored=p.nodes).steps == ()


def test_a_single_leaf_is_the_root() -> None:
    p = plan(["a"], recipe="r")
    assert (p.root, p.levels, p.nodes) == ("a", (("a",),), {"a": ()})
    assert [(step.kind, step.leaf) for step in p.steps] == [("leaf", 0)]


@settings(max_examples=25, deadline=None)
@given(unique_names, st.lists(st.tuples(st.sampled_from("air"), st.integers(0, 10**6)), max_size=20))
def test_history_has_no_say(names: list[str], edits: list[tuple[str, int]]) -> None:
    """Whatever was there before and is still stored, the tree is that of the present leaves."""
    leaves, identities = [digest(name) for name in names], list(names)
    stored: set[str] = set()
    for kind, at in [("", 0), *edits]:
        i = at % len(leaves)
        if kind == "a":
            leaves.insert(i, digest("new", at, len(stored)))
            identities.insert(i, f"new identity {at} {len(stored)}")
        elif kind == "r" and len(leaves) > 1:
            del leaves[i], identities[i]
        elif kind == "i":
            leaves[i] = digest("changed", at, len(stored))
        p = plan(leaves, recipe="r", fan_in=2, stored=stored, identities=identities)
        for step in p.steps:
            assert stored.issuperset(step.children)
            stored.add(step.name)
        fresh = plan(leaves, recipe="r", fan_in=2, identities=identities)
        assert (p.root, p.levels, p.nodes) == (fresh.root, fresh.levels, fresh.nodes)
        assert stored.issuperset(fresh.nodes)


def edited(salt: int, kind: str, at: int) -> tuple[int, list[str], list[str], int]:
    """Edit one leaf of 1,000: the number of new merges, the leaves before and after, the levels of merges."""
    leaves = [digest("leaf", salt, i) for i in range(1000)]
    after, before = list(leaves), plan(leaves, recipe="r")
    identities = list(leaves)
    if kind in ("insert", "append"):
        where = at if kind == "insert" else len(after)
        after.insert(where, "new")
        identities.insert(where, "new")
    elif kind == "remove":
        del after[at], identities[at]
    else:
        after[at] = "new"
    p = plan(after, recipe="r", identities=identities)
    return len(merges(p) - merges(before)), leaves, after, len(p.levels) - 1


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**9), st.sampled_from(["append", "insert", "remove", "replace"]), st.integers(0, 999))
def test_one_edit_among_a_thousand_leaves_touches_few_nodes(salt: int, kind: str, at: int) -> None:
    new, _, _, levels = edited(salt, kind, at)
    assert 3 <= levels <= 4
    if kind == "replace":
        assert new <= levels  # nothing but its ancestors: identities stay, so does the shape
    else:
        assert new <= levels + 10


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 700), st.integers(2, 12), st.integers())
def test_an_append_makes_one_merge_a_level_and_one_more(n: int, fan_in: int, salt: int) -> None:
    leaves = [digest(salt, i) for i in range(n + 1)]
    before, after = (plan(leaves[:m], recipe="r", fan_in=fan_in) for m in (n, n + 1))
    new = merges(after) - merges(before)
    by_level = [len(new & set(upper) - set(lower)) for lower, upper in pairwise(after.levels)]
    grown = any(len(a) <= 3 * fan_in < len(b) for a, b in zip(before.levels, after.levels, strict=False))
    if not grown:  # else one group at the top becomes some
        assert by_level[:1] <= [2]
        assert all(made <= 1 for made in by_level[1:])


@pytest.mark.parametrize(("kind", "worst"), [("append", 4), ("insert", 8), ("remove", 8), ("replace", 4)])
def test_the_distribution_of_new_merges(kind: str, worst: int) -> None:
    rnd = random.Random(0)
    results = [edited(salt, kind, rnd.randrange(1000)) for salt in range(25)]
    new = [result[0] for result in results]
    positional = [len(by_position(after) - by_position(before)) for _, before, after, _ in results[:5]]
    print(f"{kind}: median {statistics.median(new)}, worst {max(new)}; by position {statistics.median(positional)}")
    assert statistics.median(new) <= 3
    assert max(new) <= worst
    if kind in ("insert", "remove"):
        assert statistics.median(positional) > 30  # the negative control cannot do it


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "worst"), [("append", 4), ("insert", 10), ("remove", 10), ("replace", 4)])
def test_the_distribution_of_new_merges_over_many_trees(kind: str, worst: int) -> None:
    rnd = random.Random(1)
    new = sorted(edited(10_000 + i, kind, rnd.randrange(1000))[0] for i in range(500))
    print(f"{kind}: median {new[250]}, 95 % {new[475]}, 99 % {new[495]}, worst {new[-1]}")
    assert new[495] <= (4 if kind in ("append", "replace") else 6)
    assert new[-1] <= worst


def test_growing_leaf_by_leaf_stays_cheap() -> None:
    stored: set[str] = set()
    costs = []
    for n in range(1, 400):
        p = plan(LEAVES[:n], recipe="r", stored=stored)
        costs.append(sum(step.kind == "merge" for step in p.steps))
        stored.update(p.nodes)
    print(f"appending up to 400 leaves: mean {statistics.mean(costs):.2f} merges, worst {max(costs)}")
    assert statistics.mean(costs) < 3
    assert max(costs) <= 5


@pytest.mark.parametrize(("fan_in", "low", "high"), [(2, 2.5, 3.2), (4, 4.3, 5.3), (8, 7.8, 9.0), (16, 14.5, 17)])
def test_the_mean_group_is_about_the_fan_in(fan_in: int, low: float, high: float) -> None:
    p = plan([digest(i) for i in range(4000)], recipe="r", fan_in=fan_in)
    mean = len(p.levels[0]) / len(p.levels[1])
    print(f"fan-in {fan_in}: mean group {mean:.2f}, levels {len(p.levels) - 1}")
    assert low < mean < high


def test_names_are_fixed_for_good() -> None:
    """Stored trees are found by these names: a change here makes every tree be built anew."""
    p = plan([f"leaf-{i}" for i in range(100)], recipe="r", identities=[f"f{i}.parquet" for i in range(100)])
    assert digest("merge", ("a", "b"), "r") == "58b63a260bc75753be05b8ad4223c38e"
    assert p.root == "9209dfa29b3ab18219394bbfb4deb872"
    code = "from coretree.tree.plan import *; print(plan([f'leaf-{i}' for i in range(100)], recipe='r').root)"
    command = [sys.executable, "-c", f"import sys; sys.path[:0] = {sys.path!r}; {code}"]
    run = subprocess.run(command, env={"PYTHONHASHSEED": "7"}, capture_output=True, text=True, timeout=60, check=True)
    assert run.stdout.strip() == plan([f"leaf-{i}" for i in range(100)], recipe="r").root


def test_recipe_and_fan_in_change_the_names_and_identities_the_shape() -> None:
    default = plan(LEAVES, recipe="r")
    assert default == plan(LEAVES, recipe="r", identities=LEAVES)
    assert not merges(default) & merges(plan(LEAVES, recipe="s"))
    assert default.root != plan(LEAVES, recipe="r", fan_in=4).root
    assert default.root != plan(LEAVES, recipe="r", identities=LEAVES[::-1]).root
    assert default.root != plan(LEAVES[::-1], recipe="r").root


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"leaf_names": []}, "at least one leaf"),
        ({"leaf_names": ["a", "b", "a"]}, "leaf name must be there once, found 'a'"),
        ({"leaf_names": ["a", "b"], "identities": ["x", "x"]}, "identity must be there once, found 'x'"),
        ({"leaf_names": ["a", "b"], "identities": ["x"]}, "found 1 for 2 leaves"),
        ({"leaf_names": ["a"], "fan_in": 1}, "at least 2, found 1"),
    ],
)
def test_wrong_arguments(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        plan(**{"recipe": "r", **arguments})  # type: ignore[arg-type]


def test_canonical_json() -> None:
    assert canonical_json({"ü": [1, 2.0, True, None], "a": ("x", {"c": 1, "b": 2})}) == (
        '{"a":["x",{"b":2,"c":1}],"\\u00fc":[1,2.0,true,null]}'
    )
    for wrong in (float("nan"), float("inf")):
        with pytest.raises(ValueError, match="JSON"):
            canonical_json([wrong])
    with pytest.raises(TypeError):
        digest(b"bytes")


def test_digests_keep_their_parts_apart() -> None:
    assert len({digest("ab", "c"), digest("a", "bc"), digest(["ab", "c"]), digest("abc"), digest(), digest(None)}) == 6
    assert digest("\udcff.parquet") != digest("?.parquet")  # undecodable file names too


def test_ten_thousand_leaves_are_planned_within_a_second() -> None:
    leaves = [digest("leaf", i) for i in range(10_000)]
    begin = time.perf_counter()
    plan(leaves, recipe="r", stored=leaves)
    seconds = time.perf_counter() - begin
    print(f"10,000 leaves planned in {seconds:.3f} s")
    assert seconds < 1
