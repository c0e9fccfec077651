"""Peak memory of processes while a block runs; imports nothing that a worker would not have."""

from __future__ import annotations

import threading
import time

import psutil

SAMPLE_S = 0.01


class PeakMemory:
    """Largest resident size of each process while a ``with`` block runs, sampled by a thread."""

    def __init__(self, pids: list[int]) -> None:
        self._processes = {pid: psutil.Process(pid) for pid in pids}
        self.peak = dict.fromkeys(pids, 0)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def _watch(self) -> None:
        while not self._stop.is_set():
            for pid, process in self._processes.items():
                self.peak[pid] = max(self.peak[pid], process.memory_info().rss)
            time.sleep(SAMPLE_S)

    def __enter__(self) -> PeakMemory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
