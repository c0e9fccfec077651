"""Weights for a part of a coreset, so that it stands for all the data on its own: what cross-validation fits on."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from coretree.coreset.calibrate import calibrate, counts_only
from coretree.coreset.scores import PilotState
from coretree.coreset.totals import Totals

FloatArray = npt.NDArray[np.float64]
# Beyond this share of all rows, the totals would tell a fit too much about the few rows that it is scored on.
MOST_SHARE = 0.05


@dataclass(frozen=True, eq=False)
class Recalibration:
    """Calibrate any subset of a robust sample to the totals of the whole data.

    The rows left out are among those that the totals sum over, so a fit sees them through the totals: by their share
    of all rows. Where the sample is more than 5 % of the data, weights are only rescaled to the class counts.

    Attributes
    ----------
    weights, base : (m,) float64
        Design and base weights of the sample.
    X : (m, d) float64
        Design of the sample, the constant first.
    y : (m,) float64
        Class codes or quantities.
    pilot, totals : PilotState, Totals
        As the sample was drawn and summed.
    """

    weights: FloatArray
    base: FloatArray
    X: FloatArray
    y: FloatArray
    pilot: PilotState
    totals: Totals
    _known: dict[bytes, FloatArray] = field(default_factory=dict, repr=False)

    def __call__(self, index: npt.NDArray[np.intp]) -> FloatArray:
        """Weights of the rows at some positions; remembered, since several models are fitted on the same folds."""
        key = np.asarray(index, dtype=np.int64).tobytes()
        if key not in self._known:
            self._known[key] = self._weigh(index)
        return self._known[key]

    def _weigh(self, index: npt.NDArray[np.intp]) -> FloatArray:
        y: npt.NDArray[Any] = self.y[index]
        base = self.base[index]
        # a share of a sample is a sample in which every weight is larger by one over the share
        d = np.maximum(self.weights[index] * (self.weights.sum() / self.weights[index].sum()), base)
        if len(self.weights) > MOST_SHARE * self.totals.n_rows:
            return counts_only(d, base, y, self.totals).weights
        return calibrate(d, base, np.asfortranarray(self.X[index]), y, self.pilot, self.totals).weights
