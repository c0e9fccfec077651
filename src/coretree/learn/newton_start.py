"""A logistic regression begins where Newton's method ends: the same optimum, in a tenth of the time on a coreset."""

from __future__ import annotations

import math
import threading
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.linalg import LinAlgError, LinAlgWarning
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

MOST_UNKNOWNS = 256
"""Coefficients, of all classes, up to which a Newton step is cheap beside the steps that it saves."""
LEAST_STEPS = 50
"""Steps allowed, below which a fit is cut short on purpose."""
_one_at_a_time = threading.Lock()  # the solver changes the filters of warnings, which all threads share


def suits_newton(estimator: Any, X: Any, y: Any) -> bool:
    """Whether Newton's method leads an estimator to its own optimum, and pays.

    So it does for a logistic regression by lbfgs under a squared penalty, on dense rows that outnumber its unknowns.

    Examples
    --------
    >>> X, y = np.zeros((9, 2)), np.arange(9) % 2
    >>> suits_newton(LogisticRegression(), X, y), suits_newton(LogisticRegression(solver="liblinear"), X, y)
    (True, False)
    """
    if type(estimator) is not LogisticRegression or estimator.solver != "lbfgs" or estimator.warm_start:
        return False
    squared = estimator.penalty in ("l2", "deprecated") and not estimator.l1_ratio and math.isfinite(estimator.C)
    if not squared or estimator.max_iter < LEAST_STEPS or not isinstance(X, np.ndarray):
        return False
    classes = len(np.unique(y))
    return (X.shape[1] + 1) * (1 if classes == 2 else classes) <= min(MOST_UNKNOWNS, len(X))


def fit_from_newton(
    estimator: Any, X: Any, y: Any, arguments: Mapping[str, Any], near: npt.NDArray[np.float64] | None = None
) -> Any:
    """Fit a logistic regression that `suits_newton` by its own solver, from where Newton's method ends.

    The loss is convex, so the solver confirms the place by its own ``tol``, or goes on from there. Newton's method
    takes about five steps of ``n p^2`` operations, lbfgs hundreds of ``n p`` where columns are rare or much alike.

    Parameters
    ----------
    estimator : LogisticRegression
        Fitted in place; ``n_iter_`` counts the steps of its own solver.
    X : (n, p) array
    y : (n,) array
    arguments : mapping
        Further ones of ``fit``, such as sample weights.
    near : (p + 1,) or (n_classes, p + 1) array, optional
        Coefficients, the intercept first, of a model that is thought to be near: where Newton's method begins. It
        saves half of its steps. Of another shape than the model's, or not finite, it is not used.

    Returns
    -------
    LogisticRegression
        The one given.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(500, 3))
    >>> y = (X[:, 0] + rng.logistic(size=500) > 0).astype(int)
    >>> plain = LogisticRegression(tol=1e-8).fit(X, y)
    >>> found = fit_from_newton(LogisticRegression(tol=1e-8), X, y, {})
    >>> bool(np.allclose(found.coef_, plain.coef_, atol=1e-5)), int(found.n_iter_[0])
    (True, 0)
    """
    try:
        with _one_at_a_time, warnings.catch_warnings():
            warnings.simplefilter("ignore", LinAlgWarning)  # how well it went, the second fit will tell
            warnings.simplefilter("ignore", ConvergenceWarning)
            start = _begun(clone(estimator).set_params(solver="newton-cholesky"), np.unique(y), X.shape[1], near)
            start.fit(X, y, **arguments)
    except LinAlgError:
        return estimator.fit(X, y, **arguments)
    estimator.coef_, estimator.intercept_, estimator.classes_ = start.coef_, start.intercept_, start.classes_
    return estimator.set_params(warm_start=True).fit(X, y, **arguments).set_params(warm_start=False)


def _begun(estimator: Any, classes: npt.NDArray[Any], n_features: int, near: npt.NDArray[np.float64] | None) -> Any:
    """Put an unfitted estimator at given coefficients, if they are some for these classes and features."""
    rows = 1 if len(classes) == 2 else len(classes)
    if near is None or near.size != rows * (n_features + 1) or not np.isfinite(near).all():
        return estimator
    theta = near.reshape(rows, n_features + 1)
    estimator.coef_, estimator.intercept_, estimator.classes_ = theta[:, 1:].copy(), theta[:, 0].copy(), classes
    return estimator.set_params(warm_start=True)
