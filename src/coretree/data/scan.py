"""What is there, from Parquet footers alone: one schema, every row group, and the leaves that the passes will read."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.types as pt

from coretree.data.files import PathLike, find_files
from coretree.data.footers import FileInfo, read_footers
from coretree.data.infer import infer
from coretree.data.schema import Roles, Schema, common_type, unknown_column
from coretree.errors import EmptyDataError, SchemaError

# A row's own decoded numbers (half of it where all are float32), plus what text needs beyond its dictionary codes.
BYTES_PER_VALUE = 8


@dataclass(frozen=True)
class RowGroup:
    """Rows and decoded bytes of one row group, for the columns that will be read."""

    n_rows: int
    n_bytes: int


@dataclass(frozen=True)
class Leaf:
    """The unit of work: a run of row groups of one file, or one partition of a Dask or in-memory frame.

    ``path`` is relative to the dataset, so it identifies the rows wherever the dataset lies; ``fingerprint`` says
    whether a stored node is still valid. ``erased`` are identities of rows that are to be left out.
    """

    path: str
    row_groups: tuple[int, ...]
    n_rows: int
    n_bytes: int
    fingerprint: str
    root: str = ""
    size: int = 0
    mtime_ns: int = 0
    partition: tuple[tuple[str, str], ...] = ()
    erased: tuple[int, ...] = ()

    @property
    def identity(self) -> str:
        """Stable name of the leaf's place in the dataset, whatever its content."""
        return f"{self.path}#{self.row_groups[0]}" if self.row_groups else self.path


@dataclass(frozen=True)
class Scan:
    """Result of looking at every footer."""

    where: str
    schema: Schema
    arrow_schema: pa.Schema
    leaves: tuple[Leaf, ...]
    n_files: int
    n_row_groups: int
    n_rows: int
    n_bytes: int
    skipped: tuple[str, ...] = ()
    bad_files: tuple[tuple[str, str], ...] = ()


def scan_parquet(
    where: PathLike | Sequence[PathLike],
    roles: Roles,
    *,
    leaf_bytes: int,
    hive: bool = True,
    bad_files: Literal["fail", "skip"] = "fail",
) -> Scan:
    """Read every footer and plan the leaves; no data page is touched.

    Parameters
    ----------
    where : path, glob, folder, or list of them
        The dataset.
    roles : Roles
        What the columns are for.
    leaf_bytes : int
        Target size of a leaf, in decoded bytes; a leaf holds at least one whole row group.
    hive : bool
        Read ``key=value`` folders as columns.
    bad_files : {"fail", "skip"}
        What to do with a file that is not readable Parquet; skipped files are listed in the result.

    Raises
    ------
    EmptyDataError, FileError, SchemaError
        No file or row; an unreadable file (named); files that disagree about a column (file and column named).
    """
    refs, hidden = find_files(where, hive=hive)
    name = os.fspath(where) if isinstance(where, str | os.PathLike) else f"{len(refs)} files in {refs[0].root}"
    files, bad = read_footers(refs, bad_files)
    if not files:
        raise EmptyDataError(f"{name}: none of the {len(bad)} files could be read; first: {bad[0][0]}: {bad[0][1]}")
    arrow = unify(files, roles, name)
    schema = infer(arrow, roles, where=name, target_range=_integer_range(files, roles.target))
    leaves = tuple(leaf for file in files for leaf in file_leaves(file, schema, leaf_bytes))
    n_rows = sum(leaf.n_rows for leaf in leaves)
    if n_rows == 0:
        raise EmptyDataError(f"{name}: {len(files)} files, but not one row.")
    return Scan(
        where=name,
        schema=schema,
        arrow_schema=arrow,
        leaves=leaves,
        n_files=len(files),
        n_row_groups=sum(f.metadata.num_row_groups for f in files),
        n_rows=n_rows,
        n_bytes=sum(leaf.n_bytes for leaf in leaves),
        skipped=tuple(hidden),
        bad_files=tuple(bad),
    )


