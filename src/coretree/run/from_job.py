"""The words of a job file become the values that the run layer works with: data set, rules, tree, executor."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from coretree.config import Job
from coretree.data.clean import CleanRules
from coretree.data.dataset import Dataset
from coretree.data.prepare import PrepareRules
from coretree.data.split import Split
from coretree.run.coreset_tree import CoresetTree
from coretree.run.executor import Executor, ThreadExecutor
from coretree.run.settings import Settings


def dataset(job: Job, path: str | None = None) -> Dataset:
    """Open the data of a job, or other data (``path``) of the same meaning; nothing is read before it is used."""
    data = job.data
    return Dataset.from_parquet(
        list(data.train) if path is None and len(data.train) > 1 else data.train[0] if path is None else path,
        target=data.target,
        time=data.time,
        clean=CleanRules(missing_values=job.clean.missing_values, infinite=job.clean.infinite),
        hive=data.partition_columns,
        bad_files=job.clean.bad_files,
        leaf_bytes=int(job.coreset.leaf_bytes),
        task=data.task,
        group=data.group,
        id=data.id,
        weight=data.weight,
        # what is kept out of the model need not be read; predictions read what they carry along by name
        drop=(*data.drop, *data.ignore),
        numeric=data.numeric,
        categorical=data.categorical,
        boolean=data.boolean,
        datetime=data.datetime,
    )


def sides(job: Job, data: Dataset) -> tuple[Dataset, Dataset]:
    """Training and held-out side, as the job splits."""
    return data.split(test=job.split.test, by=job.split.by, seed=job.split.seed)


def held_out(data: Dataset, split: Split) -> Dataset:
    """The held-out side under a split that a tree was built with."""
    return replace(data, selection=replace(split, side="test"))


def prepare_rules(job: Job) -> PrepareRules:
    """How features become numbers."""
    clean, prepare = job.clean, job.prepare
    return PrepareRules(
        missing=clean.missing_numeric,
        fill_value=0.0 if clean.fill_value is None else clean.fill_value,
        indicator=clean.indicator,
        missing_categorical=clean.missing_categorical,
        clip=clean.clip,
        scale=prepare.scale,
        categorical=prepare.categorical,
        min_frequency=prepare.min_frequency,
        max_categories=prepare.max_categories,
    )


def new_tree(job: Job, folder: Path) -> CoresetTree:
    """The tree that the job wants, built or not."""
    return CoresetTree(folder, **_tree_options(job))


def settings(job: Job) -> Settings:
    """What that tree is built with."""
    return Settings.checked(objectives="auto", class_rows=None, **_tree_options(job))


def _tree_options(job: Job) -> dict[str, Any]:
    core = job.coreset
    return {
        "size": core.size,
        "prepare": prepare_rules(job),
        "fan_in": core.fan_in,
        "seed": core.seed,
        "exact": core.exact,
        "passes": core.passes,
    }


@contextmanager
def executor(job: Job) -> Iterator[Executor]:
    """Where the job wants to work, for as long as the ``with`` block lasts.

    Raises
    ------
    SchedulerError
        The job names a scheduler, and nobody answers there.
    """
    where = job.cluster
    match where.kind:
        case "threads":
            yield ThreadExecutor(where.threads)
        case "local":
            from coretree.run.cluster import local_cluster

            limit = "auto" if where.memory_limit is None else int(where.memory_limit)
            with local_cluster(where.workers, threads=where.threads or 1, memory_limit=limit) as found:
                yield found
        case "address":
            from coretree.run.cluster import connect

            assert where.scheduler is not None
            connected = connect(where.scheduler)
            try:
                yield connected
            finally:
                connected.client.close()


@contextmanager
def executor_at(cluster: Mapping[str, Any]) -> Iterator[Executor]:
    """Where the keys of a section ``[cluster]`` say.

    Raises
    ------
    ConfigError, SchedulerError
        A key is wrong; nobody answers at the address.
    """
    values = {"data": {"train": "-", "target": "-"}, "cluster": dict(cluster)}
    with executor(Job.model_validate(values)) as found:
        yield found
