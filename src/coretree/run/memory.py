"""Will it fit? A worker's peak predicted from the plan, before any work is done."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from coretree.data.read import WHOLE_GROUP_BYTES
from coretree.data.scan import Leaf
from coretree.errors import MemoryPlanError

BASE_BYTES = 250 << 20  # a worker that has imported everything
COPIES = 4.0  # of one decoded chunk alive at the peak: Arrow table, blocks, design, scores
USABLE_SHARE = 0.75  # above it Dask begins to pause workers


def chunk_bytes(leaves: Sequence[Leaf]) -> int:
    """Decoded size of the largest chunk that is read at once."""
    return max((min(leaf.n_bytes // max(1, len(leaf.row_groups)), WHOLE_GROUP_BYTES) for leaf in leaves), default=0)


def node_bytes(size: int, n_features: int, fan_in: int, n_sketches: int) -> int:
    """Bytes of the children and the result of one merge."""
    return n_sketches * (fan_in + 1) * size * 8 * (n_features + 6)


def preflight(workers: Mapping[str, Any], leaves: Sequence[Leaf], *, merge_bytes: int) -> int:
    """Predicted peak of the fullest worker, in bytes.

    Raises
    ------
    MemoryPlanError
        A worker's limit is too small for it.
    """
    worst = 0
    for address in sorted(workers):
        threads, limit = int(workers[address]["nthreads"]), int(workers[address].get("memory_limit") or 0)
        a_thread = int(max(COPIES * chunk_bytes(leaves), merge_bytes))
        peak = BASE_BYTES + threads * a_thread
        worst = max(worst, peak)
        if limit and peak > USABLE_SHARE * limit:
            raise MemoryPlanError(
                f"worker {address} has {limit / 2**20:,.0f} MiB, but needs about {peak / 2**20:,.0f} MiB "
                f"({BASE_BYTES / 2**20:.0f} MiB for Python, {threads} threads x {a_thread / 2**20:,.0f} MiB "
                "for one chunk or merge), "
                f"and only {USABLE_SHARE:.0%} of the limit can be used. Give it fewer threads or more memory, "
                "write smaller row groups, or build a smaller tree (size)."
            )
    return worst
