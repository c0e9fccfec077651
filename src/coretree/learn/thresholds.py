"""Where to cut the scores of a two-class model: weights at every threshold, from rows or histograms, and values."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.metrics import roc_curve

from coretree.errors import ConfigError, TargetError
from coretree.learn.curves import ScoreHistogram, thinned
from coretree.learn.means import Floats

Metric = str | Callable[..., float]
MOST_CALLS = 200
"""Thresholds at which a metric that is a function is tried."""


@dataclass(frozen=True, eq=False)
class ThresholdCounts:
    """Weights of true and false positives at every threshold worth trying.

    Parameters
    ----------
    thresholds : ndarray of shape (n,)
        Decreasing; rows that score at least the threshold count as predicted. The first is infinite: no row.
    true, false : ndarray of shape (n,)
        Weight of positive and of negative rows that are predicted.
    reached : ndarray of shape (n,)
        Lowest score among them.
    """

    thresholds: Floats
    true: Floats
    false: Floats
    reached: Floats

    def __post_init__(self) -> None:
        """Make sure that both classes are there."""
        if not (self.true[-1] > 0.0 and self.false[-1] > 0.0):
            raise TargetError("a threshold needs rows of both classes; found those of one only. Give more rows.")

    @classmethod
    def of_rows(cls, positive: npt.ArrayLike, scores: npt.ArrayLike, weights: npt.ArrayLike | None = None) -> Self:
        """Count rows in memory; thresholds lie half-way between neighbouring scores.

        Parameters
        ----------
        positive : array-like of bool of shape (n,)
        scores : array-like of shape (n,)
            Greater for more likely positive.
        weights : array-like of shape (n,), optional

        Raises
        ------
        TargetError
            All rows (of positive weight) are of one class.
        """
        y, w = np.asarray(positive, dtype=bool), np.ones(len(np.asarray(positive)))
        w = w if weights is None else np.asarray(weights, dtype=np.float64)
        positives, negatives = float(w[y].sum()), float(w[~y].sum())
        if not (positives > 0.0 and negatives > 0.0):
            return cls(np.full(1, np.inf), np.array([positives]), np.array([negatives]), np.full(1, np.inf))
        fpr, tpr, found = roc_curve(y, scores, sample_weight=w, drop_intermediate=False)
        thresholds, middle = found.copy(), found[1:-1] / 2 + found[2:] / 2
        # next to each other in floating point, the middle is one of the two
        thresholds[1:-1] = np.where((middle > found[2:]) & np.isfinite(middle), middle, found[1:-1])
        return cls(thresholds.astype(np.float64), tpr * positives, fpr * negatives, found.astype(np.float64))

    @classmethod
    def of_histogram(cls, scores: ScoreHistogram, *, first_is_positive: bool = False) -> Self:
        """Count rows by score bins; thresholds are the bins' lower edges.

        Parameters
        ----------
        scores : ScoreHistogram
            With one curve, class 1 positive.
        first_is_positive : bool
            Take class 0 as positive, its scores mirrored.
        """
        if first_is_positive:
            scores = ScoreHistogram(scores.negatives[:, ::-1], scores.positives[:, ::-1], scores.scale)
        true, false, thresholds = scores.cumulated(0)
        return cls(thresholds, true, false, thresholds)

    def table(self) -> pd.DataFrame:
        """One row a threshold: weights of true and false positives and negatives, precision and recall."""
        tp, fp = self.true, self.false
        fn, tn = tp[-1] - tp, fp[-1] - fp
        precision = np.divide(tp, tp + fp, out=np.ones_like(tp), where=tp + fp > 0.0)
        columns = {"true_positive": tp, "false_positive": fp, "false_negative": fn, "true_negative": tn}
        return pd.DataFrame(
            {"threshold": self.thresholds, **columns, "precision": precision, "recall": tp / tp[-1]}
        )  # fmt: skip

    def only(self, places: list[int]) -> ThresholdCounts:
        """Some of the thresholds, in order, the last one among them."""
        return ThresholdCounts(*(a[places] for a in (self.thresholds, self.true, self.false, self.reached)))

    def at(self, threshold: float) -> int:
        """Place of the threshold that predicts the same rows."""
        return int(np.searchsorted(-self.reached, -threshold, side="right")) - 1


def _f1(tp: Floats, fp: Floats, fn: Floats, _tn: Floats) -> Floats:
    return 2 * tp / (2 * tp + fp + fn)


def _balanced_accuracy(tp: Floats, fp: Floats, fn: Floats, tn: Floats) -> Floats:
    return (tp / (tp + fn) + tn / (tn + fp)) / 2


def _accuracy(tp: Floats, fp: Floats, fn: Floats, tn: Floats) -> Floats:
    return (tp + tn) / (tp + fp + fn + tn)


METRICS: Mapping[str, Callable[[Floats, Floats, Floats, Floats], Floats]] = MappingProxyType(
    {"f1": _f1, "balanced_accuracy": _balanced_accuracy, "accuracy": _accuracy}
)


def values_at(counts: ThresholdCounts, metric: Metric) -> Floats:
    """Value of a metric at every threshold; NaN where a function was not tried.

    Parameters
    ----------
    counts : ThresholdCounts
    metric : name in ``METRICS``, or callable
        A callable takes ``(y_true, y_pred, sample_weight=...)`` with 1 as the positive class, as scikit-learn's
        metrics of predicted labels do, and is called with the four cells of the confusion matrix as four weighted
        rows; at most `MOST_CALLS` thresholds, evenly spaced along the ROC curve.

    Raises
    ------
    ConfigError
        The name is unknown.

    Examples
    --------
    >>> counts = ThresholdCounts.of_rows([False, True, False, True], [0.1, 0.4, 0.6, 0.8])
    >>> values_at(counts, "balanced_accuracy").tolist()
    [0.5, 0.75, 0.5, 0.75, 0.5]
    """
    tp, fp = counts.true, counts.false
    cells = tp, fp, tp[-1] - tp, fp[-1] - fp
    if isinstance(metric, str):
        if metric not in METRICS:
            raise ConfigError(
                f"metric={metric!r} is unknown; use one of {', '.join(METRICS)}, or a function of scikit-learn's form: "
                "metric=sklearn.metrics.matthews_corrcoef."
            )
        return METRICS[metric](*cells)
    values = np.full(len(tp), np.nan)
    truth, guess = np.array([1, 0, 1, 0]), np.array([1, 1, 0, 0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UndefinedMetricWarning)  # at the ends, where nothing or everything is predicted
        for i in thinned(fp / fp[-1], tp / tp[-1], MOST_CALLS):
            values[i] = metric(truth, guess, sample_weight=np.array([cell[i] for cell in cells]))
    return values


def costs_at(counts: ThresholdCounts, cost: Any) -> Floats:
    """Mean cost of a row at every threshold.

    Parameters
    ----------
    counts : ThresholdCounts
    cost : array-like of shape (2, 2)
        Cost of a row by true class (row: negative, positive) and predicted class (column), as a confusion matrix is
        laid out; a gain is a negative cost.

    Raises
    ------
    ConfigError
        Not four finite numbers in two rows.
    """
    try:
        of = np.asarray(cost, dtype=np.float64)
    except (TypeError, ValueError):
        of = np.empty(0)
    if of.shape != (2, 2) or not np.isfinite(of).all():
        raise ConfigError(
            f"cost={cost!r} must be a table of two rows, true class, and two columns, predicted class: "
            "cost=[[0, 1], [10, 0]] for a false alarm of 1 and a miss of 10."
        )
    tp, fp = counts.true, counts.false
    total = of[1, 1] * tp + of[0, 1] * fp + of[1, 0] * (tp[-1] - tp) + of[0, 0] * (fp[-1] - fp)
    mean: Floats = total / (tp[-1] + fp[-1])
    return mean
