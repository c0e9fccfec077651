"""Peak memory of the workers while a tree is built over a data set larger than all of them.

    python tests/benchmarks/out_of_core.py --gb 4

writes Parquet files of 400,000 rows (20 float64 columns, one of them with missing values, one text column, a rare
binary target; row groups of 100,000 rows) until ``--gb`` of decoded data are there, starts two worker processes with
1 GiB each, builds a tree of 20,000 rows and fits a logistic regression, while the resident size of each process is
sampled from outside. Prints one JSON object; ``--folder`` keeps the data for another run.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from sklearn.linear_model import LogisticRegression

import coretree as ct
from benchmarks.peak_memory import PeakMemory

FILE_ROWS, GROUP_ROWS, N_COLUMNS = 400_000, 100_000, 20
ROW_BYTES = 8 * (N_COLUMNS + 2)


def write_file(folder: Path, i: int, rows: int) -> None:
    """One file; depends on i and rows alone."""
    rng = np.random.default_rng([5, i])
    X = rng.standard_normal((N_COLUMNS, rows))
    z = X[0] - 0.5 * X[1] + 0.3 * X[2] * X[3] - 3.0
    X[7][rng.random(rows) < 0.05] = np.nan
    table = {f"x{j:02d}": pa.array(X[j], from_pandas=True) for j in range(N_COLUMNS)}
    table["kind"] = pa.array(np.array([f"kind {k}" for k in range(50)], dtype=object)[rng.integers(0, 50, rows)])
    table["y"] = pa.array((rng.logistic(size=rows) < z).astype(np.int8))
    pq.write_table(pa.table(table), folder / f"part-{i:04d}.parquet", row_group_size=GROUP_ROWS, compression="snappy")


def write_data(folder: Path, n_bytes: float) -> int:
    """Write files until so many decoded bytes are there; keep what is there already. Returns the rows."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = max(1000, int(n_bytes // ROW_BYTES))
    for i, low in enumerate(range(0, rows, FILE_ROWS)):
        if not (folder / f"part-{i:04d}.parquet").exists():
            write_file(folder, i, min(FILE_ROWS, rows - low))
    return rows


def run(
    folder: Path, n_bytes: float, *, workers: int = 2, memory: str = "1GiB", size: int = 20_000
) -> dict[str, object]:
    """Build and fit under watch; facts for a table."""
    rows = write_data(folder / "data", n_bytes)
    data = ct.Dataset.from_parquet(folder / "data", target="y")
    train, _ = data.split(test=0.2)
    with tempfile.TemporaryDirectory(dir=folder) as out, ct.local_cluster(workers, memory_limit=memory) as executor:
        pids = list(executor.client.run(os.getpid).values())
        with PeakMemory([*pids, os.getpid()]) as watch:
            started = time.perf_counter()
            tree = ct.CoresetTree(Path(out) / "tree", size=size).build(train, client=executor)
            built = time.perf_counter()
            model = ct.CoresetClassifier(LogisticRegression(max_iter=1000), tree=tree, size=5000, client=executor).fit()
            fitted = time.perf_counter()
        assert tree.summary_ is not None
        return {
            "rows": rows,
            "decoded_bytes": data.scan.n_bytes,
            "leaves": tree.summary_.n_leaves,
            "workers": workers,
            "memory_limit": memory,
            "worker_peak_mib": [round(watch.peak[p] / 2**20) for p in pids],
            "client_peak_mib": round(watch.peak[os.getpid()] / 2**20),
            "tree_mib": round(tree.summary_.n_bytes / 2**20, 1),
            "build_s": round(built - started, 1),
            "fit_s": round(fitted - built, 1),
            "coreset": model.coreset_.report.to_dict(),
            "machine": f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores",
        }


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gb", type=float, default=4.0, help="decoded gigabytes (1e9 bytes)")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--memory", default="1GiB", help="limit of each worker")
    parser.add_argument("--size", type=int, default=20_000)
    parser.add_argument("--folder", type=Path, help="keep the data here (a temporary folder by default)")
    a = parser.parse_args()
    if a.folder is not None:
        print(json.dumps(run(a.folder, a.gb * 1e9, workers=a.workers, memory=a.memory, size=a.size), indent=2))
        return
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(run(Path(folder), a.gb * 1e9, workers=a.workers, memory=a.memory, size=a.size), indent=2))


if __name__ == "__main__":
    main()
