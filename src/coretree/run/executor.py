"""The contract of an executor, and the one that needs nothing: threads in this process."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Any, Protocol, TypeVar

from coretree.data.dataset import DaskSource, Dataset, FrameSource
from coretree.errors import ConfigError, CoretreeError, PartitionError
from coretree.run.blas import one_blas_thread
from coretree.run.frontier import Frontier, Job

R = TypeVar("R")
Work = Callable[[Job, Any], R]
OnDone = Callable[[Job, int, int], None]


class Executor(Protocol):
    """Something that carries jobs out.

    Implementations agree on the results bit for bit; they differ in where the work is done. ``work(job, frame)`` must
    be picklable; ``frame`` is the pandas partition of a leaf that is not a file, else None.
    """

    @property
    def n_slots(self) -> int:
        """Jobs that can run at the same time."""

    def run(
        self, jobs: Sequence[Job], work: Work[R], data: Dataset | None, on_done: OnDone | None = None
    ) -> dict[str, R]:
        """Carry all jobs out, children before parents; results by job name.

        Raises
        ------
        CoretreeError
            The first failure, after the jobs in flight were stopped or awaited.
        """

    def one(self, function: Callable[..., R], *args: Any) -> R:
        """Call a function on one worker with room for it, and return its result."""


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
        self, jobs: Sequence[Job], work: Work[R], data: Dataset | None, on_done: OnDone | None = None
    ) -> dict[str, R]:
        """See ``Executor.run``."""
        frontier = Frontier(jobs)
        results: dict[str, R] = {}
        load = _loader(data)
        with one_blas_thread(), ThreadPoolExecutor(self.n_threads, thread_name_prefix="coretree") as pool:
            live: dict[Future[R], str] = {}

            def call(job: Job) -> R:
                return work(job, None if job.leaf is None else load(job))

            try:
                while not frontier.done:
                    live |= {pool.submit(call, job): job.name for job in frontier.take(2 * self.n_threads)}
                    for future in wait(live, return_when=FIRST_COMPLETED).done:
                        job = frontier.finish(live.pop(future))
                        results[job.name] = result_of(future.result, job)
                        if on_done is not None:
                            on_done(job, len(results), frontier.total)
            finally:
                pool.shutdown(wait=True, cancel_futures=True)
        return results

    def one(self, function: Callable[..., R], *args: Any) -> R:
        """Call it here."""
        return function(*args)


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
    where = f"{job.leaf.path}, row groups {list(job.leaf.row_groups)}" if job.leaf is not None else f"merge {job.name}"
    return PartitionError(f"{where}: {type(error).__name__}: {error}. Run again with --debug for the traceback.")


def available_cores() -> int:
    """Cores this process may use."""
    if sys.platform == "linux":
        return max(1, len(os.sched_getaffinity(0)))
    return max(1, os.cpu_count() or 1)


def _loader(data: Dataset | None) -> Callable[[Job], Any]:
    """How the frame of a leaf is had in this process."""
    if data is None:
        return lambda _: None
    match data.source:
        case FrameSource():
            return lambda job: data.frame_part(job.leaf) if job.leaf is not None else None
        case DaskSource(frame):
            from coretree.run.on_dask import PartitionsHere

            return PartitionsHere(frame)
        case _:
            return lambda _: None


def executor_for(client: Any = None, *, n_threads: int | None = None) -> Executor:
    """Choose the executor: the given client, else a running Dask client, else threads here.

    Parameters
    ----------
    client : distributed.Client, Executor, str or None
        A client, an address such as "tcp://host:8786", or an executor to use as it is.
    n_threads : int, optional
        For threads here; naming it means that no running client is looked for.
    """
    if isinstance(client, str):
        from coretree.run.on_dask import connect

        return connect(client)
    if client is None:
        if n_threads is None and "distributed" in sys.modules:
            from coretree.run.on_dask import running

            found = running()
            if found is not None:
                return found
        return ThreadExecutor(n_threads)
    if hasattr(client, "scheduler_info"):
        from coretree.run.on_dask import DaskExecutor

        return DaskExecutor(client)
    if hasattr(client, "run") and hasattr(client, "n_slots"):
        return client  # type: ignore[no-any-return]
    raise ConfigError(f"client={client!r} is neither a distributed.Client, nor an address, nor an executor.")
