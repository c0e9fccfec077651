"""Shapley values with a weighted background: exact for linear models, weights as repeats, sums that add up."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pandas as pd
import pytest

from coretree.errors import ConfigError
from coretree.learn.shapley import Codebook, drawn_down, shapley_values

SLOPES = np.array([2.0, -1.0, 0.5])


def case(n: int = 40) -> tuple[pd.DataFrame, Any]:
    rng = np.random.default_rng(0)
    X = pd.DataFrame(rng.normal(size=(n, 3)), columns=["a", "b", "c"])
    return X, np.where(X["a"] > 0, 1, 6)


def linear(rows: pd.DataFrame) -> Any:
    return rows.to_numpy() @ SLOPES + 3


def curved(rows: pd.DataFrame) -> Any:
    return (rows["a"] * rows["b"] + (rows["c"] > 0)).to_numpy()


def test_a_linear_model_has_them_in_closed_form() -> None:
    pytest.importorskip("shap")
    X, w = case()
    found = shapley_values(linear, X[:5], X, w.astype(float))
    centre = np.average(X, axis=0, weights=w)
    np.testing.assert_allclose(found.values, (X[:5] - centre) * SLOPES, atol=1e-6)
    assert found.expected == pytest.approx(linear(pd.DataFrame([centre]))[0])
    plain = shapley_values(linear, X[:5], X, np.ones(40))
    assert np.abs(found.values - plain.values).max().max() > 0.3  # negative control


def test_weights_are_repeats_and_sums_are_predictions() -> None:
    pytest.importorskip("shap")
    X, w = case()
    found = shapley_values(curved, X[:4], X, w.astype(float), n_background=1000)
    rows = X.iloc[np.repeat(np.arange(40), w)].reset_index(drop=True)
    repeated = shapley_values(curved, X[:4], rows, np.ones(len(rows)), n_background=1000)
    np.testing.assert_allclose(found.values, repeated.values, atol=1e-6)
    np.testing.assert_allclose(found.values.sum(axis=1) + found.expected, curved(X[:4]), atol=1e-9)


def test_a_large_background_is_drawn_down_in_proportion() -> None:
    pytest.importorskip("shap")
    X, w = case(2000)
    found = shapley_values(linear, X[:2], X, w.astype(float), n_background=300)
    assert found.n_background <= 300
    assert found.expected == pytest.approx(np.average(linear(X), weights=w), abs=0.5)  # 4 standard errors
    means = [linear(X.iloc[drawn_down(w.astype(float), 300, seed)]).mean() for seed in range(20)]
    assert np.mean(means) == pytest.approx(np.average(linear(X), weights=w), abs=0.12)
    assert abs(linear(X).mean() - np.average(linear(X), weights=w)) > 0.8  # negative control


def test_columns_go_to_numbers_and_back() -> None:
    frame = pd.DataFrame(
        {
            "a": [1.5, np.nan, 2.0],
            "k": pd.Series(["x", None, "y"], dtype="str"),
            "t": pd.to_datetime(["2020-01-01", None, "2021-01-01"]),
            "i": [1, 2, 3],
            "none": pd.Series([None, None, None], dtype="str"),
        }
    )
    code = Codebook(frame)
    pd.testing.assert_frame_equal(code.frame(code.numbers(frame)), frame)


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "shap", None)
    X, w = case()
    with pytest.raises(ConfigError, match=r'pip install "coretree\[explain\]"'):
        shapley_values(linear, X[:1], X, w.astype(float))
