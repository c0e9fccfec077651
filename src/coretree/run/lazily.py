"""What a lazy answer needs on a worker: a model that also answers for partitions without rows."""

from __future__ import annotations

from typing import Any

import pandas as pd
from sklearn.base import BaseEstimator


class EmptyPartitions(BaseEstimator):
    """A fitted model whose answers keep their type and width where there are no rows (dask-ml#911)."""

    def __init__(self, model: Any) -> None:
        self.model = model

    def predict(self, X: pd.DataFrame) -> Any:
        """Predictions, possibly none."""
        return self._answer(X, "predict")

    def predict_proba(self, X: pd.DataFrame) -> Any:
        """Probabilities, possibly none."""
        return self._answer(X, "predict_proba")

    def decision_function(self, X: pd.DataFrame) -> Any:
        """Decision values, possibly none."""
        return self._answer(X, "decision_function")

    def _answer(self, X: pd.DataFrame, method: str) -> Any:
        if len(X):
            return getattr(self.model, method)(X)
        # one row of missing cells has the right types
        one = pd.DataFrame(
            {c: pd.Series([None], dtype=X[c].dtype if X[c].dtype.kind not in "biu" else "float64") for c in X.columns}
        )
        return getattr(self.model, method)(one)[:0]
