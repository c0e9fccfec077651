"""What one job does, wherever it runs: read a leaf or merge children, store the result, return its label."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from coretree.coreset.comoments import CoMoments, comoments
from coretree.coreset.pilot import pilot_scores
from coretree.coreset.priority import Sketch, sketch
from coretree.coreset.rows import row_ids, uniforms
from coretree.coreset.scores import balanced_scores, robust_scores, uniform_scores
from coretree.coreset.totals import hessian_rows, thinning, totals_at
from coretree.data.clean import CleanRules, clean
from coretree.data.columns import Coded, Columns, class_rows, grouped, take_rows
from coretree.data.dataset import Dataset, leaf_chunks
from coretree.data.encode import class_codes, design, global_codes
from coretree.data.moments import standardised
from coretree.data.prepare import PrepareRules
from coretree.data.profile import Level, numeric_block, profile
from coretree.data.read import Chunk
from coretree.data.scan import Leaf
from coretree.data.schema import Schema
from coretree.data.split import Split, kept
from coretree.run.frontier import Job
from coretree.tree.manifest import StoredObject
from coretree.tree.node import Node, Survey
from coretree.tree.recipe import Recipe, load_recipe
from coretree.tree.store import Store, node_key

Ids = npt.NDArray[np.uint64]


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

    def rows(self, leaf: Leaf, frame: pd.DataFrame | None) -> Iterator[tuple[Columns, Ids]]:
        """Clean rows of the leaf that are on this side, chunk by chunk, with their identities."""
        for chunk in leaf_chunks(leaf, self.schema, frame):
            columns = clean(chunk, self.schema, self.clean)
            ids, mask = self.select(columns)
            if mask is not None:
                columns, ids = columns.take(mask), ids[mask]
            yield columns, ids

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


def stored(store: Store, name: str, data: bytes) -> StoredObject:
    """Put a node's bytes and return what the manifest says of them."""
    store.put(node_key(name), data)
    return StoredObject(hashlib.sha256(data).hexdigest(), len(data))


