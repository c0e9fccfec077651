"""Job: one TOML file that says everything about a run, checked whole before anything is read."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from pydantic import ValidationError, model_validator

from coretree.config_errors import explain, job_error, syntax_error
from coretree.config_sections import Clean, Cluster, Coreset, Data, Models, Output, Prepare, Section, Split
from coretree.errors import ConfigError

__all__ = [
    "Clean",
    "Cluster",
    "Coreset",
    "Data",
    "Job",
    "Models",
    "Output",
    "Prepare",
    "Split",
    "load_job",
]


class Job(Section):
    """A whole job file.

    Examples
    --------
    >>> job = Job.model_validate({"data": {"train": "flights/*.parquet", "target": "late"}})
    >>> job.data.train, job.coreset.size, job.split.by
    (('flights/*.parquet',), 20000, 'hash')
    """

    data: Data
    clean: Clean = Clean()
    split: Split = Split()
    prepare: Prepare = Prepare()
    coreset: Coreset = Coreset()
    models: Models = Models()
    cluster: Cluster = Cluster()
    output: Output = Output()

    @classmethod
    def model_validate(cls, obj: Any, **options: Any) -> Self:
        """Check a nested mapping.

        Raises
        ------
        ConfigError
            Naming every mistake at once.
        """
        return cls.checked(obj, where="the job", **options)

    @classmethod
    def checked(cls, obj: Any, *, where: str, **options: Any) -> Self:
        """Like `model_validate`, naming the place (a file) in the message."""
        try:
            return super().model_validate(obj, **options)
        except ValidationError as error:
            found = [*explain(error, cls), *_problems_of(cls, obj)]
            raise job_error(where, found) from None

    @model_validator(mode="after")
    def _fits(self) -> Self:
        found = _problems({name: getattr(self, name) for name in type(self).model_fields})
        if found:
            raise ValueError("\n".join(found))
        return self


def _problems(sections: Mapping[str, Any]) -> list[str]:
    """Mistakes inside and between the sections that are there."""
    found = [line for section in sections.values() for line in section.problems()]
    data, split, models = sections.get("data"), sections.get("split"), sections.get("models")
    if data is not None and split is not None:
        needed = {"time": data.time, "group": data.group}
        if needed.get(split.by, "") is None:
            found.append(f"split.by: {split.by!r} needs data.{split.by}, the column to split by")
    if data is not None and models is not None and data.task != "auto":
        found += [line for line in models.problems_for(data.task) if line not in found]
    return found


def _problems_of(job: type[Job], obj: Any) -> list[str]:
    """The same for a job that failed: what can be said without the keys that are wrong by themselves."""
    if not isinstance(obj, Mapping):
        return []
    sections: dict[str, Section] = {}
    wrong: set[str] = set()
    for name, field in job.model_fields.items():
        section, values = field.annotation, obj.get(name, {})
        if isinstance(section, type) and isinstance(values, Mapping):
            sections[name], bad = _without_wrong_keys(section, values)
            wrong |= bad
    # A line that names a wrong key may be due to the default that stands in for it.
    return [line for line in _problems(sections) if not wrong & set(re.findall(r"\w+", line))]


def _without_wrong_keys(section: type[Section], values: Mapping[str, Any]) -> tuple[Section, set[str]]:
    try:
        return section.model_validate(values), set()
    except ValidationError as error:
        bad = {str(detail["loc"][0]) for detail in error.errors(include_url=False)}
    kept = {key: value for key, value in values.items() if key not in bad}
    required = {name: "?" for name, field in section.model_fields.items() if field.is_required() and name in bad}
    return section.model_validate({**kept, **required}), bad


def load_job(path: str | Path) -> Job:
    """Read and check a job file.

    Parameters
    ----------
    path : path of a TOML file, UTF-8

    Returns
    -------
    Job

    Raises
    ------
    ConfigError
        If the file cannot be read or is not TOML, or naming every mistake in it at once: the key, what was found,
        what must hold, and the nearest name for an unknown one.
    """
    source = Path(path)
    try:
        text = source.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{source}: not a text file in UTF-8 (byte {error.start}). Save it as UTF-8.") from error
    except OSError as error:
        raise ConfigError(
            f"{source}: cannot be read ({error.strerror}). Write one with: "
            "coretree init DATA --target COLUMN > job.toml"
        ) from error
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise syntax_error(source, text, error) from None
    return Job.checked(values, where=str(source))
