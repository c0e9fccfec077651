"""The contract on Dask in this process, Dask DataFrames of every kind, and what happens when something is amiss."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import dask
import dask.dataframe as dd
import pandas as pd
import pytest
from distributed import Client, LocalCluster

from contracts import ExecutorContract
from coretree import CoresetTree, Dataset, ThreadExecutor
from coretree.data.scan import Leaf
from coretree.errors import ClusterError, NoWorkersError, SchedulerError
from coretree.run.cluster import check_shared, connect, running
from coretree.run.executor import Executor, executor_for
from coretree.run.frontier import Job
from coretree.run.on_dask import DaskExecutor
from coretree.run.partitions import PartitionsHere, overlapping, partitions
from coretree.tree.local_store import LocalStore
from generated import sales, same

READS: list[int] = []


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, processes=False, dashboard_address="127.0.0.1:0") as cluster,
        Client(cluster, set_as_default=False) as found,
    ):
        yield found


class TestDaskInThisProcess(ExecutorContract):
    @pytest.fixture
    def executor(self, client: Client) -> Executor:
        return DaskExecutor(client)


def build(frame: Any, executor: Executor, **options: Any) -> CoresetTree:
    data = Dataset.from_dask(frame, target="sold", weight="weight", drop=["price", "number", "group"], **options)
    train, _ = data.split(test=0.2)
    return CoresetTree(size=400, seed=3).build(train, client=executor)


def with_holes(frame: pd.DataFrame) -> dd.DataFrame:
    """Six partitions; the middle one holds no row, the next only rows without a target."""
    parts = [frame.iloc[i * 500 : (i + 1) * 500] for i in range(6)]
    parts[2] = parts[2].iloc[:0]
    parts[3] = parts[3].assign(sold=pd.Series([None] * 500, index=parts[3].index, dtype=frame["sold"].dtype))
    return dd.concat([dd.from_pandas(part, npartitions=1) for part in parts])


def test_a_dask_frame_gives_the_same_coreset_here_and_on_the_cluster(client: Client) -> None:
    frame = with_holes(sales(3000)).assign(a=lambda f: f["a"] * 2)
    assert frame.npartitions == 6
    first = build(frame, ThreadExecutor(1))
    assert 1500 < first.n_rows_ < 1700  # four fifths of the four partitions that hold rows
    for executor in (ThreadExecutor(2), DaskExecutor(client)):
        tree = build(frame, executor)
        assert tree.name_ == first.name_
        assert same(tree.coreset(350), first.coreset(350))


def counted(part: pd.DataFrame) -> pd.DataFrame:
    READS.append(len(part))
    return part


@pytest.mark.parametrize("how", ["shuffle", "merge", pytest.param("set_index", marks=pytest.mark.slow)])
def test_a_shuffle_is_computed_once_a_pass(client: Client, how: str) -> None:
    source = dd.from_pandas(sales(2400), npartitions=8).map_partitions(counted, meta=sales(1).iloc[:0])
    if how == "shuffle":
        frame = source.shuffle("group")
    elif how == "set_index":
        frame = source.set_index("group", drop=False, divisions=[0, 20, 40, 60, 80, 100, 120], sort=True)
    else:
        frame = source.merge(
            dd.from_pandas(pd.DataFrame({"group": range(121), "extra": [i % 7 for i in range(121)]}), npartitions=3),
            on="group",
        )
    assert overlapping(partitions(frame))
    trees = []
    for executor in (ThreadExecutor(2), DaskExecutor(client)):
        READS.clear()
        trees.append(build(frame, executor))
        assert sum(READS) == 2 * 2400  # two passes, each partition of the source once in each
    assert trees[0].name_ == trees[1].name_
    assert same(trees[0].coreset(), trees[1].coreset())
    assert 1800 < trees[0].n_rows_ < 2040


def test_partitions_that_need_only_themselves_are_streamed() -> None:
    assert not overlapping(partitions(dd.from_pandas(sales(100), npartitions=5).assign(z=1)))


def test_an_error_in_a_shuffled_frame_names_the_partition_and_ends_the_run(client: Client) -> None:
    frame = dd.from_pandas(sales(1200), npartitions=6).shuffle("group")
    data = Dataset.from_dask(frame, target="sold")
    jobs = [Job(f"s{i}", leaf) for i, leaf in enumerate(data.scan.leaves)]

    def work(job: Job, part: pd.DataFrame) -> int:
        if job.name == "s4":
            raise ZeroDivisionError("poisoned")
        return len(part)

    for executor in (ThreadExecutor(2), DaskExecutor(client)):
        with pytest.raises(ClusterError, match=r"partition-000004: ZeroDivisionError: poisoned"):
            executor.run(jobs, work, data)
        found = executor.run(jobs, lambda job, part: len(part), data)
        assert sum(found.values()) == 1200
    assert PartitionsHere(frame).shared


def test_large_work_travels_once(client: Client) -> None:
    class Large:
        def __init__(self) -> None:
            self.block = bytes(3 << 20)

        def __call__(self, job: Job, frame: object) -> int:
            return len(self.block)

    jobs = [Job(f"large{i}", Leaf("a", (0,), 1, 1, "")) for i in range(4)]
    assert set(DaskExecutor(client).run(jobs, Large(), None).values()) == {3 << 20}


def test_rows_in_memory_go_to_a_cluster_only_when_asked(client: Client) -> None:
    data = Dataset.from_pandas(sales(900).drop(columns=["price", "number", "group"]), target="sold", weight="weight")
    with client.as_current():
        assert isinstance(executor_for(data=data), ThreadExecutor)
    here = CoresetTree(size=400).build(data)
    there = CoresetTree(size=400).build(data, client=client)
    assert here.name_ == there.name_
    assert same(here.coreset(), there.coreset())


def test_a_running_client_is_found(client: Client) -> None:
    assert running() is None
    with client.as_current():
        found = executor_for()
        assert isinstance(found, DaskExecutor)
        assert found.client is client
        assert found.n_slots == 2
        assert repr(found).startswith("2 worker threads at ")
    assert isinstance(executor_for(), ThreadExecutor)


def test_nobody_at_the_address() -> None:
    started = time.monotonic()
    with pytest.raises(SchedulerError, match=r"tcp://127\.0\.0\.1:9: no Dask scheduler answers"):
        connect("tcp://127.0.0.1:9")
    with pytest.raises(SchedulerError, match="no Dask scheduler answers"):
        connect("nonsense://x")
    assert time.monotonic() - started < 12


def test_a_scheduler_without_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("coretree.run.on_dask.WORKERS_S", 0.3)
    with (
        LocalCluster(n_workers=0, processes=False, dashboard_address="127.0.0.1:0") as cluster,
        Client(cluster, set_as_default=False) as client,
        pytest.raises(NoWorkersError, match=r"the scheduler has no worker\. Start one with: dask worker"),
    ):
        DaskExecutor(client).run([Job("a", Leaf("a", (), 1, 1, ""))], lambda job, frame: 1, None)


def test_all_workers_leave_in_the_middle() -> None:
    with (
        LocalCluster(n_workers=1, threads_per_worker=1, processes=False, dashboard_address="127.0.0.1:0") as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        jobs = [Job(f"g{i}", Leaf("a", (), 1, 1, "")) for i in range(30)]
        executor = DaskExecutor(client, stall_s=0.3)
        with pytest.raises(NoWorkersError, match="every worker is gone"):
            executor.run(jobs, slow, None, lambda job, done, total: cluster.scale(0))


def slow(job: Job, frame: object) -> int:
    time.sleep(0.05)
    return 1


class OnAnotherDisk(LocalStore):
    """A folder that no worker sees."""

    def reach(self) -> None:
        LocalStore(self.folder / "elsewhere").reach()


def test_workers_must_share_the_folder_and_the_version(client: Client, tmp_path: Any) -> None:
    check_shared(client, LocalStore(tmp_path / "new"), "0.1.0")
    assert (tmp_path / "new").is_dir()
    with pytest.raises(
        ClusterError, match=r"does not see .*no such folder\)\. Put the tree on storage that all workers"
    ):
        check_shared(client, OnAnotherDisk(tmp_path), "0.1.0")
    with pytest.raises(ClusterError, match=r"has coretree 0\.1\.0, this process 9\.9"):
        check_shared(client, LocalStore(tmp_path), "9.9")


def test_the_users_own_choice_of_shuffle_is_kept() -> None:
    frame = dd.from_pandas(sales(200), npartitions=3).shuffle("group")
    names = {str(key) for key in partitions(frame)[0].dask}
    assert any("taskshuffle" in name for name in names)
    with dask.config.set({"dataframe.shuffle.method": "disk"}):
        assert not any("taskshuffle" in str(key) for key in partitions(frame)[0].dask)
