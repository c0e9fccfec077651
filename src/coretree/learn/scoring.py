"""Weighted scores of a fitted model, greater is better, under scikit-learn's names."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn import metrics

from coretree.errors import ConfigError

FloatArray = npt.NDArray[np.float64]
_Score = Callable[[Any, Any, npt.NDArray[Any], FloatArray, npt.NDArray[Any]], float]


def class_probabilities(model: Any, X: Any, classes: npt.NDArray[Any]) -> FloatArray:
    """Predicted probabilities with one column for each of ``classes``, 0 for a class the model never saw.

    Raises
    ------
    ConfigError
        If the model predicts no probabilities.
    """
    if not hasattr(model, "predict_proba"):
        raise ConfigError(f"{type(model).__name__} predicts no probabilities; score it by roc_auc or accuracy.")
    out = np.zeros((X.shape[0], classes.size))
    out[:, np.searchsorted(classes, model.classes_)] = model.predict_proba(X)
    return out


def class_scores(model: Any, X: Any, classes: npt.NDArray[Any]) -> FloatArray:
    """One score (n, K) for each class, greater for more likely: probabilities, else decision values."""
    if hasattr(model, "predict_proba"):
        return class_probabilities(model, X, classes)
    decision = np.asarray(model.decision_function(X), dtype=np.float64)
    if decision.ndim == 1:
        decision = np.column_stack([-decision, decision])
    out = np.full((X.shape[0], classes.size), -np.inf if decision.size == 0 else decision.min() - 1.0)
    out[:, np.searchsorted(classes, model.classes_)] = decision
    return out


def _ranking(score: Callable[..., float]) -> _Score:
    """Binary: the greater label is positive. Several classes: the plain mean of one class against the rest."""

    def ranked(model: Any, X: Any, y: npt.NDArray[Any], weights: FloatArray, classes: npt.NDArray[Any]) -> float:
        scores = class_scores(model, X, classes)
        columns = range(1, 2) if classes.size == 2 else range(classes.size)
        values = [
            float(score(y == classes[k], scores[:, k], sample_weight=weights))
            for k in columns
            if np.unique(y[weights > 0] == classes[k]).size == 2  # a class that is absent here cannot be ranked
        ]
        return float(np.mean(values)) if values else float("nan")

    return ranked


def _neg_log_loss(model: Any, X: Any, y: npt.NDArray[Any], w: FloatArray, classes: npt.NDArray[Any]) -> float:
    p = class_probabilities(model, X, classes)
    own = p[np.arange(y.size), np.searchsorted(classes, y)]
    return float(np.average(np.log(np.clip(own, np.finfo(np.float64).eps, 1.0)), weights=w))


def _neg_brier(model: Any, X: Any, y: npt.NDArray[Any], w: FloatArray, classes: npt.NDArray[Any]) -> float:
    p = class_probabilities(model, X, classes)
    squares = ((p - (y[:, None] == classes)) ** 2).sum(axis=1)
    return -float(np.average(squares / 2 if classes.size == 2 else squares, weights=w))


def _predicted(metric: Callable[..., float], *, sign: float = 1.0, **options: Any) -> _Score:
    def scored(model: Any, X: Any, y: npt.NDArray[Any], weights: FloatArray, _classes: npt.NDArray[Any]) -> float:
        return sign * float(metric(y, model.predict(X), sample_weight=weights, **options))

    return scored


SCORINGS: Mapping[str, _Score] = MappingProxyType(
    {
        "roc_auc": _ranking(metrics.roc_auc_score),
        "average_precision": _ranking(metrics.average_precision_score),
        "neg_log_loss": _neg_log_loss,
        "neg_brier_score": _neg_brier,
        "accuracy": _predicted(metrics.accuracy_score),
        "f1_macro": _predicted(metrics.f1_score, average="macro", zero_division=0.0),
        "r2": _predicted(metrics.r2_score),
        "neg_mean_squared_error": _predicted(metrics.mean_squared_error, sign=-1.0),
        "neg_root_mean_squared_error": _predicted(metrics.root_mean_squared_error, sign=-1.0),
        "neg_mean_absolute_error": _predicted(metrics.mean_absolute_error, sign=-1.0),
    }
)
RANKINGS = frozenset({"roc_auc", "average_precision"})  # they see the order of predictions alone
REGRESSION_SCORINGS = frozenset(
    {"r2", "neg_mean_squared_error", "neg_root_mean_squared_error", "neg_mean_absolute_error"}
)


def check_scoring(scoring: str) -> str:
    """Return the name if there is a score of it.

    Raises
    ------
    ConfigError
        If there is none; the message names the nearest and all of them.
    """
    if scoring in SCORINGS:
        return scoring
    near = difflib.get_close_matches(scoring, SCORINGS, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise ConfigError(f"No score is named {scoring!r}.{hint} Choose from {', '.join(SCORINGS)}.")


def weighted_score(
    model: Any, X: Any, y: npt.ArrayLike, *, weights: npt.ArrayLike, scoring: str, classes: npt.ArrayLike | None = None
) -> float:
    """Score a fitted model on weighted rows; greater is better.

    Parameters
    ----------
    model : fitted estimator
    X : (n, d) array or data frame
    y : (n,) array
    weights : (n,) array >= 0
    scoring : str
        A name of `SCORINGS`. Ranking scores of more than two classes are the mean over classes, one against the rest.
    classes : array of labels, sorted, optional
        All classes; default: those of the model and of ``y`` (for classification).

    Returns
    -------
    float
        NaN for a ranking score where no class can be ranked.

    Raises
    ------
    ConfigError
        If the score is unknown, or needs probabilities that the model does not give.

    Examples
    --------
    >>> from sklearn.dummy import DummyRegressor
    >>> model = DummyRegressor(strategy="constant", constant=1.0).fit([[0.0]], [1.0])
    >>> weighted_score(model, np.zeros((2, 1)), [1.0, 3.0], weights=[3.0, 1.0], scoring="neg_mean_squared_error")
    -1.0
    """
    score = SCORINGS[check_scoring(scoring)]
    labels = np.asarray(y)
    known = np.union1d(labels, getattr(model, "classes_", labels)) if classes is None else np.asarray(classes)
    return score(model, X, labels, np.asarray(weights, dtype=np.float64), known)
