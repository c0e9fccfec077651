"""The frozen preparation applied in plain numpy: from clean rows to the design matrix that scores and pilots see."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from coretree.data.clean import CleanRules, clean
from coretree.data.columns import Coded, Columns, Level
from coretree.data.prepare import CategoryPlan, Preparation
from coretree.data.read import Chunk, frame_chunks
from coretree.data.schema import Schema
from coretree.data.timestamps import datetime_parts
from coretree.errors import TargetError

I32 = npt.NDArray[np.int32]
Blocks = Mapping[str, npt.NDArray[Any]]
DesignType = Literal["float32", "float64"]
NEGLIGIBLE = 2.0**-26  # in spreads: below what float32 can tell of a typical cell


def global_codes(columns: Columns, preparation: Preparation) -> I32:
    """Category codes under the frozen levels: (n, q) int32, column-major.

    -1 is missing, the number of levels stands for all others.
    """
    out = np.empty((len(preparation.categories), len(columns)), dtype=np.int32).T
    for j, (coded, plan) in enumerate(zip(columns.categories, preparation.categories, strict=True)):
        levels: dict[Level, int] = {level: i for i, level in enumerate(plan.levels)}
        out[:, j] = coded.recode(levels, len(plan.levels))
    return out


def raw_codes(rows: Blocks, preparation: Preparation) -> I32:
    """The same for rows whose categories are kept by value, in arrays ``category0``, ``category1`` and so on."""
    out = np.empty((len(rows["numbers"]), len(preparation.categories)), dtype=np.int32)
    for j, column in enumerate(preparation.categories):
        values = rows[f"category{j}"]
        place = pd.Index(np.array(column.levels, values.dtype)).get_indexer(values)
        out[:, j] = np.where(pd.isna(values), -1, np.where(place < 0, len(column.levels), place))
    return out


def class_codes(target: Coded, classes: tuple[Level, ...], where: str) -> npt.NDArray[np.int64]:
    """Class numbers under the frozen list of classes.

    Raises
    ------
    TargetError
        A class that pass 1 did not see (the data changed, or held-out rows hold a class that no training row has).
    """
    place: dict[Level, int] = {label: i for i, label in enumerate(classes)}
    codes = target.recode(place, len(classes)).astype(np.int64)
    unseen = codes == len(classes)
    if unseen.any():
        label = target.levels[int(target.codes[int(np.argmax(unseen))])]
        raise TargetError(
            f"{where}: {int(unseen.sum())} rows have a class that no training row has (first: {label!r}); "
            f"the model knows {list(classes)[:10]}. Leave those rows out, or train again with rows of that class."
        )
    return codes


def design(blocks: Blocks, preparation: Preparation, dtype: DesignType = "float64") -> npt.NDArray[Any]:
    """Design matrix of clean rows: the constant, then the features in the order of the scikit-learn pipeline.

    Parameters
    ----------
    blocks : mapping
        "numbers" (n, p), "times" (n, t) and "codes" (n, q) under the frozen levels, as a coreset stores its rows.
    preparation : Preparation
    dtype : {"float64", "float32"}
        float32 halves the cost of scoring; a fit should use float64.

    Returns
    -------
    (n, 1 + n_features), column-major, finite.
    """
    numbers, times, codes = blocks["numbers"], blocks["times"], blocks["codes"]
    n = len(numbers)
    out = np.empty((1 + preparation.n_features, n), dtype=dtype).T
    out[:, 0] = 1
    p = numbers.shape[1]
    place, at = _places(preparation, p)
    for j in range(p):
        _number(out, j, numbers[:, j], preparation, place)
    for t in range(times.shape[1]):
        parts = datetime_parts(np.asarray(times[:, t], dtype=np.float64))
        for i in range(parts.shape[1]):
            _number(out, p + 3 * t + i, parts[:, i], preparation, place)
    for j, plan in enumerate(preparation.encoded):
        at = _category(out, at, codes[:, j], plan, preparation.rules.categorical == "onehot")
    return out


def _places(preparation: Preparation, p: int) -> tuple[dict[tuple[int, bool], int], int]:
    """Column of each (numeric feature, is the indicator), and the next free one.

    As scikit-learn lays them out: the p columns, their indicators, then the parts of times, their indicators.
    """
    order: list[tuple[int, bool]] = []
    for block in (range(p), range(p, len(preparation.numeric))):
        order += [(j, False) for j in block] + [(j, True) for j in preparation.flagged if j in block]
    return {key: 1 + i for i, key in enumerate(order)}, 1 + len(order)


def _number(
    out: npt.NDArray[Any], j: int, x: npt.NDArray[Any], prep: Preparation, place: dict[tuple[int, bool], int]
) -> None:
    column = out[:, place[j, False]]
    center, spread = prep.center[j], prep.spread[j]
    if x.dtype == out.dtype:
        # in the type of the data, where the difference of near numbers is exact, then what rounding the centre lost
        rounded = x.dtype.type(center)
        np.subtract(x, rounded, out=column)
        if abs(float(rounded) - float(center)) > NEGLIGIBLE * spread:
            column += x.dtype.type(float(rounded) - float(center))
    else:
        np.subtract(x, center, out=column, casting="same_kind")
    column /= out.dtype.type(spread)  # a float64 would take a float32 column through float64 and back
    if np.isfinite(prep.low[j]) or np.isfinite(prep.high[j]):
        np.clip(column, (prep.low[j] - center) / spread, (prep.high[j] - center) / spread, out=column)
    whole = not len(column) or not np.isnan(column.min())  # the minimum carries a NaN along, without a mask
    if whole and (j, True) not in place:
        return
    missing = np.isnan(x)
    if not whole:
        column[missing] = (prep.fill[j] - center) / spread
    if (j, True) in place:
        i = prep.flagged.index(j)
        there, absent = (np.array([0.0, 1.0]) - prep.flag_center[i]) / prep.flag_spread[i]
        flag = out[:, place[j, True]]
        flag[:] = there
        flag[missing] = absent


def _category(out: npt.NDArray[Any], at: int, codes: npt.NDArray[Any], plan: CategoryPlan, onehot: bool) -> int:
    """Write one encoded feature at column ``at``; return the next free column."""
    n_levels = len(plan.levels)
    for_missing = plan.levels.index(plan.missing) if plan.missing in plan.levels else n_levels
    place = np.where(codes < 0, for_missing, codes)
    if onehot:
        if n_levels < 256:
            place = place.astype(np.uint8)  # compared with every level: narrow codes are faster
        for level in range(n_levels + 1):  # a column at a time: scattered ones would cost three times as much
            out[:, at + level] = place == level
        return at + n_levels + 1
    out[:, at] = np.where(place == n_levels, -1, place)
    return at + 1


def decode(blocks: Blocks, preparation: Preparation) -> pd.DataFrame:
    """Clean rows as a DataFrame with the dataset's own columns, as a user (or a Pipeline) wants them.

    Pooled levels read "(other)" (for numeric levels: the largest kept level plus one), missing ones are missing.
    """
    schema, codes = preparation.schema, blocks["codes"]

    def category(name: str) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
        j = schema.categories.index(name)
        plan = preparation.categories[j]
        empty = np.nan if plan.numeric else None
        values = np.array([*plan.levels, plan.other, empty], dtype=np.float64 if plan.numeric else object)
        return values, codes[:, j]

    return _frame(schema, blocks["numbers"], blocks["times"], category)


def to_frame(columns: Columns) -> pd.DataFrame:
    """A cleaned chunk as a DataFrame with the dataset's own columns: what a trained Pipeline predicts on."""
    schema = columns.schema
    text = {f.name: f.is_text for f in schema.features}

    def category(name: str) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
        coded = columns.categories[schema.categories.index(name)]
        empty = None if text[name] else np.nan
        return np.array([*coded.levels, empty], dtype=object if text[name] else np.float64), coded.codes

    return _frame(schema, columns.numbers, columns.times, category)


