"""Change a stored tree: new, changed and vanished files, and the trees of other sites."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from coretree.data.dataset import Dataset
from coretree.errors import ConfigError, DamagedNodeError, RecipeMismatchError
from coretree.run.build import Progress, source_name
from coretree.run.erasures import Erased, erased_from, to_remember
from coretree.run.executor import Executor
from coretree.run.membership import Change, Frozen, Member, members_of, scanned
from coretree.run.settings import Settings
from coretree.run.settle import settle
from coretree.tree.manifest import Manifest, StoredObject
from coretree.tree.store import Store, node_key, stored_nodes

Vanished = Literal["drop", "keep"]
HISTORY = 1_000  # changes of which a record is kept; erasures are never forgotten


def update_tree(
    store: Store,
    current: tuple[Manifest, str],
    settings: Settings,
    data: Dataset,
    executor: Executor,
    progress: Progress | None,
    *,
    vanished: Vanished,
    now: str,
) -> Change:
    """Bring a tree in line with a dataset: see ``CoresetTree.update``."""
    if vanished not in ("drop", "keep"):
        raise ConfigError(f"vanished={vanished!r} must be 'drop' or 'keep'.")
    manifest, _ = current
    frozen = Frozen.of(store, manifest, settings)
    data = replace(data)  # the files as they are now, not as they were when this dataset was first looked at
    erased = erased_from([manifest], by_id=frozen.by_id)
    found = scanned(data, frozen, manifest, erased)
    known = {leaf.identity: leaf for leaf in manifest.leaves}
    there = {member.entry.identity for member in found}
    if not there & known.keys() and vanished == "drop":
        raise ConfigError(
            f"{data.scan.where}: not one of the tree's {len(known)} leaves is in this dataset: all would be dropped. "
            "Open the whole dataset, old files and new; or keep the old leaves with vanished='keep'."
        )
    files = {member.file for member in found}
    left = [member for member in members_of(manifest) if member.entry.identity not in there]
    # a file that is there goes by what is in it now, however it was cut before
    kept = [member for member in left if vanished == "keep" and member.file not in files]
    members = [*found, *kept]
    counts = {
        "added": len(there - known.keys()),
        "changed": sum(m.entry.identity in known and m.entry.content != known[m.entry.identity].content for m in found),
        "removed": len(left) - len(kept),
    }
    if not any(counts.values()) and manifest.nodes.keys() <= stored_nodes(store):
        return Change(0, 0, 0, len(members), 0, 0, manifest.root)
    exact = not kept and not any(member.entry.extra.get("erased") for member in members)
    whole = data.on_side(frozen.recipe.split)
    notes = {"source": source_name(whole, settings) if exact else None, "data": data.to_dict()}
    record = {"update": counts}
    return settled(members, data, frozen, store, executor, progress, current, notes, record, now, erased)


def absorb_trees(
    store: Store,
    current: tuple[Manifest, str],
    settings: Settings,
    others: Sequence[tuple[str, Manifest, Store]],
    executor: Executor,
    now: str,
) -> Change:
    """Take the leaves of other trees (path, manifest, store) of the same recipe: see ``CoresetTree.absorb``."""
    manifest, _ = current
    frozen = Frozen.of(store, manifest, settings)
    members = members_of(manifest)
    for path, found, _ in others:
        if _made_under(found) != _made_under(manifest):
            raise RecipeMismatchError(
                f"{path}: its nodes were made under recipe {found.recipe[:8]}, those of this tree under "
                f"{manifest.recipe[:8]}. Build each site with CoresetTree(path).build(data, like=tree)."
            )
        members += members_of(found)
    _check_paths(members)
    for _, found, theirs in others:
        _copy(found, theirs, store)
    record = {"absorb": {"trees": len(others), "leaves": len(members) - len(manifest.leaves)}}
    known = {name: item for _, found, _ in others for name, item in found.nodes.items()}
    erased = erased_from([manifest, *(found for _, found, _ in others)], by_id=frozen.by_id)
    nowhere, notes = frozen.nowhere(), {"source": None}
    return settled(members, nowhere, frozen, store, executor, None, current, notes, record, now, erased, known)


def _check_paths(members: Sequence[Member]) -> None:
    seen: set[str] = set()
    for member in members:
        if member.entry.identity in seen:
            raise ConfigError(
                f"leaf '{member.entry.identity}' is in two of the trees: rows are identified by their path in the "
                "dataset. Give the files of each site names of their own, or open them from a common folder, such as "
                "Dataset.from_parquet('sites/a*/*.parquet')."
            )
        seen.add(member.entry.identity)


def _copy(manifest: Manifest, source: Store, store: Store) -> None:
    """Copy nodes, each checked on the way: a damaged one would stay under a good name."""
    for name, item in manifest.nodes.items():
        data = source.get(node_key(name))
        if hashlib.sha256(data).hexdigest() != item.sha256:
            raise DamagedNodeError(
                f"{source!r}, {node_key(name)}: the stored object is damaged. Delete it there and call update(data) "
                "on that tree; nothing was changed here."
            )
        store.put(node_key(name), data)


def _made_under(manifest: Manifest) -> tuple[str, str, str | None]:
    """Names that must agree for nodes to be merged."""
    return manifest.recipe, str(manifest.settings["under"]), None if manifest.refined is None else manifest.refined[0]


def settled(
    members: Sequence[Member],
    data: Dataset,
    frozen: Frozen,
    store: Store,
    executor: Executor,
    progress: Progress | None,
    current: tuple[Manifest, str],
    notes: Mapping[str, Any],
    record: Mapping[str, Any],
    now: str,
    erased: Erased,
    known: Mapping[str, StoredObject] | None = None,
) -> Change:
    """Settle, and note what was done."""
    manifest = current[0]
    entries = [member.entry for member in members]
    every = {
        **notes,
        "history": recorded(manifest.settings.get("history", ()), {"at": now, "before": manifest.root, **record}),
        "erased": to_remember(erased, entries, by_id=frozen.by_id),
    }
    done = settle(members, data, frozen, store, executor, progress, before=current, notes=every, known=known)
    before = {leaf.identity: leaf for leaf in manifest.leaves}
    after = {leaf.identity: leaf for leaf in done.manifest.leaves}
    both = before.keys() & after.keys()
    changed = sum(before[key].content != after[key].content for key in both)
    return Change(
        added=len(after.keys() - both),
        changed=changed,
        removed=len(before.keys() - both),
        kept=len(both) - changed,
        n_made=done.n_made,
        n_merged=done.n_merged,
        root=done.manifest.root,
    )


def recorded(history: Sequence[Mapping[str, Any]], record: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """A history with one more record; of the others only the last ones are kept, and every erasure.

    Examples
    --------
    >>> kept = recorded([{"erase": 1}, *({"update": i} for i in range(HISTORY))], {"update": "last"})
    >>> len(kept), kept[0], kept[1], kept[-1]
    (1001, {'erase': 1}, {'update': 1}, {'update': 'last'})
    """
    every = [*history, record]
    old = len(every) - HISTORY
    return [one for i, one in enumerate(every) if i >= old or "erase" in one]
