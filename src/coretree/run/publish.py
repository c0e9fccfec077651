"""The last step of a build: one manifest that names everything, and what is known of nodes an earlier run left."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib import metadata
from typing import Any

import coretree
from coretree.data.dataset import Dataset
from coretree.data.scan import Leaf
from coretree.errors import DamagedNodeError
from coretree.run.settings import Settings
from coretree.run.tasks import described
from coretree.tree.codec import decode
from coretree.tree.manifest import LeafEntry, Manifest, StoredObject, commit, load
from coretree.tree.node import Node, Survey
from coretree.tree.plan import Plan
from coretree.tree.recipe import Recipe
from coretree.tree.store import Store, node_key, stored_nodes


@dataclass(frozen=True, eq=False)
class Refinement:
    """Pass 3: its recipe, whose pilot is the model of pass 2, and its plan."""

    recipe: Recipe
    shape: Plan


def publish(
    data: Dataset,
    settings: Settings,
    source: str,
    recipe: Recipe,
    shape: Plan,
    third: Refinement | None,
    made: Mapping[str, StoredObject],
    store: Store,
    *,
    under: str,
) -> Manifest:
    """Write the manifest: after this single write the tree exists.

    ``under`` is what the leaves' names were made of: the recipe's name, or the survey's where there was one pass.
    """
    names = [*shape.nodes, *(third.shape.nodes if third is not None else ())]
    objects = {name: made[name] if name in made else describe_stored(store, name) for name in names}
    leaves = tuple(entry_of(leaf, name) for leaf, name in zip(data.scan.leaves, shape.names_of_leaves, strict=True))
    kept: dict[str, Any] = {
        **settings.to_dict(),
        "source": source,
        "where": data.scan.where,
        "under": under,
        "data": data.to_dict(),
        "refined": None if third is None else {"recipe": third.recipe.name, "root": third.shape.root},
    }
    manifest = Manifest(shape.root, recipe.name, leaves, settings.fan_in, objects, kept, versions())
    commit(store, manifest, expected=None)
    return manifest


def entry_of(leaf: Leaf, name: str) -> LeafEntry:
    """A leaf as the manifest knows it."""
    about: dict[str, Any] = {"path": leaf.path, "row_groups": list(leaf.row_groups)}
    if leaf.partition:
        about["partition"] = [list(pair) for pair in leaf.partition]
    if leaf.erased:
        about["erased"] = list(leaf.erased)
    return LeafEntry(leaf.identity, name, leaf.fingerprint, leaf.n_rows, about)


def describe_stored(store: Store, name: str) -> StoredObject:
    """What the manifest says of a node that an earlier run left; it is read whole, so a damaged one is noticed."""
    key = node_key(name)
    data = store.get(key)
    kind = decode(data, where=key)[1]["kind"]
    return described(data, (Survey if kind == "survey" else Node).from_bytes(data, where=key).profile)


def drop_damaged(store: Store) -> None:
    """Remove every node and recipe that does not decode; the next build makes them again."""
    recipes = store.names("recipes/") if load(store) is None else []  # of a finished tree nobody could make it again
    for key in [*(node_key(name) for name in sorted(stored_nodes(store))), *recipes]:
        try:
            decode(store.get(key), where=key)
        except DamagedNodeError:
            store.delete(key)


@lru_cache(maxsize=1)
def versions() -> Mapping[str, str]:
    """What writes a manifest."""
    packages = ("numpy", "pyarrow", "scikit-learn")
    found = {name: metadata.version(name) for name in packages}
    return {"coretree": coretree.__version__, "python": sys.version.split()[0], **found}
