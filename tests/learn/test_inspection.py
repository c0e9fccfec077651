"""Importances and partial dependence: weights as repeats, and what a plain permutation of weighted rows gets wrong."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.inspection import partial_dependence, permutation_importance
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.metrics import r2_score
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from coretree.errors import ConfigError
from coretree.learn.inspection import dependence, importances


def case(n: int = 400, seed: int = 0) -> tuple[pd.DataFrame, Any, Any]:
    """Rows whose weights go with a feature, as those of a coreset drawn by leverage do."""
    rng = np.random.default_rng(seed)
    X = pd.DataFrame(rng.normal(size=(n, 3)), columns=["a", "b", "c"])
    w = np.where(np.abs(X["a"]) > 1, 1, 12)
    return X, (2 * X["a"] + X["b"] + 0.3 * rng.normal(size=n)).to_numpy(), w


def repeated(X: pd.DataFrame, y: Any, w: Any) -> tuple[pd.DataFrame, Any]:
    rows = np.repeat(np.arange(len(y)), w)
    return X.iloc[rows].reset_index(drop=True), y[rows]


def test_weights_are_repeats_where_a_plain_permutation_is_far_off() -> None:
    X, y, w = case()
    model = LinearRegression().fit(X, y, sample_weight=w)
    full = permutation_importance(model, *repeated(X, y, w), n_repeats=30, random_state=0).importances_mean
    table, score = importances(model, X, y, w.astype(float), scoring="r2", n_repeats=30)
    ours = table.loc[["a", "b", "c"], "importance"].to_numpy()
    assert score == pytest.approx(r2_score(y, model.predict(X), sample_weight=w))
    np.testing.assert_allclose(ours, full, rtol=0.07, atol=5e-3)
    naive = permutation_importance(model, X, y, sample_weight=w, n_repeats=30, random_state=0).importances_mean
    assert naive[0] > 1.5 * full[0]  # negative control: rare rows give their values as often as frequent ones
    assert table.index.tolist() == ["a", "b", "c"]
    assert table.loc["c", "importance"] == pytest.approx(0, abs=5e-3)


def test_equal_weights_are_scikit_learns_permutation() -> None:
    X, y, _ = case()
    model = DecisionTreeRegressor(max_depth=5, random_state=0).fit(X, y)
    table, _ = importances(model, X, y, np.ones(400), scoring="r2", n_repeats=30)
    expected = permutation_importance(model, X, y, n_repeats=30, random_state=0)
    np.testing.assert_allclose(
        table.loc[["a", "b", "c"], "importance"], expected.importances_mean, rtol=0.05, atol=5e-3
    )


def test_rows_of_no_weight_and_the_index_do_not_matter() -> None:
    X, y, w = case(100)
    model = LinearRegression().fit(X, y)
    more = pd.concat([X, 100 + X]).set_axis(range(500, 700))
    found = importances(model, more, np.r_[y, -y], np.r_[w, 0 * w].astype(float), scoring="r2")
    expected = importances(model, X, y, w.astype(float), scoring="r2")
    pd.testing.assert_frame_equal(found[0], expected[0])
    assert importances(model, X, y, w.astype(float), scoring="r2", seed=1)[0].loc["a"].ne(expected[0].loc["a"]).any()


def test_a_function_scores_too_and_inputs_stay() -> None:
    X, y, w = case(100)
    before = X.copy()
    model = LogisticRegression().fit(X, y > 0)
    found, score = importances(model, X, y > 0, w.astype(float), scoring=lambda m, X, y, w: m.score(X, y, w))
    assert score == pytest.approx(model.score(X, y > 0, w))
    assert found.loc["a", "importance"] > 0.2
    pd.testing.assert_frame_equal(X, before)


@pytest.mark.parametrize("n_classes", [0, 2, 3])
def test_dependence_is_scikit_learns_on_repeated_rows(n_classes: int) -> None:
    X, y, w = case()
    if n_classes:
        y = np.digitize(y, [0.0] if n_classes == 2 else [-1.0, 1.0])
        model: Any = DecisionTreeClassifier(max_depth=5, random_state=0).fit(X, y)
    else:
        model = DecisionTreeRegressor(max_depth=5, random_state=0).fit(X, y)
    found = dependence(model, X, w.astype(float), "b", points=20)
    rows, _ = repeated(X, y, w)
    whole = partial_dependence(model, rows, ["b"], custom_values={"b": found.index.to_numpy()}, method="brute")
    np.testing.assert_allclose(found.to_numpy().T, whole["average"], atol=1e-12)
    assert found.columns.tolist() == ([0, 1, 2] if n_classes == 3 else ["average"])
    edges = np.quantile(rows["b"], [0.05, 0.95], method="inverted_cdf")
    np.testing.assert_allclose(found.index[[0, -1]], edges)
    plain = dependence(model, X, np.ones(400), "b", at=found.index)
    assert not np.allclose(plain, found, atol=1e-3)  # negative control


def test_categories_integers_and_few_values() -> None:
    X, y, w = case(200)
    X["k"] = np.arange(200) % 3
    model = LinearRegression().fit(X, y + X["k"])
    found = dependence(model, X, w.astype(float), "k")
    assert found.index.tolist() == [0, 1, 2]
    assert np.diff(found["average"]) == pytest.approx([model.coef_[3]] * 2)
    assert dependence(model, X, w.astype(float), "k", at=[0.5]).loc[0.5, "average"] == pytest.approx(
        found["average"][:2].mean()
    )
    with pytest.raises(ConfigError, match="no column 'z'"):
        dependence(model, X, w.astype(float), "z")
    times = X.assign(t=pd.date_range("2020-01-01", periods=200))
    with pytest.raises(ConfigError, match="'t' is a time"):
        dependence(model, times, w.astype(float), "t")
