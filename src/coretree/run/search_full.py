"""Judge a few settings on every held-out row of each fold, in one streaming pass over the data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from coretree.data.columns import Columns
from coretree.data.dataset import Dataset
from coretree.data.encode import to_frame
from coretree.data.to_sklearn import features
from coretree.errors import ConfigError, EmptyDataError
from coretree.learn.fold_rules import FoldRule
from coretree.learn.scorers import WeightedScorer
from coretree.run.build import Progress
from coretree.run.evaluate import Judged, Tally, as_divided, check_columns, run_over_leaves, tally
from coretree.run.frontier import Job
from coretree.run.tasks import Reading
from coretree.tree.recipe import Recipe

# what of a tally is the score of a name, and its sign
METRICS = MappingProxyType(
    {
        "roc_auc": ("roc_auc", 1.0),
        "average_precision": ("average_precision", 1.0),
        "neg_log_loss": ("log_loss", -1.0),
        "neg_brier_score": ("brier", -1.0),
        "accuracy": ("accuracy", 1.0),
        "balanced_accuracy": ("balanced_accuracy", 1.0),
        "f1_macro": ("f1_macro", 1.0),
        "r2": ("r2", 1.0),
        "neg_mean_squared_error": ("mse", -1.0),
        "neg_root_mean_squared_error": ("rmse", -1.0),
        "neg_mean_absolute_error": ("mae", -1.0),
    }
)


def check_full(scorer: WeightedScorer, *, reads: bool) -> None:
    """Refuse, before anything is fitted, what one pass cannot judge.

    Raises
    ------
    ConfigError
    """
    if scorer.name not in METRICS:
        raise ConfigError(
            f'validate="full" adds up scores part by part, which {scorer.name!r} does not allow. Refit by one of '
            f"{', '.join(METRICS)}."
        )
    if not reads:
        raise ConfigError('validate="full" reads all rows once more: give fit(data), or data=...')


@dataclass(frozen=True, eq=False)
class FoldsWork:
    """Tallies of one leaf: of every model (n settings, cv folds), on the leaf's rows of the fold that it never saw."""

    reading: Reading
    rule: FoldRule
    models: tuple[tuple[Judged, ...], ...]

    def __call__(self, job: Job, frame: pd.DataFrame | None) -> list[list[Tally]]:
        """Carry one job out."""
        assert job.leaf is not None
        empty = self.reading.no_rows(job.leaf)
        total = self.tallies(*empty)
        for columns, ids in self.reading.rows(job.leaf, frame):
            if len(columns):
                found = self.tallies(columns, ids)
                total = [[a + b for a, b in zip(x, y, strict=True)] for x, y in zip(total, found, strict=True)]  # type: ignore[operator]
        return total

    def tallies(self, columns: Columns, ids: npt.NDArray[np.uint64]) -> list[list[Tally]]:
        """Tallies of one clean chunk: rows are prepared once for all models."""
        folds = self.rule.of(ids, columns.seconds)
        X = features(self.models[0][0].prepare, to_frame(columns)) if len(columns) else None
        out: list[list[Tally]] = [[] for _ in self.models]
        for k in range(self.rule.cv):
            inside = np.flatnonzero(folds == k)
            rows, held = columns.at(inside), None if X is None or not len(inside) else X[inside]
            for tallied, models in zip(out, self.models, strict=True):
                tallied.append(tally(models[k], rows, held))
        return out


def full_scores(
    models: Sequence[Sequence[Any]],
    data: Dataset,
    recipe: Recipe,
    rule: FoldRule,
    prepare: Any,
    scorer: WeightedScorer,
    client: Any,
    progress: Progress | None,
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], int]:
    """Score each setting's fold models on all rows of their folds.

    Parameters
    ----------
    models : sequence of n sequences of cv fitted estimators
        Of prepared rows.
    data : Dataset
        The rows that the tree stands for.
    recipe : Recipe
        The tree's.
    rule : HashFolds or TimeFolds
    prepare : transformer
        The tree's.
    scorer : WeightedScorer
        A name of `METRICS`.
    client, progress
        See ``CoresetTree.build``.

    Returns
    -------
    scores : (n, cv) float array
    masses : (cv,) float array
        Weight of each fold's rows.
    n_rows : int
        Rows judged.
    """
    check_columns(recipe.schema, data, target=True)
    classes = recipe.classes
    judged = tuple(tuple(Judged(prepare, model, classes) for model in row) for row in models)
    work = FoldsWork(Reading(as_divided(recipe.schema, data), recipe.clean, data.selection), rule, judged)
    found = run_over_leaves(data, work, "validate", client, progress)
    totals = [
        [sum((part[i][k] for part in found[1:]), found[0][i][k]) for k in range(rule.cv)] for i in range(len(models))
    ]
    if not all(one.n_rows for one in totals[0]):
        raise EmptyDataError(f"{data.scan.where}: a fold has no row after cleaning and splitting. Use fewer folds.")
    name, sign = METRICS[scorer.name]
    values = [[one.metrics()[name] for one in row] for row in totals]
    scores = np.array([[np.nan if v is None else sign * v for v in row] for row in values])
    return scores, np.array([one.weight for one in totals[0]]), sum(one.n_rows for one in totals[0])
