"""Turn what pydantic and tomllib say about a job file into one paragraph that names every mistake."""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from coretree.errors import ConfigError


def nearest(name: str, known: Iterable[str]) -> str:
    """Advice for an unknown name: the nearest known one, else all of them.

    Examples
    --------
    >>> nearest("sizze", ["size", "seed"])
    "did you mean 'size'?"
    >>> nearest("zzz", ["size", "seed"])
    'choose from size, seed'
    """
    names = list(known)
    close = difflib.get_close_matches(name.lower(), names, n=1)
    return f"did you mean {close[0]!r}?" if close else f"choose from {', '.join(names)}"


def job_error(where: str, mistakes: Sequence[str]) -> ConfigError:
    """One error for all mistakes, numbered when there are several.

    Examples
    --------
    >>> print(job_error("job.toml", ["a: wrong", "b: missing"]))
    job.toml: 2 mistakes. (1) a: wrong. (2) b: missing.
    """
    lines = list(dict.fromkeys(mistake.rstrip(".") for mistake in mistakes))
    ends = [line if line.endswith("?") else f"{line}." for line in lines]
    if len(ends) == 1:
        return ConfigError(f"{where}: {ends[0]}")
    return ConfigError(f"{where}: {len(ends)} mistakes. " + " ".join(f"({i}) {line}" for i, line in enumerate(ends, 1)))


def syntax_error(source: Path, text: str, error: tomllib.TOMLDecodeError) -> ConfigError:
    """Error for a file that is not TOML, with the line it stopped at."""
    place = re.search(r"at line (\d+)", str(error))
    lines = text.splitlines()
    number = int(place.group(1)) if place else len(lines)
    line = lines[number - 1].strip() if 0 < number <= len(lines) else ""
    shown = f" The line reads: {line[:120]}" if line else ""
    return ConfigError(f"{source}: not valid TOML: {error}.{shown}")


def explain(error: ValidationError, job: type[BaseModel]) -> list[str]:
    """One line for each mistake: ``section.key: what must hold, what was found, what was probably meant``.

    Parameters
    ----------
    error : ValidationError
    job : type
        The model that was validated; its fields are the sections.
    """
    # A mistake found by a validator of the whole job arrives as one value_error without a place.
    return [
        line
        for detail in error.errors(include_url=False)
        for line in (_whole(detail) if not detail["loc"] else [_line(detail, job)])
    ]


def _whole(detail: Mapping[str, Any]) -> list[str]:
    if detail["type"] == "value_error":
        return str(detail["ctx"]["error"]).splitlines()
    return ["the job must be a table of sections such as [data]"]


def _line(detail: Mapping[str, Any], job: type[BaseModel]) -> str:
    path = [str(part) for part in detail["loc"]]
    key, kind = ".".join(path), detail["type"]
    sections = {name: field.annotation for name, field in job.model_fields.items()}
    if len(path) == 1:
        return _section_line(path[0], kind, sections)
    section = sections.get(path[0])
    fields = {} if section is None else {f.alias or name: f for name, f in getattr(section, "model_fields", {}).items()}
    if kind == "extra_forbidden":
        owners = [name for name, other in sections.items() if path[-1] in getattr(other, "model_fields", {})]
        hint = f"it belongs in [{owners[0]}]" if owners else nearest(path[-1], fields)
        return f"{key}: not a key of [{path[0]}]; {hint}"
    meaning = fields[path[1]].description if path[1] in fields else None
    if kind == "missing":
        return f"{key}: missing; it must be given ({meaning})"
    return f"{key}: {_must(detail)}, found {_shown(detail['input'])}" + (f" ({meaning})" if meaning else "")


def _section_line(name: str, kind: str, sections: Mapping[str, Any]) -> str:
    if kind == "missing":
        return f"[{name}]: missing; the file must have this section"
    if kind == "extra_forbidden":
        owners = [other for other, model in sections.items() if name in getattr(model, "model_fields", {})]
        hint = f"the key belongs in [{owners[0]}]" if owners else nearest(name, sections)
        return f"[{name}]: not a section; {hint}"
    return f"[{name}]: must be a table of keys"


def _must(detail: Mapping[str, Any]) -> str:
    """What must hold, in the words of a reader of TOML."""
    context = detail.get("ctx", {})
    if detail["type"] == "literal_error":
        allowed = re.findall(r"'([^']*)'", str(context["expected"]))
        found = detail["input"]
        close = difflib.get_close_matches(found, allowed, n=1) if isinstance(found, str) else []
        return f"must be one of {context['expected']}" + (f" (did you mean {close[0]!r}?)" if close else "")
    if detail["type"] == "string_pattern_mismatch":
        return "must be an address such as tcp://10.0.0.5:8786"
    message = str(detail["msg"]).replace("Input should be", "must be").replace("a valid tuple", "a list")
    message = message.replace("a valid string", "text").replace("a valid integer", "a whole number")
    message = message.replace("a valid number", "a number").replace("a valid boolean", "true or false")
    return message[:1].lower() + message[1:]


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
