"""Which leaves a changed tree shall have: those it has, those of a dataset, and what all of them are made under."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pandas as pd
import pyarrow as pa

from coretree.data.dataset import Dataset, FrameSource
from coretree.data.scan import Leaf, Scan
from coretree.data.schema import Roles
from coretree.errors import ConfigError, SchemaError
from coretree.run.build import survey_work
from coretree.run.erasures import Erased, carried_over
from coretree.run.find import frames_of
from coretree.run.publish import entry_of
from coretree.run.settings import Settings
from coretree.run.tasks import NodeWork, Reading, SurveyWork
from coretree.tree.manifest import LeafEntry, Manifest
from coretree.tree.recipe import Recipe, load_recipe
from coretree.tree.store import Store


@dataclass(frozen=True)
class Member:
    """A leaf of the tree, and where its rows can be read, if that is known."""

    entry: LeafEntry
    leaf: Leaf | None = None

    @property
    def path(self) -> str:
        """Path relative to the dataset; of a frame, the name of the partition."""
        return str(self.entry.extra.get("path", self.entry.identity))

    @property
    def order(self) -> tuple[str, int]:
        """Leaf order, that of a scan: path, then row group; of a frame, the number of the row or the partition.

        Examples
        --------
        >>> rows = [Member(LeafEntry(f"rows-{low}", "", "", 1)) for low in (1000, 0, 200)]
        >>> [member.path for member in sorted(rows, key=lambda member: member.order)]
        ['rows-0', 'rows-200', 'rows-1000']
        """
        groups = self.entry.extra.get("row_groups", ())
        if groups:
            return self.path, int(groups[0])
        frame, _, number = self.path.rpartition("-")
        return frame, int(number)

    @property
    def file(self) -> str:
        """What is replaced as a whole: the file, or the frame."""
        return self.order[0]


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

    @property
    def reading(self) -> Reading:
        """How leaves become rows."""
        return Reading(self.recipe.schema, self.recipe.clean, self.recipe.split)

    @property
    def by_id(self) -> bool:
        """Whether a column names the rows."""
        return self.recipe.schema.id is not None

    def works(self, store: Store) -> list[tuple[Recipe, str, Any]]:
        """Each pass that leaves nodes for good: its recipe, the name that its leaves carry, its work."""
        # of the recipe's schema, whatever columns the files have got since: the survey's name depends on it
        survey: SurveyWork = replace(
            survey_work(self.nowhere(), self.settings, store),
            reading=self.reading,
            leaf_size=self.recipe.leaf_size,
            leaf_share=self.recipe.leaf_share,
        )
        if self.recipe.one_pass:
            return [(self.recipe, survey.name, survey)]
        found: list[tuple[Recipe, str, Any]] = [
            (self.recipe, self.recipe.name, NodeWork(self.reading, self.recipe.name, store, survey.name))
        ]
        if self.refined is not None:
            found.append((self.refined, self.refined.name, NodeWork(self.reading, self.refined.name, store, None)))
        return found

    def nowhere(self) -> Dataset:
        """A dataset without a leaf, for changes that read no row."""
        out = Dataset(FrameSource(pd.DataFrame()), Roles(), self.recipe.clean)
        out.__dict__["scan"] = Scan("no data", self.recipe.schema, pa.schema([]), (), 0, 0, 0, 0)
        return out


def members_of(manifest: Manifest) -> list[Member]:
    """The leaves of a tree as it is."""
    return [Member(entry) for entry in manifest.leaves]


def scanned(data: Dataset, frozen: Frozen, manifest: Manifest | None, erased: Erased) -> list[Member]:
    """The leaves of a dataset as members; rows that were erased stay so as long as something names them.

    Raises
    ------
    ConfigError, SchemaError
        The dataset is read or split in another way than the recipe, or has other columns.
    """
    check_same(data, frozen.recipe)
    known = {} if manifest is None else {leaf.identity: leaf for leaf in manifest.leaves}
    leaves = carried_over(
        data.scan.leaves, known, erased, frozen.reading, frames_of(data) if erased else lambda _: None
    )
    return [Member(entry_of(leaf, ""), leaf) for leaf in leaves]


def check_same(data: Dataset, recipe: Recipe) -> None:
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
