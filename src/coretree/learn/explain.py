"""In words, how the weights of a coreset reach an estimator: its sketch, its form of the weights, and what to mind."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from coretree.errors import ConfigError
from coretree.learn.models import inner_estimator, sketch_for
from coretree.learn.weights import Kind, treatment

_SKETCHES: Mapping[str, str] = MappingProxyType(
    {
        "robust": "the robust sketch (rows drawn by leverage and gradient, weights calibrated to exact totals)",
        "balanced": "the balanced sketch (rows of each class half by its share, half as many as of any other)",
        "uniform": "the uniform sketch (rows drawn with equal chances)",
    }
)
_FORMS: Mapping[Kind, str] = MappingProxyType(
    {
        "sum": "The weights sum to the rows represented: a row of weight 3 counts as three equal rows, and penalties "
        "keep the strength that they have on all rows",
        "mean1": "The weights are divided by their mean, so that they are 1 on average",
        "unweighted_prior_shift": "Rows of a class count alike in the fit, and PriorShift restores the real class "
        "shares in the predicted probabilities",
        "none": "It takes no weights: it is fitted on rows that stand for equally many, as the uniform sketch has "
        "them, a few drawn twice or never; on others coretree refuses, unless "
        "fit_weighted(..., unsupported='resample') may draw rows by weight",
    }
)
_BY_ROWS = "its bootstrap draws rows, by weight, so that it differs from a fit on repeated rows by chance"
_BY_STEPS = "repeated rows would take more steps, so that weights are no exact repeats"
_BY_FOLDS = "its folds are made of sample rows; of equal rows, repeats could fall into different folds"
_ROW_LEAVES = "min_samples_leaf counts the rows of the sample, whatever their weights"
_GAMMA = "gamma='scale' takes the variance of the sample's rows without their weights; a number avoids this"

# What each class does with weights besides honouring them; tests/learn/test_weights_table.py shows every one.
CAVEATS: Mapping[str, str] = MappingProxyType(
    {
        **dict.fromkeys(("BaggingClassifier", "BaggingRegressor", "AdaBoostRegressor"), _BY_ROWS),
        **dict.fromkeys(("RandomForestClassifier", "RandomForestRegressor"), _BY_ROWS),
        **dict.fromkeys(("SGDClassifier", "SGDRegressor", "SGDOneClassSVM", "Perceptron"), _BY_STEPS),
        **dict.fromkeys(("MLPClassifier", "MLPRegressor"), _BY_STEPS + "; solver='lbfgs' sees all rows at once"),
        **dict.fromkeys(("LogisticRegressionCV", "CalibratedClassifierCV"), _BY_FOLDS),
        **dict.fromkeys(("HistGradientBoostingClassifier", "HistGradientBoostingRegressor"), _ROW_LEAVES),
        **dict.fromkeys(("LGBMClassifier", "LGBMRegressor"), "min_child_samples and its histograms count sample rows"),
        **dict.fromkeys(("SVC", "SVR", "NuSVC", "NuSVR"), _GAMMA),
        "OneClassSVM": "its predictions are those of the full data, its decision values smaller by the mean weight; "
        + _GAMMA,
        "MiniBatchKMeans": "its batches are of sample rows, so that weights are no exact repeats",
        "RANSACRegressor": "it tries subsets of the sample's rows, drawn without their weights",
        "IsolationForest": "its trees draw rows by weight; where max_samples reaches the number of rows, weights tell "
        "it nothing",
    }
)


def explain(estimator: Any) -> str:
    """One paragraph on how an estimator is fitted on a coreset: which sketch, which form of the weights, and why.

    Parameters
    ----------
    estimator : scikit-learn estimator
        Fitted or not; pipelines and meta-estimators are judged by what they wrap.

    Raises
    ------
    ConfigError
        If it is a class, or nothing that can be fitted.

    Examples
    --------
    >>> from sklearn.neighbors import KNeighborsClassifier
    >>> print(explain(KNeighborsClassifier())[:93])
    KNeighborsClassifier is fitted on the uniform sketch (rows drawn with equal chances). It take
    """
    if isinstance(estimator, type):
        name = estimator.__name__
        raise ConfigError(f"explain: found the class {name}, and needs an estimator; type explain({name}()).")
    if not hasattr(estimator, "fit"):
        raise ConfigError(
            f"explain: {type(estimator).__name__} has no fit; pass a scikit-learn estimator, such as Ridge()."
        )
    form = treatment(estimator)
    sentences = [
        f"{type(estimator).__name__} is fitted on {_SKETCHES[sketch_for(estimator)]}",
        _FORMS[form.kind],
        f"Why: {form.reason}",
    ]
    sentences += [f"Mind that {name}: {CAVEATS[name]}" for name in _wrapped(estimator) if name in CAVEATS]
    return ". ".join(sentences) + "."


def _wrapped(estimator: Any) -> list[str]:
    """Names of the classes from the outside in."""
    names = [type(estimator).__name__]
    while (inner := inner_estimator(estimator)) is not None:
        names.append(type(inner).__name__)
        estimator = inner
    return names
