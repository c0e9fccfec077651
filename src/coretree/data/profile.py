"""Pass 1: what a streaming look at the training rows leaves behind, all of it mergeable."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, reduce
from operator import add
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from coretree.data.categories import DistinctCount, HeavyHitters, distinct_count, heavy_hitters
from coretree.data.columns import Changes, Coded, Columns, class_rows, take_rows
from coretree.data.columns import Level as Level
from coretree.data.digest_arrays import pack, unpack
from coretree.data.moments import Moments, grouped_moments, moments
from coretree.data.quantiles import Digest, digest, digests, merge
from coretree.data.schema import Schema
from coretree.data.times import datetime_parts, part_names
from coretree.errors import TargetError

MAX_CLASSES = 1000
# Rows a chunk contributes to summaries that only describe the data (quantiles nobody asked for, distinct counts).
THIN_ROWS = 8192
THIN_DELTA = 250  # groups of a digest that only describes
State = dict[str, npt.NDArray[Any]]


def numeric_names(schema: Schema) -> tuple[str, ...]:
    """Names of the numeric features: the floating-point block, then the parts of each time."""
    return schema.numbers + tuple(name for t in schema.times for name in part_names(t))


def numeric_block(columns: Columns) -> npt.NDArray[Any]:
    """Numeric features (n, p), column-major, NaN where missing; the block itself where there are no times."""
    return numeric_parts(columns.numbers, columns.times)


def numeric_parts(numbers: npt.NDArray[Any], times: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The same, from the floating-point block (n, p) and the times (n, t) of stored rows."""
    if not times.shape[1]:
        return numbers
    parts = [datetime_parts(times[:, j]) for j in range(times.shape[1])]
    p = numbers.shape[1]
    out = np.empty((p + 3 * len(parts), len(numbers)), dtype=numbers.dtype).T
    out[:, :p] = numbers
    for j, part in enumerate(parts):
        out[:, p + 3 * j : p + 3 * (j + 1)] = part
    return out


@dataclass(frozen=True)
class Profile:
    """Mergeable statistics of the training rows.

    Attributes
    ----------
    changes : Changes
        What cleaning dropped or changed.
    by_class : mapping of label to Moments
        Moments of the numeric features for each class; one entry, ``None``, where the target is a quantity.
    quantiles : tuple of Digest
        One per numeric feature; of every row where ``exact_quantiles``, else of a thinned sample.
    frequent : tuple of HeavyHitters
        One per categorical feature, then, where asked for, one per numeric feature.
    distinct : tuple of DistinctCount
        One per categorical feature, on thinned rows.
    target : Moments
        Moments of a quantity to predict (one column; none for classes).
    seconds : Moments
        Moments of the event time (one column; none without one).
    target_quantiles : Digest
        Of a quantity to predict, thinned as ``quantiles`` are; empty for classes.
    """

    changes: Changes
    by_class: Mapping[Level | None, Moments]
    quantiles: tuple[Digest, ...]
    frequent: tuple[HeavyHitters, ...]
    distinct: tuple[DistinctCount, ...]
    target: Moments
    seconds: Moments
    n_thin: int = 0
    target_quantiles: Digest = field(default_factory=Digest.empty)

    @cached_property
    def moments(self) -> Moments:
        """Moments of the numeric features over all classes."""
        return sum((self.by_class[k] for k in self.labels), Moments.empty(len(self.quantiles)))

    @property
    def labels(self) -> tuple[Level | None, ...]:
        """Class labels in sorted order; ``(None,)`` for a quantity."""
        return tuple(sorted(self.by_class, key=label_order))

    @property
    def n_rows(self) -> int:
        """Training rows seen (rows of weight zero were not)."""
        return self.moments.n_rows

    @property
    def weight(self) -> float:
        """Sum of the base weights."""
        return self.moments.weight

    def __add__(self, other: Profile) -> Profile:
        """Merge two profiles of the same schema."""
        return merge_profiles([self, other])

    def state(self) -> State:
        """Arrays for storage."""
        out: State = {"n_thin": np.array(self.n_thin), **_prefix("changes", self.changes.state())}
        labels = self.labels
        out["labels"] = np.array([label_text(k) for k in labels], dtype=object)
        out |= _prefix("quantiles", pack(self.quantiles))
        parts: dict[str, Sequence[Any]] = {
            "class": [self.by_class[k] for k in labels],
            "frequent": self.frequent,
            "distinct": self.distinct,
            "ends": (self.target, self.seconds),
        }
        for name, items in parts.items():
            out[f"n_{name}"] = np.array(len(items))
            for i, item in enumerate(items):
                out |= _prefix(f"{name}{i}", item.state())
        return out | _prefix("outcome", self.target_quantiles.state())

    @classmethod
    def from_state(cls, state: Mapping[str, npt.NDArray[Any]]) -> Self:
        """Inverse of ``state``."""
        grouped: dict[str, State] = {}
        for key, value in state.items():
            head, _, rest = key.partition("/")
            grouped.setdefault(head, {})[rest] = value

        def many(name: str, kind: Any) -> tuple[Any, ...]:
            return tuple(kind.from_state(grouped[f"{name}{i}"]) for i in range(int(state[f"n_{name}"])))

        target, seconds = many("ends", Moments)
        return cls(
            changes=Changes.from_state(grouped.get("changes", {})),
            by_class=dict(zip(map(label_from_text, state["labels"]), many("class", Moments), strict=True)),
            quantiles=tuple(unpack(grouped["quantiles"])),
            frequent=many("frequent", HeavyHitters),
            distinct=many("distinct", DistinctCount),
            target=target,
            seconds=seconds,
            n_thin=int(state["n_thin"]),
            # states written before there was one have none
            target_quantiles=Digest.from_state(grouped["outcome"]) if "outcome" in grouped else Digest.empty(),
        )


