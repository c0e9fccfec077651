"""Models that first and second moments determine: fitted from totals alone, they are the full-data models."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.decomposition import PCA, TruncatedSVD
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis, QuadraticDiscriminantAnalysis
from sklearn.linear_model import BayesianRidge, ElasticNet, Lasso, LinearRegression, Ridge, RidgeClassifier
from sklearn.naive_bayes import GaussianNB

from coretree.coreset.second_moments import Summary
from coretree.errors import ConfigError
from coretree.learn.exact_classifiers import (
    ByClass,
    fit_discriminant,
    fit_naive_bayes,
    fit_quadratic,
    fit_ridge_classifier,
    present_classes,
)
from coretree.learn.exact_linear import fit_linear, fit_pca, fit_truncated_svd

_LINEAR = (LinearRegression, Ridge, Lasso, ElasticNet, BayesianRidge)
_FACTORED: Mapping[type, Callable[[Any, Summary], Any]] = MappingProxyType(
    {PCA: fit_pca, TruncatedSVD: fit_truncated_svd}
)
_BY_CLASS: Mapping[type, Callable[[Any, ByClass], Any]] = MappingProxyType(
    {
        RidgeClassifier: fit_ridge_classifier,
        LinearDiscriminantAnalysis: fit_discriminant,
        QuadraticDiscriminantAnalysis: fit_quadratic,
        GaussianNB: fit_naive_bayes,
    }
)
_WHY_NOT: Mapping[str, str] = MappingProxyType(
    {
        "RidgeCV": "its leave-one-out errors need every row; search alpha over the moments of folds instead",
        "RidgeClassifierCV": "its leave-one-out errors need every row; search alpha over the moments of folds instead",
        "LassoCV": "its folds need moments of their own; search alpha over the moments of folds instead",
        "ElasticNetCV": "its folds need moments of their own; search alpha over the moments of folds instead",
        "Lars": "it takes no sample weights; Lasso solves the same problem exactly",
        "LassoLars": "it takes no sample weights; Lasso solves the same problem exactly",
        "ARDRegression": "it takes no sample weights; BayesianRidge does",
        "HuberRegressor": "its loss is not the squared one",
        "QuantileRegressor": "its loss is not the squared one",
        "LogisticRegression": "its loss is not the squared one",
    }
)


@dataclass(frozen=True)
class Exactness:
    """Whether moments alone give the full-data model, and why (one sentence for the report)."""

    exact: bool
    reason: str

    def __bool__(self) -> bool:
        return self.exact


def is_exact(estimator: Any) -> Exactness:
    """Whether `fit_exact` gives the model that all rows would give, up to rounding and the solver's own tolerance.

    Parameters
    ----------
    estimator : scikit-learn estimator
        Judged with its parameters; a pipeline is judged by no more than itself, so pass its last step.

    Returns
    -------
    Exactness
        True or false as a condition, with a ``reason``.

    Examples
    --------
    >>> from sklearn.linear_model import RidgeCV
    >>> bool(is_exact(Ridge())), is_exact(RidgeCV()).reason
    (True, 'RidgeCV: its leave-one-out errors need every row; search alpha over the moments of folds instead')
    """
    kind, name = type(estimator), type(estimator).__name__
    if kind in _LINEAR:
        if isinstance(getattr(estimator, "precompute", False), np.ndarray):
            return Exactness(False, f"{name}: a Gram matrix given in advance belongs to the rows, not to their moments")
        return Exactness(True, f"{name}: squared loss sees the rows through their count, mean and scatter only")
    if kind is PCA and estimator.n_components == "mle":
        return Exactness(False, f"{name}: the rule behind n_components='mle' is scikit-learn's own; give a number")
    if kind in _FACTORED:
        return Exactness(True, f"{name}: a singular value decomposition of the rows is one of their second moments")
    if kind in _BY_CLASS:
        return _judge_by_class(estimator)
    return Exactness(False, f"{name}: {_WHY_NOT.get(name, 'not known to depend on first and second moments alone')}")


def _judge_by_class(estimator: Any) -> Exactness:
    name = type(estimator).__name__
    if getattr(estimator, "shrinkage", None) == "auto":
        return Exactness(False, f"{name}: Ledoit-Wolf shrinkage needs fourth moments; give shrinkage a number")
    if getattr(estimator, "covariance_estimator", None) is not None:
        return Exactness(False, f"{name}: a covariance estimator of one's own needs the rows")
    return Exactness(True, f"{name}: it is made of each class's count, mean and scatter")


def fit_exact(estimator: Any, moments: Summary | ByClass, *, feature_names: Sequence[str] | None = None) -> Any:
    """Fit a clone of an estimator from moments: the model of all the rows, at the cost of d + 2 of them.

    Parameters
    ----------
    estimator : scikit-learn estimator
        One for which `is_exact` is true.
    moments : CoMoments or RFactor, or a mapping of class label to one of them
        Regressors: features and targets. Classifiers: features of each class, no targets. Decompositions: either one;
        targets are left out. Where the columns' condition number exceeds about 1e6, gather an `RFactor`.
    feature_names : sequence of str, optional
        Becomes ``feature_names_in_``, so that the model checks data frames.

    Returns
    -------
    fitted estimator
        Of the estimator's own class. It predicts and scores as if fitted on all rows: coefficients agree to about
        1e-9 relative on well-conditioned columns, whatever the number of partitions. Where columns are collinear, a
        `LinearRegression` has the coefficients of least norm; non-negative coefficients and Lasso's are not unique
        there, and only the predictions agree.

    Raises
    ------
    ConfigError
        If the estimator is not exact, or the moments are of the wrong kind.
    EmptyDataError
        If they have seen no rows.

    Notes
    -----
    Rows with weights count as that many rows, also where scikit-learn's own class takes no weights (PCA, LDA, QDA).

    Examples
    --------
    >>> from coretree.coreset.comoments import comoments
    >>> x = np.linspace(0, 1, 1000)[:, None]
    >>> parts = [comoments(part, 2 * part[:, 0] + 1) for part in np.array_split(x, 7)]
    >>> model = fit_exact(LinearRegression(), sum(parts))
    >>> float(model.coef_[0].round(9)), float(round(model.intercept_, 9))
    (2.0, 1.0)
    """
    verdict = is_exact(estimator)
    if not verdict:
        raise ConfigError(f"no exact fit from moments. {verdict.reason}. Fit it on a weighted coreset instead.")
    model, kind = clone(estimator), type(estimator)
    if kind in _BY_CLASS:
        if isinstance(moments, Summary):
            raise ConfigError(f"{kind.__name__} needs the moments of each class: pass a mapping of label to moments.")
        fitted = _BY_CLASS[kind](model, present_classes(moments))
    else:
        whole = moments if isinstance(moments, Summary) else _merged(moments)
        fitted = _FACTORED[kind](model, whole) if kind in _FACTORED else fit_linear(model, whole)
    if feature_names is not None:
        fitted.feature_names_in_ = np.asarray(feature_names, dtype=object)
    return fitted


def _merged(moments: ByClass) -> Summary:
    """All classes together: what a decomposition wants."""
    first, *rest = present_classes(moments).values()
    for other in rest:
        first = first + other
    return first
