"""Coefficients in original units: the model's own answers, recomputed from raw columns."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.ensemble import RandomForestRegressor
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MaxAbsScaler, MinMaxScaler, PolynomialFeatures, RobustScaler, StandardScaler

from coretree.errors import ConfigError
from coretree.learn.units import in_original_units

RNG = np.random.default_rng(0)
X = RNG.normal(50, [1, 20, 300], (200, 3))
Y = X @ [3, -1, 0.1] + RNG.normal(size=200)
NAMES = ["a", "b", "c"]


def applied(table: Any, column: Any = "coefficient") -> Any:
    return table[column].iloc[0] + X @ table[column].iloc[1:].to_numpy()


@pytest.mark.parametrize(
    "scalers",
    [
        [StandardScaler()],
        [MinMaxScaler((-1, 3))],
        [RobustScaler()],
        [MaxAbsScaler()],
        [StandardScaler(with_mean=False)],
        [RobustScaler(with_scaling=False)],
        [MinMaxScaler(), "passthrough", StandardScaler()],
    ],
    ids=str,
)
def test_every_scaler_is_undone(scalers: list[Any]) -> None:
    centre, spread = X.mean(axis=0), X.std(axis=0)
    model = make_pipeline(*scalers, Ridge(5.0)).fit((X - centre) / spread, Y)
    table = in_original_units(model, NAMES, centre, spread)
    np.testing.assert_allclose(applied(table), model.predict((X - centre) / spread), rtol=1e-9)
    wrong = in_original_units(model, NAMES, np.zeros(3), np.ones(3))
    assert np.abs(applied(wrong) - applied(table)).max() > 1  # negative control


def test_one_column_a_class() -> None:
    y = np.digitize(Y, np.quantile(Y, [0.3, 0.6]))
    Z = (X - 50) / 100
    model = LogisticRegression(max_iter=500).fit(Z, np.array(["x", "y", "z"])[y])
    table = in_original_units(model, NAMES, np.full(3, 50.0), np.full(3, 100.0))
    assert table.columns.tolist() == ["x", "y", "z"]
    for k, label in enumerate("xyz"):
        np.testing.assert_allclose(applied(table, label), model.decision_function(Z)[:, k], rtol=1e-9)


def test_what_has_no_coefficients() -> None:
    with pytest.raises(ConfigError, match="RandomForestRegressor has none a feature"):
        in_original_units(RandomForestRegressor(2).fit(X, Y), NAMES, np.zeros(3), np.ones(3))
    with pytest.raises(ConfigError, match="PolynomialFeatures stands before"):
        in_original_units(make_pipeline(PolynomialFeatures(1), Ridge()).fit(X, Y), NAMES, np.zeros(3), np.ones(3))
