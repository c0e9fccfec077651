"""The contract on threads, and the choice of an executor."""

from __future__ import annotations

import threading

import pandas as pd
import pytest

from contracts import ExecutorContract
from coretree.data.dataset import Dataset
from coretree.data.scan import Leaf
from coretree.errors import ConfigError, DataError, PartitionError
from coretree.run.executor import Executor, ThreadExecutor, available_cores, executor_for
from coretree.run.frontier import Job


class TestOneThread(ExecutorContract):
    @pytest.fixture
    def executor(self) -> Executor:
        return ThreadExecutor(1)


class TestTwoThreads(ExecutorContract):
    @pytest.fixture
    def executor(self) -> Executor:
        return ThreadExecutor(2)


def test_threads_end_with_the_run() -> None:
    before = threading.active_count()
    jobs = [Job(f"x{i}", Leaf("a", (), 1, 1, "")) for i in range(5)]
    ThreadExecutor(2).run(jobs, lambda job, frame: 1, None)
    assert threading.active_count() == before


def test_an_error_of_ours_keeps_its_class() -> None:
    def work(job: Job, frame: object) -> None:
        raise DataError("column 'x' is wrong")

    with pytest.raises(DataError, match="column 'x' is wrong"):
        ThreadExecutor(2).run([Job("a", Leaf("a", (), 1, 1, ""))], work, None)


def test_a_partition_without_row_groups_is_named_by_its_path() -> None:
    def work(job: Job, frame: object) -> None:
        raise KeyError("x")

    with pytest.raises(PartitionError, match=r"^partition-000001: KeyError"):
        ThreadExecutor(1).run([Job("a", Leaf("partition-000001", (), 1, 1, ""))], work, None)


def test_frames_in_memory_reach_their_jobs() -> None:
    data = Dataset.from_pandas(pd.DataFrame({"x": range(100), "y": [0, 1] * 50}), target="y", leaf_bytes=16 * 30)
    jobs = [Job(f"f{i}", leaf) for i, leaf in enumerate(data.scan.leaves)]
    found = ThreadExecutor(2).run(jobs, lambda job, frame: frame["x"].tolist(), data)
    assert len(jobs) == 4
    assert [x for job in jobs for x in found[job.name]] == list(range(100))


def test_the_executor_is_what_was_given() -> None:
    mine = ThreadExecutor(1)
    assert executor_for(mine) is mine
    found = executor_for(n_threads=3)
    assert isinstance(found, ThreadExecutor)
    assert found.n_slots == 3
    assert repr(found) == "3 threads in this process"
    assert ThreadExecutor().n_slots == available_cores()


def test_what_is_no_executor_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"neither a distributed\.Client"):
        executor_for(3)
    with pytest.raises(ConfigError, match="at least 1"):
        ThreadExecutor(0)
