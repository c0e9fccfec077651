"""What is a stall and what is only a long task."""

from __future__ import annotations

from typing import Any

import pytest

from coretree.data.scan import Leaf
from coretree.errors import ClusterError, MemoryPlanError, NoWorkersError, StalledError
from coretree.run.faults import check_stall, killed, place
from coretree.run.frontier import Job


class Said:
    """A scheduler's answers; no cluster is needed, since the decision is pure."""

    def __init__(self, statuses: list[str], running: int) -> None:
        self.statuses, self.running = statuses, running

    def scheduler_info(self, n_workers: int) -> dict[str, Any]:
        assert n_workers == -1  # some versions list five workers by default
        return {"workers": {f"tcp://{i}": {"status": s} for i, s in enumerate(self.statuses)}}

    def processing(self) -> dict[str, tuple[str, ...]]:
        return {"tcp://0": ("a",) * self.running}


@pytest.mark.parametrize(
    ("statuses", "running", "error", "words"),
    [
        ([], 0, NoWorkersError, "3 jobs wait, but every worker is gone"),
        (["paused", "paused"], 1, MemoryPlanError, "all 2 workers are paused"),
        (["running", "paused"], 0, StalledError, "no worker runs any"),
    ],
)
def test_nothing_can_move(statuses: list[str], running: int, error: type[ClusterError], words: str) -> None:
    with pytest.raises(error, match=words):
        check_stall(Said(statuses, running), 3)


def test_a_long_task_is_no_stall() -> None:
    check_stall(Said(["running", "paused"], 1), 3)


def test_a_killer_is_named_with_its_size() -> None:
    job = Job("n", Leaf("a/b.parquet", (4, 5), 10, 64 << 20, ""))
    assert str(killed(job, 4, "tcp://w")).startswith(
        "a/b.parquet, row groups [4, 5], 64 MiB decoded: 4 workers died while they ran it, the last at tcp://w"
    )
    assert place(Job("partition", Leaf("partition-3", (), 0, 0, ""))) == "partition-3"
