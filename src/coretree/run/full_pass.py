"""One pass over all rows at a fitted model: a tally of each leaf, wherever leaves are read, added in leaf order."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import pandas as pd

from coretree.data.columns import Coded, Columns
from coretree.data.dataset import Dataset
from coretree.data.encode import class_codes, to_frame
from coretree.data.to_sklearn import features
from coretree.errors import ConfigError, DataError, EmptyDataError
from coretree.learn.clustering import LloydTally, lloyd_tally
from coretree.learn.curvature import (
    BINS,
    CurvatureTally,
    Metric,
    Probe,
    curvature_tally,
    no_metric,
    probe_at,
    sample_metric,
    tally_metric,
)
from coretree.learn.margins import Float
from coretree.learn.penalised import Penalised
from coretree.learn.polish import SampleRows
from coretree.run.build import Progress
from coretree.run.evaluate import as_divided, check_columns
from coretree.run.executor import executor_for
from coretree.run.frontier import Job
from coretree.run.tasks import Reading
from coretree.run.unseen import Counted, check_known, in_order, strange_rows

MOST_PARAMETERS = 2_000
HELD_BYTES = 256 << 20  # of tallies that wait here to be added

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class CurvatureWork:
    """Curvature tally of one leaf: its rows with labels that the estimator knows, and how many others have which."""

    reading: Reading
    prepare: Any
    objective: Penalised
    classes: tuple[Any, ...] | None
    probe: Probe

    def __call__(self, job: Job, frame: pd.DataFrame | None) -> Counted[CurvatureTally]:
        """Carry one job out."""
        assert job.leaf is not None
        total = Counted(CurvatureTally.empty(self.probe))
        for columns, _ in self.reading.rows(job.leaf, frame):
            known, unseen = self._known(columns)
            tally = CurvatureTally.empty(self.probe)
            if len(known):
                X = self.objective.design(features(self.prepare, to_frame(known)))
                tally = curvature_tally(self.probe, X, targets(known, self.classes), known.weights)
            total = total + Counted(tally, unseen)
        return total

    def _known(self, columns: Columns) -> tuple[Columns, Mapping[Any, int]]:
        """Rows that have a place in the objective, and the labels of the others."""
        if self.classes is None:
            return columns, {}
        assert isinstance(columns.target, Coded)
        strange, unseen = strange_rows(columns.target, self.classes)
        return (columns.take(~strange) if unseen else columns), unseen


@dataclass(frozen=True, eq=False)
class ClusterWork:
    """Lloyd tally of one leaf."""

    reading: Reading
    prepare: Any
    centers: Float

    def __call__(self, job: Job, frame: pd.DataFrame | None) -> LloydTally:
        """Carry one job out."""
        assert job.leaf is not None
        total = LloydTally.empty(*self.centers.shape)
        for columns, _ in self.reading.rows(job.leaf, frame):
            if len(columns):
                total = total + lloyd_tally(features(self.prepare, to_frame(columns)), self.centers, columns.weights)
        return total


def targets(columns: Columns, classes: tuple[Any, ...] | None) -> npt.NDArray[Any]:
    """Class codes in the order of the estimator's own classes, or quantities."""
    if classes is None:
        assert isinstance(columns.target, np.ndarray)
        return columns.target
    assert isinstance(columns.target, Coded)
    return class_codes(columns.target, classes, columns.path)


def reading_for(model: Any, data: Dataset, *, target: bool) -> Reading:
    """How the rows of a data set are read for a model."""
    check_columns(model.schema_, data, target=target)
    return Reading(as_divided(model.schema_, data), model.clean_, data.selection)


