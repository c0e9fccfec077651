"""What can be said before any row is read: the job, every footer, the roles of columns, the memory of workers."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any

from coretree.config import Job
from coretree.config_template import starter_toml
from coretree.data.dataset import Dataset
from coretree.data.schema import Kind
from coretree.errors import ConfigError, DataWarning
from coretree.report import render
from coretree.report.render import Fact
from coretree.run import from_job
from coretree.run.build import leaf_size
from coretree.run.executor import Executor
from coretree.run.memory import demand, preflight
from coretree.run.pipeline import data_facts, data_text, plan_text

FEW_ROWS_A_COLUMN = 10


def check(job: Job, say: Callable[[Fact], None]) -> dict[str, Any]:
    """Scan a job's data and the cluster it names; nothing is written.

    Raises
    ------
    CoretreeError
        What would stop the job later: files, columns, the scheduler, memory.
    """
    data = from_job.dataset(job)
    say(Fact("data", data_text(data)))
    say(Fact("roles", roles_text(data)))
    from_job.sides(job, data)
    _warn(job, data)
    found = job.models.problems_for(data.schema.task or "classification")
    if found:
        raise ConfigError(f"{data.scan.where}: target '{data.schema.target}' means {data.schema.task}. {found[0]}.")
    with from_job.executor(job) as executor:
        workers = workers_of(executor)
        settings = from_job.settings(job)
        peak = preflight(workers, demand(data.scan, settings, leaf_size(data, settings)))
        say(Fact("plan", plan_text(data, job.coreset.fan_in, executor)))
        say(Fact("memory", memory_text(peak, workers)))
    say(Fact("ok", "nothing was written; run it with `coretree train`"))
    limits = {name: int(worker.get("memory_limit") or 0) for name, worker in workers.items()}
    return {"data": data_facts(data), "peak_bytes": peak, "memory_limits": limits}


def starter(path: tuple[str, ...], target: str, time: str | None) -> tuple[str, dict[str, Any]]:
    """Text of a job file for a data set, and what its footers say; for ``coretree init``."""
    where: str | list[str] = path[0] if len(path) == 1 else list(path)
    data = Dataset.from_parquet(where, target=target, time=time)
    head = [f"# {data_text(data)}", *(f"#   {line}" for line in roles_text(data).split("; ")), ""]
    return "\n".join(head) + starter_toml({"data": {"train": where, "target": target, "time": time}}), {
        "data": data_facts(data)
    }


def roles_text(data: Dataset) -> str:
    """Columns by kind, as a sentence."""
    schema = data.schema
    said = [f"{kind}: {', '.join(names)}" for kind in _KINDS if (names := schema.of_kind(kind))]
    said += [f"{role}: {name}" for role in ("group", "id", "weight") if (name := getattr(schema, role)) is not None]
    ignored = [f"{name} ({why})" for name, why in schema.ignored]
    return "; ".join([*said, *([f"left out: {', '.join(ignored)}"] if ignored else [])])


_KINDS: tuple[Kind, ...] = ("numeric", "boolean", "datetime", "categorical")


def workers_of(executor: Executor) -> Mapping[str, Any]:
    """Workers with their threads and memory limits, as a scheduler describes them; this process without a limit."""
    client = getattr(executor, "client", None)
    if client is None:
        return {"this process": {"nthreads": executor.n_slots, "memory_limit": 0}}
    found: Mapping[str, Any] = client.scheduler_info(n_workers=-1)["workers"]
    return found


def memory_text(peak: int, workers: Mapping[str, Any]) -> str:
    """Predicted peak against the tightest limit, as a sentence."""
    limits = [int(worker.get("memory_limit") or 0) for worker in workers.values()]
    tight = min((limit for limit in limits if limit), default=0)
    who = "this process" if "this process" in workers else f"the fullest of {render.count(len(workers), 'worker')}"
    limit = f" of {render.size(tight)}" if tight else ", which has no limit that Dask knows of"
    return f"about {render.size(peak)} at the peak in {who}{limit}"


def _warn(job: Job, data: Dataset) -> None:
    scan = data.scan
    if scan.bad_files:
        names = ", ".join(name for name, _ in scan.bad_files[:3])
        _tell(
            f"{scan.where}: {render.count(len(scan.bad_files), 'file')} cannot be read and will be left out: {names}."
        )
    if scan.n_rows < job.coreset.size:
        _tell(
            f"{scan.where}: {scan.n_rows:,} rows are fewer than coreset.size = {job.coreset.size:,}; every row is kept."
        )
    if scan.n_rows < FEW_ROWS_A_COLUMN * len(scan.schema.features):
        _tell(f"{scan.where}: {scan.n_rows:,} rows are few for {len(scan.schema.features)} features.")


def _tell(message: str) -> None:
    warnings.warn(message, DataWarning, stacklevel=3)
