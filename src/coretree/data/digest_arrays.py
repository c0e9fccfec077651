"""Many digests as five arrays: a wide table stores hundreds of them, and each array of a node has its price."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from coretree.data.quantiles import Digest


def pack(digests: Sequence[Digest]) -> dict[str, npt.NDArray[Any]]:
    """Return the digests' groups one after the other, with their number, range and compression.

    Examples
    --------
    >>> from coretree.data.quantiles import digests
    >>> state = pack(digests([[1.0, 5.0], [2.0, 5.0]]))
    >>> state["lengths"].tolist(), [d.maximum for d in unpack(state)]
    ([2, 2], [2.0, 5.0])
    """
    none = [np.zeros(0)]
    return {
        "means": np.concatenate([d.means for d in digests] or none),
        "weights": np.concatenate([d.weights for d in digests] or none),
        "lengths": np.array([len(d.means) for d in digests], np.int64),
        "ranges": np.array([(d.minimum, d.maximum) for d in digests], np.float64).reshape(-1, 2),
        "deltas": np.array([d.delta for d in digests], np.int64),
    }


def unpack(state: Mapping[str, npt.NDArray[Any]]) -> list[Digest]:
    """Restore what `pack` returned."""
    ends = np.cumsum(state["lengths"])[:-1]
    groups = zip(np.split(state["means"], ends), np.split(state["weights"], ends), strict=True)
    limits = zip(state["ranges"].tolist(), state["deltas"].tolist(), strict=True)
    return [Digest(m, w, low, high, delta) for (m, w), ((low, high), delta) in zip(groups, limits, strict=False)]
