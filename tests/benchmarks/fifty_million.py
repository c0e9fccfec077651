"""What a build costs beside merely reading the data, and beside what people would use instead.

    PYTHONPATH=tests python -m benchmarks.fifty_million DATA --rows 1e6 5e6 5e7 --passes 2 1 --workers 1 2 --out results

writes the ten-class table (20 float32 features) as Parquet into the folder DATA for the largest size (files of
500,000 rows, which the smaller sizes share), then measures each size in turns on local clusters of so many processes
with 1 thread each: (a) a bare scan from Parquet to numpy, (b) a whole ``CoresetTree.build`` with each number of passes;
on the largest cluster also (c) a fit on the coreset of each, (d) a fit on a coreset of 2,000 rows of the stored tree,
opened anew. ``--table wide`` takes a table of 200 columns, 20 of them texts. ``--against`` adds, once a size and each
in a process of its own: "sklearn" (LogisticRegression on everything in memory), "sgd" (SGDClassifier in a stream),
"dask-ml" (its Incremental), "spark" (MLlib, where pyspark and Java are installed; its memory is that of the Python
side).

Reports wall and CPU seconds (all processes), peak memory of each worker and of the client, bytes read, and the
held-out log loss; prints Markdown tables of what was measured and of the bars it is held against, and writes them, JSON
and a log-log figure where ``--out`` is given.
"""

from __future__ import annotations

import argparse
import importlib
import multiprocessing
import os
import platform
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

import coretree as ct
from benchmarks.fifty_million_meter import Measured, Meter, bare_scan
from benchmarks.fifty_million_report import BUILD, FIT, RETRAIN, SCAN, markdown, named, slopes, write
from benchmarks.fifty_million_rivals import HELD_OUT_ROWS, RIVALS, held_out, rival
from benchmarks.large_tables import narrow, wide, write_narrow, write_wide

SMALL, SLICE = 2_000, 10_000
TABLES: dict[str, tuple[Callable[[Path, int], None], Callable[[int, int], dict[str, Any]]]] = {
    "narrow": (write_narrow, narrow),
    "wide": (write_wide, wide),
}


class Bench:
    """Ours, on one cluster: the methods in turns, each run noted."""

    def __init__(self, executor: Any, folder: Path, rows: int, size: int) -> None:
        self.executor, self.folder, self.rows, self.size = executor, folder, rows, size
        pids = list(executor.client.run(os.getpid).values())
        self.n_workers, self.meter = len(pids), Meter(pids)
        executor.client.run(importlib.import_module, "coretree.run.tasks")  # once a process: no cost of rows, as here
        importlib.import_module("coretree.run.coreset_tree")
        self.scan()  # warms the page cache

    def scan(self) -> Measured:
        """Every row once, to numpy."""
        with self.meter():
            seen = bare_scan(self.executor.client, self.folder)
        assert seen == self.rows
        return self.noted(SCAN)

    def build(self, tree: ct.CoresetTree) -> Measured:
        """A whole build."""
        data = ct.Dataset.from_parquet(self.folder, target="label")
        with self.meter():
            tree.build(data, client=self.executor)
        assert tree.summary_ is not None
        return self.noted(named(BUILD, tree.settings.passes), node_bytes=tree.summary_.n_bytes)

    def fits(self, path: Path, held: tuple[Any, Any]) -> Iterator[Measured]:
        """A fit on the coreset, and one on a small coreset of the stored tree."""
        for what, size in ((FIT, self.size), (RETRAIN, min(self.size, SMALL))):
            with self.meter():
                tree = ct.CoresetTree.open(path)
                final = LogisticRegression(max_iter=1000)
                model = ct.CoresetClassifier(final, tree=tree, size=size, client=ct.ThreadExecutor(1)).fit()
            yield self.noted(named(what, tree.settings.passes), log_loss=loss_of(model, held))

    def noted(self, method: str, **more: Any) -> Measured:
        """What the meter has just found."""
        return Measured(self.rows, method, self.n_workers, **self.meter.found, **more)


