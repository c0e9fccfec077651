"""What a column is, from its type in the files and what the user said of it."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.types as pt

from coretree.data.schema import Feature, Kind, Roles, Schema, Task, kind_of, unknown_column
from coretree.errors import SchemaError

# Integers with so few possible values are taken for class labels rather than quantities.
MAX_INTEGER_CLASSES = 100


def infer(schema: pa.Schema, roles: Roles, *, where: str, target_range: tuple[float, float] | None = None) -> Schema:
    """Give every column of an Arrow schema its role.

    Parameters
    ----------
    schema : pyarrow.Schema
        The one schema of all files.
    roles : Roles
        The user's declarations; they win over inference.
    where : str
        Path or name of the data, for messages.
    target_range : (float, float), optional
        Smallest and largest value of an integer target, from the footers; decides between classes and quantities.

    Raises
    ------
    SchemaError
        A named column is missing, a name is repeated, or no feature is left.
    """
    _check_names(schema, roles, where)
    special = {roles.target, roles.group, roles.id, roles.weight} | set(roles.drop)
    declared: dict[str, Kind] = {}
    for kind in ("numeric", "categorical", "boolean", "datetime"):
        declared |= dict.fromkeys(getattr(roles, kind), kind)
    features, ignored = [], []
    for field in schema:
        if field.name in special:
            if field.name in roles.drop:
                ignored.append((field.name, "dropped"))
            continue
        found = declared.get(field.name, kind_of(field.type))
        if found is None:
            ignored.append((field.name, f"type {field.type} is not used"))
            continue
        _check_declared(field, found, where)
        type_ = field.type.value_type if pt.is_dictionary(field.type) else field.type
        features.append(Feature(field.name, found, str(type_)))
    if not features:
        raise SchemaError(
            f"{where}: no feature is left besides the target and the named columns; found {schema.names}."
        )
    return Schema(
        features=tuple(features),
        target=roles.target,
        task=None if roles.target is None else _task(schema.field(roles.target), roles, target_range),
        time=roles.time,
        group=roles.group,
        id=roles.id,
        weight=roles.weight,
        ignored=tuple(ignored),
    )


def _check_names(schema: pa.Schema, roles: Roles, where: str) -> None:
    repeated = sorted({n for n in schema.names if schema.names.count(n) > 1})
    if repeated:
        raise SchemaError(
            f"{where}: column '{repeated[0]}' occurs {schema.names.count(repeated[0])} times "
            f"({len(repeated)} repeated names). Rename or remove the repeats: columns are matched by name."
        )
    for role in ("target", "time", "group", "id", "weight"):
        name = getattr(roles, role)
        if name is not None and name not in schema.names:
            raise unknown_column(name, schema.names, where=where, role=role)
    for role in ("drop", "numeric", "categorical", "boolean", "datetime"):
        for name in getattr(roles, role):
            if name not in schema.names:
                raise unknown_column(name, schema.names, where=where, role=role)
    if roles.time is not None:
        _check_time(schema.field(roles.time), roles, where)


def _check_time(field: pa.Field, roles: Roles, where: str) -> None:
    if field.name not in roles.datetime and kind_of(field.type) != "datetime":
        raise SchemaError(
            f"{where}: time column '{field.name}' is {field.type}, but must be a timestamp or date. "
            f'Declare it with datetime = ["{field.name}"] to have its text parsed.'
        )


def _check_declared(field: pa.Field, kind: Kind, where: str) -> None:
    natural = kind_of(field.type)
    fits = {
        "numeric": natural in ("numeric", "boolean", "categorical"),
        "boolean": natural in ("boolean", "numeric"),
        "datetime": natural in ("datetime", "categorical"),
        "categorical": natural in ("categorical", "numeric"),
    }[kind]
    if not fits:
        raise SchemaError(
            f"{where}: column '{field.name}' is {field.type} and cannot be read as {kind}. "
            f'Declare another kind, or leave it out: drop = ["{field.name}"].'
        )


def _task(field: pa.Field, roles: Roles, target_range: tuple[float, float] | None) -> Task:
    if roles.task != "auto":
        return roles.task
    kind = kind_of(field.type)
    if kind in ("categorical", "boolean"):
        return "classification"
    type_ = field.type.value_type if pt.is_dictionary(field.type) else field.type
    if pt.is_integer(type_) and (target_range is None or target_range[1] - target_range[0] < MAX_INTEGER_CLASSES):
        return "classification"
    return "regression"
