"""Partitions of a Dask DataFrame as leaves: cut apart for a cluster, or computed in this process."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

import dask
import pandas as pd
from dask.callbacks import Callback
from dask.delayed import Delayed

from coretree.run.executor import Work, result_of
from coretree.run.frontier import Job

R = TypeVar("R")
SHARED_SHARE = 2.0  # partitions whose graphs together exceed the whole by this much need one another


def partitions(frame: Any) -> list[Delayed]:
    """Partitions of a Dask DataFrame, fused and each cut down to its own part of the graph.

    Shuffles that are not of a kind chosen by the user are done by tasks: the order of rows in their partitions is the
    same each time and on each executor, which the identity of rows rests on.
    """
    method = dask.config.get("dataframe.shuffle.method", None) or "tasks"
    with dask.config.set({"dataframe.shuffle.method": method}):
        return [_cut(part) for part in frame.to_delayed()]


def _cut(part: Delayed) -> Delayed:
    graph = part.dask.cull({part.key})
    layer = next(name for name, layer in graph.layers.items() if part.key in layer)
    return Delayed(part.key, graph, layer=layer)


def overlapping(parts: Sequence[Delayed]) -> bool:
    """Whether computing the partitions one by one would do much of the work again and again."""
    return sum(len(part.dask) for part in parts) > SHARED_SHARE * len({key for part in parts for key in part.dask})


class PartitionsHere:
    """Computes partitions in this process: one by one on the calling thread, or all in one go where they overlap."""

    def __init__(self, frame: Any) -> None:
        self._parts = partitions(frame)
        self.shared = overlapping(self._parts)

    def __call__(self, job: Job) -> pd.DataFrame | None:
        """The partition of a leaf; None for a merge."""
        if job.leaf is None:
            return None
        (frame,) = dask.compute(self._part(job), scheduler="sync")
        return frame

    def run(self, jobs: Sequence[Job], work: Work[R], pool: ThreadPoolExecutor, done: Callable[[Job, R], None]) -> None:
        """Carry out leaf jobs over partitions that need one another; ``done`` is called on this thread."""
        by_key = {f"coretree-leaf-{job.name}": job for job in jobs}

        def call(job: Job, frame: pd.DataFrame) -> R:
            return result_of(lambda: work(job, frame), job)

        def finished(key: Any, result: R, *_: Any) -> None:
            if key in by_key:
                done(by_key[key], result)

        tasks = [
            dask.delayed(partial(call, job), pure=False, traverse=False)(self._part(job), dask_key_name=key)
            for key, job in by_key.items()
        ]
        with Callback(posttask=finished):
            dask.compute(*tasks, scheduler="threads", pool=pool)

    def _part(self, job: Job) -> Delayed:
        assert job.leaf is not None
        return self._parts[int(job.leaf.path.rpartition("-")[2])]
