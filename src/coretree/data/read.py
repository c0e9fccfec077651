"""One leaf at a time becomes Arrow chunks of bounded size, with every page checksum verified."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from coretree.data.footers import folder_value
from coretree.data.scan import Leaf
from coretree.data.schema import Schema, is_text
from coretree.errors import DataChangedError, FileError, SchemaError

# A row group larger than this many decoded bytes is read in slices instead of whole.
WHOLE_GROUP_BYTES = 96 << 20
SLICE_ROWS = 1 << 16
FILE_BUFFER = 1 << 20


@dataclass(frozen=True)
class Chunk:
    """Some consecutive rows of one leaf: the columns of the schema, and where the rows come from.

    ``(path, row_group, offset + i)`` identifies row i for good: it does not depend on the chunk's size.
    """

    table: pa.Table
    path: str
    row_group: int
    offset: int


def read_leaf(leaf: Leaf, schema: Schema) -> Iterator[Chunk]:
    """Yield the rows of a Parquet leaf, one row group at a time, or in slices where a row group is very large.

    Raises
    ------
    DataChangedError
        The file is no longer the one that was planned (size or modification time differ).
    FileError
        A page is damaged or its checksum is wrong; the file and row group are named.
    """
    full = os.path.join(leaf.root, leaf.path)
    check_unchanged(leaf, full)
    fixed = {key: value for key, value in leaf.partition if key in schema.columns}
    mean_row = leaf.n_bytes / max(1, leaf.n_rows)
    group = 0
    try:
        with _open(full, schema) as file:
            there = set(file.schema_arrow.names)  # once: each call converts the whole schema
            stored = [c for c in schema.columns if c in there]
            for group in leaf.row_groups:
                offset = 0
                for table in _tables(file, group, stored, mean_row):
                    yield Chunk(_with_partition(table, fixed, schema), leaf.path, group, offset)
                    offset += table.num_rows
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, FileError):
            raise
        check_unchanged(leaf, full)  # a file that is replaced while it is read looks damaged
        raise FileError(
            f"{full}: row group {group} cannot be read ({str(error).splitlines()[0]}). "
            "The file is damaged: restore it, or take it out of the dataset."
        ) from None


def _open(full: str, schema: Schema) -> pq.ParquetFile:
    """The file with its text columns as dictionaries; the footer is parsed once."""
    metadata = pq.read_metadata(full)
    text = [f.name for f in metadata.schema.to_arrow_schema() if is_text(f.type) and f.name in schema.columns]
    return pq.ParquetFile(
        full,
        metadata=metadata,
        read_dictionary=text,
        pre_buffer=False,
        buffer_size=FILE_BUFFER,
        page_checksum_verification=True,
    )


def check_unchanged(leaf: Leaf, full: str) -> None:
    """Raise DataChangedError unless the file's size and modification time are those of the scan."""
    try:
        stat = os.stat(full)
    except FileNotFoundError:
        raise DataChangedError(
            f"{full}: the file was deleted after it was planned. Run the same command again."
        ) from None
    if (stat.st_size, stat.st_mtime_ns) != (leaf.size, leaf.mtime_ns):
        raise DataChangedError(
            f"{full}: the file was rewritten after it was planned ({leaf.size:,} bytes then, {stat.st_size:,} now). "
            "Run the same command again: it will plan with the new file."
        )


def frame_chunks(frame: pd.DataFrame, schema: Schema, *, path: str, offset: int = 0) -> Iterator[Chunk]:
    """Yield the rows of one pandas partition, in slices of bounded size; ``offset`` numbers its first row."""
    repeated = [c for c in schema.columns if list(frame.columns).count(c) > 1]
    if repeated:
        raise SchemaError(f"{path}: column '{repeated[0]}' occurs more than once; rename or remove the repeats.")
    missing = [c for c in schema.columns if c not in frame.columns]
    if missing:
        raise SchemaError(f"{path}: column '{missing[0]}' is missing; the partition has {list(frame.columns)[:20]}.")
    wanted = frame[list(schema.columns)]
    for low in range(0, len(wanted), SLICE_ROWS):
        part = wanted.iloc[low : low + SLICE_ROWS]
        try:
            table = pa.Table.from_pandas(part, preserve_index=False)
        except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
            said = ", ".join(str(a) for a in error.args)  # Arrow's second argument names the column
            raise SchemaError(
                f"{path}: a column mixes types that cannot be stored together ({said}). Cast it first."
            ) from None
        yield Chunk(table, path, 0, offset + low)


def _tables(file: pq.ParquetFile, group: int, columns: list[str], mean_row: float) -> Iterator[pa.Table]:
    if file.metadata.row_group(group).num_rows * mean_row <= WHOLE_GROUP_BYTES:
        yield file.read_row_group(group, columns=columns, use_threads=False)
        return
    for batch in file.iter_batches(SLICE_ROWS, row_groups=[group], columns=columns, use_threads=False):
        yield pa.Table.from_batches([batch])


def _with_partition(table: pa.Table, fixed: dict[str, str], schema: Schema) -> pa.Table:
    """Add the columns that a file's folder names give."""
    text = {f.name for f in schema.features if f.is_text}
    for key, value in fixed.items():
        if key not in table.column_names:
            found = folder_value(value)
            # the same folder level may hold numbers in one place and words in another
            scalar = pa.scalar(value if key in text and found is not None else found)
            table = table.append_column(key, pa.repeat(scalar, table.num_rows))
    return table
