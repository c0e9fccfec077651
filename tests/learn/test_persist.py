"""Saved models come back bit for bit, or not at all."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    MinMaxScaler,
    OneHotEncoder,
    OrdinalEncoder,
    RobustScaler,
    StandardScaler,
)
from sklearn.tree import DecisionTreeClassifier
from sklearn.utils import check_array
from threadpoolctl import threadpool_limits

from coretree.errors import ModelFileError, OutputExistsError, StoreError
from coretree.learn.fit import shift_last
from coretree.learn.models import Task, model_names, named_estimator
from coretree.learn.persist import FORMAT_VERSION, load_model, save_model


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Small fits: more threads would only wait for one another."""
    with threadpool_limits(1):
        yield


def table(n: int, seed: int) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "delay": np.where(rng.random(n) < 0.1, np.inf, rng.normal(size=n)),
            "distance": rng.normal(1000, 300, n).astype(np.float32),
            "carrier": rng.choice(["AA", "BB", "CC"], n),
            "origin": pd.Categorical(rng.choice(["x", "y"], n)),
        }
    )
    frame.loc[::7, "distance"] = np.nan
    return frame


def preparation() -> ColumnTransformer:
    finite = FunctionTransformer(np.nan_to_num, kw_args={"nan": np.nan, "posinf": np.nan, "neginf": np.nan})
    checked = FunctionTransformer(check_array, kw_args={"ensure_all_finite": False, "dtype": np.float64})
    clipped = FunctionTransformer(np.clip, kw_args={"a_min": -3.0, "a_max": 3.0}, feature_names_out="one-to-one")
    numbers = make_pipeline(checked, finite, SimpleImputer(strategy="median", add_indicator=True), StandardScaler())
    return ColumnTransformer(
        [
            ("numbers", numbers, ["delay", "distance"]),
            ("clipped", make_pipeline(SimpleImputer(), RobustScaler(), MinMaxScaler(), clipped), ["distance"]),
            ("levels", OneHotEncoder(handle_unknown="infrequent_if_exist", min_frequency=3), ["carrier"]),
            ("codes", OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1), ["origin"]),
        ]
    )


def fitted(name: str, task: Task) -> Pipeline:
    frame = table(300, 0)
    y = (frame["distance"].fillna(0) > 900).to_numpy()
    target = np.where(y, "late", "on time") if task == "classification" else frame["distance"].fillna(0).to_numpy()
    estimator = named_estimator(name, task, seed=0)
    if name in ("forest", "hist_gradient_boosting"):
        estimator.set_params(**{"n_estimators" if name == "forest" else "max_iter": 8})
    if name in ("tree", "forest") and task == "classification":
        estimator = shift_last(estimator)
    return Pipeline([("prepare", preparation()), ("model", estimator)]).fit(frame, target)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    return save_model(tmp_path / "model", fitted("logistic", "classification"), {"metrics": {"roc_auc": 0.9}})


NAMED = [(name, task) for task in ("classification", "regression") for name in model_names(task)]


@pytest.mark.parametrize(("name", "task"), NAMED)
def test_round_trip_is_bit_for_bit(name: str, task: Task, tmp_path: Path) -> None:
    model, fresh = fitted(name, task), table(200, 1)
    back, _ = load_model(save_model(tmp_path / "m", model, {}))
    np.testing.assert_array_equal(back.predict(fresh), model.predict(fresh))
    for method in ("predict_proba", "decision_function"):
        if hasattr(model, method):
            np.testing.assert_array_equal(getattr(back, method)(fresh), getattr(model, method)(fresh))


def test_manifest_keeps_what_it_was_given(tmp_path: Path) -> None:
    given = {
        "schema": {"naïve": "float64"},
        "metrics": {"roc_auc": np.float32(0.5), "confusion": np.eye(2, dtype=np.int64), "none": None},
    }
    _, manifest = load_model(save_model(tmp_path / "deep" / "m", fitted("logistic", "classification"), given))
    assert manifest["schema"] == {"naïve": "float64"}
    assert manifest["metrics"] == {"roc_auc": 0.5, "confusion": [[1, 0], [0, 1]], "none": None}
    assert manifest["format_version"] == FORMAT_VERSION
    assert {"python", "scikit-learn", "numpy", "skops"} <= set(manifest["versions"])


def test_same_model_gives_the_same_files_and_nothing_else(tmp_path: Path) -> None:
    save_model(tmp_path / "a", fitted("logistic", "classification"), {})
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["manifest.json", "model.skops"]


def test_existing_folder_is_left_alone(saved: Path) -> None:
    before = {path.name: path.read_bytes() for path in saved.iterdir()}
    with pytest.raises(OutputExistsError, match="exists already"):
        save_model(saved, LogisticRegression(), {})
    assert {path.name: path.read_bytes() for path in saved.iterdir()} == before


