"""Nodes and surveys: merging is associative, storing is exact."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coretree import CoresetTree, Dataset, ThreadExecutor
from coretree.errors import DamagedNodeError
from coretree.run.frontier import Job
from coretree.run.tasks import NodeWork, Reading, SurveyWork, read_node
from coretree.tree.node import Node, Survey, by_prefix, prefixed
from coretree.tree.store import MemoryStore
from generated import sales


@pytest.fixture(scope="module")
def nodes() -> tuple[list[Node], list[Survey]]:
    """Six leaves of one recipe, and the surveys of the same rows."""
    frame = sales(1800).drop(columns=["price", "number", "group"])
    data = Dataset.from_pandas(frame, target="sold", weight="weight", leaf_bytes=6 * 8 * 300)
    tree = CoresetTree(size=300).build(data, client=ThreadExecutor(1))
    leaves = [read_node(tree.store, leaf.name) for leaf in tree.manifest_.leaves]
    survey = SurveyWork(Reading.of(data), tree.settings, 400, 300, MemoryStore())
    surveys = []
    for i, leaf in enumerate(data.scan.leaves):
        survey(Job(f"s{i}", leaf), data.frame_part(leaf))
        surveys.append(survey.get(f"s{i}"))
    assert len(leaves) == len(surveys) == 6
    return leaves, surveys


def capacity(objective: str) -> int | np.ndarray:
    return np.array([150, 150]) if objective == "balanced" else 300


@settings(max_examples=25, deadline=None)
@given(cuts=st.sets(st.integers(1, 5)))
def test_any_grouping_gives_the_same_node(nodes: tuple[list[Node], list[Survey]], cuts: set[int]) -> None:
    leaves, surveys = nodes
    edges = [0, *sorted(cuts), 6]
    groups = list(pairwise(edges))
    whole = Node.merge(leaves, capacity)
    found = Node.merge([Node.merge(leaves[a:b], capacity) for a, b in groups], capacity)
    assert found.n_rows == whole.n_rows == 1800
    for name, sketch in whole.sketches.items():
        np.testing.assert_equal(found.sketches[name].state(), sketch.state())
    np.testing.assert_allclose(found.totals["robust"].gradient, whole.totals["robust"].gradient, rtol=1e-9, atol=1e-9)
    merged = Survey.merge([Survey.merge(surveys[a:b]) for a, b in groups])
    all_at_once = Survey.merge(surveys)
    assert merged.profile.n_rows == all_at_once.profile.n_rows == 1800
    assert {k: v.ids.tolist() for k, v in merged.pilots.items()} == {
        k: v.ids.tolist() for k, v in all_at_once.pilots.items()
    }


def test_storing_is_exact(nodes: tuple[list[Node], list[Survey]]) -> None:
    leaves, surveys = nodes
    node, survey = Node.merge(leaves, capacity), Survey.merge(surveys)
    assert Node.from_bytes(node.to_bytes(), where="n").to_bytes() == node.to_bytes()
    assert Survey.from_bytes(survey.to_bytes(), where="s").to_bytes() == survey.to_bytes()
    assert list(Survey.from_bytes(survey.to_bytes(), where="s").pilots) == ["no", "yes"]


def test_damage_is_noticed(nodes: tuple[list[Node], list[Survey]]) -> None:
    data = bytearray(nodes[0][0].to_bytes())
    data[len(data) // 2] ^= 1
    with pytest.raises(DamagedNodeError, match="nodes/ab"):
        Node.from_bytes(bytes(data), where="nodes/ab")


def test_a_work_of_nodes_merges_what_the_store_holds(nodes: tuple[list[Node], list[Survey]]) -> None:
    frame = sales(600).drop(columns=["price", "number", "group"])
    data = Dataset.from_pandas(frame, target="sold", leaf_bytes=7 * 8 * 300)
    tree = CoresetTree(size=300).build(data, client=ThreadExecutor(1))
    names = [leaf.name for leaf in tree.manifest_.leaves]
    work = NodeWork(Reading.of(data), tree.manifest_.recipe, tree.store, None)
    found = work(Job("0123", None, tuple(names)), None)
    assert found == tree.manifest_.nodes[tree.name_]
    assert read_node(tree.store, "0123").to_bytes() == tree.root_.to_bytes()


def test_prefixes_nest() -> None:
    one = np.ones(1)
    assert prefixed("a", {"x": one, "y/z": one}).keys() == {"a/x", "a/y/z"}
    assert by_prefix(prefixed("a", {"y/z": one}) | prefixed("b", {"x": one})) == {"a": {"y/z": one}, "b": {"x": one}}
