"""The executor on a Dask cluster: bounded submission, merges as early as possible, every fault a named error."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import dask
import pandas as pd
from dask.delayed import Delayed
from distributed import Client, as_completed, default_client, get_client
from distributed.client import FutureCancelledError
from distributed.scheduler import KilledWorker

from coretree.data.dataset import DaskSource, Dataset, FrameSource
from coretree.errors import (
    ClusterError,
    MemoryPlanError,
    NoWorkersError,
    PartitionError,
    SchedulerError,
    StalledError,
)
from coretree.run.blas import one_blas_thread
from coretree.run.executor import OnDone, Work, result_of
from coretree.run.frontier import Frontier, Job

R = TypeVar("R")
WINDOW = 2.0  # jobs in flight per worker thread
STALL_S = 120.0
CONNECT_S = 10.0
LOOK_S = 2.0


@dataclass(frozen=True)
class _OnWorker:
    """A job as a task: one BLAS thread, whatever the worker's own settings are."""

    work: Work[Any]

    def __call__(self, job: Job, frame: pd.DataFrame | None) -> Any:
        with one_blas_thread():
            return self.work(job, frame)


class DaskExecutor:
    """Any Dask cluster, through its client. Settings of the cluster are never changed, and it is never closed here.

    Parameters
    ----------
    client : distributed.Client
    stall_s : float
        Seconds without a result after which the cluster is looked at: no worker, all paused, or nothing running
        become errors; a long task does not.
    """

    def __init__(self, client: Client, *, stall_s: float = STALL_S) -> None:
        self.client, self.stall_s = client, stall_s

    def __repr__(self) -> str:
        return f"{self.n_slots} worker threads at {self.client.scheduler.address}"

    @property
    def n_slots(self) -> int:
        """Worker threads now."""
        return sum(self.client.nthreads().values())

    def run(
        self, jobs: Sequence[Job], work: Work[R], data: Dataset | None, on_done: OnDone | None = None
    ) -> dict[str, R]:
        """See ``Executor.run``."""
        frontier, results = Frontier(jobs), {}
        if frontier.done:
            return results
        self._need_workers()
        submit = _submitter(self.client, work, data)
        completed = as_completed(loop=self.client.loop)
        live: dict[Any, str] = {}
        last, looked, cap = time.monotonic(), -1e9, 2
        try:
            while not frontier.done:
                if time.monotonic() - looked > LOOK_S:  # follows adaptive clusters without a round trip per result
                    looked, cap = time.monotonic(), max(2, int(WINDOW * self.n_slots))
                for job in frontier.take(cap):
                    future = submit(job)
                    live[future] = job.name
                    completed.add(future)
                batch = completed.next_batch(block=False)
                if not batch:
                    if time.monotonic() - last > self.stall_s:
                        check_stall(self.client, len(live))
                        last = time.monotonic()
                    time.sleep(0.01)
                    continue
                last = time.monotonic()
                for future in batch:
                    job = frontier.finish(live.pop(future))
                    results[job.name] = self._result(future, job)
                    future.release()
                    if on_done is not None:
                        on_done(job, len(results), frontier.total)
        finally:
            if live:  # an erred or abandoned key stays on the scheduler until it is cancelled
                self.client.cancel(list(live), force=True)
        return results

    def one(self, function: Callable[..., R], *args: Any) -> R:
        """Call it on the worker with the most memory."""
        self._need_workers()
        workers = self.client.scheduler_info(n_workers=-1)["workers"]
        largest = max(sorted(workers), key=lambda w: workers[w].get("memory_limit") or 0)
        future = self.client.submit(function, *args, workers=[largest], allow_other_workers=False, pure=False)
        return self._result(future, Job(getattr(function, "__name__", "fit")))

    def _result(self, future: Any, job: Job) -> Any:
        try:
            return result_of(future.result, job)
        except PartitionError as error:
            cause = error.__cause__
            if isinstance(cause, KilledWorker):
                raise PartitionError(_killed(job, cause)) from None
            if isinstance(cause, FutureCancelledError | TimeoutError):
                raise SchedulerError(
                    "the connection to the Dask scheduler was lost. What was finished is in the store: "
                    "start the scheduler again and run the same command to resume."
                ) from None
            raise

    def _need_workers(self) -> None:
        if not self.client.scheduler_info(n_workers=-1)["workers"]:
            try:
                self.client.wait_for_workers(1, timeout=CONNECT_S)
            except TimeoutError:
                address = self.client.scheduler.address
                raise NoWorkersError(
                    f"{address}: the scheduler has no worker. Start one with: dask worker {address}"
                ) from None


