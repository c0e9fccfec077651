"""The parts of a timestamp in a fitted Pipeline: the same features that the streaming passes see."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from coretree.data.timestamps import F64, datetime_parts, part_names, to_seconds


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
