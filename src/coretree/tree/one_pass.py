"""One pass over the data is enough for a weaker tree: surveys whose sketches are large, and no pilot at all.

Rows are kept by leverage within their class, as pilot rows are, and calibrated to what pass 1 sums anyway: the classes'
weights, their means of the numeric features, and how often these are missing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from coretree.coreset.class_sketches import ClassSketches
from coretree.coreset.priority import Sketch, merge
from coretree.coreset.totals import Totals
from coretree.data.encode import raw_codes
from coretree.data.profile import Level, Profile, numeric_parts
from coretree.tree.node import AnySketch, Node, Survey
from coretree.tree.recipe import Recipe

Array = npt.NDArray[Any]


def node_of(survey: Survey, recipe: Recipe) -> Node:
    """The node that a survey amounts to under a recipe: codes instead of values, and the names of objectives."""
    profile = survey.profile
    classes: tuple[Level | None, ...] = (None,) if recipe.classes is None else recipe.classes
    robust, uniform = (
        [_coded(found.get(label), label, found, recipe) for label in classes]
        for found in (survey.pilots, survey.uniform)
    )
    sketches: dict[str, AnySketch] = {"robust": robust[0], "uniform": merge(uniform, capacity=recipe.size)}
    if recipe.classes is not None:
        sketches |= {"robust": ClassSketches(tuple(robust)), "balanced": ClassSketches(tuple(uniform))}
    moments = [profile.by_class.get(label) for label in classes]
    rows = np.array([0 if m is None else m.n_rows for m in moments], np.int64)
    counts = np.array([0.0 if m is None else m.weight for m in moments])
    return Node(profile, rows, counts, sketches)


def class_sums(profile: Profile, counts: npt.NDArray[np.float64], recipe: Recipe) -> Totals:
    """Sums over all rows, class by class, of the columns of :func:`summed_columns`."""
    whole = profile.moments
    classes: tuple[Level | None, ...] = (None,) if recipe.classes is None else recipe.classes
    spread = np.where(whole.std > 0, whole.std, 1.0)
    sums = np.zeros((len(classes), 1 + 2 * whole.n_features))
    for row, label in zip(sums, classes, strict=True):
        found = profile.by_class.get(label)
        if found is not None:
            row[:] = [found.weight, *(found.count * (found.mean - whole.mean) / spread), *found.missing]
    return replace(Totals.of_counts(profile.n_rows, counts), sums=sums)


def summed_columns(rows: Mapping[str, Array], profile: Profile) -> npt.NDArray[np.float64]:
    """The constant, the standardised numeric features with 0 for a missing value, and whether each is missing."""
    block = numeric_parts(rows["numbers"], rows["times"]).astype(np.float64)
    whole, missing = profile.moments, np.isnan(block)
    scaled = np.where(missing, 0.0, (block - whole.mean) / np.where(whole.std > 0, whole.std, 1.0))
    return np.column_stack([np.ones(len(block)), scaled, missing])


def _coded(found: Sketch | None, label: Level | None, others: Mapping[Level | None, Sketch], recipe: Recipe) -> Sketch:
    """A sketch of a class with codes in place of values; an empty one where the class has no row."""
    kept = next(iter(others.values())).reduce(0) if found is None else found
    rows = {name: column for name, column in kept.rows.items() if not name.startswith("category")}
    rows["codes"] = raw_codes(kept.rows, recipe.preparation)
    if recipe.classes is not None and label is not None:
        rows["y"] = np.full(len(kept), float(recipe.classes.index(label)))
    if found is None:
        return Sketch(
            kept.ids[:0], kept.keys[:0], kept.base[:0], kept.score[:0], {k: v[:0] for k, v in rows.items()}, 0
        )
    return replace(kept, rows=rows)
