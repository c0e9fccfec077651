"""From a node to rows that a model can be fitted on: cut to size, finalise, calibrate, decode."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from coretree.coreset.calibrate import calibrate, counts_only
from coretree.coreset.calibrated import Report
from coretree.coreset.priority import Sample
from coretree.coreset.scores import PilotState
from coretree.coreset.totals import Totals
from coretree.data.encode import decode, design
from coretree.errors import ConfigError, CoresetQualityWarning
from coretree.tree.node import Node
from coretree.tree.recipe import Recipe


@dataclass(frozen=True, eq=False)
class Coreset:
    """Weighted rows that stand for all the training rows below a node.

    Attributes
    ----------
    X : DataFrame, m rows
        Clean columns under their own names; categories that are rare in the training rows read "(other)".
    y : Series, m rows
        Target, with the labels of the data.
    sample_weight : ndarray of float64, shape (m,)
        Positive; sums to the base weight of the rows represented, class by class.
    n_rows : int
        Exact number of training rows represented.
    report : Report
        What the weights reproduce, the effective sample size, and what to think of it.
    class_counts : dict of label to float, or None
        Exact class totals of the rows represented.
    objective : str
        The sketch it comes from.
    ids : ndarray of uint64, shape (m,)
        Row identities; folds and nested sizes are made from them.
    """

    X: pd.DataFrame
    y: pd.Series[Any]
    sample_weight: npt.NDArray[np.float64]
    n_rows: int
    report: Report
    class_counts: dict[Any, float] | None
    objective: str
    ids: npt.NDArray[np.uint64]

    def __len__(self) -> int:
        return len(self.sample_weight)

    def __repr__(self) -> str:
        effective = f"{self.report.effective_rows:,.0f}"
        return f"Coreset({len(self):,} {self.objective} rows for {self.n_rows:,}, effective {effective})"

    def to_frame(self) -> pd.DataFrame:
        """Features, target and a column ``sample_weight``, in one table."""
        return self.X.assign(**{str(self.y.name): self.y.to_numpy(), "sample_weight": self.sample_weight})


def make_coreset(
    node: Node,
    recipe: Recipe,
    *,
    size: int | None = None,
    objective: str = "robust",
    at: tuple[PilotState, Totals] | None = None,
) -> Coreset:
    """Finish one sketch of a node.

    Parameters
    ----------
    node : Node
        Any node, window or merge of nodes under the recipe.
    recipe : Recipe
    size : int, optional
        Rows wanted; at most what the node holds. Smaller sizes are prefixes: nested samples.
    objective : str
        "robust", "balanced" or "uniform".
    at : (PilotState, Totals), optional
        Totals at a better model than the recipe's pilot, from a third pass; what the weights are calibrated to.

    Raises
    ------
    ConfigError
        The node has no such sketch, or fewer rows than asked for.
    """
    sample = draw(node, size=size, objective=objective)
    y = sample.rows["y"]
    if objective == "robust":
        X = design(sample.rows, recipe.preparation)
        pilot, totals = at or (recipe.pilot, node.totals)
        outcome = calibrate(sample.weights, sample.base, X, y, pilot, totals)
    else:
        outcome = counts_only(sample.weights, sample.base, y, node.totals)
    for message in outcome.report.warnings:
        warnings.warn(message, CoresetQualityWarning, stacklevel=3)
    return _labelled(sample, outcome.weights, outcome.report, node, recipe, objective)


def draw(node: Node, *, size: int | None = None, objective: str = "robust") -> Sample:
    """Cut one sketch of a node to size and finalise it: rows with design weights, before calibration."""
    if objective not in node.sketches:
        raise ConfigError(f"objective='{objective}' is not in this tree; it holds {', '.join(node.sketches)}.")
    found = node.sketches[objective]
    wanted = found.capacity if size is None else int(size)
    if wanted < 1 or wanted > found.capacity:
        raise ConfigError(
            f"size={wanted} must lie between 1 and {found.capacity}, the rows that this tree keeps of the "
            f"'{objective}' sketch. Build a larger tree with CoresetTree(..., size=...)."
        )
    return found.reduce(wanted).finalise()


def _labelled(
    sample: Sample, weights: npt.NDArray[np.float64], report: Report, node: Node, recipe: Recipe, objective: str
) -> Coreset:
    """Give codes their labels back."""
    y = sample.rows["y"]
    counts: dict[Any, float] | None = None
    if recipe.classes is not None:
        counts = dict(zip(recipe.classes, node.totals.counts.tolist(), strict=True))
        y = recipe.labels[y.astype(np.intp)]
    return Coreset(
        X=decode(sample.rows, recipe.preparation),
        y=pd.Series(y, name=recipe.schema.target),
        sample_weight=weights,
        n_rows=node.n_rows,
        report=report,
        class_counts=counts,
        objective=objective,
        ids=sample.ids,
    )
