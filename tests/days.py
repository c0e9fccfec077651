"""A data set that grows by the day: one small Parquet file a day, with times, keys and tags that can be found again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from coretree import Dataset
from coretree.coreset.rows import splitmix64
from coretree.errors import StoreError
from coretree.tree.codec import decode
from coretree.tree.store import Store

DAY = 86_400
COLUMNS = {"target": "y", "time": "when"}


def day(
    number: int, n: int = 120, seed: int = 0, *, first_key: int | None = None, undated: float = 0.0
) -> pd.DataFrame:
    """Rows of one day, with keys that count up."""
    rng = np.random.default_rng([seed, number, n])
    keys = np.arange(n) + (number * 1_000 if first_key is None else first_key)
    when = pd.Series(pd.to_datetime(number * DAY + rng.integers(0, DAY, n), unit="s"))
    frame = pd.DataFrame(
        {
            "tag": tags(keys),
            "a": rng.normal(size=n),
            "kind": rng.choice(["red", "green", "blue"], n),
            "key": keys,
            "when": when.where(rng.random(n) >= undated),
        }
    )
    frame["y"] = np.where(frame["a"] + (frame["kind"] == "red") + rng.logistic(size=n) > 0.5, "yes", "no")
    frame.loc[[0, 1], "y"] = ["yes", "no"]
    return frame


def tags(keys: Any) -> npt.NDArray[np.float64]:
    """A feature that only one row has, and no mean of others ever will: it can be searched for in anything stored."""
    return splitmix64(np.asarray(keys, np.uint64)) / 2.0**64 * 1e6


def write_day(folder: Path, name: str, frame: pd.DataFrame, group_rows: int = 60) -> Path:
    """One file of several row groups."""
    path = folder / f"{name}.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.Table.from_pandas(frame, preserve_index=False)
    pq.write_table(table, path, row_group_size=group_rows, write_page_checksum=True)
    return path


def opened(where: Any, **options: Any) -> Dataset:
    """The days as a data set: a leaf each row group, ``key`` left out unless it names the rows."""
    options = {**COLUMNS, "leaf_bytes": 100, **options}
    if "id" not in options:
        options.setdefault("drop", ["key"])
    return Dataset.from_parquet(where, **options)


def numbers_in(store: Store) -> dict[str, npt.NDArray[np.float64]]:
    """Every number in every stored array, reachable or not, by object."""
    found = {}
    for key in store.names():
        if not key.endswith(".arrow"):
            continue
        arrays, _ = decode(store.get(key), where=key)
        numbers = [np.ravel(a).astype(np.float64) for a in arrays.values() if a.dtype != object and a.dtype != np.bool_]
        found[key] = np.concatenate([np.zeros(0), *numbers])  # the recipe of a single pass holds none
    return found


class Failing:
    """A store that fails at its k-th write or delete, before or after it is done."""

    def __init__(self, store: Store, at: int, error: type[BaseException], *, done: bool = False) -> None:
        self.store, self.left, self.error, self.done = store, at, error, done

    def __repr__(self) -> str:
        return f"Failing({self.store!r})"

    def _step(self, work: Any) -> Any:
        self.left -= 1
        if self.left == 0 and not self.done:
            raise self.error("the store is out of order")
        found = work()
        if self.left == 0:
            raise self.error("the store is out of order")
        return found

    def get(self, key: str) -> bytes:
        return self.store.get(key)

    def names(self, prefix: str = "") -> list[str]:
        return self.store.names(prefix)

    def size(self, key: str) -> int:
        return self.store.size(key)

    def put(self, key: str, data: bytes) -> None:
        self._step(lambda: self.store.put(key, data))

    def replace(self, key: str, data: bytes, *, expected: str | None) -> str:
        return str(self._step(lambda: self.store.replace(key, data, expected=expected)))

    def delete(self, key: str) -> None:
        self._step(lambda: self.store.delete(key))


FAILURES = (StoreError, KeyboardInterrupt)
