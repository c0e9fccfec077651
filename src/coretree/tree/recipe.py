"""The recipe: everything frozen between the passes, by whose name nodes agree that they may be merged."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Self

import numpy as np

from coretree.coreset.priority import Sketch
from coretree.coreset.quotas import Budget, Quotas
from coretree.coreset.residuals import ResidualState
from coretree.coreset.scores import PilotState
from coretree.data.clean import CleanRules
from coretree.data.columns import Level
from coretree.data.prepare import Preparation
from coretree.data.profile import Profile, label_from_text, label_text
from coretree.data.schema import Schema
from coretree.data.split import Split
from coretree.tree.codec import decode, encode
from coretree.tree.node import AnySketch, Arrays, Capacity, by_prefix, prefixed
from coretree.tree.objectives import POOLED, POOLED_OF, Keeping
from coretree.tree.plan import digest
from coretree.tree.store import Store

RECIPE_FORMAT = 1
LEAF_SLACK = 1.5  # a leaf keeps so many times its share of the root, so that its threshold hardly ever decides


@dataclass(frozen=True, eq=False)
class Recipe:
    """How clean rows become a node.

    Attributes
    ----------
    preparation : Preparation
        Frozen filling, scaling and encoding, with the schema.
    clean : CleanRules
    split : Split or None
        Which rows train.
    classes : tuple of labels, or None
        Class labels in the order of their codes; None where the target is a quantity, or there is none.
    rows : tuple of int
        Training rows of each class when the recipe was frozen; one entry without classes.
    budgets : mapping of class code to rows, or "all"
        Rows of a class that the user asked for.
    objectives : tuple of str
        Sketches that every node carries.
    size, leaf_size : int
        Rows a node keeps per sketch, and rows a leaf keeps (its share of a large tree, to bound storage).
    seed : int
    exact : {"no", "moments", "factors"}
        Whether nodes carry the exact moments of the prepared features, and in which form.
    cells : int
        kd cells a node carries; 0 for none.
    scatter : bool
        Whether cells carry their scatter matrices.
    pilots : mapping of objective to PilotState
        Pilot models and what scores need. Empty where a single pass left no pilot.
    residual : ResidualState or None
        Boosted pilot of the residual sketch.
    reach : mapping of objective to tuple of float
        Key that the rows of the root are expected to stay below, with some room, of each stratum: a leaf keeps those
        even where they are more than ``leaf_size``, as in a leaf that is longer than others or holds a whole class.
    leaf_share : float
        Where a single pass left no pilot: rows that a leaf keeps of each of its own, if these are more.
    """

    preparation: Preparation
    clean: CleanRules
    split: Split | None
    classes: tuple[Level, ...] | None
    rows: tuple[int, ...]
    budgets: Mapping[int, Budget]
    objectives: tuple[str, ...]
    size: int
    leaf_size: int
    seed: int
    exact: str
    cells: int
    scatter: bool
    pilots: Mapping[str, PilotState]
    residual: ResidualState | None = None
    reach: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    leaf_share: float = 0.0

    @property
    def schema(self) -> Schema:
        """Columns and roles."""
        return self.preparation.schema

    @property
    def labels(self) -> np.ndarray[Any, Any]:
        """Class labels as an array of their own type."""
        return np.array(self.classes)

    @property
    def one_pass(self) -> bool:
        """Whether the tree was made in a single pass, without any pilot."""
        return self.schema.target is not None and not self.pilots

    @property
    def offers(self) -> tuple[str, ...]:
        """What coresets can be drawn for: the sketches, and the pool of two of them where trees would learn from it."""
        pools = self.schema.task == "regression" and set(POOLED_OF) <= set(self.objectives)
        return (*self.objectives, POOLED) if pools else self.objectives

    @property
    def keeping(self) -> Keeping:
        """How many rows of which class every sketch keeps."""
        by_class: tuple[str, ...] = ()
        if self.classes is not None:
            by_class = ("robust", "balanced") if self.one_pass else ("balanced",)
        return Keeping(self.rows, self.budgets, self.classes, by_class)

    def capacity(self, objective: str) -> int | Quotas:
        """Capacity of a sketch in every merge."""
        return self.keeping.capacity(objective, self.size)

    def leaf_capacity(self, objective: str) -> int | Quotas:
        """Capacity of a sketch in a leaf's chunks."""
        return self.keeping.leaf_capacity(objective, self.size, self.leaf_size)

    def chunk_capacity(self, seen: Profile | None) -> Capacity:
        """The same for chunks of one leaf: what the whole leaf will keep, where the rows of its classes are known."""
        if seen is None or self.classes is None or self.schema.id is not None:  # an id may repeat: fewer rows are left
            return self.leaf_capacity
        rows = [seen.by_class[label].n_rows if label in seen.by_class else 0 for label in self.classes]

        def known(objective: str) -> int | Quotas:
            limits, strata = self.leaf_capacity(objective), self.keeping.strata(objective, np.arange(len(rows)))
            if strata is None:
                return limits
            held = np.minimum(np.bincount(strata, rows, minlength=len(np.atleast_1d(limits))).astype(np.int64), limits)
            return np.minimum(limits, self.keeping.leaf_quotas(objective, held.tolist(), self.leaf_size))

        return known

    def kept(self, objective: str, capacity: int | Quotas, parts: Sequence[AnySketch]) -> int | Quotas:
        """Rows that a leaf keeps of a sketch, made of these parts: so many, or all within reach if they are more."""
        if objective not in self.reach:
            return capacity
        each = zip(*([s] if isinstance(s, Sketch) else s.parts for s in parts), strict=True)
        near = [sum(s.within(key) for s in own) for own, key in zip(each, self.reach[objective], strict=True)]
        found = np.maximum(capacity, np.minimum(near, self.capacity(objective)))
        return int(found[0]) if isinstance(parts[0], Sketch) else found

    def leaf_rows(self, objective: str, found: AnySketch) -> int | Quotas:
        """Rows that a whole leaf keeps of a sketch: its classes share them."""
        if isinstance(found, Sketch):
            return self.kept(objective, int(self.leaf_capacity(objective)), [found])
        held = [min(len(part), part.capacity) for part in found.parts]
        return self.kept(objective, self.keeping.leaf_quotas(objective, held, self.leaf_size), [found])

    def metadata(self) -> dict[str, Any]:
        """Everything but the arrays, as plain data."""
        reach = {name: list(keys) for name, keys in self.reach.items()}
        return {
            **({"reach": reach} if reach else {}),  # older recipes keep the names that they have
            **({"leaf_share": self.leaf_share} if self.leaf_share else {}),
            "format": RECIPE_FORMAT,
            "preparation": self.preparation.to_dict(),
            "clean": self.clean.to_dict(),
            "split": None if self.split is None else self.split.to_dict(),
            "classes": None if self.classes is None else [label_text(c) for c in self.classes],
            "rows": list(self.rows),
            "budgets": [[code, self.budgets[code]] for code in sorted(self.budgets)],
            "objectives": list(self.objectives),
            "size": self.size,
            "leaf_size": self.leaf_size,
            "seed": self.seed,
            "exact": self.exact,
            "cells": self.cells,
            "scatter": self.scatter,
            "pilots": list(self.pilots),
        }

    def arrays(self) -> Arrays:
        """The arrays of all pilots."""
        out: Arrays = {}
        for name, pilot in self.pilots.items():
            out |= prefixed(f"pilot:{name}", pilot.state())
        return out if self.residual is None else out | prefixed("residual", self.residual.state())

    @cached_property
    def name(self) -> str:
        """Hash of the content; independent of how it is stored."""
        arrays = {
            key: [
                a.dtype.str,
                list(a.shape),
                hashlib.sha256(repr(a.tolist()).encode() if a.dtype == object else a.tobytes()).hexdigest(),
            ]
            for key, a in self.arrays().items()
        }
        return digest("recipe", self.metadata(), arrays)

    @property
    def key(self) -> str:
        """Where the store keeps it."""
        return recipe_key(self.name)

    def to_bytes(self) -> bytes:
        """One stored object."""
        return encode(self.arrays(), {"kind": "recipe", **self.metadata()})

    @classmethod
    def from_bytes(cls, data: bytes, *, where: str) -> Self:
        """Inverse of ``to_bytes``."""
        arrays, meta = decode(data, where=where)
        groups = by_prefix(arrays)
        classes = meta["classes"]
        return cls(
            preparation=Preparation.from_dict(meta["preparation"]),
            clean=CleanRules(**meta["clean"]),
            split=None if meta["split"] is None else Split(**meta["split"]),
            classes=None if classes is None else tuple(_known(c) for c in classes),
            rows=tuple(meta["rows"]),
            budgets={int(code): budget for code, budget in meta["budgets"]},
            objectives=tuple(meta["objectives"]),
            **{name: meta[name] for name in ("size", "leaf_size", "seed", "exact", "cells", "scatter")},
            pilots={name: PilotState.from_state(groups[f"pilot:{name}"]) for name in meta["pilots"]},
            residual=ResidualState.from_state(groups["residual"]) if "residual" in groups else None,
            reach={name: tuple(keys) for name, keys in meta.get("reach", {}).items()},
            leaf_share=meta.get("leaf_share", 0.0),
        )


def recipe_key(name: str) -> str:
    """Key of a recipe's object.

    Examples
    --------
    >>> recipe_key("ab12")
    'recipes/ab12.arrow'
    """
    return f"recipes/{name}.arrow"


def load_recipe(store: Store, name: str) -> Recipe:
    """Read a recipe by name.

    Raises
    ------
    StoreError
        It is not there, or damaged.
    """
    key = recipe_key(name)
    return Recipe.from_bytes(store.get(key), where=key)


def _known(text: str) -> Level:
    label = label_from_text(text)
    assert label is not None
    return label
