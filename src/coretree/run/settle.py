"""Planning again under the frozen recipe makes what a changed tree lacks, and one commit makes the change current."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from coretree.data.dataset import Dataset
from coretree.data.scan import Leaf
from coretree.errors import ConfigError, EmptyDataError, MissingObjectError, StoreError, TargetError
from coretree.run.build import Progress, carry_out
from coretree.run.executor import Executor
from coretree.run.membership import Frozen, Member
from coretree.run.publish import describe_stored, versions
from coretree.run.tasks import read_survey
from coretree.tree.manifest import MANIFEST_KEY, Manifest, StoredObject, commit, load
from coretree.tree.plan import Plan, every_node, plan
from coretree.tree.recipe import Recipe
from coretree.tree.store import Store, check_expected, stored_nodes

ATTEMPTS = 3


@dataclass(frozen=True)
class Settled:
    """A change that was committed: the manifest, its version token, and the nodes made for it."""

    manifest: Manifest
    version: str
    n_made: int
    n_merged: int


def settle(
    members: Sequence[Member],
    data: Dataset,
    frozen: Frozen,
    store: Store,
    executor: Executor,
    progress: Progress | None,
    *,
    before: tuple[Manifest, str] | None,
    notes: Mapping[str, Any],
    known: Mapping[str, StoredObject] | None = None,
) -> Settled:
    """Make what is missing of a tree over some leaves, and commit it.

    Parameters
    ----------
    members : sequence of Member
        In any order; a leaf whose node is stored need not be readable.
    data : Dataset
        Where rows in memory or in Dask are found.
    before : (Manifest, token) or None
        What the change is based on.
    notes : mapping
        What to change in the manifest's settings.
    known : mapping of node name to StoredObject, optional
        What other manifests say of nodes that are stored.

    Raises
    ------
    EmptyDataError
        No leaf is left.
    TargetError
        A class that the recipe does not know.
    WriteConflictError
        Another writer committed in between.
    """
    ordered = sorted(members, key=lambda member: member.order)
    if not ordered:
        raise EmptyDataError("no leaf would be left; delete the tree's folder instead. Nothing was changed.")
    shapes, made = _made(ordered, data, frozen, store, executor, progress, before)
    if frozen.recipe.one_pass:
        _check_classes(ordered, frozen.recipe, shapes[0], store)
    old = {**({} if before is None else before[0].nodes), **(known or {}), **made}
    objects = {
        name: old[name] if name in old else describe_stored(store, name) for shape in shapes for name in shape.nodes
    }
    entries = tuple(
        replace(member.entry, name=name) for member, name in zip(ordered, shapes[0].names_of_leaves, strict=True)
    )
    refined = None if frozen.refined is None else {"recipe": frozen.refined.name, "root": shapes[-1].root}
    settings = {**(before[0].settings if before is not None else {}), **frozen.settings.to_dict(), **notes}
    settings |= {"refined": refined, "under": frozen.works(store)[0][1]}
    fan_in = frozen.settings.fan_in
    manifest = Manifest(shapes[0].root, frozen.recipe.name, entries, fan_in, objects, settings, versions())
    version = commit(store, manifest, expected=None if before is None else before[1])
    merges = sum(1 for shape in shapes for name, children in shape.nodes.items() if children and name in made)
    return Settled(manifest, version, len(made), merges)


def _made(
    members: Sequence[Member],
    data: Dataset,
    frozen: Frozen,
    store: Store,
    executor: Executor,
    progress: Progress | None,
    before: tuple[Manifest, str] | None,
) -> tuple[list[Plan], dict[str, StoredObject]]:
    """Plans of all passes, carried out: every node is stored afterwards, even where others sweep at the same time."""
    made: dict[str, StoredObject] = {}
    gone: MissingObjectError | None = None
    for _ in range(ATTEMPTS):
        shapes = []
        try:
            for recipe, name, work in frozen.works(store):
                shape = _plan(members, name, frozen.settings.fan_in, store)
                shapes.append(shape)
                stage = "refine" if recipe is frozen.refined else "sketch"
                made |= carry_out(executor, shape, _readable(members, shape), data, work, stage, progress)
        except MissingObjectError as error:  # swept meanwhile: by a change that was committed, or as unreachable
            check_current(store, before)
            gone = error
            continue
        if {name for shape in shapes for name in shape.nodes} <= stored_nodes(store):
            return shapes, made
    check_current(store, before)
    raise gone or StoreError("nodes vanish from the store as they are made: is the folder being emptied? Try again.")


def check_current(store: Store, before: tuple[Manifest, str] | None) -> None:
    """Raise ``WriteConflictError`` if another writer has committed since."""
    found = load(store)
    expected = None if before is None else before[1]
    check_expected(repr(store), MANIFEST_KEY, None if found is None else found[1], expected)


def _plan(members: Sequence[Member], name: str, fan_in: int, store: Store) -> Plan:
    names = [member.entry.node_under(name) for member in members]
    identities = [member.entry.identity for member in members]
    repeated = {i for i in identities if identities.count(i) > 1} if len(set(identities)) < len(identities) else set()
    if repeated:
        raise ConfigError(
            f"leaf '{min(repeated)}' is there twice: rows are identified by their path in the dataset. Give the files "
            "of each site names of their own, or open them from a common folder, such as "
            "Dataset.from_parquet('sites/a*/*.parquet')."
        )
    return every_node(plan(names, recipe=name, fan_in=fan_in, identities=identities), stored_nodes(store))


def _readable(members: Sequence[Member], shape: Plan) -> list[Leaf | None]:
    needed = {step.leaf for step in shape.steps if step.leaf is not None}
    for i in sorted(needed):
        if members[i].leaf is None:
            raise StoreError(
                f"the node of leaf '{members[i].entry.identity}' is not stored, and its rows are not in the dataset "
                "given. Call update(data) with a dataset that has them."
            )
    return [member.leaf for member in members]


def _check_classes(members: Sequence[Member], recipe: Recipe, shape: Plan, store: Store) -> None:
    """What a second pass sees row by row, a single one sees afterwards: classes that the recipe does not know."""
    if recipe.classes is None or set(read_survey(store, shape.root).profile.labels) <= set(recipe.classes):
        return
    for member, name in zip(members, shape.names_of_leaves, strict=True):
        unknown = [k for k in read_survey(store, name).profile.labels if k not in (recipe.classes or ())]
        if unknown:
            raise TargetError(
                f"{member.path}: there are rows of class {unknown[0]!r}, but the tree knows "
                f"{list(recipe.classes)[:10]}. Leave those rows out, or build a new tree."
            )
