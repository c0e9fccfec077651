"""What a build costs beside merely reading the data, and beside what people would use instead.

    PYTHONPATH=tests python -m benchmarks.fifty_million DATA --rows 1e6 5e6 5e7 --out results

writes the ten-class table (20 float32 features) as Parquet into the folder DATA for the largest size (files of
500,000 rows, which the smaller sizes share), then measures each size in turns on one local cluster of 2 processes
with 1 thread each: (a) a bare scan from Parquet to numpy, (b) a whole ``CoresetTree.build``, (c) a fit on the coreset,
(d) a fit on a coreset of 2,000 rows of the stored tree, opened anew. ``--table wide`` takes a table of 200 columns, 20
of them texts. ``--against`` adds, once a size and each in a process of its own: "sklearn" (LogisticRegression on
everything in memory), "sgd" (SGDClassifier in a stream), "dask-ml" (its Incremental), "spark" (MLlib, where pyspark
and Java are installed).

Reports wall and CPU seconds (all processes), peak memory of each worker and of the client, bytes read, and the
held-out log loss; prints a Markdown table, and writes it, JSON and a log-log figure where ``--out`` is given.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import os
import platform
import resource
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
from scipy.special import softmax
from sklearn.exceptions import ConvergenceWarning
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, SGDClassifier
from sklearn.metrics import log_loss
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import coretree as ct
from benchmarks.large_tables import HELD_OUT, SHARES, narrow, wide, write_narrow, write_wide
from benchmarks.out_of_core import PeakMemory

WORKERS, HELD_OUT_ROWS, SMALL = 2, 100_000, 2_000
TABLES: dict[str, tuple[Callable[[Path, int], None], Callable[[int, int], dict[str, Any]]]] = {
    "narrow": (write_narrow, narrow),
    "wide": (write_wide, wide),
}


@dataclass(frozen=True)
class Measured:
    """One run of one method on one size."""

    rows: int
    method: str
    wall_s: float
    cpu_s: float
    workers_mib: tuple[int, ...]
    client_mib: int
    bytes_read: int
    log_loss: float | None = None


class Meter:
    """Seconds, memory and bytes of this process and of some workers while a block runs."""

    def __init__(self, pids: list[int]) -> None:
        self.workers, self.client = pids, os.getpid()
        self.found: dict[str, Any] = {}

    def _used(self) -> tuple[float, int]:
        processes = [psutil.Process(pid) for pid in (*self.workers, self.client)]
        if not self.workers:  # one of the others, which may have started processes of its own (Spark's Java)
            processes += processes[0].children(recursive=True)
        times = [p.cpu_times() for p in processes]
        return sum(t.user + t.system for t in times), sum(p.io_counters().read_chars for p in processes)

    @contextmanager
    def __call__(self) -> Iterator[None]:
        with PeakMemory([*self.workers, self.client]) as memory:
            (cpu, read), started = self._used(), time.perf_counter()
            yield
            wall, (cpu_after, read_after) = time.perf_counter() - started, self._used()
        self.found = {
            "wall_s": wall,
            "cpu_s": cpu_after - cpu,
            "bytes_read": read_after - read,
            "workers_mib": tuple(memory.peak[p] >> 20 for p in self.workers),
            "client_mib": memory.peak[self.client] >> 20,
        }


def scan_group(path: str, group: int) -> int:
    """One row group as a column-major float block with NaN where missing, and codes of the texts: the bare minimum."""
    metadata = pq.read_metadata(path)
    text = [f.name for f in metadata.schema.to_arrow_schema() if pa.types.is_string(f.type)]
    file = pq.ParquetFile(path, metadata=metadata, read_dictionary=text, pre_buffer=False, buffer_size=1 << 20)
    table = file.read_row_group(group, use_threads=False)
    numbers = [name for name in table.column_names if name not in text]
    block = np.empty((len(numbers), table.num_rows), np.float32).T
    for j, name in enumerate(numbers):
        column = table.column(name)
        if column.null_count:
            column = column.fill_null(pa.scalar(np.nan, column.type))
        block[:, j] = column.to_numpy()
    codes = [table.column(name).unify_dictionaries().chunk(0).indices for name in text]
    return len(block) + sum(len(c) - table.num_rows for c in codes)


def bare_scan(client: Any, folder: Path) -> int:
    """Every row group once, on the workers; returns the rows."""
    groups = [(str(p), g) for p in sorted(folder.iterdir()) for g in range(pq.read_metadata(p).num_row_groups)]
    futures = client.map(scan_group, *zip(*groups, strict=True), pure=False)
    return int(sum(client.gather(futures)))


def held_out(columns: Callable[[int, int], dict[str, Any]], rows: int) -> tuple[Any, npt.NDArray[Any]]:
    """Rows of a file that no size has, as a DataFrame and labels."""
    frame = pa.table(columns(HELD_OUT, rows)).to_pandas()
    return frame.drop(columns="label"), frame["label"].to_numpy()


def ours(folder: Path, rows: int, table: str, executor: Any, size: int, repeats: int, scratch: Path) -> list[Measured]:
    """Scan, build, fit and retrain in turns."""
    pids = list(executor.client.run(os.getpid).values())
    meter, found = Meter(pids), []
    X, y = held_out(TABLES[table][1], min(HELD_OUT_ROWS, max(rows, 20_000)))

    def note(method: str, model: Any = None) -> None:
        loss = None if model is None else float(log_loss(y, model.predict_proba(X), labels=model.classes_))
        found.append(Measured(rows, method, log_loss=loss, **meter.found))

    bare_scan(executor.client, folder)  # warms the page cache and the workers' imports
    for _ in range(repeats):
        with meter():
            seen = bare_scan(executor.client, folder)
        assert seen == rows
        note("bare scan")
        with tempfile.TemporaryDirectory(dir=scratch) as out:
            data = ct.Dataset.from_parquet(folder, target="label")
            with meter():
                tree = ct.CoresetTree(Path(out) / "tree", size=size).build(data, client=executor)
            note("build")
            with meter():
                model = _fit(tree, size)
            note("fit", model)
            with meter():
                model = _fit(ct.CoresetTree.open(Path(out) / "tree"), min(size, SMALL))
            note("retrain", model)
    return found


def _fit(tree: ct.CoresetTree, size: int) -> Any:
    model = ct.CoresetClassifier(LogisticRegression(max_iter=1000), tree=tree, size=size, client=ct.ThreadExecutor(1))
    return model.fit()


# ---- what people would use instead -----------------------------------------------------------------------------


def _numbers(path: Path) -> tuple[npt.NDArray[np.float32], npt.NDArray[Any]]:
    frame = pq.read_table(path).to_pandas()
    return frame.drop(columns="label").to_numpy(np.float32), frame["label"].to_numpy()


def in_memory(folder: Path) -> Any:
    """scikit-learn's LogisticRegression on all rows at once."""
    parts = [_numbers(p) for p in sorted(folder.iterdir())]
    X, y = np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts])
    return make_pipeline(SimpleImputer(), StandardScaler(), LogisticRegression(max_iter=1000)).fit(X, y)


