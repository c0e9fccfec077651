"""One streaming pass that tallies every prepared row that a tree stands for, part by part, added in leaf order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from coretree.data.columns import Columns
from coretree.data.dataset import Dataset
from coretree.data.encode import design, global_codes
from coretree.data.prepare import Preparation
from coretree.run.build import Progress
from coretree.run.evaluate import run_over_leaves
from coretree.run.frontier import Job
from coretree.run.tasks import Reading

Tally = Callable[..., Any]
"""``tally(X, weights=w)``: something that adds up, of prepared rows (n, d) and their base weights (n,) or None."""


@dataclass(frozen=True, eq=False)
class RowPass:
    """What a pass makes of one leaf: the sum of its chunks' tallies, None where it has no row."""

    reading: Reading
    preparation: Preparation
    tally: Tally

    def __call__(self, job: Job, frame: pd.DataFrame | None) -> Any:
        """Carry one job out."""
        assert job.leaf is not None
        parts = [
            self.tally(prepared(columns, self.preparation), weights=columns.weights)
            for columns, _ in self.reading.rows(job.leaf, frame)
            if len(columns)
        ]
        return sum(parts) if parts else None


def prepared(columns: Columns, preparation: Preparation) -> npt.NDArray[np.float64]:
    """Clean rows under a frozen preparation, (n, d): what the transformer of the fitted Pipeline makes of them."""
    blocks = {"numbers": columns.numbers, "times": columns.times, "codes": global_codes(columns, preparation)}
    features: npt.NDArray[np.float64] = design(blocks, preparation)[:, 1:]
    return features


def over_every_row(
    tally: Tally, data: Dataset, preparation: Preparation, stage: str, client: Any, progress: Progress | None
) -> Any:
    """Sum of the tallies of all rows on a dataset's side of the split; the same bits on every executor.

    Parameters
    ----------
    tally : callable
        Picklable; what it returns adds up with ``+`` and with 0.
    data : Dataset
        What the tree was built from.
    preparation : Preparation
        The tree's.
    stage : str
        For the progress.
    client, progress
        As in ``CoresetTree.build``.
    """
    work = RowPass(Reading.of(data), preparation, tally)
    found = run_over_leaves(data, work, stage, client, progress)
    return sum(part for part in found if part is not None)
