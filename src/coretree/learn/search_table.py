"""The table of a search, as scikit-learn's ``cv_results_``, with means over folds by their weight."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.ma as ma
import numpy.typing as npt
from scipy.stats import rankdata

from coretree.learn.trials import TrialResult

FloatArray = npt.NDArray[np.float64]


def fold_means(scores: FloatArray, masses: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Mean and standard deviation of each candidate's scores (n, cv), by the weight of the folds, (n, cv).

    A fold that no candidate has a score in (it lacks a class that the score needs) does not count; a candidate that
    lacks a score where others have one has failed there, and its mean is NaN.

    Examples
    --------
    >>> means, _ = fold_means(np.array([[1.0, 4.0]]), np.array([[2.0, 1.0]]))
    >>> float(means[0])
    2.0
    """
    counted = (~np.isnan(scores)).any(axis=0)
    if not counted.any():
        return np.full(len(scores), np.nan), np.full(len(scores), np.nan)
    values, w = scores[:, counted], masses[:, counted]
    total = w.sum(axis=1)
    means: FloatArray = (values * w).sum(axis=1) / total
    variances: FloatArray = (np.square(values - means[:, None]) * w).sum(axis=1) / total
    return means, np.sqrt(variances)


def ranks(means: FloatArray) -> npt.NDArray[np.int32]:
    """Rank of each mean, 1 for the greatest; equal ones share the better rank, NaN comes last.

    Examples
    --------
    >>> ranks(np.array([0.5, np.nan, 0.7, 0.7])).tolist()
    [3, 4, 1, 1]
    """
    if np.isnan(means).all():
        return np.ones(len(means), dtype=np.int32)
    filled = np.where(np.isnan(means), np.nanmin(means) - 1.0, means)
    return rankdata(-filled, method="min").astype(np.int32)


def results_table(
    params: Sequence[Mapping[str, Any]],
    results: Sequence[Sequence[TrialResult]],
    masses: FloatArray,
    names: Sequence[str],
) -> dict[str, Any]:
    """``cv_results_`` of a search.

    Parameters
    ----------
    params : sequence of n mappings
    results : sequence of n sequences of cv TrialResult
    masses : (n, cv) float array
        Weight of the rows that each trial was scored on.
    names : sequence of str
        Of the scores.

    Returns
    -------
    dict of str to array
        ``params``, ``param_*`` (masked), ``split<k>_test_<name>``, ``mean_test_<name>``, ``std_test_<name>``,
        ``rank_test_<name>``, and the times.
    """
    out: dict[str, Any] = {}
    for what, taken in (
        ("fit", [[r.fit_s for r in row] for row in results]),
        ("score", [[r.score_s for r in row] for row in results]),
    ):
        out[f"mean_{what}_time"] = np.mean(taken, axis=1)
        out[f"std_{what}_time"] = np.std(taken, axis=1)
    for name in sorted({name for one in params for name in one}):
        column = ma.MaskedArray(np.empty(len(params), dtype=object), mask=True)
        for i, one in enumerate(params):
            if name in one:
                column[i] = one[name]
        out[f"param_{name}"] = column
    out["params"] = [dict(one) for one in params]
    for name in names:
        scores = np.array([[r.scores[name] for r in row] for row in results], dtype=np.float64)
        for k in range(scores.shape[1]):
            out[f"split{k}_test_{name}"] = scores[:, k]
        out[f"mean_test_{name}"], out[f"std_test_{name}"] = fold_means(scores, masses)
        out[f"rank_test_{name}"] = ranks(out[f"mean_test_{name}"])
    return out


def halving_sizes(n_candidates: int, size: int, factor: int, least: int) -> list[tuple[int, int]]:
    """Candidates and rows of each round of successive halving: the last one has all the rows.

    Parameters
    ----------
    n_candidates : int
    size : int
        Rows of the last round.
    factor : int
        Of the candidates, one in ``factor`` goes on; rows grow by ``factor``.
    least : int
        Rows of the first round, at least.

    Examples
    --------
    >>> halving_sizes(9, 9000, 3, 100)
    [(9, 1000), (3, 3000), (1, 9000)]
    >>> halving_sizes(9, 9000, 3, 2000)
    [(9, 3000), (3, 9000)]
    """
    wanted = 1 + math.floor(math.log(n_candidates, factor) + 1e-9)
    possible = 1 + max(0, math.floor(math.log(size / min(least, size), factor) + 1e-9))
    n = min(wanted, possible)
    return [(math.ceil(n_candidates / factor**i), size // factor ** (n - 1 - i)) for i in range(n)]
