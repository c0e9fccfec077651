"""Whatever holds rows becomes a Dataset, and is left as it was."""

from __future__ import annotations

import dask.dataframe as dd
import numpy as np
import pandas as pd
import pytest

from coretree import Dataset
from coretree.errors import ConfigError
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
