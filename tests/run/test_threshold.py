"""Tuned thresholds and class reports: on rows, coresets and whole data sets, and with labels unknown to a model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import FixedThresholdClassifier
from sklearn.pipeline import Pipeline
from sklearn.svm import LinearSVC
from sklearn.tree import DecisionTreeClassifier

import coretree as ct
from coretree.errors import ConfigError, DataWarning, TargetError
from generated import opened, sales, write_files

TWO = ct.ThreadExecutor(2)


class World:
    def __init__(self, folder: Path) -> None:
        self.frame = sales(3000)
        self.frame["sold"] = np.where((self.frame["sold"] == "yes") & (self.frame["a"] > 0.6), "yes", "no")
        self.data = opened(write_files(folder / "d", self.frame, files=3))
        self.tree = ct.CoresetTree(folder / "t", size=800).build(self.data, client=TWO)
        self.model = ct.CoresetClassifier(LogisticRegression(), tree=self.tree).fit()
        self.rows = self.frame, self.frame["sold"], self.frame["weight"]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("thresholds"))


def test_streamed_and_in_memory_find_the_same_and_it_is_the_best(world: World) -> None:
    memory = ct.tune_threshold(world.model, world.rows)
    streamed = ct.tune_threshold(world.model, world.data, client=TWO)
    assert streamed.value == pytest.approx(memory.value, abs=2e-3)
    y, w = world.frame["sold"] == "yes", world.frame["weight"]
    p = world.model.predict_proba(world.frame)[:, 1]
    best = max(metrics.f1_score(y, p >= t, sample_weight=w) for t in np.unique(p)[::40])
    assert memory.value >= best
    for found in (memory, streamed):
        guess = found.classifier.predict(world.frame[world.model.feature_names_in_]) == "yes"
        assert metrics.f1_score(y, guess, sample_weight=w) == pytest.approx(found.value, abs=1e-9)
        assert (found.model.predict(world.frame) == np.where(guess, "yes", "no")).all()
        own = metrics.f1_score(y, world.model.predict(world.frame) == "yes", sample_weight=w)
        assert found.default_value == pytest.approx(own, abs=1e-3)
        assert found.n_rows == len(world.frame)
    assert memory.value > memory.default_value + 0.01
    assert "f1" in repr(memory)


def test_the_new_model_is_judged_saved_and_tuned_again(world: World, tmp_path: Path) -> None:
    found = ct.tune_threshold(world.model, world.data, metric="balanced_accuracy", client=TWO)
    assert type(found.classifier) is FixedThresholdClassifier
    assert type(found.model.estimator_) is Pipeline
    judged = ct.evaluate(found.model, world.data, client=TWO)
    assert judged.metrics["balanced_accuracy"] == pytest.approx(found.value, abs=1e-9)
    before = ct.evaluate(world.model, world.data, client=TWO).metrics["balanced_accuracy"]
    assert before == pytest.approx(found.default_value, abs=2e-3)  # the model that was given is as it was
    found.model.save(tmp_path / "m")
    again = ct.load_model(tmp_path / "m")
    assert (again.predict(world.frame) == found.model.predict(world.frame)).all()
    twice = ct.tune_threshold(found.model, world.data, metric="balanced_accuracy", client=TWO)
    assert twice.threshold == found.threshold
    assert (twice.model.predict(world.frame) == found.model.predict(world.frame)).all()


def test_costs_either_class_and_models_without_probabilities(world: World) -> None:
    svm = ct.CoresetClassifier(LinearSVC(), tree=world.tree).fit()
    y, w = world.frame["sold"].to_numpy(), world.frame["weight"].to_numpy()
    for model in (world.model, svm):
        for positive, other in (("yes", "no"), ("no", "yes")):
            for data in (world.rows, world.data):
                found = ct.tune_threshold(model, data, cost=[[0, 1], [10, 0]], positive=positive, client=TWO)
                guess = found.model.predict(world.frame)
                each = np.where(y == guess, 0, np.where(y == other, 1, 10))
                assert found.value == pytest.approx(np.average(each, weights=w), abs=2e-3)
                assert found.value < found.default_value
                assert found.metric == "cost"
    never = ct.tune_threshold(world.model, world.rows, cost=[[0, 1000], [1, 0]])
    assert never.threshold == np.inf or never.curve["false_positive"][never.curve["value"].idxmin()] == 0


def test_a_coreset_stands_for_the_data(world: World) -> None:
    full = ct.tune_threshold(world.model, world.rows)
    for data in (None, world.tree, world.tree.coreset(objective="robust")):
        found = ct.tune_threshold(world.model, data)
        y, w = world.frame["sold"] == "yes", world.frame["weight"]
        value = metrics.f1_score(y, found.model.predict(world.frame) == "yes", sample_weight=w)
        assert value > full.value - 0.03


def test_a_plain_estimator_and_a_function(world: World) -> None:
    X, y = world.frame[["a", "b"]], world.frame["sold"]
    plain = DecisionTreeClassifier(max_depth=4, random_state=0).fit(X, y)
    found = ct.tune_threshold(plain, (X, y), metric=metrics.matthews_corrcoef)
    assert found.model is found.classifier
    assert metrics.matthews_corrcoef(y, found.model.predict(X)) == pytest.approx(found.value)
    assert found.metric == "matthews_corrcoef"
    assert found.value >= found.default_value


def test_a_report_is_scikit_learns(world: World) -> None:
    y, w = world.frame["sold"], world.frame["weight"]
    expected = metrics.classification_report(
        y, world.model.predict(world.frame), sample_weight=w, output_dict=True, zero_division=0
    )
    judged = ct.evaluate(world.model, world.data, client=TWO)
    for found in (
        ct.per_class_report(world.model, world.data, client=TWO),
        ct.per_class_report(world.model, world.rows),
        ct.per_class_report(judged),
    ):
        for label in ("no", "yes"):
            np.testing.assert_allclose(found.table.loc[label], list(expected[label].values()), atol=1e-9)
        for name in ("macro", "weighted"):
            np.testing.assert_allclose(found.averages.loc[name], list(expected[f"{name} avg"].values()), atol=1e-9)
        assert found.accuracy == pytest.approx(expected["accuracy"])
        assert f"on {len(y):,} rows" in str(found)
    unweighted = ct.per_class_report(world.model, world.rows[:2])
    assert unweighted.table.loc["yes", "support"] == (y == "yes").sum() != found.table.loc["yes", "support"]


def test_a_label_unseen_in_training_is_counted_told_and_left_out(world: World, tmp_path: Path) -> None:
    strange = world.frame.copy()
    strange.loc[::10, "sold"] = "maybe"
    rest = strange[strange["sold"] != "maybe"]
    data = opened(write_files(tmp_path / "strange", strange, files=2))
    with pytest.warns(DataWarning, match=r"300 of 3,000 rows have a label that no training row has: 'maybe' \(300\)"):
        found = ct.evaluate(world.model, data, client=TWO)
    assert found.unseen == {"maybe": 300}
    assert found.to_dict()["unseen"] == {"maybe": 300}
    assert found.n_rows == len(rest)
    accuracy = metrics.accuracy_score(rest["sold"], world.model.predict(rest), sample_weight=rest["weight"])
    assert found.metrics["accuracy"] == pytest.approx(accuracy)
    with pytest.warns(DataWarning, match="maybe"):
        memory = ct.per_class_report(world.model, (strange, strange["sold"], strange["weight"]))
    assert memory.unseen == {"maybe": 300}
    assert "300 more have labels that the model does not know: 'maybe' (300)" in str(memory)
    assert memory.accuracy == pytest.approx(accuracy)
    with pytest.warns(DataWarning, match="maybe"):
        assert ct.tune_threshold(world.model, data, client=TWO).unseen == {"maybe": 300}
    only = opened(write_files(tmp_path / "only", strange[strange["sold"] == "maybe"], files=1))
    with pytest.raises(TargetError, match="No row is left"):
        ct.evaluate(world.model, only, client=TWO)
    assert ct.evaluate(world.model, world.data, client=TWO).unseen == {}


def test_what_cannot_be_cut_or_reported(world: World, tmp_path: Path) -> None:
    ridge = ct.CoresetRegressor(Ridge(), size=400).fit(world.frame[["a", "b"]], world.frame["price"])
    with pytest.raises(ConfigError, match="has no classes; a threshold needs"):
        ct.tune_threshold(ridge)
    with pytest.raises(ConfigError, match="predicts no classes"):
        ct.per_class_report(ridge)
    with pytest.raises(ConfigError, match="positive='maybe' is no class"):
        ct.tune_threshold(world.model, positive="maybe")
    world.model.save(tmp_path / "m")
    loaded: Any = ct.load_model(tmp_path / "m")
    with pytest.raises(ConfigError, match="brings no coreset"):
        ct.tune_threshold(loaded)
    with pytest.raises(ConfigError, match="found DataFrame"):
        ct.tune_threshold(world.model, pd.DataFrame())
    with pytest.raises(ConfigError, match="y must hold a value for each"):
        ct.tune_threshold(world.model, (world.frame, [1]))
