"""The recipe: everything frozen between the passes, by whose name nodes agree that they may be merged."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np

from coretree.coreset.scores import PilotState
from coretree.data.clean import CleanRules
from coretree.data.columns import Level
from coretree.data.prepare import Preparation
from coretree.data.profile import label_from_text, label_text
from coretree.data.schema import Schema
from coretree.data.split import Split
from coretree.tree.codec import decode, encode
from coretree.tree.plan import digest
from coretree.tree.store import Store

RECIPE_FORMAT = 1


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
        Class labels in the order of their codes; None where the target is a quantity.
    objectives : tuple of str
        Sketches that every node carries.
    size, leaf_size : int
        Rows a node keeps per sketch, and rows a leaf keeps (its share of a large tree, to bound storage).
    seed : int
    exact : bool
        Whether nodes carry the exact moments of the prepared features.
    pilot : PilotState
        Pilot model and what scores need.
    """

    preparation: Preparation
    clean: CleanRules
    split: Split | None
    classes: tuple[Level, ...] | None
    objectives: tuple[str, ...]
    size: int
    leaf_size: int
    seed: int
    exact: bool
    pilot: PilotState

    @property
    def schema(self) -> Schema:
        """Columns and roles."""
        return self.preparation.schema

    @property
    def labels(self) -> np.ndarray[Any, Any]:
        """Class labels as an array of their own type."""
        return np.array(self.classes)

    def metadata(self) -> dict[str, Any]:
        """Everything but the arrays, as plain data."""
        return {
            "format": RECIPE_FORMAT,
            "preparation": self.preparation.to_dict(),
            "clean": self.clean.to_dict(),
            "split": None if self.split is None else self.split.to_dict(),
            "classes": None if self.classes is None else [label_text(c) for c in self.classes],
            "objectives": list(self.objectives),
            "size": self.size,
            "leaf_size": self.leaf_size,
            "seed": self.seed,
            "exact": self.exact,
        }

    @cached_property
    def name(self) -> str:
        """Hash of the content; independent of how it is stored."""
        arrays = {
            key: [
                a.dtype.str,
                list(a.shape),
                hashlib.sha256(repr(a.tolist()).encode() if a.dtype == object else a.tobytes()).hexdigest(),
            ]
            for key, a in self.pilot.state().items()
        }
        return digest("recipe", self.metadata(), arrays)

    @property
    def key(self) -> str:
        """Where the store keeps it."""
        return recipe_key(self.name)

    def to_bytes(self) -> bytes:
        """One stored object."""
        return encode(self.pilot.state(), {"kind": "recipe", **self.metadata()})

    @classmethod
    def from_bytes(cls, data: bytes, *, where: str) -> Self:
        """Inverse of ``to_bytes``."""
        arrays, meta = decode(data, where=where)
        classes = meta["classes"]
        return cls(
            preparation=Preparation.from_dict(meta["preparation"]),
            clean=CleanRules(**meta["clean"]),
            split=None if meta["split"] is None else Split(**meta["split"]),
            classes=None if classes is None else tuple(_known(c) for c in classes),
            objectives=tuple(meta["objectives"]),
            size=meta["size"],
            leaf_size=meta["leaf_size"],
            seed=meta["seed"],
            exact=meta["exact"],
            pilot=PilotState.from_state(arrays),
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
