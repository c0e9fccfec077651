"""The convex objective that a fitted linear estimator minimised, in units of summed losses, and the way back."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.linear_model import (
    ElasticNet,
    GammaRegressor,
    Lasso,
    LinearRegression,
    LogisticRegression,
    PoissonRegressor,
    Ridge,
    TweedieRegressor,
)
from sklearn.svm import LinearSVC

from coretree.errors import ConfigError
from coretree.learn.margins import Float, MarginLoss, zero_sum_basis


@dataclass(frozen=True, eq=False)
class Penalised:
    """F(theta) = sum w loss(x'theta, y) + 1/2 sum l2 theta^2 + sum l1 |theta|, and where the estimator stands.

    Attributes
    ----------
    loss : MarginLoss
    theta : ndarray, shape (p, q)
        Parameters of the estimator; the intercept is the first row, where there is one.
    l2, l1 : ndarray, shape (p,)
        Penalties of each row of ``theta``.
    per_weight : bool
        Whether the penalties are to be multiplied by the sum of the weights: scikit-learn's ``alpha`` beside a mean.
    intercept : bool
        Whether the rows get a constant 1 in front.
    outside : float
        Penalty that no margin feels: a common part of the coefficients of all classes.
    """

    loss: MarginLoss
    theta: Float
    l2: Float
    l1: Float
    per_weight: bool
    intercept: bool
    outside: float = 0.0

    def design(self, X: npt.NDArray[Any]) -> Float:
        """Prepared features (n, d) as float64 rows of the objective, (n, p)."""
        if not self.intercept:
            return np.asarray(X, np.float64)
        out = np.ones((len(X), X.shape[1] + 1))
        out[:, 1:] = X
        return out

    def penalties(self, weight: float) -> tuple[Float, Float]:
        """L2 and L1 for each parameter, flattened margin by margin, (q p,); ``weight`` is the sum of the weights."""
        scale, q = (weight if self.per_weight else 1.0), self.theta.shape[1]
        return np.tile(scale * self.l2, q), np.tile(scale * self.l1, q)

    def penalty(self, theta: Float, weight: float) -> float:
        """Penalty at other parameters; there, nothing lies outside."""
        l2, l1 = self.penalties(weight)
        flat = flattened(theta)
        return float(0.5 * l2 @ flat**2 + l1 @ np.abs(flat))

    def at(self, estimator: Any, theta: Float) -> Any:
        """A copy of the fitted estimator with these parameters; its coefficients keep their shapes."""
        out = copy.copy(estimator)
        table = theta if self.loss.basis is None else theta @ self.loss.basis.T
        coef = table[1:] if self.intercept else table
        out.coef_ = np.ascontiguousarray(coef.T).reshape(np.shape(estimator.coef_))
        if self.intercept:
            out.intercept_ = table[0].copy() if np.ndim(estimator.intercept_) else float(table[0, 0])
        return out


def flattened(theta: Float) -> Float:
    """Parameters (p, q) as a vector, margin by margin."""
    return np.ascontiguousarray(theta.T).ravel()


def unflattened(flat: Float, shape: tuple[int, ...]) -> Float:
    """Inverse of :func:`flattened`."""
    return np.ascontiguousarray(flat.reshape(shape[::-1]).T)


def penalised(estimator: Any) -> Penalised | None:
    """Objective of a fitted scikit-learn estimator, or None where it has none that is known here.

    Known are logistic regression of two and more classes, the linear SVM of two classes with squared hinge, least
    squares with L2 and L1 penalties, and Poisson, gamma and Tweedie regression with log link.

    Raises
    ------
    ConfigError
        ``class_weight`` is set: it would weigh the rows of all data by counts that a sample does not know exactly.

    Examples
    --------
    >>> model = Ridge(alpha=2.0).fit(np.array([[0.0], [1.0]]), np.array([0.0, 1.0]))
    >>> objective = penalised(model)
    >>> objective.loss.name, objective.l2.tolist(), objective.theta.shape
    ('squared', [0.0, 2.0], (2, 1))
    """
    if getattr(estimator, "class_weight", None) is not None and type(estimator) in (LogisticRegression, LinearSVC):
        raise ConfigError(
            f"{type(estimator).__name__}(class_weight={estimator.class_weight!r}): the objective on all rows is known "
            "here without class weights only. Give the weights as a weight column of the data, or leave them out."
        )
    if getattr(estimator, "positive", False):  # the optimum under constraints is another one
        return None
    found = _classifier(estimator) if type(estimator) in (LogisticRegression, LinearSVC) else _regressor(estimator)
    if found is None or np.ndim(estimator.coef_) > 2:
        return None
    name, l2, l1, per_weight, intercept_share = found
    coef = np.atleast_2d(np.asarray(estimator.coef_, np.float64)).T
    intercept = bool(estimator.fit_intercept)
    theta, basis, outside = coef, None, 0.0
    if intercept:
        theta = np.vstack([np.atleast_1d(np.asarray(estimator.intercept_, np.float64)), coef])
    if name == "softmax":
        # with an L1 penalty the common part of the coefficients matters, so all K scores are parameters
        basis = np.eye(theta.shape[1]) if l1 else zero_sum_basis(theta.shape[1])
        if not l1:
            outside = 0.5 * l2 * coef.shape[1] * float(np.square(coef.mean(axis=1)).sum())
        theta = theta @ basis
    elif theta.shape[1] != 1:
        return None
    first = [intercept_share] if intercept else []
    l2s = l2 * np.array([share**2 for share in first] + [1.0] * len(coef))
    l1s = l1 * np.array(first + [1.0] * len(coef))
    return Penalised(MarginLoss(name, basis), theta, l2s, l1s, per_weight, intercept, outside)


Terms = tuple[str, float, float, bool, float]
"""Loss, L2, L1, whether they are per unit of weight, and the intercept's scale in the penalty (0: it is free)."""


def _classifier(estimator: Any) -> Terms | None:
    scaled = 1.0 / float(estimator.intercept_scaling)
    if isinstance(estimator, LinearSVC):
        if estimator.loss != "squared_hinge":
            return None
        l1 = estimator.penalty == "l1"
        return "squared_hinge", (1 - l1) / estimator.C, l1 / estimator.C, False, scaled
    penalty, ratio = estimator.penalty, estimator.l1_ratio or 0.0
    if penalty in ("l1", "l2"):  # its own argument in older releases of scikit-learn
        ratio = float(penalty == "l1")
    strength = 0.0 if penalty is None else 1.0 / float(estimator.C)
    name = "logistic" if len(estimator.classes_) == 2 else "softmax"
    # liblinear penalises the intercept, as the weight of one more column
    share = scaled if estimator.solver == "liblinear" else 0.0
    return name, (1 - ratio) * strength, ratio * strength, False, share


def _regressor(estimator: Any) -> Terms | None:
    kind = type(estimator)
    if kind is LinearRegression:
        return "squared", 0.0, 0.0, False, 0.0
    if kind is Ridge and np.ndim(estimator.alpha) == 0:
        return "squared", float(estimator.alpha), 0.0, False, 0.0
    if kind in (Lasso, ElasticNet):
        ratio = 1.0 if kind is Lasso else float(estimator.l1_ratio)
        return "squared", float(estimator.alpha) * (1 - ratio), float(estimator.alpha) * ratio, True, 0.0
    power = {PoissonRegressor: 1.0, GammaRegressor: 2.0}.get(kind)
    if kind is TweedieRegressor:
        power, identity = float(estimator.power), estimator.link == "identity"
        if power == 0 and estimator.link != "log":
            return "squared", float(estimator.alpha), 0.0, True, 0.0
        if identity or not 1 <= power <= 2:
            return None
    if power is None:
        return None
    name = {1.0: "poisson", 2.0: "gamma"}.get(power, f"tweedie:{power}")
    return name, float(estimator.alpha), 0.0, True, 0.0
