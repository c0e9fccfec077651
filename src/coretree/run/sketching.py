"""Pass 2 on one chunk: clean rows in, a node out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from coretree.coreset.cells import Cells
from coretree.coreset.cells import build as build_cells
from coretree.coreset.class_sketches import sketch_classes
from coretree.coreset.comoments import comoments
from coretree.coreset.priority import Sketch, sketch
from coretree.coreset.quotas import Quotas
from coretree.coreset.residuals import residual_scores
from coretree.coreset.rfactor import rfactor
from coretree.coreset.rows import Float, Index, uniforms
from coretree.coreset.scores import PilotState, robust_scores, uniform_scores
from coretree.coreset.second_moments import Summary
from coretree.coreset.softmax_terms import softmax_terms
from coretree.coreset.totals import Totals, hessian_rows, thinning, totals_at
from coretree.data.columns import Coded, Columns, Level, take_rows
from coretree.data.encode import class_codes, design, global_codes
from coretree.tree.node import AnySketch, Capacity, Node
from coretree.tree.recipe import Recipe

PIECE_BYTES = 64 << 20  # of a design: larger ones are made, used and given back piece by piece
Ids = npt.NDArray[np.uint64]
Array = npt.NDArray[Any]


Ceilings = Mapping[str, list[Float]]
"""Smallest keys that the chunks of a leaf have brought so far: of each sketch, a list of one or of one a class."""


def sketch_rows(recipe: Recipe, columns: Columns, ids: Ids, capacity: Capacity, seen: Ceilings | None = None) -> Node:
    """Node of one chunk of training rows, without their profile.

    ``capacity`` is that of its sketches; rows that cannot enter them beside those of earlier chunks are left out.
    """
    payload = stored_columns(columns, recipe)
    y, base = payload.get("y"), columns.weights
    codes = np.zeros(len(ids), np.intp) if y is None or recipe.classes is None else y.astype(np.intp)
    pieces = [_scored(recipe, part, payload, codes, base, ids) for part in _pieces(recipe, len(ids))]
    first = pieces[0]
    scores = first.scores
    if len(pieces) > 1:
        scores = {name: np.concatenate([piece.scores[name] for piece in pieces]) for name in scores}
    n_classes = len(recipe.rows)
    live = codes if base is None else codes[base > 0]
    return Node(
        profile=None,
        rows=np.bincount(live, minlength=n_classes).astype(np.int64),
        counts=np.bincount(codes, base, minlength=n_classes).astype(np.float64),
        sketches={
            name: _sketch(recipe, name, capacity(name), ids, codes, scores[name], payload, base, seen)
            for name in recipe.objectives
        },
        totals={name: sum((piece.totals[name] for piece in pieces[1:]), found) for name, found in first.totals.items()},
        moments=first.moments,
        cells=first.cells,
    )


@dataclass(frozen=True, eq=False)
class _Piece:
    """What the design of some rows gives: scores by name, and sums over them."""

    scores: dict[str, Float]
    totals: dict[str, Totals]
    moments: dict[Level | None, Summary]
    cells: Cells | None


def _pieces(recipe: Recipe, n: int) -> list[slice]:
    """Rows whose design is made at a time: all where exact sums or cells are made of it."""
    rows = max(n, 1) if _exact(recipe) else max(1, PIECE_BYTES // (4 * (1 + recipe.preparation.n_features)))
    return [slice(start, start + rows) for start in range(0, max(n, 1), rows)]


def _exact(recipe: Recipe) -> bool:
    """Whether sums that are said to be exact, or bounds, are made of the design: the rows as a model will see them."""
    return recipe.exact != "no" or recipe.cells > 0


def _scored(
    recipe: Recipe, part: slice, payload: dict[str, Array], codes: Index, base: Float | None, ids: Ids
) -> _Piece:
    """Scores, totals and sums of a piece."""
    own = {name: column[part] for name, column in payload.items()}
    X = design(own, recipe.preparation, "float64" if _exact(recipe) else "float32")
    y, weights, n = own.get("y"), None if base is None else base[part], len(X)
    scores: dict[str, Float] = {"uniform": uniform_scores(n), "balanced": uniform_scores(n)}
    totals = {}
    for name, pilot in recipe.pilots.items():
        assert y is not None
        scores[name], totals[name] = _at_pilot(recipe, name, pilot, X, y, weights, ids[part])
    if "residual" in recipe.objectives and recipe.residual is not None and y is not None:
        scores["residual"] = residual_scores(X[:, 1:], y, recipe.residual)
    moments = exact_moments(recipe, X[:, 1:], y, codes[part], weights)
    cells = build_cells(X[:, 1:], recipe.cells, weights, scatter=recipe.scatter) if recipe.cells else None
    return _Piece(scores, totals, moments, cells)


def stored_columns(columns: Columns, recipe: Recipe) -> dict[str, Array]:
    """What a sketch keeps of each row: prepared only as far as codes stand for categories and classes."""
    out: dict[str, Array] = {
        "numbers": columns.numbers,
        "times": columns.times,
        "codes": global_codes(columns, recipe.preparation),
    }
    if columns.target is not None:
        out["y"] = target_values(columns, recipe)
    if columns.seconds is not None:
        out["seconds"] = columns.seconds
    return out


def _at_pilot(
    recipe: Recipe, name: str, pilot: PilotState, X: Array, y: Array, base: Float | None, ids: Ids
) -> tuple[Float, Totals]:
    """Scores and totals at a pilot; scores only where a sketch, or the softmax's thinned Hessian, needs them."""
    enough = hessian_rows(pilot)
    wanted = name in recipe.objectives or enough is not None
    terms = softmax_terms(X, y, pilot, base, scored=wanted) if pilot.loss == "softmax" else None
    scores = robust_scores(X, y, pilot, terms=terms) if wanted else np.zeros(0)
    thin = None if enough is None else thinning(uniforms(ids, recipe.seed, "hessian"), scores, enough)
    return scores, totals_at(X, y, base, pilot, thin=thin, terms=terms)


