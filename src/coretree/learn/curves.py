"""ROC and precision-recall curves from score histograms on fixed bins, which merge exactly and state their own error.

A score goes to a bin by a fixed, increasing map, so that no pass is needed to place the bins and any two histograms
add up: a probability p to ``logit(p)``, a decision value x to ``sign(x) log(1 + |x|)``, both cut to [-18, 18] and split
into equal bins. Inside a bin the order of the rows is forgotten. Every area below is the one of scores rounded to their
bin (rows of a bin count as tied), with the distance to the best and the worst order that the bins allow.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt
from scipy import special

from coretree.learn.means import Floats

Scale = Literal["probability", "decision"]
CurvePoints = tuple[Floats, Floats, Floats]

REACH = 18.0
"""Mapped scores are cut to [-REACH, REACH]: probabilities to 1.5e-8 from 0 and 1, decision values to 6.6e7."""
ONE_CURVE_BINS = 32_768
"""Bins of a binary task: 0.0011 wide in the logit."""
CLASS_BINS = 16_384
"""Bins of each class of a multi-class task, where tallies carry one histogram a class."""


@dataclass(frozen=True)
class Area:
    """An area under a curve: the true one lies in [value - error, value + error]."""

    value: float
    error: float


@dataclass(frozen=True, eq=False)
class ScoreHistogram:
    """Weights of positive and negative rows by score bin, one row of bins a curve.

    Parameters
    ----------
    positives, negatives : ndarray of shape (n_curves, n_bins)
        Sums of the rows' weights; bins by increasing score.
    scale : {"probability", "decision"}
        What was mapped to the bins.

    Examples
    --------
    >>> import numpy as np
    >>> histogram = ScoreHistogram.empty(1, "probability")
    >>> histogram += score_histogram([np.array([0.1, 0.4, 0.8])], [np.array([False, True, True])], "probability")
    >>> histogram.roc_auc(0)
    Area(value=1.0, error=0.0)
    """

    positives: Floats
    negatives: Floats
    scale: Scale

    @classmethod
    def empty(cls, n_curves: int, scale: Scale) -> Self:
        """Return the histogram of no row: the identity of ``+``."""
        shape = (n_curves, ONE_CURVE_BINS if n_curves == 1 else CLASS_BINS)
        return cls(np.zeros(shape), np.zeros(shape), scale)

    def __add__(self, other: ScoreHistogram) -> ScoreHistogram:
        """Return the histogram of both sets of rows."""
        if not isinstance(other, ScoreHistogram):
            return NotImplemented
        if (self.scale, self.positives.shape) != (other.scale, other.positives.shape):
            raise ValueError(
                f"score histograms add up only on the same scale and bins; found {self.scale} {self.positives.shape} "
                f"and {other.scale} {other.positives.shape}."
            )
        return ScoreHistogram(self.positives + other.positives, self.negatives + other.negatives, self.scale)

    def __radd__(self, other: int) -> ScoreHistogram:
        """Let ``sum()`` start from 0."""
        return self if other == 0 else NotImplemented

    def roc_auc(self, curve: int) -> Area | None:
        """Return the area under the ROC curve; None unless both kinds of row are there.

        Notes
        -----
        Equals the share of (positive, negative) pairs in the right order, ties counting half (Hanley & McNeil, 1982).
        Only pairs inside one bin are unknown: the error is half their weight over that of all pairs.
        """
        positives, negatives = self.positives[curve], self.negatives[curve]
        pairs = float(positives.sum() * negatives.sum())
        if pairs <= 0.0:
            return None
        same_bin = float(negatives @ positives) / 2.0
        ordered = float(negatives @ _above(positives))
        return Area((ordered + same_bin) / pairs, same_bin / pairs)

    def average_precision(self, curve: int) -> Area | None:
        """Return the average precision; None without a positive row.

        Notes
        -----
        scikit-learn's step sum: precision at each threshold, weighted by the recall gained there. With T and F the
        positive and negative weight above a bin that holds p and q, the bin adds at most ``p (T+p)/(T+p+F)`` (its
        positives tied, and first) and at least the integral of ``(T+t)/(T+t+F+q)`` over t in [0, p] (its positives
        last, spread as thinly as weights can be), which bounds every order and every split of the weights.
        """
        positives, negatives = self.positives[curve], self.negatives[curve]
        total = float(positives.sum())
        if total <= 0.0:
            return None
        held = positives > 0.0
        p, q = positives[held], negatives[held]
        true, false = _above(positives)[held], _above(negatives)[held]
        value = float((p * (true + p) / (true + p + false + q)).sum()) / total
        best = float((p * (true + p) / (true + p + false)).sum()) / total
        last = false + q
        # log1p of p / 0 where nothing comes first: that bin's precision is 1, its integral p
        behind = np.where(true + last > 0.0, true + last, 1.0)
        worst = float((p - last * np.log1p(p / behind)).sum()) / total
        return Area(value, max(best - value, value - worst, 0.0))

    def roc_points(self, curve: int, *, max_points: int = 500) -> CurvePoints:
        """Return the ROC curve for a plot.

        Parameters
        ----------
        curve : int
            Which row of the histogram.
        max_points : int
            At most this many points (plus both ends), evenly spaced along the curve.

        Returns
        -------
        false_positive_rate, true_positive_rate, threshold : ndarrays of shape (n_points,)
            By decreasing threshold: rows that score at least the threshold count as predicted. The first point is
            (0, 0, inf). Empty arrays when positives or negatives are missing.
        """
        true, false, threshold = self.cumulated(curve)
        if true[-1] <= 0.0 or false[-1] <= 0.0:
            return np.empty(0), np.empty(0), np.empty(0)
        x, y = false / false[-1], true / true[-1]
        kept = thinned(x, y, max_points)
        return x[kept], y[kept], threshold[kept]

    def pr_points(self, curve: int, *, max_points: int = 500) -> CurvePoints:
        """Return the precision-recall curve for a plot.

        Returns
        -------
        recall, precision, threshold : ndarrays of shape (n_points,)
            By decreasing threshold; the first point is (0, 1, inf). Empty arrays without a positive row.
        """
        true, false, threshold = self.cumulated(curve)
        if true[-1] <= 0.0:
            return np.empty(0), np.empty(0), np.empty(0)
        precision = np.ones_like(true)
        precision[1:] = true[1:] / (true[1:] + false[1:])
        recall = true / true[-1]
        kept = thinned(recall, precision, max_points)
        return recall[kept], precision[kept], threshold[kept]

    def cumulated(self, curve: int) -> CurvePoints:
        """Return positive and negative weight at or above each filled bin, and the bin's lower edge as a score."""
        positives, negatives = self.positives[curve], self.negatives[curve]
        filled = np.flatnonzero(positives + negatives)[::-1]
        true = np.concatenate([[0.0], np.cumsum(positives[filled])])
        false = np.concatenate([[0.0], np.cumsum(negatives[filled])])
        edges = filled * (2.0 * REACH / positives.size) - REACH
        scores = special.expit(edges) if self.scale == "probability" else np.sign(edges) * np.expm1(np.abs(edges))
        # the lowest bin also holds all scores under its edge
        scores = np.where(filled == 0, 0.0 if self.scale == "probability" else -np.inf, scores)
        return true, false, np.concatenate([[np.inf], scores])

    def state(self) -> dict[str, npt.NDArray[Any]]:
        """Return the histogram as arrays, for storing."""
        return {
            "positives": self.positives,
            "negatives": self.negatives,
            "scale": np.array([self.scale], dtype=object),
        }

    @classmethod
    def from_state(cls, state: dict[str, npt.NDArray[Any]]) -> Self:
        """Rebuild a histogram from :meth:`state`, bit for bit."""
        scale: Scale = "decision" if state["scale"][0] == "decision" else "probability"
        return cls(np.asarray(state["positives"]), np.asarray(state["negatives"]), scale)


