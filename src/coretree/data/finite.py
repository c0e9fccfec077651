"""Columns whose numbers are too large to be scaled are an error that names them, before any row is prepared."""

from __future__ import annotations

import numpy as np

from coretree.data.prepare import Preparation
from coretree.errors import DataError


def check_scalable(preparation: Preparation, where: str) -> None:
    """Make sure that every frozen mean, spread and fill is a number.

    Raises
    ------
    DataError
        Sums or squares of a column overflow; it is named.
    """
    for j, name in enumerate(preparation.numeric):
        frozen = (preparation.center[j], preparation.spread[j], preparation.fill[j])
        if not np.isfinite(frozen).all():
            raise DataError(
                f"{where}: column '{name}' holds numbers so large that their mean or spread overflows float64 (found "
                f"mean {frozen[0]:g}, spread {frozen[1]:g}). Divide it by a constant, clip it, or leave it out with "
                f"drop=['{name}']."
            )
