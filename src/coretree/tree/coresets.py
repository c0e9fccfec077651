"""From a node to rows that a model can be fitted on: cut to size, finalise, calibrate, decode."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd

from coretree.coreset.calibrate import calibrate, counts_only, match_sums
from coretree.coreset.calibrated import Report
from coretree.coreset.priority import Sample, Sketch
from coretree.coreset.residuals import pooled
from coretree.coreset.scores import PilotState
from coretree.coreset.totals import Totals
from coretree.data.encode import decode, design
from coretree.errors import ConfigError, CoresetQualityWarning
from coretree.tree.node import Node
from coretree.tree.objectives import POOLED, POOLED_OF
from coretree.tree.one_pass import class_sums, summed_columns
from coretree.tree.recipe import Recipe

Pilot: TypeAlias = tuple[PilotState, Totals]
"""A model, and the totals of the rows that a node stands for there."""


@dataclass(frozen=True, eq=False)
class Coreset:
    """Weighted rows that stand for all the training rows below a node.

    Attributes
    ----------
    X : DataFrame, m rows
        Clean columns under their own names; categories that are rare in the training rows read "(other)".
    y : Series, m rows, or None
        Target, with the labels of the data; None where the data have none.
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
    seconds : ndarray of float64, shape (m,), or None
        Event times in seconds since 1970 (UTC), NaN where missing; None where the data have no time column.
    """

    X: pd.DataFrame
    y: pd.Series[Any] | None
    sample_weight: npt.NDArray[np.float64]
    n_rows: int
    report: Report
    class_counts: dict[Any, float] | None
    objective: str
    ids: npt.NDArray[np.uint64]
    seconds: npt.NDArray[np.float64] | None = None

    def __len__(self) -> int:
        return len(self.sample_weight)

    def __repr__(self) -> str:
        effective = f"{self.report.effective_rows:,.0f}"
        return f"Coreset({len(self):,} {self.objective} rows for {self.n_rows:,}, effective {effective})"

    @property
    def target(self) -> npt.NDArray[Any]:
        """The target as an array.

        Raises
        ------
        ConfigError
            The data have none.
        """
        if self.y is None:
            raise ConfigError("these rows have no target: name it with target=... when you open the dataset.")
        return self.y.to_numpy()

    def to_frame(self) -> pd.DataFrame:
        """Features, target and a column ``sample_weight``, in one table."""
        target = {} if self.y is None else {str(self.y.name): self.y.to_numpy()}
        return self.X.assign(**target, sample_weight=self.sample_weight)


def make_coreset(
    node: Node,
    recipe: Recipe,
    *,
    size: int | None = None,
    objective: str = "robust",
    at: Mapping[str, Pilot] | None = None,
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
        One of the node's sketches. Those with a pilot are calibrated; "residual" keeps its unbiased weights, rescaled
        to the class counts; "balanced" and "uniform" weigh the rows of a class alike. "pooled", for quantities, is the
        uniform and the robust sample in one, of ``size`` rows each: for trees, where residual scores do not pay.
    at : mapping of objective to (PilotState, Totals), optional
        Totals at a better model than the recipe's pilot, from a third pass; what the weights are calibrated to.

    Raises
    ------
    ConfigError
        The node has no such sketch, or fewer rows than asked for.
    """
    sample = draw(node, recipe, size=size, objective=objective)
    y = target_of(sample)
    known = pilots_of(node, recipe) if at is None else at
    if objective in known:
        X = design(sample.rows, recipe.preparation)
        outcome = calibrate(sample.weights, sample.base, X, y, *known[objective])
    elif recipe.one_pass and objective == "robust" and node.profile is not None:
        X = summed_columns(sample.rows, node.profile)
        outcome = match_sums(sample.weights, sample.base, X, y, class_sums(node.profile, node.counts, recipe))
    else:
        outcome = counts_only(sample.weights, sample.base, y, node.plain_totals)
    for message in outcome.report.warnings:
        warnings.warn(message, CoresetQualityWarning, stacklevel=3)
    return _labelled(sample, outcome.weights, outcome.report, node, recipe, objective)


def pilots_of(node: Node, recipe: Recipe) -> dict[str, Pilot]:
    """The recipe's pilots and the node's totals there."""
    return {name: (pilot, node.totals[name]) for name, pilot in recipe.pilots.items()}


def target_of(sample: Sample) -> npt.NDArray[Any]:
    """Class codes or quantities of a sample's rows; zeros where the data have no target."""
    return np.asarray(sample.rows["y"]) if "y" in sample.rows else np.zeros(len(sample.weights))


def most_rows(node: Node, recipe: Recipe, objective: str) -> int:
    """Rows that the node's sketch can give at most.

    Raises
    ------
    ConfigError
        The node has no such sketch.
    """
    if objective == POOLED and POOLED in recipe.offers:
        return min(most_rows(node, recipe, part) for part in POOLED_OF)
    if objective not in node.sketches:
        hint = f"Build a tree with CoresetTree(..., objectives=[..., {objective!r}])."
        raise ConfigError(f"objective='{objective}' is not in this tree; it holds {', '.join(recipe.offers)}. {hint}")
    found = node.sketches[objective]
    return found.capacity if isinstance(found, Sketch) else recipe.size


def draw(node: Node, recipe: Recipe, *, size: int | None = None, objective: str = "robust") -> Sample:
    """Cut one sketch of a node to size and finalise it: rows with design weights, before calibration."""
    most = most_rows(node, recipe, objective)
    wanted = most if size is None else int(size)
    if wanted < 1 or wanted > most:
        raise ConfigError(
            f"size={wanted} must lie between 1 and {most}, the rows that this tree keeps of the "
            f"'{objective}' sketch. Build a larger tree with CoresetTree(..., size=...)."
        )
    if objective == POOLED:
        first, second = (draw(node, recipe, size=wanted, objective=part) for part in POOLED_OF)
        return pooled(first, second)
    found = node.sketches[objective]
    if isinstance(found, Sketch):
        return found.reduce(wanted).finalise()
    quotas = recipe.keeping.quotas(objective, node.rows.tolist(), wanted)
    assert quotas is not None
    return found.reduce(quotas).finalise()


def _labelled(
    sample: Sample, weights: npt.NDArray[np.float64], report: Report, node: Node, recipe: Recipe, objective: str
) -> Coreset:
    """Give codes their labels back."""
    y: npt.NDArray[Any] | None = sample.rows.get("y")
    counts: dict[Any, float] | None = None
    if recipe.classes is not None:
        counts = dict(zip(recipe.classes, node.counts.tolist(), strict=True))
        y = recipe.labels[target_of(sample).astype(np.intp)]
    return Coreset(
        X=decode(sample.rows, recipe.preparation),
        y=None if y is None else pd.Series(y, name=recipe.schema.target),
        sample_weight=weights,
        n_rows=node.n_rows,
        report=report,
        class_counts=counts,
        objective=objective,
        ids=sample.ids,
        seconds=sample.rows.get("seconds"),
    )