def check_stall(client: Client, n_live: int) -> None:
    """Raise if nothing can make progress: no workers, all paused, or nothing running. A long task is no stall."""
    workers = client.scheduler_info(n_workers=-1)["workers"]
    if not workers:
        raise NoWorkersError(
            f"{n_live} jobs wait, but every worker is gone. Start workers, then run the same command to resume."
        )
    if all(w["status"] == "paused" for w in workers.values()):
        raise MemoryPlanError(
            f"all {len(workers)} workers are paused, for lack of memory or of spill space. "
            "Use smaller leaves (leaf_bytes), fewer threads a worker, or more memory; then run the same command to resume."
        )
    if not any(client.processing().values()):
        raise StalledError(
            f"{n_live} jobs wait and no worker runs any of them. Check `resources` and the scheduler's log, then run the same command."
        )


def connect(address: str) -> DaskExecutor:
    """Executor at a scheduler's address.

    Raises
    ------
    SchedulerError
        Nobody answers there.
    """
    try:
        return DaskExecutor(Client(address, timeout=CONNECT_S, set_as_default=False))
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise SchedulerError(
            f"{address}: no Dask scheduler answers ({reason}). Start one with: dask scheduler --host 127.0.0.1 --port 8786; "
            "or leave --scheduler out to run here."
        ) from None


def running() -> DaskExecutor | None:
    """Executor on the client that is already there, None where there is none."""
    for find in (get_client, default_client):
        try:
            return DaskExecutor(find())
        except ValueError:
            continue
    return None


def check_shared(client: Client, folder: str, version: str) -> None:
    """Make sure that every worker has this version of coretree and sees the folder of the store.

    Raises
    ------
    ClusterError
        A worker lacks one of them; it is named.
    """
    for worker, (found, sees) in client.run(_probe, folder).items():
        if found != version:
            raise ClusterError(
                f"worker {worker} has coretree {found or 'not installed'}, this process {version}. Install the same version everywhere."
            )
        if not sees:
            raise ClusterError(
                f"worker {worker} does not see {folder}. Put the tree on storage that all workers share."
            )


def _probe(folder: str) -> tuple[str | None, bool]:
    import os

    try:
        from coretree import __version__
    except ImportError:
        return None, False
    return __version__, os.path.isdir(folder)


def _submitter(client: Client, work: Work[Any], data: Dataset | None) -> Callable[[Job], Any]:
    """How a job becomes a future."""
    task = _OnWorker(work)
    parts: dict[str, Delayed] = {}
    if data is not None and isinstance(data.source, DaskSource):
        parts = {leaf.path: part for leaf, part in zip(data.scan.leaves, partitions(data.source.frame), strict=True)}

    def submit(job: Job) -> Any:
        key = f"coretree-{'merge' if job.leaf is None else 'leaf'}-{job.name}"
        if job.leaf is not None and parts:
            return client.compute(dask.delayed(task, pure=False)(job, parts[job.leaf.path], dask_key_name=key))
        frame = (
            data.frame_part(job.leaf)
            if data is not None and job.leaf is not None and isinstance(data.source, FrameSource)
            else None
        )
        return client.submit(task, job, frame, key=key, pure=False, priority=10 if job.leaf is None else 0)

    return submit


def partitions(frame: Any) -> list[Delayed]:
    """Partitions of a Dask DataFrame, fused and each cut down to its own part of the graph."""
    return [_cut(part) for part in frame.to_delayed()]


def _cut(part: Delayed) -> Delayed:
    graph = part.dask.cull({part.key})
    layer = next(name for name, layer in graph.layers.items() if part.key in layer)
    return Delayed(part.key, graph, layer=layer)


class PartitionsHere:
    """Computes a leaf's partition in this process, on the calling thread."""

    def __init__(self, frame: Any) -> None:
        self._parts = partitions(frame)

    def __call__(self, job: Job) -> pd.DataFrame | None:
        """The partition of a leaf; None for a merge."""
        if job.leaf is None:
            return None
        index = int(job.leaf.path.rpartition("-")[2])
        (frame,) = dask.compute(self._parts[index], scheduler="sync")
        return frame


def _killed(job: Job, error: KilledWorker) -> str:
    what = (
        "a merge"
        if job.leaf is None
        else f"{job.leaf.path}, row groups {list(job.leaf.row_groups)}, {job.leaf.n_bytes / 2**20:.0f} MiB decoded"
    )
    return (
        f"{what}: {error.allowed_failures + 1} workers died while they ran it, the last at {error.last_worker.address}; most often for lack of memory. "
        "Use smaller leaves (leaf_bytes), fewer threads a worker, or more memory; then run the same command to resume."
    )


def lazy(model: Any, frame: Any, method: str) -> Any:
    """Lazy answers of a fitted model for a Dask DataFrame, as a Dask array, by dask-ml's ``ParallelPostFit``."""
    from dask_ml.wrappers import ParallelPostFit

    from coretree.run.lazily import EmptyPartitions

    schema = model.schema_
    rows = frame[[f.name for f in schema.features]]
    wrapped = ParallelPostFit(estimator=EmptyPartitions(model))
    return getattr(wrapped, method)(rows)
