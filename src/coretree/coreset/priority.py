"""A bottom-k priority sketch is a weighted sample whose merge is exact, whatever the order and the tree.

A row's key is ``u / (base * score)``, ``u`` a hash of its identity. A sketch of capacity k holds the k + 1 smallest
keys. With the (k + 1)-th key as threshold, row i weighs ``base_i * max(1, 1 / (base_i * score_i * threshold))``, and
for every function f the weighted sum of f is unbiased (Duffield, Lund, Thorup 2007).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from coretree.coreset.rows import Float, Ids, Index, Rows, concatenate, n_rows, take

_PREFIX = "rows/"


@dataclass(frozen=True, eq=False)
class Sample:
    """A finished sample: rows and weights that stand for all the rows a sketch has seen.

    Attributes
    ----------
    rows : mapping of str to ndarray
        Payload, one entry a row.
    ids : ndarray of uint64, shape (m,)
    weights : ndarray of float64, shape (m,)
        At least ``base``; equal to it where nothing was dropped or the row was certain to be kept.
    base : ndarray of float64, shape (m,)
    score : ndarray of float64, shape (m,)
    threshold : float
        The key that cut the sample; infinite where nothing was dropped.
    """

    rows: Rows
    ids: Ids
    weights: Float
    base: Float
    score: Float
    threshold: float


@dataclass(frozen=True, eq=False)
class Sketch:
    """At most ``capacity + 1`` rows in increasing (key, id). Merge with ``+``; a sketch of no rows is neutral.

    Attributes
    ----------
    ids : ndarray of uint64, shape (r,)
    keys, base, score : ndarray of float64, shape (r,)
    rows : mapping of str to ndarray
        Payload columns, r rows each.
    capacity : int
        Rows that :meth:`finalise` returns at most.
    """

    ids: Ids
    keys: Float
    base: Float
    score: Float
    rows: Rows
    capacity: int

    def __len__(self) -> int:
        return len(self.ids)

    def __add__(self, other: Sketch) -> Sketch:
        if not isinstance(other, Sketch):
            return NotImplemented
        return merge([self, other])

    def __radd__(self, zero: object) -> Sketch:
        if zero == 0:  # the start value of sum()
            return self
        return NotImplemented

    @property
    def ceiling(self) -> float:
        """Every row ever seen whose key is at most this is in the sketch (infinite where nothing was dropped)."""
        return float(self.keys[self.capacity]) if len(self) > self.capacity else np.inf

    def within(self, reach: float) -> int:
        """Rows, of the first ``capacity``, whose key is at most ``reach``."""
        return int(np.searchsorted(self.keys[: self.capacity], reach, side="right"))

    def reduce(self, k: int) -> Sketch:
        """Return the sketch of capacity ``k``, which this one contains as a prefix.

        Raises
        ------
        ValueError
            If ``k`` is negative or larger than the capacity.
        """
        if not 0 <= k <= self.capacity:
            raise ValueError(f"reduce: the size must be between 0 and the capacity {self.capacity}; found {k}")
        return _pick(self, np.arange(min(k + 1, len(self))), k)

    def restricted(self, inside: npt.NDArray[np.bool_]) -> Sketch:
        """Sketch of a subset, such as a time window: the kept rows that belong to it, under the same threshold.

        ``inside`` is a mask of the rows, shape (r,). Weighted sums are unbiased for the subset.
        """
        kept = np.flatnonzero(inside[: self.capacity])
        if len(self) > self.capacity:  # the row behind the last one is no member, only the threshold
            return _pick(self, np.append(kept, self.capacity), len(kept))
        return _pick(self, kept, self.capacity)

    def finalise(self) -> Sample:
        """Return the sample: the first ``capacity`` rows with their weights (cost: O(rows))."""
        k, threshold = min(self.capacity, len(self)), self.ceiling
        base, score = self.base[:k].copy(), self.score[:k].copy()
        weights = base.copy()
        if np.isfinite(threshold):
            with np.errstate(over="ignore"):
                weights = base * np.maximum(1.0, 1.0 / (base * score * threshold))
        return Sample(take(self.rows, np.arange(k)), self.ids[:k].copy(), weights, base, score, threshold)

    def state(self) -> dict[str, npt.NDArray[Any]]:
        """Return the arrays that rebuild the sketch; payload columns are stored under ``rows/<name>``."""
        own: dict[str, npt.NDArray[Any]] = {
            "ids": self.ids,
            "keys": self.keys,
            "base": self.base,
            "score": self.score,
            "capacity": np.array(self.capacity, np.int64),
        }
        return own | {_PREFIX + name: column for name, column in self.rows.items()}

    @classmethod
    def from_state(cls, state: Mapping[str, npt.NDArray[Any]]) -> Self:
        """Rebuild a sketch from :meth:`state`."""
        rows = {name.removeprefix(_PREFIX): column for name, column in state.items() if name.startswith(_PREFIX)}
        return cls(state["ids"], state["keys"], state["base"], state["score"], rows, int(state["capacity"]))


def sketch(
    ids: Ids,
    score: npt.ArrayLike,
    rows: Rows | Callable[[Index], Rows],
    capacity: int,
    *,
    uniforms: npt.NDArray[np.float64],
    base: npt.ArrayLike | None = None,
    ceiling: float = np.inf,
    reach: float = 0.0,
    most: int = 0,
) -> Sketch:
    """Sketch one partition in O(n); payload is copied only for the rows that are kept.

    Parameters
    ----------
    ids : ndarray of uint64, shape (n,)
        Row identities; repeated ones count once.
    score : array_like, shape (n,)
        How much a row matters, > 0; may depend on the row and on broadcast state, never on ``uniforms``.
    rows : mapping of str to ndarray, or callable
        Payload columns, or a function from kept positions to payload columns.
    capacity : int
        Rows to keep (one more is stored: its key is the threshold).
    uniforms : ndarray of float64, shape (n,)
        Numbers in (0, 1) from the identities (:func:`coretree.coreset.rows.uniforms`).
    base : array_like, shape (n,), optional
        Weight a row brings along, >= 0; rows of weight 0 stand for nothing and vanish. Default: 1.
    ceiling : float
        Rows with a larger key are left out: others are known to come before them.
    reach, most : float, int
        The capacity grows to the rows whose key is at most ``reach``, if these are more, and up to ``most``.

    Raises
    ------
    ValueError
        If lengths differ, or a base or score is negative, not finite, or (score) zero; names the first.

    Examples
    --------
    >>> from coretree.coreset.rows import row_ids, uniforms
    >>> ids = row_ids("a.parquet", 0, np.arange(1000))
    >>> s = sketch(ids, np.ones(1000), {"x": np.arange(1000)}, 100, uniforms=uniforms(ids, 0, "uniform"))
    >>> len(s.finalise().weights), bool((s + s).keys.tolist() == s.keys.tolist())
    (100, True)
    """
    n, weight = len(ids), None if base is None else np.asarray(base, np.float64)
    scores, u = np.asarray(score, np.float64), np.asarray(uniforms, np.float64)
    if capacity < 0:
        raise ValueError(f"sketch: the capacity must not be negative; found {capacity}")
    for name, column in (("score", scores), ("base", weight), ("uniforms", u)):
        if column is not None and column.shape != (n,):
            raise ValueError(f"sketch: {name} must have shape ({n},), one entry an id; found {column.shape}")
    if not callable(rows) and n_rows(rows) != n:
        raise ValueError(f"sketch: rows must have {n} rows, one an id; found {n_rows(rows)}")
    keys, among = _keys(u, scores, weight)
    capacity = max(capacity, min(int(np.count_nonzero(keys <= reach)), most))
    if ceiling < np.inf:
        among = np.flatnonzero(keys <= ceiling)
    kept = _smallest(np.asarray(ids, np.uint64), keys, among, capacity + 1)
    payload = rows(kept) if callable(rows) else take(rows, kept)
    held = np.ones(len(kept)) if weight is None else weight[kept]
    return Sketch(np.asarray(ids, np.uint64)[kept], keys[kept], held, scores[kept], payload, capacity)


def merge(sketches: Sequence[Sketch], *, capacity: int | None = None) -> Sketch:
    """Merge sketches: bit for bit the sketch of the union of the rows they have seen.

    Parameters
    ----------
    sketches : sequence of Sketch
        At least one, with the same payload columns.
    capacity : int, optional
        Default: the smallest capacity among the sketches that hold rows. A larger one is meant for leaves that were
        stored shorter than the root: rows above the lowest threshold of a shortened part cannot be known, so they are
        cut, the threshold stays substitutable, and the estimates unbiased; the result's capacity says what was left.

    Raises
    ------
    ValueError
        If there is no sketch or their columns differ.
    """
    if not sketches:
        raise ValueError("merge: at least one sketch is needed: an empty list says nothing about the columns")
    full = [s for s in sketches if len(s)]
    if not full:
        return _pick(sketches[0], np.arange(0), min(s.capacity for s in sketches) if capacity is None else capacity)
    ids, keys, base, score = (
        np.concatenate([getattr(s, name) for s in full]) for name in ("ids", "keys", "base", "score")
    )
    k = min(s.capacity for s in full) if capacity is None else capacity
    known = np.arange(len(ids))
    if capacity is not None:
        ceiling = min(s.ceiling for s in full)
        known = np.flatnonzero(keys <= ceiling)
    kept = _smallest(ids, keys, known, k + 1)
    if capacity is not None and np.isfinite(ceiling):
        k = min(k, len(kept) - 1)  # the last known row is the threshold
    rows = take(concatenate([s.rows for s in full]), kept)
    return Sketch(ids[kept], keys[kept], base[kept], score[kept], rows, k)


def _keys(u: Float, scores: Float, weight: Float | None) -> tuple[Float, Index | None]:
    """Keys of all rows, infinite for those of weight 0, and the positions of the others (None: all)."""
    with np.errstate(divide="ignore", over="ignore", under="ignore"):
        if weight is None and len(scores) and scores.min() > 0 and scores.max() < np.inf:  # false for a NaN, too
            return u / scores, None
        w = np.ones(len(u)) if weight is None else weight
        _reject(~(np.isfinite(w) & (w >= 0)), w, "base weight must be finite and >= 0")
        live = w > 0
        _reject(live & ~(np.isfinite(scores) & (scores > 0)), scores, "score must be finite and > 0")
        keys = np.where(live, u / (np.where(live, w, 1.0) * np.where(live, scores, 1.0)), np.inf)
    return keys, np.flatnonzero(live)


def _smallest(ids: Ids, keys: Float, among: Index | None, count: int) -> Index:
    """Positions of the ``count`` smallest (key, id) among the given ones (None: all), each identity once, in order."""
    own = keys if among is None else keys[among]
    wanted = count
    while True:
        if wanted < len(own):
            limit = np.partition(own, wanted - 1)[wanted - 1]
            near = np.flatnonzero(own <= limit)  # all ties, so that the ids decide and not the partition
        else:
            near = np.arange(len(own))
        every = len(near) == len(own)
        near = near if among is None else among[near]
        order = near[_by_key(keys[near], ids[near])]
        if _repeats(ids[order]):
            _, first = np.unique(ids[order], return_index=True)
            order = order[np.sort(first)]
        if len(order) >= count or every:
            return order[:count]
        wanted *= 2  # repeated identities had taken places


def _by_key(keys: Float, ids: Ids) -> Index:
    """Order by key, then identity; the second sort is needed only where two keys are equal."""
    order = np.argsort(keys)
    ranked = keys[order]
    return np.lexsort((ids, keys)) if (ranked[1:] == ranked[:-1]).any() else order


def _repeats(ids: Ids) -> bool:
    """Whether an identity occurs twice."""
    ranked = np.sort(ids)
    return bool((ranked[1:] == ranked[:-1]).any())


def _pick(s: Sketch, index: Index, capacity: int) -> Sketch:
    """Rows of a sketch, as a sketch of another capacity."""
    return Sketch(s.ids[index], s.keys[index], s.base[index], s.score[index], take(s.rows, index), capacity)


def _reject(bad: npt.NDArray[np.bool_], values: Float, rule: str) -> None:
    """Name the first offending row."""
    if bad.any():
        first = int(np.argmax(bad))
        raise ValueError(f"sketch: {rule}; {int(bad.sum())} rows are not, first row {first} with {values[first]}")
