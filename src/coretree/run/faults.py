"""What goes wrong on a cluster, as named errors: decided from what its scheduler says, without a word to it."""

from __future__ import annotations

from typing import Any

from coretree.errors import MemoryPlanError, NoWorkersError, PartitionError, SchedulerError, StalledError
from coretree.run.frontier import Job

RESUME = "then run the same command to resume."


def check_stall(client: Any, n_live: int) -> None:
    """Raise if nothing can make progress: no workers, all paused, or nothing running. A long task is no stall.

    Parameters
    ----------
    client : distributed.Client
        Or anything with its ``scheduler_info`` and ``processing``.
    n_live : int
        Jobs that wait, for the message.

    Raises
    ------
    NoWorkersError, MemoryPlanError, StalledError
        Every worker is gone; all are paused; none runs anything.
    """
    workers = client.scheduler_info(n_workers=-1)["workers"]
    if not workers:
        raise NoWorkersError(f"{n_live} jobs wait, but every worker is gone. Start workers, {RESUME}")
    if all(w["status"] == "paused" for w in workers.values()):
        raise MemoryPlanError(
            f"all {len(workers)} workers are paused, for lack of memory or of spill space. "
            f"Use smaller leaves (leaf_bytes), fewer threads a worker, or more memory; {RESUME}"
        )
    if not any(client.processing().values()):
        raise StalledError(
            f"{n_live} jobs wait and no worker runs any of them. Check `resources` and the scheduler's log, {RESUME}"
        )


def killed(job: Job, deaths: int, address: str) -> PartitionError:
    """Error for a job that took its workers down with it, most often for lack of memory.

    Examples
    --------
    >>> str(killed(Job("fit"), 2, "tcp://10.0.0.7:3456"))[:46]
    'fit: 2 workers died while they ran it, the las'
    """
    size = f", {job.leaf.n_bytes / 2**20:.0f} MiB decoded" if job.leaf is not None and job.leaf.n_bytes else ""
    return PartitionError(
        f"{place(job)}{size}: {deaths} workers died while they ran it, the last at {address}; most often for lack of "
        f"memory. Use smaller leaves (leaf_bytes), fewer threads a worker, or more memory; {RESUME}"
    )


def lost() -> SchedulerError:
    """Error for a scheduler that went away in the middle."""
    return SchedulerError(
        "the connection to the Dask scheduler was lost. What was finished is in the store: "
        "start the scheduler again and run the same command to resume."
    )


def place(job: Job) -> str:
    """Where a job works, in words.

    Examples
    --------
    >>> place(Job("ab", None, ("a", "b"))), place(Job("fit"))
    ('merge ab', 'fit')
    """
    if job.leaf is None:
        return f"merge {job.name}" if job.children else job.name
    return f"{job.leaf.path}, row groups {list(job.leaf.row_groups)}" if job.leaf.row_groups else job.leaf.path
