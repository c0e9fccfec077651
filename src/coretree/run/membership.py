"""A tree's leaves, changed: planning again under the frozen recipe makes what is missing and publishes the result."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from coretree.data.dataset import Dataset
from coretree.data.scan import Leaf
from coretree.errors import ConfigError, DataWarning, EmptyDataError, SchemaError, StoreError
from coretree.run.build import Progress, carry_out, survey_work
from coretree.run.executor import Executor
from coretree.run.publish import describe_stored, entry_of, versions
from coretree.run.settings import Settings
from coretree.run.tasks import NodeWork, Reading, SurveyWork
from coretree.tree.manifest import LeafEntry, Manifest, StoredObject, commit
from coretree.tree.plan import Plan, plan
from coretree.tree.recipe import Recipe, load_recipe
from coretree.tree.store import Store, stored_nodes


@dataclass(frozen=True)
class Member:
    """A leaf of the tree, and where its rows can be read, if that is known."""

    entry: LeafEntry
    leaf: Leaf | None = None

    @property
    def order(self) -> tuple[str, int]:
        """Leaf order: path, then row group."""
        groups = self.entry.extra.get("row_groups", ())
        return str(self.entry.extra.get("path", self.entry.identity)), int(groups[0]) if groups else -1


@dataclass(frozen=True)
class Change:
    """What an update did: leaves by what became of them, and nodes made.

    Attributes
    ----------
    added, changed, removed, kept : int
        Leaves.
    n_made : int
        Nodes that had to be made: leaves and merges.
    n_merged : int
        Merges among them.
    n_erased : int
        Rows erased.
    root : str
        Name of the root afterwards.
    """

    added: int
    changed: int
    removed: int
    kept: int
    n_made: int
    n_merged: int
    root: str
    n_erased: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


@dataclass(frozen=True, eq=False)
class Frozen:
    """What every leaf of a tree is made under."""

    settings: Settings
    recipe: Recipe
    refined: Recipe | None

    @classmethod
    def of(cls, store: Store, manifest: Manifest, settings: Settings) -> Frozen:
        """As a manifest names it."""
        refined = None if manifest.refined is None else load_recipe(store, manifest.refined[0])
        return cls(settings, load_recipe(store, manifest.recipe), refined)

    def works(self, data: Dataset, store: Store) -> list[tuple[Recipe, str, Any]]:
        """Each pass that leaves nodes for good: its recipe, the name that its leaves carry, its work."""
        reading = Reading(self.recipe.schema, self.recipe.clean, self.recipe.split)
        survey: SurveyWork = replace(
            survey_work(data, self.settings, store), reading=reading, leaf_size=self.recipe.leaf_size
        )
        if self.recipe.one_pass:
            return [(self.recipe, survey.name, survey)]
        found: list[tuple[Recipe, str, Any]] = [
            (self.recipe, self.recipe.name, NodeWork(reading, self.recipe.name, store, survey.name))
        ]
        if self.refined is not None:
            found.append((self.refined, self.refined.name, NodeWork(reading, self.refined.name, store, None)))
        return found


def members_of(manifest: Manifest) -> list[Member]:
    """The leaves of a tree as it is."""
    return [Member(entry) for entry in manifest.leaves]


def scanned(data: Dataset, frozen: Frozen, known: Mapping[str, LeafEntry]) -> list[Member]:
    """The leaves of a dataset as members; rows that were erased stay so while their place still names them.

    Raises
    ------
    ConfigError, SchemaError
        The dataset is read or split in another way than the recipe, or has other columns.
    """
    _check_same(data, frozen.recipe)
    found = []
    for leaf in data.scan.leaves:
        old = known.get(leaf.identity)
        erased = tuple(old.extra.get("erased", ())) if old is not None else ()
        if erased and old is not None and old.fingerprint != leaf.fingerprint and frozen.recipe.schema.id is None:
            warnings.warn(
                f"{leaf.path}: {len(erased)} rows of this file were erased by their position, and the file is another "
                "one now: all its rows are taken. Erase them again if they are still there.",
                DataWarning,
                stacklevel=4,
            )
            erased = ()
        leaf = replace(leaf, erased=erased)
        found.append(Member(entry_of(leaf, ""), leaf))
    return found


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
) -> tuple[Manifest, int, int]:
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

    Returns
    -------
    (manifest, n_made, n_merged)

    Raises
    ------
    EmptyDataError
        No leaf is left.
    WriteConflictError
        Another writer committed in between.
    """
    ordered = sorted(members, key=lambda member: member.order)
    if not ordered:
        raise EmptyDataError("no leaf would be left; delete the tree's folder instead. Nothing was changed.")
    shapes: list[Plan] = []
    made: dict[str, StoredObject] = {}
    works = frozen.works(data, store)
    under = works[0][1]
    for recipe, name, work in works:
        shape = _plan(ordered, name, frozen.settings.fan_in, store)
        shapes.append(shape)
        leaves = [_readable(member, shape, i) for i, member in enumerate(ordered)]
        stage = "refine" if recipe is frozen.refined else "sketch"
        made |= carry_out(executor, shape, leaves, data, work, stage, progress)
    old = {} if before is None else before[0].nodes
    objects = {
        name: made.get(name) or old.get(name) or describe_stored(store, name)
        for shape in shapes
        for name in shape.nodes
    }
    entries = tuple(
        replace(member.entry, name=name) for member, name in zip(ordered, shapes[0].names_of_leaves, strict=True)
    )
    settings = {**(before[0].settings if before is not None else {}), **frozen.settings.to_dict(), **notes}
    refined = None if frozen.refined is None else {"recipe": frozen.refined.name, "root": shapes[-1].root}
    kept = {**settings, "refined": refined, "under": under}
    manifest = Manifest(shapes[0].root, frozen.recipe.name, entries, frozen.settings.fan_in, objects, kept, versions())
    commit(store, manifest, expected=None if before is None else before[1])
    merges = sum(1 for shape in shapes for name, children in shape.nodes.items() if children and name in made)
    return manifest, len(made), merges


