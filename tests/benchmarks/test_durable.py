"""The benchmark of what a tree costs to keep runs, small; what it counts is asserted, never how long it took."""

from __future__ import annotations

import pytest

from benchmarks.durable import Cost, Seconds, append, deletion, manifest, markdown, median, most_nodes, run, timed
from benchmarks.durable import long_tree as built
from coretree.tree.plan import digest, plan

pytestmark = pytest.mark.filterwarnings("ignore::coretree.errors.CoretreeWarning")  # such small leaves are all odd


def test_every_line_is_measured_and_the_counts_hold(tmp_path):
    costs = run(
        tmp_path, rows=10_000, leaves=26, leaf_rows=200, erase_rows=1_600, manifest_leaves=300, size=300, repeats=2
    )
    by_name = {cost.name.split(":")[0] + cost.unit: cost for cost in costs}
    assert len(by_name) == len(costs) == 7
    assert by_name["storageof the decoded input"].seen["decoded_bytes"] == 10_000 * 81
    assert by_name["appendnodes"].holds
    assert by_name["appendnodes"].seen["merges"] == merges_of_appends(26, 2)
    assert by_name["windownodes"].holds
    assert by_name["windownodes"].bar == 32
    assert by_name["manifests"].seen["leaves"] == 300
    assert all(cost.figure > 0 for cost in costs)
    assert markdown(costs).count("\n| ") == 8


def merges_of_appends(leaves, repeats):
    """Merges of appends, by the plan alone, over the names that such files have."""
    names = [f"part-{i:05d}.parquet#0" for i in range(leaves + repeats)]
    before = plan([digest(n) for n in names[:leaves]], recipe="r", identities=names[:leaves])
    found = []
    for n in range(leaves + 1, leaves + repeats + 1):
        after = plan([digest(name) for name in names[:n]], recipe="r", identities=names[:n])
        found.append(sum(1 for name, children in after.nodes.items() if children and name not in before.nodes))
        before = after
    return found


def test_appends_and_deletions_count_what_they_touch(tmp_path):
    tree = built(tmp_path, 12, 100, 100)
    merges, seconds = append(tmp_path, tree, 100, 1)
    assert merges.seen["merges"] == [1]
    assert seconds.seen["leaves"] == 12
    found = deletion(tmp_path, 800, 8, 100, 1)
    assert all(1 <= hit <= 5 for hit in found.seen["leaves_hit"])
    assert manifest(tmp_path, 20, 1).seen["bytes"] > 20 * 200


@pytest.mark.parametrize(("leaves", "bar"), [(1, 0), (8, 16), (9, 32), (1000, 64), (4097, 80)])
def test_the_bar_of_a_window(leaves, bar):
    assert most_nodes(leaves, 8) == bar


def test_a_bar_that_is_missed_is_said():
    missed = Cost("append", 5, 4, "nodes", {})
    assert not missed.holds
    assert markdown([missed]).splitlines()[-1] == "| append | 5 nodes | 4 | NO |"
    assert median([Seconds(3, 1), Seconds(1, 2), Seconds(2, 9)]) == Seconds(2, 2)
    assert timed(lambda: 7)[0] == 7
