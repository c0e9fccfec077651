"""What ``fit`` may be given besides a Dataset: arrays, pandas and Dask DataFrames, with the target beside or inside."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from coretree.data.dataset import Dataset
from coretree.errors import ConfigError


def as_dataset(X: Any, y: Any, sample_weight: Any, task: str) -> Dataset:
    """A Dataset of whatever ``fit`` was given.

    Raises
    ------
    ConfigError
        No target, or one beside a Dataset that knows its own; an array that is no table.
    """
    if isinstance(X, Dataset):
        if y is not None or sample_weight is not None:
            raise ConfigError("a Dataset names its own target and weight columns; leave y and sample_weight out.")
        return X
    if y is None:
        raise ConfigError("y is missing: give the target values, or the name of the target's column.")
    lazy = hasattr(X, "to_delayed") and hasattr(X, "columns")
    frame = X if lazy else X.copy(deep=False) if isinstance(X, pd.DataFrame) else _named(np.asarray(X))
    target, weight = y if isinstance(y, str) else _free("target", frame.columns), None
    if not isinstance(y, str):
        frame = frame.assign(**{target: y if lazy else np.asarray(y)})
    if sample_weight is not None:
        weight = _free("sample_weight", frame.columns)
        frame = frame.assign(**{weight: sample_weight if lazy else np.asarray(sample_weight, dtype=np.float64)})
    make = Dataset.from_dask if lazy else Dataset.from_pandas
    return make(frame, target=target, task=task, weight=weight)


def _free(name: str, columns: Iterable[Any]) -> str:
    """A column name that is not taken."""
    taken = set(columns)
    while name in taken:
        name += "_"
    return name


def _named(X: npt.NDArray[Any]) -> pd.DataFrame:
    if X.ndim != 2:
        raise ConfigError(f"X must be a table (n rows, d columns), found an array of shape {X.shape}.")
    return pd.DataFrame(X, columns=[f"x{j}" for j in range(X.shape[1])])