def _sketch(
    recipe: Recipe,
    name: str,
    capacity: int | Quotas,
    ids: Ids,
    codes: Index,
    scores: Float,
    payload: dict[str, Array],
    base: Float | None,
    seen: Ceilings | None,
) -> AnySketch:
    u = uniforms(ids, recipe.seed, name)
    strata = recipe.keeping.strata(name, codes)

    def rows(kept: Index) -> dict[str, Array]:
        return {k: take_rows(a, kept) if a.ndim == 2 else a[kept] for k, a in payload.items()}

    limits, most = np.atleast_1d(capacity).tolist(), np.atleast_1d(recipe.capacity(name)).tolist()
    reach = recipe.reach.get(name, [0.0] * len(limits))
    keys = [np.zeros(0)] * len(limits) if seen is None or name not in seen else seen[name]
    ceilings = []
    for own, limit, far, top in zip(keys, limits, reach, most, strict=True):
        enough = max(limit, min(int(np.searchsorted(own, far, side="right")), top))
        ceilings.append(float(own[enough]) if len(own) > enough else np.inf)
    if strata is None:
        options = {"ceiling": ceilings[0], "reach": reach[0], "most": most[0]}
        return sketch(ids, scores, rows, limits[0], uniforms=u, base=base, **options)
    options = {"ceilings": ceilings, "reach": reach, "most": most}
    return sketch_classes(ids, strata, rows, capacity, uniforms=u, score=scores, base=base, **options)


def smallest_keys(seen: Ceilings, part: Node) -> Ceilings:
    """The same after another chunk."""
    out = {}
    for name, found in part.sketches.items():
        own = [found] if isinstance(found, Sketch) else list(found.parts)
        before = seen.get(name, [np.zeros(0)] * len(own))
        out[name] = [np.sort(np.append(keys, s.keys))[: s.capacity + 1] for keys, s in zip(before, own, strict=True)]
    return out


def exact_moments(
    recipe: Recipe, features: Array, y: Array | None, codes: Index, base: Float | None
) -> dict[Level | None, Summary]:
    """Moments of the features: with the target for a quantity, of each class otherwise."""
    if recipe.exact == "no":
        return {}
    gather: Any = rfactor if recipe.exact == "factors" else comoments
    if recipe.classes is None:
        return {None: gather(features, y, base)}
    out: dict[Level | None, Summary] = {}
    for code, label in enumerate(recipe.classes):
        rows = np.flatnonzero(codes == code)
        out[label] = gather(features[rows], weights=None if base is None else base[rows])
    return out


def target_values(columns: Columns, recipe: Recipe) -> npt.NDArray[np.float64]:
    """Class codes or quantities, as float64."""
    if isinstance(columns.target, Coded):
        assert recipe.classes is not None
        return class_codes(columns.target, recipe.classes, columns.path).astype(np.float64)
    assert columns.target is not None
    return columns.target
