"""What a learning curve says: whether a model overfits or underfits, and whether a larger coreset would help."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pandas as pd

from coretree.learn.extrapolate import Extrapolation

Fit = Literal["overfits", "underfits", "fits", "learns nothing"]
# Shares of what the model has learned, its validation score above that of a constant guess.
WIDE_GAP = 0.25  # between training and validation: more than this is overfitting
NARROW_GAP = 0.05  # less than this on a flat curve: the rows hold no more for a model of this kind
WORTH_IT = 0.02  # gain from all rows that is worth a larger coreset


@dataclass(frozen=True)
class Point:
    """Losses of the fit on one nested coreset: weighted loss on its own rows, and loss on rows it has not seen."""

    rows: int
    train: float
    validation: float


@dataclass(frozen=True, eq=False)
class Diagnosis:
    """The learning curve of a model over nested coreset sizes, and what it says.

    Attributes
    ----------
    points : tuple of Point
        Smallest coreset first.
    loss : str
        Name of the loss; less is better.
    guess : float
        Validation loss of a constant guess (class shares, or the mean).
    fit : {"overfits", "underfits", "fits", "learns nothing"}
    larger_helps : bool or None
        Whether fits on more rows would be clearly better; None where the curve does not tell.
    full, low, high : float
        Loss expected of a fit on all rows, and its band.
    n_rows : int
        Training rows that the coresets stand for.
    scored_rows : int
        Rows that the validation loss is from.
    sentence : str
        All of that in plain words.
    """

    points: tuple[Point, ...]
    loss: str
    guess: float
    fit: Fit
    larger_helps: bool | None
    full: float
    low: float
    high: float
    n_rows: int
    scored_rows: int
    sentence: str

    @property
    def table(self) -> pd.DataFrame:
        """One line a size: train and validation loss, by rows."""
        lines = {"train": [p.train for p in self.points], "validation": [p.validation for p in self.points]}
        return pd.DataFrame(lines, index=pd.Index([p.rows for p in self.points], name="rows"))

    def __repr__(self) -> str:
        lines = [f"  {p.rows:>9,} rows: train {p.train:.4f}, validation {p.validation:.4f}" for p in self.points]
        head = f"Diagnosis by {self.loss} on {self.scored_rows:,} rows"
        return "\n".join([head, *lines, f"  {self.sentence}"])

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; NaN becomes None."""
        numbers = {name: getattr(self, name) for name in ("guess", "full", "low", "high")}
        return {
            "loss": self.loss,
            "fit": self.fit,
            "larger_helps": self.larger_helps,
            **{name: None if math.isnan(value) else value for name, value in numbers.items()},
            "n_rows": self.n_rows,
            "scored_rows": self.scored_rows,
            "sentence": self.sentence,
            "points": [{"rows": p.rows, "train": p.train, "validation": p.validation} for p in self.points],
        }


def diagnosis(
    points: Sequence[Point],
    guess: float,
    full: Extrapolation,
    *,
    loss: str,
    n_rows: int,
    scored_rows: int,
    exact: bool = False,
) -> Diagnosis:
    """Judge a learning curve.

    Everything is measured against what the model has learned, the validation loss of a constant guess less its own.
    A training loss that is lower than the validation loss by more than a quarter of that is overfitting. Without such
    a gap, and with a curve that is flat up to all rows, a model of this kind can take no more from the rows.

    Parameters
    ----------
    points : sequence of Point
        One or more nested sizes, in any order.
    guess : float
        Validation loss of a constant guess.
    full : Extrapolation
        Of the validation *loss* (less is better) to all rows.
    loss, n_rows, scored_rows
        As in `Diagnosis`.
    exact : bool
        Whether the largest fit is that of all rows.

    Examples
    --------
    >>> points = [Point(1000, 0.10, 0.52), Point(2000, 0.15, 0.47), Point(4000, 0.20, 0.43)]
    >>> found = diagnosis(points, 0.69, Extrapolation(0.30, 0.25, 0.36), loss="log loss", n_rows=10**6, scored_rows=500)
    >>> found.fit, found.larger_helps
    ('overfits', True)
    """
    points = sorted(points, key=lambda point: point.rows)
    last = points[-1]
    learned = guess - last.validation
    gap, gain = last.validation - last.train, last.validation - full.value
    helps: bool | None = False
    if not exact and learned > 0 and gain > WORTH_IT * learned:
        helps = True if last.validation - full.high > 0 else None
    fit: Fit = "fits"
    if learned <= 0:
        fit, helps = "learns nothing" if gap <= WIDE_GAP * abs(guess) else "overfits", None if not exact else False
    elif gap > WIDE_GAP * learned:
        fit = "overfits"
    elif gap < NARROW_GAP * learned and helps is False:
        fit = "underfits"
    sentence = f"{_of_fit(fit, last, guess, loss)} {_of_rows(helps, exact, full, n_rows)}"
    return Diagnosis(
        tuple(points), loss, guess, fit, helps, full.value, full.low, full.high, n_rows, scored_rows, sentence
    )


def _of_fit(fit: Fit, last: Point, guess: float, loss: str) -> str:
    both = f"{loss} {last.train:.4f} on its own rows, {last.validation:.4f} on rows it has not seen"
    if fit == "overfits":
        return f"It overfits ({both}): a simpler or more regularised model would carry more over to new rows."
    if fit == "underfits":
        return (
            f"It takes from the rows what a model of this kind can ({both}): if that is not good enough, a more "
            "flexible model or better features may help."
        )
    if fit == "learns nothing":
        return f"It does no better than a constant guess ({both}; the guess: {guess:.4f})."
    return f"It fits well ({both})."


def _of_rows(helps: bool | None, exact: bool, full: Extrapolation, n_rows: int) -> str:
    if exact:
        return "It is fitted from all rows already: a larger coreset changes nothing."
    band = f"{full.value:.4f} (between {full.low:.4f} and {full.high:.4f})"
    if helps:
        return f"A larger coreset would help: on all {n_rows:,} rows {band} is expected."
    if helps is None:
        return (
            f"A larger coreset may help, but the curve is too uneven to say: on all {n_rows:,} rows {band} is expected."
        )
    return f"A larger coreset would hardly help: on all {n_rows:,} rows {band} is expected."
