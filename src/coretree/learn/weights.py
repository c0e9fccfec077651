"""Who honours sample weights, and how: the form in which the weights of a coreset reach each estimator."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, ClassifierMixin, MetaEstimatorMixin, clone
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
from sklearn.utils import assert_all_finite, column_or_1d, get_tags
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, has_fit_parameter

from coretree.errors import ConfigError
from coretree.learn.masses import checked_weights, class_weights, root_class_weights, take_rows
from coretree.learn.models import _BOOSTING_PACKAGES, inner_estimator, is_tree_based, sketch_for

FloatArray = npt.NDArray[np.float64]
Kind = Literal["sum", "mean1", "unweighted_prior_shift", "none"]
ClassMass = Literal["rows", "root"]
Prior = Literal["data", "balanced"]

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


def _predicts_probabilities(self: Any) -> bool:
    return hasattr(getattr(self, "estimator_", self.estimator), "predict_proba")


class PriorShift(MetaEstimatorMixin, ClassifierMixin, BaseEstimator):  # type: ignore[misc, unused-ignore]
    """Classifier fitted on class-balanced rows whose probabilities are moved to the real class shares.

    The estimator sees every class with mass V_c and gives p_c. With n_c rows of the class in the data, ``p'_c`` is
    proportional to ``p_c (n_c / n) / (V_c / V)`` (Bayes' rule under a change of class shares; Saerens, Latinne &
    Decaestecker 2002). The ratios are learned in ``fit`` from the sample weights, or from exact class counts when
    they are given.

    Parameters
    ----------
    estimator : classifier with predict_proba
        Cloned and fitted.
    prior : {"data", "balanced"}, default="data"
        ``data``: probabilities for rows that come as the data do (accuracy, log loss). ``balanced``: for classes
        that come equally often (balanced accuracy, macro-averaged F1).
    class_mass : {"rows", "root"}, default="rows"
        V_c: the class's rows in the sample, which suits class quotas (see `coretree.learn.masses.class_weights`), or
        the root of the rows that they represent, which suits samples by residual scores.
    smoothing : float, default=1e-3
        Share of a uniform distribution mixed into p before the shift. A pure leaf of light rows says p = 1, and no
        factor can correct a zero; mixing keeps the order of the predictions of each class.

    Attributes
    ----------
    estimator_ : the fitted estimator
    classes_ : (K,) array of class labels
    ratios_ : (K,) float array
        Factor of each class's probability, before normalising.

    Examples
    --------
    >>> from sklearn.tree import DecisionTreeClassifier
    >>> X, y = np.zeros((4, 1)), np.array([0, 0, 1, 1])
    >>> model = PriorShift(DecisionTreeClassifier(), smoothing=0.0).fit(X, y, sample_weight=[9.0, 9.0, 1.0, 1.0])
    >>> model.predict_proba(X[:1])
    array([[0.9, 0.1]])
    """

    def __init__(
        self, estimator: Any, *, prior: str = "data", class_mass: str = "rows", smoothing: float = 1e-3
    ) -> None:
        self.estimator = estimator
        self.prior = prior
        self.class_mass = class_mass
        self.smoothing = smoothing

    def fit(self, X: Any, y: Any, sample_weight: Any = None, class_counts: Mapping[Any, float] | None = None) -> Self:
        """Fit the estimator with every class at its mass, and learn the ratios.

        Parameters
        ----------
        X : array-like (m, d)
        y : array-like (m,) of class labels
        sample_weight : array-like (m,), optional
            Weights that sum to the rows represented; rows of weight 0 count as absent.
        class_counts : mapping of label to rows, optional
            Exact class counts of the data. Default: the weights' sums.

        Raises
        ------
        ConfigError
            If ``prior`` or ``class_mass`` is unknown, or a class of ``y`` has no count.
        """
        if self.prior not in ("data", "balanced"):
            raise ConfigError(f"PriorShift: prior must be 'data' or 'balanced', found {self.prior!r}.")
        if self.class_mass not in ("rows", "root"):
            raise ConfigError(f"PriorShift: class_mass must be 'rows' or 'root', found {self.class_mass!r}.")
        labels = column_or_1d(y, warn=True)
        assert_all_finite(labels, input_name="y")
        check_classification_targets(labels)
        weights = checked_weights(sample_weight, labels.shape[0])
        kept = np.flatnonzero(weights > 0)
        if kept.size < weights.size:
            X, labels, weights = take_rows(X, kept), labels[kept], weights[kept]
        classes, codes = np.unique(labels, return_inverse=True)
        scale = root_class_weights if self.class_mass == "root" else class_weights
        inside = scale(codes, weights, classes.size)
        # A sample that is balanced by design needs no weights at all, so estimators without them will do.
        uneven = {} if np.allclose(inside, 1.0, rtol=1e-6, atol=0.0) else {"sample_weight": inside}
        wanted = codes if type(self.estimator).__module__.startswith("xgboost.") else labels  # it takes no others
        self.estimator_ = clone(self.estimator).fit(X, wanted, **uneven)
        self.classes_ = classes
        self.ratios_ = self._ratios(codes, weights, inside, class_counts)
        return self

    def _ratios(
        self,
        codes: npt.NDArray[np.intp],
        weights: FloatArray,
        inside: FloatArray,
        counts: Mapping[Any, float] | None,
    ) -> FloatArray:
        n_classes = self.classes_.size
        seen = np.bincount(codes, inside, minlength=n_classes) / inside.sum()
        if self.prior == "balanced":
            return 1.0 / (n_classes * seen)
        if counts is None:
            mass = np.bincount(codes, weights=weights, minlength=n_classes)
        else:
            missing = [label for label in self.classes_.tolist() if label not in counts]
            if missing:
                raise ConfigError(
                    f"class_counts has no entry for class {missing[0]!r}; found {sorted(map(str, counts))}."
                )
            mass = np.array([counts[label] for label in self.classes_.tolist()], dtype=np.float64)
        return (mass / mass.sum()) / seen

    @available_if(_predicts_probabilities)
    def predict_proba(self, X: Any) -> FloatArray:
        """Probabilities (n, K) under the chosen prior; rows sum to 1."""
        check_is_fitted(self)
        p: FloatArray = np.asarray(self.estimator_.predict_proba(X), dtype=np.float64)
        if np.allclose(self.ratios_, 1.0, rtol=1e-12, atol=0.0):  # the sample has the data's shares: nothing to undo
            return p
        shifted = ((1.0 - self.smoothing) * p + self.smoothing / p.shape[1]) * self.ratios_
        return shifted / shifted.sum(axis=1, keepdims=True)

    def predict(self, X: Any) -> npt.NDArray[Any]:
        """Most probable class of each row, (n,), under the chosen prior."""
        check_is_fitted(self)
        labels: npt.NDArray[Any] = self.classes_[np.argmax(self.predict_proba(X), axis=1)]
        return labels

    @property
    def n_features_in_(self) -> int:
        """Columns seen in ``fit``."""
        check_is_fitted(self)
        return int(self.estimator_.n_features_in_)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        inner = get_tags(self.estimator)
        tags.input_tags.sparse = inner.input_tags.sparse
        tags.input_tags.allow_nan = inner.input_tags.allow_nan
        tags.classifier_tags.multi_class = inner.classifier_tags is None or inner.classifier_tags.multi_class
        return tags