def _scaler(folder: Path) -> StandardScaler:
    scaler = StandardScaler()
    for path in sorted(folder.iterdir()):
        scaler.partial_fit(_numbers(path)[0])  # leaves missing values out
    return scaler


def stream(folder: Path) -> Any:
    """scikit-learn's SGDClassifier: one pass for the scale, one of ``partial_fit``, averaged."""
    scaler, model = _scaler(folder), SGDClassifier(loss="log_loss", average=True, random_state=0)
    for path in sorted(folder.iterdir()):
        X, y = _numbers(path)
        model.partial_fit(np.nan_to_num(scaler.transform(X), nan=0.0), y, classes=np.arange(len(SHARES)))
    return _Scaled(scaler, model)


def incremental(folder: Path) -> Any:
    """dask-ml's Incremental around the same classifier, on a Dask array with one chunk a file."""
    import dask
    import dask.array as da
    from dask_ml.wrappers import Incremental

    scaler, paths = _scaler(folder), sorted(folder.iterdir())
    parts = [dask.delayed(_scaled_part)(scaler, p) for p in paths]
    rows = [pq.read_metadata(p).num_rows for p in paths]
    blocks = [da.from_delayed(p[0], (n, scaler.n_features_in_), np.float32) for p, n in zip(parts, rows, strict=True)]
    labels = [da.from_delayed(p[1], (n,), np.int64) for p, n in zip(parts, rows, strict=True)]
    model = Incremental(SGDClassifier(loss="log_loss", average=True, random_state=0), shuffle_blocks=False)
    with dask.config.set(scheduler="synchronous"):
        model.fit(da.concatenate(blocks), da.concatenate(labels), classes=np.arange(len(SHARES)))
    return _Scaled(scaler, model.estimator_)


