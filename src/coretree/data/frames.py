"""DataFrames as data sets: the schema of a pandas frame, and the leaves that cut it, or a Dask one, into work."""

from __future__ import annotations

import hashlib
from typing import Any

import pandas as pd
import pyarrow as pa

from coretree.data.infer import infer
from coretree.data.scan import BYTES_PER_VALUE, Leaf, Scan
from coretree.data.schema import Roles, Schema
from coretree.errors import EmptyDataError, SchemaError

FRAME_PATH = "rows"


def first_row(leaf: Leaf) -> int:
    """Position of a leaf's first row in the frame it was cut from."""
    return int(leaf.path.rpartition("-")[2]) if leaf.path.startswith(FRAME_PATH) else 0


def frame_schema(frame: pd.DataFrame, roles: Roles, where: str) -> tuple[Schema, pa.Schema]:
    """Schema of a pandas DataFrame (an empty one with the right types will do)."""
    columns = [str(c) for c in frame.columns]
    if list(frame.columns) != columns:
        raise SchemaError(
            f"{where}: column names must be text, found {list(frame.columns)[:5]}. "
            "Rename with frame.columns = frame.columns.astype(str)."
        )
    repeated = [c for c in columns if columns.count(c) > 1]
    if repeated:
        raise SchemaError(
            f"{where}: column '{repeated[0]}' occurs {columns.count(repeated[0])} times. "
            "Rename or remove the repeats: columns are matched by name."
        )
    arrow = pa.schema([_field(frame, c, where) for c in columns])
    # an object column without a value has type null; in pandas that is where text lives
    text = {f.name for f in arrow if pa.types.is_null(f.type) and frame[f.name].dtype == object}
    arrow = pa.schema([pa.field(f.name, pa.string()) if f.name in text else f for f in arrow])
    target_range = None
    if roles.target in columns and len(frame) and pd.api.types.is_integer_dtype(frame[roles.target].dtype):
        target_range = (float(frame[roles.target].min()), float(frame[roles.target].max()))
    return infer(arrow, roles, where=where, target_range=target_range), arrow


def _field(frame: pd.DataFrame, column: str, where: str) -> pa.Field:
    try:
        return pa.Schema.from_pandas(frame[[column]], preserve_index=False).field(0)
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise SchemaError(
            f"{where}: column '{column}' mixes types that cannot be stored together ({error}). "
            f"Cast it first, e.g. frame['{column}'] = frame['{column}'].astype(str)."
        ) from None


def scan_frame(frame: pd.DataFrame, roles: Roles, leaf_bytes: int) -> Scan:
    """Plan the leaves of a DataFrame in memory; each one's fingerprint is a hash of its values."""
    where = f"DataFrame of {len(frame):,} rows"
    schema, arrow = frame_schema(frame, roles, where)
    if not len(frame):
        raise EmptyDataError(f"{where}: there is not one row.")
    row_bytes = BYTES_PER_VALUE * len(schema.columns)
    step = max(1, leaf_bytes // row_bytes)
    content = pd.util.hash_pandas_object(frame[list(schema.columns)], index=False).to_numpy()
    leaves = []
    for low in range(0, len(frame), step):
        part = content[low : low + step]
        fingerprint = hashlib.blake2b(part.tobytes(), digest_size=16).hexdigest()
        leaves.append(Leaf(f"{FRAME_PATH}-{low}", (), len(part), len(part) * row_bytes, fingerprint))
    return Scan(where, schema, arrow, tuple(leaves), 0, 0, len(frame), len(frame) * row_bytes)


def scan_dask(frame: Any, token: str, roles: Roles) -> Scan:
    """One leaf per partition; rows and bytes are not known before they are computed, and read 0."""
    # Dask joins small Parquet files into one partition once it knows which columns are needed
    n_partitions = frame.optimize(fuse=False).npartitions if hasattr(frame, "optimize") else frame.npartitions
    where = f"Dask DataFrame of {n_partitions} partitions"
    schema, arrow = frame_schema(
        frame._meta_nonempty.iloc[:0] if hasattr(frame, "_meta_nonempty") else frame._meta, roles, where
    )
    leaves = tuple(Leaf(f"partition-{i:06d}", (), 0, 0, f"{token}-{i}") for i in range(n_partitions))
    return Scan(where, schema, arrow, leaves, 0, 0, 0, 0)
