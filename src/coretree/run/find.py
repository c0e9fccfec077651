"""Find rows by value or by identity, reading no more columns than the question names."""

from __future__ import annotations

import functools
import operator
import os
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from pyarrow.fs import LocalFileSystem

from coretree.data.clean import clean
from coretree.data.dataset import DaskSource, Dataset, FrameSource, leaf_chunks
from coretree.data.scan import Leaf
from coretree.errors import ConfigError
from coretree.run.frontier import Job
from coretree.run.tasks import Reading


def ids_where(
    leaf: Leaf, reading: Reading, where: Mapping[str, Any], frame: pd.DataFrame | None
) -> npt.NDArray[np.uint64]:
    """Identities of a leaf's rows that have one of the values asked for in every column named, on any side of a split.

    Raises
    ------
    ConfigError
        A column is not there, or a value cannot be one of its type.
    """
    if frame is None:
        leaf = _promising(leaf, where)
        if not leaf.row_groups:
            return np.zeros(0, np.uint64)
    found, plain = [], _plain(reading, tuple(where))
    for chunk in leaf_chunks(leaf, plain.schema, frame):
        mask = np.ones(chunk.table.num_rows, np.bool_)
        for name, wanted in where.items():
            mask &= _matches(chunk.table, name, wanted, chunk.path)
        at = np.flatnonzero(mask)
        if len(at):
            columns = clean(replace(chunk, table=chunk.table.take(at)), plain.schema, plain.clean)
            ids, _ = plain.select(replace(columns, offsets=np.uint64(chunk.offset) + at.astype(np.uint64)))
            found.append(ids)
    return np.concatenate(found) if found else np.zeros(0, np.uint64)


def ids_among(leaf: Leaf, reading: Reading, wanted: Collection[int], frame: pd.DataFrame | None) -> list[int]:
    """Those of some identities that a leaf holds, in order."""
    among = np.fromiter(wanted, np.uint64, len(wanted))
    # places need no column at all, but a chunk has to have one
    plain = _plain(reading, () if reading.schema.id is not None else reading.schema.columns[:1])
    chunks = leaf_chunks(leaf, plain.schema, frame)
    found = [np.intersect1d(plain.select(clean(c, plain.schema, plain.clean))[0], among) for c in chunks]
    return sorted({int(i) for part in found for i in part})


def frames_of(data: Dataset) -> Callable[[Leaf], pd.DataFrame | None]:
    """How the rows of a leaf are had in this process: None where they are read from its file."""
    if isinstance(data.source, FrameSource):
        return data.frame_part
    if isinstance(data.source, DaskSource):
        from coretree.run.partitions import PartitionsHere

        parts = PartitionsHere(data.source.frame)
        return lambda leaf: parts(Job("find", leaf))
    return lambda _: None


def _plain(reading: Reading, carried: tuple[str, ...]) -> Reading:
    """The same rows of both sides of a split, by some columns and by what identifies them."""
    roles: dict[str, Any] = dict.fromkeys(("target", "task", "time", "group", "weight"))
    return Reading(replace(reading.schema, features=(), carried=carried, **roles), reading.clean, None)


def _promising(leaf: Leaf, where: Mapping[str, Any]) -> Leaf:
    """The row groups of a leaf that may hold such rows by the statistics in its file's footer."""
    path, asked = os.path.join(leaf.root, leaf.path), []
    try:
        fragment = ds.ParquetFileFormat().make_fragment(path, LocalFileSystem(), row_groups=list(leaf.row_groups))
        for name, wanted in where.items():
            values = pa.array(_listed(wanted)).cast(fragment.physical_schema.field(name).type)
            if pa.types.is_floating(values.type) and pc.any(pc.is_nan(values)).as_py():
                return leaf  # statistics do not count NaN
            asked.append(pc.field(name).isin(values))
        groups = fragment.subset(functools.reduce(operator.and_, asked)).row_groups
    except (pa.ArrowException, LookupError, OSError):
        return leaf  # reading it says what is wrong
    return replace(leaf, row_groups=tuple(group.id for group in groups))


def _listed(wanted: Any) -> list[Any]:
    return list(wanted) if isinstance(wanted, list | tuple | set | frozenset) else [wanted]


def _matches(table: pa.Table, name: str, wanted: Any, path: str) -> npt.NDArray[np.bool_]:
    if name not in table.column_names:
        raise ConfigError(f"{path}: where names '{name}', but there is no such column.")
    column = table.column(name)
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    values = _listed(wanted)
    try:
        known = pa.array(values).cast(column.type)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError) as error:
        raise ConfigError(
            f"{path}: column '{name}' holds {column.type}, which {values[0]!r} is not ({error})."
        ) from None
    return np.asarray(pc.is_in(column, value_set=known).to_numpy(zero_copy_only=False), dtype=np.bool_)
