"""Choose among models by weighted cross-validation on their coresets."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from coretree.errors import ConfigError
from coretree.learn.fit import fit_weighted
from coretree.learn.folds import common_folds, make_folds
from coretree.learn.masses import checked_weights, take_rows
from coretree.learn.prior_shift import ClassMass, Prior
from coretree.learn.scoring import RANKINGS, REGRESSION_SCORINGS, check_scoring, weighted_score

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.intp]


@dataclass(frozen=True)
class Candidate:
    """An estimator with the sketch that suits it: X (m, d), y (m,), weights (m,) and row identities (m,) uint64.

    ``class_mass`` and ``prior`` are those of `coretree.learn.fit.fit_weighted`. ``reweigh`` maps the positions of some
    rows to weights under which they stand for all the data on their own: weights that were calibrated together pull
    the rows outside a fold away from those inside. Without it, rows keep their weights.
    """

    estimator: Any
    X: Any
    y: Any
    weights: npt.ArrayLike | None
    ids: npt.NDArray[np.uint64]
    class_mass: ClassMass = "rows"
    prior: Prior = "data"
    reweigh: Callable[[IntArray], FloatArray] | None = None


@dataclass(frozen=True)
class Validation:
    """Rows on which all candidates are scored, best a uniform sample: X (v, d), y and weights (v,), and identities."""

    X: Any
    y: Any
    weights: npt.ArrayLike | None
    ids: npt.NDArray[np.uint64]


@dataclass(frozen=True)
class _Dealt:
    """A candidate's rows and the rows that it is scored on, both with their folds."""

    y: npt.NDArray[Any]
    weights: FloatArray
    folds: IntArray
    scored: Validation
    scored_folds: IntArray
    note: str


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
    """Scores of the candidates, in the order in which they were given; greater is better.

    ``validation_rows`` is the size of the common validation sample, 0 where each was scored on its own sketch.
    """

    rows: tuple[Row, ...]
    scoring: str
    cv: int
    seed: int
    validation_rows: int = 0

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
        about = {"scoring": self.scoring, "cv": self.cv, "seed": self.seed, "validation_rows": self.validation_rows}
        return {**about, "best": self.best, "rows": rows}


def _plain(value: float) -> float | None:
    return None if math.isnan(value) else value


def choose(
    candidates: Mapping[str, Candidate],
    *,
    validation: Validation | None = None,
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
    validation : Validation, optional
        Score every candidate on these rows, fold by fold, fitted on its own rows of the other folds: the same rows
        for all, so that differences between models have less noise. Prepared as the candidates' rows are. Default:
        each on its own sketch.
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
    sizes = [candidate.ids.size for candidate in candidates.values()]
    smallest = min(sizes if validation is None else [*sizes, validation.ids.size])
    if not 2 <= cv <= smallest:
        raise ConfigError(f"cv must lie between 2 and the {smallest} rows of the smallest sketch, found {cv}.")
    labels = [c.y for c in candidates.values()] + ([] if validation is None else [validation.y])
    dealt = _deal(list(candidates.values()), validation, cv=cv, seed=seed, classes=_classes(labels, scoring))
    rows = tuple(
        _cross_validate(name, candidate, parts, cv=cv, scoring=scoring, seed=seed, n_threads=n_threads, clock=clock)
        for (name, candidate), parts in zip(candidates.items(), dealt, strict=True)
    )
    if all(math.isnan(row.mean) for row in rows):
        reasons = "; ".join(f"{row.name}: {row.note}" for row in rows)
        raise ConfigError(f"No model could be scored by {scoring}. {reasons}")
    return Leaderboard(rows, scoring, cv, seed, 0 if validation is None else int(validation.ids.size))


def _classes(labels: Sequence[Any], scoring: str) -> npt.NDArray[Any] | None:
    """All class labels, sorted; None for regression."""
    if scoring in REGRESSION_SCORINGS:
        return None
    return np.unique(np.concatenate([np.unique(np.asarray(y)) for y in labels]))


def _deal(
    candidates: Sequence[Candidate],
    validation: Validation | None,
    *,
    cv: int,
    seed: int,
    classes: npt.NDArray[Any] | None,
) -> list[_Dealt]:
    """Folds of every candidate, and what it is scored on: its own rows, or the common ones."""
    targets = [np.asarray(c.y) for c in candidates]
    weights = [checked_weights(c.weights, y.size) for c, y in zip(candidates, targets, strict=True)]
    samples = list(zip(candidates, targets, weights, strict=True))
    if validation is None:
        dealt = []
        for c, y, w in samples:
            codes = None if classes is None else np.unique(y, return_inverse=True)[1]
            folds, note = make_folds(c.ids, codes, cv, seed)
            dealt.append(_Dealt(y, w, folds, Validation(c.X, y, w, c.ids), folds, note))
        return dealt
    y = np.asarray(validation.y)
    common = Validation(validation.X, y, checked_weights(validation.weights, y.size), validation.ids)
    coded = None if classes is None else [np.searchsorted(classes, target) for target in (*targets, y)]
    folds_of, note = common_folds([*(c.ids for c in candidates), validation.ids], coded, cv, seed)
    return [_Dealt(y, w, f, common, folds_of[-1], note) for (_, y, w), f in zip(samples, folds_of, strict=False)]


def _cross_validate(
    name: str,
    candidate: Candidate,
    dealt: _Dealt,
    *,
    cv: int,
    scoring: str,
    seed: int,
    n_threads: int | None,
    clock: Callable[[], float],
) -> Row:
    started = clock()
    scored, note = dealt.scored, dealt.note
    scored_weights = np.asarray(scored.weights, np.float64)
    classes = _classes([dealt.y, scored.y], scoring)
    masses: FloatArray = np.bincount(dealt.scored_folds, weights=scored_weights, minlength=cv).astype(np.float64)
    scores = np.full(cv, np.nan)
    try:
        for k in np.flatnonzero(masses > 0).tolist():
            inside, outside = np.flatnonzero(dealt.scored_folds == k), np.flatnonzero(dealt.folds != k)
            model = fit_weighted(
                candidate.estimator,
                take_rows(candidate.X, outside),
                dealt.y[outside],
                weights=dealt.weights[outside] if candidate.reweigh is None else candidate.reweigh(outside),
                class_mass=candidate.class_mass,
                prior=candidate.prior,
                seed=seed,
                n_threads=n_threads,
                sharpen=scoring not in RANKINGS,
            )
            scores[k] = weighted_score(
                model,
                take_rows(scored.X, inside),
                scored.y[inside],
                weights=scored_weights[inside],
                scoring=scoring,
                classes=classes,
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
        rows=int(dealt.y.size),
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
