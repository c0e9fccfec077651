"""Rows that were erased stay out: which they are, and where a dataset that is read again still holds them."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

import pandas as pd

from coretree.data.scan import Leaf
from coretree.errors import DataWarning
from coretree.run.find import ids_among
from coretree.run.tasks import Reading
from coretree.tree.manifest import LeafEntry, Manifest

Erased = Mapping[str, frozenset[int]]
"""Identities of erased rows, by the fingerprint of the file they are places of; under "" if a column names them."""


def erased_from(manifests: Iterable[Manifest], *, by_id: bool) -> Erased:
    """Everything that was ever erased from some trees."""
    found: dict[str, set[int]] = {}
    for manifest in manifests:
        for key, ids in manifest.settings.get("erased", {}).items():
            found.setdefault(key, set()).update(ids)
        _add(found, manifest.leaves, by_id)
    return {key: frozenset(ids) for key, ids in found.items()}


def to_remember(erased: Erased, leaves: Sequence[LeafEntry], *, by_id: bool) -> dict[str, list[int]]:
    """What the manifest has to say besides what its leaves say: rows that are erased, and in none of them now."""
    present: dict[str, set[int]] = {}
    _add(present, leaves, by_id)
    left = {key: ids - present.get(key, set()) for key, ids in erased.items()}
    return {key: sorted(ids) for key, ids in sorted(left.items()) if ids}


def _add(found: dict[str, set[int]], leaves: Iterable[LeafEntry], by_id: bool) -> None:
    for leaf in leaves:
        if leaf.extra.get("erased"):
            found.setdefault("" if by_id else leaf.fingerprint, set()).update(leaf.extra["erased"])


def same_rows(entry: LeafEntry, leaf: Leaf) -> bool:
    """Whether a leaf of a dataset is the very one that a tree knows."""
    return (entry.fingerprint, tuple(entry.extra.get("row_groups", ()))) == (leaf.fingerprint, leaf.row_groups)


def carried_over(
    leaves: Sequence[Leaf],
    known: Mapping[str, LeafEntry],
    erased: Erased,
    reading: Reading,
    frame_of: Callable[[Leaf], pd.DataFrame | None],
) -> list[Leaf]:
    """Leaves of a dataset without the rows that were erased.

    An unchanged leaf lacks what it lacked. In others the erased rows are looked for: by their id column in all of
    them; else by place, while the file is the one that they were erased from, however it is cut into leaves now.
    """
    out, lost = [], set()
    by_id = reading.schema.id is not None
    for leaf in leaves:
        old = known.get(leaf.identity)
        if old is not None and same_rows(old, leaf):
            out.append(replace(leaf, erased=tuple(old.extra.get("erased", ()))))
            continue
        ids = erased.get("" if by_id else leaf.fingerprint)
        if not ids and not by_id and old is not None and old.extra.get("erased"):
            lost.add(leaf.path)
        again = ids_among(leaf, reading, ids, frame_of(leaf)) if ids else ()
        out.append(replace(leaf, erased=tuple(again)))
    for path in sorted(lost):
        warnings.warn(
            f"{path}: rows of this file were erased by their position, and the file is another one now: all its rows "
            "are taken. Erase them again if they are still there.",
            DataWarning,
            stacklevel=6,
        )
    return out
