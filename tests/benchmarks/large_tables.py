"""Tables for the speed benchmarks: file i depends on i and its rows alone, so tables of any length share files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

FILE_ROWS, GROUP_ROWS = 500_000, 125_000
N_FEATURES = 20
SHARES = np.array([0.30, 0.22, 0.16, 0.11, 0.08, 0.06, 0.04, 0.02, 0.008, 0.002])
_fixed = np.random.default_rng(7)
_INFORMATIVE = np.arange(N_FEATURES) < 12
COEF = (_fixed.normal(size=(N_FEATURES, len(SHARES))) * _INFORMATIVE[:, None] * 0.7).astype(np.float32)
SCALE = np.exp(_fixed.normal(size=N_FEATURES) * 1.5).astype(np.float32)
OFFSET = (_fixed.normal(size=N_FEATURES) * 10).astype(np.float32)
HELD_OUT = 1_000_000  # number of the file that nobody trains on

WIDE_NUMBERS, WIDE_TEXTS, WIDE_GROUP_ROWS = 180, 20, 50_000


def ten_classes(i: int, rows: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int8]]:
    """Features (rows, 20) with NaN for missing values, and labels of ten classes, 30 % to 0.2 % before the noise.

    Labels follow a softmax model (Gumbel noise) of the first 12 features. Three features are heavy-tailed (t with 3
    degrees of freedom), two correlated, four miss 2 % of their values; scales lie over several decades.
    """
    rng = np.random.default_rng([11, i])
    Z = rng.standard_normal((rows, N_FEATURES), dtype=np.float32)
    Z[:, :3] *= (1 / np.sqrt(rng.chisquare(3, (rows, 1)) / 3)).astype(np.float32)
    Z[:, 5] = 0.8 * Z[:, 4] + 0.6 * Z[:, 5]
    logits = Z @ COEF + np.log(SHARES).astype(np.float32)
    y = (logits + rng.gumbel(size=logits.shape)).argmax(axis=1).astype(np.int8)
    X = Z * SCALE + OFFSET
    X[:, 8:12][rng.random((rows, 4)) < 0.02] = np.nan
    return X, y


def narrow(i: int, rows: int) -> dict[str, Any]:
    """Columns of file i of the ten-class table."""
    X, y = ten_classes(i, rows)
    return {f"x{j:02d}": pa.array(X[:, j], from_pandas=True) for j in range(N_FEATURES)} | {"label": pa.array(y)}


def wide(i: int, rows: int) -> dict[str, Any]:
    """200 columns: 180 float32 (a fifth with 5 % missing), 20 texts of 3 to 60 skewed levels; a 10 % binary target."""
    rng = np.random.default_rng([13, i])
    X = rng.standard_normal((WIDE_NUMBERS, rows), dtype=np.float32)
    z = X[:10].sum(axis=0) * 0.4 - 3.0
    columns: dict[str, Any] = {}
    for j in range(WIDE_TEXTS):
        n_levels = int(np.geomspace(3, 60, WIDE_TEXTS)[j])
        codes = np.minimum(rng.geometric(min(0.5, 6 / n_levels), rows) - 1, n_levels - 1)
        z = z + 0.3 * np.sin(codes)
        levels = pa.array([f"level {k}" for k in range(n_levels)])
        absent = rng.random(rows) < (0.03 if j % 4 == 0 else 0.0)
        coded = pa.DictionaryArray.from_arrays(pa.array(codes.astype(np.int32), mask=absent), levels)
        columns[f"s{j:02d}"] = coded.cast(pa.string())
    for j in range(WIDE_NUMBERS):
        if j % 5 == 0:
            X[j][rng.random(rows) < 0.05] = np.nan
        columns[f"x{j:03d}"] = pa.array(X[j], from_pandas=True)
    columns["label"] = pa.array((rng.logistic(size=rows) < z).astype(np.int8))
    return columns


def write_table(
    folder: Path, rows: int, columns: Callable[[int, int], dict[str, Any]], *, file_rows: int, group_rows: int
) -> None:
    """Write files until so many rows are there, and take away what a longer table left."""
    folder.mkdir(parents=True, exist_ok=True)
    wanted = {
        f"part-{i:04d}.parquet": (i, min(file_rows, rows - low)) for i, low in enumerate(range(0, rows, file_rows))
    }
    for path in folder.glob("part-*.parquet"):
        if path.name not in wanted:
            path.unlink()
    for name, (i, n) in wanted.items():
        path = folder / name
        if path.exists() and pq.read_metadata(path).num_rows == n:
            continue
        table = pa.table(columns(i, n))
        text = [f.name for f in table.schema if not pa.types.is_floating(f.type)]
        partial = path.with_suffix(".partial")
        pq.write_table(table, partial, row_group_size=group_rows, compression="snappy", use_dictionary=text)
        partial.rename(path)


def write_narrow(folder: Path, rows: int) -> None:
    """Write the ten-class table."""
    write_table(folder, rows, narrow, file_rows=FILE_ROWS, group_rows=GROUP_ROWS)


def write_wide(folder: Path, rows: int) -> None:
    """Write the wide, mixed table."""
    write_table(folder, rows, wide, file_rows=2 * WIDE_GROUP_ROWS, group_rows=WIDE_GROUP_ROWS)
