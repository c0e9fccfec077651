"""Remove leaves from a stored tree, or erase rows: they are gone from every stored object afterwards."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from coretree.data.dataset import Dataset
from coretree.errors import ConfigError
from coretree.run.build import Progress
from coretree.run.erasures import Erased, erased_from, same_rows
from coretree.run.executor import Executor
from coretree.run.find import frames_of, ids_where
from coretree.run.membership import Change, Frozen, Member, check_same, members_of
from coretree.run.publish import entry_of
from coretree.run.selection import in_folders
from coretree.run.settings import Settings
from coretree.run.sweep import sweep
from coretree.run.tasks import Reading
from coretree.run.update import settled
from coretree.tree.manifest import Manifest
from coretree.tree.store import Store

NAMES_RECORDED = 100  # of leaves, in the history


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
    if source is None and not where:
        raise ConfigError("remove needs source='path pattern' or where={column: value}.")
    chosen = [m for m in members_of(manifest) if source is None or fnmatch.fnmatch(m.path, source)]
    folders = {name for leaf in manifest.leaves for name, _ in leaf.extra.get("partition", ())}
    by_folder = {k: v for k, v in (where or {}).items() if k in folders}
    by_value = {k: v for k, v in (where or {}).items() if k not in folders}
    if by_folder:
        chosen = [m for m in chosen if in_folders(m.entry, by_folder)]
    names = {m.entry.identity for m in chosen}
    frozen = Frozen.of(store, manifest, settings)
    erased = erased_from([manifest], by_id=frozen.by_id)
    if by_value and data is None:
        raise ConfigError(
            f"remove(where={{{next(iter(by_value))!r}: ...}}) has to read the leaves that hold such rows: give data=, "
            "the dataset that the tree was built from."
        )
    n_erased = 0
    if by_value and data is not None:
        members, n_erased = _without(manifest, data, frozen, names, by_value)
        # the values themselves are not recorded: they are what was to be forgotten
        record: dict[str, Any] = {"erase": {"columns": sorted(by_value), "rows": n_erased}}
    else:
        members = [m for m in members_of(manifest) if m.entry.identity not in names]
        asked = {"source": source, "where": {k: _listed(v) for k, v in by_folder.items()}}
        record = {"remove": {**asked, "n_leaves": len(names), "leaves": sorted(names)[:NAMES_RECORDED]}}
    change = Change(0, 0, 0, len(members), 0, 0, manifest.root)
    if n_erased or len(members) < len(manifest.leaves):
        source_of = data if data is not None else frozen.nowhere()
        notes: dict[str, Any] = {"source": None}
        all_erased = _joined(erased, members, frozen.by_id)
        change = settled(members, source_of, frozen, store, executor, progress, current, notes, record, now, all_erased)
    sweep(store)  # also where nothing is left to remove: an earlier call may have been cut short just before this
    return replace(change, n_erased=n_erased)


def _without(
    manifest: Manifest, data: Dataset, frozen: Frozen, names: set[str], where: Mapping[str, Any]
) -> tuple[list[Member], int]:
    """Members in which the rows that have these values are erased, and how many rows that are."""
    check_same(data, frozen.recipe)
    readable = {leaf.identity: leaf for leaf in data.scan.leaves}
    reading, frame_of = Reading(frozen.recipe.schema, frozen.recipe.clean, None), frames_of(data)
    out, n_erased = [], 0
    for member in members_of(manifest):
        if member.entry.identity not in names:
            out.append(member)
            continue
        leaf = readable.get(member.entry.identity)
        if leaf is None or not same_rows(member.entry, leaf):
            raise ConfigError(
                f"leaf '{member.entry.identity}' is not in the dataset given, or its file was changed since: its rows "
                "cannot be searched. Call update(data) first, with the dataset that you erase from."
            )
        before = set(member.entry.extra.get("erased", ()))
        more = before | set(ids_where(leaf, reading, where, frame_of(leaf)).tolist())
        n_erased += len(more) - len(before)
        without = replace(leaf, erased=tuple(sorted(more)))
        out.append(Member(entry_of(without, ""), without) if len(more) > len(before) else member)
    return out, n_erased


def _joined(erased: Erased, members: list[Member], by_id: bool) -> Erased:
    """What was erased before, and what is now."""
    out = {key: set(ids) for key, ids in erased.items()}
    for member in members:
        if member.entry.extra.get("erased"):
            key = "" if by_id else member.entry.fingerprint
            out.setdefault(key, set()).update(member.entry.extra["erased"])
    return {key: frozenset(ids) for key, ids in out.items()}


def _listed(value: Any) -> Any:
    many = value if isinstance(value, list | tuple | set | frozenset) else [value]
    return [str(v) for v in many]