def _scaled_part(scaler: StandardScaler, path: Path) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    X, y = _numbers(path)
    return np.nan_to_num(scaler.transform(X), nan=0.0), y.astype(np.int64)


@dataclass(frozen=True)
class _Scaled:
    """A model on scaled columns, missing values at the mean."""

    scaler: StandardScaler
    model: Any

    def predict_proba(self, X: npt.NDArray[Any]) -> npt.NDArray[Any]:
        return self.model.predict_proba(np.nan_to_num(self.scaler.transform(X), nan=0.0))


def spark(folder: Path) -> Any:
    """Spark MLlib's multinomial logistic regression with two local cores and 4 GiB."""
    from pyspark.ml import Pipeline
    from pyspark.ml.classification import LogisticRegression as SparkRegression
    from pyspark.ml.feature import Imputer, VectorAssembler
    from pyspark.ml.feature import StandardScaler as SparkScaler
    from pyspark.sql import SparkSession

    session = SparkSession.builder.master(f"local[{WORKERS}]").config("spark.driver.memory", "4g").getOrCreate()
    rows = session.read.parquet(str(folder))
    names = [c for c in rows.columns if c != "label"]
    filled = [f"{c}_filled" for c in names]
    steps = [
        Imputer(inputCols=names, outputCols=filled),
        VectorAssembler(inputCols=filled, outputCol="raw"),
        SparkScaler(inputCol="raw", outputCol="features", withMean=True),
        SparkRegression(maxIter=100, standardization=False),
    ]
    fitted = Pipeline(stages=steps).fit(rows)
    means = fitted.stages[0].surrogateDF.first()
    scale, model = fitted.stages[2], fitted.stages[3]
    found = _Linear(
        np.array([means[c] for c in names]),
        np.asarray(scale.mean.toArray()),
        np.asarray(scale.std.toArray()),
        model.coefficientMatrix.toArray(),
        model.interceptVector.toArray(),
    )
    session.stop()
    return found


@dataclass(frozen=True)
class _Linear:
    """A softmax model on filled and scaled columns."""

    fill: npt.NDArray[np.float64]
    center: npt.NDArray[np.float64]
    spread: npt.NDArray[np.float64]
    coef: npt.NDArray[np.float64]
    intercept: npt.NDArray[np.float64]

    def predict_proba(self, X: npt.NDArray[Any]) -> npt.NDArray[Any]:
        Z = (np.where(np.isnan(X), self.fill, X) - self.center) / self.spread
        return softmax(Z @ self.coef.T + self.intercept, axis=1)


OTHERS: dict[str, Callable[[Path], Any]] = {"sklearn": in_memory, "sgd": stream, "dask-ml": incremental, "spark": spark}


def other(name: str, folder: Path, rows: int) -> Measured:
    """Run one of the others; meant for a process of its own."""
    X, y = held_out(narrow, min(HELD_OUT_ROWS, max(rows, 20_000)))
    meter = Meter([])
    with warnings.catch_warnings(), meter():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = OTHERS[name](folder)
    loss = float(log_loss(y, model.predict_proba(X.to_numpy(np.float32)), labels=np.arange(len(SHARES))))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    return Measured(rows, name, log_loss=loss, **{**meter.found, "client_mib": peak})


# ---- the whole, and its report -----------------------------------------------------------------------------------


def run(
    data: Path,
    sizes: list[int],
    *,
    table: str = "narrow",
    size: int = 20_000,
    repeats: int = 3,
    against: tuple[str, ...] = (),
    memory: str = "2GiB",
) -> dict[str, Any]:
    """Measure every size; facts for JSON."""
    found: list[Measured] = []
    data.mkdir(parents=True, exist_ok=True)
    with ct.local_cluster(WORKERS, memory_limit=memory) as executor, tempfile.TemporaryDirectory(dir=data) as scratch:
        for rows in sorted(sizes, reverse=True):  # the smaller tables are the first files of the larger
            folder = data / f"{table}-{rows}"
            TABLES[table][0](folder, rows)
            found += ours(folder, rows, table, executor, size, repeats, Path(scratch))
            for name in against:
                with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
                    found.append(pool.submit(other, name, folder, rows).result())
    return {
        "table": table,
        "size": size,
        "workers": WORKERS,
        "machine": f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, Python "
        f"{platform.python_version()}",
        "date": time.strftime("%Y-%m-%d"),
        "slope": slope(found, "build"),
        "measured": [asdict(m) for m in found],
    }


