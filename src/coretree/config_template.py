"""Write a commented job file to start from: every key with its meaning, the given ones set, the others as defaults."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from typing import Any

from pydantic import ByteSize
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from coretree.config import Job
from coretree.errors import ConfigError


def starter_toml(values: Mapping[str, Mapping[str, Any]]) -> str:
    """Text of a job file, for ``coretree init``.

    Parameters
    ----------
    values : mapping of section to mapping of key to value
        What is known; ``data.train`` and ``data.target`` at least. None leaves a key at its default.

    Returns
    -------
    str
        TOML that `coretree.config.load_job` accepts; keys that were not given are comments showing the default.

    Raises
    ------
    ConfigError
        If the values would not make a valid job.

    Examples
    --------
    >>> text = starter_toml({"data": {"train": "flights/", "target": "late"}})
    >>> print(text.splitlines()[2])
    [data]  # Where the rows are, and what their columns mean.
    >>> tomllib.loads(text)["data"]
    {'train': 'flights/', 'target': 'late'}
    """
    Job.model_validate({name: _given(section) for name, section in values.items()})
    lines = [
        "# A coretree job. Lines behind a '#' show defaults: take the '#' away and fill in a value to change one.",
        "",
    ]
    for name, field in Job.model_fields.items():
        section = field.annotation
        if section is None:
            continue
        lines.append(f"[{name}]  # {(section.__doc__ or '').splitlines()[0]}")
        given = _given(values.get(name, {}))
        for key, option in section.model_fields.items():
            lines.append(_option_line(key, option, given))
        lines.append("")
    text = "\n".join(lines)
    Job.model_validate(tomllib.loads(text))
    return text


def _given(section: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in section.items() if value is not None}


def _option_line(key: str, option: FieldInfo, given: Mapping[str, Any]) -> str:
    name = option.alias or key
    for spelled in (name, key):
        if spelled in given:
            return f"{name} = {toml_value(given[spelled])}  # {option.description}"
    default = option.get_default(call_default_factory=True, validated_data={})
    shown = "" if default is None or default is PydanticUndefined else f" {toml_value(default)}"
    return f"# {name} ={shown}  # {option.description}"


def toml_value(value: Any) -> str:
    r"""Spell a plain value in TOML.

    Raises
    ------
    ConfigError
        If TOML has no such value.

    Examples
    --------
    >>> toml_value({"a b": [1, 0.5, True, 'say "x"']})
    '{"a b" = [1, 0.5, true, "say \\"x\\""]}'
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        # JSON's escapes are TOML's too; only DEL must be escaped in TOML and is not in JSON
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, ByteSize) and value % 2**20 == 0:
        return f'"{value // 2**20}MiB"'
    if isinstance(value, int):
        return repr(int(value))
    if isinstance(value, float):
        return repr(float(value))
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{toml_value(str(key))} = {toml_value(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(toml_value(item) for item in value) + "]"
    raise ConfigError(f"A job file cannot hold a {type(value).__name__}: {value!r}.")
