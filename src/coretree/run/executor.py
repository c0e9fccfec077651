"""The contract of an executor, and the one that needs nothing: threads in this process."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from functools import partial
from typing import Any, Protocol, TypeVar, cast

from coretree.data.dataset import DaskSource, Dataset, FrameSource
from coretree.errors import ConfigError, CoretreeError, PartitionError
from coretree.learn.threads import one_blas_thread
from coretree.run.faults import place
from coretree.run.frontier import Batch, Frontier, Job, batched
from coretree.tree.local_store import together

R = TypeVar("R")
Work = Callable[[Job, Any], R]
OnDone = Callable[[Job, int, int], None]
OnResult = Callable[[Job, Any], None]


class Executor(Protocol):
    """Something that carries jobs out.

    Implementations agree on the results bit for bit; they differ in where the work is done. ``work(job, frame)`` must
    be picklable; ``frame`` is the pandas partition of a leaf that is not a file, else None.
    """

    @property
    def n_slots(self) -> int:
        """Jobs that can run at the same time."""

    def run(
        self,
        jobs: Sequence[Job],
        work: Work[R],
        data: Dataset | None,
        on_done: OnDone | None = None,
        on_result: OnResult | None = None,
    ) -> dict[str, R]:
        """Carry all jobs out, children before parents; results by job name, and to ``on_result`` as they come.

        Raises
        ------
        CoretreeError
            The first failure, after the jobs in flight were stopped or awaited.
        """

    def one(self, function: Callable[..., R], *args: Any) -> R:
        """Call a function on one worker with room for it, and return its result."""

    def share(self, work: Work[R]) -> Work[R]:
        """Bring large work to every worker once; what comes back is given to several calls of ``run``."""


class ThreadExecutor:
    """Threads in this process.

    Parameters
    ----------
    n_threads : int, optional
        Default: the cores this process may use.
    """

    def __init__(self, n_threads: int | None = None) -> None:
        if n_threads is not None and n_threads < 1:
            raise ConfigError(f"n_threads={n_threads} must be at least 1.")
        self.n_threads = n_threads if n_threads is not None else available_cores()

    def __repr__(self) -> str:
        return f"{self.n_threads} thread{'s' if self.n_threads > 1 else ''} in this process"

    @property
    def n_slots(self) -> int:
        """Threads."""
        return self.n_threads

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
        load = _loader(data)

        def call(batch: Batch) -> list[R]:
            return each_of(batch, lambda job: work(job, None if job.leaf is None else load(job)))

        def done(job: Job, result: R) -> None:
            results[job.name] = result
            if on_result is not None:
                on_result(job, result)
            if on_done is not None:
                on_done(job, len(results), len(jobs))

        with one_blas_thread(), ThreadPoolExecutor(self.n_threads, thread_name_prefix="coretree") as pool:
            try:
                rest = jobs
                if getattr(load, "shared", False):  # partitions that need one another are computed in one go
                    load.run([job for job in jobs if job.leaf is not None], work, pool, done)
                    rest = [job for job in jobs if job.leaf is None]
                self._run(rest, call, pool, done)
            finally:
                pool.shutdown(wait=True, cancel_futures=True)
        return results

    def _run(
        self,
        jobs: Sequence[Job],
        call: Callable[[Batch], list[R]],
        pool: ThreadPoolExecutor,
        done: Callable[[Job, R], None],
    ) -> None:
        frontier = Frontier(batched(jobs, self.n_threads))
        live: dict[Future[list[R]], Batch] = {}

        def end(batch: Batch, results: list[R]) -> None:
            frontier.finish(batch)
            for job, result in zip(batch, results, strict=True):
                done(job, result)

        while not frontier.done:
            ready = frontier.take(2 * self.n_threads)
            if not live and len(ready) == 1:  # nothing else to wait for: a thread would only start cold
                end(ready[0], call(ready[0]))
                continue
            live |= {pool.submit(call, batch): batch for batch in ready}
            for future in wait(live, return_when=FIRST_COMPLETED).done:
                end(live.pop(future), future.result())

    def one(self, function: Callable[..., R], *args: Any) -> R:
        """Call it here."""
        return function(*args)

    def share(self, work: Work[R]) -> Work[R]:
        """Return it: it is here."""
        return work


def each_of(batch: Batch, call: Callable[[Job], R]) -> list[R]:
    """Results of jobs, carried out one after the other, what they store in one go; an error names its job."""
    with together():
        return [result_of(partial(call, job), job) for job in batch]


def result_of(get: Callable[[], R], job: Job) -> R:
    """Result of a job; an error that is not ours is named after the leaf it happened in."""
    try:
        return get()
    except (CoretreeError, KeyboardInterrupt, MemoryError):
        raise
    except Exception as error:
        raise failed(job, error) from error


def failed(job: Job, error: BaseException) -> PartitionError:
    """Error for a job that raised something unexpected."""
    return PartitionError(f"{place(job)}: {type(error).__name__}: {error}. Run again with --debug for the traceback.")


def available_cores() -> int:
    """Cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return max(1, len(os.sched_getaffinity(0)))
    return max(1, os.cpu_count() or 1)


def _loader(data: Dataset | None) -> Any:
    """How the frame of a leaf is had in this process."""
    if data is not None and isinstance(data.source, FrameSource):
        return lambda job: data.frame_part(job.leaf) if job.leaf is not None else None
    if data is not None and isinstance(data.source, DaskSource):
        from coretree.run.partitions import PartitionsHere

        return PartitionsHere(data.source.frame)
    return lambda _: None


def executor_for(client: Any = None, *, n_threads: int | None = None, data: Dataset | None = None) -> Executor:
    """Choose the executor: the given client, else a running Dask client, else threads here.

    Parameters
    ----------
    client : distributed.Client, Executor, str or None
        A client, an address such as "tcp://host:8786", or an executor to use as it is.
    n_threads : int, optional
        For threads here; naming it means that no running client is looked for.
    data : Dataset, optional
        What will be worked on: rows that are in this process's memory stay here unless a client is given.
    """
    here = n_threads is not None or (data is not None and isinstance(data.source, FrameSource))
    if isinstance(client, str):
        from coretree.run.cluster import connect

        return connect(client)
    if client is None:
        if not here and "distributed" in sys.modules:
            from coretree.run.cluster import running

            found = running()
            if found is not None:
                return found
        return ThreadExecutor(n_threads)
    if hasattr(client, "scheduler_info"):
        from coretree.run.on_dask import DaskExecutor

        return DaskExecutor(client)
    if hasattr(client, "run") and hasattr(client, "n_slots"):
        return cast(Executor, client)
    raise ConfigError(f"client={client!r} is neither a distributed.Client, nor an address, nor an executor.")
