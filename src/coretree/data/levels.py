"""How raw values become numbers, levels of a category, or class labels: each distinct one is looked at once."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.types as pt

from coretree.data.columns import F64, Level

SMALL_RANGE = 1 << 16


def parse_numbers(text: pd.Series[Any]) -> F64:
    """Texts as numbers; NaN where one is none."""
    return np.asarray(pd.to_numeric(text, errors="coerce"), dtype=np.float64)


def number_level(value: Any) -> Level:
    """A level of a numeric category; NaN where text is none."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return np.nan


def text_level(value: Any) -> Level:
    """A level of a text category; whole numbers without the ``.0`` that pandas gives them beside missing ones."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def label_level(value: Any) -> Level:
    """A class label as it is; types that JSON has no word for become numbers or text."""
    if isinstance(value, Decimal):
        return int(value) if value == int(value) else float(value)
    return value if isinstance(value, str | float | int | bool) else str(value)


def codes_and_values(column: pa.ChunkedArray) -> tuple[npt.NDArray[Any], list[Any]]:
    """Codes of a column, -1 where null, and the distinct values they stand for.

    Examples
    --------
    >>> codes, values = codes_and_values(pa.chunked_array([[9, 7, 9]]))
    >>> codes.tolist(), values
    ([1, 0, 1], [7, 9])
    """
    close = _small_range(column)
    if close is not None:
        return close
    if not pt.is_dictionary(column.type):
        column = column.dictionary_encode()
    array = column.unify_dictionaries().combine_chunks()
    array = array.chunk(0) if isinstance(array, pa.ChunkedArray) else array
    codes = array.indices.cast(pa.int32()).fill_null(-1).to_numpy(zero_copy_only=False)
    return codes, array.dictionary.to_pylist()


def _small_range(column: pa.ChunkedArray) -> tuple[npt.NDArray[np.intp], list[Any]] | None:
    """The same for integers that lie close together, as classes do: they need no hashing. None for other columns."""
    if not pt.is_integer(column.type) or column.null_count or not len(column):
        return None
    values = column.to_numpy()
    least, most = int(values.min()), int(values.max())
    if most - least > SMALL_RANGE or most > np.iinfo(np.int64).max:
        return None
    codes = values.astype(np.int64) - least
    seen = np.flatnonzero(np.bincount(codes))
    table = np.zeros(most - least + 1, np.intp)
    table[seen] = np.arange(len(seen))
    return table.take(codes), (seen + least).tolist()
