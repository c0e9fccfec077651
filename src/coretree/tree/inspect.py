"""Look at a stored tree: verify every checksum, name and sum; list what is unreachable; compare two trees."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from coretree.errors import CoretreeError
from coretree.tree.codec import decode
from coretree.tree.manifest import Manifest
from coretree.tree.node import Node, Survey
from coretree.tree.plan import Plan, plan
from coretree.tree.recipe import load_recipe, recipe_key
from coretree.tree.store import Store, node_key, stored_nodes


@dataclass(frozen=True)
class Verification:
    """What a check of every stored object found; true if nothing is wrong.

    ``unreachable`` counts nodes that the tree no longer needs, such as those of an interrupted run: they do no harm,
    but may still hold rows that were erased, so `gc` them.
    """

    n_nodes: int
    n_bytes: int
    problems: tuple[str, ...]
    unreachable: int = 0

    def __bool__(self) -> bool:
        return not self.problems

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {**asdict(self), "problems": list(self.problems), "ok": bool(self)}


def shapes_of(manifest: Manifest) -> list[Plan]:
    """Shapes of the passes that left nodes, the main one first."""
    under = [str(manifest.settings["under"])]
    if manifest.refined is not None:
        under.append(manifest.refined[0])
    identities = [leaf.identity for leaf in manifest.leaves]
    names = {name: [leaf.node_under(name) for leaf in manifest.leaves] for name in under}
    return [plan(names[u], recipe=u, fan_in=manifest.fan_in, identities=identities) for u in under]


def verify(store: Store, manifest: Manifest) -> Verification:
    """Read every object that the manifest names, and check what can be checked without the data."""
    problems: list[str] = []
    recipes = {manifest.recipe, *(manifest.refined or ())[:1]}
    for name in sorted(recipes):
        try:
            found = load_recipe(store, name)
            if found.name != name:
                problems.append(f"{recipe_key(name)}: its content has the name {found.name}")
        except CoretreeError as error:
            problems.append(str(error))
    shapes = shapes_of(manifest)
    if shapes[0].root != manifest.root:
        problems.append(f"manifest: the leaves make the root {shapes[0].root}, but it names {manifest.root}")
    if manifest.refined is not None and shapes[1].root != manifest.refined[1]:
        found_root = f"{shapes[1].root} for the third pass, but it names {manifest.refined[1]}"
        problems.append(f"manifest: the leaves make the root {found_root}")
    needed = {name: children for shape in shapes for name, children in shape.nodes.items()}
    problems += [f"manifest: node {name} is not listed" for name in sorted(needed.keys() - manifest.nodes.keys())]
    sums: dict[str, np.ndarray[Any, Any]] = {}
    for name in sorted(manifest.nodes):
        problems += _node_problems(store, manifest, name, sums)
    for name, children in needed.items():
        if children and name in sums and all(child in sums for child in children):
            total = np.sum([sums[child] for child in children], axis=0)
            if not np.allclose(total, sums[name], rtol=1e-9):
                problems.append(f"{node_key(name)}: its sums are not those of its {len(children)} children")
    extra = len(stored_nodes(store) - manifest.nodes.keys())
    n_bytes = sum(item.n_bytes for item in manifest.nodes.values())
    return Verification(len(manifest.nodes), n_bytes, tuple(problems), extra)


def _node_problems(store: Store, manifest: Manifest, name: str, sums: dict[str, np.ndarray[Any, Any]]) -> list[str]:
    """What is wrong with one node; leaves its sums behind."""
    key, known = node_key(name), manifest.nodes[name]
    try:
        data = store.get(key)
        if len(data) != known.n_bytes or hashlib.sha256(data).hexdigest() != known.sha256:
            return [f"{key}: its {len(data):,} bytes are not those of the manifest"]
        if decode(data, where=key)[1]["kind"] == "survey":
            profile = Survey.from_bytes(data, where=key).profile
            n_rows = profile.n_rows
            sums[name] = np.array([n_rows, profile.weight])
        else:
            node = Node.from_bytes(data, where=key)
            n_rows = node.n_rows if node.profile is not None else known.n_rows
            totals = [float(t.loss) for _, t in sorted(node.totals.items())]
            sums[name] = np.concatenate([node.rows, node.counts, totals])
    except CoretreeError as error:
        return [str(error)]
    if n_rows != known.n_rows:
        return [f"{key}: it stands for {n_rows:,} rows, but the manifest says {known.n_rows:,}"]
    return []


def unreachable(store: Store, manifest: Manifest) -> tuple[str, ...]:
    """Keys of nodes and recipes that the manifest does not need."""
    recipes = {recipe_key(name) for name in (manifest.recipe, *(manifest.refined or ())[:1])}
    nodes = [node_key(name) for name in stored_nodes(store) - manifest.nodes.keys()]
    return tuple(sorted([*nodes, *(key for key in store.names("recipes/") if key not in recipes)]))


def compare(ours: Manifest, theirs: Manifest) -> dict[str, Any]:
    """Leaves of the second tree that are new, changed or gone against the first; whether the recipes agree."""
    mine = {leaf.identity: leaf for leaf in ours.leaves}
    other = {leaf.identity: leaf for leaf in theirs.leaves}

    return {
        "same_root": ours.root == theirs.root,
        "same_recipe": ours.recipe == theirs.recipe,
        "added": sorted(other.keys() - mine.keys()),
        "removed": sorted(mine.keys() - other.keys()),
        "changed": sorted(k for k in mine.keys() & other.keys() if mine[k].content != other[k].content),
        "n_rows": [found.nodes[found.root].n_rows for found in (ours, theirs)],
        "shared_nodes": len(ours.nodes.keys() & theirs.nodes.keys()),
    }


def describe(manifest: Manifest) -> dict[str, Any]:
    """Levels, sizes, times and storage, for a reader."""
    shape = shapes_of(manifest)[0]
    times = [(n.first, n.last) for n in manifest.nodes.values() if n.first is not None and n.last is not None]
    seen: Counter[str] = Counter()
    levels = []
    for level in shape.levels:
        new = [name for name in level if not seen[name]]
        seen.update(new)
        if new:
            levels.append({"nodes": len(new), "bytes": sum(manifest.nodes[name].n_bytes for name in new)})
    return {
        "root": manifest.root,
        "recipe": manifest.recipe,
        "leaves": len(manifest.leaves),
        "rows": manifest.nodes[manifest.root].n_rows,
        "levels": levels,
        "bytes": sum(item.n_bytes for item in manifest.nodes.values()),
        "first": min((first for first, _ in times), default=None),
        "last": max((last for _, last in times), default=None),
        "erased_rows": sum(len(leaf.extra.get("erased", [])) for leaf in manifest.leaves),
        "settings": {k: manifest.settings[k] for k in ("size", "seed", "passes", "objectives")},
        "created_by": dict(manifest.created_by),
        "history": list(manifest.settings.get("history", [])),
    }
