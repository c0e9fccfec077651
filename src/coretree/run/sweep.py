"""Delete what a stored tree no longer needs, never what the tree of the moment does, whoever writes meanwhile."""

from __future__ import annotations

from dataclasses import replace

from coretree.tree.inspect import unreachable
from coretree.tree.manifest import MANIFEST_KEY, Manifest, commit, load
from coretree.tree.store import Store, token

LOOK_EVERY = 16  # deletions between two looks at whether the manifest is still the same


def sweep(store: Store) -> tuple[str, ...]:
    """Delete every unreachable object, and what dead writers left half-written; return the keys.

    Another process may change the tree meanwhile: the manifest is looked at again and again, and what is needed is
    decided anew when it has changed. A writer makes sure before it commits that all of its nodes are there.
    """
    gone: list[str] = []
    finished = False
    while not finished:
        found = load(store)
        if found is None:
            break
        manifest, version = found
        finished = True
        for i, key in enumerate(unreachable(store, manifest)):
            if i % LOOK_EVERY == 0 and token(store.get(MANIFEST_KEY)) != version:
                finished = False
                break
            store.delete(key)
            gone.append(key)
    if hasattr(store, "sweep"):
        store.sweep()
    return tuple(gone)


def fence(store: Store, current: tuple[Manifest, str]) -> None:
    """Commit the present tree once more: whoever has begun a change of it gets a ``WriteConflictError``.

    What they have made so far is unreachable, so it may go; without this their commit would name nodes that are gone.
    """
    manifest, version = current
    n = int(manifest.settings.get("sweeps", 0)) + 1
    commit(store, replace(manifest, settings={**manifest.settings, "sweeps": n}), expected=version)
