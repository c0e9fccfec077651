"""Pass 1: what a streaming look at the training rows leaves behind, all of it mergeable."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from operator import add
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from coretree.data.categories import HeavyHitters, heavy_hitters
from coretree.data.class_moments import MAX_CLASSES, class_moments_of, joined
from coretree.data.class_moments import pack as pack_moments
from coretree.data.class_moments import unpack as unpack_moments
from coretree.data.columns import Changes, Coded, Columns, take_rows
from coretree.data.columns import Level as Level
from coretree.data.digest_arrays import pack, unpack
from coretree.data.distinct import DistinctCount, distinct_count
from coretree.data.moments import Moments, moments
from coretree.data.quantiles import Digest, digest, digests, merge
from coretree.data.schema import Schema
from coretree.data.timestamps import datetime_parts, part_names
from coretree.errors import TargetError

# Rows a chunk contributes to summaries that only describe the data (quantiles nobody asked for, distinct counts).
THIN_ROWS = 4096
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
    moments : Moments
        Of the numeric features.
    by_class : mapping of label to Moments
        Rows and weight of each class; one entry, ``None``, where the target is a quantity. With the moments of the
        numeric features in the class where they were asked for (``class_moments``), else of no columns.
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
    moments: Moments
    by_class: Mapping[Level | None, Moments]
    quantiles: tuple[Digest, ...]
    frequent: tuple[HeavyHitters, ...]
    distinct: tuple[DistinctCount, ...]
    target: Moments
    seconds: Moments
    n_thin: int = 0
    target_quantiles: Digest = field(default_factory=Digest.empty)

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
        out |= _prefix("quantiles", pack(self.quantiles)) | _prefix("moments", self.moments.state())
        out |= _prefix("classes", pack_moments([self.by_class[k] for k in labels]))
        parts: dict[str, Sequence[Any]] = {
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
        # of old, moments of the classes alone were stored, each on its own
        classes = unpack_moments(grouped["classes"]) if "classes" in grouped else many("class", Moments)
        none = Moments.empty(len(grouped["quantiles"]["lengths"]))
        return cls(
            changes=Changes.from_state(grouped.get("changes", {})),
            moments=Moments.from_state(grouped["moments"]) if "moments" in grouped else sum(classes, none),
            by_class=dict(zip(map(label_from_text, state["labels"]), classes, strict=True)),
            quantiles=tuple(unpack(grouped["quantiles"])),
            frequent=many("frequent", HeavyHitters),
            distinct=many("distinct", DistinctCount),
            target=target,
            seconds=seconds,
            n_thin=int(state["n_thin"]),
            # states written before there was one have none
            target_quantiles=Digest.from_state(grouped["outcome"]) if "outcome" in grouped else Digest.empty(),
        )


def profile(
    columns: Columns,
    block: npt.NDArray[Any],
    *,
    exact_quantiles: bool,
    numeric_frequent: bool,
    class_moments: bool = False,
) -> Profile:
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
    class_moments : bool
        Gather the moments of the numeric features in each class; cheapest where rows lie class by class.
    """
    thin = _thin(len(columns))
    coded = [_dictionary(c) for c in columns.categories]
    weights = columns.weights
    quantity = columns.target if isinstance(columns.target, np.ndarray) else None
    by_class = class_moments_of(columns, block if class_moments else block[:, :0])
    return Profile(
        changes=columns.changes,
        moments=_added([*by_class.values()] or [moments(block)]) if class_moments else moments(block, weights),
        by_class=by_class,
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
    few = min((m.n_features for part in parts for m in part.by_class.values()), default=0)  # what all parts know
    return Profile(
        changes=_added([part.changes for part in parts]),
        moments=_added([part.moments for part in parts]),
        by_class={k: joined([part.by_class[k] for part in parts if k in part.by_class], few) for k in labels},
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
