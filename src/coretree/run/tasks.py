"""What one job does, wherever it runs: read a leaf or merge children, store the result, return its label."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from coretree.coreset.quotas import KEEP_ALL
from coretree.coreset.rows import row_ids, uniforms
from coretree.data.clean import Cleaner, CleanRules, clean
from coretree.data.columns import Coded, Columns, grouped
from coretree.data.dataset import Dataset, leaf_chunks
from coretree.data.profile import Level, Profile, label_from_text, label_order, merge_profiles, numeric_block
from coretree.data.read import Chunk
from coretree.data.scan import Leaf
from coretree.data.schema import Schema
from coretree.data.split import Split, kept
from coretree.errors import MissingObjectError
from coretree.run.frontier import Job
from coretree.run.settings import Settings
from coretree.run.sketching import Ceilings, Ids, sketch_rows, smallest_keys
from coretree.run.surveying import profile_of, survey_rows
from coretree.tree.manifest import StoredObject, name_of_leaf
from coretree.tree.node import Node, Survey
from coretree.tree.plan import JSON, digest
from coretree.tree.recipe import Recipe, load_recipe
from coretree.tree.store import Store, node_key


@dataclass(frozen=True)
class Reading:
    """How a leaf becomes clean rows of one side of the split."""

    schema: Schema
    clean: CleanRules
    split: Split | None

    @classmethod
    def of(cls, data: Dataset) -> Reading:
        """As a dataset describes it."""
        return cls(data.schema, data.clean, data.selection)

    def rows(self, leaf: Leaf, frame: pd.DataFrame | None, *, grouped: bool = False) -> Iterator[tuple[Columns, Ids]]:
        """Clean rows of the leaf that are on this side, chunk by chunk, with their identities.

        ``grouped`` rows lie class by class, in the order of the labels, so that every class is a slice.
        """
        for chunk in leaf_chunks(leaf, self.schema, frame):
            cleaner = Cleaner(chunk, self.schema, self.clean)
            roles = cleaner.roles()
            ids, mask = self.select(roles)
            if leaf.erased:
                left = ~np.isin(ids, np.array(leaf.erased, np.uint64))
                mask = left if mask is None else mask & left
            if mask is not None and not mask.all():
                kept = np.flatnonzero(mask)
                roles, ids = roles.at(kept), ids[kept]
            if grouped:
                roles, ids = by_class(roles, ids)
            yield cleaner.features(roles), ids

    def select(self, columns: Columns) -> tuple[Ids, npt.NDArray[np.bool_] | None]:
        """Identities of clean rows, and the mask of those on this side (None: all of them)."""
        ids = columns.keys if columns.keys is not None else row_ids(columns.path, columns.row_group, columns.offsets)
        if self.split is None:
            return ids, None
        if self.split.by == "time":
            return ids, kept(self.split, None, columns.seconds)
        identity = columns.groups if self.split.by == "group" else ids
        assert identity is not None
        return ids, kept(self.split, uniforms(identity, self.split.seed, "split"), None)

    def no_rows(self, leaf: Leaf) -> tuple[Columns, Ids]:
        """A leaf without rows, with the right columns: what an empty partition leaves behind."""
        table = pa.table({c: pa.nulls(0) for c in self.schema.columns})
        return clean(Chunk(table, leaf.path, 0, 0), self.schema, self.clean), np.zeros(0, np.uint64)


def stored(store: Store, name: str, data: bytes, seen: Profile | None = None) -> StoredObject:
    """Put a node's bytes and return what the manifest says of them."""
    store.put(node_key(name), data)
    return described(data, seen)


def described(data: bytes, seen: Profile | None) -> StoredObject:
    """Checksum and length of a node, its rows and the span of their event times."""
    found = StoredObject(hashlib.sha256(data).hexdigest(), len(data))
    if seen is None:
        return found
    first, last = (float(edge[0]) if edge.size and np.isfinite(edge[0]) else None for edge in _span(seen))
    return found._replace(n_rows=seen.n_rows, first=first, last=last)


def _span(seen: Profile) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    return seen.seconds.minimum, seen.seconds.maximum


def leaf_name(leaf: Leaf, recipe: str) -> str:
    """Name of a leaf's node: what is read, and what is made of it."""
    return name_of_leaf(leaf.identity, leaf.row_groups, leaf.fingerprint, leaf.erased, recipe)


