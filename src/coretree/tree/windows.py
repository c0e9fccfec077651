"""Windows: any set of leaves as few stored nodes, and leaves that a time window cuts, from their stored rows.

A node is taken whole where all its leaves are wanted, passed over where none is, and opened otherwise: a run of leaves
needs at most two partly wanted groups a level. What is known exactly of a leaf is known of all its rows only; of a
part of it, sums are estimated from its sketch, by the difference estimator (Särndal, Swensson and Wretman 1992, 6.3).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from coretree.coreset.calibrate import counts_only
from coretree.coreset.class_sketches import ClassSketches
from coretree.coreset.quotas import KEEP_ALL, Quotas
from coretree.coreset.scores import PilotState
from coretree.coreset.totals import Totals, totals_at
from coretree.data.encode import design
from coretree.errors import EmptyDataError
from coretree.tree.coresets import Pilot, draw, pilots_of, target_of
from coretree.tree.manifest import StoredObject
from coretree.tree.node import AnySketch, Capacity, Node
from coretree.tree.plan import Plan
from coretree.tree.recipe import Recipe

Mask = npt.NDArray[np.bool_]
WHOLE, NOTHING, PART = 1, 0, -1


@dataclass(frozen=True)
class Span:
    """Event times from ``start`` on and before ``end``, in seconds since 1970 (UTC); None is open."""

    start: float | None = None
    end: float | None = None

    @property
    def everything(self) -> bool:
        """Whether no time is outside."""
        return self.start is None and self.end is None

    def holds(self, seconds: npt.NDArray[np.float64]) -> Mask:
        """Mask of the times inside; a missing one is outside."""
        if self.everything:
            return np.ones(len(seconds), np.bool_)
        inside = ~np.isnan(seconds)
        if self.start is not None:
            inside &= seconds >= self.start
        if self.end is not None:
            inside &= seconds < self.end
        return inside

    def covers(self, found: StoredObject) -> int:
        """Whether a node lies inside, outside or across the edges."""
        if self.everything:
            return WHOLE
        if found.first is None or found.last is None:
            return NOTHING
        if (self.start is not None and found.last < self.start) or (self.end is not None and found.first >= self.end):
            return NOTHING
        whole = (self.start is None or found.first >= self.start) and (self.end is None or found.last < self.end)
        return WHOLE if whole else PART


@dataclass(frozen=True)
class Cover:
    """Stored nodes that make up a selection, in leaf order; ``cut`` says of each whether it is a leaf on the border."""

    names: tuple[str, ...]
    cut: tuple[bool, ...]


def cover(shape: Plan, wanted: Sequence[int]) -> Cover:
    """Fewest nodes for the leaves that are wanted whole or in part."""
    state = dict(zip(shape.names_of_leaves, wanted, strict=True))
    for name, children in shape.nodes.items():  # bottom up
        if children:
            found = {state[child] for child in children}
            state[name] = found.pop() if len(found) == 1 and PART not in found else PART
    names: list[str] = []
    waiting = [shape.root]
    while waiting:
        name = waiting.pop()
        if state[name] == WHOLE or (state[name] == PART and not shape.nodes[name]):
            names.append(name)
        elif state[name] == PART:
            waiting += reversed(shape.nodes[name])
    return Cover(tuple(names), tuple(state[name] == PART for name in names))


@dataclass(frozen=True, eq=False)
class Window:
    """Part of a tree, as one node.

    Attributes
    ----------
    node : Node
    totals : mapping of objective to (PilotState, Totals)
        What coresets are calibrated to.
    n_nodes : int
        Stored nodes that were read for it.
    estimated_share : float
        Share of the rows that comes from leaves on the border, whose sums are estimates.
    undated_share : float
        Share of the weight that rows without a time have; they count where all of their leaf lies inside.
    """

    node: Node
    totals: Mapping[str, Pilot]
    n_nodes: int
    estimated_share: float
    undated_share: float = 0.0


def compose(
    wanted: Sequence[int],
    span: Span,
    main: tuple[Plan, Recipe, Callable[[str], Node]],
    refined: tuple[Plan, Recipe, Callable[[str], Node]] | None,
) -> Window:
    """Merge the nodes of a selection.

    Parameters
    ----------
    wanted : sequence of int
        `WHOLE`, `PART` or `NOTHING` for each leaf.
    span : Span
        By which the rows of a leaf that is wanted in part are chosen.
    main, refined : (Plan, Recipe, callable)
        Shape, recipe and how a node is read, of the second pass and of the third.

    Raises
    ------
    EmptyDataError
        No row is inside.
    """
    shape, recipe, read = main
    chosen = cover(shape, wanted)
    if not chosen.names:
        raise EmptyDataError(f"none of the {len(wanted)} leaves has a row in this window.")
    parts, cuts = [], {}
    for name, cut in zip(chosen.names, chosen.cut, strict=True):
        node = read(name)
        if cut:
            node = cuts[name] = clipped(node, recipe, span, pilots_of(node, recipe))
        parts.append(node)
    node = parts[0] if len(parts) == 1 else Node.merge(parts, _capacity(recipe))
    if not node.n_rows:
        raise EmptyDataError("no row that the tree keeps lies in this window.")
    estimated = sum(part.n_rows for part in cuts.values()) / node.n_rows
    totals = pilots_of(node, recipe)
    if refined is not None:
        totals = _refined(wanted, span, main, refined)
    profiles = [] if span.everything else [part.profile for part in parts]
    undated = sum(float(p.seconds.missing.sum()) for p in profiles if p is not None)
    return Window(node, totals, len(parts), estimated, undated / float(node.counts.sum()))


def _capacity(recipe: Recipe) -> Capacity:
    """Capacity of a merge: of a tree made in one pass every class keeps its whole sketch, as its surveys do."""

    def of(objective: str) -> int | Quotas:
        found = recipe.capacity(objective)
        return found if isinstance(found, int) else np.where(found == KEEP_ALL, found, recipe.size)

    return of if recipe.one_pass else recipe.capacity


def _refined(
    wanted: Sequence[int],
    span: Span,
    main: tuple[Plan, Recipe, Callable[[str], Node]],
    refined: tuple[Plan, Recipe, Callable[[str], Node]],
) -> dict[str, Pilot]:
    """Totals of the same leaves at the models of the third pass."""
    shape, recipe, read = refined
    chosen = cover(shape, wanted)
    leaf_of = dict(zip(shape.names_of_leaves, main[0].names_of_leaves, strict=True))
    sums: dict[str, list[Totals]] = {name: [] for name in recipe.pilots}
    for name, cut in zip(chosen.names, chosen.cut, strict=True):
        node = read(name)
        if cut:
            node = clipped(main[2](leaf_of[name]), main[1], span, pilots_of(node, recipe))
        for objective, found in sums.items():
            found.append(node.totals[objective])
    return {name: (pilot, sum(sums[name][1:], sums[name][0])) for name, pilot in recipe.pilots.items()}


def clipped(node: Node, recipe: Recipe, span: Span, pilots: Mapping[str, Pilot]) -> Node:
    """The part of a leaf that lies in a window: filtered sketches, estimated sums, and nothing that is exact only."""
    sketches: dict[str, AnySketch] = {}
    for name, found in node.sketches.items():
        if isinstance(found, ClassSketches):
            parts = [part.restricted(span.holds(part.rows["seconds"])) for part in found.parts]
            sketches[name] = ClassSketches(tuple(parts))
        else:
            sketches[name] = found.restricted(span.holds(found.rows["seconds"]))
    rows, y, w = _weighed(node, recipe, "uniform" if "uniform" in sketches else next(iter(sketches)))
    totals: dict[str, Totals] = {}
    for name, (pilot, known) in pilots.items():
        if name in sketches:
            rows, y, w = _weighed(node, recipe, name)
        totals[name] = difference_estimate(
            pilot, known, design(rows, recipe.preparation), y, w, span.holds(rows["seconds"])
        )
    held = span.holds(rows["seconds"])
    codes = y.astype(np.intp) if recipe.classes is not None else np.zeros(len(y), np.intp)
    counts = np.bincount(codes, w * held, minlength=len(node.counts)).astype(np.float64)
    share = np.divide(counts, node.counts, out=np.zeros_like(counts), where=node.counts > 0)
    n_rows = np.rint(node.rows * np.minimum(share, 1.0)).astype(np.int64)
    return Node(None, n_rows, counts, sketches, totals)


def difference_estimate(
    pilot: PilotState,
    known: Totals,
    X: npt.NDArray[Any],
    y: npt.NDArray[Any],
    w: npt.NDArray[np.float64],
    inside: Mask,
) -> Totals:
    """Totals of the part inside: what the sketch says of it, and its share of what the sketch lacks of the whole.

    So nothing is estimated where all of the leaf lies inside. The Hessian goes without the second term, which could
    take from it that it is positive.
    """
    form: Any = "none" if known.hessian is None else "full"
    part = totals_at(X[inside], y[inside], w[inside], pilot, hessian=form)
    whole = totals_at(X, y, w, pilot, hessian="none")
    share = float(w[inside].sum() / w.sum()) if len(w) else 0.0
    return replace(
        part,
        n_rows=round(float(w[inside].sum())),
        sums=part.sums + share * (known.sums - whole.sums),
        loss=part.loss + share * (known.loss - whole.loss),
        gradient=part.gradient + share * (known.gradient - whole.gradient),
    )


def _weighed(
    node: Node, recipe: Recipe, objective: str
) -> tuple[Mapping[str, Any], npt.NDArray[Any], npt.NDArray[np.float64]]:
    """Rows of a leaf's sketch, their target, and weights that stand for the leaf's rows, class by class."""
    sample = draw(node, recipe, objective=objective)
    y = target_of(sample)
    if not len(y):
        return sample.rows, y, sample.weights
    return sample.rows, y, counts_only(sample.weights, sample.base, y, node.plain_totals).weights
