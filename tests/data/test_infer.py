"""A column's role: what the user said wins over its type, its type over nothing; impossible wishes are named."""

from __future__ import annotations

import pyarrow as pa
import pytest

from coretree.data.infer import infer
from coretree.data.schema import Roles
from coretree.errors import SchemaError

TYPES = pa.schema(
    [
        ("num", pa.int64()),
        ("text", pa.string()),
        ("flag", pa.bool_()),
        ("when", pa.timestamp("us")),
        ("list", pa.list_(pa.int8())),
        ("y", pa.int64()),
    ]
)


def test_kinds_are_inferred_and_declarations_win() -> None:
    plain = infer(TYPES, Roles(target="y"), where="d")
    assert {f.name: f.kind for f in plain.features} == {
        "num": "numeric",
        "text": "categorical",
        "flag": "boolean",
        "when": "datetime",
    }
    assert plain.ignored == (("list", "type list<element: int8> is not used"),) or plain.ignored[0][0] == "list"
    said = infer(TYPES, Roles(target="y", categorical=("num",), datetime=("text",), drop=("flag",)), where="d")
    assert [(f.name, f.kind) for f in said.features][:2] == [("num", "categorical"), ("text", "datetime")]
    assert ("flag", "dropped") in said.ignored


@pytest.mark.parametrize("role", ["target", "group", "id", "weight"])
def test_special_columns_are_never_features(role: str) -> None:
    schema = infer(TYPES, Roles(**{role: "num"}), where="d")  # type: ignore[arg-type]
    assert "num" not in {f.name for f in schema.features}
    assert "num" in schema.columns


@pytest.mark.parametrize(
    ("type_", "span", "task"),
    [
        (pa.string(), None, "classification"),
        (pa.bool_(), None, "classification"),
        (pa.int64(), (0.0, 9.0), "classification"),
        (pa.int64(), (0.0, 100.0), "regression"),
        (pa.dictionary(pa.int8(), pa.int64()), (0.0, 9.0), "classification"),
        (pa.float64(), None, "regression"),
        (pa.decimal128(9, 2), None, "regression"),
    ],
)
def test_task_of_a_target(type_: pa.DataType, span: tuple[float, float] | None, task: str) -> None:
    types = pa.schema([("x", pa.float64()), ("y", type_)])
    assert infer(types, Roles(target="y"), where="d", target_range=span).task == task
    assert infer(types, Roles(target="y", task="regression"), where="d", target_range=span).task == "regression"


@pytest.mark.parametrize(
    ("roles", "said"),
    [
        (Roles(target="yy"), r"no column 'yy' \(named as target\). Did you mean 'y'"),
        (Roles(drop=("nun",)), r"named as drop\). Did you mean 'num'"),
        (Roles(time="text"), r"time column 'text' is string.*datetime = \[\"text\"\]"),
        (Roles(numeric=("when",)), r"column 'when' is timestamp\[us\] and cannot be read as numeric"),
        (Roles(datetime=("num",)), "column 'num' is int64 and cannot be read as datetime"),
        (Roles(target="y", drop=("num", "text", "flag", "when", "list")), "no feature is left"),
    ],
)
def test_impossible_wishes_are_named(roles: Roles, said: str) -> None:
    with pytest.raises(SchemaError, match=said):
        infer(TYPES, roles, where="d")


def test_repeated_names_are_refused() -> None:
    with pytest.raises(SchemaError, match="column 'a' occurs 2 times"):
        infer(pa.schema([("a", pa.int8()), ("a", pa.int8())]), Roles(), where="d")
