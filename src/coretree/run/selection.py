"""What a user may say to choose part of a tree: times, folders, a half-life."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date
from typing import Any, TypeAlias

import numpy as np
import pandas as pd

from coretree.data.footers import NULL_FOLDER
from coretree.errors import ConfigError
from coretree.tree.coresets import Coreset
from coretree.tree.manifest import LeafEntry
from coretree.tree.windows import Span

Time: TypeAlias = str | float | np.number[Any] | date | np.datetime64 | None


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


def check_folders(leaves: Sequence[LeafEntry], where: Mapping[str, Any]) -> None:
    """Refuse a value that no folder has: a slip of the pen would otherwise be an empty window, or half of one.

    Raises
    ------
    ConfigError
    """
    for name, wanted in where.items():
        there = {dict(leaf.extra.get("partition", ())).get(name) for leaf in leaves} - {None}
        strange = sorted(_texts(wanted) - there)
        if there and strange:
            have = sorted(str(value) for value in there)
            shown = ", ".join(have[:10]) + (", ..." if len(have) > 10 else "")
            raise ConfigError(f"where: no folder has {name}={strange[0]}; there are {shown}.")


def _texts(wanted: Any) -> set[str]:
    many = wanted if isinstance(wanted, list | tuple | set | frozenset) else [wanted]
    return {NULL_FOLDER if value is None else str(value) for value in many}


def span_of(start: Time, end: Time) -> Span:
    """A window's edges.

    Raises
    ------
    ConfigError
        One is no time, or the window ends before it starts.

    Examples
    --------
    >>> span_of("1970-01-02", None)
    Span(start=86400.0, end=None)
    """
    span = Span(seconds_of(start), seconds_of(end))
    if span.start is not None and span.end is not None and span.start >= span.end:
        raise ConfigError(
            f"the window from {start} to {end} has no time in it: start must be before end, which is left out itself."
        )
    return span


def seconds_of(time: Time) -> float | None:
    """Seconds since 1970 (UTC) of a time as a user writes it.

    Raises
    ------
    ConfigError
        It is none.

    Examples
    --------
    >>> seconds_of("1970-01-02"), seconds_of("1970-01-01 02:00+02:00"), seconds_of(None)
    (86400.0, 0.0, None)
    """
    if time is None:
        return None
    try:
        # a plain number is seconds, also one of numpy's, which pandas would read as nanoseconds
        at = float(time) if isinstance(time, int | float | np.number) else pd.Timestamp(time).timestamp()
    except (ValueError, TypeError) as error:
        raise ConfigError(f"{time!r} is no time; write it like '2013-06' or '2013-06-01 12:00'.") from error
    if not math.isfinite(at):
        raise ConfigError(f"{time!r} is no time; leave start or end out where the window is open.")
    return at


def decayed(core: Coreset, half_life: str | float, end: float | None) -> Coreset:
    """Weights that halve with every half-life before the end."""
    if core.seconds is None:
        raise ConfigError("half_life needs to know the time column: name it with time=... when you open the dataset.")
    try:
        step = (
            float(half_life)
            if isinstance(half_life, int | float | np.number)
            else pd.Timedelta(half_life).total_seconds()
        )
    except (ValueError, TypeError) as error:
        raise ConfigError(f"half_life={half_life!r} is no time span; write '30D', '12h' or seconds.") from error
    if not 0 < step < math.inf:
        raise ConfigError(f"half_life={half_life!r} must be longer than nothing, such as '30D' or seconds.")
    dated = core.seconds[~np.isnan(core.seconds)]
    if not len(dated):
        raise ConfigError("half_life: none of these rows has a time.")
    latest = end if end is not None else float(dated.max())
    oldest = float(dated.min())
    age = latest - np.where(np.isnan(core.seconds), oldest, core.seconds)  # a row without a time counts as the oldest
    w = core.sample_weight * np.exp2(-np.maximum(age, 0.0) / step)
    counts = core.class_counts
    if counts is not None:
        counts = {label: float(w[core.target == label].sum()) for label in counts}
    effective = float(w.sum() ** 2 / np.square(w).sum())
    note = f"weights halve every {step:g} s before {pd.Timestamp(latest, unit='s')}"
    report = replace(core.report, effective_rows=effective, warnings=(*core.report.warnings, note))
    return replace(core, sample_weight=w, class_counts=counts, report=report)
