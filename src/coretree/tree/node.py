"""What a pass leaves in the store for one leaf or one merged subtree: surveys (pass 1) and nodes (pass 2)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from coretree.coreset.comoments import CoMoments
from coretree.coreset.priority import Sketch, merge
from coretree.coreset.totals import Totals
from coretree.data.profile import Level, Profile, label_from_text, label_order, label_text
from coretree.tree.codec import decode, encode

Arrays = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True, eq=False)
class Survey:
    """Pass 1: the profile of the training rows, and a pilot sketch of each class (or one, under None)."""

    profile: Profile
    pilots: Mapping[Level | None, Sketch]

    @classmethod
    def merge(cls, parts: Sequence[Survey]) -> Survey:
        """Merge in the given (leaf) order; a class keeps the smallest capacity among the parts that hold it."""
        labels = sorted({label for part in parts for label in part.pilots}, key=label_order)
        pilots = {k: merge([part.pilots[k] for part in parts if k in part.pilots]) for k in labels}
        return cls(sum((part.profile for part in parts[1:]), parts[0].profile), pilots)

    def to_bytes(self) -> bytes:
        """One stored object."""
        labels = list(self.pilots)
        arrays: Arrays = {"pilots": np.array([label_text(k) for k in labels], dtype=object)}
        arrays |= prefixed("profile", self.profile.state())
        for i, label in enumerate(labels):
            arrays |= prefixed(f"pilot{i}", self.pilots[label].state())
        return encode(arrays, {"kind": "survey"})

    @classmethod
    def from_bytes(cls, data: bytes, *, where: str) -> Self:
        """Inverse of ``to_bytes``."""
        arrays, _ = decode(data, where=where)
        groups = by_prefix(arrays)
        labels = [label_from_text(t) for t in arrays["pilots"]]
        pilots = {k: Sketch.from_state(groups[f"pilot{i}"]) for i, k in enumerate(labels)}
        return cls(Profile.from_state(groups["profile"]), pilots)


@dataclass(frozen=True, eq=False)
class Node:
    """Pass 2: the sketches that different objectives need, side by side, and the exact totals at the pilot.

    Attributes
    ----------
    sketches : mapping of str to Sketch
        "robust" for linear models, "balanced" for trees, "uniform" for validation and as a yardstick.
    totals : Totals
        Counts, sums, loss, gradient and Hessian of every training row below the node.
    moments : mapping of label to CoMoments
        Exact first and second moments of the prepared features: with the target, under None, for a quantity; of each
        class otherwise. Empty where the recipe does not ask for them.
    """

    sketches: Mapping[str, Sketch]
    totals: Totals
    moments: Mapping[Level | None, CoMoments] = field(default_factory=dict)

    @property
    def n_rows(self) -> int:
        """Training rows that the node stands for."""
        return self.totals.n_rows

    @classmethod
    def merge(cls, parts: Sequence[Node], capacity: int) -> Node:
        """Merge in the given (leaf) order; ``capacity`` is that of the tree, which leaves may undercut."""
        names = list(parts[0].sketches)
        sketches = {name: merge([part.sketches[name] for part in parts], capacity=capacity) for name in names}
        moments = {k: sum((p.moments[k] for p in parts[1:]), first) for k, first in parts[0].moments.items()}
        return cls(sketches, sum((part.totals for part in parts[1:]), parts[0].totals), moments)

    def to_bytes(self) -> bytes:
        """One stored object."""
        arrays = prefixed("totals", self.totals.state())
        for name, sketch in self.sketches.items():
            arrays |= prefixed(name, sketch.state())
        labels = list(self.moments)
        for i, label in enumerate(labels):
            arrays |= prefixed(f"moments{i}", self.moments[label].state())
        metadata = {"sketches": list(self.sketches), "moments": [label_text(k) for k in labels]}
        return encode(arrays, {"kind": "node", **metadata})

    @classmethod
    def from_bytes(cls, data: bytes, *, where: str) -> Self:
        """Inverse of ``to_bytes``."""
        arrays, metadata = decode(data, where=where)
        groups = by_prefix(arrays)
        sketches = {name: Sketch.from_state(groups[name]) for name in metadata["sketches"]}
        labels = [label_from_text(text) for text in metadata["moments"]]
        moments = {k: CoMoments.from_state(groups[f"moments{i}"]) for i, k in enumerate(labels)}
        return cls(sketches, Totals.from_state(groups["totals"]), moments)


def prefixed(name: str, state: Mapping[str, npt.NDArray[Any]]) -> Arrays:
    """Arrays of a part under its own name."""
    return {f"{name}/{key}": value for key, value in state.items()}


def by_prefix(arrays: Mapping[str, npt.NDArray[Any]]) -> dict[str, Arrays]:
    """Inverse of several ``prefixed``."""
    out: dict[str, Arrays] = {}
    for key, value in arrays.items():
        head, _, rest = key.partition("/")
        out.setdefault(head, {})[rest] = value
    return out
