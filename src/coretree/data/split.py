"""Which rows train and which are held out: decided per row, before any statistic, by a pure function."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from coretree.errors import ConfigError

Side = Literal["train", "test"]


@dataclass(frozen=True)
class Split:
    """How rows are divided, and which side a dataset stands for.

    Parameters
    ----------
    by : {"hash", "time", "group"}
        "hash": each row on its own, by a hash of its identity. "group": all rows of a group together.
        "time": rows at or after ``cutoff`` are held out.
    test : float
        Share held out, in (0, 1). Exact for "hash" only in expectation.
    seed : int
        Seed of the hash; independent of the seed that samples the coreset.
    side : {"train", "test"}
        The side that is kept.
    cutoff : float or None
        Seconds since 1970 (UTC), for "time".
    """

    by: Literal["hash", "time", "group"] = "hash"
    test: float = 0.2
    seed: int = 0
    side: Side = "train"
    cutoff: float | None = None

    def __post_init__(self) -> None:
        """Validate at construction: a split is written into recipes."""
        if self.by not in ("hash", "time", "group"):
            raise ConfigError(f"split by='{self.by}' is unknown; use 'hash', 'time' or 'group'.")
        if not 0 < self.test < 1:
            raise ConfigError(
                f"split test={self.test} must lie between 0 and 1, both excluded (0.2 holds out a fifth)."
            )

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)


def kept(
    split: Split, u: npt.NDArray[np.float64] | None, seconds: npt.NDArray[np.float64] | None
) -> npt.NDArray[np.bool_]:
    """Mask of the rows on the split's side.

    Parameters
    ----------
    split : Split
        The division and the side.
    u : (n,) float64 in (0, 1), or None
        Uniform hash of the row's (or its group's) identity under the split's seed; for "hash" and "group".
    seconds : (n,) float64 or None
        Event time, NaN where missing; for "time". Rows without a time train.

    Examples
    --------
    >>> import numpy as np
    >>> kept(Split(test=0.25), np.array([0.1, 0.3, 0.9]), None)
    array([False,  True,  True])
    """
    if split.by == "time":
        assert seconds is not None
        assert split.cutoff is not None
        held_out = seconds >= split.cutoff
    else:
        assert u is not None
        held_out = u < split.test
    return held_out if split.side == "test" else ~held_out
