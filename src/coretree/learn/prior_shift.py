"""A classifier fitted on rows whose class shares differ from the data's, and its probabilities taken back to them."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt
from scipy.special import logit
from sklearn.base import BaseEstimator, ClassifierMixin, MetaEstimatorMixin, clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold
from sklearn.utils import assert_all_finite, column_or_1d, get_tags
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted

from coretree.errors import ConfigError
from coretree.learn.masses import checked_weights, class_weights, root_class_weights, take_rows

FloatArray = npt.NDArray[np.float64]
ClassMass = Literal["rows", "root"]
Prior = Literal["data", "balanced"]
LEAST_TO_CROSS_FIT = 30  # rows of each class: fewer say too little of a slope


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
    cross_fit : int, default=0
        Folds that tell how sharp the probabilities should be, for two classes: a model of few rows of a large data
        set is held back by its own regularisation, and says too little. Each fold is predicted by a fit on the
        others, and a weighted logistic regression of the labels on these log odds gives a slope and an intercept
        (Platt 1999), where each class has at least 30 rows and weights differ. 0: none. Costs as many more fits.

    Attributes
    ----------
    estimator_ : the fitted estimator
    classes_ : (K,) array of class labels
    sharpness_ : float
        Power of each class's probability: the slope found by cross-fitting; 1 without.
    ratios_ : (K,) float array
        Factor of each class's probability after the power, before normalising.

    Examples
    --------
    >>> from sklearn.tree import DecisionTreeClassifier
    >>> X, y = np.zeros((4, 1)), np.array([0, 0, 1, 1])
    >>> model = PriorShift(DecisionTreeClassifier(), smoothing=0.0).fit(X, y, sample_weight=[9.0, 9.0, 1.0, 1.0])
    >>> model.predict_proba(X[:1])
    array([[0.9, 0.1]])
    """

    def __init__(
        self,
        estimator: Any,
        *,
        prior: str = "data",
        class_mass: str = "rows",
        smoothing: float = 1e-3,
        cross_fit: int = 0,
    ) -> None:
        self.estimator = estimator
        self.prior = prior
        self.class_mass = class_mass
        self.smoothing = smoothing
        self.cross_fit = cross_fit

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
        self.classes_ = classes
        held = np.bincount(codes, weights, minlength=classes.size)
        mass = held if class_counts is None else _counted(classes, class_counts)
        shares = mass / mass.sum()
        ratios = shares * inside.sum() / np.bincount(codes, inside, minlength=classes.size)
        self.sharpness_ = 1.0
        self.estimator_ = clone(self.estimator).fit(X, wanted, **uneven)
        probable = hasattr(self.estimator_, "predict_proba")
        if self.cross_fit > 1 and uneven and probable and _enough(codes, self.cross_fit):
            p = self._unseen(X, wanted, codes, inside)
            self.sharpness_, ratios = _sharpened(self._moved(p, ratios), codes, weights * (mass / held)[codes], ratios)
        self.ratios_ = ratios if self.prior == "data" else ratios / (classes.size * shares)
        return self

    def _unseen(self, X: Any, y: npt.NDArray[Any], codes: npt.NDArray[np.intp], weights: FloatArray) -> FloatArray:
        """Probabilities of each row by a fit on the folds that it is not in."""
        p = np.empty((codes.size, 2))
        for train, test in StratifiedKFold(self.cross_fit, shuffle=True, random_state=0).split(codes, codes):
            model = clone(self.estimator).fit(take_rows(X, train), y[train], sample_weight=weights[train])
            p[test] = model.predict_proba(take_rows(X, test))
        return p

    def _moved(self, p: FloatArray, ratios: FloatArray) -> FloatArray:
        """Smooth, sharpen, weigh by the ratios, and make rows sum to 1."""
        shifted: FloatArray = ((1.0 - self.smoothing) * p + self.smoothing / p.shape[1]) ** self.sharpness_ * ratios
        return shifted / shifted.sum(axis=1, keepdims=True)

    @available_if(_predicts_probabilities)
    def predict_proba(self, X: Any) -> FloatArray:
        """Probabilities (n, K) under the chosen prior; rows sum to 1."""
        check_is_fitted(self)
        p: FloatArray = np.asarray(self.estimator_.predict_proba(X), dtype=np.float64)
        return self._moved(p, self.ratios_) if self.shifts else p

    def predict(self, X: Any) -> npt.NDArray[Any]:
        """Most probable class of each row, (n,), under the chosen prior."""
        check_is_fitted(self)
        labels: npt.NDArray[Any] = self.classes_[np.argmax(self.predict_proba(X), axis=1)]
        return labels

    @property
    def shifts(self) -> bool:
        """Whether probabilities change at all: not where the sample has the data's shares and nothing was sharpened."""
        return self.sharpness_ != 1.0 or not np.allclose(self.ratios_, 1.0, rtol=1e-12, atol=0.0)

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


def _counted(classes: npt.NDArray[Any], counts: Mapping[Any, float]) -> FloatArray:
    """Rows of each class in the data, as counted."""
    missing = [label for label in classes.tolist() if not counts.get(label, 0) > 0]
    if missing:
        raise ConfigError(f"class_counts has no rows of class {missing[0]!r}; found {sorted(map(str, counts))}.")
    return np.array([counts[label] for label in classes.tolist()], dtype=np.float64)


def _enough(codes: npt.NDArray[np.intp], folds: int) -> bool:
    """Whether there are two classes, of enough rows each to tell a slope."""
    rows = np.bincount(codes)
    return len(rows) == 2 and bool(rows.min() >= max(LEAST_TO_CROSS_FIT, folds))


def _sharpened(
    p: FloatArray, codes: npt.NDArray[np.intp], weights: FloatArray, ratios: FloatArray
) -> tuple[float, FloatArray]:
    """Slope and ratios under which the log odds of unseen rows fit their labels; unchanged if they say the opposite."""
    odds = logit(np.clip(p[:, 1:], 1e-12, 1.0 - 1e-12))
    regression = LogisticRegression(C=1e3, solver="newton-cholesky", tol=1e-8)  # lbfgs stops early at rare classes
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # of classes that are told apart: steep enough
        found = regression.fit(odds, codes, sample_weight=weights / weights.mean())
    slope, intercept = float(found.coef_[0, 0]), float(found.intercept_[0])
    if slope <= 0.0:
        return 1.0, ratios
    log_ratios = slope * np.log(ratios) + np.array([0.0, intercept])
    return slope, np.exp(log_ratios - log_ratios.max())
