"""What ``fit`` and ``predict`` may be given besides a Dataset: arrays, lists, pandas and Dask DataFrames."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from difflib import get_close_matches
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.utils import check_array, column_or_1d

from coretree.data.dataset import Dataset
from coretree.errors import ConfigError, SchemaError

LEAST_ROWS = 2
_NO_NUMBERS = (
    "Complex data not supported: column '{}' holds complex numbers. Give real and imaginary part as two columns."
)
_SPARSE = (
    "X is sparse, and sparse input is not supported: a coreset keeps dense rows. Convert it first, for instance with "
    "X.toarray(), or reduce it to a few dense columns."
)


def as_dataset(X: Any, y: Any, sample_weight: Any, task: str | None) -> Dataset:
    """A Dataset of whatever ``fit`` was given.

    Parameters
    ----------
    X : Dataset, Dask DataFrame, pandas DataFrame, or array_like (n, d)
    y : array_like (n,), Series or column name
        Ignored where ``task`` is None.
    sample_weight : array_like (n,) or Series, optional
    task : {"classification", "regression"} or None
        None: no target is wanted.

    Raises
    ------
    ConfigError
        No target, or one beside a Dataset that knows its own; no table; sparse or complex cells; lengths that differ.
    """
    if isinstance(X, Dataset):
        if (y is not None and task is not None) or sample_weight is not None:
            raise ConfigError("a Dataset names its own target and weight columns; leave y and sample_weight out.")
        return X
    if y is None and task is not None:
        raise ConfigError(
            "y is missing: this estimator requires y to be passed, but the target y is None. Give the target values, "
            "or the name of the target's column."
        )
    lazy = is_lazy(X)
    frame = X if lazy else as_frame(X, least=LEAST_ROWS)
    target, weight = None, None
    if task is not None:
        target = y if isinstance(y, str) else _free("target", frame.columns)
        if not isinstance(y, str):
            frame = frame.assign(**{target: y if lazy else _beside(y, "y", len(frame))})
    if sample_weight is not None:
        weight = _free("sample_weight", frame.columns)
        frame = frame.assign(**{weight: sample_weight if lazy else _weights(sample_weight, len(frame))})
    make = Dataset.from_dask if lazy else Dataset.from_pandas
    return make(frame, target=target, task=task, weight=weight)


def is_lazy(X: Any) -> bool:
    """Whether X is a Dask DataFrame."""
    return hasattr(X, "to_delayed") and hasattr(X, "columns")


def without_target(data: Dataset) -> Dataset:
    """The same rows, with the target neither to be learned nor a feature."""
    roles = data.roles
    if roles.target is None:
        return data
    kinds = ("numeric", "categorical", "boolean", "datetime")
    rest: dict[str, Any] = {kind: tuple(c for c in getattr(roles, kind) if c != roles.target) for kind in kinds}
    plain = replace(roles, target=None, task="auto", drop=(*roles.drop, roles.target), **rest)
    return replace(data, roles=plain)


def as_frame(X: Any, *, least: int = 0) -> pd.DataFrame:
    """A table in memory as a DataFrame of its own; columns without names are called x0, x1 and so on.

    Raises
    ------
    ConfigError
        Not a table of dense cells, or fewer than ``least`` rows.

    Examples
    --------
    >>> as_frame([[1.0, 2.0]]).columns.tolist()
    ['x0', 'x1']
    """
    if hasattr(X, "tocsr") or (isinstance(X, pd.DataFrame) and any(isinstance(t, pd.SparseDtype) for t in X.dtypes)):
        raise ConfigError(_SPARSE)
    if isinstance(X, pd.DataFrame):
        named = X.copy(deep=False)
        if not any(isinstance(name, str) for name in X.columns):  # numbered through, as scikit-learn takes it
            named.columns = _numbered(X.shape[1])
        for name, kind in named.dtypes.items():
            if getattr(kind, "kind", "") == "c":
                raise ConfigError(_NO_NUMBERS.format(name))
        check_shape(named.shape, least)
        return named
    try:
        cells = check_array(
            X, dtype=None, ensure_all_finite=False, ensure_2d=False, allow_nd=True, ensure_min_samples=0
        )
    except (TypeError, ValueError) as error:
        raise ConfigError(f"X cannot be read as a table: {error}") from None
    check_shape(cells.shape, least)
    frame = pd.DataFrame(cells, columns=_numbered(cells.shape[1]))
    return frame.infer_objects() if cells.dtype == object else frame


def check_shape(shape: tuple[int, ...], least: int) -> None:
    """Make sure that there are rows and columns."""
    if len(shape) != 2:
        raise ConfigError(
            f"X must be a table (n rows, d columns), found an array of shape {shape}. Reshape your data: "
            "X.reshape(-1, 1) for one column, X.reshape(1, -1) for one row."
        )
    if not shape[1]:
        raise ConfigError(f"X must have columns: found 0 feature(s) (shape={shape}) while a minimum of 1 is required.")
    if shape[0] < least:
        raise ConfigError(f"X must have at least {least} rows to learn from, found n_samples = {shape[0]}.")


def as_known(X: Any, names: Sequence[str], who: str) -> pd.DataFrame:
    """Raw rows under the names that a model knows: DataFrames by name, anything else by position.

    Raises
    ------
    SchemaError
        Columns are missing.
    ConfigError
        Not a table of as many columns.
    """
    frame = as_frame(X)
    if isinstance(X, pd.DataFrame) and any(isinstance(name, str) for name in X.columns):
        check_names(X.columns, names, "DataFrame")
        return frame
    if frame.shape[1] != len(names):
        raise ConfigError(
            f"X has {frame.shape[1]} features, but {who} is expecting {len(names)} features as input: "
            f"{_some(list(names))}, in this order. A DataFrame is matched by names."
        )
    return frame.set_axis(list(names), axis=1)


def check_names(found: Iterable[Any], names: Sequence[str], where: str, *, also_known: Sequence[str] = ()) -> None:
    """Make sure that every column is there that a model needs; others are left alone.

    Raises
    ------
    SchemaError
        Says which are missing, which are extra, and which of the extra ones may be meant.
    """
    there = [str(name) for name in found]
    missing = [name for name in names if name not in set(there)]
    if not missing:
        return
    extra = [name for name in there if name not in {*names, *also_known}]
    also = f" It has {_some(extra)}, which the model does not know." if extra else ""
    near = {name: match[0] for name in missing if (match := get_close_matches(name, extra, n=1, cutoff=0.7))}
    hint = "".join(f" Is '{match}' meant for '{name}'?" for name, match in near.items())
    raise SchemaError(f"{where}: the model needs {_some(missing)}, found no such column.{also}{hint}")


def _some(names: list[str], most: int = 10) -> str:
    shown = ", ".join(f"'{name}'" for name in names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"


def _beside(values: Any, name: str, n: int) -> npt.NDArray[Any]:
    """One value for each row."""
    try:
        found: npt.NDArray[Any] = np.asarray(column_or_1d(values, warn=True))
    except ValueError as error:
        raise ConfigError(f"{name}: {error}") from None
    if len(found) != n:
        raise ConfigError(f"{name} must hold a value for each of the {n:,} rows of X, found {len(found):,}.")
    return found


def _weights(values: Any, n: int) -> npt.NDArray[np.float64]:
    found = np.asarray(values, dtype=np.float64)
    if found.shape != (n,):
        raise ConfigError(f"sample_weight must hold a number for each of the {n:,} rows of X, found {found.shape}.")
    if n and not found.any():
        raise ConfigError("sample_weight: every weight is zero, so that no row is left to learn from.")
    return found


def _free(name: str, columns: Iterable[Any]) -> str:
    """A column name that is not taken."""
    taken = set(columns)
    while name in taken:
        name += "_"
    return name


def _numbered(n: int) -> list[str]:
    return [f"x{j}" for j in range(n)]
