"""What a lazy answer needs on a worker: a model that also answers for partitions without rows."""

from __future__ import annotations

from copy import copy
from typing import Any

import pandas as pd
from sklearn.base import BaseEstimator


class EmptyPartitions(BaseEstimator):
    """A fitted model whose answers keep their type and width where there are no rows (dask-ml#911).

    Parameters
    ----------
    model : CoresetClassifier or CoresetRegressor
        Fitted.
    method : str
        What is asked of it, whichever way it is asked here: dask-ml knows no ``decision_function``.
    """

    def __init__(self, model: Any, method: str) -> None:
        self.model = model
        self.method = method

    def predict(self, X: pd.DataFrame) -> Any:
        """Answers (n,), possibly none."""
        if len(X):
            return getattr(self.model, self.method)(X)
        # one row of missing cells has the right types
        one = pd.DataFrame(
            {c: pd.Series([None], dtype=X[c].dtype if X[c].dtype.kind not in "biu" else "float64") for c in X.columns}
        )
        return getattr(self.model, self.method)(one)[:0]

    def predict_proba(self, X: pd.DataFrame) -> Any:
        """Answers (n, K), possibly none."""
        return self.predict(X)


def alone(model: Any) -> Any:
    """A copy of a fitted model for the way to a worker: what answers, without the client, the tree and the coreset."""
    out = copy(model)
    out.client = out.tree = None
    for name in ("tree_", "coreset_"):
        out.__dict__.pop(name, None)
    return out
