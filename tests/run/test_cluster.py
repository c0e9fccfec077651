"""Real processes: equal bits, killed workers, tasks that kill, lost schedulers."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import dask
import pytest
from distributed import Client, LocalCluster
from sklearn.linear_model import LogisticRegression

from contracts import ExecutorContract, wide_tree
from coretree import (
    CoresetClassifier,
    CoresetSearchCV,
    CoresetTree,
    Dataset,
    ThreadExecutor,
    evaluate,
    local_cluster,
    open_store,
    predict,
)
from coretree.data.scan import Leaf
from coretree.errors import ClusterError, MemoryPlanError, PartitionError, SchedulerError, StoreError
from coretree.run.cluster import connect
from coretree.run.executor import Executor, executor_for
from coretree.run.frontier import Job
from coretree.run.on_dask import DaskExecutor
from generated import opened, sales, same, write_files
from s3_server import s3_server


@pytest.fixture(scope="module")
def processes() -> Iterator[DaskExecutor]:
    with local_cluster(2) as executor:
        yield executor


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_files(tmp_path_factory.mktemp("data"), sales(6000), files=3)


class TestProcesses(ExecutorContract):
    @pytest.fixture
    def executor(self, processes: DaskExecutor) -> Executor:
        return processes


@pytest.mark.parametrize("target", ["sold", "price"])
def test_threads_and_processes_give_the_same_bits(
    folder: Path, tmp_path: Path, processes: DaskExecutor, target: str
) -> None:
    train, _ = opened(folder, target).split(test=0.2)
    trees = [
        CoresetTree(tmp_path / str(i), size=600, fan_in=3).build(train, client=executor)
        for i, executor in enumerate((ThreadExecutor(1), ThreadExecutor(2), processes))
    ]
    assert len({tree.name_ for tree in trees}) == 1
    assert len({tree.store.get("manifest.json") for tree in trees}) == 1
    for objective in trees[0].root_.sketches:
        first = trees[0].coreset(500, objective=objective)
        assert all(same(first, tree.coreset(500, objective=objective)) for tree in trees[1:])


def test_a_killed_worker_changes_nothing(folder: Path, tmp_path: Path, processes: DaskExecutor) -> None:
    train, _ = opened(folder).split(test=0.2)
    expected = CoresetTree(tmp_path / "calm", size=600).build(train, client=ThreadExecutor(2)).name_
    victims = processes.client.run(os.getpid)
    killed: list[int] = []

    def kill(stage: str, done: int, total: int) -> None:
        if done == 2 and not killed:
            killed.append(min(victims.values()))
            os.kill(killed[0], signal.SIGKILL)

    tree = CoresetTree(tmp_path / "wild", size=600).build(train, client=processes, progress=kill)
    assert killed
    assert tree.name_ == expected
    processes.client.wait_for_workers(2, timeout=30)


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_files(tmp_path_factory.mktemp("many"), sales(1500), files=24)


def test_tiny_leaves_make_the_same_bits_together_and_apart(
    many: Path, tmp_path: Path, processes: DaskExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    train, _ = opened(many).split(test=0.2)
    executors = [ThreadExecutor(1), ThreadExecutor(2), processes]
    trees = [
        CoresetTree(tmp_path / str(i), size=600, cells=30, exact=True).build(train, client=executor)
        for i, executor in enumerate(executors)
    ]
    monkeypatch.setattr("coretree.run.frontier.MOST_LEAVES", 1)
    trees += [CoresetTree(tmp_path / "apart", size=600, cells=30, exact=True).build(train, client=ThreadExecutor(1))]
    assert len(trees[0].manifest_.leaves) == 24
    assert len({tree.store.get("manifest.json") for tree in trees}) == 1
    assert all(tree.verify() for tree in trees)


def test_a_worker_killed_inside_a_batch_changes_nothing(tmp_path: Path, processes: DaskExecutor) -> None:
    marker = tmp_path / "marker"
    seen: list[str] = []
    jobs = wide_tree("k", 70)
    found = processes.run(jobs, partial(_dies_once, str(marker)), None, lambda job, *_: seen.append(job.name))
    assert marker.exists()
    assert found == {job.name: job.name for job in jobs}
    assert sorted(seen) == sorted(found)
    processes.client.wait_for_workers(2, timeout=30)


def _dies_once(marker: str, job: Job, frame: object) -> str:
    if job.name == "k12":
        die_once(marker)
    return job.name


def test_shared_work_outlives_the_worker_that_holds_it(processes: DaskExecutor) -> None:
    shared = processes.share(partial(_length, bytes(1000)))
    assert processes.run([Job("first")], shared, None) == {"first": 1000}
    pids = processes.client.run(os.getpid)
    for address in {a for held in processes.client.who_has([shared]).values() for a in held}:
        os.kill(pids[address], signal.SIGKILL)
    assert processes.run([Job("second")], shared, None) == {"second": 1000}
    processes.client.wait_for_workers(2, timeout=30)


def _length(held: bytes, job: Job, frame: Any) -> int:
    return len(held)


def test_worker_processes_build_into_a_bucket(folder: Path, tmp_path: Path, processes: DaskExecutor) -> None:
    train, _ = opened(folder).split(test=0.2)
    expected = CoresetTree(tmp_path / "tree", size=600).build(train, client=ThreadExecutor(2)).name_
    seen: list[str] = []
    with s3_server() as server:
        store = open_store(server.bucket(), **server.options)  # the options travel with it
        assert CoresetTree(store, size=600).build(train, client=processes).name_ == expected
        assert server.seen(str(store), probes=True) == {"PUT": 4, "HEAD": 1}  # the driver's; no worker asks again
        deaf = open_store(server.bucket("deaf"), **server.options)
        with pytest.raises(StoreError, match="ignores conditional writes"):
            CoresetTree(deaf, size=600).build(train, client=processes, progress=lambda stage, *_: seen.append(stage))
        assert not seen  # before any work


def test_workers_that_do_not_reach_the_bucket_are_named(
    folder: Path, processes: DaskExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    with s3_server() as server:
        for name, value in server.environment.items():  # of this process, not of the workers
            monkeypatch.setenv(name, value)
        store = open_store(server.bucket(), patience_s=0.5, request_s=2)
        with pytest.raises(ClusterError, match=r"worker tcp://.* does not see s3://.*AWS_ACCESS_KEY_ID"):
            CoresetTree(store, size=600).build(opened(folder), client=processes)


def test_fit_evaluate_and_predict_on_processes_equal_those_here(
    folder: Path, tmp_path: Path, processes: DaskExecutor
) -> None:
    train, test = opened(folder).split(test=0.3)
    tree = CoresetTree(size=600).build(train, client=ThreadExecutor(2))
    model = CoresetClassifier(tree=tree, client=processes).fit()
    here = CoresetClassifier(tree=tree).fit()
    assert (model.estimator_[-1].coef_ == here.estimator_[-1].coef_).all()
    assert evaluate(model, test, client=processes).metrics == evaluate(model, test).metrics
    n = predict(model, test, out=tmp_path / "out", client=processes)
    assert n == evaluate(model, test).n_rows


def test_a_search_on_processes_finds_what_one_here_does_though_workers_die(folder: Path) -> None:
    # a cluster of its own: Dask gives a worker up that is away again 15 s after an earlier death
    with local_cluster(2) as processes:
        search_while_workers_die(opened(folder), processes)


def search_while_workers_die(train: Dataset, processes: DaskExecutor) -> None:
    tree = CoresetTree(size=600).build(train, client=ThreadExecutor(2))
    pids, found, results = list(processes.client.run(os.getpid).values()), [], []

    def kill_one(stage: str, done: int, total: int) -> None:
        if done == 1 and pids:
            os.kill(pids.pop(), signal.SIGKILL)

    for executor, progress in ((ThreadExecutor(2), None), (processes, kill_one)):
        grid = {"C": [1e-4, 1e-2, 1.0], "fit_intercept": [True, False]}
        search = CoresetSearchCV(
            LogisticRegression(max_iter=500), grid, tree=tree, cv=3, validate="full", client=executor
        )
        found.append(search.fit(train, progress=progress))
        results.append({k: repr(list(v)) for k, v in search.cv_results_.items() if "_time" not in k})
    assert not pids  # one died among the trials, one in the pass over all rows
    assert results[0] == results[1]
    assert (found[0].best_estimator_.estimator_[-1].coef_ == found[1].best_estimator_.estimator_[-1].coef_).all()


def test_an_address_is_connected_to_once(processes: DaskExecutor) -> None:
    address = processes.client.scheduler.address
    first = executor_for(address)
    assert executor_for(address) is first
    assert isinstance(first, DaskExecutor)
    first.client.close()
    again = connect(address)
    assert again is not first
    assert again.one(divmod, 7, 2) == (3, 1)
    again.client.close()


def test_a_plan_that_does_not_fit_is_refused_before_any_work(
    folder: Path, tmp_path: Path, processes: DaskExecutor
) -> None:
    train, _ = opened(folder).split()
    asked: list[str] = []
    with pytest.raises(MemoryPlanError, match=r"needs about .* MiB for a merge\)"):
        CoresetTree(tmp_path / "big", size=200_000_000).build(
            train, client=processes, progress=lambda stage, done, total: asked.append(stage)
        )
    assert not asked
    assert not (tmp_path / "big").exists()


def die(job: Job, frame: object) -> int:
    if job.name == "deadly":
        os.kill(os.getpid(), signal.SIGKILL)
    return 1


def die_once(marker: str) -> str:
    try:
        Path(marker).touch(exist_ok=False)
    except FileExistsError:
        return "done"
    os.kill(os.getpid(), signal.SIGKILL)
    return ""


@pytest.mark.slow
def test_tasks_that_kill_their_workers(tmp_path: Path) -> None:
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 1}),
        local_cluster(2) as executor,
    ):
        leaf = Leaf("2013/02.parquet", (3, 4), 10, 5 << 20, "")
        with pytest.raises(
            PartitionError, match=r"2013/02\.parquet, row groups \[3, 4\], 5 MiB decoded: 2 workers died"
        ):
            executor.run([Job("deadly", leaf)], die, None)
        # among many in one task, too
        jobs = [replace(job, name="deadly") if job.name == "k12" else job for job in wide_tree("k", 40)]
        with pytest.raises(PartitionError, match=r"^f12\.parquet, row groups \[0\], 0 MiB decoded: 2 workers died"):
            executor.run(jobs, die, None)
        # a fit that is tied to the largest worker moves on when that dies
        assert executor.one(die_once, str(tmp_path / "marker")) == "done"


@pytest.mark.slow
def test_a_fit_that_always_kills_ends(tmp_path: Path) -> None:
    with local_cluster(1) as executor, pytest.raises(PartitionError, match="kill_me: 3 workers died"):
        executor.one(kill_me)


def kill_me() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def slow(job: Job, frame: object) -> int:
    time.sleep(0.2)
    return 1


def test_a_lost_scheduler_ends_the_run() -> None:
    cluster = LocalCluster(n_workers=1, processes=False, dashboard_address="127.0.0.1:0")
    client = Client(cluster, set_as_default=False)
    jobs = [Job(f"s{i}", Leaf("a", (), 1, 1, "")) for i in range(50)]

    def lose(*_: Any) -> None:
        cluster.close()

    started = time.monotonic()
    try:
        with pytest.raises(SchedulerError, match="run the same command to resume"):
            DaskExecutor(client, stall_s=2).run(jobs, slow, None, lose)
        assert time.monotonic() - started < 30
    finally:
        client.close()
        cluster.close()
