"""A bottom-k sketch for each class, side by side: quotas decide how many rows of each are kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from coretree.coreset.priority import Sample, Sketch, merge, sketch
from coretree.coreset.quotas import Quotas
from coretree.coreset.rows import Float, Ids, Index, Rows, concatenate, members, take


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
    ceilings: Sequence[float] | None = None,
    reach: Sequence[float] | None = None,
    most: npt.ArrayLike | None = None,
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
    ceilings, reach, most : sequence of float or int, optional
        One a class, as for :func:`~coretree.coreset.priority.sketch`.

    Returns
    -------
    ClassSketches

    Raises
    ------
    ValueError
        As :func:`~coretree.coreset.priority.sketch`, or if a code is no class.

    Examples
    --------
    >>> from coretree.coreset.quotas import class_quotas
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
    weights = None if base is None else np.asarray(base, np.float64)
    parts = []
    grown = ([0.0] * K, [0] * K) if reach is None or most is None else (reach, np.asarray(most, np.int64).tolist())
    limits = zip(capacities, ceilings or [np.inf] * K, *grown, strict=True)
    for at, (capacity, ceiling, far, top) in zip(members(own, K), limits, strict=True):
        own_base = None if weights is None else weights[at]
        own_rows = partial(_payload, rows, np.arange(n)[at] if isinstance(at, slice) else at)
        options = {"uniforms": uniforms[at], "base": own_base, "ceiling": ceiling, "reach": far, "most": top}
        parts.append(sketch(ids[at], scores[at], own_rows, capacity, **options))
    return ClassSketches(tuple(parts))


def merge_classes(sketches: Sequence[ClassSketches], *, quotas: npt.ArrayLike | None = None) -> ClassSketches:
    """Merge class by class: bit for bit the sketches of the union of the rows.

    Parameters
    ----------
    sketches : sequence of ClassSketches
    quotas : array_like of int, shape (K,), optional
        Capacity of each class where the sketches may have been stored shorter: see
        :func:`~coretree.coreset.priority.merge`.

    Raises
    ------
    ValueError
        If there is nothing to merge, or the numbers of classes differ.
    """
    found = {len(s.parts) for s in sketches}
    if len(found) != 1:
        raise ValueError(f"merge_classes: sketches of the same classes are needed; found numbers {sorted(found)}")
    wanted = [None] * found.pop() if quotas is None else np.asarray(quotas, np.int64).tolist()
    columns = zip(*(s.parts for s in sketches), strict=True)
    return ClassSketches(tuple(merge(parts, capacity=k) for parts, k in zip(columns, wanted, strict=True)))


def _payload(rows: Rows | Callable[[Index], Rows], at: Index, kept: Index) -> Rows:
    """Payload of the kept rows among those at the given positions."""
    return rows(at[kept]) if callable(rows) else take(rows, at[kept])


def _to_total(sample: Sample, total: float) -> Float:
    """Weights rescaled to a total, or as they are where every row was kept."""
    held = float(sample.weights.sum())
    return sample.weights if not held or np.isinf(sample.threshold) else sample.weights * (total / held)