def unify(files: Sequence[FileInfo], roles: Roles, where: str) -> pa.Schema:
    """One Arrow schema for all files, or an error that names the file and the column that disagree.

    Every column must be in every file, unless the user drops it; numbers widen, nulls adapt, dictionaries decode.
    """
    first: dict[int, FileInfo] = {}
    for file in files:
        first.setdefault(id(file.schema), file)
    kinds = list(first.values())
    for file in kinds:
        repeated = [n for n, k in Counter(file.schema.names).items() if k > 1]
        if repeated:
            raise SchemaError(
                f"{file.ref.full}: column '{repeated[0]}' occurs {file.schema.names.count(repeated[0])} times. "
                "Rename or remove the repeats: columns are matched by name."
            )
    holders = Counter(n for f in files for n in f.schema.names)
    names = list(dict.fromkeys(n for f in kinds for n in f.schema.names if n not in roles.drop))
    for name in roles.named:
        if name not in holders:
            raise unknown_column(name, holders, where=where, role=roles.role_of(name))
    fields = []
    for name in names:
        if holders[name] < len(files):
            lacking = next(f for f in files if name not in f.schema.names)
            raise SchemaError(
                f"{lacking.ref.full}: column '{name}' is missing, but {holders[name]} of {len(files)} files have it. "
                f'Add it (nulls are fine), or leave it out everywhere with drop = ["{name}"].'
            )
        fields.append(_unify_column(name, kinds, files))
    dropped = [
        pa.field(n, next(f for f in files if n in f.schema.names).schema.field(n).type)
        for n in roles.drop
        if n in holders
    ]
    return pa.schema([*fields, *dropped])


def _unify_column(name: str, kinds: Sequence[FileInfo], files: Sequence[FileInfo]) -> pa.Field:
    types = [f.schema.field(name).type for f in kinds]
    found = common_type(types)
    if found is not None:
        return pa.field(name, found)
    if len(set(types)) == 1:
        return pa.field(name, types[0])
    if all(name in dict(f.ref.partition) for f in files):
        return pa.field(name, pa.string())  # folder values: numbers in one place, words in another
    types = [f.schema.field(name).type for f in files]
    usual, n = Counter(types).most_common(1)[0]
    odd = next(f for f, t in zip(files, types, strict=True) if t != usual)
    raise SchemaError(
        f"{odd.ref.full}: column '{name}' is {odd.schema.field(name).type}, but {usual} in {n} of {len(files)} files "
        f"({len(files) - n} differ, first shown). Rewrite that file with one type, "
        f'or leave the column out with drop = ["{name}"].'
    )


def file_leaves(file: FileInfo, schema: Schema, leaf_bytes: int) -> list[Leaf]:
    """Runs of whole row groups near ``leaf_bytes`` decoded; groups without rows are left out."""
    leaves: list[Leaf] = []
    run: list[int] = []
    rows = size = 0
    empty = Leaf(file.ref.path, (), 0, 0, file.fingerprint, file.ref.root, file.size, file.mtime_ns, file.ref.partition)

    def close() -> None:
        nonlocal rows, size
        if rows:
            leaves.append(replace(empty, row_groups=tuple(run), n_rows=rows, n_bytes=size))
        run.clear()
        rows = size = 0

    described, wanted = file.metadata.schema, set(schema.columns)
    columns = [described.column(i) for i in range(len(described))]
    text = [i for i, c in enumerate(columns) if c.physical_type == "BYTE_ARRAY" and c.path in wanted]
    row_bytes = BYTES_PER_VALUE * len(wanted)
    if schema.number_dtype == "float32":
        row_bytes -= BYTES_PER_VALUE // 2 * len(schema.numbers)
    for g in range(file.metadata.num_row_groups):
        group = decoded(file.metadata.row_group(g), row_bytes, text)
        if rows and size + group.n_bytes > leaf_bytes:
            close()
        if group.n_rows:
            run.append(g)
            rows, size = rows + group.n_rows, size + group.n_bytes
    close()
    return leaves


def decoded(group: pq.RowGroupMetaData, row_bytes: int, text: Sequence[int]) -> RowGroup:
    """Decoded size of one row group: so many bytes a row, and text columns as the file stores them uncompressed."""
    size = row_bytes * group.num_rows + sum(group.column(i).total_uncompressed_size for i in text)
    return RowGroup(group.num_rows, size)


def _integer_range(files: Sequence[FileInfo], target: str | None) -> tuple[float, float] | None:
    """Smallest and largest value of an integer column from the footers' statistics, None where a file has none."""
    if target is None or not all(
        target in f.schema.names and pt.is_integer(f.schema.field(target).type) for f in files
    ):
        return None
    lows, highs = [], []
    for file in files:
        paths = {file.metadata.schema.column(i).path: i for i in range(file.metadata.num_columns)}
        if target not in paths:
            return None
        for g in range(file.metadata.num_row_groups):
            statistics = file.metadata.row_group(g).column(paths[target]).statistics
            if statistics is None or not statistics.has_min_max:
                return None
            lows.append(statistics.min)
            highs.append(statistics.max)
    return (min(lows), max(highs)) if lows else None
