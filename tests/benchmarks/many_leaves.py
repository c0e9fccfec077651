"""What many tiny leaves cost: the driver's bookkeeping alone, and a whole build.

    PYTHONPATH=tests python -m benchmarks.many_leaves DATA --leaves 1000 10000 --out results

writes one Parquet file of 50 rows and 4 features a leaf into the folder DATA (the smaller counts are the first files of
the larger), then measures each count on one local cluster of 2 processes with 1 thread each: (a) the scan of all
footers; (b) a whole ``CoresetTree.build``; (c) the bookkeeping of the same build: both passes are planned, every leaf
and merge is sent to the workers, where nothing is done with it, and a manifest is committed; (d) a coreset of the
stored tree, opened anew.

Reports wall and CPU seconds (all processes, and the client with its scheduler), what the workers spend on a leaf and
pass, and peak memory; prints a Markdown table, and writes it and JSON where ``--out`` is given.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import coretree as ct
from benchmarks.fifty_million import Meter
from coretree.run.build import carry_out, plan_leaves, source_name
from coretree.run.frontier import Job
from coretree.run.publish import publish
from coretree.tree.local_store import LocalStore
from coretree.tree.manifest import StoredObject

WORKERS, ROWS, FEATURES, SIZE, CORESET = 2, 50, 4, 2_000, 1_000


@dataclass(frozen=True)
class Measured:
    """One step on one number of leaves; ``jobs`` are leaves and merges of all passes, ``counted`` by the progress."""

    leaves: int
    step: str
    jobs: int
    counted: int
    wall_s: float
    cpu_s: float
    client_cpu_s: float
    workers_mib: tuple[int, ...]
    client_mib: int


def write_leaves(folder: Path, n_leaves: int) -> None:
    """Write files that depend on their number alone; those that are there already stay."""
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(len(list(folder.iterdir())), n_leaves):
        rng = np.random.default_rng(i)
        X = rng.standard_normal((ROWS, FEATURES)).astype(np.float32)
        columns = {f"x{j}": X[:, j] for j in range(FEATURES)}
        columns["label"] = (X[:, 0] + rng.standard_normal(ROWS) > 1).astype(np.int8)
        pq.write_table(pa.table(columns), folder / f"{i:06d}.parquet")


def nothing(job: Job, frame: object) -> StoredObject:
    """Work that stores nothing, and says what a small node would be."""
    return StoredObject("0" * 64, 10_000, ROWS)


def bookkeeping(data: ct.Dataset, tree: ct.CoresetTree, executor: Any, scratch: Path, progress: Any) -> None:
    """What the driver does in a build: plans, jobs, progress and results of two passes, the manifest."""
    store, leaves = LocalStore(scratch), data.scan.leaves
    for under in ("survey", tree.recipe_.name):
        shape = plan_leaves(leaves, under, tree.settings.fan_in, store)
        made = carry_out(executor, shape, leaves, data, nothing, under, progress)
    source = source_name(data, tree.settings)
    publish(data, tree.settings, source, tree.recipe_, shape, None, made, store, under=tree.recipe_.name)


def measure(folder: Path, n_leaves: int, executor: Any, scratch: Path) -> list[Measured]:
    """All steps on one number of leaves."""
    meter = Meter(list(executor.client.run(os.getpid).values()))
    found: list[Measured] = []
    counts: dict[str, tuple[int, int]] = {}

    def progress(stage: str, done: int, total: int) -> None:
        counts[stage] = counts.get(stage, (-1, 0))[0] + 1, total  # the first call says that none is done

    def step(name: str, work: Callable[[], Any]) -> Any:
        counts.clear()
        with meter():
            out = work()
        counted, jobs = (sum(column) for column in zip(*counts.values(), strict=True)) if counts else (0, 0)
        seen = {k: v for k, v in meter.found.items() if k != "bytes_read"}
        found.append(Measured(n_leaves, name, jobs, counted, **seen))
        return out

    files = sorted(map(str, folder.iterdir()))[:n_leaves]
    data = ct.Dataset.from_parquet(files, target="label")
    step("scan", lambda: data.scan)
    place = scratch / f"{n_leaves}.tree"
    tree = step("build", lambda: ct.CoresetTree(place, size=SIZE).build(data, client=executor, progress=progress))
    step("bookkeeping", lambda: bookkeeping(data, tree, executor, scratch / f"{n_leaves}.empty", progress))
    step("open", lambda: ct.CoresetTree.open(place).coreset(CORESET))
    return found


def run(data: Path, counts: list[int]) -> dict[str, Any]:
    """Measure every number of leaves."""
    found: list[Measured] = []
    write_leaves(data, max(counts))
    with ct.local_cluster(WORKERS, memory_limit="2GiB") as executor, tempfile.TemporaryDirectory() as scratch:
        executor.client.run(_import)
        for n_leaves in sorted(counts):
            found += measure(data, n_leaves, executor, Path(scratch))
    return {
        "rows": ROWS,
        "features": FEATURES,
        "workers": WORKERS,
        "machine": f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, Python "
        f"{platform.python_version()}",
        "date": time.strftime("%Y-%m-%d"),
        "measured": [asdict(m) for m in found],
    }


def _import() -> None:
    """Let a worker import everything now."""
    import coretree.run.tasks  # noqa: F401


def markdown(facts: dict[str, Any]) -> str:
    """A table; milliseconds are of one job: a leaf or merge in one pass."""
    names = ["leaves", "what", "jobs", "wall s", "CPU s", "of it client", "client ms/job", "workers ms/job"]
    names += ["workers MiB", "client MiB"]
    lines = [f"| {' | '.join(names)} |", "|---" * len(names) + "|"]
    for m in (Measured(**m) for m in facts["measured"]):
        a_job = [f"{1e3 * s / m.jobs:.2f}" if m.jobs else "-" for s in (m.client_cpu_s, m.cpu_s - m.client_cpu_s)]
        lines.append(
            f"| {m.leaves:,} | {m.step} | {m.jobs:,} | {m.wall_s:.1f} | {m.cpu_s:.1f} | {m.client_cpu_s:.1f} "
            f"| {a_job[0]} | {a_job[1]} | {', '.join(map(str, m.workers_mib))} | {m.client_mib} |"
        )
    of = f"{facts['rows']} rows x {facts['features']} features a leaf, {facts['workers']} processes"
    return "\n".join([*lines, "", f"{of}; {facts['machine']}; {facts['date']}."])


def write(facts: dict[str, Any], out: Path) -> None:
    """Write JSON and table."""
    out.mkdir(parents=True, exist_ok=True)
    (out / "many_leaves.json").write_text(json.dumps(facts, indent=2), encoding="utf-8")
    (out / "many_leaves.md").write_text(markdown(facts) + "\n", encoding="utf-8")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="folder for the Parquet files; kept for another run")
    parser.add_argument("--leaves", nargs="+", type=lambda s: int(float(s)), default=[1_000])
    parser.add_argument("--out", type=Path, help="folder for JSON and table")
    a = parser.parse_args()
    facts = run(a.data, a.leaves)
    print(markdown(facts))
    if a.out is not None:
        write(facts, a.out)


if __name__ == "__main__":
    main()
