"""The executor on a Dask cluster: bounded submission, merges as early as possible, every fault a named error."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, TypeVar, cast

import dask
import pandas as pd
from dask.delayed import Delayed
from distributed import Client, Future, as_completed
from distributed.client import FutureCancelledError
from distributed.comm import CommClosedError
from distributed.protocol import serialize_bytes
from distributed.scheduler import KilledWorker

from coretree.data.dataset import DaskSource, Dataset, FrameSource
from coretree.errors import CoretreeError, PartitionError
from coretree.learn.threads import one_blas_thread
from coretree.run.executor import OnDone, OnResult, Work, each_of, result_of
from coretree.run.faults import check_stall, killed, lost
from coretree.run.frontier import Batch, Frontier, Job, batched
from coretree.run.partitions import overlapping, partitions
from coretree.run.workers import abandon, ended, need_worker

R = TypeVar("R")
WINDOW = 2.0  # batches in flight per worker thread
STALL_S = 120.0
WORKERS_S = 10.0  # to wait for a first worker
LOOK_S = 2.0
ATTEMPTS = 3
SCATTER_BYTES = 1 << 20  # work larger than this (a forest to evaluate) goes to the workers once, not with every job


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
        self,
        jobs: Sequence[Job],
        work: Work[R],
        data: Dataset | None,
        on_done: OnDone | None = None,
        on_result: OnResult | None = None,
    ) -> dict[str, R]:
        """See ``Executor.run``."""
        results: dict[str, R] = {}
        if not jobs:
            return results
        self._need_workers()
        frontier = Frontier(batched(jobs, max(1, self.n_slots)))
        submit = _Submitter(self.client, work, data, jobs)
        try:
            for batch, found in self._finished(frontier, submit):
                for job, result in zip(batch, found, strict=True):
                    results[job.name] = result
                    if on_result is not None:
                        on_result(job, result)
                    if on_done is not None:
                        on_done(job, len(results), frontier.total)
        except Exception as error:
            if isinstance(error, CoretreeError) or self.client.status == "running":
                raise
            raise lost() from None  # whatever a client without its scheduler raises
        finally:
            abandon(self.client, submit.live)
        return results

    def _finished(self, frontier: Frontier, submit: _Submitter) -> Iterable[tuple[Batch, list[Any]]]:
        """Start batches as the window allows, and yield each with its results as it ends."""
        completed = as_completed(loop=self.client.loop)
        last, looked, cap = time.monotonic(), -1e9, 2
        while not frontier.done:
            if time.monotonic() - looked > LOOK_S:  # follows adaptive clusters without a round trip per result
                looked, cap = time.monotonic(), max(2, int(WINDOW * self.n_slots))
            for batch in frontier.take(cap):
                completed.add(submit(batch))
            batches = completed.next_batch(block=False)
            if batches:
                last = time.monotonic()
            elif time.monotonic() - last > self.stall_s:
                check_stall(self.client, sum(map(len, frontier.live.values())))
                last = time.monotonic()
            else:
                time.sleep(0.01)
            for future in batches:
                batch = submit.live[future]
                found = self._results(future, batch)
                del submit.live[future]
                future.release()
                if found is None:  # one of them kills its workers: alone, it can be named
                    frontier.split(batch)
                else:
                    frontier.finish(batch)
                    yield batch, found

    def one(self, function: Callable[..., R], *args: Any) -> R:
        """Call it on the worker with the most memory, or on another one should that die."""
        job, worker = Job(getattr(function, "__name__", "task")), ""
        for _ in range(ATTEMPTS):
            self._need_workers(STALL_S if worker else None)  # a nanny takes a while to replace a dead one
            workers = self._workers()
            worker = max(sorted(workers), key=lambda w: workers[w].get("memory_limit") or 0)
            future = None
            try:
                (sent,) = self.client.scatter([args], workers=[worker], hash=False)
                future = self.client.submit(
                    _apply, function, sent, workers=[worker], allow_other_workers=False, pure=False
                )
                # a task that is tied to a worker waits for ever when that dies
                while not ended(future, LOOK_S) and worker in self._workers():
                    pass
                if future.status in ("finished", "error"):
                    return future.result()
            except KilledWorker:
                continue
            except (FutureCancelledError, CommClosedError):
                if self.client.status != "running":
                    raise lost() from None
            finally:
                if future is not None:
                    abandon(self.client, [future])
        raise killed(job, ATTEMPTS, worker)

    def share(self, work: Work[R]) -> Work[R]:
        """Send it once; what stands for it in tasks."""
        return cast(Work[R], _sent(self.client, work))

    def _results(self, future: Any, batch: Batch) -> list[Any] | None:
        """Results of a batch; None where several jobs took their workers down, and nobody knows which one did."""
        try:
            found: list[Any] = result_of(future.result, batch[0])
            return found
        except PartitionError as error:
            cause = error.__cause__
            if isinstance(cause, KilledWorker):
                if len(batch) > 1:
                    return None
                raise killed(batch[0], cause.allowed_failures + 1, cause.last_worker.address) from None
            if isinstance(cause, FutureCancelledError | CommClosedError) or self.client.status != "running":
                raise lost() from None
            raise

    def _workers(self) -> dict[str, Any]:
        return dict(self.client.scheduler_info(n_workers=-1)["workers"])

    def _need_workers(self, timeout_s: float | None = None) -> None:
        if not self._workers():
            need_worker(self.client, WORKERS_S if timeout_s is None else timeout_s)


class _Submitter:
    """How a batch becomes a future; ``live`` holds all that were not consumed yet."""

    def __init__(self, client: Client, work: Work[Any], data: Dataset | None, jobs: Sequence[Job]) -> None:
        self.client, self.data = client, data
        # no two runs share a key: the end of a cancelled one would be taken for the end of its successor
        self.run = uuid.uuid4().hex[:8]
        self.live: dict[Any, Batch] = {}
        self.work: Any = work
        if not isinstance(work, Future) and len(serialize_bytes(work)) > SCATTER_BYTES:
            self.work = _sent(client, work)
        self._parts: dict[str, Delayed] = {}
        self._started: dict[str, Any] = {}
        if data is not None and isinstance(data.source, DaskSource):
            parts = partitions(data.source.frame)
            self._parts = {leaf.path: part for leaf, part in zip(data.scan.leaves, parts, strict=True)}
            if overlapping(parts):  # a shuffle is computed once: every leaf at a time, Dask sees to the memory
                leaves = [job for job in jobs if job.leaf is not None]
                futures = client.compute([self._task(job) for job in leaves])
                self._started = {job.name: future for job, future in zip(leaves, futures, strict=True)}
                self.live = {future: (job,) for job, future in zip(leaves, futures, strict=True)}

    def __call__(self, batch: Batch) -> Any:
        """Start one batch."""
        job = batch[0]
        if job.name in self._started:
            return self._started.pop(job.name)
        if job.leaf is not None and self._parts:
            future = self.client.compute(self._task(job))
        else:
            frame = None
            if job.leaf is not None and self.data is not None and isinstance(self.data.source, FrameSource):
                frame = self.data.frame_part(job.leaf)
            # rows in memory travel inside the task: so they outlive any worker
            with dask.config.set({"distributed.admin.large-graph-warning-threshold": "1 TiB"}):
                options = {"key": self._key(batch), "pure": False, "priority": 10 if job.leaf is None else 0}
                future = self.client.submit(partial(on_worker, batch), self.work, frame, **options)
        self.live[future] = batch
        return future

    def _task(self, job: Job) -> Delayed:
        assert job.leaf is not None
        call = dask.delayed(partial(on_worker, (job,)), pure=False, traverse=False)
        return call(self.work, self._parts[job.leaf.path], dask_key_name=self._key((job,)))

    def _key(self, batch: Batch) -> str:
        kind = "merge" if batch[0].leaf is None else "leaf" if len(batch) == 1 else "leaves"
        return f"coretree-{kind}-{batch[0].name}-{self.run}"


def _sent(client: Client, work: Work[Any]) -> Future:
    """As a task, done again should the worker that holds the result die: what is scattered would be lost."""
    with dask.config.set({"distributed.admin.large-graph-warning-threshold": "1 TiB"}):
        return client.submit(lambda: work, pure=False)


def on_worker(batch: Batch, work: Work[R], frame: pd.DataFrame | None) -> list[R]:
    """A batch as a task: one BLAS thread, whatever the worker's own settings are; ``frame`` belongs to a single job."""
    with one_blas_thread():
        return each_of(batch, lambda job: work(job, frame))


def _apply(function: Callable[..., R], args: tuple[Any, ...]) -> R:
    return function(*args)


def lazy(model: Any, frame: Any, method: str) -> Any:
    """Lazy answers of a fitted model for a Dask DataFrame, as a Dask array, by dask-ml's ``ParallelPostFit``."""
    from dask_ml.wrappers import ParallelPostFit

    from coretree.run.lazily import EmptyPartitions, alone

    rows = frame[[f.name for f in model.schema_.features]]
    many = method == "decision_function" and len(getattr(model, "classes_", ())) > 2
    wide = many or method in ("predict_proba", "transform")
    wrapped = ParallelPostFit(estimator=EmptyPartitions(alone(model), method))
    return (wrapped.predict_proba if wide else wrapped.predict)(rows)