def profile(columns: Columns, block: npt.NDArray[Any], *, exact_quantiles: bool, numeric_frequent: bool) -> Profile:
    """Statistics of one cleaned chunk of training rows.

    Parameters
    ----------
    columns : Columns
        Training rows only.
    block : (n, p) float
        ``numeric_block(columns)``.
    exact_quantiles : bool
        Digest every row, because a rule needs the quantiles (median, clipping, robust scaling).
    numeric_frequent : bool
        Count frequent values of numeric features too (most frequent value as fill).
    """
    thin = _thin(len(columns))
    coded = [_dictionary(c) for c in columns.categories]
    weights = columns.weights
    quantity = columns.target if isinstance(columns.target, np.ndarray) else None
    return Profile(
        changes=columns.changes,
        by_class=_by_class(columns, block),
        quantiles=tuple(digests(block) if exact_quantiles else digests(take_rows(block, thin), THIN_DELTA)),
        frequent=tuple(heavy_hitters(a) for a in coded)
        + (
            tuple(heavy_hitters(pa.array(block[:, j], from_pandas=True)) for j in range(block.shape[1]))
            if numeric_frequent
            else ()
        ),
        distinct=tuple(distinct_count(_dictionary(c.take(thin))) for c in columns.categories),
        target=Moments.empty(0) if quantity is None else moments(_column(quantity), weights),
        seconds=moments(_column(columns.seconds), weights) if columns.seconds is not None else Moments.empty(0),
        n_thin=len(thin),
        target_quantiles=Digest.empty()
        if quantity is None
        else digest(quantity if exact_quantiles else quantity[thin]),
    )