def _plan(members: Sequence[Member], name: str, fan_in: int, store: Store) -> Plan:
    names = [member.entry.node_under(name) for member in members]
    identities = [member.entry.identity for member in members]
    repeated = {i for i in identities if identities.count(i) > 1} if len(set(identities)) < len(identities) else set()
    if repeated:
        raise ConfigError(
            f"leaf '{min(repeated)}' is there twice: rows are identified by their path in the dataset. Open each site "
            "with paths of its own, such as Dataset.from_parquet('sites/a/') below a common folder."
        )
    return plan(names, recipe=name, fan_in=fan_in, stored=stored_nodes(store), identities=identities)


def _readable(member: Member, shape: Plan, i: int) -> Leaf | None:
    if member.leaf is None and any(step.leaf == i for step in shape.steps):
        raise StoreError(
            f"the node of leaf '{member.entry.identity}' is not stored, and its rows are not in the dataset given. "
            "Call update(data) with a dataset that has them."
        )
    return member.leaf


def _check_same(data: Dataset, recipe: Recipe) -> None:
    """Refuse a dataset that would be read in another way than the tree's leaves were."""
    if data.clean != recipe.clean:
        raise ConfigError("the dataset has other cleaning rules than the tree; open it with the same clean=.")
    ours, theirs = recipe.split, data.selection
    if theirs is not None and (ours is None or replace(theirs, cutoff=ours.cutoff) != ours):
        raise ConfigError(
            f"the dataset is split as {theirs}, the tree as {ours}; pass the side that was built, or the whole dataset."
        )
    mine, other = recipe.schema, data.schema
    kinds = {f.name: f.kind for f in other.features}
    for feature in mine.features:
        if feature.name not in kinds:
            raise SchemaError(
                f"{data.scan.where}: column '{feature.name}' is missing, which the tree's recipe needs. "
                "Add it, or build a new tree without it."
            )
        if kinds[feature.name] != feature.kind:
            raise SchemaError(
                f"{data.scan.where}: column '{feature.name}' is {kinds[feature.name]} now, but {feature.kind} in the "
                "tree's recipe. Cast it, or build a new tree."
            )
    for role in ("target", "task", "time", "group", "id", "weight"):
        if getattr(mine, role) != getattr(other, role):
            raise ConfigError(
                f"the dataset has {role}={getattr(other, role)!r}, the tree {role}={getattr(mine, role)!r}; open it "
                "with the same roles."
            )
