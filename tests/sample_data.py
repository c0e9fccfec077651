"""Small data sets for tests: frames with every kind of trouble, written as Parquet, and the chunks they give."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from coretree.data.clean import CleanRules, clean
from coretree.data.columns import Columns
from coretree.data.frames import frame_schema
from coretree.data.infer import infer
from coretree.data.prepare import Preparation, PrepareRules, freeze
from coretree.data.profile import Profile, merge_profiles, numeric_block, profile
from coretree.data.read import Chunk, read_leaf
from coretree.data.scan import Scan, scan_parquet
from coretree.data.schema import Roles, Schema


def mixed_frame(n: int = 2000, seed: int = 0) -> pd.DataFrame:
    """Every kind of column, with missing cells, an infinity, rare levels and a class target ``y``."""
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "a": rng.normal(10, 3, n),
            "b": rng.integers(0, 9, n).astype("float32"),
            "f": rng.random(n) < 0.3,
            "c": rng.choice(["x", "y", "z", "rare", "q q"], n, p=[0.5, 0.3, 0.149, 0.001, 0.05]),
            "k": rng.choice([1, 2, 5, 77], n, p=[0.5, 0.3, 0.199, 0.001]),
            "t": pd.date_range("2013-01-01", periods=n, freq="37min"),
            "y": rng.integers(0, 2, n),
        }
    )
    frame["k"] = frame["k"].astype("Int64")
    frame.loc[::7, "a"] = np.nan
    frame.loc[3, "a"] = np.inf
    frame.loc[::11, "c"] = None
    frame.loc[5, "t"] = pd.NaT
    frame.loc[::13, "k"] = pd.NA
    return frame


MIXED = Roles(target="y", categorical=("k",))


def write(folder: Path, *frames: pd.DataFrame | pa.Table | dict[str, Any], **options: Any) -> Path:
    """Write ``part.<i>.parquet`` files and return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for i, frame in enumerate(frames):
        if isinstance(frame, pd.DataFrame):
            table = pa.Table.from_pandas(frame, preserve_index=False)
        else:
            table = frame if isinstance(frame, pa.Table) else pa.table(frame)
        pq.write_table(table, folder / f"part.{i}.parquet", **options)
    return folder


def scanned(folder: Any, roles: Roles | None = None, leaf_bytes: int = 1 << 16, **options: Any) -> Scan:
    """Footers of a folder, with small leaves."""
    return scan_parquet(folder, roles or Roles(), leaf_bytes=leaf_bytes, **options)


def tables(scan: Scan) -> list[pa.Table]:
    """Every chunk of every leaf, in order."""
    return [chunk.table for leaf in scan.leaves for chunk in read_leaf(leaf, scan.schema)]


def cleaned(
    columns: dict[str, Any] | pa.Table, roles: Roles | None = None, rules: CleanRules | None = None, **schema: Any
) -> Columns:
    """One chunk, cleaned under the schema that its own types give."""
    table = columns if isinstance(columns, pa.Table) else pa.table(columns)
    found = schema.get("schema") or infer(table.schema, roles or Roles(), where="table")
    return clean(Chunk(table, "part.0.parquet", 0, 0), found, rules or CleanRules())


def frame_columns(frame: pd.DataFrame, roles: Roles, rules: CleanRules | None = None) -> tuple[Schema, Columns]:
    """A pandas frame as one cleaned chunk."""
    schema, _ = frame_schema(frame, roles, "frame")
    table = pa.Table.from_pandas(frame[list(schema.columns)], preserve_index=False)
    return schema, clean(Chunk(table, "rows", 0, 0), schema, rules or CleanRules())


def profiled(parts: Sequence[Columns], rules: PrepareRules | None = None, *, class_moments: bool = False) -> Profile:
    """Pass 1 over cleaned chunks."""
    rules = rules or PrepareRules()
    options = {"exact_quantiles": rules.exact_quantiles, "numeric_frequent": rules.numeric_frequent}
    options["class_moments"] = class_moments
    return merge_profiles([profile(part, numeric_block(part), **options) for part in parts])


def prepared(frame: pd.DataFrame, roles: Roles, rules: PrepareRules | None = None) -> tuple[Preparation, Columns]:
    """A frame, cleaned and frozen."""
    rules = rules or PrepareRules()
    schema, columns = frame_columns(frame, roles)
    return freeze(profiled([columns], rules), schema, rules), columns


def cut(columns: Columns, low: int, high: int) -> Columns:
    """Some consecutive rows, as a chunk of their own would have been cleaned."""
    place = np.arange(len(columns))
    return columns.take((place >= low) & (place < high))
