"""What a profile knows of each class: rows and weight, and where asked for the moments of the features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import reduce
from operator import add
from typing import Any

import numpy as np
import numpy.typing as npt

from coretree.data.columns import Coded, Columns, Level, class_rows, take_rows
from coretree.data.moments import Moments, grouped_moments, moments
from coretree.errors import TargetError

MAX_CLASSES = 1000


def class_moments_of(columns: Columns, block: npt.NDArray[Any]) -> dict[Level | None, Moments]:
    """Moments of some columns in each class; of no columns, rows and weight alone. Grouped rows are not copied."""
    if not isinstance(columns.target, Coded):
        return {None: moments(block, columns.weights)}
    out: dict[Level | None, Moments] = {}
    codes, weights, levels = columns.target.codes, columns.weights, columns.target.levels
    counts = np.bincount(codes, minlength=len(levels))
    if len(counts) > MAX_CLASSES:
        raise TargetError(
            f"{columns.path}: target '{columns.schema.target}' has {len(counts)} distinct values in one chunk, and "
            f"{MAX_CLASSES} classes at most can be learned. "
            'For a quantity, say task = "regression"; an identifier is no target.'
        )
    live = np.flatnonzero(counts)
    if not block.shape[1]:
        held = counts if weights is None else np.bincount(codes[weights > 0], minlength=len(levels))
        weight = np.bincount(codes, weights, minlength=len(levels))
        none = Moments.empty(0)
        return {levels[k]: replace(none, n_rows=int(held[k]), weight=float(weight[k])) for k in live.tolist()}
    if weights is None and len(live) and not (codes[1:] < codes[:-1]).any():  # grouped by class
        found = grouped_moments(block, np.searchsorted(codes, live))
        return {levels[code]: m for code, m in zip(live.tolist(), found, strict=True)}
    rows = class_rows(codes, len(counts))
    for code in live.tolist():
        own = rows[code]
        out[levels[code]] = moments(take_rows(block, own), None if weights is None else weights[own])
    return out


def joined(parts: Sequence[Moments], n_features: int) -> Moments:
    """Moments of a class in all parts; without columns, rows and weight alone."""
    return reduce(add, [part if part.n_features == n_features else part.without_columns for part in parts])


def pack(items: Sequence[Moments]) -> dict[str, npt.NDArray[Any]]:
    """Return moments of the same columns as seven arrays: a node may hold those of a hundred classes."""
    every = [item.state() for item in items] or [Moments.empty(0).state()]
    return {name: np.stack([state[name] for state in every])[: len(items)] for name in every[0]}


def unpack(state: Mapping[str, npt.NDArray[Any]]) -> list[Moments]:
    """Restore what `pack` returned."""
    return [Moments.from_state({name: a[k] for name, a in state.items()}) for k in range(len(state["n_rows"]))]