def test_failed_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(StoreError, match="No space left on device"):
        save_model(tmp_path / "m", LogisticRegression(), {})
    assert list(tmp_path.iterdir()) == []


def test_a_tampered_file_is_refused_before_it_is_parsed(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    for name in ("loads", "get_untrusted_types"):
        monkeypatch.setattr(f"skops.io.{name}", lambda *_, name=name, **__: seen.append(name) or [])
    load_model(saved)
    assert seen == ["get_untrusted_types", "loads"]  # negative control: a sound file is parsed
    seen.clear()
    data = (saved / "model.skops").read_bytes()
    (saved / "model.skops").write_bytes(data + b"\0")
    with pytest.raises(ModelFileError, match="damaged or replaced: its sha256 is not the one"):
        load_model(saved)
    (saved / "model.skops").write_bytes(data)
    manifest = json.loads((saved / "manifest.json").read_text())
    (saved / "manifest.json").write_text(json.dumps({**manifest, "versions": {}}))
    with pytest.raises(ModelFileError, match="damaged or edited"):
        load_model(saved)
    assert not seen


def test_every_flipped_bit_is_refused(saved: Path) -> None:
    rng = np.random.default_rng(0)
    for name in ("model.skops", "manifest.json"):
        path = saved / name
        data = path.read_bytes()
        for place in rng.integers(0, 8 * len(data), 40).tolist():
            damaged = bytearray(data)
            damaged[place // 8] ^= 1 << place % 8
            path.write_bytes(bytes(damaged))
            try:
                _, manifest = load_model(saved)
            except ModelFileError:
                continue
            # White space of the manifest may change without a change of meaning; nothing else may.
            assert name == "manifest.json"
            assert manifest == json.loads(data)
        path.write_bytes(data)
    load_model(saved)


@pytest.mark.parametrize("keep", [0, 100, -1])
def test_truncated_model_is_refused(saved: Path, keep: int) -> None:
    data = (saved / "model.skops").read_bytes()
    (saved / "model.skops").write_bytes(data[:keep])
    with pytest.raises(ModelFileError, match="damaged or replaced"):
        load_model(saved)


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"format": "other"}, "not written by coretree"),
        ({"format_version": FORMAT_VERSION + 1}, "pip install -U coretree"),
        ({"metrics": {"roc_auc": 1.0}}, "damaged or edited"),
    ],
)
def test_foreign_newer_and_edited_manifests(saved: Path, change: dict[str, Any], part: str) -> None:
    path = saved / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(ModelFileError, match=part):
        load_model(saved)


@pytest.mark.parametrize("name", ["model.skops", "manifest.json"])
def test_missing_files_are_named(saved: Path, name: str) -> None:
    (saved / name).unlink()
    with pytest.raises(ModelFileError, match=name):
        load_model(saved)


def test_no_folder_and_not_json(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="not a saved model"):
        load_model(tmp_path / "none")
    (tmp_path / "manifest.json").write_text("<html>")
    with pytest.raises(ModelFileError, match="damaged"):
        load_model(tmp_path)


class Mine(ClassifierMixin, BaseEstimator):  # type: ignore[misc, unused-ignore]
    """A user's own estimator."""

    def fit(self, X: Any, y: Any) -> Mine:
        self.classes_ = np.unique(y)
        return self

    def predict(self, X: Any) -> Any:
        return np.repeat(self.classes_[:1], len(X))


def test_unknown_types_need_a_name(tmp_path: Path) -> None:
    model = Mine().fit([[0], [1]], [0, 1])
    name = f"{Mine.__module__}.Mine"
    with pytest.raises(ModelFileError, match="not saved, because loading would refuse"):
        save_model(tmp_path / "m", model, {})
    assert not (tmp_path / "m").exists()
    save_model(tmp_path / "m", model, {}, trusted=[name])
    with pytest.raises(ModelFileError, match="Nothing was loaded"):
        load_model(tmp_path / "m")


def test_a_function_outside_the_list_is_refused(tmp_path: Path) -> None:
    evil = make_pipeline(FunctionTransformer(np.load), DecisionTreeClassifier())
    with pytest.raises(ModelFileError, match=r"numpy\.load"):
        save_model(tmp_path / "m", evil, {})


def test_reserved_keys_and_values_without_json(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'sha256' is reserved"):
        save_model(tmp_path / "m", LogisticRegression(), {"sha256": "x"})
    for value in (object(), float("nan")):
        with pytest.raises(ValueError, match=r"JSON"):
            save_model(tmp_path / "m", LogisticRegression(), {"metrics": value})
    assert list(tmp_path.iterdir()) == []
