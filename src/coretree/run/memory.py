"""Will it fit? A worker's peak predicted from the plan, before any work is done.

Each constant is a measurement (``tests/benchmarks/worker_memory.py``, which prints the prediction beside it).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from coretree.coreset.whiten import EXACT_LIMIT
from coretree.data.read import FILE_BUFFER, SLICE_ROWS, WHOLE_GROUP_BYTES
from coretree.data.scan import BYTES_PER_VALUE, Leaf, Scan
from coretree.errors import MemoryPlanError
from coretree.run.settings import Settings
from coretree.run.sketching import PIECE_BYTES
from coretree.tree.recipe import LEAF_SLACK

BASE_BYTES = 230 << 20  # a worker that has imported everything: 228 MiB before its first job
THREAD_BYTES = 20 << 20  # what jobs leave behind in each: leaves of 1 MiB peak at 265 MiB on one thread, at 293 on two
READER_BYTES = 2 * FILE_BUFFER  # of each column, file buffer and page: Arrow's pool holds 45 MiB beside 20 long columns
VECTOR_BYTES = 120  # of each row, ids, scores and keys: 389 bytes a row of 20 float32 are three copies and these
CELL_COPIES = 6  # of the float64 design while cells are cut: 449 MiB instead of 350 for 100,000 rows of 20
ENCODED_COPIES = 5  # of a node on its way to the store: arrays, flat, compressed, in the stream, joined
SKETCH_BYTES = 40  # of each kept row: its id, key, base, score and target
TEXT_BYTES = 16  # of a category by value, a pointer to text that rows share: 620 MiB merge 30,000 rows of 20 texts
HESSIAN_ROWS = 400  # a column, that a wide Hessian takes of all rows (see ``coreset.totals``)
TYPICAL_LEVELS, TYPICAL_CLASSES = 20, 4  # before anyone has seen them; too many rather than too few
USABLE_SHARE = 0.75  # above it Dask begins to pause workers


@dataclass(frozen=True)
class Demand:
    """Bytes that one thread of a worker needs, whatever the number of rows.

    Attributes
    ----------
    reading : int
        Arrow's: the largest chunk, and the readers of its columns. Its pool keeps them for the next.
    leaf : int
        The clean rows of that chunk, their design and scores, and what a leaf has kept of its chunks.
    merge : int
        Children and result of a merge.
    """

    reading: int
    leaf: int
    merge: int

    @property
    def thread(self) -> int:
        """At the peak."""
        return THREAD_BYTES + self.reading + max(self.leaf, self.merge)


def demand(scan: Scan, settings: Settings, leaf_size: int) -> Demand:
    """What a build will need of each thread; ``leaf_size`` rows of each sketch are kept of a leaf."""
    kept = _Kept.of(scan, settings, leaf_size)
    chunks = [_chunk(leaf, scan, settings, kept) for leaf in scan.leaves]
    n_leaves = len(scan.leaves)
    below = min(int(sum(kept.of_leaf(leaf.n_rows, scan) for leaf in scan.leaves)), 2 * settings.fan_in * settings.size)
    above = below if settings.passes == 1 else min(below, settings.size)  # one pass keeps so many of each class
    children = min(n_leaves, 2 * settings.fan_in)
    merging = kept.sketches * (below + above) + below  # all of both, and one sketch's rows side by side
    merge = max(kept.row * merging, ENCODED_COPIES * kept.sketches * kept.row * above) + (children + 1) * kept.beside
    return Demand(max((r for r, _ in chunks), default=0), max((c for _, c in chunks), default=0), merge)


@dataclass(frozen=True)
class _Kept:
    """Bytes of what a node keeps, of a row in a sketch and beside its rows; columns of the design; rows of a sketch."""

    sketches: int
    row: int
    beside: int
    width: int
    leaf_size: int
    size: int

    def of_leaf(self, rows: int, scan: Scan) -> float:
        """Rows of a sketch that a leaf keeps: a long one keeps its share of the root."""
        return max(self.leaf_size, min(1.0, LEAF_SLACK * rows / max(1, scan.n_rows)) * self.size)

    @classmethod
    def of(cls, scan: Scan, settings: Settings, leaf_size: int) -> _Kept:
        schema, task = scan.schema, scan.schema.task
        text = TEXT_BYTES if settings.passes == 1 else 4  # a category is kept by value as long as it has no code
        row = _number_bytes(scan) + 8 * len(schema.times) + text * len(schema.categories) + SKETCH_BYTES
        encoded = {"onehot": TYPICAL_LEVELS, "ordinal": 1, "none": 0}[settings.prepare.categorical]
        width = 1 + len(schema.numbers) + 3 * len(schema.times) + encoded * len(schema.categories)
        auto = {"classification": 3, "regression": 2, None: 1}[task]
        named = sum(auto if name == "auto" else 1 for name in settings.objectives)
        sketches = 2 if settings.passes == 1 else named
        cells = settings.n_cells(task) * (width + 2) * (width if settings.scatter else 2)
        moments = (TYPICAL_CLASSES if task == "classification" else 1) * width**2
        beside = 8 * (cells + moments * (settings.form_of_moments(task) != "no"))
        return cls(sketches, row, beside, width, leaf_size, settings.size)


def _chunk(leaf: Leaf, scan: Scan, settings: Settings, kept: _Kept) -> tuple[int, int]:
    """Bytes of a leaf's largest chunk: in Arrow's hands, and in ours."""
    columns, groups = len(scan.schema.columns), max(1, len(leaf.row_groups))
    # a Dask partition is as long as nobody knows before it is computed
    leaf_rows = leaf.n_rows or SLICE_ROWS
    row_bytes = leaf.n_bytes / leaf.n_rows if leaf.n_rows else BYTES_PER_VALUE * columns
    group_rows = leaf_rows / groups
    whole = bool(leaf.row_groups) and group_rows * row_bytes <= WHOLE_GROUP_BYTES
    rows = group_rows if whole else min(group_rows, SLICE_ROWS)
    # columns are decoded side by side; of rows in memory, one partition is worked on and one waits
    beside = min(2 * group_rows * row_bytes, columns * READER_BYTES) if leaf.row_groups else 2 * leaf_rows * row_bytes
    reading = rows * row_bytes + beside
    ours, exact = rows * (row_bytes + VECTOR_BYTES), settings.form_of_moments(scan.schema.task) != "no"
    if settings.passes == 1:
        ours += rows * _number_bytes(scan)
        keeps = min(rows, TYPICAL_CLASSES * settings.size)
    else:
        cells, keeps = settings.n_cells(scan.schema.task) > 0, min(rows, kept.of_leaf(leaf_rows, scan))
        copies: float = 1 + CELL_COPIES * cells
        if scan.schema.task is not None and kept.width > EXACT_LIMIT:
            copies += 2 * min(1.0, HESSIAN_ROWS * kept.width / max(1, scan.n_rows))  # the rows taken, and weighted
        design = rows * kept.width * (8 if exact or cells else 4)
        ours += copies * (design if exact or cells else min(design, PIECE_BYTES))
    ours += leaf_rows / rows * (keeps * kept.sketches * kept.row + kept.beside)
    return int(reading), int(ours)


def _number_bytes(scan: Scan) -> int:
    return len(scan.schema.numbers) * (4 if scan.schema.number_dtype == "float32" else 8)


def preflight(workers: Mapping[str, Any], need: Demand) -> int:
    """Predicted peak of the fullest worker, in bytes.

    Raises
    ------
    MemoryPlanError
        A worker's limit is too small for it.
    """
    worst = 0
    for address in sorted(workers):
        threads, limit = int(workers[address]["nthreads"]), int(workers[address].get("memory_limit") or 0)
        peak = BASE_BYTES + threads * need.thread
        worst = max(worst, peak)
        if limit and peak > USABLE_SHARE * limit:
            raise MemoryPlanError(
                f"worker {address} has {_mib(limit)}, but needs about {_mib(peak)} ({_mib(BASE_BYTES)} for Python, "
                f"{threads} threads x {_mib(need.thread)}: {_mib(THREAD_BYTES)} of its own, {_mib(need.reading)} to "
                f"read a chunk, and {_mib(need.leaf)} for its rows or {_mib(need.merge)} for a merge), and only "
                f"{USABLE_SHARE:.0%} of the limit can be used. Give it fewer threads or more memory, or "
                + ("build a smaller tree (size)." if need.merge > need.leaf else "write smaller row groups.")
            )
    return worst


def _mib(n: int) -> str:
    return f"{n / 2**20:,.0f} MiB"
