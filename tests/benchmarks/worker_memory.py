"""Peak memory of a worker beside what `coretree.run.memory` predicts, for tables and settings that differ in all ways.

    PYTHONPATH=tests python -m benchmarks.worker_memory DATA [CASE ...]

writes small Parquet tables into the folder DATA, builds a tree of each case on a local cluster of one process while
its resident size is sampled from outside, and prints a Markdown table. The constants of the prediction come from it.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

import coretree as ct
from benchmarks.large_tables import narrow, wide, write_table
from benchmarks.peak_memory import PeakMemory
from coretree.run.build import leaf_size
from coretree.run.memory import demand, preflight

MOST_OFF = 0.30


def doubles(i: int, rows: int, target: str | None = "class") -> dict[str, Any]:
    """Twenty float64 columns, one with missing values; a rare class, a quantity or no target."""
    rng = np.random.default_rng([5, i])
    X = rng.standard_normal((20, rows))
    z = X[0] - 0.5 * X[1] + 0.3 * X[2] * X[3] - 3.0
    X[7][rng.random(rows) < 0.05] = np.nan
    columns: dict[str, Any] = {f"x{j:02d}": pa.array(X[j], from_pandas=True) for j in range(20)}
    if target is not None:
        columns["label"] = pa.array((rng.logistic(size=rows) < z).astype(np.int8) if target == "class" else z + X[4])
    return columns


def quantities(i: int, rows: int) -> dict[str, Any]:
    """The same for a regression."""
    return doubles(i, rows, "quantity")


def untargeted(i: int, rows: int) -> dict[str, Any]:
    """The same without a target, for cells."""
    return doubles(i, rows, None)


@dataclass(frozen=True)
class Case:
    """A table in row groups of one length, the tree that is built of it, and the threads of the worker."""

    columns: Callable[[int, int], dict[str, Any]]
    group_rows: int
    rows: int
    tree: Mapping[str, Any] = field(default_factory=dict)
    threads: int = 1
    leaf_bytes: int = 64 << 20


LONG, SHORT, TINY = (narrow, 500_000, 2_000_000), (narrow, 125_000, 2_000_000), (narrow, 10_000, 1_000_000)
WIDE, PLAIN = (wide, 50_000, 500_000), (untargeted, 100_000, 1_200_000)
CASES = {
    "narrow": Case(*SHORT),
    "narrow, 2 threads": Case(*SHORT, threads=2),
    "narrow, groups of 500,000": Case(*LONG),
    "narrow, groups of 500,000, 2 threads": Case(*LONG, threads=2),
    "narrow, one pass": Case(*SHORT, {"passes": 1}),
    "narrow, groups of 500,000, one pass": Case(*LONG, {"passes": 1}),
    "narrow, QR": Case(*SHORT, {"exact": "qr"}),
    "narrow, groups of 500,000, QR": Case(*LONG, {"exact": "qr"}),
    "narrow, size 200,000": Case(*SHORT, {"size": 200_000}),
    "100 leaves, size 2,000": Case(*TINY, {"size": 2_000}, leaf_bytes=1 << 20),
    "100 leaves, size 50,000": Case(*TINY, {"size": 50_000}, leaf_bytes=1 << 20),
    "100 leaves, size 50,000, 2 threads": Case(*TINY, {"size": 50_000}, threads=2, leaf_bytes=1 << 20),
    "100 leaves, size 50,000, one pass": Case(*TINY, {"size": 50_000, "passes": 1}, leaf_bytes=1 << 20),
    "wide": Case(*WIDE),
    "wide, 2 threads": Case(*WIDE, threads=2),
    "wide, groups of 100,000": Case(wide, 100_000, 400_000),
    "wide, groups of 200,000, in slices": Case(wide, 200_000, 800_000),
    "wide, size 50,000": Case(*WIDE, {"size": 50_000}),
    "wide, one pass": Case(*WIDE, {"passes": 1}),
    "float64": Case(doubles, 100_000, 1_200_000),
    "float64, groups of 400,000": Case(doubles, 400_000, 1_200_000),
    "regression": Case(quantities, 100_000, 1_200_000),
    "regression, groups of 400,000": Case(quantities, 400_000, 1_200_000),
    "regression, QR": Case(quantities, 100_000, 1_200_000, {"exact": "qr"}),
    "cells": Case(*PLAIN),
    "cells, 2 threads": Case(*PLAIN, threads=2),
    "cells, groups of 400,000": Case(untargeted, 400_000, 1_200_000),
    "cells with scatter": Case(*PLAIN, {"scatter": True}),
}


def measure(case: Case, folder: Path) -> tuple[int, int]:
    """Predicted and measured peak of the worker, in bytes; the table is written to the folder if it is not there."""
    write_table(folder, case.rows, case.columns, file_rows=max(case.group_rows, 400_000), group_rows=case.group_rows)
    target = None if case.columns is untargeted else "label"
    data = ct.Dataset.from_parquet(folder, target=target, leaf_bytes=case.leaf_bytes)
    with (
        tempfile.TemporaryDirectory(dir=folder.parent) as out,
        ct.local_cluster(1, threads=case.threads, memory_limit=0) as executor,
    ):
        tree = ct.CoresetTree(Path(out) / "tree", **case.tree)
        (pid,) = executor.client.run(os.getpid).values()
        workers = executor.client.scheduler_info(n_workers=-1)["workers"]
        predicted = preflight(workers, demand(data.scan, tree.settings, leaf_size(data, tree.settings)))
        with PeakMemory([pid]) as watch, warnings.catch_warnings():
            warnings.simplefilter("ignore", ct.errors.DataWarning)
            tree.build(data, client=executor)
    return predicted, watch.peak[pid]


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="folder for the Parquet files; kept for another run")
    parser.add_argument("cases", nargs="*", help="parts of the names of cases (default: all)")
    a = parser.parse_args()
    print("| case | predicted MiB | measured MiB | ratio | |\n|---|---|---|---|---|", flush=True)
    for name, case in CASES.items():
        if a.cases and not any(part in name for part in a.cases):
            continue
        predicted, found = measure(case, a.data / f"{case.columns.__name__}-{case.group_rows}-{case.rows}")
        word = "met" if abs(predicted - found) <= MOST_OFF * found else "MISSED"
        print(f"| {name} | {predicted >> 20} | {found >> 20} | {predicted / found:.2f} | {word} |", flush=True)


if __name__ == "__main__":
    main()