def _typical(found: list[Measured], rows: int, method: str, field: str) -> float:
    values = [getattr(m, field) for m in found if (m.rows, m.method) == (rows, method)]
    return float(statistics.median(values)) if values and values[0] is not None else math.nan


def slope(found: list[Measured], method: str) -> float | None:
    """Growth of the CPU seconds with the rows on log scales: 1 is linear; None for a single size."""
    sizes = sorted({m.rows for m in found})
    if len(sizes) < 2:
        return None
    seconds = [_typical(found, n, method, "cpu_s") for n in sizes]
    return float(np.polyfit(np.log(sizes), np.log(seconds), 1)[0])


def markdown(facts: dict[str, Any]) -> str:
    """Medians as a table; ratios are to the bare scan of the same size."""
    found = [Measured(**m) for m in facts["measured"]]
    names = ["rows", "what", "wall s", "CPU s", "x scan's wall", "x scan's CPU"]
    names += ["workers MiB", "client MiB", "MB read", "log loss"]
    lines = [f"| {' | '.join(names)} |", "|---" * len(names) + "|"]
    for rows, method in dict.fromkeys((m.rows, m.method) for m in sorted(found, key=lambda m: m.rows)):
        wall, cpu, read, loss = (
            _typical(found, rows, method, f) for f in ("wall_s", "cpu_s", "bytes_read", "log_loss")
        )
        runs = [m for m in found if (m.rows, m.method) == (rows, method)]
        workers = ", ".join(str(max(peaks)) for peaks in zip(*(m.workers_mib for m in runs), strict=True)) or "-"
        ratios = [x / _typical(found, rows, "bare scan", f) for x, f in ((wall, "wall_s"), (cpu, "cpu_s"))]
        lines.append(
            f"| {rows:,} | {method} | {wall:.2f} | {cpu:.2f} | {ratios[0]:.1f} | {ratios[1]:.1f} | {workers} "
            f"| {max(m.client_mib for m in runs)} | {read / 1e6:.0f} | {'-' if math.isnan(loss) else f'{loss:.4f}'} |"
        )
    return "\n".join([*lines, "", f"{facts['machine']}; {facts['date']}; medians of the runs of each kind."])


def figure(facts: dict[str, Any], path: Path) -> None:
    """Log-log figure of CPU seconds against rows (needs the extra ``plots``)."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    found = [Measured(**m) for m in facts["measured"]]
    sizes = sorted({m.rows for m in found})
    drawing, axes = plt.subplots(figsize=(6, 4), layout="constrained")
    for method in dict.fromkeys(m.method for m in found):
        axes.loglog(sizes, [_typical(found, n, method, "cpu_s") for n in sizes], marker="o", label=method)
    axes.set(xlabel="rows", ylabel="CPU seconds, all processes", title=f"{facts['table']} table")
    axes.grid(visible=True, which="both", alpha=0.3)
    axes.legend()
    drawing.savefig(path, dpi=150)
    plt.close(drawing)


def write(facts: dict[str, Any], out: Path) -> None:
    """Write JSON, table and figure."""
    out.mkdir(parents=True, exist_ok=True)
    name = f"fifty_million-{facts['table']}"
    (out / f"{name}.json").write_text(json.dumps(facts, indent=2), encoding="utf-8")
    (out / f"{name}.md").write_text(markdown(facts) + "\n", encoding="utf-8")
    figure(facts, out / f"{name}.png")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="folder for the Parquet files; kept for another run")
    parser.add_argument("--rows", nargs="+", type=lambda s: int(float(s)), default=[1_000_000])
    parser.add_argument("--table", choices=list(TABLES), default="narrow")
    parser.add_argument("--size", type=int, default=20_000, help="rows of the tree and of the coreset that is fitted")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--against", nargs="*", choices=list(OTHERS), default=[], help="narrow table only")
    parser.add_argument("--memory", default="2GiB", help="limit of each worker")
    parser.add_argument("--out", type=Path, help="folder for JSON, table and figure")
    a = parser.parse_args()
    if a.against and a.table != "narrow":
        parser.error("--against needs --table narrow: the others take numbers alone")
    facts = run(
        a.data, a.rows, table=a.table, size=a.size, repeats=a.repeats, against=tuple(a.against), memory=a.memory
    )
    print(markdown(facts))
    if a.out is not None:
        write(facts, a.out)


if __name__ == "__main__":
    main()
