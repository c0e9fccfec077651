"""What a run leaves behind, one record a number, and the bars that the records are held against."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np

Record = dict[str, Any]
OURS, THREE, ONE = "two passes", "three passes", "one pass"
RESIDUAL = "residual sketch"
UNIFORM, BALANCED, LEVERAGE, FULL = "uniform", "class-balanced", "by leverage", "full fit"
METHODS = (OURS, THREE, ONE, RESIDUAL, UNIFORM, BALANCED, LEVERAGE)
FLOOR = 1e-16  # solvers end a little above or below the optimum


@dataclass(frozen=True)
class Bar:
    """A number that a case must reach: a statistic over seeds, perhaps in relation to another method or case.

    Attributes
    ----------
    line : str
        What is promised, in words.
    sense, limit
        ``value <= limit`` or ``value >= limit``.
    method, metric : str
        Whose records.
    over : str, optional
        Divide by the same statistic of this method.
    base : str, optional
        Case whose records ``over`` means; the same one by default.
    statistic : {"median", "worst"}
        Over seeds; "worst" is the far side of ``sense``.
    everywhere : bool
        At every size that was run, not only at the promised one.
    """

    line: str
    sense: Literal["<=", ">="]
    limit: float
    method: str = OURS
    metric: str = "excess"
    over: str | None = None
    base: str | None = None
    statistic: Literal["median", "worst"] = "median"
    everywhere: bool = False

    def value(self, case: str, records: Sequence[Record]) -> float | None:
        """What was found; None where a record is missing."""
        above = self._values(case, self.method, records)
        if not len(above):
            return None
        if self.over is None:
            return self._over_seeds(above)
        below = self._values(self.base or case, self.over, records)
        if not len(below):
            return None
        divisor = self._over_seeds(below)
        return self._over_seeds(above) / divisor if divisor > 0 else np.nan  # no bar is met in relation to nothing

    def passed(self, value: float) -> bool:
        """Whether the bar is met."""
        return value <= self.limit if self.sense == "<=" else value >= self.limit

    def _values(self, case: str, method: str, records: Sequence[Record]) -> np.ndarray:
        found = [
            r["value"]
            for r in records
            if (r["case"], r["method"], r["metric"]) == (case, method, self.metric)
            and (r["promised"] or self.everywhere)
        ]
        return np.array([np.inf if v is None else v for v in found], float)

    def _over_seeds(self, values: np.ndarray) -> float:
        if self.statistic == "median":
            return float(np.median(values))
        return float(values.max() if self.sense == "<=" else values.min())


@dataclass(frozen=True)
class Scale:
    """How large a run is: rows (None: as each case has them), where real data is, and whether beyond promised sizes."""

    rows: int | None = None
    data: Path | None = None
    sweep: bool = True


class Case(Protocol):
    """One data set and family."""

    @property
    def name(self) -> str:
        """Unique."""

    @property
    def group(self) -> str:
        """Heading of its rows in the table."""

    @property
    def bars(self) -> tuple[Bar, ...]:
        """What it is held against."""

    def ready(self, scale: Scale) -> bool:
        """Whether its data is there."""

    def measure(self, seeds: Sequence[int], scale: Scale) -> Iterator[list[Record]]:
        """Records of one seed after the other."""


def record(case: str, seed: int, method: str, metric: str, value: float, **facts: Any) -> Record:
    """One number; what is not finite becomes None, which means infinitely far."""
    kept = float(value) if np.isfinite(value) else None
    return {"case": case, "seed": seed, "method": method, "metric": metric, "value": kept, "promised": True, **facts}
