"""ONNX: the file answers as the model does, missing values included, or it is not written."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier, RandomForestRegressor
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.svm import LinearSVC
from sklearn.tree import DecisionTreeClassifier

import coretree as ct
from coretree.errors import ConfigError, OutputExistsError
from coretree.run import onnx_export
from generated import sales

runtime = pytest.importorskip("onnxruntime")
pytest.importorskip("skl2onnx")
# of onnx and skl2onnx themselves
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")

FRAME = sales(1500)
FRAME["code"] = np.random.default_rng(1).choice([1.0, 2.0, 7.0, np.nan], 1500, p=[0.5, 0.3, 0.1, 0.1])
FEATURES = ["a", "b", "c", "kind", "code"]


def built(target: str, **prepare: Any) -> ct.CoresetTree:
    data = ct.Dataset.from_pandas(FRAME[[*FEATURES, target]], target=target, categorical=["code"])
    return ct.CoresetTree(size=500, prepare=prepare).build(data)


@pytest.fixture(scope="module")
def trees() -> dict[str, ct.CoresetTree]:
    return {target: built(target) for target in ("sold", "price")}


def answers(path: Path, rows: pd.DataFrame) -> dict[str, Any]:
    """What someone without coretree would type."""
    session = runtime.InferenceSession(str(path))
    inputs: dict[str, Any] = {name: rows[[name]].to_numpy(np.float64) for name in ("a", "b", "c", "code")}
    inputs["kind"] = rows[["kind"]].astype(object).fillna("").to_numpy(object)
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, inputs), strict=True))


CLASSIFIERS = [
    LogisticRegression(),
    LinearSVC(dual=False),
    DecisionTreeClassifier(max_depth=5),
    RandomForestClassifier(8, max_depth=6),
]


@pytest.mark.parametrize("estimator", CLASSIFIERS, ids=lambda e: type(e).__name__)
def test_a_classifier_answers_the_same(estimator: Any, trees: dict[str, ct.CoresetTree], tmp_path: Path) -> None:
    model = ct.CoresetClassifier(estimator, tree=trees["sold"]).fit()
    done = ct.to_onnx(model, tmp_path / "m.onnx")
    rows = FRAME.assign(kind=FRAME["kind"].where(FRAME.index % 5 > 0, "purple"))
    found = answers(tmp_path / "m.onnx", rows)
    assert (found["label"] == model.predict(rows)).mean() > 0.998
    if hasattr(model, "predict_proba"):
        np.testing.assert_allclose(found["probabilities"], model.predict_proba(rows), atol=1e-4)
    assert done.inputs == {"a": "number", "b": "number", "c": "number", "kind": "text", "code": "number"}
    assert done.n_checked > 500 * 6
    assert done.worst <= 1e-4


@pytest.mark.parametrize(
    "prepare",
    [
        {"indicator": True, "clip": (0.01, 0.99), "scale": "robust"},
        {"scale": "minmax", "missing": "median", "categorical": "ordinal"},
        {"scale": "none", "missing_categorical": "most_frequent", "min_frequency": 0.2},
        {"categorical": "none"},
    ],
    ids=str,
)
def test_every_preparation_has_its_form(prepare: dict[str, Any], tmp_path: Path) -> None:
    tree = built("price", **prepare)
    for i, estimator in enumerate([Ridge(), RandomForestRegressor(5, max_depth=5)]):
        model = ct.CoresetRegressor(estimator, tree=tree).fit()
        done = ct.to_onnx(model, tmp_path / f"{i}.onnx")
        assert done.outputs == ("prediction",)
        session = runtime.InferenceSession(str(done.path))
        (found,) = session.run(None, onnx_export.feed(FRAME, {n: t == "text" for n, t in done.inputs.items()}))
        np.testing.assert_allclose(found[:, 0], model.predict(FRAME), atol=1e-3)


def test_three_classes_with_integer_labels(tmp_path: Path) -> None:
    frame = FRAME[["a", "b"]].assign(y=np.digitize(FRAME["price"], [-2, 2]) + 3)
    for estimator in (LogisticRegression(), RandomForestClassifier(5, max_depth=4)):
        model = ct.CoresetClassifier(estimator, size=500).fit(frame, "y")
        path = tmp_path / f"{type(estimator).__name__}.onnx"
        ct.to_onnx(model, path)
        label, p = runtime.InferenceSession(str(path)).run(None, {n: frame[[n]].to_numpy() for n in ("a", "b")})
        assert (label == model.predict(frame)).mean() > 0.998
        np.testing.assert_allclose(p, model.predict_proba(frame), atol=1e-4)


def test_sharpened_probabilities_of_a_rare_class(tmp_path: Path) -> None:
    big = sales(12_000)
    frame = big[["a", "b"]].assign(y=(big["price"] > big["price"].quantile(0.95)).astype(int))
    model = ct.CoresetClassifier(RandomForestClassifier(8, max_depth=4), size=1500).fit(frame, "y")
    assert model.estimator_[-1].sharpness_ != 1.0
    ct.to_onnx(model, tmp_path / "m.onnx")
    session = runtime.InferenceSession(str(tmp_path / "m.onnx"))
    label, p = session.run(None, {n: frame[[n]].to_numpy() for n in ("a", "b")})
    assert (label == model.predict(frame)).mean() > 0.998
    np.testing.assert_allclose(p, model.predict_proba(frame), atol=1e-4)


def test_what_differs_is_refused(
    trees: dict[str, ct.CoresetTree], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = ct.CoresetClassifier(LogisticRegression(), tree=trees["sold"]).fit()
    other = ct.CoresetClassifier(LogisticRegression(), tree=trees["sold"]).fit()
    other.estimator_[0].named_transformers_["numeric"].named_steps["fill"].statistics_ += 1.0
    right = onnx_export.pipeline_graph
    monkeypatch.setattr(onnx_export, "pipeline_graph", lambda _: right(other.estimator_))  # wrong on missing cells only
    with pytest.raises(ConfigError, match="refused: the ONNX form of LogisticRegression differs from the model on"):
        ct.to_onnx(model, tmp_path / "m.onnx")
    assert not list(tmp_path.iterdir())


def test_what_has_no_form_is_refused(trees: dict[str, ct.CoresetTree], tmp_path: Path) -> None:
    boosted = ct.CoresetClassifier(HistGradientBoostingClassifier(max_iter=3), tree=trees["sold"]).fit()
    try:
        assert ct.to_onnx(boosted, tmp_path / "b.onnx").worst <= 1e-4  # of a later skl2onnx
    except ConfigError as error:
        assert "HistGradientBoostingClassifier" in str(error)  # noqa: PT017
        assert not list(tmp_path.iterdir())
    timed = FRAME[["a", "sold"]].assign(when=pd.date_range("2020-01-01", periods=1500, freq="h"))
    model = ct.CoresetClassifier(size=400).fit(timed, "sold")
    with pytest.raises(ConfigError, match="'when' is a time"):
        ct.to_onnx(model, tmp_path / "t.onnx")
    with pytest.raises(ConfigError, match="found LogisticRegression"):
        ct.to_onnx(LogisticRegression(), tmp_path / "t.onnx")


def test_nothing_is_written_over_and_loaded_models_need_rows(
    trees: dict[str, ct.CoresetTree], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = ct.CoresetClassifier(LogisticRegression(), tree=trees["sold"]).fit()
    (tmp_path / "m.onnx").write_text("mine")
    with pytest.raises(OutputExistsError, match="exists already"):
        ct.to_onnx(model, tmp_path / "m.onnx")
    assert (tmp_path / "m.onnx").read_text() == "mine"
    model.save(tmp_path / "m")
    loaded = ct.load_model(tmp_path / "m")
    with pytest.raises(ConfigError, match="give some: sample=frame"):
        ct.to_onnx(loaded, tmp_path / "l.onnx")
    assert ct.to_onnx(loaded, tmp_path / "l.onnx", FRAME.head(40)).n_checked > 40
    monkeypatch.setitem(sys.modules, "skl2onnx", None)
    with pytest.raises(ConfigError, match=r'pip install "coretree\[onnx\]"'):
        ct.to_onnx(model, tmp_path / "n.onnx")
