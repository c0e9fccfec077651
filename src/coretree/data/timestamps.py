"""Times as seconds, and fixed parts of them as numeric features: what the passes need, without scikit-learn."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

F64 = npt.NDArray[np.float64]
PARTS = ("month", "weekday", "hour")


def datetime_parts(seconds: F64) -> F64:
    """Month (1-12), weekday (0 = Monday) and hour (0-23) of each time; NaN where it is missing.

    The set is fixed, so that a column of midnights does not lose its hour when a later file has one.

    Parameters
    ----------
    seconds : (n,) float64
        Seconds since 1970 (UTC).

    Returns
    -------
    (n, 3) float64

    Examples
    --------
    >>> datetime_parts(np.array([0.0, np.nan]))  # 1970-01-01 was a Thursday
    array([[ 1.,  3.,  0.],
           [nan, nan, nan]])
    """
    missing = np.isnan(seconds)
    whole = np.floor(np.where(missing, 0, seconds)).astype(np.int64)
    month = whole.astype("datetime64[s]").astype("datetime64[M]").astype(np.int64) % 12 + 1
    weekday = (whole // 86_400 + 3) % 7
    hour = whole // 3_600 % 24
    out = np.column_stack([month, weekday, hour]).astype(np.float64)
    out[missing] = np.nan
    return out


def part_names(column: str) -> tuple[str, ...]:
    """Feature names of a datetime column's parts."""
    return tuple(f"{column}_{part}" for part in PARTS)


def to_seconds(column: pd.Series[Any]) -> F64:
    """Seconds since 1970 (UTC) of a pandas column of times or of text, NaN where missing or not parsable.

    Examples
    --------
    >>> to_seconds(pd.Series(["1970-01-01 00:01", "soon", None]))
    array([60., nan, nan])
    """
    if pd.api.types.is_datetime64_any_dtype(column):
        when = pd.to_datetime(column, utc=True)
    else:
        when = pd.to_datetime(column, errors="coerce", utc=True, format="mixed")
    return np.asarray((when - pd.Timestamp(0, tz="UTC")) / pd.Timedelta(seconds=1), dtype=np.float64)
