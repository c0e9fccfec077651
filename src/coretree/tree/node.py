"""What a pass leaves in the store for one leaf or one merged subtree: surveys (pass 1) and nodes (pass 2)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self, TypeAlias

import numpy as np
import numpy.typing as npt

from coretree.coreset.cells import Cells
from coretree.coreset.cells import merge as merge_cells
from coretree.coreset.class_sketches import ClassSketches, merge_classes
from coretree.coreset.comoments import CoMoments
from coretree.coreset.priority import Sketch, merge
from coretree.coreset.quotas import Quotas, class_quotas
from coretree.coreset.rfactor import RFactor
from coretree.coreset.second_moments import Summary
from coretree.coreset.totals import Totals
from coretree.data.profile import Level, Profile, label_from_text, label_order, label_text, merge_profiles
from coretree.tree.codec import decode, encode

Arrays = dict[str, npt.NDArray[Any]]
AnySketch: TypeAlias = Sketch | ClassSketches
Capacity: TypeAlias = Callable[[str], int | Quotas]
"""Capacity of the sketch of an objective: rows, or rows of each class."""


@dataclass(frozen=True, eq=False)
class Survey:
    """Pass 1: the profile of the training rows, and a pilot sketch of each class (or one, under None).

    ``uniform`` holds a second sketch of each class, by equal scores, where this pass is the only one.
    """

    profile: Profile
    pilots: Mapping[Level | None, Sketch]
    uniform: Mapping[Level | None, Sketch] = field(default_factory=dict)

    @classmethod
    def merge(cls, parts: Sequence[Survey], capacity: Callable[[Level | None], int] | None = None) -> Survey:
        """Merge in the given (leaf) order; by default a class keeps the smallest capacity of the parts that hold it."""
        whole = merge_profiles([part.profile for part in parts])
        pilots = _merged_by_label([part.pilots for part in parts], capacity)
        return cls(whole, pilots, _merged_by_label([part.uniform for part in parts], capacity))

    def reduced(self, size: int, whole: Collection[Level | None]) -> Survey:
        """Cut all sketches down to ``size`` rows in all, but for classes that are kept whole."""

        def cut(sketches: Mapping[Level | None, Sketch]) -> dict[Level | None, Sketch]:
            held = [min(len(s), s.capacity) for s in sketches.values()]
            fixed = [i for i, label in enumerate(sketches) if label in whole]
            room = size + sum(held[i] for i in fixed)
            quotas = class_quotas(held, room, budgets=dict.fromkeys(fixed, "all")).tolist()
            return {k: s.reduce(min(q, s.capacity)) for (k, s), q in zip(sketches.items(), quotas, strict=True)}

        return replace(self, pilots=cut(self.pilots), uniform=cut(self.uniform))

    def to_bytes(self) -> bytes:
        """One stored object."""
        arrays = prefixed("profile", self.profile.state())
        for name, sketches in (("pilot", self.pilots), ("uniform", self.uniform)):
            arrays[f"{name}s"] = np.array([label_text(k) for k in sketches], dtype=object)
            for i, found in enumerate(sketches.values()):
                arrays |= prefixed(f"{name}{i}", found.state())
        return encode(arrays, {"kind": "survey"})

    @classmethod
    def from_bytes(cls, data: bytes, *, where: str) -> Self:
        """Inverse of ``to_bytes``."""
        arrays, _ = decode(data, where=where)
        groups = by_prefix(arrays)

        def sketches(name: str) -> dict[Level | None, Sketch]:
            labels = [label_from_text(t) for t in arrays[f"{name}s"]]
            return {k: Sketch.from_state(groups[f"{name}{i}"]) for i, k in enumerate(labels)}

        return cls(Profile.from_state(groups["profile"]), sketches("pilot"), sketches("uniform"))


@dataclass(frozen=True, eq=False)
class Node:
    """Pass 2: the sketches that different objectives need, side by side, and exact sums over all rows.

    Attributes
    ----------
    profile : Profile or None
        Statistics of the rows: what drift is measured by. Pass 3 leaves none.
    rows : ndarray of int64, shape (K,)
        Training rows of each class; one entry without classes.
    counts : ndarray of float64, shape (K,)
        Their base weight.
    sketches : mapping of str to Sketch or ClassSketches
        "robust" for linear models, "balanced" and "residual" for trees, "uniform" for validation and as a yardstick,
        and one for each further loss.
    totals : mapping of str to Totals
        For each objective with a pilot: loss, gradient and Hessian there, of every row.
    moments : mapping of label to CoMoments or RFactor
        Exact first and second moments of the prepared features: with the target, under None, for a quantity; of each
        class otherwise. Empty where the recipe does not ask for them.
    cells : Cells or None
        kd cells of the prepared features, where the recipe asks for them.
    """

    profile: Profile | None
    rows: npt.NDArray[np.int64]
    counts: npt.NDArray[np.float64]
    sketches: Mapping[str, AnySketch]
    totals: Mapping[str, Totals] = field(default_factory=dict)
    moments: Mapping[Level | None, Summary] = field(default_factory=dict)
    cells: Cells | None = None

    @property
    def n_rows(self) -> int:
        """Training rows that the node stands for."""
        return int(self.rows.sum())

    @property
    def plain_totals(self) -> Totals:
        """Counts alone, for sketches without a pilot."""
        return Totals.of_counts(self.n_rows, self.counts)

    @classmethod
    def merge(cls, parts: Sequence[Node], capacity: Capacity) -> Node:
        """Merge in the given (leaf) order; ``capacity`` is that of the tree, which leaves may undercut.

        What one part lacks, such as the profile of a leaf that a window cuts, the whole lacks.
        """
        first, profiles = parts[0], [part.profile for part in parts if part.profile is not None]
        cells = [part.cells for part in parts if part.cells is not None]
        exact = {} if any(part.moments.keys() != first.moments.keys() for part in parts) else first.moments
        return cls(
            merge_profiles(profiles) if len(profiles) == len(parts) else None,
            np.sum([part.rows for part in parts], axis=0),
            np.sum([part.counts for part in parts], axis=0),
            {k: merged([part.sketches[k] for part in parts], capacity(k)) for k in first.sketches},
            {k: sum((part.totals[k] for part in parts[1:]), found) for k, found in first.totals.items()},
            {k: sum((part.moments[k] for part in parts[1:]), found) for k, found in exact.items()},
            merge_cells(cells) if len(cells) == len(parts) else None,
        )

    def reduced(self, kept: Callable[[str, AnySketch], int | Quotas]) -> Node:
        """Cut every sketch down to so many rows."""
        cut: dict[str, AnySketch] = {}
        for name, found in self.sketches.items():
            rows = np.asarray(kept(name, found))
            cut[name] = (
                found.reduce(min(int(rows), found.capacity)) if isinstance(found, Sketch) else found.reduce(rows)
            )
        return replace(self, sketches=cut)

    def to_bytes(self) -> bytes:
        """One stored object."""
        arrays: Arrays = {"rows": self.rows, "counts": self.counts}
        if self.profile is not None:
            arrays |= prefixed("profile", self.profile.state())
        kinds: dict[str, str] = {}
        for name, found in self.sketches.items():
            kinds[name] = "one" if isinstance(found, Sketch) else "classes"
            arrays |= prefixed(f"sketch:{name}", found.state())
        for name, totals in self.totals.items():
            arrays |= prefixed(f"totals:{name}", totals.state())
        labels = list(self.moments)
        for i, label in enumerate(labels):
            arrays |= prefixed(f"moments{i}", self.moments[label].state())
        if self.cells is not None:
            arrays |= prefixed("cells", self.cells.state())
        metadata: dict[str, Any] = {
            "sketches": kinds,
            "totals": list(self.totals),
            "moments": [label_text(k) for k in labels],
            "factors": any(isinstance(m, RFactor) for m in self.moments.values()),
        }
        return encode(arrays, {"kind": "node", **metadata})

    @classmethod
    def from_bytes(cls, data: bytes, *, where: str) -> Self:
        """Inverse of ``to_bytes``."""
        arrays, metadata = decode(data, where=where)
        groups = by_prefix(arrays)
        kinds: dict[str, Any] = {"one": Sketch, "classes": ClassSketches}
        summary: Any = RFactor if metadata["factors"] else CoMoments
        labels = [label_from_text(text) for text in metadata["moments"]]
        return cls(
            Profile.from_state(groups["profile"]) if "profile" in groups else None,
            arrays["rows"],
            arrays["counts"],
            {k: kinds[kind].from_state(groups[f"sketch:{k}"]) for k, kind in metadata["sketches"].items()},
            {k: Totals.from_state(groups[f"totals:{k}"]) for k in metadata["totals"]},
            {k: summary.from_state(groups[f"moments{i}"]) for i, k in enumerate(labels)},
            Cells.from_state(groups["cells"]) if "cells" in groups else None,
        )


def merged(parts: Sequence[AnySketch], capacity: int | Quotas) -> AnySketch:
    """Merge the sketches of one objective."""
    if isinstance(parts[0], Sketch):
        return merge([part for part in parts if isinstance(part, Sketch)], capacity=int(capacity))
    return merge_classes([part for part in parts if isinstance(part, ClassSketches)], quotas=capacity)


def _merged_by_label(
    parts: Sequence[Mapping[Level | None, Sketch]], capacity: Callable[[Level | None], int] | None
) -> dict[Level | None, Sketch]:
    labels = sorted({label for part in parts for label in part}, key=label_order)
    limits = {k: None if capacity is None else capacity(k) for k in labels}
    return {k: merge([part[k] for part in parts if k in part], capacity=limits[k]) for k in labels}


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
