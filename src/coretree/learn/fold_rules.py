"""Rules that put any row of the data, in a sketch or not, into a fold: by its identity, or by its time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from coretree.errors import ConfigError
from coretree.learn.folds import folds_by_hash

Ids = npt.NDArray[np.uint64]
FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.intp]


@dataclass(frozen=True)
class HashFolds:
    """Folds by row identity: each is an honest sample of its share of the data; a model is fitted on all others.

    Examples
    --------
    >>> rule = HashFolds(cv=3, seed=0)
    >>> folds = rule.of(np.arange(6, dtype=np.uint64), None)
    >>> bool((rule.before(folds, 1) == np.flatnonzero(folds != 1)).all())
    True
    """

    cv: int
    seed: int

    def of(self, ids: Ids, seconds: FloatArray | None) -> IntArray:  # noqa: ARG002
        """Fold of each row, (n,) in [0, cv)."""
        return folds_by_hash(ids, self.cv, self.seed)

    def before(self, folds: IntArray, k: int) -> IntArray:
        """Positions of the rows that the model for fold ``k`` is fitted on."""
        return np.flatnonzero(folds != k)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {"by": "hash", "cv": self.cv, "seed": self.seed}


@dataclass(frozen=True)
class TimeFolds:
    """Folds by time: a model is fitted on what came before its fold, never on what came after.

    ``edges`` are seconds, rising: fold k holds the rows from ``edges[k]`` on and before ``edges[k + 1]``, the last
    one all later rows. Rows before the first edge, and those without a time, are in no fold (-1) and only learned from.

    Examples
    --------
    >>> rule = TimeFolds((10.0, 20.0))
    >>> folds = rule.of(np.zeros(4, np.uint64), np.array([5.0, 12.0, 99.0, np.nan]))
    >>> folds.tolist(), rule.before(folds, 1).tolist()
    ([-1, 0, 1, -1], [0, 1, 3])
    """

    edges: tuple[float, ...]

    @property
    def cv(self) -> int:
        """Folds."""
        return len(self.edges)

    def of(self, ids: Ids, seconds: FloatArray | None) -> IntArray:  # noqa: ARG002
        """Fold of each row, (n,) in [-1, cv)."""
        if seconds is None:
            raise ConfigError("folds by time need the rows' times: name the column with time=... for the dataset.")
        found = np.searchsorted(np.array(self.edges), seconds, side="right") - 1
        return np.where(np.isnan(seconds), -1, found).astype(np.intp)

    def before(self, folds: IntArray, k: int) -> IntArray:
        """Positions of the rows that the model for fold ``k`` is fitted on."""
        return np.flatnonzero(folds < k)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {"by": "time", "edges": list(self.edges)}


FoldRule: TypeAlias = HashFolds | TimeFolds


def time_folds(seconds: FloatArray | None, weights: FloatArray, cv: int) -> TimeFolds:
    """Edges that cut the weight of dated rows into cv + 1 equal stretches: the first is only learned from.

    Raises
    ------
    ConfigError
        The rows have no times, or too few different ones.

    Examples
    --------
    >>> time_folds(np.arange(6.0), np.ones(6), 2).edges
    (2.0, 4.0)
    """
    if seconds is None:
        raise ConfigError(
            'folds="time" needs the rows\' times: name the column with time=... when you open the dataset.'
        )
    dated = np.flatnonzero(~np.isnan(seconds))
    order = dated[np.argsort(seconds[dated], kind="stable")]
    mass = np.cumsum(weights[order])
    if not order.size:
        raise ConfigError('folds="time": none of these rows has a time.')
    levels = mass[-1] * np.arange(1, cv + 1) / (cv + 1)
    edges = seconds[order[np.minimum(np.searchsorted(mass, levels, side="right"), order.size - 1)]]
    if (np.diff(np.concatenate([[seconds[order[0]]], edges])) <= 0).any():
        different = np.unique(seconds[dated]).size
        raise ConfigError(
            f'folds="time": {cv} folds need {cv + 1} stretches of time with rows of their own, but the sample has '
            f"{different} different times, unevenly spread. Use fewer folds."
        )
    return TimeFolds(tuple(float(edge) for edge in edges))
