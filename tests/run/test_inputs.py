"""Whatever holds rows becomes a Dataset, and is left as it was."""

from __future__ import annotations

from pathlib import Path

import dask.dataframe as dd
import numpy as np
import pandas as pd
import pytest

from coretree import CoresetRegressor, Dataset, evaluate, predict
from coretree.errors import ConfigError, SchemaError
from coretree.run.inputs import as_dataset

FRAME = pd.DataFrame({"a": [1.0, 2.0, 3.0, 4.0], "target": [0.5, 0.25, 1.0, 2.0]})


def test_the_target_and_the_weight_get_names_of_their_own() -> None:
    before = FRAME.copy()
    data = as_dataset(FRAME, [0, 1, 0, 1], [1, 2, 3, 4], "classification")
    assert data.roles.target == "target_"
    assert data.roles.weight == "sample_weight"
    assert [f.name for f in data.schema.features] == ["a", "target"]
    pd.testing.assert_frame_equal(FRAME, before)


def test_a_dask_frame_carries_its_target_and_weight_along() -> None:
    frame = dd.from_pandas(FRAME, npartitions=2)
    data = as_dataset(frame[["a"]], frame["target"] > 0.6, frame["target"], "classification")
    assert (data.roles.target, data.roles.weight) == ("target", "sample_weight")
    assert [f.name for f in data.schema.features] == ["a"]
    with pytest.raises(ConfigError, match="y is missing"):
        as_dataset(frame, None, None, "classification")


def test_a_dataset_stays_itself() -> None:
    data = Dataset.from_pandas(FRAME, target="a")
    assert as_dataset(data, None, None, "regression") is data
    with pytest.raises(ConfigError, match="names its own target"):
        as_dataset(data, [1], None, "regression")


def test_only_tables() -> None:
    with pytest.raises(ConfigError, match=r"found an array of shape \(2, 2, 2\)"):
        as_dataset(np.zeros((2, 2, 2)), [0, 1], None, "classification")


def test_columns_at_predict_are_told_missing_and_extra(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(300, 4)), columns=["distance", "hour", "b", "y"])
    model = CoresetRegressor(size=200).fit(frame, "y")
    wrong = frame.rename(columns={"distance": "distanse", "b": "other"})
    words = (
        r"needs 'distance', 'b', found no such column\. It has 'distanse', 'other'.*'distanse' meant for 'distance'\?"
    )
    with pytest.raises(SchemaError, match="DataFrame: the model " + words.replace("'other'", "'other', 'y'")):
        model.predict(wrong)
    with pytest.raises(SchemaError, match="Dask DataFrame: the model needs 'distance', 'b'"):
        model.predict(dd.from_pandas(wrong, npartitions=2))
    data = Dataset.from_pandas(wrong, target="y")
    with pytest.raises(SchemaError, match=words):
        evaluate(model, data)
    with pytest.raises(SchemaError, match=words):
        predict(model, data, out=tmp_path / "out")
    assert not list(tmp_path.iterdir())
    more = frame.assign(extra=1.0)[["extra", "b", "hour", "distance"]]  # further columns and another order do no harm
    np.testing.assert_array_equal(model.predict(more), model.predict(frame))
    with pytest.raises(ConfigError, match="X has 2 features, but CoresetRegressor is expecting 3"):
        model.predict(frame[["distance", "hour"]].to_numpy())
