"""One trial of a search: settings fitted on the rows outside a fold, and scored on the rows inside, with weights."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.base import clone

from coretree.errors import ConfigError, CoretreeError
from coretree.learn.fit import fit_weighted
from coretree.learn.masses import take_rows
from coretree.learn.prior_shift import ClassMass
from coretree.learn.scorers import WeightedScorer
from coretree.learn.weights import treatment

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class FitRows:
    """Prepared rows of one sketch at one size: X (m, d), y (m,), and what each fold's models are fitted on.

    Attributes
    ----------
    outside : tuple of (m_k,) int arrays
        Positions of the rows for the models of fold k.
    weights : tuple of (m_k,) float arrays
        Under which they stand for all the data on their own.
    class_mass : {"rows", "root"}
        As of `coretree.learn.fit.fit_weighted`.
    """

    X: Any
    y: npt.NDArray[Any]
    outside: tuple[IntArray, ...]
    weights: tuple[FloatArray, ...]
    class_mass: ClassMass = "rows"


@dataclass(frozen=True, eq=False)
class ScoredRows:
    """Prepared rows that models are scored on: X (v, d), y and weights (v,), and the positions of each fold's."""

    X: Any
    y: npt.NDArray[Any]
    weights: FloatArray
    inside: tuple[IntArray, ...]

    @property
    def masses(self) -> FloatArray:
        """Weight of each fold, (cv,)."""
        return np.array([float(self.weights[index].sum()) for index in self.inside])


@dataclass(frozen=True)
class TrialResult:
    """Scores by name, seconds of the fit and of the scores, why there are none, and the model if it was asked for."""

    scores: Mapping[str, float]
    fit_s: float = 0.0
    score_s: float = 0.0
    error: str = ""
    model: Any = None


@dataclass(frozen=True, eq=False)
class Trials:
    """Everything that trials share, whatever their settings; made once and sent to each worker once.

    Attributes
    ----------
    estimator : estimator
        Cloned for each trial.
    fits : mapping of (sketch, size) to FitRows
    scored : mapping of sketch to ScoredRows
    scorers : mapping of name to WeightedScorer
    classes : (K,) array of all class labels, or None
    seed : int
    """

    estimator: Any
    fits: Mapping[tuple[str, int], FitRows]
    scored: Mapping[str, ScoredRows]
    scorers: Mapping[str, WeightedScorer]
    classes: npt.NDArray[Any] | None
    seed: int

    def run(
        self,
        params: Mapping[str, Any],
        sketch: str,
        size: int,
        fold: int,
        *,
        keep: bool = False,
        clock: Callable[[], float] = time.perf_counter,
    ) -> TrialResult:
        """Fit and score; an estimator that fails gives NaN and says why.

        Parameters
        ----------
        params : mapping of parameter to value
        sketch, size : str, int
            Of ``fits``.
        fold : int
        keep : bool
            Return the fitted model, and do not score it.
        clock : callable
            Seconds; for the times only.

        Raises
        ------
        CoretreeError
            What is wrong for every setting alike, such as an estimator without weights.
        """
        rows, scored, started = self.fits[sketch, size], self.scored[sketch], clock()
        try:
            outside = rows.outside[fold]
            model = fit_weighted(
                with_params(self.estimator, params),
                take_rows(rows.X, outside),
                rows.y[outside],
                weights=rows.weights[fold],
                class_mass=rows.class_mass,
                seed=self.seed,
                n_threads=1,  # trials run side by side, and have the same bits on every machine
                sharpen=not all(scorer.ranks for scorer in self.scorers.values()),
            )
            fitted = clock()
            if keep:
                return TrialResult({}, fitted - started, model=model)
            inside = scored.inside[fold]
            X, y, w = take_rows(scored.X, inside), scored.y[inside], scored.weights[inside]
            scores = {n: scorer(model, X, y, sample_weight=w, classes=self.classes) for n, scorer in self._named()}
            return TrialResult(scores, fitted - started, clock() - fitted)
        except (CoretreeError, MemoryError):
            raise
        except Exception as error:  # whatever an estimator does with settings that do not suit it
            nothing = dict.fromkeys(self.scorers, float("nan"))
            return TrialResult(nothing, clock() - started, error=f"{type(error).__name__}: {error}")

    def _named(self) -> list[tuple[str, WeightedScorer]]:
        return list(self.scorers.items())


def with_params(estimator: Any, params: Mapping[str, Any]) -> Any:
    """A clone of an estimator with other parameters, which are cloned too where they are estimators."""
    return clone(estimator).set_params(**{name: clone(value, safe=False) for name, value in params.items()})


def check_takes_weights(estimator: Any, rows: FitRows) -> None:
    """Refuse an estimator that would learn the sample, not the data, before the first fit.

    Raises
    ------
    ConfigError
    """
    if treatment(estimator).kind != "none":
        return
    uneven = next((w for w in rows.weights if not np.allclose(w, w[0], rtol=1e-6, atol=0.0)), None)
    if uneven is not None:
        raise ConfigError(
            f"{type(estimator).__name__}.fit takes no sample_weight, but the rows of this coreset carry weights from "
            f"{uneven.min():.4g} to {uneven.max():.4g}: it would learn the sample, not the data. What would work: "
            "linear models, SVMs, naive Bayes, trees, forests and boosting, or any estimator whose fit takes "
            'sample_weight; or objective="uniform" where the data have no weights.'
        )
