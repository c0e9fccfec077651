"""Rows of a tree that are kept out of every fit, so that models can be scored where no held-out data are given."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pandas as pd

from coretree.coreset.rows import uniforms
from coretree.errors import ConfigError
from coretree.run.coreset_tree import CoresetTree
from coretree.run.train import LEAST_ROWS_A_FOLD, recalibration
from coretree.tree.coresets import Coreset

HELD_SHARE = 0.25


@dataclass(frozen=True, eq=False)
class HeldInside:
    """Rows of the tree that are kept out of every fit, by a hash of their identity."""

    tree: CoresetTree
    seed: int

    def mask(self, ids: npt.NDArray[np.uint64]) -> npt.NDArray[np.bool_]:
        """Which rows are held out, whatever sketch they are met in."""
        return uniforms(ids, self.seed, "compare") < HELD_SHARE

    def without(self, core: Coreset) -> Coreset:
        """A coreset less the rows held out, weighed so that it stands for all rows on its own."""
        inside = np.flatnonzero(~self.mask(core.ids))
        weights = core.sample_weight[inside]
        if core.objective in self.tree.totals_:
            weights = recalibration(self.tree, core.objective, len(core))(inside)
        elif core.class_counts is not None:
            y = core.target[inside]
            weights = weights.copy()
            for label, count in core.class_counts.items():
                own = y == label
                if own.any():
                    weights[own] *= count / weights[own].sum()
        else:
            weights = weights * (core.sample_weight.sum() / weights.sum())
        return _taken(core, inside, weights)

    def rows(self) -> Coreset:
        """The uniform rows to score on.

        Raises
        ------
        ConfigError
            The tree keeps no uniform rows, or too few of a class.
        """
        if "uniform" not in self.tree.recipe_.objectives:
            raise ConfigError("this tree keeps no 'uniform' rows to score on: give held-out rows with data=...")
        core = self.tree.coreset(objective="uniform")
        held = np.flatnonzero(self.mask(core.ids))
        kinds = np.zeros(len(held)) if core.class_counts is None else core.target[held]
        counts = pd.Series(kinds).value_counts()
        if len(counts) < len(core.class_counts or "1") or counts.min() < LEAST_ROWS_A_FOLD:
            raise ConfigError(
                f"of the {len(core):,} uniform rows of this tree, {len(held):,} are held out to score on, and a class "
                f"has fewer than {LEAST_ROWS_A_FOLD} of them. Give held-out rows with data=..., such as the second of "
                "dataset.split(test=0.2), or build a larger tree with CoresetTree(..., size=...)."
            )
        return _taken(core, held, core.sample_weight[held])


def _taken(core: Coreset, index: npt.NDArray[np.intp], weights: npt.NDArray[np.float64]) -> Coreset:
    return replace(
        core,
        X=core.X.iloc[index],
        y=None if core.y is None else core.y.iloc[index],
        sample_weight=weights,
        ids=core.ids[index],
        seconds=None if core.seconds is None else core.seconds[index],
    )
