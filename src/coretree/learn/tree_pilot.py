"""The pilot of residual sketches: a small boosted model of the pilot rows, with its typical misfit on unseen rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from threadpoolctl import threadpool_limits

from coretree.coreset.boosted import Boosted, boosted
from coretree.coreset.derivatives import Matrix
from coretree.coreset.residuals import ResidualState, misfit, residual_state

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.intp]

PILOT_ROWS = 2000
_LEAVES, _ITERATIONS = 15, 50
_TREES = 400  # of all classes: many classes get fewer iterations, each of a longer step
_FEWEST_ITERATIONS = 15
_LEARNED = 5.0  # iterations times learning rate


def fit_tree_pilot(
    X: Matrix,
    y: npt.NDArray[Any],
    w: npt.NDArray[Any],
    counts: npt.ArrayLike,
    *,
    seed: int = 0,
    max_rows: int = PILOT_ROWS,
) -> ResidualState:
    """Fit the pilot on at most ``max_rows`` rows, as many of each class as possible, and cross-fit its misfit.

    Parameters
    ----------
    X : ndarray, shape (n, d)
        Pilot rows, prepared as the full data will be; finite.
    y : ndarray, shape (n,)
        Class codes, or numbers.
    w : ndarray, shape (n,)
        Positive weights of the pilot sample, which need not be uniform; rescaled to ``counts`` within each class.
    counts : array_like, shape (K,)
        Exact base weight of each class in the full data; ``[n]`` for regression.
    seed : int
    max_rows : int

    Returns
    -------
    ResidualState
        Its model predicts numbers, or probabilities under the class shares of ``counts``. A class without pilot rows
        has probability 0, so all of its rows count as misfits.

    Raises
    ------
    ValueError
        If there are no rows, or a class code is not below K.

    Notes
    -----
    50 iterations of 15 leaves (fewer for more than eight classes). The typical misfit comes from two models of half
    of the rows each, predicting the other half. One thread, for the same bits on every machine; about 0.3 s for one
    output, 0.15 s more for each class.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> X = rng.standard_normal((400, 2))
    >>> state = fit_tree_pilot(X, X[:, 0] ** 2, np.ones(400), [400_000])
    >>> bool(state.typical < 0.5 * np.abs(X[:, 0] ** 2 - 1).mean())
    True
    """
    totals = np.asarray(counts, np.float64).ravel()
    target = np.asarray(y, np.float64) if len(totals) == 1 else np.asarray(y).astype(np.intp)
    if not len(target) or (len(totals) > 1 and not 0 <= target.min() <= target.max() < len(totals)):
        raise ValueError(f"fit_tree_pilot: pilot rows are needed, and classes in [0, {len(totals)})")
    chosen = _drawn(target, np.asarray(w, np.float64), len(totals), max_rows)
    rows = np.unique(chosen)
    half = np.zeros(len(target), np.intp)
    half[rows] = _halves(target[rows], len(totals))  # of rows, not of draws: no row may be on both sides
    A, wrong = np.asarray(X), np.zeros(len(target))
    with threadpool_limits(1):  # small fits: threads would wait for one another, and change the last bit
        for k in range(2):
            train, test = chosen[half[chosen] != k], rows[half[rows] == k]
            if len(test):
                model = _fit(A[train if len(train) else chosen], target[train if len(train) else chosen], totals, seed)
                wrong[test] = misfit(model.predict(A[test]), target[test])
        whole = _fit(A[chosen], target[chosen], totals, seed)
    return residual_state(whole, wrong[chosen], target[chosen], np.ones(len(chosen)), totals)


def _drawn(target: npt.NDArray[Any], w: FloatArray, n_classes: int, max_rows: int) -> IntArray:
    """At most ``max_rows`` positions, as balanced as the rows allow, drawn in proportion to weight within each class.

    The draws stand for the class without weights, which boosting would pay for dearly: it bins by weighted quantiles.
    """
    codes = np.zeros(len(target), np.intp) if n_classes == 1 else target
    held = np.bincount(codes, minlength=n_classes)
    even = np.minimum(held, _level(held, max_rows))
    parts = []
    for c in np.flatnonzero(even).tolist():
        own = np.flatnonzero(codes == c)
        steps = np.cumsum(w[own]) * (even[c] / w[own].sum())
        at = np.searchsorted(steps, np.arange(even[c]) + 0.5, side="right")
        parts.append(own[np.minimum(at, len(own) - 1)])
    return np.sort(np.concatenate(parts))


def _level(held: IntArray, size: int) -> int:
    """The largest number of rows that every class may have (as far as it has them) within ``size`` rows."""
    low, high = 0, int(held.max())
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if np.minimum(held, middle).sum() <= size else (low, middle - 1)
    return max(low, 1)


def _halves(target: npt.NDArray[Any], n_classes: int) -> IntArray:
    """0 and 1 in turn among the rows of each class, going on where the class before has left off."""
    order = np.arange(len(target)) if n_classes == 1 else np.argsort(target, kind="stable")
    half = np.empty(len(target), np.intp)
    half[order] = np.arange(len(target)) % 2
    return half


def _fit(X: Matrix, y: npt.NDArray[Any], counts: FloatArray, seed: int) -> Boosted:
    """Fit boosting on the rows as they are, and take its trees over."""
    K = len(counts)
    if K == 1:
        number = HistGradientBoostingRegressor(**_options(1), random_state=seed).fit(X, y)
        return _checked(_taken(number, np.zeros(1, np.intp), 1, []), number.predict, X)
    rows = np.bincount(y, minlength=K)
    present = np.flatnonzero(rows)
    ratios = np.where(rows > 0, counts / np.maximum(rows, 1), 0.0)
    ratios *= rows.sum() / max(float(counts[present].sum()), 1e-300)
    outputs = 1 if K == 2 else K
    if len(present) == 1:
        return boosted([_NOTHING] * outputs, np.zeros(outputs), ratios)
    trees = 1 if len(present) == 2 else len(present)
    classes = HistGradientBoostingClassifier(**_options(trees), random_state=seed).fit(X, y)
    places = np.zeros(1, np.intp) if K == 2 else present[-trees:]
    return _checked(_taken(classes, places, outputs, ratios), classes.decision_function, X, places)


def _options(outputs: int) -> dict[str, Any]:
    """Options of the boosting for a number of trees an iteration."""
    iterations = min(_ITERATIONS, max(_FEWEST_ITERATIONS, _TREES // outputs))
    return {
        "max_iter": iterations,
        "learning_rate": _LEARNED / iterations,
        "max_leaf_nodes": _LEAVES,
        "l2_regularization": 1.0,  # without it, leaves of a tiny class diverge
        "early_stopping": False,
    }


_NOTHING = {
    name: np.zeros(1, np.intp if name in ("feature", "left", "right") else np.float64)
    for name in ("feature", "threshold", "left", "right", "value")
} | {"is_leaf": np.ones(1, np.bool_)}
"""A tree that adds 0."""


def _taken(model: Any, places: IntArray, outputs: int, ratios: npt.ArrayLike) -> Boosted:
    """The trees of a fitted model, each for the output it adds to."""
    trees = []
    for iteration in model._predictors:
        line = [_NOTHING] * outputs
        for place, tree in zip(places.tolist(), iteration, strict=True):
            nodes = tree.nodes
            line[place] = {name: nodes[name] for name in ("left", "right", "is_leaf", "value")}
            line[place] |= {"feature": nodes["feature_idx"], "threshold": nodes["num_threshold"]}
        trees += line
    start = np.zeros(outputs)
    start[places] = np.ravel(model._baseline_prediction)
    return boosted(trees, start, ratios)


def _checked(found: Boosted, predict: Any, X: Matrix, places: IntArray | None = None) -> Boosted:
    """Refuse trees that predict otherwise than the model they were taken from: its inner form is not documented."""
    few = X[:64]
    ours = found.raw(few)[:, slice(None) if places is None else places]
    if not np.allclose(ours, np.reshape(predict(few), ours.shape), rtol=1e-9, atol=1e-9):
        raise RuntimeError("fit_tree_pilot: this version of scikit-learn stores boosted trees in a form unknown to us")
    return found
