"""From a tree to what the trials of a search share: prepared sketches, folds, weights for each fold."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from coretree.data.to_sklearn import features, to_sklearn
from coretree.errors import ConfigError
from coretree.learn.choose import Validation
from coretree.learn.fold_rules import FoldRule, HashFolds, TimeFolds, time_folds
from coretree.learn.folds import common_folds
from coretree.learn.threads import one_blas_thread
from coretree.learn.trials import FitRows, ScoredRows
from coretree.run.coreset_tree import CoresetTree
from coretree.run.fitting import class_mass
from coretree.run.train import recalibration, validation_rows
from coretree.tree.coresets import Coreset, draw, most_rows

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class Ground:
    """What trials work on.

    Attributes
    ----------
    fits : mapping of (sketch, size) to FitRows
    scored : mapping of sketch to ScoredRows
    cores : mapping of (sketch, size) to Coreset
    rule : HashFolds or TimeFolds
    note : str
        Empty, or why the folds are not those of the rule.
    prepare : transformer
    classes : array of labels, or None
    """

    fits: Mapping[tuple[str, int], FitRows]
    scored: Mapping[str, ScoredRows]
    cores: Mapping[tuple[str, int], Coreset]
    rule: FoldRule
    note: str
    prepare: Any
    classes: npt.NDArray[Any] | None


def full_size(tree: CoresetTree, sketches: Iterable[str], size: int | None) -> int:
    """Rows to fit on: as many as asked for, or all that every sketch can give.

    Raises
    ------
    ConfigError
        More than the tree keeps.
    """
    most = min(most_rows(tree.root_, tree.recipe_, sketch) for sketch in sketches)
    if size is not None and not 1 <= size <= most:
        raise ConfigError(
            f"size={size} must lie between 1 and {most:,}, the rows that this tree keeps of a sketch. Leave it out for "
            f"all of them, or build a larger tree with CoresetTree(..., size={size})."
        )
    return min(most, tree.n_rows_) if size is None else size


def lay_ground(tree: CoresetTree, sizes: Mapping[str, Iterable[int]], *, cv: int, by: str, seed: int) -> Ground:
    """Draw, prepare and divide the sketches that a search needs.

    Parameters
    ----------
    tree : CoresetTree
    sizes : mapping of sketch to sizes
        Smaller ones are prefixes of larger ones: nested samples.
    cv : int
    by : {"hash", "time"}
    seed : int
        Of the folds.

    Raises
    ------
    ConfigError
        More folds than rows, or folds by time where there is none.
    """
    prepare = to_sklearn(tree.recipe_.preparation)
    cores = {(o, m): tree.coreset(m, objective=o) for o, many in sizes.items() for m in many}
    largest = {o: max((core for (name, _), core in cores.items() if name == o), key=len) for o in sizes}
    common = validation_rows(tree, prepare, cv)
    uniform = tree.coreset(objective="uniform") if common is not None else next(iter(largest.values()))
    smallest = min([len(core) for core in cores.values()] + ([] if common is None else [common.ids.size]))
    if not 2 <= cv <= smallest:
        raise ConfigError(f"cv={cv} must lie between 2 and the {smallest} rows of the smallest sketch.")
    rule: FoldRule = time_folds(uniform.seconds, uniform.sample_weight, cv) if by == "time" else HashFolds(cv, seed)
    samples = [*cores.values(), *([uniform] if common is not None else [])]
    classes = np.unique(np.concatenate([np.unique(core.target) for core in samples])) if uniform.class_counts else None
    folds, note = _folds(rule, samples, classes)
    with one_blas_thread():  # the same bits whatever the number of cores
        fits = {
            key: _fit_rows(tree, core, key, prepare, rule, own)
            for (key, core), own in zip(cores.items(), folds, strict=False)
        }
    scored = {}
    for o, core in largest.items():
        rows = common or Validation(features(prepare, core.X), core.target, core.sample_weight, core.ids)
        own = folds[-1] if common is not None else folds[samples.index(core)]
        inside = tuple(np.flatnonzero(own == k) for k in range(cv))
        scored[o] = ScoredRows(rows.X, np.asarray(rows.y), np.asarray(rows.weights, np.float64), inside)
    return Ground(fits, scored, cores, rule, note, prepare, classes)


def _folds(rule: FoldRule, samples: list[Coreset], classes: npt.NDArray[Any] | None) -> tuple[list[IntArray], str]:
    """Folds of each sample's rows: a row has the same one wherever it occurs."""
    if isinstance(rule, TimeFolds):
        found = [rule.of(core.ids, core.seconds) for core in samples]
        for own in found:
            rows = np.bincount(own + 1, minlength=rule.cv + 1)
            if not rows.all():
                raise ConfigError(
                    f'folds="time": stretch {int(np.argmin(rows))} of {rule.cv + 1} has no row of a sketch. Use fewer '
                    "folds, or a larger size."
                )
        return found, ""
    codes = None if classes is None else [np.searchsorted(classes, core.target) for core in samples]
    return common_folds([core.ids for core in samples], codes, rule.cv, rule.seed)


def _fit_rows(
    tree: CoresetTree, core: Coreset, key: tuple[str, int], prepare: Any, rule: FoldRule, folds: IntArray
) -> FitRows:
    """Rows for each fold, recalibrated; before a time nothing is known of later totals, so design weights stay."""
    sketch, size = key
    outside = tuple(rule.before(folds, k) for k in range(rule.cv))
    if isinstance(rule, TimeFolds):
        design = draw(tree.root_, tree.recipe_, size=size, objective=sketch).weights
        weights = tuple(design[index] for index in outside)
    elif sketch in tree.totals_:
        reweigh = recalibration(tree, sketch, size)
        weights = tuple(reweigh(index) for index in outside)
    else:
        weights = tuple(core.sample_weight[index] for index in outside)
    return FitRows(features(prepare, core.X), core.target, outside, weights, class_mass(sketch))
