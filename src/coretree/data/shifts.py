"""The answer to "what moved?": one shift a column, worst first, as a table, a frame or plain data."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from math import isnan
from typing import Any, Literal

import numpy as np
import pandas as pd

from coretree.data.divergence import LevelChange

Kind = Literal["numeric", "categorical", "class", "target", "calendar"]
Verdict = Literal["stable", "moderate", "large", "chance", "calendar"]

# The conventional readings of a stability index.
MODERATE, LARGE = 0.1, 0.25
# Levels that a line of the table names.
NAMES_SHOWN = 3


@dataclass(frozen=True)
class Shift:
    """How far one column moved.

    Attributes
    ----------
    name : str
        Feature; a part of a time (``when_hour``); or the target.
    kind : {"numeric", "categorical", "class", "target", "calendar"}
        ``target`` is a quantity to predict. ``calendar`` is a part of the event time that a window covers less than
        twice: the windows themselves move it, so it is shown, and raises no alarm.
    psi : float
        Population stability index over deciles of the reference, or levels, and the missing values as one bin more.
    expected, limit : float
        What PSI comes to without any shift, on so many rows: its mean, and what no column of the comparison passes
        but with probability 0.01.
    distance, distance_error : float
        Between present values: Kolmogorov-Smirnov distance of numbers, total variation of levels; NaN where a side has
        none. It is within the error of the one that the raw rows have: the rank errors of both digests (*measured*,
        see `Digest.rank_error`), and where a profile digested thinned rows, their sampling error (99 %).
    missing : (float, float)
        Share of missing values in the reference, and now (by weight where rows have base weights).
    rows : (float, float)
        Rows behind the index on either side: those digested, for numbers.
    levels : LevelChange or None
        Of levels and classes.
    """

    name: str
    kind: Kind
    psi: float
    expected: float
    limit: float
    distance: float
    distance_error: float
    missing: tuple[float, float]
    rows: tuple[float, float]
    levels: LevelChange | None = None

    @property
    def excess(self) -> float:
        """PSI above what chance explains on average, >= 0."""
        return max(0.0, self.psi - self.expected)

    @property
    def severity(self) -> float:
        """The excess where PSI passes the limit of chance; else, and for the calendar, 0."""
        return self.excess if self.psi > self.limit and self.kind != "calendar" else 0.0

    @property
    def missing_change(self) -> float:
        """By how much the share of missing values rose, in [-1, 1]."""
        return self.missing[1] - self.missing[0]

    @property
    def verdict(self) -> Verdict:
        """``stable`` below 0.1, ``moderate``, ``large`` from 0.25; ``chance`` for more that so few rows explain."""
        if self.kind == "calendar":
            return "calendar"
        if self.severity >= MODERATE:
            return "large" if self.severity >= LARGE else "moderate"
        return "chance" if self.psi >= MODERATE and self.severity == 0 else "stable"


@dataclass(frozen=True)
class TimeShift:
    """The event times of the two windows, in seconds since 1970 (UTC).

    Attributes
    ----------
    reference, current : (float, float)
        First and last time.
    rate_ratio : float
        Rows a second now, divided by the reference's; NaN where a window is a single moment.
    gap : float
        Seconds from the end of the reference to the start of the current window; negative where they overlap.
    """

    reference: tuple[float, float]
    current: tuple[float, float]
    rate_ratio: float
    gap: float


@dataclass(frozen=True, repr=False)
class Drift:
    """What moved between two sets of rows, the worst column first (the calendar last).

    Its text is a table, ``to_frame`` a pandas one, ``to_dict`` plain data for JSON.

    Attributes
    ----------
    shifts : tuple of Shift
    reference_rows, current_rows : int
    time : TimeShift or None
        Where the rows have an event time.
    """

    shifts: tuple[Shift, ...]
    reference_rows: int
    current_rows: int
    time: TimeShift | None = None

    @property
    def worst(self) -> Shift | None:
        """The column that moved most, None where there is none to compare."""
        return next((s for s in self.shifts if s.kind != "calendar"), None)

    def exceeds(self, threshold: float = LARGE) -> tuple[Shift, ...]:
        """Columns whose severity reaches a threshold; empty, so false, where none does."""
        return tuple(s for s in self.shifts if s.severity > 0 and s.severity >= threshold)

    def __getitem__(self, name: str) -> Shift:
        """Return the shift of a column by its name."""
        for shift in self.shifts:
            if shift.name == name:
                return shift
        raise KeyError(f"no column '{name}' was compared; there are {', '.join(s.name for s in self.shifts)}")

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON; what is not defined is None."""
        rows = [{**asdict(s), "excess": s.excess, "severity": s.severity, "verdict": s.verdict} for s in self.shifts]
        plain = {"reference_rows": self.reference_rows, "current_rows": self.current_rows, "shifts": rows}
        return _without_nan({**plain, "time": None if self.time is None else asdict(self.time)})

    def to_frame(self) -> pd.DataFrame:
        """One row a column, indexed by its name."""
        columns = ("kind", "psi", "expected", "limit", "severity", "distance", "distance_error", "verdict")
        rows = [
            {**{c: getattr(s, c) for c in columns}, "missing_reference": s.missing[0], "missing_current": s.missing[1]}
            for s in self.shifts
        ]
        index = pd.Index([s.name for s in self.shifts], name="column", dtype="str")
        return pd.DataFrame(rows, index=index, columns=[*columns, "missing_reference", "missing_current"])

    def __repr__(self) -> str:
        """Return a table for people."""
        moved = sum(s.severity >= MODERATE for s in self.shifts)
        lines = [
            f"Drift: {self.current_rows:,} rows against {self.reference_rows:,}; "
            f"{moved} of {len(self.shifts)} columns moved, {len(self.exceeds())} of them much"
        ]
        if self.time is not None:
            spans = [" to ".join(map(_day, span)) for span in (self.time.reference, self.time.current)]
            lines.append(f"{spans[1]} against {spans[0]}; {self.time.rate_ratio:.3g} times the rows a second")
        width = max([6, *(len(s.name) for s in self.shifts)])
        lines.append(f"{'column':<{width}}  {'kind':<11}     PSI  chance  KS or TV  missing         verdict")
        lines += [_line(shift, width) for shift in self.shifts]
        return "\n".join(lines)


def _line(shift: Shift, width: int) -> str:
    distance = "       –" if isnan(shift.distance) else f"{shift.distance:8.4f}"
    missing = f"{shift.missing[0]:6.1%} {shift.missing[1]:6.1%}"
    text = f"{shift.name:<{width}}  {shift.kind:<11} {shift.psi:7.4f} {shift.expected:7.4f}  {distance}  {missing}   "
    return text + shift.verdict + _levels_text(shift.levels)


def _levels_text(levels: LevelChange | None) -> str:
    if levels is None or not (levels.n_new or levels.n_vanished):
        return ""
    said = []
    for word, n, share, some in (
        ("new", levels.n_new, levels.new_share, levels.new),
        ("gone", levels.n_vanished, levels.vanished_share, levels.vanished),
    ):
        if n:
            names = ", ".join(repr(v) for v, _ in some[:NAMES_SHOWN]) + (", ..." if n > NAMES_SHOWN else "")
            said.append(f"{n} {word} ({names}: {share:.1%})")
    return "; " + "; ".join(said)


def _day(seconds: float) -> str:
    return str(np.datetime64(int(np.floor(seconds)), "s")).replace("T", " ")


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(v) for key, v in value.items()}
    if isinstance(value, tuple | list):
        return [_without_nan(v) for v in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value
