"""What pass 2 costs beside reading: CPU seconds of both, leaf by leaf, in one run on one thread."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import coretree as ct
from benchmarks.quality_bars import OURS, Bar, Record, Scale, record
from benchmarks.quality_data import Frame
from coretree.data.dataset import leaf_chunks
from coretree.learn.threads import one_blas_thread
from coretree.run.sketching import sketch_rows
from coretree.run.tasks import Reading

GROUP_ROWS = 100_000


@dataclass(frozen=True)
class Cost:
    """Decode, clean and sketch every leaf of a Parquet file; the reading is the first two."""

    name: str
    group: str
    make: Frame
    bars: tuple[Bar, ...]
    rows: int = 800_000
    objectives: str = "auto"

    def ready(self, scale: Scale) -> bool:
        """Its data is made here."""
        return True

    def measure(self, seeds: Sequence[int], scale: Scale) -> Iterator[list[Record]]:
        """Records of one repetition after the other; CPU seconds of the process, so that threads of readers count."""
        with tempfile.TemporaryDirectory() as folder:
            frame = self.make(scale.rows or self.rows)
            frame.to_parquet(Path(folder) / "rows.parquet", row_group_size=GROUP_ROWS, index=False)
            data = ct.Dataset.from_parquet(folder, target="y", task="classification")  # leaves of the usual size
            tree = ct.CoresetTree(size=5_000, objectives=self.objectives).build(data, client=ct.ThreadExecutor(2))
            recipe, reading = tree.recipe_, Reading.of(data)
            facts = {"n": len(frame), "d": frame.shape[1] - 1, "m": tree.size}
            for seed in seeds:
                spent = np.zeros(3)  # decode; decode and clean; sketch
                with one_blas_thread():
                    for leaf in data.scan.leaves:
                        start = time.process_time()
                        n_chunks = sum(1 for _ in leaf_chunks(leaf, data.schema, None))
                        spent[0] += time.process_time() - start
                        chunks = reading.rows(leaf, None, grouped=True)
                        for _ in range(n_chunks):  # one after the other, as in a pass
                            at = [time.process_time()]
                            part = next(chunks)
                            at.append(time.process_time())
                            sketch_rows(recipe, *part, recipe.leaf_capacity)
                            at.append(time.process_time())
                            spent[1:] += np.diff(at)
                        assert next(chunks, None) is None
                each = 1e6 * spent / len(frame)
                found = {
                    "decode, us a row": each[0],
                    "read, us a row": each[1],
                    "pass 2 beyond reading, us a row": each[2],
                    "pass 2 beyond reading / reading": each[2] / each[1],
                }
                yield [record(self.name, seed, OURS, metric, value, **facts) for metric, value in found.items()]
