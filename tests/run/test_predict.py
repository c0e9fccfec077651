"""Predictions in Parquet: all rows once and in order, whole or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression, Ridge

from coretree import CoresetClassifier, CoresetRegressor, CoresetTree, Dataset, ThreadExecutor, predict
from coretree.errors import ConfigError, CoretreeError, EmptyDataError, OutputExistsError, SchemaError
from generated import opened, sales, write_files

TWO = ThreadExecutor(2)


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    return sales(2000)


@pytest.fixture(scope="module")
def folder(frame: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_files(tmp_path_factory.mktemp("data"), frame, files=3, group_rows=300)


@pytest.fixture(scope="module")
def model(folder: Path) -> CoresetClassifier:
    tree = CoresetTree(size=500).build(opened(folder), client=TWO)
    return CoresetClassifier(LogisticRegression(), tree=tree).fit()


def everything(folder: Path) -> Dataset:
    return Dataset.from_parquet(folder, leaf_bytes=20_000)


def test_all_rows_once_in_order_with_what_was_carried(
    folder: Path, model: CoresetClassifier, frame: pd.DataFrame, tmp_path: Path
) -> None:
    seen: list[tuple[str, int, int]] = []
    data = everything(folder)
    n = predict(
        model, data, out=tmp_path / "new" / "out", columns=["number", "kind"], client=TWO,
        progress=lambda *args: seen.append(args),
    )  # fmt: skip
    found = pd.read_parquet(tmp_path / "new" / "out")
    assert n == len(found) == 2000
    assert found.columns.tolist() == ["number", "kind", "prediction", "probability_no", "probability_yes"]
    assert found["number"].tolist() == list(range(2000))
    assert found["kind"].isna().equals(frame["kind"].isna())
    assert not isinstance(found["kind"].dtype, pd.CategoricalDtype)
    assert (found["prediction"] == model.predict(frame)).all()
    np.testing.assert_allclose(found[["probability_no", "probability_yes"]], model.predict_proba(frame), atol=1e-12)
    assert seen[-1] == ("predict", len(data.scan.leaves), len(data.scan.leaves))
    assert sorted(p.name for p in (tmp_path / "new").iterdir()) == ["out"]


def test_a_split_side_is_respected(folder: Path, model: CoresetClassifier, tmp_path: Path) -> None:
    sides = opened(folder).split(test=0.3)
    numbers = []
    for i, side in enumerate(sides):
        predict(model, side, out=tmp_path / str(i), columns=["number"], proba=False, client=TWO)
        part = pd.read_parquet(tmp_path / str(i))
        assert part.columns.tolist() == ["number", "prediction"]
        numbers.append(set(part["number"]))
    assert not numbers[0] & numbers[1]
    assert numbers[0] | numbers[1] == set(range(2000))


def test_a_quantity(folder: Path, frame: pd.DataFrame, tmp_path: Path) -> None:
    tree = CoresetTree(size=500).build(opened(folder, "price"), client=TWO)
    model = CoresetRegressor(Ridge(), tree=tree).fit()
    assert predict(model, everything(folder), out=tmp_path / "out", client=TWO) == 2000
    found = pd.read_parquet(tmp_path / "out")
    assert found.columns.tolist() == ["prediction"]
    np.testing.assert_allclose(found["prediction"], model.predict(frame), atol=1e-10)


def test_what_exists_is_not_touched(folder: Path, model: CoresetClassifier, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("precious")
    with pytest.raises(OutputExistsError, match="never written over anything"):
        predict(model, everything(folder), out=tmp_path / "out", client=TWO)
    assert [p.name for p in tmp_path.rglob("*")] == ["out", "mine.txt"]


class Breaks:
    """A model whose answers fail after some rows."""

    def __init__(self, model: Any) -> None:
        self.schema_, self.clean_ = model.schema_, model.clean_
        self.estimator_ = BrokenPipeline(model.estimator_)


class BrokenPipeline:
    def __init__(self, pipeline: Any) -> None:
        self.pipeline, self.calls = pipeline, 0

    def __getitem__(self, index: Any) -> Any:
        self.calls += 1
        if self.calls > 6:
            raise RuntimeError("broken")
        return self.pipeline[index]


def test_a_failure_midway_leaves_nothing_behind(folder: Path, model: CoresetClassifier, tmp_path: Path) -> None:
    with pytest.raises(CoretreeError, match="broken"):
        predict(Breaks(model), everything(folder), out=tmp_path / "out", client=TWO)
    assert list(tmp_path.iterdir()) == []

    def interrupt(stage: str, done: int, total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        predict(model, everything(folder), out=tmp_path / "out", client=TWO, progress=interrupt)
    assert list(tmp_path.iterdir()) == []


def test_a_leaf_without_rows_of_its_side(folder: Path, frame: pd.DataFrame, model: Any, tmp_path: Path) -> None:
    timed = frame.assign(when=pd.date_range("2020-01-01", periods=2000, freq="h"))
    where = write_files(tmp_path / "timed", timed, files=3)
    _, late = opened(where, time="when").split(by="time", cutoff=timed["when"].iloc[1500])
    assert predict(model, late, out=tmp_path / "out", columns=["number"], client=TWO) == 500
    assert pd.read_parquet(tmp_path / "out")["number"].tolist() == list(range(1500, 2000))
    _, none = opened(where, time="when").split(by="time", cutoff="2030-01-01")
    with pytest.raises(EmptyDataError, match="no row to predict"):
        predict(model, none, out=tmp_path / "none", client=TWO)
    assert not (tmp_path / "none").exists()


def test_columns_that_cannot_be_carried(folder: Path, model: CoresetClassifier, tmp_path: Path) -> None:
    with pytest.raises(SchemaError, match="'numbr'"):
        predict(model, everything(folder), out=tmp_path / "out", columns=["numbr"], client=TWO)
    with pytest.raises(ConfigError, match="'prediction' is the name of an answer"):
        predict(model, everything(folder), out=tmp_path / "out", columns=["prediction"], client=TWO)
    assert list(tmp_path.iterdir()) == []
