"""What each column is for: target, features by kind, and the columns that identify, weigh, group or date a row."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from difflib import get_close_matches
from typing import Any, Literal

import pyarrow as pa
import pyarrow.types as pt

from coretree.errors import ConfigError, SchemaError

Kind = Literal["numeric", "boolean", "datetime", "categorical"]
Task = Literal["classification", "regression"]

_EXACT_IN_FLOAT32 = {"float", "halffloat", "int8", "int16", "uint8", "uint16", "bool", "null"}


@dataclass(frozen=True)
class Roles:
    """What the user says of the columns; everything else is inferred from the types in the files.

    Parameters
    ----------
    target : str or None
        Column to predict. None for data that will only be predicted on.
    task : {"auto", "classification", "regression"}
        "auto": text, boolean and small-range integer targets are classes, floating-point ones are quantities.
    time, group, id, weight : str or None
        Event time (also a feature, by its parts); rows that must stay together in a split; the row's own identity;
        its base weight (non-negative). Group, id and weight are never features.
    drop : sequence of str
        Columns never read.
    numeric, categorical, boolean, datetime : sequence of str
        Columns whose kind is declared instead of inferred. A text column declared numeric or datetime is parsed;
        cells that do not parse become missing and are counted.
    """

    target: str | None = None
    task: Literal["auto", "classification", "regression"] = "auto"
    time: str | None = None
    group: str | None = None
    id: str | None = None
    weight: str | None = None
    drop: tuple[str, ...] = ()
    numeric: tuple[str, ...] = ()
    categorical: tuple[str, ...] = ()
    boolean: tuple[str, ...] = ()
    datetime: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Accept any sequence for the lists, refuse a column with two kinds, or one that is dropped and needed."""
        for field in ("drop", "numeric", "categorical", "boolean", "datetime"):
            value = getattr(self, field)
            object.__setattr__(self, field, (value,) if isinstance(value, str) else tuple(value))
        seen: dict[str, str] = {}
        for field in ("drop", "numeric", "categorical", "boolean", "datetime"):
            for name in getattr(self, field):
                if name in seen:
                    raise ConfigError(
                        f"column '{name}' is named both in {seen[name]} and in {field}; keep one of them."
                    )
                seen[name] = field
        for field in ("target", "time", "group", "id", "weight"):
            name = getattr(self, field)
            if name is not None and name in self.drop:
                raise ConfigError(f"column '{name}' is named both as {field} and in drop; keep one of them.")
            if name is not None and name == self.target and field != "target":
                raise ConfigError(f"column '{name}' is named both as target and as {field}; keep one of them.")

    def role_of(self, name: str) -> str:
        """The first role that a column was given, for messages.

        Examples
        --------
        >>> Roles(target="late", drop=("id",)).role_of("id")
        'drop'
        """
        for field in self.__dataclass_fields__:
            value = getattr(self, field)
            if field != "task" and (name == value or (isinstance(value, tuple) and name in value)):
                return field
        return "column"

    @property
    def named(self) -> tuple[str, ...]:
        """Every column that the user named, in order, each once."""
        single = [c for c in (self.target, self.time, self.group, self.id, self.weight) if c is not None]
        return tuple(
            dict.fromkeys([*single, *self.drop, *self.numeric, *self.categorical, *self.boolean, *self.datetime])
        )


@dataclass(frozen=True)
class Feature:
    """One input column: its name, its kind and its type in the files (Arrow's name for it)."""

    name: str
    kind: Kind
    type: str

    @property
    def is_text(self) -> bool:
        """Whether the values are text, so that a category's levels are."""
        return "string" in self.type


