"""The threshold of an anomaly detector, from the scores of all rows: `contamination` means a share of the data."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from sklearn.covariance import EllipticEnvelope
from sklearn.ensemble import IsolationForest
from sklearn.linear_model import SGDOneClassSVM
from sklearn.svm import OneClassSVM

from coretree.errors import ConfigError, EmptyDataError

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class ScoreTally:
    """Weight of the rows whose score falls between given edges; merge with ``+``.

    Attributes
    ----------
    edges : ndarray, shape (b,)
        Increasing candidates for the threshold, the same for every partition.
    below : ndarray, shape (b + 1,)
        Weight of the rows in ``[edges[i - 1], edges[i])``; the first and the last bin are open.
    """

    edges: FloatArray
    below: FloatArray

    def __add__(self, other: object) -> ScoreTally:
        if not isinstance(other, ScoreTally):
            return NotImplemented
        if not np.array_equal(self.edges, other.edges):
            raise ValueError("score tallies must have the same edges: take them from one sample")
        return ScoreTally(self.edges, self.below + other.below)

    def __radd__(self, zero: object) -> Self:
        return self if zero == 0 else NotImplemented  # the start value of sum()

    def threshold(self, contamination: float) -> tuple[float, float]:
        """Return the edge below which the share of all rows comes nearest to ``contamination``, and that share.

        The share is exact: so many of the tallied rows will be flagged.
        """
        total = float(self.below.sum())
        if not total > 0:
            raise EmptyDataError("a threshold needs the score of at least one row, found none.")
        if not 0 < contamination <= 0.5:
            raise ConfigError(f"contamination must be in (0, 0.5], found {contamination}.")
        shares = np.cumsum(self.below[:-1]) / total
        best = int(np.abs(shares - contamination).argmin())
        return float(self.edges[best]), float(shares[best])

    def state(self) -> dict[str, npt.NDArray[Any]]:
        """Return the arrays that rebuild the tally exactly."""
        return {"edges": self.edges, "below": self.below}

    @classmethod
    def from_state(cls, state: Mapping[str, npt.NDArray[Any]]) -> Self:
        """Rebuild from :meth:`state`."""
        return cls(state["edges"], state["below"])


def score_edges(model: Any, X: Any) -> FloatArray:
    """Candidates for the threshold: the distinct scores of a sample of rows, such as the coreset's."""
    edges: FloatArray = np.unique(np.asarray(model.score_samples(X), np.float64))
    return edges


def score_tally(model: Any, X: Any, edges: FloatArray, weights: npt.ArrayLike | None = None) -> ScoreTally:
    """Score one partition's rows and count them between the edges.

    Parameters
    ----------
    model : fitted IsolationForest, OneClassSVM, SGDOneClassSVM or EllipticEnvelope
    X : array, shape (n, d)
    edges : ndarray, shape (b,)
        From `score_edges`: with the scores of m uniform rows the flagged share is within about 1 / m of the target.
    weights : array_like, shape (n,), optional
        The rows' weights; for the rows of a coreset, so that ``contamination`` is a share of the data.

    Returns
    -------
    ScoreTally
    """
    scores = np.asarray(model.score_samples(X), np.float64)
    w = None if weights is None else np.asarray(weights, np.float64)
    bins = np.searchsorted(edges, scores, side="right")
    return ScoreTally(edges, np.bincount(bins, w, len(edges) + 1).astype(np.float64))


def has_threshold(model: Any) -> bool:
    """Whether `with_threshold` knows how to move a detector's threshold."""
    return isinstance(model, (IsolationForest, OneClassSVM, SGDOneClassSVM, EllipticEnvelope))


def with_threshold(model: Any, threshold: float) -> Any:
    """Return a copy of a fitted detector that flags the rows whose score is below ``threshold``.

    Raises
    ------
    ConfigError
        If the model is of a kind whose threshold cannot be set.

    Examples
    --------
    >>> X = np.random.default_rng(0).standard_normal((500, 2))
    >>> forest = IsolationForest(n_estimators=20, random_state=0).fit(X)
    >>> tally = score_tally(forest, X, score_edges(forest, X))
    >>> threshold, share = tally.threshold(0.1)
    >>> share, float((with_threshold(forest, threshold).predict(X) == -1).mean())
    (0.1, 0.1)
    """
    if not has_threshold(model):
        raise ConfigError(f"the threshold of {type(model).__name__} cannot be set; use IsolationForest or OneClassSVM.")
    moved = copy.copy(model)
    if isinstance(model, OneClassSVM):  # libsvm decides by its intercept, of which the offset is the negative
        moved.offset_ = np.array([threshold])
        moved._intercept_ = np.array([-threshold])
        moved.intercept_ = moved._intercept_.copy()
    else:
        moved.offset_ = np.array([threshold]) if isinstance(model, SGDOneClassSVM) else float(threshold)
    return moved
