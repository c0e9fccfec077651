"""What a user may say to choose part of a tree: times, folders, a half-life."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from coretree.errors import ConfigError
from coretree.tree.coresets import Coreset
from coretree.tree.manifest import LeafEntry

Time = str | float | pd.Timestamp | None


def in_folders(leaf: LeafEntry, where: Mapping[str, Any]) -> bool:
    """Whether a leaf's ``column=value`` folders have the values asked for."""
    values = dict(leaf.extra.get("partition", ()))
    unknown = [name for name in where if name not in values]
    if unknown:
        have = ", ".join(values) or "none"
        raise ConfigError(
            f"where names '{unknown[0]}', which is no partition column of {leaf.identity}; it has {have}. Rows are "
            "chosen by time with start= and end=."
        )
    return all(values[name] in _texts(wanted) for name, wanted in where.items())


def _texts(wanted: Any) -> set[str]:
    many = wanted if isinstance(wanted, list | tuple | set | frozenset) else [wanted]
    return {str(value) for value in many}


def seconds_of(time: Time) -> float | None:
    """Seconds since 1970 (UTC) of a time as a user writes it.

    Raises
    ------
    ConfigError
        It is none.

    Examples
    --------
    >>> seconds_of("1970-01-02"), seconds_of(None)
    (86400.0, None)
    """
    if time is None or isinstance(time, float | int):
        return time
    try:
        at = pd.Timestamp(time)
    except ValueError as error:
        raise ConfigError(f"'{time}' is no time; write it like '2013-06' or '2013-06-01 12:00'.") from error
    return at.timestamp()


def decayed(core: Coreset, half_life: str | float, end: float | None) -> Coreset:
    """Weights that halve with every half-life before the end."""
    if core.seconds is None:
        raise ConfigError("half_life needs to know the time column: name it with time=... when you open the dataset.")
    step = half_life if isinstance(half_life, float | int) else pd.Timedelta(half_life).total_seconds()
    if not step > 0:
        raise ConfigError(f"half_life={half_life!r} must be longer than nothing, such as '30D' or seconds.")
    latest = end if end is not None else float(np.nanmax(core.seconds))
    oldest = float(np.nanmin(core.seconds))
    age = latest - np.where(np.isnan(core.seconds), oldest, core.seconds)  # a row without a time counts as the oldest
    w = core.sample_weight * np.exp2(-np.maximum(age, 0.0) / step)
    counts = core.class_counts
    if counts is not None:
        counts = {label: float(w[core.target == label].sum()) for label in counts}
    effective = float(w.sum() ** 2 / np.square(w).sum())
    note = f"weights halve every {step:g} s before {pd.Timestamp(latest, unit='s')}"
    report = replace(core.report, effective_rows=effective, warnings=(*core.report.warnings, note))
    return replace(core, sample_weight=w, class_counts=counts, report=report)
