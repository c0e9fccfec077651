"""Find rows by value: their identities, from the columns that the question names alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from coretree.data.clean import clean
from coretree.data.dataset import leaf_chunks
from coretree.data.scan import Leaf
from coretree.errors import ConfigError
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
    plain = replace(
        reading.schema, features=(), target=None, task=None, time=None, group=None, weight=None, carried=tuple(where)
    )
    found = []
    for chunk in leaf_chunks(leaf, plain, frame):
        mask = np.ones(chunk.table.num_rows, np.bool_)
        for name, wanted in where.items():
            mask &= _matches(chunk.table, name, wanted, chunk.path)
        if not mask.any():
            continue
        columns = clean(chunk, plain, reading.clean)
        ids, _ = Reading(plain, reading.clean, None).select(columns)
        found.append(ids[mask[(columns.offsets - np.uint64(chunk.offset)).astype(np.intp)]])
    return np.concatenate(found) if found else np.zeros(0, np.uint64)


def _matches(table: pa.Table, name: str, wanted: Any, path: str) -> npt.NDArray[np.bool_]:
    if name not in table.column_names:
        raise ConfigError(f"{path}: where names '{name}', but there is no such column.")
    column = table.column(name)
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    values = list(wanted) if isinstance(wanted, list | tuple | set | frozenset) else [wanted]
    try:
        known = pa.array(values).cast(column.type)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError) as error:
        raise ConfigError(
            f"{path}: column '{name}' holds {column.type}, which {values[0]!r} is not ({error})."
        ) from None
    return np.asarray(pc.is_in(column, value_set=known).to_numpy(zero_copy_only=False), dtype=np.bool_)
