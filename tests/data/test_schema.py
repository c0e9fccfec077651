"""Roles refuse contradictions; kinds follow types; types of different files unite only where no value changes."""

from __future__ import annotations

import json

import pyarrow as pa
import pytest

from coretree.data.schema import Feature, Roles, Schema, common_type, is_text, kind_of, unknown_column
from coretree.errors import ConfigError


@pytest.mark.parametrize(
    ("type_", "kind"),
    [
        (pa.float16(), "numeric"),
        (pa.uint8(), "numeric"),
        (pa.decimal128(9, 2), "numeric"),
        (pa.null(), "numeric"),
        (pa.bool_(), "boolean"),
        (pa.date32(), "datetime"),
        (pa.timestamp("ns", "UTC"), "datetime"),
        (pa.large_string(), "categorical"),
        (pa.string_view(), "categorical"),
        (pa.dictionary(pa.int8(), pa.string()), "categorical"),
        (pa.dictionary(pa.int8(), pa.int64()), "numeric"),
        (pa.list_(pa.int8()), None),
        (pa.binary(), None),
        (pa.struct([("x", pa.int8())]), None),
    ],
)
def test_kind_of_every_type(type_: pa.DataType, kind: str | None) -> None:
    assert kind_of(type_) == kind
    assert is_text(type_) == (kind == "categorical")


@pytest.mark.parametrize(
    ("roles", "said"),
    [
        ({"numeric": ("a",), "categorical": ("a",)}, "both in numeric and in categorical|both in"),
        ({"target": "a", "drop": ("a",)}, "as target and in drop"),
        ({"target": "a", "weight": "a"}, "as target and as weight"),
    ],
)
def test_contradicting_roles_are_refused(roles: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said) as error:
        Roles(**roles)  # type: ignore[arg-type]
    assert "'a'" in str(error.value)


def test_a_single_name_is_a_list_of_one() -> None:
    assert Roles(drop="id").drop == ("id",)  # type: ignore[arg-type]
    assert Roles(drop=["id", "x"]).drop == ("id", "x")  # type: ignore[arg-type]


def test_role_of_finds_the_role() -> None:
    roles = Roles(target="auto", time="t", drop=("d",))
    assert [roles.role_of(c) for c in ("auto", "t", "d", "other")] == ["target", "time", "drop", "column"]


@pytest.mark.parametrize(
    ("types", "united"),
    [
        ([pa.float32(), pa.float64()], pa.float64()),
        ([pa.int32(), pa.int64()], pa.int64()),
        ([pa.int64(), pa.float64()], pa.float64()),
        ([pa.bool_(), pa.int64()], pa.float64()),
        ([pa.null(), pa.string()], pa.string()),
        ([pa.string(), pa.large_string()], pa.large_string()),
        ([pa.dictionary(pa.int8(), pa.string()), pa.string()], pa.string()),
        ([pa.string(), pa.int64()], None),
        ([pa.timestamp("us"), pa.float64()], None),
        ([pa.bool_(), pa.string()], None),
        ([pa.timestamp("us"), pa.timestamp("us", "UTC")], None),
        ([pa.list_(pa.int8()), pa.int8()], None),
    ],
)
def test_common_type(types: list[pa.DataType], united: pa.DataType | None) -> None:
    assert common_type(types) == united
    assert common_type(types[::-1]) == united


def test_number_dtype_is_float32_only_where_every_type_is_exact_in_it() -> None:
    def schema(*types: str) -> Schema:
        return Schema(tuple(Feature(f"c{i}", "numeric", t) for i, t in enumerate(types)), None, None)

    assert schema("float", "uint8", "int16", "bool").number_dtype == "float32"
    assert schema("float", "int32").number_dtype == "float64"
    assert schema("double").number_dtype == "float64"


def test_plain_data_round_trip() -> None:
    schema = Schema(
        (Feature("a", "numeric", "double"),), "y", "classification", id="i", ignored=(("l", "list"),), carried=("u",)
    )
    assert Schema.from_dict(json.loads(json.dumps(schema.to_dict()))) == schema
    assert schema.columns == ("a", "y", "i", "u")
    assert schema.for_prediction(["v"]).columns == ("a", "v")


def test_unknown_column_suggests_near_names() -> None:
    assert "Did you mean 'target'" in str(unknown_column("taget", ["a", "target"], where="d", role="target"))
    assert "It has: a, b" in str(unknown_column("zzz", ["a", "b"], where="d", role="target"))
