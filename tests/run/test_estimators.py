"""The two estimators: plain scikit-learn inside, any rows in, saved and loaded to the bit."""

from __future__ import annotations

import json
import types
from pathlib import Path
from typing import Any

import dask.dataframe as dd
import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import Pipeline
from sklearn.svm import LinearSVC
from sklearn.tree import DecisionTreeClassifier

from coretree import CoresetClassifier, CoresetRegressor, CoresetTree, Dataset, ThreadExecutor, load_model
from coretree.errors import ConfigError, ModelFileError
from generated import opened, sales, write_files

TWO = ThreadExecutor(2)
FEATURES = ["a", "b", "c", "kind"]


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    return sales(2000)


@pytest.fixture(scope="module")
def tree(frame: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> CoresetTree:
    base = tmp_path_factory.mktemp("world")
    folder = write_files(base / "d", frame, files=2)
    return CoresetTree(base / "t", size=500).build(opened(folder), client=TWO)


@pytest.fixture(scope="module")
def model(tree: CoresetTree) -> CoresetClassifier:
    return CoresetClassifier(LogisticRegression(), tree=tree, client=TWO).fit()


def parts(step: Any, seen: set[int]) -> list[Any]:
    """Every object inside a fitted Pipeline that is not plain data."""
    if id(step) in seen or isinstance(step, str | int | float | bool | np.ndarray | np.generic | type | None):
        return []
    seen.add(id(step))
    if isinstance(step, types.FunctionType | types.BuiltinFunctionType | np.ufunc):
        return [step]
    if isinstance(step, dict):
        return [p for v in step.values() for p in parts(v, seen)]
    if isinstance(step, list | tuple | slice):
        return [] if isinstance(step, slice) else [p for v in step for p in parts(v, seen)]
    return [step, *(p for v in getattr(step, "__dict__", {}).values() for p in parts(v, seen))]


def test_the_pipeline_is_plain_scikit_learn_and_predicts_raw_rows(
    model: CoresetClassifier, frame: pd.DataFrame
) -> None:
    assert type(model.estimator_) is Pipeline
    found = parts(model.estimator_, set())
    assert len(found) > 5
    modules = {getattr(p, "__module__", type(p).__module__) or "numpy" for p in found}
    assert {m.partition(".")[0] for m in modules} <= {"sklearn", "numpy"}
    raw = frame[FEATURES]
    assert (model.estimator_.predict_proba(raw) == model.predict_proba(raw)).all()
    assert (model.estimator_.predict(raw) == model.predict(frame)).all()


def test_saved_and_loaded_it_answers_the_same(model: CoresetClassifier, frame: pd.DataFrame, tmp_path: Path) -> None:
    model.save(tmp_path / "m", note="hello")
    again = load_model(tmp_path / "m")
    assert isinstance(again, CoresetClassifier)
    assert again.classes_.tolist() == ["no", "yes"]
    assert again.predict_proba(frame).tobytes() == model.predict_proba(frame).tobytes()
    assert again.feature_names_in_.tolist() == FEATURES
    assert json.loads((tmp_path / "m" / "manifest.json").read_text())["note"] == "hello"


def test_what_is_no_model_is_refused(model: CoresetClassifier, tmp_path: Path) -> None:
    from coretree.learn.persist import save_model

    with pytest.raises(ModelFileError):
        load_model(tmp_path / "nothing")
    save_model(str(tmp_path / "foreign"), LogisticRegression().fit([[0.0], [1.0]], [0, 1]), {"kind": "else"})
    with pytest.raises(ModelFileError, match="not one of coretree"):
        load_model(tmp_path / "foreign")
    model.save(tmp_path / "m")
    (path,) = (tmp_path / "m").glob("*.skops")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(ModelFileError):
        load_model(tmp_path / "m")


def test_arrays_frames_and_dask_frames_go_in(frame: pd.DataFrame) -> None:
    numbers = frame[["a", "b"]]
    kinds = {
        "array": CoresetClassifier(size=400, client=TWO).fit(numbers.to_numpy(), frame["sold"].to_numpy()),
        "pandas": CoresetClassifier(size=400, client=TWO).fit(numbers, frame["sold"]),
        "named": CoresetClassifier(size=400, client=TWO).fit(frame[["a", "b", "sold"]], "sold"),
        "dask": CoresetClassifier(size=400, client=TWO).fit(
            dd.from_pandas(frame[["a", "b", "sold"]], npartitions=3), "sold"
        ),
    }
    assert kinds["array"].feature_names_in_.tolist() == ["x0", "x1"]
    assert (kinds["array"].predict(numbers.to_numpy()) == kinds["pandas"].predict(numbers)).all()
    for name in ("pandas", "named", "dask"):
        assert kinds[name].feature_names_in_.tolist() == ["a", "b"]
        assert kinds[name].score(numbers, frame["sold"]) > 0.6, name
    assert (kinds["named"].predict_proba(numbers) == kinds["pandas"].predict_proba(numbers)).all()


def test_labels_keep_their_type(frame: pd.DataFrame) -> None:
    for labels in (np.array([3, 7]), np.array([False, True])):
        y = labels[(frame["sold"] == "yes").to_numpy().astype(int)]
        found = CoresetClassifier(size=400, client=TWO).fit(frame[["a", "b"]], y)
        assert found.classes_.dtype.kind == labels.dtype.kind
        assert set(found.predict(frame[["a", "b"]])) == set(labels)


def test_a_feature_named_target_is_no_target(frame: pd.DataFrame) -> None:
    X = frame[["a", "b"]].rename(columns={"a": "target", "b": "sample_weight"})
    found = CoresetClassifier(size=400, client=TWO).fit(X, frame["sold"], frame["weight"])
    assert found.feature_names_in_.tolist() == ["target", "sample_weight"]
    assert X.columns.tolist() == ["target", "sample_weight"]  # the input is left alone


def test_lazy_answers_for_a_dask_frame(model: CoresetClassifier, frame: pd.DataFrame) -> None:
    whole = frame[FEATURES]
    lazy = dd.concat([dd.from_pandas(p, npartitions=1) for p in (whole[:700], whole[:0], whole[700:])])
    for method in ("predict", "predict_proba", "decision_function"):
        answer = getattr(model, method)(lazy)
        assert hasattr(answer, "dask")
        found = np.asarray(answer.compute(scheduler="sync"))
        assert (found == getattr(model, method)(whole)).all(), method


def test_a_target_of_the_other_task_is_refused(frame: pd.DataFrame, tree: CoresetTree) -> None:
    data = Dataset.from_pandas(frame[["a", "b", "price"]], target="price")
    with pytest.raises(ConfigError, match="'price' is for regression, but CoresetClassifier does classification"):
        CoresetClassifier(size=400).fit(data)
    with pytest.raises(ConfigError, match="CoresetRegressor does regression"):
        CoresetRegressor(size=400).fit(Dataset.from_pandas(frame[["a", "sold"]], target="sold"))


def test_a_path_stands_for_its_tree(tree: CoresetTree, model: CoresetClassifier, frame: pd.DataFrame) -> None:
    by_path = CoresetClassifier(LogisticRegression(), tree=tree.path, client=TWO).fit()
    assert by_path.predict_proba(frame).tobytes() == model.predict_proba(frame).tobytes()
    smaller = CoresetClassifier(tree=tree.path, size=450, client=TWO).fit()
    assert len(smaller.coreset_) == 450


def test_without_data_or_tree_there_is_nothing_to_fit() -> None:
    with pytest.raises(ConfigError, match="needs a built tree"):
        CoresetClassifier().fit()
    with pytest.raises(ConfigError, match="y is missing"):
        CoresetClassifier().fit(np.zeros((5, 2)))
    with pytest.raises(ConfigError, match="X must be a table"):
        CoresetClassifier().fit(np.zeros(5), np.zeros(5))
    with pytest.raises(ConfigError, match="leave y and sample_weight out"):
        CoresetClassifier().fit(Dataset.from_pandas(pd.DataFrame({"a": [1.0], "y": [1]}), target="y"), [1])


def test_a_dataset_is_not_predicted_at_once(model: CoresetClassifier, frame: pd.DataFrame) -> None:
    with pytest.raises(ConfigError, match="part by part"):
        model.predict(Dataset.from_pandas(frame))


def test_parameters_and_clones(tree: CoresetTree) -> None:
    first = CoresetClassifier(LogisticRegression(C=3), tree=tree, size=100, objective="balanced", random_state=4)
    copy = clone(first)
    assert copy.get_params()["estimator__C"] == 3
    assert copy.tree is tree  # a tree is a place
    assert copy.estimator is not first.estimator
    copy.set_params(estimator__C=5, size=7)
    assert (copy.estimator.C, copy.size, first.estimator.C, first.size) == (5, 7, 3, 100)


def test_each_estimator_gets_the_sketch_made_for_it(tree: CoresetTree, frame: pd.DataFrame) -> None:
    grown = CoresetClassifier(DecisionTreeClassifier(max_depth=3), tree=tree, client=TWO).fit()
    assert grown.coreset_.objective == "balanced"
    drawn = CoresetClassifier(LinearSVC(), tree=tree, client=TWO).fit()
    assert drawn.coreset_.objective == "robust"
    assert not hasattr(drawn, "predict_proba")
    assert hasattr(CoresetClassifier(), "predict_proba")  # of the estimator it will use
    assert drawn.decision_function(frame).shape == (2000,)
    assert CoresetClassifier(objective="uniform", tree=tree, client=TWO).fit().coreset_.objective == "uniform"


def test_a_regressor(frame: pd.DataFrame, tmp_path: Path) -> None:
    found = CoresetRegressor(Ridge(), size=400, client=TWO).fit(frame[FEATURES], frame["price"])
    assert found.score(frame[FEATURES], frame["price"]) > 0.8
    found.save(tmp_path / "m")
    assert (load_model(tmp_path / "m").predict(frame) == found.predict(frame)).all()