@dataclass(frozen=True)
class SurveyWork:
    """Pass 1: profile and pilot rows of a leaf; merge of surveys.

    A leaf keeps ``leaf_size`` pilot rows, or ``leaf_share`` of its own rows if these are more, for all the classes that
    it holds, a merge ``pilot_rows``. Where this pass is the only one, every class keeps ``settings.size`` rows of both
    its sketches, and a leaf as many as above in all.
    """

    reading: Reading
    settings: Settings
    pilot_rows: int
    leaf_size: int
    store: Store
    leaf_share: float = 0.0

    @property
    def name(self) -> str:
        """Hash of everything that a survey depends on beside its rows."""
        split, s = self.reading.split, self.settings
        reading = [
            self.reading.schema.to_dict(),
            self.reading.clean.to_dict(),
            None if split is None else split.to_dict(),
        ]
        alone: JSON = [s.size, self.leaf_size, [list(pair) for pair in s.class_rows]]
        kept = alone if s.passes == 1 else self.leaf_size
        share = [self.leaf_share] if self.leaf_share else []  # older trees keep the names that they have
        return digest("survey", reading, s.prepare.to_dict(), self.pilot_rows, s.seed, kept, *share)

    def __call__(self, job: Job, frame: pd.DataFrame | None) -> StoredObject:
        """Carry one job out."""
        if job.leaf is None:
            found = self.merge([self.get(child) for child in job.children])
        else:
            n, alone = job.leaf.n_rows, self.settings.passes == 1
            share = math.ceil(self.leaf_share * n)
            kept = max(self.leaf_size, share if alone else min(share, self.pilot_rows))
            parts = [self.survey(*rows, kept, n) for rows in self.reading.rows(job.leaf, frame, grouped=alone)]
            found = self.merge(parts or [self.survey(*self.reading.no_rows(job.leaf), kept)])
            found = found.reduced(kept, self._keep_all)
        return stored(self.store, job.name, found.to_bytes(), found.profile)

    def get(self, name: str) -> Survey:
        """A stored survey."""
        return read_survey(self.store, name)

    def merge(self, parts: list[Survey]) -> Survey:
        """Merge in the given order."""
        whole = Survey.merge(parts, self._capacity)
        return whole if self.settings.passes == 1 else whole.reduced(self.pilot_rows, ())

    @property
    def _keep_all(self) -> frozenset[Level | None]:
        budgets = self.settings.class_rows if self.settings.passes == 1 else ()
        return frozenset(label_from_text(k) for k, budget in budgets if budget == "all")

    def _capacity(self, label: Level | None) -> int:
        """Rows of a class that a merge may keep."""
        if self.settings.passes > 1:
            return self.pilot_rows
        return KEEP_ALL if label in self._keep_all else self.settings.size

    def survey(self, columns: Columns, ids: Ids, kept: int, leaf_rows: int = 0) -> Survey:
        """One chunk of a leaf that keeps so many rows; where this pass is the only one, best of grouped rows."""
        return survey_rows(columns, ids, self.settings, kept, self._capacity, leaf_rows)


@dataclass(frozen=True)
class NodeWork:
    """Pass 2: sketches and totals of a leaf under a recipe; merge of nodes.

    ``survey`` is the name under which pass 1 left the leaves' profiles; where it saw a leaf not, its profile is made
    here. Pass 3 needs none (``survey`` is None).
    """

    reading: Reading
    recipe: str
    store: Store
    survey: str | None

    def __call__(self, job: Job, frame: pd.DataFrame | None) -> StoredObject:
        """Carry one job out."""
        recipe = recipe_of(self.store, self.recipe)
        if job.leaf is None:
            node = Node.merge([read_node(self.store, child) for child in job.children], recipe.capacity)
        else:
            node = self.leaf(recipe, job.leaf, frame)
        return stored(self.store, job.name, node.to_bytes(), node.profile)

    def leaf(self, recipe: Recipe, leaf: Leaf, frame: pd.DataFrame | None) -> Node:
        """Node of a leaf's rows on this side of the split."""
        seen, parts, profiles = self._seen(leaf), [], []
        capacity = recipe.chunk_capacity(seen)
        keys: Ceilings = {}
        profiled = self.survey is not None and seen is None
        for columns, ids in self._rows(leaf, frame, grouped=not profiled):
            if profiled:  # in the order of pass 1: another order of sums, other bits
                profiles.append(profile_of(columns, numeric_block(columns), recipe.preparation.rules))
                columns, ids = by_class(columns, ids)
            parts.append(sketch_rows(recipe, columns, ids, capacity, keys))
            if recipe.schema.id is None:  # an id may repeat, and then fewer rows come before another
                keys = smallest_keys(keys, parts[-1])
        node = parts[0]
        if len(parts) > 1:
            node = Node.merge(parts, lambda name: recipe.kept(name, capacity(name), [p.sketches[name] for p in parts]))
        if profiles:
            seen = merge_profiles(profiles)
        return replace(node.reduced(recipe.leaf_rows), profile=seen)

    def _rows(self, leaf: Leaf, frame: pd.DataFrame | None, *, grouped: bool) -> Iterator[tuple[Columns, Ids]]:
        empty = True
        for rows in self.reading.rows(leaf, frame, grouped=grouped):
            empty = False
            yield rows
        if empty:
            yield self.reading.no_rows(leaf)

    def _seen(self, leaf: Leaf) -> Profile | None:
        """The profile that pass 1 left of a leaf."""
        if self.survey is None:
            return None
        try:
            return read_survey(self.store, leaf_name(leaf, self.survey)).profile
        except MissingObjectError:
            return None


def read_survey(store: Store, name: str) -> Survey:
    """A stored survey."""
    return Survey.from_bytes(store.get(node_key(name)), where=node_key(name))


def read_node(store: Store, name: str) -> Node:
    """A stored node."""
    return Node.from_bytes(store.get(node_key(name)), where=node_key(name))


@lru_cache(maxsize=4)
def recipe_of(store: Store, name: str) -> Recipe:
    """A recipe, read once a process."""
    return load_recipe(store, name)


def by_class(columns: Columns, ids: Ids) -> tuple[Columns, Ids]:
    """Rows class by class, in the order of the labels: one gather, after which every class is a slice."""
    found = columns.target
    if not isinstance(found, Coded):
        return columns, ids
    levels = tuple(sorted(found.levels, key=label_order))
    target = Coded(found.recode({label: i for i, label in enumerate(levels)}, -1), levels)
    order = grouped(target.codes)
    return replace(columns, target=target).at(order), ids[order]
