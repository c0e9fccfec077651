"""What a fitted model goes by: importances, partial dependence, coefficients in the data's units, Shapley values."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import is_classifier

from coretree.data.to_sklearn import scaling
from coretree.errors import ConfigError
from coretree.learn.inspection import Scoring, dependence, importances
from coretree.learn.shapley import ShapleyValues, shapley_values
from coretree.learn.units import in_original_units
from coretree.run.fitted import FittedModel
from coretree.run.weighted_rows import plain, weighted_rows


def permutation_importance(
    model: Any,
    data: Any = None,
    *,
    scoring: Scoring | None = None,
    n_repeats: int = 5,
    seed: int = 0,
) -> pd.DataFrame:
    """By how much a model's score falls when one column's values come from other rows.

    Parameters
    ----------
    model : fitted model
        Of coretree, or a scikit-learn estimator with a DataFrame for X.
    data : Coreset, CoresetTree, tuple or None
        Weighted rows: ``(X, y)`` or ``(X, y, sample_weight)`` in memory, best of all held-out ones; a tree gives its
        uniform sketch. None: the coreset that the model was fitted on, which shows what the model uses rather than
        what helps on new rows.
    scoring : str or callable, optional
        "roc_auc", "neg_log_loss", "accuracy", "r2" and so on, or ``f(model, X, y, weights)``, greater is better.
        Default: "roc_auc", or "r2" for quantities.
    n_repeats : int
        Each costs one prediction of the rows for every column.
    seed : int

    Returns
    -------
    DataFrame
        One row a column of the data, the most important first: "importance" and "std" over the repeats. The score
        of the rows as they are is in ``attrs["score"]``.

    Notes
    -----
    Columns that carry the same information share their importance, or hide one another's.

    Examples
    --------
    >>> import coretree as ct
    >>> rng = np.random.default_rng(0)
    >>> X = pd.DataFrame(rng.normal(size=(2000, 2)), columns=["a", "b"])
    >>> model = ct.CoresetRegressor(size=300).fit(X, 3 * X["a"])
    >>> permutation_importance(model).index.tolist()
    ['a', 'b']
    """
    if n_repeats < 1:
        raise ConfigError(f"n_repeats={n_repeats} must be at least 1.")
    rows = weighted_rows(model, data)
    assert rows.y is not None
    estimator = plain(model)
    scoring = scoring or ("roc_auc" if is_classifier(estimator) else "r2")
    X = _frame(rows.X)
    table, score = importances(estimator, X, rows.y, rows.weights, scoring=scoring, n_repeats=n_repeats, seed=seed)
    table.attrs["score"] = score
    return table


def partial_dependence(
    model: Any, feature: str, data: Any = None, *, points: int = 50, at: Sequence[Any] | None = None
) -> pd.DataFrame:
    """Mean prediction over all rows, as one column is set to one value after another.

    Parameters
    ----------
    model : fitted model
        As in ``permutation_importance``.
    feature : str
        A column of numbers or categories.
    data : Coreset, CoresetTree, DataFrame, tuple or None
        Weighted rows, a target is not needed; see ``permutation_importance``.
    points : int
        Values of a number, from its 5 % to its 95 % quantile; all of them where they are fewer.
    at : sequence, optional
        The values to look at, in place of these.

    Returns
    -------
    DataFrame
        Indexed by the values; column "average", or one column a class where there are more than two. Of two classes
        it is the second one's probability (or decision value); of quantities the prediction.
    """
    rows = weighted_rows(model, data, target=False)
    return dependence(plain(model), _frame(rows.X), rows.weights, feature, points=points, at=at)


def coefficients(model: Any) -> pd.DataFrame:
    """Coefficients of a linear model per unit of the data's own columns, whatever scaling stood in between.

    Parameters
    ----------
    model : CoresetClassifier or CoresetRegressor
        Fitted or loaded, with a linear model inside (or a pipeline of scalers and one).

    Returns
    -------
    DataFrame
        Indexed by "(intercept)" and the features as the preparation names them, such as ``kind_red`` for a category;
        "coefficient", or one column a class. Filled-in columns (after clipping, where there is any) times these, plus
        the intercept, are the decision values, the predictions, or the linear predictor of models with a link.

    Raises
    ------
    ConfigError
        No linear model, or one behind a step that cannot be undone column by column.

    Examples
    --------
    >>> import coretree as ct
    >>> rng = np.random.default_rng(0)
    >>> X = pd.DataFrame(rng.normal(50, 20, size=(2000, 2)), columns=["a", "b"])
    >>> from sklearn.linear_model import LinearRegression
    >>> model = ct.CoresetRegressor(LinearRegression(), size=300).fit(X, 3 * X["a"] - X["b"] + 7)
    >>> coefficients(model).round(3)["coefficient"].to_dict()
    {'(intercept)': 7.0, 'a': 3.0, 'b': -1.0}
    """
    if not isinstance(model, FittedModel):
        raise ConfigError(f"coefficients: needs a fitted model of coretree, found {type(model).__name__}.")
    names, centre, spread = scaling(model.estimator_[0])
    return in_original_units(model.estimator_[-1], names, centre, spread)


def shap_values(
    model: Any,
    rows: Any,
    data: Any = None,
    *,
    label: Any = None,
    n_background: int = 100,
    n_samples: int | str = "auto",
    seed: int = 0,
) -> ShapleyValues:
    """What each column adds to each prediction, by the package shap, against a coreset as weighted background.

    Parameters
    ----------
    model : fitted model
        As in ``permutation_importance``.
    rows : DataFrame
        A few rows to explain.
    data : Coreset, CoresetTree, DataFrame, tuple or None
        The background that absent columns are drawn from, a target is not needed; None: the model's coreset.
    label : optional
        The class whose probability (or decision value) is explained; the last one by default.
    n_background : int
        A larger background is drawn down to so many rows, in proportion to weight.
    n_samples : int or "auto"
        Column subsets tried a row.
    seed : int

    Returns
    -------
    ShapleyValues
        With ``values``, one row a row and one column a column, and ``expected``: each row's sum and ``expected`` make
        its prediction.

    Raises
    ------
    ConfigError
        shap is not installed (``pip install "coretree[explain]"``), or the label is unknown.
    """
    estimator = plain(model)
    background = weighted_rows(model, data, target=False)
    explained = _frame(model._rows(rows) if isinstance(model, FittedModel) else rows)
    return shapley_values(
        _one_number(estimator, label),
        explained,
        _frame(background.X),
        background.weights,
        n_background=n_background,
        n_samples=n_samples,
        seed=seed,
    )


def _one_number(estimator: Any, label: Any) -> Callable[[pd.DataFrame], Any]:
    """From rows to what is explained."""
    if not is_classifier(estimator):
        return lambda rows: estimator.predict(rows)
    labels = np.asarray(estimator.classes_).tolist()
    label = labels[-1] if label is None else label
    if label not in labels:
        raise ConfigError(f"label={label!r} is no class of the model; its classes are {labels}.")
    k = labels.index(label)
    if hasattr(estimator, "predict_proba"):
        return lambda rows: estimator.predict_proba(rows)[:, k]

    def decision(rows: pd.DataFrame) -> Any:
        values = np.asarray(estimator.decision_function(rows))
        return values[:, k] if values.ndim == 2 else values * (1 if k else -1)

    return decision


def _frame(X: Any) -> pd.DataFrame:
    if not isinstance(X, pd.DataFrame):
        raise ConfigError(f"X must be a DataFrame, whose columns have names; found {type(X).__name__}.")
    return X
