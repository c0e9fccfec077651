"""The weighted mean of one number per row, with its confidence interval, as a mergeable tally."""

from __future__ import annotations

import math
from dataclasses import astuple, dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from scipy import special

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class MeanTally:
    """Sums that give a weighted mean of row values, and how far it may be from the population's.

    Parameters
    ----------
    weight, total : float
        Sum of the weights w, and of w v over the rows' values v.
    weight_squares, cross, squares : float
        Sums of w^2, w^2 v and w^2 v^2: the variance of the mean for rows drawn independently, weights held fixed.

    Examples
    --------
    >>> import numpy as np
    >>> tally = mean_tally(np.array([1.0, 2.0])) + mean_tally(np.array([3.0]))
    >>> tally.mean
    2.0
    """

    weight: float = 0.0
    total: float = 0.0
    weight_squares: float = 0.0
    cross: float = 0.0
    squares: float = 0.0

    def __add__(self, other: MeanTally) -> MeanTally:
        """Return the tally of both sets of rows."""
        if not isinstance(other, MeanTally):
            return NotImplemented
        return MeanTally(*(mine + theirs for mine, theirs in zip(astuple(self), astuple(other), strict=True)))

    def __radd__(self, other: int) -> MeanTally:
        """Let ``sum()`` start from 0."""
        return self if other == 0 else NotImplemented

    @property
    def mean(self) -> float | None:
        """The weighted mean; None without any weight."""
        return self.total / self.weight if self.weight > 0 else None

    def interval(self, level: float = 0.95) -> tuple[float, float] | None:
        """Give the normal confidence interval of the mean of a value that cannot be negative.

        Parameters
        ----------
        level : float
            Share of such intervals that hold the population's mean, in (0, 1); reached as the rows grow many.

        Returns
        -------
        tuple of (float, float), or None
            Lower end (cut at 0) and upper end; None when fewer than two rows carry weight.

        Notes
        -----
        Variance of the mean: sum w^2 (v - mean)^2 / (sum w)^2, the linearised variance of a ratio (Cochran, Sampling
        Techniques, 1977, section 6.3), times k / (k - 1) with k Kish's effective number of rows; for equal weights
        this is the textbook s^2 / n.

        Examples
        --------
        >>> import numpy as np
        >>> low, high = mean_tally(np.array([1.0, 2.0, 3.0])).interval(0.95)
        >>> round(low, 3), round(high, 3)
        (0.868, 3.132)
        """
        if not 0.0 < level < 1.0:
            raise ValueError(f"level must lie strictly between 0 and 1, found {level!r}; 0.95 is usual.")
        mean = self.mean
        if mean is None:
            return None
        effective = self.weight * self.weight / self.weight_squares
        if effective <= 1.0 + 1e-9:
            return None
        spread = max(self.squares - 2.0 * mean * self.cross + mean * mean * self.weight_squares, 0.0)
        deviation = math.sqrt(spread * effective / (effective - 1.0)) / self.weight
        reach = float(special.ndtri(0.5 + level / 2.0)) * deviation
        return max(mean - reach, 0.0), mean + reach

    def to_array(self) -> Floats:
        """Return the five sums as an array of shape (5,)."""
        return np.array(astuple(self), dtype=np.float64)

    @classmethod
    def from_array(cls, sums: npt.NDArray[Any]) -> Self:
        """Rebuild a tally from :meth:`to_array`, bit for bit."""
        return cls(*(float(value) for value in sums))


def mean_tally(values: npt.NDArray[Any], weights: Floats | None = None) -> MeanTally:
    """Tally one value per row; float64 sums whatever the input's type.

    Parameters
    ----------
    values : ndarray of shape (n,)
        The rows' values, finite.
    weights : ndarray of shape (n,), optional
        Rows' weights, not negative; 1 each when left out.

    Returns
    -------
    MeanTally
    """
    values = np.asarray(values, dtype=np.float64)
    total, squares = float(values.sum()), float(values @ values)
    if weights is None:
        n_rows = float(len(values))
        return MeanTally(n_rows, total, n_rows, total, squares)
    weighted = weights * values
    return MeanTally(
        weight=float(weights.sum()),
        total=float(weighted.sum()),
        weight_squares=float(weights @ weights),
        cross=float(weights @ weighted),
        squares=float(weighted @ weighted),
    )
