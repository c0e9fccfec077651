"""Weighted rows in memory for a fitted model: those it was fitted on, another coreset, or rows with a target."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from coretree.data.dataset import Dataset
from coretree.errors import ConfigError
from coretree.learn.masses import checked_weights
from coretree.run.coreset_tree import CoresetTree
from coretree.run.fitted import FittedModel
from coretree.run.unseen import check_known
from coretree.tree.coresets import Coreset

_HOW = "Give a Coreset, a CoresetTree, or rows in memory: (X, y) or (X, y, sample_weight)."


@dataclass(frozen=True, eq=False)
class WeightedRows:
    """Rows as a plain estimator takes them, their target (None where not asked for), weights >= 0, unseen labels."""

    X: Any
    y: npt.NDArray[Any] | None
    weights: npt.NDArray[np.float64]
    unseen: dict[Any, int]


def plain(model: Any) -> Any:
    """The plain scikit-learn estimator of a fitted model: of ours, the Pipeline on raw rows."""
    return model.estimator_ if isinstance(model, FittedModel) else model


def weighted_rows(model: Any, data: Any, *, target: bool = True) -> WeightedRows:
    """Rows to look at a model with.

    Parameters
    ----------
    model : fitted model
        Of coretree, or any scikit-learn estimator.
    data : Coreset, CoresetTree, tuple or None
        A tree gives its uniform sketch where it has one. ``(X, y)`` and ``(X, y, sample_weight)`` are rows in memory;
        where no target is needed, X alone will do. None: the coreset that the model was fitted on.
    target : bool
        Whether y is needed; rows whose label the model does not know are then left out, with a ``DataWarning``.

    Raises
    ------
    ConfigError
        None of these, or None for a model without a coreset.
    """
    X, y, weights = _given(model, data, target)
    rows = model._rows(X) if isinstance(model, FittedModel) else X
    n = len(rows)
    given = checked_weights(weights, n)
    if not target:
        return WeightedRows(rows, None, given, {})
    y = np.asarray(y)
    if y.shape != (n,):
        raise ConfigError(f"y must hold a value for each of the {n:,} rows of X, found shape {y.shape}.")
    classes = getattr(plain(model), "classes_", None)
    if classes is None:
        return WeightedRows(rows, y, given, {})
    known = pd.Series(y).isin(list(classes)).to_numpy()
    unseen = dict(Counter(y[~known].tolist()))
    check_known(unseen, int(known.sum()), tuple(np.asarray(classes).tolist()), "rows")
    if not unseen:
        return WeightedRows(rows, y, given, {})
    kept = np.flatnonzero(known)
    return WeightedRows(rows.iloc[kept] if hasattr(rows, "iloc") else rows[kept], y[kept], given[kept], unseen)


def _given(model: Any, data: Any, target: bool) -> tuple[Any, Any, Any]:
    if data is None:
        data = getattr(model, "coreset_", None)
        if data is None:
            raise ConfigError(f"{type(model).__name__} brings no coreset (loaded models do not). {_HOW}")
    if isinstance(data, CoresetTree):
        data = data.coreset(objective="uniform") if "uniform" in data.recipe_.offers else data.coreset()
    if isinstance(data, Coreset):
        return data.X, data.target if target else None, data.sample_weight
    if isinstance(data, tuple) and len(data) in (2, 3):
        return data[0], data[1], data[2] if len(data) == 3 else None
    if not target and not isinstance(data, tuple | Dataset) and hasattr(data, "__len__"):
        return data, None, None
    hint = " It is too large for this; build a tree from it." if isinstance(data, Dataset) else ""
    raise ConfigError(f"data: found {type(data).__name__}.{hint} {_HOW}")
