"""The sum that says whether the work fits, beside what a worker really takes."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from distributed import Client, LocalCluster
from distributed.core import Status

from benchmarks.large_tables import narrow
from benchmarks.worker_memory import MOST_OFF, Case, measure, quantities
from coretree.data.dataset import Dataset
from coretree.data.scan import Leaf, Scan
from coretree.errors import MemoryPlanError
from coretree.run.frontier import Job
from coretree.run.memory import BASE_BYTES, THREAD_BYTES, Demand, demand, preflight
from coretree.run.on_dask import DaskExecutor
from coretree.run.settings import Settings

MIB = 1 << 20
NEED = Demand(reading=40 * MIB, leaf=60 * MIB, merge=30 * MIB)


def worker(limit: int, threads: int = 1) -> dict[str, int]:
    return {"nthreads": threads, "memory_limit": limit}


def scan_of(*leaves: Leaf) -> Scan:
    frame = pd.DataFrame({"x": [0.5, 1.5], "z": [2.5, 0.5], "kind": ["a", "b"], "y": [0, 1]})
    found = Dataset.from_pandas(frame, target="y").scan
    return dataclasses.replace(found, leaves=leaves, n_rows=sum(leaf.n_rows for leaf in leaves))


def settings(**changed: Any) -> Settings:
    return Settings.checked(**{"size": 1_000, "objectives": "auto", "class_rows": None, "prepare": None, **changed})


def test_the_largest_row_group_counts_not_the_leaf_nor_the_table() -> None:
    many, large = Leaf("a", (0, 1, 2, 3), 400_000, 64 * MIB, ""), Leaf("b", (0,), 125_000, 20 * MIB, "")
    need = demand(scan_of(many, large), settings(), 1_000)
    assert need.reading == demand(scan_of(large), settings(), 1_000).reading > 20 * MIB
    more = demand(scan_of(*[many] * 999, large), settings(), 1_000)
    assert (more.reading, more.leaf) == (need.reading, need.leaf)
    assert more.merge < 20 * demand(scan_of(*[many] * 16), settings(), 1_000).merge
    huge = demand(scan_of(Leaf("c", (0,), 8_000_000, 2048 * MIB, "")), settings(), 1_000)
    assert huge.reading + huge.leaf < 256 * MIB  # read in slices
    assert demand(scan_of(), settings(), 1_000).thread == THREAD_BYTES
    assert demand(scan_of(Leaf("partition-0", (), 0, 0, "")), settings(), 1_000).leaf > MIB  # nobody knows its rows


def test_merges_follow_the_size_and_leaves_what_they_carry() -> None:
    scan = scan_of(*[Leaf("a", (0,), 20_000, 2 * MIB, "")] * 64)
    base = demand(scan, settings(), 1_000)
    assert demand(scan, settings(size=50_000), 1_000).merge > 10 * base.merge
    assert demand(scan, settings(exact=True), 1_000).leaf > base.leaf  # a design in double precision
    assert demand(scan, settings(cells=4_000), 1_000).leaf > base.leaf
    assert demand(scan, settings(cells=4_000, scatter=True), 1_000).merge > 2 * base.merge


def test_the_peak_is_that_of_the_fullest_worker() -> None:
    workers = {"tcp://a": worker(4096 * MIB), "tcp://b": worker(4096 * MIB, 3)}
    assert preflight(workers, NEED) == BASE_BYTES + 3 * (THREAD_BYTES + 100 * MIB)
    assert preflight({}, NEED) == 0
    assert preflight({"tcp://a": worker(0, 64)}, NEED) > 0  # no limit: nothing to refuse


@pytest.mark.parametrize(("merge", "advice"), [(30, "smaller row groups"), (90, "a smaller tree")])
def test_a_worker_too_small_is_refused_with_the_sum_and_what_to_do(merge: int, advice: str) -> None:
    need = dataclasses.replace(NEED, merge=merge * MIB)
    workers = {"tcp://big": worker(8192 * MIB), "tcp://small": worker(512 * MIB, 2)}
    with pytest.raises(
        MemoryPlanError, match=rf"tcp://small has 512 MiB, but needs about .*\(230 MiB .*2 threads x .*{advice}"
    ):
        preflight(workers, need)


@pytest.mark.parametrize(
    "case",
    [
        Case(narrow, 300_000, 300_000),
        pytest.param(Case(quantities, 200_000, 400_000, threads=2), marks=pytest.mark.slow),
        pytest.param(Case(narrow, 10_000, 400_000, {"size": 100_000}, leaf_bytes=1 << 20), marks=pytest.mark.slow),
    ],
    ids=["rows", "float64 on two threads", "merges"],
)
def test_prediction_is_within_its_bar(case: Case, tmp_path: Path) -> None:
    predicted, found = measure(case, tmp_path / "data")
    assert abs(predicted - found) <= MOST_OFF * found
    assert abs(BASE_BYTES - found) > MOST_OFF * found  # that of a worker which does nothing would be told from it


def test_workers_that_are_all_paused_end_the_run_with_an_error() -> None:
    with (
        LocalCluster(1, threads_per_worker=1, processes=False, dashboard_address=":0", memory_limit=0) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        jobs = [Job(f"g{i}", Leaf("a", (), 1, 1, "")) for i in range(20)]

        def pause(job: Job, done: int, total: int) -> None:
            client.run(lambda dask_worker: setattr(dask_worker, "status", Status.paused))

        started = time.monotonic()
        with pytest.raises(MemoryPlanError, match="all 1 workers are paused, for lack of memory"):
            DaskExecutor(client, stall_s=0.3).run(jobs, briefly, None, pause)
        assert time.monotonic() - started < 20
        # nobody pauses, nobody stalls
        client.run(lambda dask_worker: setattr(dask_worker, "status", Status.running))
        assert len(DaskExecutor(client, stall_s=0.3).run(jobs, briefly, None)) == len(jobs)


def briefly(job: Job, frame: object) -> int:
    time.sleep(0.02)
    return 1