def _thin(n: int) -> npt.NDArray[np.intp]:
    """Positions of some rows, one in each stretch; a fixed scatter keeps periodic data from aliasing."""
    step = max(1, n // THIN_ROWS)
    start = np.arange(0, n, step)
    scatter = (np.arange(len(start), dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15) >> np.uint64(33)) % np.uint64(
        step
    )
    return np.asarray(np.minimum(start + scatter.astype(np.intp), n - 1), dtype=np.intp)


def _by_class(columns: Columns, block: npt.NDArray[Any]) -> dict[Level | None, Moments]:
    if not isinstance(columns.target, Coded):
        return {None: moments(block, columns.weights)}
    out: dict[Level | None, Moments] = {}
    codes, weights = columns.target.codes, columns.weights
    counts = np.bincount(codes, minlength=len(columns.target.levels))
    if len(counts) > MAX_CLASSES:
        raise TargetError(
            f"{columns.path}: target '{columns.schema.target}' has {len(counts)} distinct values in one chunk, and "
            f"{MAX_CLASSES} classes at most can be learned. "
            'For a quantity, say task = "regression"; an identifier is no target.'
        )
    live = np.flatnonzero(counts)
    if weights is None and len(live) and not (codes[1:] < codes[:-1]).any():  # grouped by class
        found = grouped_moments(block, np.searchsorted(codes, live))
        return {columns.target.levels[code]: m for code, m in zip(live.tolist(), found, strict=True)}
    rows = class_rows(codes, len(counts))
    for code in live.tolist():
        own = rows[code]
        out[columns.target.levels[code]] = moments(take_rows(block, own), None if weights is None else weights[own])
    return out


def _dictionary(coded: Coded) -> pa.Array:
    levels = pa.array(list(coded.levels)) if coded.levels else pa.array([], pa.string())
    return pa.DictionaryArray.from_arrays(pa.array(coded.codes, mask=coded.codes < 0), levels)


def _column(values: npt.NDArray[Any] | None) -> npt.NDArray[Any]:
    return np.asarray(values, dtype=np.float64).reshape(-1, 1)


def merge_profiles(parts: Sequence[Profile]) -> Profile:
    """Merge profiles of one schema, in order; quantiles in a single step, which is exacter and cheaper than by twos.

    Raises
    ------
    TargetError
        More classes than can be learned.
    """
    labels = sorted({label for part in parts for label in part.by_class}, key=label_order)
    if len(labels) > MAX_CLASSES:
        raise TargetError(
            f"the target has more than {MAX_CLASSES} classes (such as {labels[:3]}). "
            'For a quantity, say task = "regression"; an identifier is no target.'
        )
    return Profile(
        changes=_added([part.changes for part in parts]),
        by_class={k: _added([part.by_class[k] for part in parts if k in part.by_class]) for k in labels},
        quantiles=tuple(merge(column) for column in zip(*(part.quantiles for part in parts), strict=True)),
        frequent=tuple(_added(column) for column in zip(*(part.frequent for part in parts), strict=True)),
        distinct=tuple(_added(column) for column in zip(*(part.distinct for part in parts), strict=True)),
        target=_added([part.target for part in parts]),
        seconds=_added([part.seconds for part in parts]),
        n_thin=sum(part.n_thin for part in parts),
        target_quantiles=merge(part.target_quantiles for part in parts),
    )


def _added(items: Sequence[Any]) -> Any:
    return reduce(add, items)


def _prefix(name: str, state: State) -> State:
    return {f"{name}/{key}": value for key, value in state.items()}


def label_order(label: Level | None) -> tuple[str, Any]:
    """Sort key of class labels: numbers and booleans by value, then text."""
    # labels of one column have one type, but a file may hold true/false where another holds 0/1
    return ("", 0) if label is None else ("number", float(label)) if not isinstance(label, str) else ("text", label)


def label_text(label: Level | None) -> str:
    """Label as text that keeps its type.

    Examples
    --------
    >>> label_text(True), label_from_text("int:3")
    ('bool:True', 3)
    """
    return f"{type(label).__name__}:{label}"


def label_from_text(text: str) -> Level | None:
    """Inverse of ``label_text``."""
    kind, _, value = str(text).partition(":")
    if kind == "NoneType":
        return None
    if kind == "bool":
        return value == "True"
    return value if kind == "str" else int(value) if kind == "int" else float(value)
