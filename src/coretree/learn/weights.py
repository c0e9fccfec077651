"""Who honours sample weights, and how: the form in which the weights of a coreset reach each estimator."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from sklearn.compose import TransformedTargetRegressor
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    IsolationForest,
    StackingClassifier,
    StackingRegressor,
    VotingClassifier,
    VotingRegressor,
)
from sklearn.linear_model import Perceptron, SGDClassifier, SGDOneClassSVM, SGDRegressor
from sklearn.model_selection import GridSearchCV, RandomizedSearchCV
from sklearn.multioutput import RegressorChain
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import Pipeline
from sklearn.svm import OneClassSVM
from sklearn.utils.validation import has_fit_parameter

from coretree.learn.models import _BOOSTING_PACKAGES, inner_estimator, is_tree_based, sketch_for
from coretree.learn.prior_shift import PriorShift

FloatArray = npt.NDArray[np.float64]
Kind = Literal["sum", "mean1", "unweighted_prior_shift", "none"]

_STEPWISE = (SGDClassifier, SGDRegressor, SGDOneClassSVM, Perceptron, MLPClassifier, MLPRegressor)
_STEPWISE_PACKAGES = frozenset({"keras", "skorch", "scikeras"})
_BOOSTING_WITH_PENALTY = (HistGradientBoostingClassifier, HistGradientBoostingRegressor)
_ENSEMBLES = (VotingClassifier, VotingRegressor, StackingClassifier, StackingRegressor)
# They hand sample_weight on as it is, whatever their signature says; a pipeline inside would refuse the name.
_HANDS_ON = (GridSearchCV, RandomizedSearchCV, RegressorChain, TransformedTargetRegressor, *_ENSEMBLES)


@dataclass(frozen=True)
class Treatment:
    """How the weights of a coreset reach an estimator, and why so.

    Attributes
    ----------
    kind : {"sum", "mean1", "unweighted_prior_shift", "none"}
        ``sum``: weights add up to the rows represented; ``mean1``: the same divided by their mean;
        ``unweighted_prior_shift``: equal weights within a class, the class shares restored in the predictions
        (`PriorShift`); ``none``: the estimator takes no weights.
    reason : str
        One sentence for the report.
    """

    kind: Kind
    reason: str


def accepts_weights(estimator: Any) -> bool:
    """Whether weights passed to ``fit`` reach the model: through pipelines, searches and other meta-estimators.

    Examples
    --------
    >>> from sklearn.linear_model import Ridge
    >>> from sklearn.neighbors import KNeighborsClassifier
    >>> accepts_weights(Ridge()), accepts_weights(KNeighborsClassifier())
    (True, False)
    """
    inner = inner_estimator(estimator)
    if isinstance(estimator, Pipeline):
        return inner is not None and accepts_weights(inner)
    if isinstance(estimator, _HANDS_ON):
        return all(not isinstance(part, Pipeline) and accepts_weights(part) for part in _parts(estimator))
    if not hasattr(estimator, "fit") or not has_fit_parameter(estimator, "sample_weight"):
        return False
    # PriorShift turns weights into class shares, whatever it wraps
    return inner is None or isinstance(estimator, PriorShift) or is_tree_based(estimator) or accepts_weights(inner)


def treatment(estimator: Any) -> Treatment:
    """How `coretree.learn.fit.fit_weighted` passes weights to an estimator.

    Weights that sum to the rows represented keep the meaning that ``C``, ``alpha`` and ``l2_regularization`` have
    on the full data. Stochastic gradient methods step in proportion to a weight and need mean 1. Trees that
    classify do best on class-balanced rows with equal weights: weighted leaves of a few light rows of one class
    and no heavy row of the other claim certainty.

    Parameters
    ----------
    estimator : scikit-learn estimator
        Fitted or not; pipelines and meta-estimators are judged by what they wrap.

    Returns
    -------
    Treatment

    Examples
    --------
    >>> from sklearn.linear_model import LogisticRegression, SGDClassifier
    >>> treatment(LogisticRegression()).kind, treatment(SGDClassifier()).kind
    ('sum', 'mean1')
    """
    name = type(estimator).__name__
    if is_tree_based(estimator) and sketch_for(estimator) == "balanced":
        return Treatment("unweighted_prior_shift", f"{name} fits class-balanced rows; class shares are restored after")
    if not accepts_weights(estimator):
        return Treatment("none", f"{name}.fit does not pass sample_weight on to a model")
    package = type(estimator).__module__.partition(".")[0]
    if isinstance(estimator, _BOOSTING_WITH_PENALTY) or package in _BOOSTING_PACKAGES:
        return Treatment("sum", f"{name}: weights that sum to the rows keep its leaf penalty as on the full data")
    if is_tree_based(estimator):
        return Treatment("mean1", f"{name}: split gains do not depend on the scale of the weights")
    if _is_stepwise(estimator):
        return Treatment("mean1", f"{name}: weights scale each gradient step, so they are given with mean 1")
    if isinstance(estimator, (OneClassSVM, IsolationForest)):
        return Treatment("mean1", f"{name}: its predictions do not depend on the scale of the weights")
    if isinstance(estimator, _ENSEMBLES):
        return _of_members(estimator)
    inner = inner_estimator(estimator)
    if inner is not None and not isinstance(estimator, PriorShift):
        return treatment(inner)
    return Treatment("sum", f"{name}: weights that sum to the rows represented keep its penalty as on the full data")


def _parts(estimator: Any) -> list[Any]:
    """Estimators that another one fits: what it wraps, or the members of a vote or stack and its final estimator."""
    inner = inner_estimator(estimator)
    if inner is not None:
        return [inner]
    members = [member for _, member in getattr(estimator, "estimators", None) or []]
    return [part for part in (*members, getattr(estimator, "final_estimator", None)) if hasattr(part, "fit")]


def _is_stepwise(estimator: Any) -> bool:
    """Whether it, or any part of it, takes one gradient step a row or batch, in proportion to the weights."""
    if isinstance(estimator, (MLPClassifier, MLPRegressor)):
        return bool(estimator.solver != "lbfgs")  # which sees all rows at once, like any penalised loss
    packages = {kind.__module__.partition(".")[0] for kind in type(estimator).__mro__}  # of a user's subclass, too
    known = isinstance(estimator, _STEPWISE) or not packages.isdisjoint(_STEPWISE_PACKAGES)
    return known or (not isinstance(estimator, PriorShift) and any(map(_is_stepwise, _parts(estimator))))


def _of_members(estimator: Any) -> Treatment:
    """Treatment of a vote or stack without stepwise members, which share one array of weights."""
    name = type(estimator).__name__
    default_final = isinstance(estimator, StackingClassifier) and estimator.final_estimator is None
    if sketch_for(estimator) == "balanced" and (default_final or hasattr(estimator, "predict_proba")):
        return Treatment("unweighted_prior_shift", f"{name} of trees: class-balanced rows, class shares restored after")
    return Treatment("sum", f"{name}: weights that sum to the rows keep the penalties of its members")
