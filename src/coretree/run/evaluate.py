"""Judge models on every held-out row: mergeable tallies, computed part by part and added in leaf order."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import joblib
import numpy as np
import numpy.typing as npt
import pandas as pd

from coretree.data.columns import Coded, Columns
from coretree.data.dataset import Dataset
from coretree.data.encode import to_frame
from coretree.data.schema import Schema, kind_of
from coretree.data.to_sklearn import features
from coretree.errors import EmptyDataError, SchemaError
from coretree.learn.metrics import ClassificationTally, RegressionTally, classification_tally, regression_tally
from coretree.learn.prior_shift import PriorShift
from coretree.learn.threads import limited_threads
from coretree.run.build import Progress
from coretree.run.executor import executor_for
from coretree.run.frontier import Job
from coretree.run.inputs import check_names
from coretree.run.tasks import Reading
from coretree.run.unseen import Counted, check_known, in_order, strange_rows

Tally = ClassificationTally | RegressionTally
Index = npt.NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class Evaluation:
    """How a model does on held-out rows, all of them.

    Attributes
    ----------
    task : "classification" or "regression"
    metrics : dict
        Plain numbers; None where one is undefined. ``roc_auc`` and ``average_precision`` come from histograms and
        carry their error: the exact value lies within ``roc_auc_error`` of it.
    labels : tuple
        Class labels in the order of the confusion matrix; empty for regression.
    n_rows : int
        Rows judged.
    seconds : float
        Wall time.
    tally : ClassificationTally or RegressionTally
        Mergeable: tallies of two data sets add up with ``+``.
    unseen : dict of label to rows
        Rows whose label no training row has: counted here, and left out of everything else.
    """

    task: str
    metrics: dict[str, Any]
    labels: tuple[Any, ...]
    n_rows: int
    seconds: float
    tally: Tally
    unseen: Mapping[Any, int] = field(default_factory=dict)

    def __repr__(self) -> str:
        names = ("roc_auc", "log_loss", "accuracy") if self.task == "classification" else ("r2", "rmse", "mae")
        shown = ", ".join(f"{n} {self.metrics[n]:.4f}" for n in names if self.metrics.get(n) is not None)
        return f"Evaluation({self.n_rows:,} rows: {shown})"

    @property
    def per_class(self) -> list[dict[str, Any]]:
        """Precision, recall, F1 and support of each class."""
        return self.tally.per_class(list(self.labels)) if isinstance(self.tally, ClassificationTally) else []

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        labels = [x.item() if hasattr(x, "item") else x for x in self.labels]
        return {
            "task": self.task,
            "n_rows": self.n_rows,
            "labels": labels,
            "seconds": self.seconds,
            "metrics": self.metrics,
            "unseen": {str(label): n for label, n in self.unseen.items()},
        }


def evaluate(model: Any, data: Dataset, *, client: Any = None, progress: Progress | None = None) -> Evaluation:
    """Predict and judge every row of a data set (or of its held-out side), in parallel.

    Parameters
    ----------
    model : CoresetClassifier or CoresetRegressor
        Fitted or loaded.
    data : Dataset
        Has to hold the model's features and the target.
    client, progress
        See ``CoresetTree.build``.

    Raises
    ------
    SchemaError
        A feature or the target is missing, or of another kind.
    EmptyDataError
        There is no row to judge.
    TargetError
        No row has a label that the model knows. Where only some rows have unknown ones, they are counted
        (``unseen``), told in a ``DataWarning``, and not judged.
    """
    return evaluate_all({"model": model}, data, client=client, progress=progress)["model"]


def evaluate_all(
    models: Mapping[str, Any], data: Dataset, *, client: Any = None, progress: Progress | None = None
) -> dict[str, Evaluation]:
    """Judge several models of the same target in one pass over the data."""
    started = time.perf_counter()
    first = next(iter(models.values()))
    schema: Schema = first.schema_
    check_columns(schema, data, target=True)
    judged = judged_together(models)
    executor, n_leaves = executor_for(client, data=data), len(data.scan.leaves)
    threads = 1 if 1 < n_leaves >= executor.n_slots else None
    work = EvaluateWork(Reading(as_divided(schema, data), first.clean_, data.selection), judged, threads)
    found = run_over_leaves(data, work, "evaluate", executor, progress)
    out = {}
    for name, model in judged.items():
        counted = sum((each[name] for each in found[1:]), found[0][name])
        total, unseen = counted.tally, counted.unseen
        check_known(unseen, total.n_rows, model.classes, data.scan.where)
        if total.n_rows == 0:
            raise EmptyDataError(f"{data.scan.where}: no row to evaluate on is left after cleaning and splitting.")
        task = "regression" if model.classes is None else "classification"
        seconds = time.perf_counter() - started
        out[name] = Evaluation(
            task, total.metrics(), model.classes or (), total.n_rows, seconds, total, in_order(unseen)
        )
    return out


@dataclass(frozen=True, eq=False)
class Judged:
    """A fitted model in its two parts, preparation and estimator, and its class labels (None for regression)."""

    prepare: Any
    final: Any
    classes: tuple[Any, ...] | None


def judged_together(models: Mapping[str, Any]) -> dict[str, Judged]:
    """The models to judge; those of one tree share one preparation, so that rows are prepared once for all of them."""
    found = {name: model.estimator_[:-1] for name, model in models.items()}
    same = {name: tuple(id(step) for _, step in prepare.steps) for name, prepare in found.items()}
    distinct = {same[name]: prepare for name, prepare in found.items()}  # models fitted together share the very objects
    keys = {one: joblib.hash(prepare) if len(distinct) > 1 else "" for one, prepare in distinct.items()}
    shared = {keys[one]: prepare for one, prepare in distinct.items()}
    out = {}
    for name, model in models.items():
        classes = tuple(model.classes_.tolist()) if hasattr(model, "classes_") else None
        out[name] = Judged(shared[keys[same[name]]], model.estimator_[-1], classes)
    return out


@dataclass(frozen=True, eq=False)
class EvaluateWork:
    """Verdicts of one leaf, for each model.

    ``n_threads`` is for each prediction: one where leaves are judged side by side, and None for as many as it likes.
    """

    reading: Reading
    models: Mapping[str, Judged]
    n_threads: int | None = None

    def __call__(self, job: Job, frame: pd.DataFrame | None) -> dict[str, Counted[Tally]]:
        """Carry one job out."""
        assert job.leaf is not None
        with limited_threads(self.n_threads):
            parts = [self.verdicts(columns) for columns, _ in self.reading.rows(job.leaf, frame)]
        parts = parts or [self.verdicts(self.reading.no_rows(job.leaf)[0])]
        return {name: sum((p[name] for p in parts[1:]), parts[0][name]) for name in self.models}

    def verdicts(self, columns: Columns) -> dict[str, Counted[Tally]]:
        """Verdicts of one clean chunk."""
        prepared: dict[int, Any] = {}
        kinds = columns.kinds()  # rows that are alike are predicted once
        if len(columns):
            rows = to_frame(columns if kinds is None else columns.at(kinds[0]))
            for prepare in {id(model.prepare): model.prepare for model in self.models.values()}.values():
                # column by column: a tree looks at few of them, and boosting then needs half the time
                prepared[id(prepare)] = features(prepare, rows, order="F")
        of = None if kinds is None else kinds[1]
        return {name: verdict(m, columns, prepared.get(id(m.prepare)), of) for name, m in self.models.items()}


def verdict(model: Judged, columns: Columns, X: Any, of: Index | None) -> Counted[Tally]:
    """Judge the rows whose label a model knows, and count the others."""
    if model.classes is None or X is None:
        return Counted(tally(model, columns, X, of))
    assert isinstance(columns.target, Coded)
    strange, unseen = strange_rows(columns.target, model.classes)
    if not unseen:
        return Counted(tally(model, columns, X, of))
    rest, known = columns.take(~strange), np.flatnonzero(~strange)
    if not len(rest):
        return Counted(tally(model, rest, None), unseen)
    return Counted(tally(model, rest, X, known if of is None else of[known]), unseen)


def tally(model: Judged, columns: Columns, X: Any, of: Index | None = None) -> Tally:
    """Judge clean rows by prepared features, (m, d), and which of these each has (None: its own); no row: X is None."""

    def each(answers: Any) -> Any:
        return answers if of is None else answers[of]

    final = model.final
    if model.classes is None:
        if X is None:
            return RegressionTally.empty()
        assert isinstance(columns.target, np.ndarray)
        return regression_tally(columns.target, each(final.predict(X)), weights=columns.weights)
    has_proba = hasattr(final, "predict_proba")
    has_decision = not has_proba and hasattr(final, "decision_function")
    k = len(model.classes)
    if X is None:
        return ClassificationTally.empty(k, has_proba=has_proba, has_decision=has_decision)
    assert isinstance(columns.target, Coded)
    place = {label: i for i, label in enumerate(model.classes)}
    known = [place[label] for label in final.classes_.tolist()]
    raw = each(final.predict_proba(X)) if has_proba else None
    proba = None if raw is None else _spread(raw, known, k, 0.0)
    decision = each(final.decision_function(X)) if has_decision else None
    if decision is not None and decision.ndim == 2:
        decision = _spread(decision, known, k, -np.inf)
    if isinstance(final, PriorShift) and raw is not None:  # it says what is most probable; others may have rules
        predicted = np.array(known, np.intp)[np.argmax(raw, axis=1)]
    else:
        predicted = each(np.array([place[label] for label in final.predict(X).tolist()], dtype=np.intp))
    y = columns.target.recode(place, k)
    return classification_tally(y, predicted, proba=proba, decision=decision, weights=columns.weights, n_classes=k)


def _spread(values: npt.NDArray[Any], known: list[int], k: int, absent: float) -> npt.NDArray[Any]:
    """Columns for all classes, where the model may have met only some."""
    if known == list(range(k)):
        return values
    out = np.full((len(values), k), absent)
    out[:, known] = values
    return out


def run_over_leaves(data: Dataset, work: Any, stage: str, client: Any, progress: Progress | None) -> list[Any]:
    """Results of independent leaf jobs, in leaf order."""
    executor = executor_for(client, data=data)
    run = uuid.uuid4().hex[:12]  # names of tasks on the cluster only: two evaluations never share one
    jobs = [Job(f"{stage}-{run}-{i:06d}", leaf) for i, leaf in enumerate(data.scan.leaves)]
    results = executor.run(
        jobs, work, data, None if progress is None else lambda _, done, total: progress(stage, done, total)
    )
    return [results[job.name] for job in jobs]


def as_divided(schema: Schema, data: Dataset) -> Schema:
    """A model's schema, with the columns by which a data set identifies, divides and weighs its rows."""
    own = data.schema
    return replace(schema, time=own.time, group=own.group, id=own.id, weight=own.weight)


def check_columns(schema: Schema, data: Dataset, *, target: bool) -> None:
    """Make sure that a data set holds what a model needs, under the same names and kinds.

    Raises
    ------
    SchemaError
        A column is missing, or text where the model learned from numbers (or the reverse).
    """
    arrow, where = data.scan.arrow_schema, data.scan.where
    needed = [f.name for f in schema.features] + ([schema.target] if target and schema.target else [])
    own = data.schema
    named = [name for name in (own.target, own.time, own.group, own.id, own.weight) if name is not None]
    check_names(arrow.names, needed, where, also_known=named)
    for feature in schema.features:
        found = arrow.field(feature.name).type
        if kind_of(found) == "categorical" and not feature.is_text and feature.kind != "datetime":
            raise SchemaError(
                f"{where}: column '{feature.name}' is {found}, but the model learned from {feature.type}. "
                "Cast it to a number first."
            )
