"""Frames as data sets: their schema, and leaves whose fingerprints follow the values."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from coretree.data.frames import first_row, frame_schema, scan_frame
from coretree.data.schema import Roles
from coretree.errors import EmptyDataError, SchemaError
from sample_data import MIXED, mixed_frame


def test_pandas_types_have_the_kinds_of_their_arrow_ones() -> None:
    frame = mixed_frame(30).assign(o=pd.Series([None] * 30, dtype=object), s=pd.Series(["a"] * 30, dtype="category"))
    schema, _ = frame_schema(frame, MIXED, "frame")
    kinds = {f.name: f.kind for f in schema.features}
    assert kinds == {
        "a": "numeric",
        "b": "numeric",
        "f": "boolean",
        "c": "categorical",
        "k": "categorical",
        "t": "datetime",
        "o": "categorical",  # an object column without a value: where pandas keeps text
        "s": "categorical",
    }
    assert schema.task == "classification"


@pytest.mark.parametrize(("span", "task"), [(99, "classification"), (100, "regression")])
def test_the_range_of_an_integer_target_decides_its_task(span: int, task: str) -> None:
    frame = pd.DataFrame({"x": [0.0, 1.0], "y": [0, span]})
    assert frame_schema(frame, Roles(target="y"), "frame")[0].task == task


def test_leaves_cover_the_rows_and_only_changed_ones_change() -> None:
    frame = mixed_frame(100)
    row_bytes = 8 * 7
    before, whole = scan_frame(frame, MIXED, 30 * row_bytes), scan_frame(frame, MIXED, 1 << 30)
    assert [(first_row(leaf), leaf.n_rows) for leaf in before.leaves] == [(0, 30), (30, 30), (60, 30), (90, 10)]
    assert whole.n_rows == before.n_rows == 100
    assert len(whole.leaves) == 1
    changed = frame.copy()
    changed.loc[42, "a"] = -1.0
    after = scan_frame(changed, MIXED, 30 * row_bytes)
    same = [a.fingerprint == b.fingerprint for a, b in zip(before.leaves, after.leaves, strict=True)]
    assert same == [True, False, True, True]
    unused = scan_frame(frame.assign(z=1), Roles(target="y", categorical=("k",), drop=("z",)), 30 * row_bytes)
    assert [leaf.fingerprint for leaf in unused.leaves] == [leaf.fingerprint for leaf in before.leaves]


@pytest.mark.parametrize(
    ("frame", "said"),
    [
        (pd.DataFrame({0: [1.0], "y": [1]}), r"column names must be text.*columns.astype\(str\)"),
        (pd.DataFrame({"x": pd.Series([1, "a"], dtype=object), "y": 1}), r"column 'x' mixes types.*astype\(str\)"),
        (pd.DataFrame([[1, 2, 3]], columns=["x", "x", "y"]), "column 'x' occurs 2 times"),
        (pd.DataFrame({"x": [1.0], "z": [1]}), r"no column 'y' \(named as target\)"),
    ],
)
def test_frames_that_cannot_be_used_are_refused(frame: pd.DataFrame, said: str) -> None:
    with pytest.raises(SchemaError, match=said):
        frame_schema(frame, Roles(target="y"), "frame")


def test_an_empty_frame_is_refused_when_it_is_planned() -> None:
    frame = mixed_frame(30).head(0)
    assert frame_schema(frame, MIXED, "frame")[0].target == "y"
    with pytest.raises(EmptyDataError, match="DataFrame of 0 rows: there is not one row"):
        scan_frame(frame, MIXED, 1000)


def test_a_frame_is_not_changed() -> None:
    frame = mixed_frame(50)
    before = frame.copy(deep=True)
    scan_frame(frame, MIXED, 100)
    pd.testing.assert_frame_equal(frame, before)
    assert np.isinf(frame.loc[3, "a"])
