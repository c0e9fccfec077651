"""The threshold of a two-class model that is best for a metric or a table of costs, and reports class by class."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import FixedThresholdClassifier
from sklearn.pipeline import Pipeline

from coretree.data.dataset import Dataset
from coretree.errors import ConfigError
from coretree.learn.class_report import ClassReport, class_report
from coretree.learn.metrics import ClassificationTally, classification_tally
from coretree.learn.thresholds import Metric, ThresholdCounts, costs_at, values_at
from coretree.run.build import Progress
from coretree.run.evaluate import Evaluation, evaluate
from coretree.run.fitted import FittedModel
from coretree.run.weighted_rows import plain, weighted_rows


@dataclass(frozen=True, eq=False)
class TunedThreshold:
    """A threshold, what it is worth, and the model that predicts by it.

    Attributes
    ----------
    threshold : float
        Rows whose probability (or decision value, of models without) of ``positive`` is at least this are predicted
        so. Infinite where it is best never to predict it.
    value : float
        Of the metric at this threshold; of costs, the mean cost of a row.
    default_value : float
        The same at the model's own threshold, 0.5 (0 for decision values).
    metric : str
        Its name, or "cost".
    positive : label
    classifier : FixedThresholdClassifier
        Plain scikit-learn, around the fitted model; predicts on raw pandas rows.
    model : fitted model
        The model as it was given, predicting by the new threshold: for ``evaluate``, ``predict`` and ``save``. The
        classifier itself for a model that is not coretree's.
    curve : DataFrame
        One row a threshold, decreasing: weights of true and false positives and negatives, precision, recall, value.
    n_rows : int
        Rows it was tuned on.
    unseen : dict of label to rows
        Rows of labels that the model does not know, left out.
    """

    threshold: float
    value: float
    default_value: float
    metric: str
    positive: Any
    classifier: FixedThresholdClassifier
    model: Any
    curve: pd.DataFrame
    n_rows: int
    unseen: Mapping[Any, int] = field(default_factory=dict)

    def __repr__(self) -> str:
        return (
            f"TunedThreshold({self.positive!r} from {self.threshold:.4g}: {self.metric} {self.value:.4f}, was "
            f"{self.default_value:.4f}, on {self.n_rows:,} rows)"
        )


def tune_threshold(
    model: Any,
    data: Any = None,
    *,
    metric: Metric = "f1",
    cost: Any = None,
    positive: Any = None,
    client: Any = None,
    progress: Progress | None = None,
) -> TunedThreshold:
    """Find the threshold of a two-class model that is best on weighted rows, or on all rows of a data set.

    Parameters
    ----------
    model : fitted classifier
        Of coretree or scikit-learn, with two classes; not changed.
    data : Dataset, Coreset, CoresetTree, tuple or None
        Held-out rows are best: those that a flexible model was fitted on flatter it. A Dataset is streamed and
        counted in score bins 0.0011 wide in the logit. A tree gives its uniform sketch; ``(X, y)`` and
        ``(X, y, sample_weight)`` are rows in memory. None: the coreset that the model was fitted on.
    metric : str or callable
        "f1", "balanced_accuracy", "accuracy", or a metric of predicted labels with scikit-learn's arguments
        ``(y_true, y_pred, sample_weight=...)`` (labels are 0 and 1), of which more is better.
    cost : array-like of shape (2, 2), optional
        In place of a metric: cost of a row by true class (row: the other, the positive) and predicted class (column).
        ``[[0, 1], [10, 0]]`` takes a miss for as bad as ten false alarms.
    positive : label, optional
        The second class by default.
    client, progress
        See ``CoresetTree.build``.

    Returns
    -------
    TunedThreshold

    Raises
    ------
    ConfigError
        Not two classes, no scores, an unknown metric or label, or costs that are no table.
    TargetError
        The rows are all of one class.

    Examples
    --------
    >>> import coretree as ct
    >>> rng = np.random.default_rng(0)
    >>> X = pd.DataFrame(rng.normal(size=(4000, 2)), columns=["a", "b"])
    >>> y = X["a"] + rng.logistic(size=4000) > 3
    >>> found = tune_threshold(ct.CoresetClassifier(size=500).fit(X, y), (X, y))
    >>> found.threshold < 0.5, found.value > found.default_value
    (True, True)
    """
    estimator = plain(model)
    classes = getattr(estimator, "classes_", None)
    if classes is None or len(classes) != 2:
        found = "no classes" if classes is None else f"{len(classes)} classes"
        raise ConfigError(f"{type(model).__name__} has {found}; a threshold needs a classifier of two.")
    labels = np.asarray(classes).tolist()
    positive = labels[1] if positive is None else positive
    if positive not in labels:
        raise ConfigError(f"positive={positive!r} is no class of the model; its classes are {labels}.")
    counts, n_rows, unseen = _counts(model, data, labels.index(positive), client, progress)
    values = values_at(counts, metric) if cost is None else costs_at(counts, cost)
    best = int(np.nanargmax(values) if cost is None else np.argmin(values))
    own = counts.at(0.5 if hasattr(estimator, "predict_proba") else 0.0)
    if np.isnan(values[own]):  # a function is not tried everywhere
        values[own] = values_at(counts.only([own, -1]), metric)[0]
        best = own if values[own] > values[best] else best
    threshold = float(counts.thresholds[best])
    classifier = _fixed(estimator, threshold, positive)
    return TunedThreshold(
        threshold,
        float(values[best]),
        float(values[own]),
        "cost" if cost is not None else metric if isinstance(metric, str) else getattr(metric, "__name__", "metric"),
        positive,
        classifier,
        _with_threshold(model, threshold, positive) if isinstance(model, FittedModel) else classifier,
        counts.table().assign(value=values),
        n_rows,
        unseen,
    )


def _counts(
    model: Any, data: Any, place: int, client: Any, progress: Progress | None
) -> tuple[ThresholdCounts, int, Mapping[Any, int]]:
    """Weights at every threshold of the score of a class (0 or 1), rows behind them, and unseen labels."""
    estimator = plain(model)
    if not hasattr(estimator, "predict_proba") and not hasattr(estimator, "decision_function"):
        raise ConfigError(f"{type(model).__name__} has neither predict_proba nor decision_function: nothing to cut.")
    if isinstance(data, Dataset):
        found = evaluate(model, data, client=client, progress=progress)
        assert isinstance(found.tally, ClassificationTally)
        assert found.tally.scores is not None
        counts = ThresholdCounts.of_histogram(found.tally.scores, first_is_positive=place == 0)
        return counts, found.n_rows, found.unseen
    rows = weighted_rows(model, data)
    if hasattr(estimator, "predict_proba"):
        scores = estimator.predict_proba(rows.X)[:, place]
    else:
        scores = estimator.decision_function(rows.X) * (1 if place else -1)
    counts = ThresholdCounts.of_rows(rows.y == estimator.classes_[place], scores, rows.weights)
    return counts, len(rows.weights), rows.unseen


def _fixed(estimator: Any, threshold: float, positive: Any) -> FixedThresholdClassifier:
    how = "predict_proba" if hasattr(estimator, "predict_proba") else "decision_function"
    fixed = FixedThresholdClassifier(
        FrozenEstimator(estimator), threshold=threshold, pos_label=positive, response_method=how
    )
    return fixed.fit(np.zeros((2, 1)), estimator.classes_)  # fits nothing: what is frozen stays as it is


def _with_threshold(model: FittedModel, threshold: float, positive: Any) -> FittedModel:
    """A copy whose last step cuts at the threshold; an earlier threshold is taken off."""
    tuned = copy.copy(model)
    name, final = model.estimator_.steps[-1]
    if isinstance(final, FixedThresholdClassifier):
        final = final.estimator.estimator
    steps = [*model.estimator_.steps[:-1], (name, _fixed(final, threshold, positive))]
    tuned.estimator_ = Pipeline(steps)
    return tuned


def per_class_report(
    model: Any, data: Any = None, *, client: Any = None, progress: Progress | None = None
) -> ClassReport:
    """Precision, recall, F1 and support of each class, with weights, as a table and as text.

    Parameters
    ----------
    model : fitted classifier, or Evaluation
        What ``evaluate`` found needs no data and no further pass.
    data : Dataset, Coreset, CoresetTree, tuple or None
        As in ``tune_threshold``; every row of a Dataset is judged.
    client, progress
        See ``CoresetTree.build``.

    Returns
    -------
    ClassReport
        With ``table``, ``averages``, ``accuracy``, ``n_rows`` and ``unseen``; ``print`` shows it.

    Raises
    ------
    ConfigError
        The model predicts quantities.
    """
    if isinstance(data, Dataset) and not isinstance(model, Evaluation):
        model = evaluate(model, data, client=client, progress=progress)
    if isinstance(model, Evaluation):
        if not isinstance(model.tally, ClassificationTally):
            raise ConfigError("per_class_report: an evaluation of quantities has no classes; read its metrics.")
        return class_report(model.tally.confusion, model.labels, model.n_rows, model.unseen)
    estimator = plain(model)
    if not hasattr(estimator, "classes_"):
        raise ConfigError(f"per_class_report: {type(model).__name__} predicts no classes; use ct.evaluate.")
    rows = weighted_rows(model, data)
    labels = np.asarray(estimator.classes_).tolist()
    place = {label: i for i, label in enumerate(labels)}
    assert rows.y is not None
    truth, guess = (
        np.array([place[label] for label in np.asarray(values).tolist()], dtype=np.intp)
        for values in (rows.y, estimator.predict(rows.X))
    )
    tally = classification_tally(truth, guess, weights=rows.weights, n_classes=len(labels))
    return class_report(tally.confusion, labels, len(truth), rows.unseen)
