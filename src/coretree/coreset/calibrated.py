"""The outcome of a calibration: weights, how they came about, and what to think of them."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from coretree.coreset.quality import kish
from coretree.coreset.rows import Float
from coretree.coreset.scores import PilotState
from coretree.coreset.totals import Totals

_FAR_PILOT = 0.05
_ROWS_A_COLUMN = 30


@dataclass(frozen=True)
class Report:
    """How the weights came about, and what to think of them.

    Attributes
    ----------
    rows : int
    effective_rows : float
        Kish size of the final weights.
    groups : tuple of str
        Constraints met, in order: "counts", "gradient ahead" or "gradient", "class sums"; "all rows" where none was
        needed.
    metric : str
        "design" (rows that were certain hardly move), "flat", or "none".
    tilt_min, tilt_max : float
        Range of final over design weights.
    ess_share : float
        Kish size after over before.
    residual : float
        Largest miss among the constraints kept, as a share of their natural scale.
    truncation : float
        Share of the gradient's design variance that was left out.
    directions : int
        Constraints kept, the counts included.
    expected_excess : float or None
        Predicted relative excess of a fit on the sample, were it not calibrated; where the pilot is far off, the square
        of its own excess, which is the order of what calibration leaves out. None where there is no pilot; 0 where
        every row was kept.
    newton_decrement : float
        Relative excess of the pilot by its Newton decrement.
    warnings : tuple of str
        What the user should know.
    """

    rows: int
    effective_rows: float
    groups: tuple[str, ...]
    metric: str
    tilt_min: float
    tilt_max: float
    ess_share: float
    residual: float
    truncation: float
    directions: int
    expected_excess: float | None
    newton_decrement: float
    warnings: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers, strings and lists, ready for JSON."""
        return asdict(self) | {"groups": list(self.groups), "warnings": list(self.warnings)}


@dataclass(frozen=True, eq=False)
class Calibrated:
    """Weights of shape (m,), positive and finite, and the report on them."""

    weights: Float
    report: Report


@dataclass(frozen=True, eq=False)
class Solution:
    """Weights found, and how."""

    weights: Float
    groups: tuple[str, ...]
    metric: str
    truncation: float
    directions: int
    residual: float


def report_on(
    w: Float, d: Float, found: Solution, excess: float | None, decrement: float, warnings: tuple[str, ...]
) -> Report:
    """Describe final weights ``w`` made from design weights ``d``."""
    r = w / d
    return Report(
        rows=len(w),
        effective_rows=kish(w),
        groups=found.groups,
        metric=found.metric,
        tilt_min=float(r.min()),
        tilt_max=float(r.max()),
        ess_share=kish(w) / kish(d),
        residual=found.residual,
        truncation=found.truncation,
        directions=found.directions,
        expected_excess=float(excess) if excess is not None and np.isfinite(excess) else None,
        newton_decrement=float(decrement) if np.isfinite(decrement) else 0.0,
        warnings=warnings,
    )


def notes_on(
    codes: npt.NDArray[np.intp], totals: Totals, state: PilotState, decrement: float, all_kept: bool
) -> tuple[str, ...]:
    """Collect what can be said before any weight is moved; nothing is at risk where every row was kept."""
    notes = absent_classes(codes, totals)
    if all_kept:
        return notes
    m, d = len(codes), state.theta.size if state.n_classes > 2 else state.n_features
    if m < _ROWS_A_COLUMN * state.n_features:
        notes += (
            f"{m} rows for {state.n_features} columns: accuracy is only promised from {_ROWS_A_COLUMN} rows a column, "
            f"here {_ROWS_A_COLUMN * state.n_features}",
        )
    if state.n_classes > 2 and m < 4 * d:
        notes += (f"{m} rows for {state.n_classes} classes of {state.n_features} columns: use at least {8 * d}",)
    if decrement > _FAR_PILOT:
        notes += (
            f"the pilot is {decrement:.0%} above the optimum by its Newton decrement: a further round with the fitted "
            "model as pilot, or a larger pilot, would pay",
        )
    return notes


def absent_classes(codes: npt.NDArray[np.intp], totals: Totals) -> tuple[str, ...]:
    """Name the classes that the data have and the sample lacks."""
    held = np.bincount(codes, minlength=len(totals.counts))
    lost = [int(c) for c in np.flatnonzero((held == 0) & (totals.counts > 0))]
    return (f"no row of class code {lost} is in the sample: its weight went to the other classes",) if lost else ()
