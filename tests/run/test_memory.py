"""The sum that says whether the work fits."""

from __future__ import annotations

import pytest

from coretree.data.scan import Leaf
from coretree.errors import MemoryPlanError
from coretree.run.memory import BASE_BYTES, chunk_bytes, node_bytes, preflight

MIB = 1 << 20


def worker(limit: int, threads: int = 1) -> dict[str, int]:
    return {"nthreads": threads, "memory_limit": limit}


def test_the_largest_row_group_counts_not_the_leaf() -> None:
    leaves = [Leaf("a", (0, 1, 2, 3), 1, 64 * MIB, ""), Leaf("b", (0,), 1, 20 * MIB, "")]
    assert chunk_bytes(leaves) == 20 * MIB
    assert chunk_bytes([]) == 0
    assert chunk_bytes([Leaf("c", (0,), 1, 4096 * MIB, "")]) < 128 * MIB  # read in slices


def test_the_peak_is_that_of_the_fullest_worker() -> None:
    leaves = [Leaf("a", (0,), 1, 10 * MIB, "")]
    peak = preflight({"tcp://a": worker(4096 * MIB), "tcp://b": worker(4096 * MIB, 3)}, leaves, merge_bytes=MIB)
    assert peak == BASE_BYTES + 3 * 40 * MIB
    assert preflight({}, leaves, merge_bytes=1) == 0
    assert preflight({"tcp://a": worker(0, 64)}, leaves, merge_bytes=1) > 0  # no limit: nothing to refuse


def test_a_worker_too_small_is_refused_with_the_sum() -> None:
    leaves = [Leaf("a", (0,), 1, 64 * MIB, "")]
    workers = {"tcp://big": worker(8192 * MIB), "tcp://small": worker(512 * MIB, 2)}
    with pytest.raises(
        MemoryPlanError, match=r"tcp://small has 512 MiB, but needs about 762 MiB \(250 MiB .*2 threads x 256 MiB"
    ):
        preflight(workers, leaves, merge_bytes=MIB)


def test_merges_count_too() -> None:
    assert node_bytes(20_000, 30, 8, 3) == 3 * 9 * 20_000 * 8 * 36
    with pytest.raises(MemoryPlanError, match="smaller tree"):
        preflight({"tcp://a": worker(1024 * MIB)}, [], merge_bytes=node_bytes(200_000, 30, 8, 3))
