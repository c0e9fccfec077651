"""The honest leaderboard: each model's score on its coreset, and the one expected of all rows, with its band."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from coretree.learn.extrapolate import extrapolate
from coretree.learn.scoring import REGRESSION_SCORINGS

# Scores of `coretree.learn.scoring`, as tallies of held-out rows name them, and the sign that makes more better.
IN_TALLIES: Mapping[str, tuple[str, float]] = {
    "roc_auc": ("roc_auc", 1.0),
    "average_precision": ("average_precision", 1.0),
    "neg_log_loss": ("log_loss", -1.0),
    "neg_brier_score": ("brier", -1.0),
    "accuracy": ("accuracy", 1.0),
    "f1_macro": ("f1_macro", 1.0),
    "r2": ("r2", 1.0),
    "neg_mean_squared_error": ("mse", -1.0),
    "neg_root_mean_squared_error": ("rmse", -1.0),
    "neg_mean_absolute_error": ("mae", -1.0),
}


@dataclass(frozen=True)
class Standing:
    """One model of a comparison.

    Attributes
    ----------
    name : str
    sketch : str
        What it was fitted on; "moments" where exact moments of all rows gave the model.
    rows : tuple of int
        Sizes of the nested coresets, largest first.
    scores : tuple of float
        Held-out score of the fit on each; NaN where it could not be scored.
    value : float
        Score on the largest coreset, as it is.
    extrapolated, low, high : float
        Score expected of a fit on all rows, on the same held-out rows, and its band.
    seconds : float
        Wall time of its fits, summed; fits run side by side and share the cores.
    note : str
        Why it has no score, or why it needs no extrapolation.
    """

    name: str
    sketch: str
    rows: tuple[int, ...]
    scores: tuple[float, ...]
    value: float
    extrapolated: float
    low: float
    high: float
    seconds: float
    note: str = ""


def standing(
    name: str,
    sketch: str,
    scored: Mapping[int, float],
    full: int,
    *,
    gains: bool,
    exact: bool,
    confidence: float,
    seconds: float,
    note: str = "",
) -> Standing:
    """Where a model stands, by its scores on nested coresets (rows to score).

    Examples
    --------
    >>> found = standing("tree", "balanced", {2000: 0.70, 1000: 0.68}, 100_000, gains=True, exact=False,
    ...                  confidence=0.95, seconds=1.0)
    >>> found.value, found.low < 0.70 < found.extrapolated < found.high
    (0.7, True)
    """
    rows = tuple(sorted(scored, reverse=True))
    scores = tuple(scored[m] for m in rows)
    value = scores[0]
    low = extrapolated = high = value
    if not exact and not any(math.isnan(score) for score in scores):
        found = extrapolate(rows, scores, full, gains=gains, confidence=confidence)
        low, extrapolated, high = found.low, found.value, found.high
    return Standing(name, sketch, rows, scores, value, extrapolated, low, high, seconds, note)


@dataclass(frozen=True, eq=False)
class Comparison:
    """Models in the order of the scores that fits on all rows are expected to have.

    Attributes
    ----------
    rows : tuple of Standing
        Best first; models that could not be scored come last.
    scoring : str
        Greater is better.
    confidence : float
        Of the bands: how sure the full-data score on the same held-out rows is to lie inside.
    n_rows : int
        Training rows that the coresets stand for.
    scored_rows : int
        Held-out rows, outside every coreset, that all models were scored on.
    scored_on : str
        Where those come from.
    models : mapping of name to CoresetClassifier or CoresetRegressor
        Fitted on the largest coreset.
    seconds : float
        Wall time of fits and scores.
    """

    rows: tuple[Standing, ...]
    scoring: str
    confidence: float
    n_rows: int
    scored_rows: int
    scored_on: str
    models: Mapping[str, Any] = field(repr=False)
    seconds: float

    @property
    def best(self) -> str:
        """Name of the model of the greatest extrapolated score."""
        return self.rows[0].name

    @property
    def model(self) -> Any:
        """The best model, fitted on its largest coreset."""
        return self.models[self.best]

    @property
    def undecided(self) -> tuple[str, ...]:
        """Models whose bands reach into the best one's: all the rows might rank them first."""
        first = self.rows[0]
        return tuple(row.name for row in self.rows[1:] if row.high >= first.low)

    @property
    def table(self) -> pd.DataFrame:
        """One line a model, best first: sketch, rows, value, extrapolated, low, high, seconds, note."""
        names = ("sketch", "value", "extrapolated", "low", "high", "seconds", "note")
        lines = [{name: getattr(row, name) for name in names} for row in self.rows]
        index = pd.Index([row.name for row in self.rows], name="model")
        found = pd.DataFrame(lines, index=index)
        found.insert(1, "rows", [row.rows[0] for row in self.rows])
        return found

    def __repr__(self) -> str:
        head = (
            f"Comparison by {self.scoring} on {self.scored_rows:,} {self.scored_on}; extrapolated to {self.n_rows:,} "
            f"rows, {self.confidence:.0%} bands"
        )
        width = max(len(row.name) for row in self.rows)
        lines = [f"  {row.name:<{width}}  {_scores(row)}  ({row.rows[0]:,} {row.sketch} rows)" for row in self.rows]
        tied = self.undecided
        tail = [f"  bands reach into that of {self.best}: {', '.join(tied)}"] if tied else []
        return "\n".join([head, *lines, *tail])

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; NaN becomes None."""
        about = ("scoring", "confidence", "n_rows", "scored_rows", "scored_on", "seconds", "best")
        lines = [
            {
                "name": row.name,
                "sketch": row.sketch,
                "rows": list(row.rows),
                "scores": [_plain(score) for score in row.scores],
                **{name: _plain(getattr(row, name)) for name in ("value", "extrapolated", "low", "high")},
                "seconds": row.seconds,
                "note": row.note,
            }
            for row in self.rows
        ]
        return {**{name: getattr(self, name) for name in about}, "undecided": list(self.undecided), "rows": lines}


def ranked(rows: Sequence[Standing]) -> tuple[Standing, ...]:
    """Best first by extrapolated score; those without one last; equals in the order given."""
    return tuple(sorted(rows, key=lambda row: math.inf if math.isnan(row.extrapolated) else -row.extrapolated))


def tallied_score(metrics: Mapping[str, Any], scoring: str) -> float:
    """A score from the metrics of a tally; NaN where it is undefined.

    Examples
    --------
    >>> tallied_score({"log_loss": 0.5}, "neg_log_loss"), tallied_score({"roc_auc": None}, "roc_auc")
    (-0.5, nan)
    """
    name, sign = IN_TALLIES[scoring]
    found = metrics.get(name)
    return math.nan if found is None else sign * float(found)


def suits(scoring: str, task: str) -> bool:
    """Whether a score is for classes or for quantities, as the task is.

    Examples
    --------
    >>> suits("roc_auc", "regression"), suits("r2", "regression")
    (False, True)
    """
    return (scoring in REGRESSION_SCORINGS) == (task == "regression")


def _scores(row: Standing) -> str:
    if math.isnan(row.value):
        return row.note
    return f"{row.extrapolated:.4f} [{row.low:.4f}, {row.high:.4f}]  on the coreset {row.value:.4f}"


def _plain(value: float) -> float | None:
    return None if math.isnan(value) else value
