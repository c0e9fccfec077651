"""How far predicted numbers lie from the true ones, as exact mergeable sums over held-out rows."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from coretree.learn.checks import checked_weights, finite_column
from coretree.learn.means import Floats, MeanTally, mean_tally


@dataclass(frozen=True)
class RegressionTally:
    """Mergeable sums of the errors e = predicted - y, and the spread of y.

    Parameters
    ----------
    n_rows : int
        Rows seen, those of weight 0 included.
    squared_error : MeanTally
        Tally of e^2, with what its interval needs (sums of w^2 e^2 and w^2 e^4).
    error_sum, absolute_sum : float
        Sums of w e and w |e|.
    target_mean, target_m2 : float
        Weighted mean of y, and sum of w (y - mean)^2, merged as in Chan, Golub & LeVeque (1983); exactly 0 for a y
        that is constant over the rows that carry weight.

    Examples
    --------
    >>> import numpy as np
    >>> y, predicted = np.array([1.0, 2.0, 4.0]), np.array([1.0, 2.0, 3.0])
    >>> halves = regression_tally(y[:1], predicted[:1]) + regression_tally(y[1:], predicted[1:])
    >>> round(halves.metrics()["mse"], 4)
    0.3333
    """

    n_rows: int = 0
    squared_error: MeanTally = field(default_factory=MeanTally)
    error_sum: float = 0.0
    absolute_sum: float = 0.0
    target_mean: float = 0.0
    target_m2: float = 0.0

    @classmethod
    def empty(cls) -> Self:
        """Return the tally of no row: the identity of ``+``."""
        return cls()

    @property
    def weight(self) -> float:
        """Sum of the rows' weights."""
        return self.squared_error.weight

    def __add__(self, other: RegressionTally) -> RegressionTally:
        """Return the tally of both sets of rows."""
        if not isinstance(other, RegressionTally):
            return NotImplemented
        mean, m2 = self._merged_target(other)
        return RegressionTally(
            n_rows=self.n_rows + other.n_rows,
            squared_error=self.squared_error + other.squared_error,
            error_sum=self.error_sum + other.error_sum,
            absolute_sum=self.absolute_sum + other.absolute_sum,
            target_mean=mean,
            target_m2=m2,
        )

    def __radd__(self, other: int) -> RegressionTally:
        """Let ``sum()`` start from 0."""
        return self if other == 0 else NotImplemented

    def _merged_target(self, other: RegressionTally) -> tuple[float, float]:
        # a side without weight must leave the other's bits alone, so it never enters the formula
        if other.weight == 0.0:
            return self.target_mean, self.target_m2
        if self.weight == 0.0:
            return other.target_mean, other.target_m2
        share = other.weight / (self.weight + other.weight)
        gap = other.target_mean - self.target_mean
        return self.target_mean + gap * share, self.target_m2 + other.target_m2 + gap * gap * share * self.weight

    def metrics(self) -> dict[str, float | None]:
        """Return mse, rmse, mae, r2, mean_error (predicted - y) and n_rows as plain numbers.

        Returns
        -------
        dict of str to float or None
            None where a value is undefined: everything without weight, and ``r2`` when y does not vary (one row too).
        """
        weight, mse = self.weight, self.squared_error.mean
        if mse is None:
            return {"n_rows": self.n_rows, **dict.fromkeys(("mse", "rmse", "mae", "r2", "mean_error"))}
        return {
            "n_rows": self.n_rows,
            "mse": mse,
            "rmse": math.sqrt(mse),
            "mae": self.absolute_sum / weight,
            "r2": 1.0 - self.squared_error.total / self.target_m2 if self.target_m2 > 0.0 else None,
            "mean_error": self.error_sum / weight,
        }

    def mse_interval(self, level: float = 0.95) -> tuple[float, float] | None:
        """Return the confidence interval of the mean squared error; None under two rows. See `MeanTally.interval`."""
        return self.squared_error.interval(level)

    def state(self) -> dict[str, npt.NDArray[Any]]:
        """Return the tally as arrays, for storing."""
        sums = [self.error_sum, self.absolute_sum, self.target_mean, self.target_m2]
        return {
            "n_rows": np.array([self.n_rows], dtype=np.int64),
            "squared_error": self.squared_error.to_array(),
            "sums": np.array(sums, dtype=np.float64),
        }

    @classmethod
    def from_state(cls, state: dict[str, npt.NDArray[Any]]) -> Self:
        """Rebuild a tally from :meth:`state`, bit for bit."""
        sums = (float(value) for value in state["sums"])
        return cls(int(state["n_rows"][0]), MeanTally.from_array(state["squared_error"]), *sums)


def regression_tally(
    y: npt.ArrayLike, predicted: npt.ArrayLike, *, weights: npt.ArrayLike | None = None
) -> RegressionTally:
    """Tally one partition of held-out rows.

    Parameters
    ----------
    y, predicted : array-like of shape (n,)
        True and predicted values, finite; float64 sums whatever their type.
    weights : array-like of shape (n,), optional
        Rows' weights, finite and not negative; 1 each when left out.

    Returns
    -------
    RegressionTally

    Raises
    ------
    ValueError
        Shapes differ, a value is not finite, or a weight is negative.
    """
    truth, guess = finite_column("y", y), finite_column("predicted", predicted)
    if truth.shape != guess.shape:
        raise ValueError(f"y and predicted must have one value a row each; found {truth.shape} and {guess.shape}.")
    checked = checked_weights(weights, len(truth))
    error = guess - truth
    mean, m2 = _centred(truth, checked)
    return RegressionTally(
        n_rows=len(truth),
        squared_error=mean_tally(error * error, checked),
        error_sum=float(error.sum() if checked is None else checked @ error),
        absolute_sum=float(np.abs(error).sum() if checked is None else checked @ np.abs(error)),
        target_mean=mean,
        target_m2=m2,
    )


def _centred(y: Floats, weights: Floats | None) -> tuple[float, float]:
    """Return the weighted mean of y and its sum of squares about it."""
    weight = float(len(y)) if weights is None else float(weights.sum())
    if weight == 0.0:
        return 0.0, 0.0
    # shifting by a value that counts keeps the digits of a target far from 0, and a constant's m2 at exactly 0
    start = float(y[0 if weights is None else int(np.argmax(weights > 0.0))])
    shifted = y - start
    offset = float(shifted.sum() if weights is None else weights @ shifted) / weight
    centred = shifted - offset
    m2 = float(centred @ centred) if weights is None else float(weights @ (centred * centred))
    return start + offset, m2
