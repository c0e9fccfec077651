"""Every held-out row, judged once: equal to scikit-learn's metrics in memory."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.svm import LinearSVC
from sklearn.tree import DecisionTreeClassifier
from sklearn.utils._openmp_helpers import _openmp_effective_n_threads

from coretree import CoresetClassifier, CoresetRegressor, CoresetTree, Dataset, ThreadExecutor, evaluate, predict
from coretree.data.columns import Columns
from coretree.errors import DataWarning, EmptyDataError, SchemaError, TargetError
from coretree.run.evaluate import evaluate_all, judged_together, run_over_leaves
from coretree.run.frontier import Job
from generated import opened, sales, write_files

TWO = ThreadExecutor(2)


class World:
    """Data, its held-out rows in memory, and a tree."""

    def __init__(self, folder: Path, target: str = "sold") -> None:
        self.frame = sales(3000)
        self.frame["level"] = pd.cut(self.frame["price"], 3, labels=["low", "mid", "top"]).astype(str)
        self.folder = write_files(folder / "d", self.frame, files=3)
        drop = [c for c in ("price", "level", "sold", "group") if c != target] + ["number"]
        self.train, self.test = opened(self.folder, target, drop=drop).split(test=0.3)
        self.tree = CoresetTree(folder / "t", size=600).build(self.train, client=TWO)
        self.held_out = pd.DataFrame()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("classes"))


def held_out(world: World, model: Any, tmp_path: Path) -> pd.DataFrame:
    """The held-out rows themselves, found through predictions that carry the row number."""
    predict(model, world.test, out=tmp_path / "held", columns=["number"], client=TWO)
    numbers = pd.read_parquet(tmp_path / "held")["number"]
    assert numbers.is_unique
    return world.frame.set_index("number").loc[numbers].reset_index()


def test_classification_equals_scikit_learn(world: World, tmp_path: Path) -> None:
    model = CoresetClassifier(LogisticRegression(), tree=world.tree).fit()
    rows = held_out(world, model, tmp_path)
    found = evaluate(model, world.test, client=TWO)
    y, w = (rows["sold"] == "yes").to_numpy(), rows["weight"].to_numpy()
    proba = model.predict_proba(rows)[:, 1]
    guess = model.predict(rows) == "yes"
    assert found.n_rows == len(rows)
    assert found.labels == ("no", "yes")
    exact = {
        "accuracy": metrics.accuracy_score(y, guess, sample_weight=w),
        "log_loss": metrics.log_loss(y, proba, sample_weight=w),
    }
    for name, value in exact.items():
        assert found.metrics[name] == pytest.approx(value, abs=1e-9), name
    auc = metrics.roc_auc_score(y, proba, sample_weight=w)
    assert abs(found.metrics["roc_auc"] - auc) <= found.metrics["roc_auc_error"] + 1e-12
    per_class = metrics.precision_recall_fscore_support(y, guess, sample_weight=w)
    for i, row in enumerate(found.per_class):
        assert row["precision"] == pytest.approx(per_class[0][i], abs=1e-9)
        assert row["recall"] == pytest.approx(per_class[1][i], abs=1e-9)
        assert row["f1"] == pytest.approx(per_class[2][i], abs=1e-9)
    assert "roc_auc" in repr(found)
    assert found.to_dict()["n_rows"] == len(rows)


@pytest.mark.parametrize("final", [LogisticRegression(), LinearSVC(), DecisionTreeClassifier(max_depth=4), Ridge()])
@pytest.mark.parametrize("unseen", [False, True])
def test_rows_that_are_alike_are_predicted_once(final: Any, unseen: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The verdict is that of all rows, each with its own label and weight; also where some labels are unknown."""
    rng = np.random.default_rng(3)
    frame = pd.DataFrame({"a": rng.integers(0, 5, 600) / 2, "f": rng.choice(["x", "y", "z"], 600)})
    z = frame["a"] - (frame["f"] == "x") + rng.logistic(size=600)
    frame = frame.assign(y=z if isinstance(final, Ridge) else np.where(z > 0, "yes", "no"), w=rng.integers(1, 4, 600))
    kind = CoresetRegressor if isinstance(final, Ridge) else CoresetClassifier
    tree = CoresetTree(size=200).build(Dataset.from_pandas(frame[:300], target="y", weight="w"), client=TWO)
    model = kind(final, tree=tree, client=TWO).fit()
    rest = frame[300:].reset_index(drop=True)
    if unseen and kind is CoresetClassifier:
        rest.loc[::7, "y"] = "perhaps"
    test = Dataset.from_pandas(rest, target="y", weight="w", task=model._task)
    seen: list[int] = []
    shown = type(model.estimator_[-1])
    monkeypatch.setattr(shown, "predict", lambda self, X, plain=shown.predict: [seen.append(len(X)), plain(self, X)][1])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)
        once = evaluate(model, test, client=ThreadExecutor(1))
        monkeypatch.setattr(Columns, "kinds", lambda self: None)
        each = evaluate(model, test, client=ThreadExecutor(1))
    assert once.metrics.keys() == each.metrics.keys()
    for name, value in each.metrics.items():
        same = np.array([once.metrics[name], value], dtype=np.float64)  # None is NaN
        np.testing.assert_allclose(*same, atol=1e-12, err_msg=name)
    assert (once.n_rows, once.unseen) == (each.n_rows, each.unseen)
    if not isinstance(final, DecisionTreeClassifier):  # what it predicts follows from its probabilities
        assert seen == [15, 300]


