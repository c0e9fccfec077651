"""Nested coresets: the sizes from which a curve is extrapolated, and the rows of each."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from coretree.errors import ConfigError, CoresetQualityWarning
from coretree.learn.threads import one_blas_thread
from coretree.run.coreset_tree import CoresetTree
from coretree.run.executor import available_cores
from coretree.run.fitting import at_most
from coretree.run.held_inside import HeldInside
from coretree.tree.coresets import Coreset, most_rows

LEAST_ROWS = 50  # of the smallest nested coreset
FARTHEST = 6.0  # times the rows of the next smaller one


def sizes_of(size: int | None, tree: CoresetTree, sketch: str, steps: int, *, sparse: bool = False) -> list[int]:
    """Sizes of nested coresets, each half of the one before.

    ``sparse``, for a curve that is only extrapolated: as far apart as there are rows for, up to `FARTHEST` times. Large
    fits cost most, and near ones say least of the curve: for a tree, a forest and boosting on the flights, adult and
    elec2, sizes 6 times apart had the full score in 98 of 102 bands; all, a quarter and an eighth in 88.

    Raises
    ------
    ConfigError
        More rows than the tree was built to keep, or too few.
    """
    if size is not None and size > tree.size:
        raise ConfigError(
            f"size={size} must be at most {tree.size}, the rows that this tree keeps. Build a larger one with "
            f"CoresetTree(..., size={size})."
        )
    if steps < 2:
        raise ConfigError(f"steps={steps} must be at least 2: a curve needs two sizes.")
    largest = at_most(size, tree, sketch) or most_rows(tree.root_, tree.recipe_, sketch)
    most, smaller = min(largest, tree.n_rows_), steps - 1
    if most >> smaller < LEAST_ROWS:
        raise ConfigError(
            f"the smallest of {steps} nested coresets would have {most >> smaller} rows, and {LEAST_ROWS} are "
            f"needed: give size= of at least {LEAST_ROWS << smaller}, or fewer steps=."
        )
    apart = min((most / LEAST_ROWS) ** (1 / smaller), FARTHEST) if sparse else 2.0
    return [round(most / apart**k) for k in range(steps)]


def drawn(
    tree: CoresetTree, sizes: Mapping[str, Sequence[int]], inside: HeldInside | None
) -> dict[str, dict[int, Coreset]]:
    """Nested coresets by sketch and rows, side by side: calibrating them takes as long as some fits.

    Only the largest of a sketch may warn, since the others are there to look at its curve.
    """

    def one(wanted: tuple[str, int]) -> Coreset:
        core = tree.coreset(wanted[1], objective=wanted[0])
        return core if inside is None else inside.without(core)

    every = [(sketch, size) for sketch, own in sizes.items() for size in own]
    with warnings.catch_warnings(), one_blas_thread(), ThreadPoolExecutor(available_cores()) as pool:
        warnings.simplefilter("ignore", CoresetQualityWarning)
        made = list(pool.map(one, every))
    found: dict[str, dict[int, Coreset]] = {sketch: {} for sketch in sizes}
    for (sketch, size), core in zip(every, made, strict=True):
        found[sketch][len(core)] = core
        for message in core.report.warnings if size == sizes[sketch][0] else ():
            warnings.warn(message, CoresetQualityWarning, stacklevel=4)
    return found
