"""Fixed parts of a timestamp as numeric features, the same in the streaming passes and in the fitted Pipeline."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted

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


class DatetimeParts(TransformerMixin, BaseEstimator):
    """Transformer from datetime columns to their parts: 3 numeric columns each, see ``datetime_parts``.

    Text is parsed; what does not parse, and NaT, becomes NaN. Times with a zone are taken in UTC, others as they are.

    Examples
    --------
    >>> frame = pd.DataFrame({"when": pd.to_datetime(["2013-01-05 15:30", None])})
    >>> DatetimeParts().fit_transform(frame)
    array([[ 1.,  5., 15.],
           [nan, nan, nan]])
    """

    def fit(self, X: pd.DataFrame, y: Any = None) -> Self:  # noqa: ARG002  (scikit-learn's signature)
        """Learn the column names; nothing else is learned."""
        self.feature_names_in_ = np.asarray(X.columns, dtype=object)
        self.n_features_in_ = X.shape[1]
        return self

    def transform(self, X: pd.DataFrame) -> F64:
        """Parts of every column, side by side: (n, 3 t) float64."""
        check_is_fitted(self)
        return np.hstack([datetime_parts(to_seconds(X[c])) for c in self.feature_names_in_])

    def get_feature_names_out(self, input_features: Any = None) -> npt.NDArray[Any]:  # noqa: ARG002
        """Names such as ``when_month``."""
        check_is_fitted(self)
        return np.array([name for c in self.feature_names_in_ for name in part_names(c)], dtype=object)


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
