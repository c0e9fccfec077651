"""Coefficients of a linear model in the units of the data: scaling is undone, whatever scaled."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import MaxAbsScaler, MinMaxScaler, RobustScaler, StandardScaler

from coretree.errors import ConfigError

FloatArray = npt.NDArray[np.float64]
INTERCEPT = "(intercept)"


def centre_and_spread(scaler: Any, n_features: int) -> tuple[FloatArray, FloatArray]:
    """``z = (x - centre) / spread``, as a fitted scaler of scikit-learn computes it.

    Raises
    ------
    ConfigError
        It does something else.

    Examples
    --------
    >>> centre_and_spread(MinMaxScaler().fit([[1.0], [5.0]]), 1)
    (array([1.]), array([4.]))
    """
    zero, one = np.zeros(n_features), np.ones(n_features)
    if isinstance(scaler, StandardScaler):
        centre = scaler.mean_ if scaler.with_mean else zero
        return centre, scaler.scale_ if scaler.with_std else one
    if isinstance(scaler, RobustScaler):
        return scaler.center_ if scaler.with_centering else zero, scaler.scale_ if scaler.with_scaling else one
    if isinstance(scaler, MinMaxScaler) and not scaler.clip:
        return -scaler.min_ / scaler.scale_, 1 / scaler.scale_
    if isinstance(scaler, MaxAbsScaler):
        return zero, scaler.scale_
    raise ConfigError(
        f"coefficients: {type(scaler).__name__} stands before the linear model, and cannot be undone column by column."
    )


def in_original_units(estimator: Any, names: Sequence[str], centre: FloatArray, spread: FloatArray) -> pd.DataFrame:
    """Intercept and slopes per unit of each feature before ``z = (x - centre) / spread``.

    Parameters
    ----------
    estimator : fitted linear model
        With ``coef_`` and ``intercept_``, or a Pipeline of scalers and such a model.
    names : sequence of d
        Features.
    centre, spread : (d,) arrays
        How the features that the estimator sees were scaled.

    Returns
    -------
    DataFrame
        Indexed by "(intercept)" and the features; "coefficient", or for several classes or targets one column each.

    Raises
    ------
    ConfigError
        No linear model.
    """
    centre, spread, d = centre.copy(), spread.copy(), len(names)
    while isinstance(estimator, Pipeline):
        for _, step in estimator.steps[:-1]:
            if step is None or step == "passthrough":
                continue
            c, s = centre_and_spread(step, d)
            centre, spread = centre + spread * c, spread * s
        estimator = estimator.steps[-1][1]
    coef = getattr(estimator, "coef_", None)
    if coef is None or not hasattr(estimator, "intercept_") or np.asarray(coef).shape[-1] != d:
        raise ConfigError(
            f"coefficients: {type(estimator).__name__} has none a feature; linear models do, such as "
            "LogisticRegression, LinearSVC, Ridge, Lasso, PoissonRegressor. Try ct.permutation_importance."
        )
    slopes = np.atleast_2d(np.asarray(coef, dtype=np.float64)) / spread
    intercept = np.broadcast_to(np.asarray(estimator.intercept_, dtype=np.float64), len(slopes)) - slopes @ centre
    labels: Any = np.asarray(getattr(estimator, "classes_", range(len(slopes)))).tolist()
    columns = ["coefficient"] if len(slopes) == 1 else labels
    index = pd.Index([INTERCEPT, *names], name="feature")
    return pd.DataFrame(np.column_stack([intercept, slopes]).T, index=index, columns=columns)
