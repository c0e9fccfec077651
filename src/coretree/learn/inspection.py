"""Importance and partial dependence on weighted rows, such that a row of weight w counts as w equal rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.inspection import partial_dependence as sklearn_partial_dependence

from coretree.coreset.rows import uniforms
from coretree.errors import ConfigError
from coretree.learn.fit import resampled
from coretree.learn.scoring import weighted_score

FloatArray = npt.NDArray[np.float64]
Scoring = str | Callable[[Any, Any, Any, FloatArray], float]
_EDGES = (0.05, 0.95)  # scikit-learn's: beyond them a curve rests on few rows


def importances(
    model: Any,
    X: pd.DataFrame,
    y: npt.NDArray[Any],
    weights: FloatArray,
    *,
    scoring: Scoring,
    n_repeats: int = 5,
    seed: int = 0,
) -> tuple[pd.DataFrame, float]:
    """Permutation importance: how much a score falls when a feature's values come from other rows.

    Breiman's measure (2001) as `sklearn.inspection.permutation_importance` computes it, but that rows give their
    value in proportion to their weight. A plain permutation of weighted rows would put the sample's distribution of
    the feature in place of the data's, and be as wrong as the sample is uneven.

    Parameters
    ----------
    model : fitted estimator
    X : DataFrame (m, d)
    y : (m,) array
    weights : (m,) array >= 0
    scoring : str or callable
        A name of `coretree.learn.scoring`, or ``f(model, X, y, weights)``; greater is better.
    n_repeats : int
    seed : int

    Returns
    -------
    table : DataFrame
        One row a feature, the most important first: ``importance`` (mean fall of the score) and ``std`` over repeats.
    score : float
        On the rows as they are.
    """
    kept = np.flatnonzero(weights > 0)
    X, y, weights = X.iloc[kept].reset_index(drop=True), y[kept], weights[kept]

    def score(rows: pd.DataFrame) -> float:
        if callable(scoring):
            return float(scoring(model, rows, y, weights))
        return weighted_score(model, rows, y, weights=weights, scoring=scoring)

    own = score(X)
    donors = [_donors(weights, seed, r) for r in range(n_repeats)]
    falls = np.empty((X.shape[1], n_repeats))
    for j, name in enumerate(X.columns):
        for r, rows in enumerate(donors):
            falls[j, r] = own - score(X.assign(**{name: X[name].to_numpy()[rows]}))
    table = pd.DataFrame({"importance": falls.mean(axis=1), "std": falls.std(axis=1)}, index=X.columns)
    return table.sort_values("importance", ascending=False, kind="stable"), own


def _donors(weights: FloatArray, seed: int, repeat: int) -> npt.NDArray[np.intp]:
    """For each row the row that gives its value: drawn in proportion to weight, in random order."""
    numbers = np.arange(len(weights), dtype=np.uint64)
    order = np.argsort(uniforms(numbers, seed, f"donors-{repeat}"), kind="stable")
    drawn = resampled(weights, seed + repeat)
    return drawn[order]


def dependence(
    model: Any, X: pd.DataFrame, weights: FloatArray, name: str, *, points: int = 50, at: Sequence[Any] | None = None
) -> pd.DataFrame:
    """Partial dependence of a model on one feature, averaged over weighted rows by scikit-learn.

    Parameters
    ----------
    model : fitted estimator
    X : DataFrame (m, d)
    weights : (m,) array >= 0
    name : str
        Column of X.
    points : int
        Points of a numeric feature between its weighted 5 % and 95 % quantiles; all its values where they are fewer.
    at : sequence, optional
        The values to look at, in place of these; for a category of text all its values by default.

    Returns
    -------
    DataFrame
        Indexed by the feature's values: "average", or for more than two classes one column a class. Probabilities,
        else decision values, of the second of two classes.

    Raises
    ------
    ConfigError
        No such column, or a column of times.
    """
    if name not in X.columns:
        raise ConfigError(f"features: no column {name!r}; there are {', '.join(map(str, X.columns))}.")
    if pd.api.types.is_datetime64_any_dtype(X[name]):
        raise ConfigError(f"features: {name!r} is a time; partial dependence is for numbers and categories.")
    grid = _grid(X[name], weights, points) if at is None else np.asarray(at)
    # integers would be cut when a grid value is written into them
    rows = X.assign(**{name: X[name].astype(np.float64)}) if X[name].dtype.kind in "iub" else X
    found = sklearn_partial_dependence(
        model, rows, [name], sample_weight=weights, custom_values={name: grid}, method="brute", kind="average"
    )
    average = np.asarray(found["average"]).reshape(-1, len(grid))
    columns = ["average"] if len(average) == 1 else np.asarray(model.classes_).tolist()
    return pd.DataFrame(average.T, index=pd.Index(grid, name=name), columns=columns)


def _grid(column: pd.Series[Any], weights: FloatArray, points: int) -> npt.NDArray[Any]:
    held = (weights > 0) & column.notna().to_numpy()
    seen, mass = column[held], weights[held]
    if not pd.api.types.is_numeric_dtype(column):
        return np.array(sorted(seen.unique().tolist(), key=str), dtype=object)
    values = seen.to_numpy(dtype=np.float64)
    distinct: npt.NDArray[Any] = np.unique(values)
    if len(distinct) <= points:
        return distinct
    order = np.argsort(values, kind="stable")
    total = np.cumsum(mass[order])
    low, high = values[order][np.searchsorted(total, np.array(_EDGES) * total[-1])]
    return np.linspace(low, high, points) if high > low else distinct[:points]
