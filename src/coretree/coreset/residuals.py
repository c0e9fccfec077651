"""Residual scores: trees learn most from the rows that a small boosted model, the pilot, gets wrong.

Regression: 1/2 |y - f| / mean + 1/2. Classes, with b = 1 - p_y: 1/2 b / sum of b + 1/4 / n + 1/4 / (K n_y). Where one
of two classes is rare nearly all rows are easy, and the shares are 7/10, 1/10 and 2/10. The mean and the sum are
estimated on pilot rows, so that a pass can score each row as it comes; the constant parts keep every weight below
2 n / m (4 n / m for classes, 10 n / m where one is rare) whatever the pilot says.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from coretree.coreset.boosted import Boosted
from coretree.coreset.derivatives import Matrix, first_bad_row
from coretree.coreset.priority import Sample
from coretree.coreset.rows import Float, concatenate, take

_RARE_SHARE = 0.1
_MIX, _RARE_MIX = (0.5, 0.25, 0.25), (0.7, 0.1, 0.2)  # by misfit, even over rows, even over classes
_SMALLEST_SIZE, _SMALLEST_SHARE = 2000, 0.1
_MODEL = "model/"


@dataclass(frozen=True, eq=False)
class ResidualState:
    """What every scoring task needs to know; frozen into the recipe.

    Attributes
    ----------
    model : Boosted
        The pilot.
    counts : ndarray of float64, shape (K,)
        Base weight of each class in the full data; ``[n]`` for regression.
    typical : float
        Estimated mean misfit of the full data: of |y - f|, or of 1 - p_y; 0 where the pilot makes no mistakes.
    mix : ndarray of float64, shape (3,)
        Shares of the score by misfit, even over rows and even over classes; regression has half and half.
    """

    model: Boosted
    counts: Float
    typical: float
    mix: Float

    def state(self) -> dict[str, npt.NDArray[Any]]:
        """Arrays that rebuild the state exactly."""
        own: dict[str, npt.NDArray[Any]] = {"counts": self.counts, "typical": np.array(self.typical, np.float64)}
        if self.mix.tolist() != list(_MIX):  # recipes of the usual mix keep the names that they have
            own["mix"] = self.mix
        return own | {_MODEL + name: array for name, array in self.model.state().items()}

    @classmethod
    def from_state(cls, state: Mapping[str, npt.NDArray[Any]]) -> Self:
        """Rebuild from :meth:`state`."""
        model = {name.removeprefix(_MODEL): array for name, array in state.items() if name.startswith(_MODEL)}
        mix = state.get("mix", np.array(_MIX))
        return cls(Boosted.from_state(model), state["counts"], float(state["typical"]), mix)


def misfit(predicted: Float, y: npt.NDArray[Any]) -> Float:
    """How wrong a prediction is: |y - f| for numbers (n,), 1 - p_y for probabilities (n, K) and class codes.

    Examples
    --------
    >>> misfit(np.array([1.0, 2.0]), np.array([1.0, 5.0]))
    array([0., 3.])
    >>> misfit(np.array([[0.75, 0.25]]), np.array([1]))
    array([0.75])
    """
    if predicted.ndim == 1:
        return np.asarray(np.abs(np.asarray(y, np.float64) - predicted))
    return np.asarray(1.0 - predicted[np.arange(len(predicted)), np.asarray(y).astype(np.intp)])


def residual_state(
    model: Boosted, misfits: Float, y: npt.NDArray[Any], w: npt.NDArray[Any], counts: npt.ArrayLike
) -> ResidualState:
    """Freeze a pilot with its typical misfit.

    Parameters
    ----------
    model : Boosted
    misfits : ndarray, shape (n,)
        Of pilot rows, under a model that has not seen them: on its own training rows a pilot looks too good, and the
        constant part of the score would shrink.
    y : ndarray, shape (n,)
        Class codes; ignored for regression.
    w : ndarray, shape (n,)
        Weights of the pilot rows; rescaled to ``counts`` within each class.
    counts : array_like, shape (K,)
        Exact base weight of each class in the full data; ``[n]`` for regression.

    Returns
    -------
    ResidualState

    Raises
    ------
    ValueError
        If a misfit is not a finite number >= 0, or the counts do not fit the model.
    """
    totals, errors = np.asarray(counts, np.float64).ravel(), np.asarray(misfits, np.float64)
    if len(totals) != model.n_classes:
        raise ValueError(f"residual_state: counts must have {model.n_classes} entries; found {len(totals)}")
    bad = ~(np.isfinite(errors) & (errors >= 0))
    if bad.any() or not len(errors):
        what = f"row {int(np.argmax(bad))} has {errors[np.argmax(bad)]}" if len(errors) else "there are no rows"
        raise ValueError(f"residual_state: misfits of pilot rows must be finite and >= 0; {what}")
    codes = np.zeros(len(errors), np.intp) if len(totals) == 1 else np.asarray(y).astype(np.intp)
    weights = np.asarray(w, np.float64)
    held = np.bincount(codes, weights, minlength=len(totals))
    mean = np.bincount(codes, weights * errors, minlength=len(totals)) / np.where(held > 0, held, 1.0)
    seen = totals * (held > 0)  # a class without pilot rows says nothing of the mean
    mix = _RARE_MIX if residual_serves(totals) else _MIX
    return ResidualState(model, totals, float(seen @ mean / max(float(seen.sum()), 1e-300)), np.array(mix))


def residual_scores(X: Matrix, y: npt.NDArray[Any], state: ResidualState) -> Float:
    """Score rows by the residual mix.

    Parameters
    ----------
    X : ndarray, shape (n, d)
        Rows, prepared as for the pilot; float32 or float64.
    y : ndarray, shape (n,)
        Numbers, or class codes.
    state : ResidualState

    Returns
    -------
    ndarray of float64, shape (n,)
        Positive; over the full data about 1 on average for regression, about 1 in all for classes.

    Raises
    ------
    ValueError
        If a feature or a target is not a finite number; names the first row.

    Notes
    -----
    Source of the mix: half of Neyman's optimal allocation with the pilot's misfit as standard deviation, half safety.
    """
    if not len(X):
        return np.zeros(0)
    wrong = misfit(state.model.predict(X), y)
    bad = first_bad_row(X)
    if bad is not None or not np.isfinite(wrong).all():
        first = int(np.argmin(np.isfinite(wrong))) if bad is None else bad
        raise ValueError(
            f"residual_scores: features and target must be finite numbers; row {first} has one that is not"
        )
    relative = wrong / state.typical if state.typical > 0 else np.ones(len(wrong))
    K = len(state.counts)
    if K == 1:
        return 0.5 * relative + 0.5
    hard, even, classes = state.mix.tolist()
    n = max(float(state.counts.sum()), 1.0)
    floor = even / n + classes / (K * np.maximum(state.counts, 1.0))
    return hard / n * relative + floor[np.asarray(y).astype(np.intp)]


def residual_pays(size: int, n_rows: float) -> bool:
    """Whether a residual sketch of ``size`` rows serves regression trees better than a uniform one.

    Below a tenth of the rows, or 2000, the mean absolute error suffers where targets have heavy tails; there a uniform
    sketch pooled with the pilot's rows (:func:`pooled`) does better.

    Examples
    --------
    >>> residual_pays(10_000, 50_000), residual_pays(1_000, 5_000), residual_pays(10_000, 1_000_000)
    (True, False, False)
    """
    return size >= _SMALLEST_SIZE and size >= _SMALLEST_SHARE * n_rows


def residual_serves(counts: Sequence[float] | Float) -> bool:
    """Whether a residual sketch serves classification trees better than class quotas: one of two classes is rare.

    Examples
    --------
    >>> residual_serves([990, 10]), residual_serves([700, 300]), residual_serves([500, 490, 10])
    (True, False, False)
    """
    return len(counts) == 2 and bool(min(counts) < _RARE_SHARE * sum(counts))


def pooled(first: Sample, second: Sample) -> Sample:
    """Pool two independent samples of the same rows: as unbiased as both, and of the rows of both.

    Each sample's weights count in proportion to its effective size, (sum of w)^2 / sum of w^2; a row in both is kept
    once, with the sum. The threshold is the lower one.

    Parameters
    ----------
    first, second : Sample
        Drawn from the same rows with uniforms of different purposes, with the same payload columns.

    Returns
    -------
    Sample
        By row identity; weights may be below ``base``. Where a part is empty, the other one as it is.
    """
    if not len(first.ids) or not len(second.ids):
        return first if len(first.ids) else second
    sizes = [float(s.weights.sum() ** 2 / np.square(s.weights).sum()) for s in (first, second)]
    shares = [size / sum(sizes) for size in sizes]
    ids, index, place = np.unique(np.concatenate([first.ids, second.ids]), return_index=True, return_inverse=True)
    parts = np.concatenate([s.weights * share for s, share in zip((first, second), shares, strict=True)])
    return Sample(
        rows=take(concatenate([first.rows, second.rows]), index),
        ids=ids,
        weights=np.bincount(place, parts).astype(np.float64),
        base=np.concatenate([first.base, second.base])[index],
        score=np.concatenate([first.score, second.score])[index],
        threshold=min(first.threshold, second.threshold),
    )