@dataclass(frozen=True)
class Schema:
    """The columns a run reads, by role; part of the recipe, so it is plain data.

    ``numeric`` and ``boolean`` features share one floating-point block, which is float32 where every one of their
    types is exact in it and float64 otherwise. ``carried`` columns are read and passed along, never learned from.
    """

    features: tuple[Feature, ...]
    target: str | None
    task: Task | None
    time: str | None = None
    group: str | None = None
    id: str | None = None
    weight: str | None = None
    ignored: tuple[tuple[str, str], ...] = ()
    carried: tuple[str, ...] = ()

    def of_kind(self, *kinds: Kind) -> tuple[str, ...]:
        """Names of the features of these kinds, in file order."""
        return tuple(f.name for f in self.features if f.kind in kinds)

    @property
    def numbers(self) -> tuple[str, ...]:
        """Features of the floating-point block."""
        return self.of_kind("numeric", "boolean")

    @property
    def times(self) -> tuple[str, ...]:
        """Datetime features."""
        return self.of_kind("datetime")

    @property
    def categories(self) -> tuple[str, ...]:
        """Categorical features."""
        return self.of_kind("categorical")

    @property
    def number_dtype(self) -> Literal["float32", "float64"]:
        """Type of the floating-point block."""
        exact = all(f.type in _EXACT_IN_FLOAT32 for f in self.features if f.kind in ("numeric", "boolean"))
        return "float32" if exact else "float64"

    @property
    def columns(self) -> tuple[str, ...]:
        """Every column that has to be read, each once."""
        extra = [c for c in (self.target, self.time, self.group, self.id, self.weight) if c is not None]
        return tuple(dict.fromkeys([*(f.name for f in self.features), *extra, *self.carried]))

    def for_prediction(self, carried: Sequence[str] = ()) -> Schema:
        """The features alone, and columns that are passed along beside a prediction."""
        plain = replace(self, target=None, task=None, time=None, group=None, id=None, weight=None)
        return replace(plain, carried=tuple(carried))

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Schema:
        """Inverse of ``to_dict``."""
        features = tuple(Feature(**f) for f in value["features"])
        ignored = tuple((str(a), str(b)) for a, b in value["ignored"])
        return cls(**{**value, "features": features, "ignored": ignored, "carried": tuple(value["carried"])})


def kind_of(type_: pa.DataType) -> Kind | None:
    """Kind inferred from an Arrow type, None where coretree has no use for it (lists, structs, binary, ...)."""
    if pt.is_dictionary(type_):
        return kind_of(type_.value_type)
    if pt.is_boolean(type_):
        return "boolean"
    if pt.is_integer(type_) or pt.is_floating(type_) or pt.is_decimal(type_) or pt.is_null(type_):
        return "numeric"
    if pt.is_timestamp(type_) or pt.is_date(type_):
        return "datetime"
    if is_text(type_):
        return "categorical"
    return None


def is_text(type_: pa.DataType) -> bool:
    """Whether an Arrow type holds text, plain or in a dictionary."""
    plain = type_.value_type if pt.is_dictionary(type_) else type_
    return bool(pt.is_string(plain) or pt.is_large_string(plain) or pt.is_string_view(plain))


def unknown_column(name: str, known: Iterable[str], *, where: str, role: str) -> SchemaError:
    """Error for a column that is not there, with the nearest names."""
    names = list(known)
    near = get_close_matches(name, names, n=3, cutoff=0.5)
    hint = f"Did you mean {' or '.join(repr(n) for n in near)}?" if near else f"It has: {', '.join(names[:20])}."
    return SchemaError(f"{where}: no column '{name}' (named as {role}). {hint}")


def common_type(types: Sequence[pa.DataType]) -> pa.DataType | None:
    """The type that holds all of ``types`` without changing what a value means, None where there is none.

    Numbers widen to numbers, nulls take the other type, text stays text; text and numbers do not mix.
    """
    plain = [t.value_type if pt.is_dictionary(t) else t for t in types]
    kinds = {kind_of(t) for t in plain if not pt.is_null(t)}
    if len(kinds - {"boolean"}) > 1 or None in kinds:
        return None
    if kinds == {"categorical"}:
        return pa.large_string() if len(set(plain) - {pa.null()}) > 1 else next(t for t in plain if not pt.is_null(t))
    try:
        return (
            pa.unify_schemas([pa.schema([("c", t)]) for t in dict.fromkeys(plain)], promote_options="permissive")
            .field(0)
            .type
        )
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        return pa.float64() if kinds <= {"numeric", "boolean"} else None
