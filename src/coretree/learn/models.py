"""Names for the usual estimators, and which sketch of a node feeds which estimator."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection, Mapping
from types import MappingProxyType
from typing import Any, Literal

from sklearn.base import is_classifier, is_clusterer, is_outlier_detector
from sklearn.ensemble import (
    AdaBoostClassifier,
    AdaBoostRegressor,
    BaggingClassifier,
    BaggingRegressor,
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.linear_model import (
    GammaRegressor,
    LinearRegression,
    LogisticRegression,
    PoissonRegressor,
    Ridge,
    SGDClassifier,
    TweedieRegressor,
)
from sklearn.pipeline import Pipeline
from sklearn.svm import SVC, LinearSVC
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor
from sklearn.utils.validation import has_fit_parameter

from coretree.errors import ConfigError

Task = Literal["classification", "regression"]
USUAL_SKETCHES = ("robust", "balanced", "uniform")

ALIASES: Mapping[str, str] = MappingProxyType(
    {"lr": "logistic", "dt": "tree", "rf": "forest", "hgb": "hist_gradient_boosting"}
)

# The solvers are deterministic: lbfgs and the primal trust-region Newton of LinearSVC draw no random number. The
# primal form also converges for the large weights of a coreset, where dual coordinate descent crawls.
_CLASSIFIERS: Mapping[str, Callable[[int], Any]] = MappingProxyType(
    {
        "logistic": lambda seed: LogisticRegression(C=1.0, tol=1e-6, max_iter=2000, random_state=seed),
        "tree": lambda seed: DecisionTreeClassifier(min_samples_leaf=20, random_state=seed),
        "forest": lambda seed: RandomForestClassifier(n_estimators=60, min_samples_leaf=5, random_state=seed),
        "svm": lambda seed: LinearSVC(C=1.0, dual=False, tol=1e-5, max_iter=5000, random_state=seed),
        # l2_regularization: with a tiny class among several, the unregularised leaves diverge even on full data.
        "hist_gradient_boosting": lambda seed: HistGradientBoostingClassifier(
            l2_regularization=1.0, early_stopping=False, random_state=seed
        ),
    }
)
_REGRESSORS: Mapping[str, Callable[[int], Any]] = MappingProxyType(
    {
        "ridge": lambda seed: Ridge(alpha=1.0, random_state=seed),
        "linear": lambda _seed: LinearRegression(),
        "tree": lambda seed: DecisionTreeRegressor(min_samples_leaf=20, random_state=seed),
        "forest": lambda seed: RandomForestRegressor(n_estimators=60, min_samples_leaf=5, random_state=seed),
        "hist_gradient_boosting": lambda seed: HistGradientBoostingRegressor(
            l2_regularization=1.0, early_stopping=False, random_state=seed
        ),
    }
)

_TREE_CLASSIFIERS = (
    DecisionTreeClassifier,
    RandomForestClassifier,
    ExtraTreesClassifier,
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
)
_TREE_REGRESSORS = (
    DecisionTreeRegressor,
    RandomForestRegressor,
    ExtraTreesRegressor,
    GradientBoostingRegressor,
    HistGradientBoostingRegressor,
)
# Ensembles that build trees unless they are given something else.
_TREES_BY_DEFAULT = (AdaBoostClassifier, AdaBoostRegressor, BaggingClassifier, BaggingRegressor)
_BOOSTING_PACKAGES = frozenset({"lightgbm", "xgboost", "catboost"})


def model_names(task: Task) -> tuple[str, ...]:
    """Names that `named_estimator` knows for a task, in the order in which they are tried.

    Examples
    --------
    >>> model_names("regression")
    ('ridge', 'linear', 'tree', 'forest', 'hist_gradient_boosting')
    """
    return tuple(_CLASSIFIERS if task == "classification" else _REGRESSORS)


def named_estimator(name: str, task: Task, *, seed: int) -> Any:
    """Unfitted scikit-learn estimator for a short name.

    Parameters
    ----------
    name : str
        A name of `model_names`, or an alias: ``lr`` (logistic, or linear for regression), ``dt``, ``rf``, ``hgb``.
    task : {"classification", "regression"}
        What the target is.
    seed : int
        ``random_state`` of the estimator, where it has one.

    Returns
    -------
    estimator
        A fresh estimator whose fit is deterministic given the rows and the seed.

    Raises
    ------
    ConfigError
        If the task has no model of that name.

    Examples
    --------
    >>> named_estimator("ridge", "regression", seed=0)
    Ridge(random_state=0)
    >>> named_estimator("dt", "classification", seed=3).random_state
    3
    """
    builders = _CLASSIFIERS if task == "classification" else _REGRESSORS
    full = ALIASES.get(name, name)
    if task == "regression" and name == "lr":
        full = "linear"
    if full in builders:
        return builders[full](seed)
    near = difflib.get_close_matches(name, [*builders, *ALIASES], n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise ConfigError(f"No {task} model is named {name!r}.{hint} Choose from {', '.join(builders)}.")


def inner_estimator(estimator: Any) -> Any | None:
    """Estimator that a pipeline or meta-estimator wraps: one layer off, or None if it wraps nothing.

    A pipeline gives its last step; a meta-estimator its ``estimator`` (or ``regressor``) parameter.
    """
    if isinstance(estimator, Pipeline):
        return estimator.steps[-1][1]
    if not hasattr(estimator, "get_params"):
        return None
    parameters = estimator.get_params(deep=False)
    inner = parameters.get("estimator", parameters.get("regressor"))
    return inner if hasattr(inner, "fit") else None


def is_tree_based(estimator: Any) -> bool:
    """Whether the estimator itself (not what it wraps) grows decision trees: a tree, a forest, boosting.

    Examples
    --------
    >>> is_tree_based(RandomForestClassifier()), is_tree_based(Ridge())
    (True, False)
    """
    if isinstance(estimator, _TREE_CLASSIFIERS + _TREE_REGRESSORS):
        return True
    if isinstance(estimator, _TREES_BY_DEFAULT):
        return estimator.estimator is None or is_tree_based(estimator.estimator)
    return type(estimator).__module__.partition(".")[0] in _BOOSTING_PACKAGES


def sketch_for(estimator: Any, available: Collection[str] = USUAL_SKETCHES) -> str:
    """Which sketch of a node should feed an estimator.

    A node keeps several samples of the same rows side by side, since no single one serves all models:

    - ``robust``: leverage and gradient scores with calibrated weights, for linear models, SVMs and GLMs; a sketch of
      the model's own loss (``squared_hinge``, ``poisson``, ...) goes before it where there is one;
    - ``residual``, else ``balanced``: for classification trees, forests and boosting;
    - ``residual``, else ``pooled`` (uniform and robust rows together), else ``uniform``: for regression trees;
    - ``uniform``: equal weights, for clustering, anomaly detection, and whatever takes no weights.

    Pipelines are judged by their last step, meta-estimators by what they wrap, votes and stacks by their members
    (``robust`` when those disagree). An estimator nobody knows gets ``robust`` if it takes ``sample_weight``.

    Parameters
    ----------
    estimator : scikit-learn estimator
        Fitted or not.
    available : collection of str
        Names of the sketches that there are.

    Returns
    -------
    str
        The first of those that suit; where none is available, the first available one.

    Examples
    --------
    >>> sketch_for(LogisticRegression()), sketch_for(RandomForestClassifier()), sketch_for(RandomForestRegressor())
    ('robust', 'balanced', 'uniform')
    >>> sketch_for(LinearSVC(), ["robust", "squared_hinge"])
    'squared_hinge'
    """
    suitable = [*_suitable(estimator), *available]
    return next(name for name in suitable if name in available)


def _suitable(estimator: Any) -> tuple[str, ...]:
    """Sketches that suit an estimator, best first."""
    if is_tree_based(estimator):
        return ("residual", "balanced") if is_classifier(estimator) else ("residual", "pooled", "uniform")
    members = getattr(estimator, "estimators", None)
    if isinstance(members, list) and members:
        wanted = {_suitable(member) for _, member in members if hasattr(member, "fit")}
        return wanted.pop() if len(wanted) == 1 else ("robust",)
    inner = inner_estimator(estimator)
    if inner is not None:
        return _suitable(inner)
    if is_clusterer(estimator) or is_outlier_detector(estimator):
        return ("uniform",)
    if not (hasattr(estimator, "fit") and has_fit_parameter(estimator, "sample_weight")):
        return ("uniform",)
    loss = loss_objective(estimator)
    return ("robust",) if loss is None else (loss, "robust")


def loss_objective(estimator: Any) -> str | None:
    """Objective named after the loss of a linear model; None where "robust" stands for it.

    Examples
    --------
    >>> loss_objective(PoissonRegressor()), loss_objective(LogisticRegression())
    ('poisson', None)
    """
    inner = inner_estimator(estimator)
    if inner is not None:
        return loss_objective(inner)
    if isinstance(estimator, (LinearSVC, SGDClassifier)):
        return str(estimator.loss) if "hinge" in str(estimator.loss) else None
    if isinstance(estimator, SVC):
        return "hinge"
    if isinstance(estimator, PoissonRegressor):
        return "poisson"
    if isinstance(estimator, GammaRegressor):
        return "gamma"
    if isinstance(estimator, TweedieRegressor):
        between = f"tweedie:{estimator.power:g}" if 1 < estimator.power < 2 else None
        return {1: "poisson", 2: "gamma"}.get(estimator.power, between)
    return None
