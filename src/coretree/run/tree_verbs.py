"""What `coretree update`, `drift` and `tree` do: open a stored tree, act on it, say what came of it."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from coretree.data.dataset import Dataset
from coretree.data.drift import Drift
from coretree.errors import ConfigError
from coretree.report import render
from coretree.report.render import Ears, Fact
from coretree.run.coreset_tree import CoresetTree
from coretree.run.executor import Executor
from coretree.run.folder import RunFolder
from coretree.run.membership import Change
from coretree.run.update import Vanished

Window = tuple[Any, Any] | Mapping[str, Any]
NAMES_SHOWN = 20


def open_tree(path: str) -> CoresetTree:
    """The tree in a folder, at a store's URL, or of the run in a folder.

    Raises
    ------
    StoreError
        There is none.
    """
    folder = RunFolder(Path(path))
    is_run = "://" not in path and folder.job.exists() and not (folder.path / "manifest.json").exists()
    return CoresetTree.open(folder.tree if is_run else path)


def reopened(tree: CoresetTree, pattern: str | None = None) -> Dataset:
    """The dataset that a tree was built from, or other files read in the same way; the same side of its split.

    Raises
    ------
    ConfigError
        The tree was built from rows in memory or in Dask.
    """
    known = tree.manifest_.settings.get("data")
    if not isinstance(known, Mapping):
        raise ConfigError(
            f"{tree.path}: this tree was built from rows in memory or in Dask, which no command can open again. "
            "In Python: CoresetTree.open(path).update(data) or .remove(where=..., data=data)."
        )
    # absolute, as the files of the tree are: a pattern's fixed part is what leaves are named by
    path = pattern if pattern is None or "://" in pattern else os.path.abspath(os.path.expanduser(pattern))
    return replace(Dataset.from_dict(known, tree.recipe_.clean, path), selection=tree.recipe_.split)


def update(path: str, pattern: str | None, vanished: Vanished, executor: Executor, ears: Ears) -> dict[str, Any]:
    """Bring a tree in line with its files, or with others."""
    tree = open_tree(path)
    data = reopened(tree, pattern)
    ears.say(Fact("data", f"{data.scan.where}: {data.scan.n_rows:,} rows in {_leaves(len(data.scan.leaves))}"))
    began = time.perf_counter()
    change = tree.update(data, vanished=vanished, client=executor, progress=ears.progress)
    return {"data": data.scan.where, **_changed(tree, change, time.perf_counter() - began, ears)}


def remove(
    path: str, source: str | None, where: Sequence[str], pattern: str | None, executor: Executor, ears: Ears
) -> dict[str, Any]:
    """Remove leaves by path or folder, or erase rows by value."""
    tree = open_tree(path)
    values = dict(map(_values_of, where))
    known = isinstance(tree.manifest_.settings.get("data"), Mapping)
    data = reopened(tree, pattern) if pattern is not None or (values and known) else None
    began = time.perf_counter()
    change = tree.remove(source=source, where=values or None, data=data, client=executor, progress=ears.progress)
    facts = _changed(tree, change, time.perf_counter() - began, ears)
    if not (change.removed or change.n_erased):
        ears.say(Fact("nothing", "no leaf and no row is like that; nothing was changed"))
    return facts


def drift(path: str, current: str, reference: str | None, threshold: float) -> tuple[dict[str, Any], Drift]:
    """Compare two windows by what the tree keeps of them; which columns moved beyond a threshold."""
    tree = open_tree(path)
    found = tree.drift(None if reference is None else window_of(reference), window_of(current))
    beyond = [shift.name for shift in found.exceeds(threshold)]
    return {"path": tree.path, "threshold": threshold, "exceeds": beyond, **found.to_dict()}, found


def show(path: str, ears: Ears, *, leaves: bool) -> dict[str, Any]:
    """Levels, sizes, times, storage and history."""
    tree = open_tree(path)
    found = tree.describe()
    made = found["settings"]
    ears.say(Fact("tree", f"{tree.path}: {found['rows']:,} rows in {_leaves(found['leaves'])}, root {found['root']}"))
    sketches = ", ".join(tree.recipe_.objectives)
    passes = render.count(made["passes"], "pass").replace("passs", "passes")
    ears.say(Fact("built", f"size {made['size']:,}, seed {made['seed']}, {passes}; sketches: {sketches}"))
    if found["first"] is not None:
        ears.say(Fact("times", f"{_when(found['first'])} to {_when(found['last'])}"))
    for height, level in enumerate(found["levels"]):
        what = _leaves(level["nodes"]) if height == 0 else render.count(level["nodes"], "merge")
        ears.say(Fact(f"level {height}", f"{what}, {render.size(level['bytes'])}"))
    ears.say(Fact("storage", f"{render.count(len(tree.manifest_.nodes), 'node')}, {render.size(found['bytes'])}"))
    if found["erased_rows"]:
        ears.say(Fact("erased", f"{render.count(found['erased_rows'], 'row')} of files that are still read"))
    for entry in found["history"]:
        ears.say(Fact("history", f"{entry['at']}: {', '.join(k for k in entry if k not in ('at', 'before'))}"))
    rows = leaf_rows(tree)
    if leaves:
        for row in rows:
            times = "" if row["first"] is None else f", {_when(row['first'])} to {_when(row['last'])}"
            ears.say(Fact("leaf", f"{row['leaf']}: {row['rows']:,} rows, {render.size(row['bytes'])}{times}"))
    return {"path": tree.path, **found, **({"of_leaves": rows} if leaves else {})}


def leaf_rows(tree: CoresetTree) -> list[dict[str, Any]]:
    """Each leaf: what it was made of, its training rows, the bytes that the tree keeps of it, its event times."""
    found = []
    for leaf in tree.manifest_.leaves:
        node = tree.manifest_.nodes[leaf.name]
        times = {"first": node.first, "last": node.last}
        found.append({"leaf": leaf.identity, "rows": node.n_rows, "bytes": node.n_bytes, **times})
    return found


def verify(path: str, ears: Ears) -> dict[str, Any]:
    """Check every stored object; the answer is under ``ok``."""
    tree = open_tree(path)
    began = time.perf_counter()
    found = tree.verify()
    took = time.perf_counter() - began
    ears.say(Fact("verified", f"{render.count(found.n_nodes, 'node')}, {render.size(found.n_bytes)}", took))
    for problem in found.problems:
        ears.say(Fact("problem", problem))
    if found.unreachable:
        ears.say(Fact("left over", f"{render.count(found.unreachable, 'node')} that nothing needs; `coretree tree gc`"))
    if found:
        ears.say(Fact("ok", "every checksum, name and sum is right"))
    return {"path": tree.path, **found.to_dict()}


def gc(path: str, ears: Ears, *, dry_run: bool) -> dict[str, Any]:
    """Delete what no reader needs, and what writers that died left behind."""
    tree = open_tree(path)
    keys = tree.gc(dry_run=dry_run)
    ears.say(Fact("would go" if dry_run else "deleted", render.count(len(keys), "object")))
    return {"path": tree.path, "dry_run": dry_run, "keys": list(keys)}


def diff(path: str, other: str, ears: Ears) -> dict[str, Any]:
    """Leaves that a second tree has added, changed or removed."""
    first, second = open_tree(path), open_tree(other)
    found = first.diff(second)
    same = "the same rows under the same recipe: equal roots" if found["same_root"] else "different"
    ears.say(Fact("trees", f"{same}; {found['n_rows'][0]:,} and {found['n_rows'][1]:,} training rows"))
    recipe = "the same" if found["same_recipe"] else "different: their nodes cannot be merged"
    ears.say(Fact("recipe", f"{recipe}; {render.count(found['shared_nodes'], 'node')} shared"))
    for what in ("added", "changed", "removed"):
        if names := found[what]:
            more = f", and {len(names) - NAMES_SHOWN:,} more" if len(names) > NAMES_SHOWN else ""
            ears.say(Fact(what, f"{_leaves(len(names))}: {', '.join(names[:NAMES_SHOWN])}{more}"))
    return {"path": first.path, "other": second.path, **found}


def window_of(text: str) -> Window:
    """A window as it is typed: ``START..END`` (either may be left out), a period, or ``column=value[,value]``.

    Raises
    ------
    ConfigError
        It is none of these.

    Examples
    --------
    >>> window_of("2013-06..2013-09"), window_of("2013-06..")
    (('2013-06', '2013-09'), ('2013-06', None))
    >>> [str(edge) for edge in window_of("2013-06")], window_of("region=north,south")
    (['2013-06-01 00:00:00', '2013-07-01 00:00:00'], {'region': ['north', 'south']})
    """
    start, dots, end = text.partition("..")
    if dots:
        return start.strip() or None, end.strip() or None
    if "=" in text:
        return dict([_values_of(text)])
    try:
        period = pd.Period(text)
    except ValueError:
        raise ConfigError(
            f"'{text}' is no window: write 2013-06-01..2013-07-01 (the end is outside of it, either side may be "
            "left out), a period such as 2013-06, or the folders' column=value."
        ) from None
    return period.start_time, (period + 1).start_time


def _values_of(text: str) -> tuple[str, list[str]]:
    name, equals, values = text.partition("=")
    found = [value.strip() for value in values.split(",") if value.strip()]
    if not (equals and name.strip() and found):
        raise ConfigError(f"'{text}' is no condition: write column=value or column=value,value.")
    return name.strip(), found


def _changed(tree: CoresetTree, change: Change, seconds: float, ears: Ears) -> dict[str, Any]:
    """Say what became of the leaves."""
    leaves = f"{change.added} added, {change.changed} changed, {change.removed} removed, {change.kept} kept"
    erased = f"; {render.count(change.n_erased, 'row')} erased" if change.n_erased else ""
    made = f"{render.count(change.n_made, 'node')} made, {change.n_merged} of them merges"
    ears.say(Fact("leaves", f"{leaves}{erased}; {made}", seconds))
    ears.say(Fact("tree", f"{tree.path}: {tree.n_rows_:,} rows, root {change.root}"))
    model = RunFolder(Path(tree.path).parent).model
    if change.n_made and "://" not in tree.path and model.exists():
        ears.say(Fact("model", f"{model} is still the one fitted before"))
    return {"path": tree.path, **change.to_dict(), "rows": tree.n_rows_}


def _leaves(n: int) -> str:
    return "1 leaf" if n == 1 else f"{n:,} leaves"


def _when(seconds: float) -> str:
    return str(pd.Timestamp(seconds, unit="s").floor("s"))
