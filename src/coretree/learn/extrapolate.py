"""From the scores of nested coresets to the score that all the rows would give, with a band."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr

FloatArray = npt.NDArray[np.float64]

# Learning curves of trees and forests lose in proportion to rows^-a; the measured ones lie between these.
RATES = np.linspace(0.3, 1.5, 9)
GAINS = np.linspace(0.0, 1.5, 25)  # the last step's gain, in units of the largest one seen: curves flatten
NOISES = np.geomspace(0.3, 5.0, 14)  # in units of what the scores would show if they were noise alone


@dataclass(frozen=True)
class Extrapolation:
    """The score expected of a fit on all rows, and the band that it lies in.

    Attributes
    ----------
    value : float
        Posterior mean.
    low, high : float
        Central band of the confidence asked for.
    """

    value: float
    low: float
    high: float


def extrapolate(
    rows: Sequence[int], scores: Sequence[float], full: int, *, gains: bool = True, confidence: float = 0.95
) -> Extrapolation:
    """Score of a fit on all rows, from those of fits on nested coresets.

    A score on m rows is taken to be that on all n rows, less ``c (m^-a - n^-a)`` with c >= 0, plus the sampling noise
    of the m rows. Prefixes of one sample share their rows, so that noise is a random walk: the differences of
    successive scores are independent, with variances ``s^2 (1/m_small - 1/m_large)``. Rate a, gain c and noise s are
    integrated out over a grid; nothing is fitted, and two sizes are enough for a (wide) band.

    Parameters
    ----------
    rows : sequence of int
        Sizes of the coresets, all different.
    scores : sequence of float
        Greater is better; all on the same held-out rows.
    full : int
        Rows that the coresets stand for; at least the largest size.
    gains : bool
        Whether more rows are expected to help. False for calibrated linear models, which lose nothing on a coreset:
        the value is then the score as it is, and the band is the noise's.
    confidence : float
        Of the band, in (0, 1).

    Returns
    -------
    Extrapolation
        The score itself, without a band, where there is nothing to extrapolate: all rows were used, or all nested
        scores agree.

    Raises
    ------
    ValueError
        Fewer than two sizes where the largest is not all rows, or two equal ones.

    Examples
    --------
    >>> rows = [8000, 4000, 2000]
    >>> found = extrapolate(rows, [0.8 - m**-0.5 for m in rows], 800_000)
    >>> found.low < 0.8 - 800_000**-0.5 < found.high, abs(found.value - 0.8) < 0.005, round(0.8 - 8000**-0.5, 3)
    (True, True, 0.789)
    >>> extrapolate([4000, 2000], [0.81, 0.80], 800_000, gains=False).value
    0.81
    """
    order = np.argsort(rows)[::-1]
    m = np.asarray(rows, dtype=np.float64)[order]
    y = np.asarray(scores, dtype=np.float64)[order]
    if m[0] >= full:
        return Extrapolation(float(y[0]), float(y[0]), float(y[0]))
    if len(m) < 2 or (np.diff(m) == 0).any():
        raise ValueError(f"rows must be two or more different sizes, found {list(rows)}.")
    steps = y[:-1] - y[1:]
    spreads = m[0] / m[1:] - m[0] / m[:-1]  # variances of the steps, in units of that of the largest coreset's score
    alone = float(np.sqrt(np.mean(steps**2 / spreads)))
    if alone == 0.0:
        return Extrapolation(float(y[0]), float(y[0]), float(y[0]))
    means, deviations, shares = _posterior(m, steps, spreads, alone, full, gains)
    centre = float(shares @ means)
    edge = (1.0 - confidence) / 2.0
    low, high = (_quantile(means, deviations, shares, q) for q in (edge, 1.0 - edge))
    return Extrapolation(float(y[0]) + centre, float(y[0]) + low, float(y[0]) + high)


def _posterior(
    m: FloatArray, steps: FloatArray, spreads: FloatArray, alone: float, full: int, gains: bool
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Gain from the largest coreset to all rows, as a mixture of normals: means, standard deviations and shares."""
    greatest = float(np.abs(steps).max())
    grid = np.meshgrid(RATES, (GAINS if gains else GAINS[:1]) * greatest, NOISES * alone, indexing="ij")
    a, last, s = (axis.ravel() for axis in grid)
    losses = (m[:, None] / m[0]) ** -a  # (sizes, grid), of the largest size: 1
    scale = last / (losses[1] - losses[0])
    expected = scale * np.diff(losses, axis=0)
    deviations = s * np.sqrt(spreads)[:, None]
    log_likelihood = (-0.5 * ((steps[:, None] - expected) / deviations) ** 2 - np.log(deviations)).sum(axis=0)
    shares = np.exp(log_likelihood - log_likelihood.max())
    share_of_all = m[0] / full
    return scale * (1.0 - share_of_all**a), s * np.sqrt(1.0 - share_of_all), shares / shares.sum()


def _quantile(means: FloatArray, deviations: FloatArray, shares: FloatArray, q: float) -> float:
    """Quantile of a mixture of normals, by bisection."""
    low, high = float((means - 10 * deviations).min()), float((means + 10 * deviations).max())
    for _ in range(60):
        middle = (low + high) / 2
        below = float(shares @ ndtr((middle - means) / deviations))
        low, high = (middle, high) if below < q else (low, middle)
    return (low + high) / 2
