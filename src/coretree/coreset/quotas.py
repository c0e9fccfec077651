"""Class quotas: how many rows of each class a coreset keeps, and a bottom-k sketch for each class side by side.

By default class c gets rows in proportion to n_c / (2 n) + 1 / (2 K), water-filled: a class smaller than its share is
kept whole and leaves the rest to the others. Nobody gets less than half of what a uniform sample would have given.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, Self, TypeAlias

import numpy as np
import numpy.typing as npt

from coretree.coreset.priority import Sample, Sketch, merge, sketch
from coretree.coreset.rows import Float, Ids, Index, Rows, concatenate, take
from coretree.errors import ConfigError

Budget: TypeAlias = int | Literal["all"]
"""Rows of a class, or all of them, also those that later updates bring."""

Quotas: TypeAlias = npt.NDArray[np.int64]

KEEP_ALL = 2**62
"""The quota of a class that is kept whole, whatever comes."""


def class_quotas(
    counts: npt.ArrayLike,
    size: int,
    *,
    budgets: Mapping[int, Budget] | None = None,
    labels: Sequence[Any] | None = None,
) -> Quotas:
    """Rows to keep of each class.

    Parameters
    ----------
    counts : array_like of int, shape (K,)
        Rows (not weights) of each class in the full data.
    size : int
        Rows in all, >= 1.
    budgets : mapping of class code to int or "all", optional
        The user's wishes. The other classes share what is left by the rule of the module.
    labels : sequence, optional
        Names of the classes, for messages.

    Returns
    -------
    ndarray of int64, shape (K,)
        `KEEP_ALL` where the user asked for all, else at most the class's rows. Summing with ``"all"`` counted as the
        class's rows, they add up to ``min(size, n)``, or to less where the user gave every class a smaller budget.
        Every class with rows gets one if there are as many places; half a proportional share from 2 K rows on.

    Raises
    ------
    ConfigError
        If a budget is negative, names no class, or the budgets exceed the size.

    Examples
    --------
    >>> class_quotas([9_900, 100], 1_000).tolist()  # 10 in proportion, 500 in balance: all it has
    [900, 100]
    >>> class_quotas([9_000, 900, 100], 1_000, budgets={1: 100}).tolist()
    [800, 100, 100]
    >>> class_quotas([9_000, 1_000], 2_000, budgets={1: "all"}).tolist() == [1_000, KEEP_ALL]
    True
    """
    held = np.asarray(counts, np.int64).ravel()
    if size < 1 or (held < 0).any():
        raise ValueError(f"class_quotas: size must be >= 1 and counts >= 0; found {size} and {held.tolist()}")
    quotas = np.zeros(len(held), np.int64)
    wishes = _checked(budgets or {}, len(held), size, held, labels)
    for code, wish in wishes.items():
        quotas[code] = held[code] if wish == "all" else min(wish, int(held[code]))
    free = np.array([c for c in range(len(held)) if c not in wishes], np.intp)
    if len(free):
        quotas[free] = _whole(held[free], size - int(quotas.sum()))
    quotas[[code for code, wish in wishes.items() if wish == "all"]] = KEEP_ALL
    return quotas


@dataclass(frozen=True, eq=False)
class ClassSketches:
    """One sketch a class, in the order of the class codes. Merge with ``+``, class by class.

    Attributes
    ----------
    parts : tuple of Sketch
        Each with the capacity that its class's quota gives it.
    """

    parts: tuple[Sketch, ...]

    def __len__(self) -> int:
        return sum(len(part) for part in self.parts)

    def __add__(self, other: ClassSketches) -> ClassSketches:
        if not isinstance(other, ClassSketches):
            return NotImplemented
        return merge_classes([self, other])

    def __radd__(self, zero: object) -> ClassSketches:
        if zero == 0:  # the start value of sum()
            return self
        return NotImplemented

    @property
    def quotas(self) -> Quotas:
        """Capacity of each class, shape (K,)."""
        return np.array([part.capacity for part in self.parts], np.int64)

    def reduce(self, quotas: npt.ArrayLike) -> ClassSketches:
        """Sketches of smaller quotas, of which these contain the rows; a larger one leaves a class as it is."""
        wanted = np.asarray(quotas, np.int64).tolist()
        return ClassSketches(
            tuple(part.reduce(min(q, part.capacity)) for part, q in zip(self.parts, wanted, strict=True))
        )

    def finalise(self, totals: npt.ArrayLike | None = None) -> Sample:
        """Return the rows, class after class, with the weights that keep the true class shares.

        Parameters
        ----------
        totals : array_like, shape (K,), optional
            Exact base weight of each class; weights are rescaled to it. Default: unbiased estimates.

        Returns
        -------
        Sample
            ``threshold`` is the lowest of the classes: infinite where nothing was dropped.
        """
        samples = [part.finalise() for part in self.parts]
        weights = [sample.weights for sample in samples]
        if totals is not None:
            exact = np.asarray(totals, np.float64).ravel().tolist()
            weights = [_to_total(s, total) for s, total in zip(samples, exact, strict=True)]
        return Sample(
            rows=concatenate([s.rows for s in samples]),
            ids=np.concatenate([s.ids for s in samples]),
            weights=np.concatenate(weights),
            base=np.concatenate([s.base for s in samples]),
            score=np.concatenate([s.score for s in samples]),
            threshold=min(s.threshold for s in samples),
        )

    def state(self) -> dict[str, npt.NDArray[Any]]:
        """Arrays that rebuild the sketches: those of :class:`Sketch`, joined, with the length of each class."""
        states = [part.state() for part in self.parts]
        joined = concatenate([{k: v for k, v in state.items() if k != "capacity"} for state in states])
        return {**joined, "capacities": self.quotas, "lengths": np.array([len(p) for p in self.parts], np.int64)}

    @classmethod
    def from_state(cls, state: Mapping[str, npt.NDArray[Any]]) -> Self:
        """Rebuild from :meth:`state`."""
        ends = np.cumsum(state["lengths"]).tolist()
        columns = {name: column for name, column in state.items() if name not in ("capacities", "lengths")}
        parts = []
        for first, last, capacity in zip([0, *ends[:-1]], ends, state["capacities"], strict=True):
            part = {name: column[first:last] for name, column in columns.items()}
            parts.append(Sketch.from_state({**part, "capacity": capacity}))
        return cls(tuple(parts))


def sketch_classes(
    ids: Ids,
    codes: npt.NDArray[Any],
    rows: Rows | Callable[[Index], Rows],
    quotas: npt.ArrayLike,
    *,
    uniforms: npt.NDArray[np.float64],
    score: npt.ArrayLike | None = None,
    base: npt.ArrayLike | None = None,
) -> ClassSketches:
    """Sketch one partition, each class for itself.

    Parameters
    ----------
    ids : ndarray of uint64, shape (n,)
    codes : ndarray of int, shape (n,)
        Class of each row, below K.
    rows : mapping of str to ndarray, or callable
        As for :func:`~coretree.coreset.priority.sketch`.
    quotas : array_like of int, shape (K,)
        Of :func:`class_quotas`.
    uniforms : ndarray of float64, shape (n,)
    score, base : array_like, shape (n,), optional
        Default: 1.

    Returns
    -------
    ClassSketches

    Raises
    ------
    ValueError
        As :func:`~coretree.coreset.priority.sketch`, or if a code is no class.

    Examples
    --------
    >>> from coretree.coreset.rows import row_ids, uniforms
    >>> ids, y = row_ids("a.parquet", 0, np.arange(1000)), (np.arange(1000) < 50).astype(int)
    >>> both = sketch_classes(ids, y, {"y": y}, class_quotas([950, 50], 200), uniforms=uniforms(ids, 0, "quota"))
    >>> sample = both.finalise(totals=[950, 50])
    >>> np.bincount(sample.rows["y"]).tolist(), np.bincount(sample.rows["y"], sample.weights).round(9).tolist()
    ([150, 50], [950.0, 50.0])
    """
    capacities, own = np.asarray(quotas, np.int64).tolist(), np.asarray(codes).astype(np.intp)
    n, K = len(ids), len(capacities)
    if own.shape != (n,) or (n and (own.min() < 0 or own.max() >= K)):
        raise ValueError(f"sketch_classes: codes must be {n} whole numbers in [0, {K}), one an id")
    scores = np.ones(n) if score is None else np.asarray(score, np.float64)
    weights = np.ones(n) if base is None else np.asarray(base, np.float64)
    order = np.argsort(own, kind="stable")
    bounds = np.searchsorted(own[order], np.arange(K + 1))
    parts = []
    for c, capacity in enumerate(capacities):
        at = order[bounds[c] : bounds[c + 1]]
        own_rows = partial(_payload, rows, at)
        parts.append(sketch(ids[at], scores[at], own_rows, capacity, uniforms=uniforms[at], base=weights[at]))
    return ClassSketches(tuple(parts))


def merge_classes(sketches: Sequence[ClassSketches]) -> ClassSketches:
    """Merge class by class: bit for bit the sketches of the union of the rows.

    Raises
    ------
    ValueError
        If there is nothing to merge, or the numbers of classes differ.
    """
    found = {len(s.parts) for s in sketches}
    if len(found) != 1:
        raise ValueError(f"merge_classes: sketches of the same classes are needed; found numbers {sorted(found)}")
    return ClassSketches(tuple(merge(parts) for parts in zip(*(s.parts for s in sketches), strict=True)))


def _payload(rows: Rows | Callable[[Index], Rows], at: Index, kept: Index) -> Rows:
    """Payload of the kept rows among those at the given positions."""
    return rows(at[kept]) if callable(rows) else take(rows, at[kept])


def _checked(
    budgets: Mapping[int, Budget], n_classes: int, size: int, held: Quotas, labels: Sequence[Any] | None
) -> dict[int, Budget]:
    """Refuse budgets that mean nothing or do not fit."""
    name = [repr(label) for label in (range(n_classes) if labels is None else labels)]
    for code, wish in budgets.items():
        if not 0 <= code < n_classes:
            raise ConfigError(f"A class budget names class {code!r}, but there are only {', '.join(name)}.")
        if wish != "all" and (not isinstance(wish, (int, np.integer)) or wish < 0):
            raise ConfigError(f"The budget of class {name[code]} must be a number of rows or 'all'; found {wish!r}.")
    needed = sum(
        int(held[code]) if wish == "all" else min(int(wish), int(held[code])) for code, wish in budgets.items()
    )
    if needed > size:
        raise ConfigError(
            f"The class budgets need {needed:,} rows, but the coreset may have {size:,}. "
            f"Type size={needed} or more, or give smaller budgets."
        )
    return dict(budgets)


def _whole(held: Quotas, size: int) -> Quotas:
    """Water-filled quotas of the module's rule as whole numbers that add up to ``min(size, n)``."""
    present, n = np.count_nonzero(held), int(held.sum())
    if n <= size or not present:
        return held.copy()
    level = _filled(held.astype(np.float64), held / (2.0 * n) + (held > 0) / (2.0 * present), float(size))
    quotas = np.minimum(np.floor(level + 1e-9).astype(np.int64), held)
    if size >= present:
        quotas = np.maximum(quotas, held > 0)
    spare = size - int(quotas.sum())
    rank = np.argsort((quotas - level).round(9), kind="stable")  # the most wronged by rounding first
    while spare:
        turn = rank[quotas[rank] < held[rank]] if spare > 0 else rank[::-1][quotas[rank[::-1]] > 1]
        turn = turn[: abs(spare)]
        quotas[turn] += np.sign(spare)
        spare = size - int(quotas.sum())
    return quotas


def _filled(room: Float, shares: Float, size: float) -> Float:
    """Split ``size`` in proportion to the shares, nobody above its room; what is left over goes to the others."""
    full = np.zeros(len(room), np.bool_)
    while True:
        level = (size - room[full].sum()) / max(float(shares[~full].sum()), 1e-300)
        over = ~full & (level * shares > room)
        if not over.any():
            return np.where(full, room, level * shares)
        full |= over


def _to_total(sample: Sample, total: float) -> Float:
    """Weights rescaled to a total, or as they are where every row was kept."""
    held = float(sample.weights.sum())
    return sample.weights if not held or np.isinf(sample.threshold) else sample.weights * (total / held)
