"""Classifiers made of each class's count, mean and scatter: fitted on pseudo-rows, class by class."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy.linalg import eigh
from sklearn.covariance import shrunk_covariance
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis, QuadraticDiscriminantAnalysis
from sklearn.linear_model import Ridge

from coretree.coreset.exact import pseudo_rows
from coretree.coreset.rows import Float
from coretree.coreset.second_moments import Summary
from coretree.errors import ConfigError, EmptyDataError
from coretree.learn.exact_linear import fit_linear

ByClass = Mapping[Any, Summary]
"""Moments of the features of each class, by its label."""


def present_classes(moments: ByClass) -> dict[Any, Summary]:
    """Return the classes that have rows, in the order in which scikit-learn lists labels.

    Raises
    ------
    EmptyDataError
        If no class has any row.
    ValueError
        If the moments hold targets: a class needs its features alone.
    """
    labels = [label for label, summary in moments.items() if summary.weight > 0]
    if not labels:
        raise EmptyDataError("no class has any row of positive weight: there is nothing to fit.")
    if any(moments[label].n_targets for label in labels):
        raise ValueError("the moments of a class must hold its features alone; gather them without y")
    order = np.argsort(np.asarray(labels), kind="stable")
    return {labels[i]: moments[labels[i]] for i in order}


def _labels(moments: ByClass, kind: str) -> npt.NDArray[Any]:
    if len(moments) < 2:
        raise ConfigError(f"{kind} needs rows of at least two classes, found {[str(label) for label in moments]}.")
    return np.asarray(list(moments))


def _total(moments: ByClass) -> Summary:
    first, *rest = moments.values()
    for other in rest:
        first = first + other
    return first


def _stacked(moments: ByClass, labels: npt.NDArray[Any], scale: Mapping[Any, float]) -> tuple[Float, npt.NDArray[Any]]:
    """Pseudo-rows of every class below one another, their deviations from the mean multiplied by ``scale``."""
    blocks = [s.mean + scale[label] * pseudo_rows(s, centred=True).X for label, s in moments.items()]
    return np.vstack(blocks), np.repeat(labels, len(blocks[0]))


def fit_ridge_classifier(model: Any, moments: ByClass) -> Any:
    """Fit ridge regression on labels of -1 and 1, one column a class (one in all for two classes)."""
    labels = _labels(moments, "RidgeClassifier")
    signs = 2.0 * np.eye(len(labels)) - 1.0 if len(labels) > 2 else np.array([[-1.0], [1.0]])
    parts = {}
    for label, sign in zip(moments, signs, strict=True):
        parts[label] = moments[label].with_targets(sign).scaled(_class_factor(model.class_weight, label, moments))
    options = {name: value for name, value in model.get_params().items() if name != "class_weight"}
    ridge = fit_linear(Ridge(**options), _total(parts))
    # one row a class teaches the model its labels; what it learns from them otherwise is replaced
    asked = model.get_params()
    model.set_params(alpha=1.0, class_weight=None, solver="auto", positive=False)
    model.fit(np.vstack([summary.mean for summary in moments.values()]), labels).set_params(**asked)
    model.coef_ = np.atleast_2d(ridge.coef_)
    model.intercept_ = np.atleast_1d(ridge.intercept_) if model.fit_intercept else ridge.intercept_
    model.n_iter_, model.solver_ = ridge.n_iter_, ridge.solver_
    return model


def _class_factor(class_weight: Any, label: Any, moments: ByClass) -> float:
    if class_weight is None:
        return 1.0
    if class_weight == "balanced":
        return sum(s.n_rows for s in moments.values()) / (len(moments) * moments[label].n_rows)
    return float(class_weight.get(label, 1.0))


def fit_discriminant(model: Any, moments: ByClass) -> Any:
    """Fit linear discriminant analysis: it sees class means, priors and the pooled scatter."""
    labels = _labels(moments, "LinearDiscriminantAnalysis")
    total, K, k = _total(moments), len(labels), next(iter(moments.values())).n_columns + 1
    if not total.weight > K:
        raise ConfigError(f"LinearDiscriminantAnalysis needs more rows than classes, found {total.weight:g} and {K}.")
    scale = dict.fromkeys(moments, 1.0)
    if model.solver == "svd":  # it pools deviations of all classes, the other solvers divide each class's by its rows
        lost = 0 if _divides_by_rows("linear") else K
        pooled = (K * k - lost) / (total.weight - lost)
        scale = {label: float(np.sqrt(pooled * s.weight / k)) for label, s in moments.items()}
    X, y = _stacked(moments, labels, scale)
    priors = model.priors
    if priors is None:
        model.set_params(priors=np.array([s.weight for s in moments.values()]) / total.weight)
    model.fit(X, y).set_params(priors=priors)
    if model.solver == "svd" and model.store_covariance:
        covariances = np.array([s.scatter / s.weight for s in moments.values()])
        model.covariance_ = np.tensordot(model.priors_, covariances, axes=1)
    if model.solver == "eigen":
        _separate(model, total.scatter / total.weight)
    return model


def _separate(model: Any, covariance: Float) -> None:
    """Redo the last step of solver="eigen", whose total scatter would weigh all classes of pseudo-rows alike."""
    within = model.covariance_
    if model.shrinkage is not None:
        covariance = shrunk_covariance(covariance, model.shrinkage)
    values, vectors = eigh(covariance - within, within)
    values, vectors = values[::-1], vectors[:, ::-1]
    model.scalings_ = vectors
    model.explained_variance_ratio_ = (values / values.sum())[: model._max_components]
    coef = model.means_ @ vectors @ vectors.T
    intercept = -0.5 * (model.means_ * coef).sum(axis=1) + np.log(model.priors_)
    if len(coef) == 2:
        coef, intercept = coef[1:] - coef[:1], intercept[1:] - intercept[:1]
    model.coef_, model.intercept_ = coef, intercept


def fit_quadratic(model: Any, moments: ByClass) -> Any:
    """Fit quadratic discriminant analysis: it sees the mean and the scatter of each class, and the priors."""
    labels = _labels(moments, "QuadraticDiscriminantAnalysis")
    total, k = _total(moments), next(iter(moments.values())).n_columns + 1
    few = [label for label, s in moments.items() if s.weight <= 1]
    if few:
        raise ConfigError(f"QuadraticDiscriminantAnalysis needs two rows of each class; class {few[0]!r} has one.")
    scale = dict.fromkeys(moments, 1.0)
    if getattr(model, "solver", "svd") == "svd" and not _divides_by_rows("quadratic"):
        scale = {label: float(np.sqrt((k - 1) / k * s.weight / (s.weight - 1))) for label, s in moments.items()}
    X, y = _stacked(moments, labels, scale)
    priors = model.priors
    if priors is None:
        model.set_params(priors=np.array([s.weight for s in moments.values()]) / total.weight)
    model.fit(X, y)
    return model.set_params(priors=priors)


@cache
def _divides_by_rows(kind: Literal["linear", "quadratic"]) -> bool:
    """Ask the installed scikit-learn whether its covariances divide by n; earlier releases divide by n less one."""
    X, y = np.array([[-1.0], [1.0], [9.0], [11.0]]), np.array([0, 0, 1, 1])
    if kind == "linear":
        return bool(abs(abs(LinearDiscriminantAnalysis().fit(X, y).scalings_[0, 0]) - 1.0) < 0.1)
    return bool(abs(QuadraticDiscriminantAnalysis().fit(X, y).scalings_[0][0] - 1.0) < 0.1)


def fit_naive_bayes(model: Any, moments: ByClass) -> Any:
    """Fit Gaussian naive Bayes: it sees the mean and the variances of each class."""
    labels = np.asarray(list(moments))
    rows = [pseudo_rows(summary) for summary in moments.values()]
    X, weights = np.vstack([part.X for part in rows]), np.concatenate([part.weights for part in rows])
    smoothing = model.var_smoothing
    # its floor is a share of the largest variance of all rows, which rows of unequal weights would misjudge
    model.set_params(var_smoothing=0.0).fit(X, np.repeat(labels, len(rows[0].X)), sample_weight=weights)
    total = _total(moments)
    model.epsilon_ = smoothing * float((np.diag(total.scatter) / total.weight).max())
    model.var_ = np.array([np.diag(summary.scatter) / summary.weight for summary in moments.values()]) + model.epsilon_
    return model.set_params(var_smoothing=smoothing)
