"""Importances, dependence, coefficients and Shapley values of models of ours: raw columns, weighted rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.ensemble import RandomForestClassifier
from sklearn.inspection import permutation_importance as sklearn_importance
from sklearn.linear_model import LogisticRegression, PoissonRegressor, Ridge
from sklearn.metrics import roc_auc_score
from sklearn.svm import LinearSVC

import coretree as ct
from coretree.errors import ConfigError
from generated import opened, sales, write_files

TWO = ct.ThreadExecutor(2)


class World:
    def __init__(self, folder: Path) -> None:
        self.frame = sales(3000)
        self.frame["when"] = pd.date_range("2013-01-01", periods=3000, freq="37min")
        self.data = opened(write_files(folder / "d", self.frame, files=2))
        self.tree = ct.CoresetTree(folder / "t", size=900, prepare={"indicator": True}).build(self.data, client=TWO)
        self.model = ct.CoresetClassifier(LogisticRegression(), tree=self.tree).fit()
        self.names = self.model.feature_names_in_.tolist()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("insight"))


def test_importances_on_a_coreset_are_those_of_all_rows(world: World) -> None:
    frame = world.frame
    rows = np.repeat(np.arange(len(frame)), frame["weight"].astype(int))
    raw, y = frame[world.names].iloc[rows].reset_index(drop=True), frame["sold"].iloc[rows]

    def auc(model: Any, X: Any, y: Any) -> float:
        return roc_auc_score(y, model.predict_proba(X)[:, 1])

    full = sklearn_importance(world.model.estimator_, raw, y, scoring=auc, n_repeats=5, random_state=0)
    expected = pd.Series(full.importances_mean, index=world.names)
    for data in (None, world.tree, (frame, frame["sold"], frame["weight"])):
        found = ct.permutation_importance(world.model, data, n_repeats=5)
        assert set(found.index) == set(world.names)
        assert (found["importance"] - expected).abs().max() < 0.02
        assert found.index[0] == expected.idxmax()
        assert found.attrs["score"] == pytest.approx(auc(world.model, raw, y), abs=0.02)


def test_dependence_on_numbers_and_categories(world: World) -> None:
    frame = world.frame
    kinds = ct.partial_dependence(world.model, "kind", (frame, None, frame["weight"]))
    assert kinds.index.tolist() == ["blue", "green", "grey", "red"]
    for kind in kinds.index:
        p = world.model.predict_proba(frame.assign(kind=kind))[:, 1]
        assert kinds.loc[kind, "average"] == pytest.approx(np.average(p, weights=frame["weight"]))
    grid = ct.partial_dependence(world.model, "a", points=7)
    assert len(grid) == 7
    assert grid["average"].is_monotonic_increasing
    full = ct.partial_dependence(world.model, "a", frame, at=grid.index)
    assert np.abs(full - grid).to_numpy().max() < 0.02
    with pytest.raises(ConfigError, match="'when' is a time"):
        ct.partial_dependence(world.model, "when")


@pytest.mark.parametrize("scale", ["standard", "robust", "minmax", "none"])
def test_coefficients_are_the_models_on_raw_columns(world: World, scale: str, tmp_path: Path) -> None:
    prepare = {"scale": scale, "indicator": True, "missing": "median"}
    tree = ct.CoresetTree(size=600, prepare=prepare).build(world.data, client=TWO)
    model = ct.CoresetClassifier(LinearSVC(dual=False), tree=tree).fit()
    table = ct.coefficients(model)["coefficient"]
    fill = dict(zip(tree.recipe_.preparation.numeric, tree.recipe_.preparation.fill, strict=True))
    frame = world.frame
    raw = pd.DataFrame(
        {
            **{name: frame[name].fillna(fill[name]) for name in ("a", "b", "c")},
            "missingindicator_c": frame["c"].isna().astype(float),
        }
    )
    rest = model.estimator_[0].transform(frame[world.names])
    names = model.estimator_[0].get_feature_names_out().tolist()
    for name in names:
        if name.startswith("kind"):
            raw[name] = rest[:, names.index(name)]
        if name.startswith("when"):
            raw[name] = _time_part(frame["when"], name)
    assert set(raw.columns) == set(names) == set(table.index[1:])
    answer = table["(intercept)"] + raw[table.index[1:]].to_numpy() @ table.iloc[1:].to_numpy()
    np.testing.assert_allclose(answer, model.decision_function(frame), rtol=1e-7, atol=1e-8)
    if scale != "none":
        assert np.abs(table["c"] / model.estimator_[-1].coef_[0][names.index("c")]) < 0.9  # negative control
    model.save(tmp_path / "m")
    pd.testing.assert_frame_equal(ct.coefficients(ct.load_model(tmp_path / "m")), ct.coefficients(model))


def _time_part(when: Any, name: str) -> Any:
    part = name.removeprefix("when_")
    return getattr(when.dt, "day_of_week" if part == "weekday" else part)


def test_other_linear_models(world: World) -> None:
    frame = world.frame.assign(price=np.exp(world.frame["price"] / 10))
    model = ct.CoresetRegressor(PoissonRegressor(), size=500).fit(frame[["a", "b"]], frame["price"])
    table = ct.coefficients(model)["coefficient"]
    answer = np.exp(table["(intercept)"] + frame[["a", "b"]].to_numpy() @ table[["a", "b"]].to_numpy())
    np.testing.assert_allclose(answer, model.predict(frame), rtol=1e-9)
    levels = pd.cut(world.frame["price"], 3, labels=["low", "mid", "top"]).astype(str)
    three = ct.CoresetClassifier(size=500).fit(frame[["a", "b"]], levels)
    assert ct.coefficients(three).columns.tolist() == ["low", "mid", "top"]
    with pytest.raises(ConfigError, match=r"Try ct\.permutation_importance"):
        ct.coefficients(ct.CoresetClassifier(RandomForestClassifier(3), tree=world.tree).fit())
    with pytest.raises(ConfigError, match="needs a fitted model of coretree, found Ridge"):
        ct.coefficients(Ridge())


def test_shapley_values_add_up_to_the_prediction(world: World) -> None:
    pytest.importorskip("shap")
    some = world.frame.head(3)
    found = ct.shap_values(world.model, some, n_background=30)
    p = world.model.predict_proba(some)[:, 1]
    np.testing.assert_allclose(found.values.sum(axis=1) + found.expected, p, atol=1e-9)
    assert found.values.columns.tolist() == world.names
    assert found.expected == pytest.approx(world.model.predict_proba(world.frame)[:, 1].mean(), abs=0.2)
    other = ct.shap_values(world.model, some, n_background=30, label="no")
    np.testing.assert_allclose(other.values, -found.values, atol=1e-9)
    with pytest.raises(ConfigError, match="label='maybe' is no class"):
        ct.shap_values(world.model, some, label="maybe")


def test_a_data_set_is_too_large_for_this(world: World) -> None:
    with pytest.raises(ConfigError, match="build a tree from it"):
        ct.permutation_importance(world.model, world.data)
    with pytest.raises(ConfigError, match="n_repeats=0"):
        ct.permutation_importance(world.model, n_repeats=0)
    with pytest.raises(ConfigError, match="columns have names"):
        ct.permutation_importance(LogisticRegression().fit([[0.0], [1.0]], [0, 1]), (np.zeros((2, 1)), [0, 1]))
