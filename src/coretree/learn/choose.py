"""Choose among models by weighted cross-validation on their coresets."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from coretree.coreset.rows import uniforms
from coretree.errors import ConfigError
from coretree.learn.fit import fit_weighted
from coretree.learn.scoring import REGRESSION_SCORINGS, check_scoring, weighted_score
from coretree.learn.weights import checked_weights, take_rows

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.intp]


@dataclass(frozen=True)
class Candidate:
    """An estimator with the sketch that suits it: X (m, d), y (m,), weights (m,) and row identities (m,) uint64."""

    estimator: Any
    X: Any
    y: Any
    weights: npt.ArrayLike | None
    ids: npt.NDArray[np.uint64]


@dataclass(frozen=True)
class Row:
    """One line of a leaderboard: the score of a model in each fold, and their mean by the weight of the folds.

    ``mean`` and ``sd`` are NaN where the model could not be scored; ``note`` then says why. ``seconds`` is the time
    of all fits and scores, ``rows`` the rows of the sketch.
    """

    name: str
    mean: float
    sd: float
    scores: tuple[float, ...]
    fold_weights: tuple[float, ...]
    rows: int
    seconds: float
    note: str = ""


@dataclass(frozen=True)
class Leaderboard:
    """Scores of the candidates, in the order in which they were given; greater is better."""

    rows: tuple[Row, ...]
    scoring: str
    cv: int
    seed: int

    @property
    def best(self) -> str:
        """Name of the candidate of greatest mean, the first of several."""
        scored = [row for row in self.rows if not math.isnan(row.mean)]
        return max(scored, key=lambda row: row.mean).name  # max keeps the first of equals

    def row(self, name: str) -> Row:
        """Line of one candidate.

        Raises
        ------
        ValueError
            If there is no such candidate.
        """
        found = [row for row in self.rows if row.name == name]
        if not found:
            raise ValueError(f"no candidate is named {name!r}; there are {[row.name for row in self.rows]}")
        return found[0]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; NaN becomes None."""
        rows = [
            {
                "name": row.name,
                "mean": _plain(row.mean),
                "sd": _plain(row.sd),
                "scores": [_plain(score) for score in row.scores],
                "fold_weights": list(row.fold_weights),
                "rows": row.rows,
                "seconds": row.seconds,
                "note": row.note,
            }
            for row in self.rows
        ]
        return {"scoring": self.scoring, "cv": self.cv, "seed": self.seed, "best": self.best, "rows": rows}


def _plain(value: float) -> float | None:
    return None if math.isnan(value) else value


def folds_by_hash(ids: npt.NDArray[np.uint64], cv: int, seed: int) -> IntArray:
    """Fold of each row, (m,) in [0, cv), from its identity: the same row falls into the same fold in every sketch.

    Examples
    --------
    >>> folds = folds_by_hash(np.arange(1000, dtype=np.uint64), 5, seed=0)
    >>> bool(folds.min() == 0 and folds.max() == 4)
    True
    """
    return (uniforms(ids, seed, "folds") * cv).astype(np.intp)


def make_folds(ids: npt.NDArray[np.uint64], codes: IntArray | None, cv: int, seed: int) -> tuple[IntArray, str]:
    """Folds by hash; dealt out class by class, in hash order, where a fold would lack a class.

    Parameters
    ----------
    ids : (m,) uint64 array
    codes : (m,) int array of class codes, or None for regression
    cv : int
    seed : int

    Returns
    -------
    folds : (m,) int array in [0, cv)
    note : str
        Empty, or why the folds are not those of `folds_by_hash`.
    """
    folds = folds_by_hash(ids, cv, seed)
    groups = np.zeros(ids.size, dtype=np.intp) if codes is None else codes
    n_groups = int(groups.max()) + 1
    filled = np.zeros((n_groups, cv), dtype=bool)
    filled[groups, folds] = True
    if filled.all():
        return folds, ""
    order = np.lexsort((ids, uniforms(ids, seed, "folds"), groups))
    # One running number over all classes: the leftover rows of small classes then spread over the folds.
    folds[order] = np.arange(ids.size) % cv
    rarest = int(np.bincount(groups, minlength=n_groups).min())
    return folds, f"folds dealt out class by class: by hash, a fold lacked a class (the rarest has {rarest} rows)"