def summed(
    data: Dataset, work: Any, start: T, leaf_bytes: int, stage: str, client: Any, progress: Progress | None
) -> T:
    """Add the tallies of all leaves in leaf order, whoever made them; so many at a time that they fit in memory."""
    executor, leaves = executor_for(client, data=data), data.scan.leaves
    run = uuid.uuid4().hex[:12]  # names of tasks on the cluster only: two passes never share one
    at_once = max(2 * executor.n_slots, HELD_BYTES // max(leaf_bytes, 1))
    jobs = [Job(f"{stage}-{run}-{i:06d}", leaf) for i, leaf in enumerate(leaves)]
    total: Any = start
    for first in range(0, len(jobs), at_once):
        batch = jobs[first : first + at_once]

        def tell(_: Job, done: int, __: int, before: int = first) -> None:
            if progress is not None:
                progress(stage, before + done, len(jobs))

        found = executor.run(batch, work, data, tell)
        for job in batch:
            total = total + found[job.name]
    return total


class FullPass:
    """Passes over all rows at parameters of a model's objective.

    The metric is the coreset's, where the model brings one; else the first pass is spent on finding it. Rows with a
    label that the estimator does not know have no place in the objective: each pass leaves them out, ``unseen`` counts
    them by label, and the first one says so in a ``DataWarning``. ``n_passes`` counts the
    passes, ``n_rows`` the rows that they judge.
    """

    def __init__(
        self, model: Any, objective: Penalised, data: Dataset, stage: str, client: Any, progress: Progress | None
    ) -> None:
        if objective.theta.size > MOST_PARAMETERS:
            raise ConfigError(
                f"this model has {objective.theta.size:,} parameters; their Hessian is gathered up to "
                f"{MOST_PARAMETERS:,}. Judge it with ct.evaluate(model, data) instead, or pool rare categories."
            )
        self.reading, self.objective = reading_for(model, data, target=True), objective
        self.prepare, final = model.estimator_[:-1], model.estimator_[-1]
        self.classes = tuple(final.classes_.tolist()) if hasattr(final, "classes_") else None
        self.sample = _sample(model, objective, self.prepare, self.classes)
        self.data, self.stage, self.client, self.progress = data, stage, client, progress
        self.metric: Metric | None = None
        self.unseen: dict[Any, int] = {}
        self.n_passes, self.n_rows = 0, 0

    def __call__(self, theta: Float, trials: Float) -> tuple[Probe, CurvatureTally]:
        """One pass; see ``coretree.learn.polish.Look``."""
        loss, objective, sample = self.objective.loss, self.objective, self.sample
        if sample is not None:
            l2 = objective.penalties(float(sample.weights.sum()))[0][: len(theta)]
            try:
                self.metric = sample_metric(loss, theta, l2, sample.X, sample.y, sample.weights)
            except DataError:
                if self.metric is None:  # else a step went too far: any metric will do to see that
                    raise
        elif self.metric is None:
            plain = probe_at(loss, theta, no_metric(len(theta)))
            self._keep(self._finite(self._tally(plain)), plain)
        assert self.metric is not None
        probe = probe_at(loss, theta, self.metric, trials)
        tally = self._tally(probe)
        if not len(trials):  # with trials, it may be a step that is found to go too far
            self._finite(tally)
        if sample is None and tally.finite:
            self._keep(tally, probe)
        return probe, tally

    def _finite(self, tally: CurvatureTally) -> CurvatureTally:
        if not tally.finite:
            raise DataError(
                f"{self.data.scan.where}: the objective is not finite on these rows; the model's margins overflow on "
                "some of them. Clip or scale the features (PrepareRules), or leave the outliers out."
            )
        return tally

    def _keep(self, tally: CurvatureTally, probe: Probe) -> None:
        """Make the curvature of all rows the metric of the next pass: any metric is right, a near one is sharp."""
        l2 = self.objective.penalties(tally.weight)[0][: len(probe.theta)]
        self.metric = tally_metric(tally, probe.metric, l2)

    def _tally(self, probe: Probe) -> CurvatureTally:
        work = CurvatureWork(self.reading, self.prepare, self.objective, self.classes, probe)
        size = BINS * 8 * probe.theta.size**2
        start = Counted(CurvatureTally.empty(probe))
        found = summed(self.data, work, start, size, self.stage, self.client, self.progress)
        tally = found.tally
        self.n_passes += 1
        if self.n_passes == 1:
            self.n_rows, self.unseen = tally.n_rows, in_order(found.unseen)
            lacking = "the fitted estimator does not know"
            check_known(self.unseen, tally.n_rows, self.classes, self.data.scan.where, lacking=lacking)
        if tally.n_rows == 0:
            raise EmptyDataError(f"{self.data.scan.where}: no row is left after cleaning and splitting.")
        return tally


def _sample(model: Any, objective: Penalised, prepare: Any, classes: tuple[Any, ...] | None) -> SampleRows | None:
    """The model's coreset as rows of its objective."""
    core = getattr(model, "coreset_", None)
    if core is None:
        return None
    y = core.y.to_numpy()
    if classes is not None:
        place = {label: i for i, label in enumerate(classes)}
        y = np.array([place[label] for label in y.tolist()], dtype=np.int64)
    return SampleRows(objective.design(features(prepare, core.X)), y, core.sample_weight)
