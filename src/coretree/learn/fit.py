"""Fit one estimator on a weighted sample so that it comes out as the full data would have it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from sklearn.base import clone
from sklearn.pipeline import Pipeline

from coretree.coreset.rows import uniforms
from coretree.errors import ConfigError
from coretree.learn.masses import checked_weights, take_rows
from coretree.learn.newton_start import fit_from_newton, suits_newton
from coretree.learn.prior_shift import ClassMass, Prior, PriorShift
from coretree.learn.threads import limited_threads
from coretree.learn.weights import accepts_weights, treatment

FloatArray = npt.NDArray[np.float64]
EVEN = 0.85  # least effective share of rows at which drawing them by weight loses little


def fit_weighted(
    estimator: Any,
    X: Any,
    y: Any,
    *,
    weights: npt.ArrayLike | None,
    class_counts: Mapping[Any, float] | None = None,
    class_mass: ClassMass = "rows",
    prior: Prior = "data",
    seed: int = 0,
    n_threads: int | None = None,
    unsupported: Literal["error", "resample"] = "error",
    near: FloatArray | None = None,
    sharpen: bool = True,
) -> Any:
    """Fit a clone of an estimator on the rows of a coreset, with the weights in the form that suits it.

    The form is `coretree.learn.weights.treatment`'s. Inside a `Pipeline` the weights reach every step whose ``fit``
    takes them; a tree classifier at its end is wrapped in `PriorShift`. Fitting is deterministic: every
    ``random_state`` that is None becomes ``seed``.

    Parameters
    ----------
    estimator : scikit-learn estimator
        Not touched; a clone is fitted.
    X : array, sparse matrix or data frame (m, d)
    y : (m,) array, or None for estimators without a target
    weights : (m,) array of floats >= 0, or None for equal weights
        They sum to the rows represented.
    class_counts : mapping of class label to rows, optional
        Exact class counts of the data, for the prior shift; default: the weights' sums.
    class_mass : {"rows", "root"}
        What tree classifiers see of each class: its rows in the sample (class quotas, class-balanced and uniform
        sketches), or the root of its weight (residual sketches). Other estimators get their own form of the weights.
    prior : {"data", "balanced"}
        Class shares that the probabilities of tree classifiers are for: "data" for accuracy and log loss, "balanced"
        for balanced accuracy and macro-averaged F1.
    seed : int
        For estimators that draw, and for resampling.
    n_threads : int, optional
        Threads that OpenMP and forests may use, and one for BLAS; default: as many as they like.
    unsupported : {"error", "resample"}
        For estimators that take no weights, where the weights differ: refuse, or draw rows in proportion to weight
        (systematic sampling, m rows in all).
    near : array, optional
        A logistic model that is thought to be near: see `coretree.learn.newton_start.fit_from_newton`.
    sharpen : bool
        Whether probabilities of tree classifiers on residual sketches are sharpened by cross-fitting, for three more
        fits. It leaves the order of predictions as it is: False where only that is scored.

    Returns
    -------
    estimator
        Fitted; of the given class, or `PriorShift` around it.

    Raises
    ------
    ConfigError
        If the estimator takes no weights, the weights differ much (effective rows below 0.85 of the rows), and
        ``unsupported`` is "error". Where they differ little, as in a uniform sketch, rows are drawn in proportion.

    Examples
    --------
    >>> from sklearn.linear_model import LinearRegression
    >>> model = fit_weighted(LinearRegression(), np.array([[0.0], [1.0], [1.0]]), np.array([0.0, 1.0, 3.0]),
    ...                      weights=[1.0, 3.0, 1.0])
    >>> [round(float(v), 6) for v in model.predict([[1.0]])]
    [1.5]
    """
    model = seeded(clone(estimator), seed)
    given = checked_weights(weights, len(y) if y is not None else X.shape[0])
    form = treatment(model)
    with limited_threads(n_threads):
        if form.kind == "none":
            return _fit_without_weights(model, X, y, given, seed=seed, resample=unsupported == "resample")
        if form.kind == "mean1":
            given = given / given.mean()
        if form.kind == "unweighted_prior_shift":
            model = shift_last(model, class_mass=class_mass, prior=prior, sharpen=sharpen)
        arguments = weight_arguments(model, given)
        if form.kind == "unweighted_prior_shift" and class_counts is not None:
            arguments[f"{_last_step(model)}class_counts"] = class_counts
        if suits_newton(model, X, y):
            return fit_from_newton(model, X, y, arguments, near)
        return model.fit(X, y, **arguments)


def seeded(estimator: Any, seed: int) -> Any:
    """Set every ``random_state`` that is None, also of what the estimator wraps; returns the same estimator."""
    unset = [
        name
        for name, value in estimator.get_params(deep=True).items()
        if value is None and name.rpartition("__")[2] == "random_state"
    ]
    return estimator.set_params(**dict.fromkeys(unset, seed)) if unset else estimator


def shift_last(estimator: Any, *, class_mass: ClassMass = "rows", prior: Prior = "data", sharpen: bool = True) -> Any:
    """Put the last step of a pipeline (or the estimator itself) into a `PriorShift`; a new object."""
    if not isinstance(estimator, Pipeline):
        # a residual sample is small beside its data: what it says of the slope is worth three more fits
        folds = 3 if sharpen and class_mass == "root" else 0
        return PriorShift(estimator, class_mass=class_mass, prior=prior, cross_fit=folds)
    shifted = clone(estimator)
    name, last = shifted.steps[-1]
    shifted.steps[-1] = (name, shift_last(last, class_mass=class_mass, prior=prior, sharpen=sharpen))
    return shifted


def weight_arguments(estimator: Any, weights: FloatArray) -> dict[str, Any]:
    """Keyword arguments of ``fit`` that carry weights to an estimator, or to each step of a pipeline that takes them.

    Examples
    --------
    >>> from sklearn.linear_model import Ridge
    >>> from sklearn.preprocessing import MinMaxScaler, StandardScaler
    >>> steps = [("scale", StandardScaler()), ("clip", MinMaxScaler()), ("model", Ridge())]
    >>> sorted(weight_arguments(Pipeline(steps), np.ones(3)))
    ['model__sample_weight', 'scale__sample_weight']
    """
    if not isinstance(estimator, Pipeline):
        return {"sample_weight": weights} if accepts_weights(estimator) else {}
    found: dict[str, Any] = {}
    for name, step in estimator.steps:
        for argument, value in weight_arguments(step, weights).items():
            found[f"{name}__{argument}"] = value
    return found


def _last_step(estimator: Any) -> str:
    """Prefix of the fit arguments of the innermost last step: "" outside pipelines."""
    if not isinstance(estimator, Pipeline):
        return ""
    name, last = estimator.steps[-1]
    return f"{name}__{_last_step(last)}"


def _fit_without_weights(model: Any, X: Any, y: Any, weights: FloatArray, *, seed: int, resample: bool) -> Any:
    name = type(model).__name__
    if np.allclose(weights, weights[0], rtol=1e-6, atol=0.0):
        return model.fit(X, y)
    nearly_even = weights.sum() ** 2 >= EVEN * weights.size * float(weights @ weights)
    if not (resample or nearly_even):
        raise ConfigError(
            f"{name}.fit takes no sample_weight, but the rows of this coreset carry weights from {weights.min():.4g} "
            f"to {weights.max():.4g}: fitted as it is, it would learn the sample, not the data. Choose an estimator "
            "that takes sample_weight, give it a uniform sketch (objective='uniform'), or ask for "
            "unsupported='resample'."
        )
    index = resampled(weights, seed)
    return model.fit(take_rows(X, index), None if y is None else np.asarray(y)[index])


def resampled(weights: FloatArray, seed: int) -> npt.NDArray[np.intp]:
    """Row positions drawn in proportion to weight, as many as there are rows: systematic sampling.

    Row i comes either floor or ceil of ``m w_i / sum(w)`` times, and that often in expectation.

    Examples
    --------
    >>> resampled(np.array([2.0, 0.0, 2.0, 0.0]), seed=0)
    array([0, 0, 2, 2])
    """
    m = weights.size
    start = float(uniforms(np.zeros(1, dtype=np.uint64), seed, "resample")[0])
    steps = np.cumsum(weights) * (m / weights.sum())
    index = np.searchsorted(steps, np.arange(m) + start, side="right")
    return np.minimum(index, np.flatnonzero(weights)[-1]).astype(np.intp)  # rounding at the far end
