"""Pass 1 on one chunk: clean rows in, a survey out."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from coretree.coreset.pilot import pilot_scores
from coretree.coreset.priority import Sketch, sketch
from coretree.coreset.rows import Float, Ids, Index, uniforms
from coretree.data.columns import Coded, Columns, Level, class_rows, take_rows
from coretree.data.prepare import PrepareRules
from coretree.data.profile import Profile, numeric_block, profile
from coretree.data.standardised import standardised
from coretree.run.settings import Settings
from coretree.tree.node import Survey

CANDIDATES = 4  # rows of a class that are scored for each row that a pilot keeps of a leaf


def survey_rows(
    columns: Columns,
    ids: Ids,
    settings: Settings,
    pilot_rows: int,
    capacity: Callable[[Level | None], int],
    leaf_rows: int = 0,
) -> Survey:
    """Profile and sketches of one chunk of training rows.

    Where this pass is the only one, every row is scored in its class: rows that are grouped by class are then not
    copied.

    Parameters
    ----------
    columns : Columns
    ids : ndarray of uint64, shape (n,)
    settings : Settings
    pilot_rows : int
        That the leaf keeps, shared by the classes that the chunk holds.
    capacity : callable
        Rows of a class in either sketch, where this pass is the only one.
    leaf_rows : int
        Rows of the leaf, where the chunk is only a part of it: the parts share the work that a leaf is worth.
    """
    block = numeric_block(columns)
    found = profile_of(columns, block, settings.prepare, class_moments=settings.passes == 1)
    codes, labels = _classes(columns)
    if not len(columns):
        return Survey(found, {})
    if settings.passes == 1:
        u = uniforms(ids, settings.seed, "pilot")
        scores = pilot_scores(standardised(block, found.moments), codes, len(labels))
        pilots = _sketches(columns, ids, scores, u, columns.weights, capacity)
        u = uniforms(ids, settings.seed, "uniform")
        return Survey(found, pilots, _sketches(columns, ids, np.ones(len(ids)), u, columns.weights, capacity))
    kept = max(1, pilot_rows // len(labels))
    u = uniforms(ids, settings.seed, "pilot")
    wanted = max(kept, CANDIDATES * kept * len(columns) // max(leaf_rows, len(columns)))
    index, share = _candidates(codes, len(labels), u, wanted)
    some = columns.at(index)
    scores = pilot_scores(standardised(numeric_block(some), found.moments), codes[index], len(labels))
    base = (1.0 if some.weights is None else some.weights) / share
    return Survey(found, _sketches(some, ids[index], scores, u[index] / share, base, lambda _: kept))


def profile_of(
    columns: Columns, block: npt.NDArray[Any], rules: PrepareRules, *, class_moments: bool = False
) -> Profile:
    """Statistics of one chunk, as far as the rules need them."""
    return profile(
        columns,
        block,
        exact_quantiles=rules.exact_quantiles,
        numeric_frequent=rules.numeric_frequent,
        class_moments=class_moments,
    )


def _candidates(codes: npt.NDArray[Any], n_classes: int, u: Float, wanted: int) -> tuple[Index, Float]:
    """Rows that may become pilot rows, about so many of a class, and the probability with which each was chosen.

    To score every row would cost as much as the rest of the pass. A row's number, below that probability, over it is
    uniform again.
    """
    share = np.minimum(1.0, wanted / np.maximum(np.bincount(codes, minlength=n_classes), 1)).take(codes)
    index = np.flatnonzero(u < share)
    return index, share[index]


def _sketches(
    columns: Columns, ids: Ids, scores: Float, u: Float, base: Float | None, capacity: Callable[[Level | None], int]
) -> dict[Level | None, Sketch]:
    codes, labels = _classes(columns)
    positions, out = np.arange(len(columns)), {}
    for rows, label in zip(class_rows(codes, len(labels)), labels, strict=True):
        own = positions[rows]
        if len(own):
            payload = partial(_raw_rows, columns, own)
            own_base = None if base is None else base[rows]
            out[label] = sketch(ids[rows], scores[rows], payload, capacity(label), uniforms=u[rows], base=own_base)
    return out


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
    if columns.seconds is not None:
        out["seconds"] = columns.seconds[index]
    return out