def score_histogram(
    scores: list[npt.NDArray[Any]],
    positive: list[npt.NDArray[np.bool_]],
    scale: Scale,
    weights: Floats | None = None,
) -> ScoreHistogram:
    """Count the rows' scores by bin.

    Parameters
    ----------
    scores : list of ndarray of shape (n,)
        One curve's scores each: probabilities in [0, 1], or finite decision values. Higher means positive.
    positive : list of ndarray of shape (n,)
        Which rows are positive, one array a curve.
    scale : {"probability", "decision"}
        What the scores are.
    weights : ndarray of shape (n,), optional
        Rows' weights; 1 each when left out.

    Returns
    -------
    ScoreHistogram
    """
    n_bins = ONE_CURVE_BINS if len(scores) == 1 else CLASS_BINS
    counts = np.empty((len(scores), 2, n_bins))
    for curve, (score, is_positive) in enumerate(zip(scores, positive, strict=True)):
        # one count over both kinds of row: negatives in the first n_bins slots, positives behind them
        slots = _bins(np.asarray(score, dtype=np.float64), scale, n_bins)
        slots += n_bins * is_positive
        counts[curve] = np.bincount(slots, weights, minlength=2 * n_bins).reshape(2, n_bins)
    return ScoreHistogram(np.ascontiguousarray(counts[:, 1]), np.ascontiguousarray(counts[:, 0]), scale)


def _bins(score: Floats, scale: Scale, n_bins: int) -> npt.NDArray[np.intp]:
    # scipy's functions treat each value alone, so a score's bin never depends on its place in the array
    mapped = special.logit(score) if scale == "probability" else np.sign(score) * special.log1p(np.abs(score))
    places = (np.clip(mapped, -REACH, REACH) + REACH) * (n_bins / (2.0 * REACH))
    return np.minimum(places, n_bins - 1).astype(np.intp)


def _above(weights: Floats) -> Floats:
    """Return the weight in the bins above each bin, added from the top so that no small tail is lost."""
    above = np.zeros_like(weights)
    above[:-1] = np.cumsum(weights[:0:-1])[::-1]
    return above


def thinned(x: Floats, y: Floats, max_points: int) -> npt.NDArray[np.intp]:
    """Choose points evenly spaced along a curve, its ends always among them."""
    if len(x) <= max_points:
        return np.arange(len(x))
    length = np.concatenate([[0.0], np.cumsum(np.abs(np.diff(x)) + np.abs(np.diff(y)))])
    chosen = np.searchsorted(length, np.linspace(0.0, length[-1], max_points))
    return np.unique(np.concatenate([[0], np.minimum(chosen, len(x) - 1), [len(x) - 1]]))
