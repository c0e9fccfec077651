"""Data sets for whole runs: files with categories, missing cells, weights and dates, made from a seed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from coretree.data.dataset import Dataset
from coretree.tree.coresets import Coreset


def sales(n: int, seed: int = 0) -> pd.DataFrame:
    """Three numeric columns (one with holes), a category with holes, a weight, a group, a class and a quantity."""
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "a": rng.normal(size=n),
            "b": rng.lognormal(size=n),
            "c": rng.normal(5, 2, size=n),
            "kind": rng.choice(["red", "green", "blue", "grey"], n, p=[0.5, 0.3, 0.19, 0.01]),
            "weight": rng.integers(1, 4, n).astype(float),
            "group": rng.integers(0, n // 20 + 1, n),
            "number": np.arange(n),
        }
    )
    score = frame["a"] - 0.5 * frame["b"] + 0.3 * (frame["c"] - 5) + (frame["kind"] == "red")
    frame["sold"] = np.where(score + rng.logistic(size=n) > 0, "yes", "no")
    frame["price"] = 3 * score + rng.normal(size=n)
    frame.loc[rng.random(n) < 0.05, "c"] = np.nan
    frame.loc[rng.random(n) < 0.05, "kind"] = None
    return frame


def write_files(folder: Path, frame: pd.DataFrame, files: int, group_rows: int = 500) -> Path:
    """Cut a frame into Parquet files of several row groups."""
    folder.mkdir(parents=True, exist_ok=True)
    for i, index in enumerate(np.array_split(np.arange(len(frame)), files)):
        table = pa.Table.from_pandas(frame.iloc[index], preserve_index=False)
        pq.write_table(table, folder / f"part-{i}.parquet", row_group_size=group_rows, write_page_checksum=True)
    return folder


DROP = {"sold": ["price", "number", "group"], "price": ["sold", "number", "group"]}


def opened(folder: Any, target: str = "sold", **options: Any) -> Dataset:
    """The files as a data set with weights; leaves of one or two row groups."""
    options = {"weight": "weight", "leaf_bytes": 60_000, "drop": DROP.get(target, []), **options}
    return Dataset.from_parquet(folder, target=target, **options)


def same(a: Coreset, b: Coreset) -> bool:
    """Whether two coresets agree bit for bit."""
    return (
        a.X.equals(b.X)
        and a.y.equals(b.y)
        and a.sample_weight.tobytes() == b.sample_weight.tobytes()
        and a.ids.tobytes() == b.ids.tobytes()
        and a.n_rows == b.n_rows
    )


def floats(values: Any) -> npt.NDArray[np.float64]:
    """Anything as an array of float64."""
    return np.asarray(values, dtype=np.float64)
