"""Change a stored tree: new, changed and vanished files, leaves or rows to remove, trees of other sites."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from coretree.data.dataset import Dataset
from coretree.errors import ConfigError, RecipeMismatchError
from coretree.run.build import Progress, source_name
from coretree.run.executor import Executor
from coretree.run.find import ids_where
from coretree.run.membership import Change, Frozen, Member, members_of, scanned, settle
from coretree.run.selection import in_folders
from coretree.run.settings import Settings
from coretree.run.stored_tree import StoredTree
from coretree.run.tasks import Reading
from coretree.tree.inspect import unreachable
from coretree.tree.manifest import Manifest
from coretree.tree.store import Store, node_key

Vanished = Literal["drop", "keep"]


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
    manifest, _ = current
    frozen = Frozen.of(store, manifest, settings)
    known = {leaf.identity: leaf for leaf in manifest.leaves}
    found = scanned(data, frozen, known)
    there = {member.entry.identity for member in found}
    if not there & known.keys() and vanished == "drop":
        raise ConfigError(
            f"{data.scan.where}: not one of the tree's {len(known)} leaves is in this dataset: all would be dropped. "
            "Open the whole dataset, old files and new; or keep the old leaves with vanished='keep'."
        )
    changed = [m for m in found if m.entry.identity in known and not _same(m, known)]
    added = [m for m in found if m.entry.identity not in known]
    left = [Member(leaf) for leaf in manifest.leaves if leaf.identity not in there]
    members = [*found, *(left if vanished == "keep" else [])]
    gone = 0 if vanished == "keep" else len(left)
    exact = not any(member.entry.extra.get("erased") for member in members) and not (left and vanished == "keep")
    notes = {"source": source_name(data, settings) if exact else None, "data": data.to_dict()}
    counts = {"added": len(added), "changed": len(changed), "removed": gone}
    if not any(counts.values()):
        return Change(0, 0, 0, len(members), 0, 0, manifest.root)
    return _settled(members, data, frozen, store, executor, progress, current, notes, {"update": counts}, now)


def _same(member: Member, known: Mapping[str, Any]) -> bool:
    old = known[member.entry.identity]
    return (member.entry.fingerprint, list(member.entry.extra.get("row_groups", ()))) == (
        old.fingerprint,
        list(old.extra.get("row_groups", ())),
    ) and list(member.entry.extra.get("erased", ())) == list(old.extra.get("erased", ()))


def remove_from(
    store: Store,
    current: tuple[Manifest, str],
    settings: Settings,
    executor: Executor,
    progress: Progress | None,
    *,
    source: str | None,
    where: Mapping[str, Any] | None,
    data: Dataset | None,
    now: str,
) -> Change:
    """Remove leaves by path or folder, or rows by value: see ``CoresetTree.remove``."""
    manifest, _ = current
    if source is None and where is None:
        raise ConfigError("remove needs source='path pattern' or where={column: value}.")
    chosen = [m for m in members_of(manifest) if source is None or fnmatch.fnmatch(str(m.order[0]), source)]
    folders = {name for m in chosen for name, _ in m.entry.extra.get("partition", ())}
    by_folder = {k: v for k, v in (where or {}).items() if k in folders}
    by_value = {k: v for k, v in (where or {}).items() if k not in folders}
    if by_folder:
        chosen = [m for m in chosen if in_folders(m.entry, by_folder)]
    frozen = Frozen.of(store, manifest, settings)
    notes: dict[str, Any] = {"source": None}
    record: dict[str, Any]
    asked: dict[str, Any] = {"source": source, "where": {k: _listed(v) for k, v in (where or {}).items()}}
    names = {m.entry.identity for m in chosen}
    if not by_value:
        if not names:
            return Change(0, 0, 0, len(manifest.leaves), 0, 0, manifest.root)
        members = [m for m in members_of(manifest) if m.entry.identity not in names]
        record = {"remove": {**asked, "leaves": sorted(names)}}
        nowhere = data if data is not None else _nowhere(manifest, frozen)
        return _settled(members, nowhere, frozen, store, executor, progress, current, notes, record, now)
    if data is None:
        raise ConfigError(
            f"remove(where={{{next(iter(by_value))!r}: ...}}) has to read the leaves that hold such rows: give data=, "
            "the dataset that the tree was built from."
        )
    members, n_erased = _erased(manifest, data, frozen, names, by_value)
    # the values themselves are not recorded: they are what was to be forgotten
    record = {"erase": {"columns": sorted(by_value), "rows": n_erased}}
    if not n_erased:
        return Change(0, 0, 0, len(members), 0, 0, manifest.root)
    change = _settled(members, data, frozen, store, executor, progress, current, notes, record, now)
    return replace(change, n_erased=n_erased)


def _erased(
    manifest: Manifest, data: Dataset, frozen: Frozen, names: set[str], where: Mapping[str, Any]
) -> tuple[list[Member], int]:
    """Members in which the rows that have these values are erased, and how many rows that are."""
    known = {leaf.identity: leaf for leaf in manifest.leaves}
    readable = {m.entry.identity: m for m in scanned(data, frozen, known)}
    reading = Reading(frozen.recipe.schema, frozen.recipe.clean, None)
    out, n_erased = [], 0
    for member in members_of(manifest):
        here = readable.get(member.entry.identity)
        if member.entry.identity not in names:
            out.append(member)
            continue
        if here is None or here.leaf is None or not _same(here, known):
            raise ConfigError(
                f"leaf '{member.entry.identity}' is not in the dataset given, or its file was changed since: its rows "
                "cannot be searched. Call update(data) first."
            )
        frame = None if data.to_dict() is not None else data.frame_part(here.leaf)
        found = ids_where(here.leaf, reading, where, frame)
        before = set(member.entry.extra.get("erased", ()))
        more = sorted(before | set(found.tolist()))
        n_erased += len(more) - len(before)
        leaf = replace(here.leaf, erased=tuple(more))
        entry = replace(here.entry, extra={**here.entry.extra, **({"erased": more} if more else {})})
        out.append(Member(entry, leaf) if len(more) > len(before) else member)
    return out, n_erased


def absorb_trees(
    store: Store,
    current: tuple[Manifest, str],
    settings: Settings,
    others: Sequence[StoredTree],
    executor: Executor,
    now: str,
) -> Change:
    """Take the leaves of other trees of the same recipe: see ``CoresetTree.absorb``."""
    manifest, _ = current
    frozen = Frozen.of(store, manifest, settings)
    members = members_of(manifest)
    for other in others:
        theirs = other.manifest_
        if _made_under(theirs) != _made_under(manifest):
            raise RecipeMismatchError(
                f"{other.path}: its nodes were made under recipe {theirs.recipe[:8]}, those of this tree under "
                f"{manifest.recipe[:8]}. Build each site with CoresetTree(path).build(data, like=tree)."
            )
        for name in theirs.nodes:
            store.put(node_key(name), other.store.get(node_key(name)))
        members += members_of(theirs)
    record = {"absorb": {"trees": len(others), "leaves": len(members) - len(manifest.leaves)}}
    nowhere = _nowhere(manifest, frozen)
    return _settled(members, nowhere, frozen, store, executor, None, current, {"source": None}, record, now)


def _made_under(manifest: Manifest) -> tuple[str, str, str | None]:
    """Names that must agree for nodes to be merged."""
    return manifest.recipe, str(manifest.settings["under"]), None if manifest.refined is None else manifest.refined[0]


def _settled(
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
) -> Change:
    """Settle, note what was done, and sweep what an erasure must not leave behind."""
    manifest = current[0]
    history = [*manifest.settings.get("history", []), {"at": now, "before": manifest.root, **record}]
    after, n_made, n_merged = settle(
        members, data, frozen, store, executor, progress, before=current, notes={**notes, "history": history}
    )
    if "erase" in record or "remove" in record:
        for key in unreachable(store, after):  # also what earlier updates have superseded
            store.delete(key)
    counts = {"added": 0, "changed": 0, "removed": len(manifest.leaves) - len(after.leaves)}
    if "erase" in record:
        counts["changed"] = sum(a != b for a, b in zip(manifest.leaves, after.leaves, strict=True))
    if "absorb" in record:
        counts |= {"added": len(after.leaves) - len(manifest.leaves), "removed": 0}
    counts |= record.get("update", {})
    kept = len(after.leaves) - counts["added"] - counts["changed"]
    return Change(**counts, kept=kept, n_made=n_made, n_merged=n_merged, root=after.root)


def _listed(value: Any) -> Any:
    many = value if isinstance(value, list | tuple | set | frozenset) else [value]
    return [str(v) for v in many]


def _nowhere(manifest: Manifest, frozen: Frozen) -> Dataset:
    """The dataset that the tree knows of, for changes that read no row."""
    known = manifest.settings.get("data")
    roles = {"path": ".", "hive": True, "bad_files": "fail", "leaf_bytes": 1, "roles": {}}
    return Dataset.from_dict(known if isinstance(known, Mapping) else roles, frozen.recipe.clean)