def in_turns(
    benches: list[Bench], passes: tuple[int, ...], repeats: int, held: tuple[Any, Any], scratch: Path
) -> Iterator[Measured]:
    """Scan and build on each cluster, with each number of passes, one after the other; fits on the largest."""
    for _ in range(repeats):
        for bench in benches:
            yield bench.scan()
            for n in passes:
                with tempfile.TemporaryDirectory(dir=scratch) as out:
                    path = Path(out) / "tree"
                    yield bench.build(ct.CoresetTree(path, size=bench.size, passes=n))
                    if bench is benches[-1]:
                        yield from bench.fits(path, held)


def alone(call: Callable[..., Any], *args: Any) -> Any:
    """Result of a call in a process of its own: what it leaves in memory is not the client's."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(call, *args).result()


def prepared(table: str, folder: Path, rows: int) -> tuple[Any, Any]:
    """Write a table; held-out rows of it."""
    write_table, columns = TABLES[table]
    write_table(folder, rows)
    return held_out(columns, min(HELD_OUT_ROWS, max(rows, 20_000)))


def loss_of(model: Any, held: tuple[Any, Any]) -> float:
    """Log loss on held-out rows, slice by slice: the client's memory is to be that of a fit."""
    X, y = held
    parts = [model.predict_proba(X[low : low + SLICE]) for low in range(0, len(X), SLICE)]
    return float(log_loss(y, np.concatenate(parts), labels=model.classes_))


def run(
    data: Path,
    sizes: list[int],
    *,
    table: str = "narrow",
    size: int = 20_000,
    repeats: int = 3,
    passes: tuple[int, ...] = (2,),
    workers: tuple[int, ...] = (2,),
    against: tuple[str, ...] = (),
    memory: str = "2GiB",
) -> dict[str, Any]:
    """Measure every size; facts for JSON."""
    found: list[Measured] = []
    data.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=data)))
        clusters = [stack.enter_context(ct.local_cluster(n, memory_limit=memory)) for n in sorted(workers)]
        for rows in sorted(sizes, reverse=True):  # the smaller tables are the first files of the larger
            folder = data / f"{table}-{rows}"
            held = alone(prepared, table, folder, rows)
            benches = [Bench(executor, folder, rows, size) for executor in clusters]
            found += in_turns(benches, passes, repeats, held, scratch)
            found += [alone(rival, name, folder, rows) for name in against]
    return {
        "table": table,
        "size": size,
        "machine": f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, Python "
        f"{platform.python_version()}",
        "date": time.strftime("%Y-%m-%d"),
        "slopes": slopes(found),
        "measured": [asdict(m) for m in found],
    }


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="folder for the Parquet files; kept for another run")
    parser.add_argument("--rows", nargs="+", type=lambda s: int(float(s)), default=[1_000_000])
    parser.add_argument("--table", choices=list(TABLES), default="narrow")
    parser.add_argument("--size", type=int, default=20_000, help="rows of the tree and of the coreset that is fitted")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--passes", nargs="+", type=int, choices=(1, 2, 3), default=[2])
    parser.add_argument("--workers", nargs="+", type=int, default=[2], help="processes; one cluster for each number")
    parser.add_argument("--against", nargs="*", choices=list(RIVALS), default=[], help="narrow table only")
    parser.add_argument("--memory", default="2GiB", help="limit of each worker")
    parser.add_argument("--out", type=Path, help="folder for JSON, tables and figure")
    a = parser.parse_args()
    if a.against and a.table != "narrow":
        parser.error("--against needs --table narrow: the others take numbers alone")
    facts = run(
        a.data,
        a.rows,
        table=a.table,
        size=a.size,
        repeats=a.repeats,
        passes=tuple(a.passes),
        workers=tuple(a.workers),
        against=tuple(a.against),
        memory=a.memory,
    )
    print(markdown(facts))
    if a.out is not None:
        write(facts, a.out)


if __name__ == "__main__":
    main()
