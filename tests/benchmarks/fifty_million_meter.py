"""What a method costs, in seconds, memory and bytes of all its processes; and the bare scan that others are held to."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.peak_memory import PeakMemory


@dataclass(frozen=True)
class Measured:
    """One run of one method on one size.

    ``workers`` counts the processes of the cluster (0: none of ours), ``node_bytes`` what a build wrote, and read again
    to merge.
    """

    rows: int
    method: str
    workers: int
    wall_s: float
    cpu_s: float
    client_cpu_s: float
    workers_mib: tuple[int, ...]
    client_mib: int
    bytes_read: int
    node_bytes: int = 0
    log_loss: float | None = None


class Meter:
    """Seconds, memory and bytes of this process and of some workers while a block runs."""

    def __init__(self, pids: list[int]) -> None:
        self.workers, self.client = pids, os.getpid()
        self.found: dict[str, Any] = {}

    def _used(self) -> tuple[float, float, int]:
        processes = [psutil.Process(pid) for pid in (*self.workers, self.client)]
        if not self.workers:  # one of the others, which may have started processes of its own (Spark's Java)
            processes += processes[0].children(recursive=True)
        seconds = [t.user + t.system for t in (p.cpu_times() for p in processes)]
        client = seconds[len(self.workers)]
        return sum(seconds), client, sum(p.io_counters().read_chars for p in processes)

    @contextmanager
    def __call__(self) -> Iterator[None]:
        with PeakMemory([*self.workers, self.client]) as memory:
            (cpu, client, read), started = self._used(), time.perf_counter()
            yield
            wall, (cpu_after, client_after, read_after) = time.perf_counter() - started, self._used()
        self.found = {
            "wall_s": wall,
            "cpu_s": cpu_after - cpu,
            "client_cpu_s": client_after - client,
            "bytes_read": read_after - read,
            "workers_mib": tuple(memory.peak[p] >> 20 for p in self.workers),
            "client_mib": memory.peak[self.client] >> 20,
        }


def scan_group(path: str, group: int) -> int:
    """One row group as a column-major float block with NaN where missing, and codes of the texts: the bare minimum."""
    metadata = pq.read_metadata(path)
    text = [f.name for f in metadata.schema.to_arrow_schema() if pa.types.is_string(f.type)]
    file = pq.ParquetFile(path, metadata=metadata, read_dictionary=text, pre_buffer=False, buffer_size=1 << 20)
    table = file.read_row_group(group, use_threads=False)
    numbers = [name for name in table.column_names if name not in text]
    block = np.empty((len(numbers), table.num_rows), np.float32).T
    for j, name in enumerate(numbers):
        column = table.column(name)
        if column.null_count:
            column = column.fill_null(pa.scalar(np.nan, column.type))
        block[:, j] = column.to_numpy()
    codes = [table.column(name).unify_dictionaries().chunk(0).indices for name in text]
    return len(block) + sum(len(c) - table.num_rows for c in codes)


def bare_scan(client: Any, folder: Path) -> int:
    """Every row group once, on the workers; returns the rows."""
    groups = [(str(p), g) for p in sorted(folder.iterdir()) for g in range(pq.read_metadata(p).num_row_groups)]
    futures = client.map(scan_group, *zip(*groups, strict=True), pure=False)
    return int(sum(client.gather(futures)))