@dataclass(frozen=True)
class SurveyWork:
    """Pass 1: profile and pilot rows of a leaf; merge of surveys."""

    reading: Reading
    rules: PrepareRules
    pilot_rows: int
    seed: int
    store: Store

    def __call__(self, job: Job, frame: pd.DataFrame | None) -> StoredObject:
        """Carry one job out."""
        if job.leaf is None:
            found = Survey.merge([self.get(child) for child in job.children])
        else:
            found = Survey.merge(
                [self.survey(*rows) for rows in self.reading.rows(job.leaf, frame)]
                or [self.survey(*self.reading.no_rows(job.leaf))]
            )
        return stored(self.store, job.name, found.to_bytes())

    def get(self, name: str) -> Survey:
        """A stored survey."""
        return Survey.from_bytes(self.store.get(node_key(name)), where=node_key(name))

    def survey(self, columns: Columns, ids: Ids) -> Survey:
        """One chunk."""
        if isinstance(columns.target, Coded):  # one gather, after which every class is a slice
            order = grouped(columns.target.codes)
            columns, ids = columns.at(order), ids[order]
        block = numeric_block(columns)
        found = profile(
            columns, block, exact_quantiles=self.rules.exact_quantiles, numeric_frequent=self.rules.numeric_frequent
        )
        if not len(columns):
            return Survey(found, {})
        codes, labels = _classes(columns)
        scores = pilot_scores(standardised(block, found.moments), codes, len(labels))
        u = uniforms(ids, self.seed, "pilot")
        pilots: dict[Level | None, Sketch] = {}
        positions = np.arange(len(columns))
        for rows, label in zip(class_rows(codes, len(labels)), labels, strict=True):
            index = positions[rows]
            if len(index):
                pilots[label] = sketch(
                    ids[rows],
                    scores[rows],
                    partial(_raw_rows, columns, index),
                    max(1, self.pilot_rows // len(labels)),
                    uniforms=u[rows],
                    base=None if columns.weights is None else columns.weights[rows],
                )
        return Survey(found, pilots)


@dataclass(frozen=True)
class NodeWork:
    """Pass 2: sketches and totals of a leaf under a recipe; merge of nodes."""

    reading: Reading
    recipe: str
    store: Store

    def __call__(self, job: Job, frame: pd.DataFrame | None) -> StoredObject:
        """Carry one job out."""
        recipe = recipe_of(self.store, self.recipe)
        if job.leaf is None:
            node = Node.merge([read_node(self.store, child) for child in job.children], recipe.size)
        else:
            parts = [sketch_rows(recipe, *rows) for rows in self.reading.rows(job.leaf, frame)]
            node = Node.merge(parts or [sketch_rows(recipe, *self.reading.no_rows(job.leaf))], recipe.leaf_size)
        return stored(self.store, job.name, node.to_bytes())


def read_node(store: Store, name: str) -> Node:
    """A stored node."""
    return Node.from_bytes(store.get(node_key(name)), where=node_key(name))


@lru_cache(maxsize=4)
def recipe_of(store: Store, name: str) -> Recipe:
    """A recipe, read once a process."""
    return load_recipe(store, name)


def sketch_rows(recipe: Recipe, columns: Columns, ids: Ids) -> Node:
    """Node of one chunk of training rows."""
    blocks = {"numbers": columns.numbers, "times": columns.times, "codes": global_codes(columns, recipe.preparation)}
    X = design(blocks, recipe.preparation, "float64" if recipe.exact else "float32")
    y = target_values(columns, recipe)
    base, pilot = columns.weights, recipe.pilot
    scores = {"robust": robust_scores(X, y, pilot), "uniform": uniform_scores(len(y))}
    if "balanced" in recipe.objectives:
        scores["balanced"] = balanced_scores(y, pilot.counts)
    sketches = {
        name: sketch(
            ids,
            scores[name],
            lambda kept: {**{k: take_rows(b, kept) for k, b in blocks.items()}, "y": y[kept]},
            recipe.leaf_size,
            uniforms=uniforms(ids, recipe.seed, name),
            base=base,
        )
        for name in recipe.objectives
    }
    enough = hessian_rows(pilot)
    u = uniforms(ids, recipe.seed, "hessian")
    thin = None if enough is None else thinning(u, scores["robust"], enough)
    moments = exact_moments(recipe, X, y, base) if recipe.exact else {}
    return Node(sketches, totals_at(X, y, base, pilot, thin=thin), moments)


def exact_moments(
    recipe: Recipe, X: npt.NDArray[Any], y: npt.NDArray[np.float64], base: npt.NDArray[np.float64] | None
) -> dict[Level | None, CoMoments]:
    """Moments of the features: with the target for a quantity, of each class otherwise."""
    features = X[:, 1:]
    if recipe.classes is None:
        return {None: comoments(features, y, base)}
    out: dict[Level | None, CoMoments] = {}
    for code, label in enumerate(recipe.classes):
        rows = np.flatnonzero(y == code)
        out[label] = comoments(features[rows], weights=None if base is None else base[rows])
    return out


def target_values(columns: Columns, recipe: Recipe) -> npt.NDArray[np.float64]:
    """Class codes or quantities, as float64."""
    if isinstance(columns.target, Coded):
        assert recipe.classes is not None
        return class_codes(columns.target, recipe.classes, columns.path).astype(np.float64)
    assert columns.target is not None
    return columns.target


def _classes(columns: Columns) -> tuple[npt.NDArray[Any], tuple[Level | None, ...]]:
    if isinstance(columns.target, Coded):
        return columns.target.codes, columns.target.levels
    return np.zeros(len(columns), dtype=np.int32), (None,)


def _raw_rows(columns: Columns, among: npt.NDArray[Any], kept: npt.NDArray[Any]) -> dict[str, npt.NDArray[Any]]:
    """Rows as pass 1 keeps them: categories by value, since no global codes exist yet."""
    index = among[kept]
    out: dict[str, npt.NDArray[Any]] = {
        "numbers": take_rows(columns.numbers, index),
        "times": take_rows(columns.times, index),
    }
    features = [f for f in columns.schema.features if f.kind == "categorical"]
    for j, (feature, coded) in enumerate(zip(features, columns.categories, strict=True)):
        levels = np.array(
            [*coded.levels, None if feature.is_text else np.nan], dtype=object if feature.is_text else np.float64
        )
        out[f"category{j}"] = levels[coded.codes[index]]
    if columns.target is not None and not isinstance(columns.target, Coded):
        out["y"] = columns.target[index]
    return out
