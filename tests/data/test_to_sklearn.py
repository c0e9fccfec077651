"""The fitted ColumnTransformer equals the streaming design, for every rule, on raw and on decoded rows."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from sklearn.base import clone
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from coretree.data.clean import CleanRules
from coretree.data.encode import clean_frame, decode, design, global_codes
from coretree.data.prepare import Preparation, PrepareRules
from coretree.data.schema import Roles
from coretree.data.to_sklearn import features, to_sklearn
from sample_data import MIXED, cleaned, mixed_frame, prepared

GRID = [
    PrepareRules(missing=m, scale=s, categorical=c, indicator=i, clip=q, missing_categorical=mc)  # type: ignore[arg-type]
    for m, s, c, i, q, mc in itertools.product(
        ["mean", "median", "most_frequent", "constant"],
        ["standard", "robust", "minmax", "none"],
        ["onehot", "ordinal", "none"],
        [False, True],
        [None, (0.01, 0.99)],
        ["category", "most_frequent"],
    )
]
# every pair of neighbouring values of the rules meets in a slice whose step shares no factor with their numbers
SLICE = GRID[::37]


def same(frame: pd.DataFrame, roles: Roles, rules: PrepareRules, tolerance: float = 1e-9) -> Preparation:
    """Check raw rows, raw rows as objects, and decoded rows against the design."""
    prep, columns = prepared(frame, roles, rules)
    blocks = {"numbers": columns.numbers, "times": columns.times, "codes": global_codes(columns, prep)}
    wanted = design(blocks, prep)[:, 1:]
    transformer = to_sklearn(prep)
    raw = frame.drop(columns=[c for c in (roles.target,) if c])
    as_objects = raw.astype(dict.fromkeys(prep.schema.categories, object))
    for name in prep.schema.categories:
        as_objects[name] = as_objects[name].where(as_objects[name].notna(), None)
    for rows in (raw, decode(blocks, prep), as_objects):
        found = transformer.transform(rows)
        assert found.shape == (len(frame), prep.n_features)
        for prepare, order in ((transformer, "C"), (Pipeline([("prepare", transformer)]), "F")):
            once = features(prepare, rows, order)
            np.testing.assert_array_equal(once, found)
            assert once.flags[f"{order}_CONTIGUOUS"]
        np.testing.assert_allclose(found, wanted, atol=tolerance)
    assert len(transformer.get_feature_names_out()) == prep.n_features
    return prep


@pytest.mark.parametrize("rules", SLICE, ids=str)
def test_the_pipeline_is_the_design(rules: PrepareRules) -> None:
    same(mixed_frame(400), MIXED, rules)


@pytest.mark.slow
@pytest.mark.parametrize("rules", GRID, ids=str)
def test_the_pipeline_is_the_design_for_all_rules(rules: PrepareRules) -> None:
    same(mixed_frame(3000), MIXED, rules)


@pytest.mark.parametrize(("how", "missing"), [("onehot", "category"), ("ordinal", "most_frequent")])
@pytest.mark.parametrize(
    "levels",
    [
        ["a"] * 40,  # one level
        [None] * 40,  # none at all
        [f"id{i}" for i in range(40)],  # all rare
        [*[f"id{i}" for i in range(39)], None],
        ["(other)"] * 20 + ["(missing)"] * 15 + [None] * 5,
        ["(missing)"] + ["a"] * 20 + [None] * 19,  # a rare level that reads like the marker
        ["(other)"] + ["a"] * 38 + [None],
        ["a"] * 39 + [None],  # missing is rare
        ["", " ", "a", "ä\n"] * 10,
    ],
    ids=lambda v: f"{v[0]}-{v[-1]}",
)
def test_odd_levels(levels: list[str | None], missing: Any, how: Any) -> None:
    frame = pd.DataFrame({"c": pd.Series(levels, dtype="str"), "x": np.arange(40.0), "y": np.arange(40) % 2})
    rules = PrepareRules(categorical=how, missing_categorical=missing, min_frequency=0.1)
    prep = same(frame, Roles(target="y"), rules)
    unseen_levels_are_pooled(prep, frame, pd.Series(["never seen"], dtype="str"))


@pytest.mark.parametrize(("how", "missing"), [("onehot", "category"), ("ordinal", "most_frequent")])
@pytest.mark.parametrize(
    "codes",
    [
        [1, 2, None, 3] * 10,
        [-1, 0] * 20,
        list(range(40)),
        [*range(39), None],
        [5] * 40,
        [0] + [1] * 20 + [None] * 19,
    ],
    ids=lambda v: f"{v[0]}-{v[-1]}",
)
def test_odd_numeric_levels(codes: list[int | None], missing: Any, how: Any) -> None:
    frame = pd.DataFrame({"k": pd.array(codes, dtype="Int64"), "x": np.arange(40.0), "y": np.arange(40) % 2})
    rules = PrepareRules(categorical=how, missing_categorical=missing, min_frequency=0.1)
    prep = same(frame, Roles(target="y", categorical=("k",)), rules)
    for unseen in (99, -7):
        unseen_levels_are_pooled(prep, frame, pd.Series([unseen], dtype="Int64"))


def unseen_levels_are_pooled(prep: Preparation, frame: pd.DataFrame, value: pd.Series) -> None:
    name = prep.categories[0].name
    row = frame.head(1).assign(**{name: value})
    columns = cleaned_as(row, prep)
    blocks = {"numbers": columns.numbers, "times": columns.times, "codes": global_codes(columns, prep)}
    assert blocks["codes"][0, 0] == len(prep.categories[0].levels)
    np.testing.assert_allclose(to_sklearn(prep).transform(row), design(blocks, prep)[:, 1:], atol=1e-12)


def cleaned_as(row: pd.DataFrame, prep: Preparation) -> Any:
    return cleaned(pa.Table.from_pandas(row, preserve_index=False), schema=prep.schema)


@pytest.mark.parametrize("indicator", [False, True])
@pytest.mark.parametrize("missing", ["mean", "median", "most_frequent", "constant"])
def test_columns_without_a_value_and_constant_ones(missing: Any, indicator: bool) -> None:
    frame = pd.DataFrame(
        {"none": np.full(60, np.nan), "one": 3.0, "some": [np.nan, 2.0, 3.0] * 20, "t": pd.NaT, "y": np.arange(60) % 2}
    )
    frame["t"] = frame["t"].astype("datetime64[us]")
    for scale in ("standard", "robust", "minmax", "none"):
        same(frame, Roles(target="y"), PrepareRules(missing=missing, indicator=indicator, scale=scale))  # type: ignore[arg-type]


def test_any_column_name_will_do() -> None:
    frame = pd.DataFrame(
        {
            "remainder": ["a", "b"] * 20,
            "a__b": ["u", "v"] * 20,
            "numeric": ["p", "q"] * 20,
            "when": pd.date_range("2013-01-01", periods=40),
            "when_hour": np.arange(40.0),
            "y": np.arange(40) % 2,
        }
    )
    same(frame, Roles(target="y"), PrepareRules())
    names = to_sklearn(prepared(frame, Roles(target="y"))[0]).get_feature_names_out()
    assert len(set(names)) == len(names)


def test_features_of_other_transformers_are_their_own() -> None:
    """Sparse ones stay sparse, and a second step is not left out."""
    frame = pd.DataFrame({"f": ["x", "y", "x"]})
    sparse = OneHotEncoder().fit(frame)
    assert (features(sparse, frame) != sparse.transform(frame)).nnz == 0
    prep, _ = prepared(mixed_frame(50), MIXED, PrepareRules())
    rows = mixed_frame(50)
    two = make_pipeline(to_sklearn(prep), StandardScaler().fit(to_sklearn(prep).transform(rows)))
    np.testing.assert_array_equal(features(two, rows), two.transform(rows))
    assert (features(two, rows) != features(two[:1], rows)).any()


def test_other_columns_and_their_order_do_not_matter() -> None:
    frame = mixed_frame(200)
    prep, _ = prepared(frame, MIXED)
    transformer = to_sklearn(prep)
    shuffled = frame[["t", "k", "y", "a", "c", "f", "b"]].assign(extra="z")
    np.testing.assert_array_equal(transformer.transform(frame), transformer.transform(shuffled))
    assert list(transformer.get_feature_names_out())[:3] == ["a", "b", "f"]
    clone(transformer)


def test_rows_that_are_infinite_count_as_missing() -> None:
    frame = mixed_frame(200)
    transformer = to_sklearn(prepared(frame, MIXED)[0])
    a = transformer.transform(frame.head(2).assign(a=[np.inf, -np.inf]))
    np.testing.assert_array_equal(a, transformer.transform(frame.head(2).assign(a=np.nan)))


def test_nullable_types() -> None:
    frame = mixed_frame(200)
    prep, _ = prepared(frame, MIXED)
    transformer = to_sklearn(prep)
    wanted = transformer.transform(frame)
    nullable = frame.astype({"a": "Float64", "b": "Int64", "f": "boolean", "c": "category"})
    np.testing.assert_allclose(transformer.transform(nullable), wanted, atol=1e-6)
    # text with pd.NA is the one thing scikit-learn refuses; cleaning first, as our estimators do, takes it
    text = frame.astype({"c": "string[python]"})
    with pytest.raises(TypeError, match="NA is ambiguous"):
        transformer.transform(text)
    np.testing.assert_allclose(transformer.transform(clean_frame(text, prep.schema, CleanRules())), wanted, atol=1e-12)


def test_one_row_and_a_schema_of_one_kind() -> None:
    for columns in (["a"], ["c"], ["t"], ["k"]):
        frame = mixed_frame(100)[[*columns, "y"]]
        prep = same(frame, Roles(target="y", categorical=tuple(c for c in columns if c == "k")), PrepareRules())
        assert to_sklearn(prep).transform(frame.head(1)).shape == (1, prep.n_features)