def test_every_row_is_on_exactly_one_side(world: World) -> None:
    model = CoresetClassifier(LogisticRegression(), tree=world.tree).fit()
    whole = Dataset.from_parquet(world.folder, target="sold", weight="weight", leaf_bytes=60_000)
    n = [evaluate(model, data, client=TWO).n_rows for data in (world.train, world.test, whole)]
    assert n[0] + n[1] == n[2] == len(world.frame)
    assert n[0] == world.tree.n_rows_


def test_the_answer_does_not_depend_on_the_executor(world: World) -> None:
    model = CoresetClassifier(LogisticRegression(), tree=world.tree).fit()
    one, two = (evaluate(model, world.test, client=ThreadExecutor(n)) for n in (1, 2))
    assert one.metrics == two.metrics


def test_results_come_in_leaf_order(world: World) -> None:
    def work(job: Job, frame: object) -> str:
        assert job.leaf is not None
        return job.leaf.identity

    found = run_over_leaves(world.test, work, "order", TWO, None)
    assert found == [leaf.identity for leaf in world.test.scan.leaves]


def test_a_decision_without_probabilities(world: World, tmp_path: Path) -> None:
    model = CoresetClassifier(LinearSVC(), tree=world.tree).fit()
    rows = held_out(world, model, tmp_path)
    found = evaluate(model, world.test, client=TWO)
    auc = metrics.roc_auc_score(rows["sold"] == "yes", model.decision_function(rows), sample_weight=rows["weight"])
    assert abs(found.metrics["roc_auc"] - auc) <= found.metrics["roc_auc_error"] + 1e-12
    assert found.metrics.get("log_loss") is None


def test_several_models_in_one_pass(world: World) -> None:
    models = {str(c): CoresetClassifier(LogisticRegression(C=c), tree=world.tree, size=500).fit() for c in (1e-3, 1.0)}
    together = evaluate_all(models, world.test, client=TWO)
    for name, model in models.items():
        assert together[name].metrics == evaluate(model, world.test, client=TWO).metrics


def test_models_of_one_tree_share_one_preparation(world: World) -> None:
    first, second = (CoresetClassifier(LogisticRegression(), tree=world.tree).fit() for _ in range(2))
    assert first.estimator_[0] is not second.estimator_[0]
    found = judged_together({"a": first, "b": second, "again": first})
    assert len({id(judged.prepare) for judged in found.values()}) == 1
    other = CoresetClassifier(LogisticRegression(), tree=CoresetTree(size=500).build(world.test, client=TWO)).fit()
    found = judged_together({"a": first, "other": other})
    assert found["a"].prepare is not found["other"].prepare