def choose(
    candidates: Mapping[str, Candidate],
    *,
    cv: int = 5,
    scoring: str = "roc_auc",
    seed: int = 0,
    n_threads: int | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> Leaderboard:
    """Cross-validate every candidate on its own sketch, with weights in the fit, the score and the mean over folds.

    Folds come from row identities, so a row that several sketches hold is held out of all of them at once. Scores
    estimate those on the full data; models that gain from more rows (trees) are still at a disadvantage to linear
    models on any sketch, so near ties are better settled on held-out rows.

    Parameters
    ----------
    candidates : mapping of name to Candidate
    cv : int
        Folds, at least 2.
    scoring : str
        A name of `coretree.learn.scoring.SCORINGS`.
    seed : int
        For folds and fits.
    n_threads : int, optional
        As in `coretree.learn.fit.fit_weighted`.
    clock : callable
        Seconds; for the ``seconds`` column only.

    Returns
    -------
    Leaderboard

    Raises
    ------
    ConfigError
        If there is no candidate, the score is unknown, ``cv`` is out of range, or no candidate can be scored.
    """
    check_scoring(scoring)
    if not candidates:
        raise ConfigError("There is no model to choose from: name at least one.")
    smallest = min(candidate.ids.size for candidate in candidates.values())
    if not 2 <= cv <= smallest:
        raise ConfigError(f"cv must lie between 2 and the {smallest} rows of the smallest sketch, found {cv}.")
    rows = tuple(
        _cross_validate(name, candidate, cv=cv, scoring=scoring, seed=seed, n_threads=n_threads, clock=clock)
        for name, candidate in candidates.items()
    )
    if all(math.isnan(row.mean) for row in rows):
        reasons = "; ".join(f"{row.name}: {row.note}" for row in rows)
        raise ConfigError(f"No model could be scored by {scoring}. {reasons}")
    return Leaderboard(rows=rows, scoring=scoring, cv=cv, seed=seed)


def _cross_validate(
    name: str,
    candidate: Candidate,
    *,
    cv: int,
    scoring: str,
    seed: int,
    n_threads: int | None,
    clock: Callable[[], float],
) -> Row:
    started = clock()
    y = np.asarray(candidate.y)
    weights = checked_weights(candidate.weights, y.size)
    classes, codes = (None, None) if scoring in REGRESSION_SCORINGS else np.unique(y, return_inverse=True)
    folds, note = make_folds(candidate.ids, codes, cv, seed)
    masses: FloatArray = np.bincount(folds, weights=weights, minlength=cv).astype(np.float64)
    scores = np.full(cv, np.nan)
    try:
        for k in np.flatnonzero(masses > 0).tolist():
            inside, outside = np.flatnonzero(folds == k), np.flatnonzero(folds != k)
            model = fit_weighted(
                candidate.estimator,
                take_rows(candidate.X, outside),
                y[outside],
                weights=weights[outside],
                seed=seed,
                n_threads=n_threads,
            )
            held_out = take_rows(candidate.X, inside)
            scores[k] = weighted_score(
                model, held_out, y[inside], weights=weights[inside], scoring=scoring, classes=classes
            )
    except ConfigError as error:  # this model cannot be scored this way; the others still can
        scores[:], note = np.nan, str(error)
    mean, sd = _fold_mean(scores, masses)
    return Row(
        name=name,
        mean=mean,
        sd=sd,
        scores=tuple(scores.tolist()),
        fold_weights=tuple(masses.tolist()),
        rows=int(y.size),
        seconds=clock() - started,
        note=note,
    )


def _fold_mean(scores: FloatArray, masses: FloatArray) -> tuple[float, float]:
    """Mean and standard deviation over the folds that have a score, by fold weight."""
    usable = ~np.isnan(scores) & (masses > 0)
    if not usable.any():
        return float("nan"), float("nan")
    mean = float(np.average(scores[usable], weights=masses[usable]))
    variance = float(np.average((scores[usable] - mean) ** 2, weights=masses[usable]))
    return mean, math.sqrt(variance)
