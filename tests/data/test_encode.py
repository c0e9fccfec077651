"""The design matrix: exact offsets, finite everywhere, and rows that decode to what they were."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from coretree.data.clean import CleanRules
from coretree.data.columns import Coded
from coretree.data.encode import class_codes, clean_frame, decode, design, global_codes, to_frame
from coretree.data.prepare import PrepareRules
from coretree.data.schema import Roles
from coretree.errors import SchemaError, TargetError
from sample_data import MIXED, mixed_frame, prepared


def blocks(columns, prep):  # type: ignore[no-untyped-def]
    return {"numbers": columns.numbers, "times": columns.times, "codes": global_codes(columns, prep)}


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_the_design_is_finite_with_a_constant_first(dtype: str) -> None:
    prep, columns = prepared(mixed_frame(), MIXED, PrepareRules(indicator=True))
    A = design(blocks(columns, prep), prep, dtype)  # type: ignore[arg-type]
    assert A.shape == (len(columns), 1 + prep.n_features)
    assert A.dtype == dtype
    assert A.flags.f_contiguous
    assert np.isfinite(A).all()
    assert (A[:, 0] == 1).all()
    np.testing.assert_allclose(A[:, 1 : 1 + 3].mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(A, design(blocks(columns, prep), prep), atol=1e-5)


@pytest.mark.parametrize("offset", [0.0, 1e6])
def test_float32_columns_far_from_zero_keep_their_centre(offset: float) -> None:
    x = (offset + np.random.default_rng(0).normal(size=5000)).astype(np.float32)
    prep, columns = prepared(pd.DataFrame({"x": x, "y": np.arange(5000) % 2}), Roles(target="y"))
    wanted = (x.astype(np.float64) - x.astype(np.float64).mean()) / x.astype(np.float64).std()
    for dtype in ("float32", "float64"):
        A = design(blocks(columns, prep), prep, dtype)  # type: ignore[arg-type]
        np.testing.assert_allclose(A[:, 1], wanted, atol=2e-6)


def test_decoded_rows_are_the_rows() -> None:
    frame = mixed_frame()
    prep, columns = prepared(frame, MIXED, PrepareRules(min_frequency=0.01))
    rows = decode(blocks(columns, prep), prep)
    assert list(rows) == [f.name for f in prep.schema.features]
    np.testing.assert_array_equal(rows["a"], frame["a"].replace(np.inf, np.nan))
    np.testing.assert_array_equal(rows["f"], frame["f"].astype(float))
    assert rows["t"].equals(frame["t"].astype(rows["t"].dtype))
    known = frame["c"].where(frame["c"] != "rare", "(other)")
    assert [None if pd.isna(v) else v for v in rows["c"]] == [None if pd.isna(v) else v for v in known]
    assert rows["c"].dtype == pd.Series(["a"], dtype="str").dtype
    k = frame["k"].astype("float64").replace(77.0, 78.0)  # pooled: the largest level seen, plus one
    np.testing.assert_array_equal(rows["k"], k)


def test_cleaned_frames_keep_rare_and_unseen_levels() -> None:
    frame = mixed_frame()
    prep, columns = prepared(frame, MIXED)
    rows = to_frame(columns)
    assert set(rows["c"].dropna()) == set(frame["c"].dropna())
    new = frame.head(4).assign(c=["new", "x", None, "?"], y=0)
    out = clean_frame(new, prep.schema, CleanRules(missing_values=("?",)))
    assert [None if pd.isna(v) else v for v in out["c"]] == ["new", "x", None, None]
    assert len(out) == 4  # no row is dropped
    assert "y" not in out


def test_cleaning_a_frame_takes_every_pandas_type() -> None:
    frame = mixed_frame(100)
    schema = prepared(frame, MIXED)[0].schema
    plain = clean_frame(frame, schema, CleanRules())
    for types in (
        {"c": "string"},
        {"c": "category", "f": "boolean", "b": "Int64"},
        {"c": object, "k": "float64", "a": "Float64", "t": object},
    ):
        pd.testing.assert_frame_equal(clean_frame(frame.astype(types), schema, CleanRules()), plain)


def test_frames_without_rows_or_columns() -> None:
    frame = mixed_frame()
    prep, _ = prepared(frame, MIXED)
    empty = clean_frame(frame.head(0), prep.schema, CleanRules())
    assert len(empty) == 0
    assert list(empty) == ["a", "b", "f", "c", "k", "t"]
    assert design(
        {"numbers": np.zeros((0, 3)), "times": np.zeros((0, 1)), "codes": np.zeros((0, 2), int)}, prep
    ).shape == (
        0,
        1 + prep.n_features,
    )
    with pytest.raises(SchemaError, match="DataFrame: column 'b' is missing"):
        clean_frame(frame.drop(columns="b"), prep.schema, CleanRules())


def test_classes_have_one_number_and_unseen_ones_are_named() -> None:
    target = Coded(np.array([1, 0, 1], dtype=np.int32), ("b", "a"))
    assert class_codes(target, ("a", "b", "c"), "d").tolist() == [0, 1, 0]
    with pytest.raises(
        TargetError, match=r"part.0: 2 rows have a class that no training row has \(first: 'a'\).*\['b'\]"
    ):
        class_codes(target, ("b",), "part.0")