class Looking(LogisticRegression):  # type: ignore[misc, unused-ignore]
    """Notes what it is asked with."""

    seen: ClassVar[set[tuple[int, bool]]] = set()

    def predict_proba(self, X: Any) -> Any:
        self.seen.add((_openmp_effective_n_threads(), X.flags.f_contiguous))
        return super().predict_proba(X)


def test_leaves_side_by_side_take_one_thread_each(world: World, tmp_path: Path) -> None:
    model = CoresetClassifier(Looking(), tree=world.tree).fit()
    Looking.seen.clear()
    evaluate(model, world.test, client=TWO)
    assert Looking.seen == {(1, True)}
    alone = opened(
        write_files(tmp_path / "alone", world.frame.head(900), files=1), drop=["level", "price", "number", "group"]
    )
    assert len(alone.scan.leaves) == 1 < len(world.test.scan.leaves)
    Looking.seen.clear()
    evaluate(model, alone, client=TWO)
    assert Looking.seen == {(_openmp_effective_n_threads(), True)}


def test_many_classes(tmp_path: Path) -> None:
    world = World(tmp_path, "level")
    model = CoresetClassifier(LogisticRegression(max_iter=500), tree=world.tree).fit()
    rows = held_out(world, model, tmp_path)
    found = evaluate(model, world.test, client=TWO)
    proba, w = model.predict_proba(rows), rows["weight"]
    assert found.labels == ("low", "mid", "top")
    assert found.metrics["accuracy"] == pytest.approx(
        metrics.accuracy_score(rows["level"], model.predict(rows), sample_weight=w), abs=1e-9
    )
    assert found.metrics["log_loss"] == pytest.approx(
        metrics.log_loss(rows["level"], proba, sample_weight=w, labels=["low", "mid", "top"]), abs=1e-9
    )


def test_regression_equals_scikit_learn(tmp_path: Path) -> None:
    world = World(tmp_path, "price")
    model = CoresetRegressor(Ridge(), tree=world.tree).fit()
    rows = held_out(world, model, tmp_path)
    found = evaluate(model, world.test, client=TWO)
    y, guess, w = rows["price"], model.predict(rows), rows["weight"]
    assert found.metrics["r2"] == pytest.approx(metrics.r2_score(y, guess, sample_weight=w), abs=1e-9)
    assert found.metrics["mae"] == pytest.approx(metrics.mean_absolute_error(y, guess, sample_weight=w), abs=1e-9)
    assert found.metrics["rmse"] == pytest.approx(
        np.sqrt(metrics.mean_squared_error(y, guess, sample_weight=w)), abs=1e-9
    )
    assert found.per_class == []


def test_what_cannot_be_judged(world: World, tmp_path: Path) -> None:
    model = CoresetClassifier(LogisticRegression(), tree=world.tree).fit()
    strange = write_files(tmp_path / "strange", world.frame.assign(sold="maybe").head(50), files=1)
    with pytest.raises(TargetError, match="maybe"):
        evaluate(model, opened(strange, drop=["level", "price"]), client=TWO)
    lacking = write_files(tmp_path / "lacking", world.frame.drop(columns="b").head(50), files=1)
    with pytest.raises(SchemaError, match="'b'"):
        evaluate(model, opened(lacking, drop=["level", "price"]), client=TWO)
    text = write_files(tmp_path / "text", world.frame.assign(b="x").head(50), files=1)
    with pytest.raises(SchemaError, match=r"column 'b' is .*string.* but the model learned from"):
        evaluate(model, opened(text, drop=["level", "price"]), client=TWO)
    empty = write_files(tmp_path / "empty", world.frame.assign(sold=pd.Series([None] * 3000, dtype="string")), files=1)
    with pytest.raises(EmptyDataError, match="no row to evaluate on"):
        evaluate(model, opened(empty, drop=["level", "price"]), client=TWO)


def test_sides_of_groups_are_judged_by_a_model_that_knows_no_groups(world: World) -> None:
    model = CoresetClassifier(LogisticRegression(), tree=world.tree).fit()
    data = opened(world.folder, drop=["level", "price", "number"], group="group")
    n = [evaluate(model, side, client=TWO).n_rows for side in data.split(by="group", test=0.3)]
    assert sum(n) == len(world.frame)
    assert min(n) > 0