def clean_frame(frame: pd.DataFrame, schema: Schema, rules: CleanRules) -> pd.DataFrame:
    """Raw pandas rows cleaned as the training rows were; no row is dropped."""
    plain = schema.for_prediction()
    parts = [to_frame(clean(chunk, plain, rules)) for chunk in frame_chunks(frame, plain, path="DataFrame")]
    if not parts:
        empty = Chunk(pa.table({c: pa.nulls(0) for c in plain.columns}), "DataFrame", 0, 0)
        return to_frame(clean(empty, plain, rules))
    return parts[0] if len(parts) == 1 else pd.concat(parts, ignore_index=True)


def _frame(
    schema: Schema,
    numbers: npt.NDArray[Any],
    times: npt.NDArray[Any],
    category: Callable[[str], tuple[npt.NDArray[Any], npt.NDArray[Any]]],
) -> pd.DataFrame:
    """Columns in file order; ``category`` gives a feature's values, the missing one last, and its codes."""
    data: dict[str, Any] = {}
    for feature in schema.features:
        name = feature.name
        if feature.kind in ("numeric", "boolean"):
            data[name] = np.array(numbers[:, schema.numbers.index(name)])
        elif feature.kind == "datetime":
            seconds = times[:, schema.times.index(name)]
            micro = np.round(np.where(np.isnan(seconds), 0, seconds) * 1e6).astype("int64")
            data[name] = pd.Series(micro.astype("datetime64[us]")).mask(np.isnan(seconds))
        else:
            values, codes = category(name)
            data[name] = pd.Series(values[codes], dtype="str" if values.dtype == object else None)
    return pd.DataFrame(data)
