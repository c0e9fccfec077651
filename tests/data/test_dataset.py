"""The front door: one data set from files, pandas or Dask; sides of a split that share one scan."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from coretree.data import dataset as module
from coretree.data.clean import CleanRules, clean
from coretree.data.dataset import Dataset, leaf_chunks
from coretree.errors import ConfigError, EmptyDataError, FileError, SchemaError
from sample_data import mixed_frame, write


def rows(data: Dataset, column: str) -> list[float]:
    found = []
    for leaf in data.scan.leaves:
        frame = data.frame_part(leaf) if isinstance(data.source, module.FrameSource) else None
        for chunk in leaf_chunks(leaf, data.schema, frame):
            columns = clean(chunk, data.schema, data.clean)
            found += columns.numbers[:, data.schema.numbers.index(column)].tolist()
    return found


def test_files_and_a_frame_give_the_same_rows(tmp_path: Path) -> None:
    frame = mixed_frame(500)
    folder = write(tmp_path / "d", frame[:300], frame[300:], row_group_size=70)
    ways = [
        Dataset.from_parquet(folder, target="y", categorical=["k"]),
        Dataset.from_parquet(str(folder / "*.parquet"), target="y", categorical="k", leaf_bytes=3000),
        Dataset.from_parquet([folder / "part.1.parquet", folder / "part.0.parquet"], target="y", categorical=["k"]),
        Dataset.from_pandas(frame, target="y", categorical=["k"]),
        Dataset.from_pandas(frame, target="y", categorical=["k"], leaf_bytes=3000),
    ]
    wanted = rows(ways[0], "b")
    assert wanted == frame["b"].tolist()
    for data in ways[1:]:
        assert rows(data, "b") == wanted
        assert [(f.name, f.kind) for f in data.schema.features] == [(f.name, f.kind) for f in ways[0].schema.features]
    assert len(ways[1].scan.leaves) > len(ways[0].scan.leaves)


def test_rows_of_a_frame_are_numbered_through_however_it_is_cut() -> None:
    frame = mixed_frame(100)

    def places(leaf_bytes: int) -> list[tuple[str, int]]:
        data = Dataset.from_pandas(frame, target="y", leaf_bytes=leaf_bytes)
        chunks = [c for leaf in data.scan.leaves for c in leaf_chunks(leaf, data.schema, data.frame_part(leaf))]
        return [(c.path, c.offset + i) for c in chunks for i in range(len(c.table))]

    assert places(1 << 20) == places(500) == [("rows", i) for i in range(100)]


def test_opening_reads_nothing_and_a_split_shares_the_scan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scans = []
    real = module.scan_parquet
    monkeypatch.setattr(module, "scan_parquet", lambda *a, **k: scans.append(a) or real(*a, **k))
    data = Dataset.from_parquet(write(tmp_path / "d", mixed_frame(100)), target="y")
    train, test = data.split()
    assert scans == []
    assert data.scan.n_rows == 100
    train, test = data.split()
    assert train.scan is test.scan is data.scan
    assert len(scans) == 1
    assert train.selection is not None
    assert (train.selection.side, test.selection and test.selection.side) == ("train", "test")


def test_a_side_cannot_be_split_again() -> None:
    train, _ = Dataset.from_pandas(mixed_frame(50), target="y").split()
    with pytest.raises(ConfigError, match="one side of a split already"):
        train.split()


@pytest.mark.parametrize("by", ["time", "group"])
def test_a_split_needs_its_column(by: Any) -> None:
    with pytest.raises(ConfigError, match=rf"split\(by='{by}'\) needs to know the column.*{by}=\.\.\."):
        Dataset.from_pandas(mixed_frame(50), target="y").split(by=by)


def test_a_cutoff_may_be_given_in_any_form() -> None:
    data = Dataset.from_pandas(mixed_frame(50), target="y", time="t")
    forms: list[Any] = ["2013-01-02", pd.Timestamp("2013-01-02"), pd.Timestamp("2013-01-02 01:00", tz="Europe/Berlin")]
    cutoffs = {data.split(by="time", cutoff=c)[0].selection.cutoff for c in forms}  # type: ignore[union-attr]
    assert cutoffs == {pd.Timestamp("2013-01-02").timestamp()}


def test_a_time_column_without_a_time_is_named() -> None:
    frame = mixed_frame(50).assign(t=pd.Series([pd.NaT] * 50, dtype="datetime64[us]"))
    with pytest.raises(EmptyDataError, match="time column 't' holds no time"):
        Dataset.from_pandas(frame, target="y", time="t").split(by="time")


@pytest.mark.parametrize("open_", [Dataset.from_pandas, Dataset.from_parquet])
def test_an_unknown_role_is_refused_at_once(open_: Any, tmp_path: Path) -> None:
    source = mixed_frame(50) if open_ == Dataset.from_pandas else tmp_path
    with pytest.raises(ConfigError, match=r"unknown argument 'labels'; columns are described by target, task"):
        open_(source, labels="y")


def test_cleaning_rules_may_be_a_mapping() -> None:
    data = Dataset.from_pandas(mixed_frame(50), clean={"missing_values": ["?"]})
    assert data.clean == CleanRules(missing_values=("?",))
    assert Dataset.from_pandas(mixed_frame(50), clean=data.clean).clean is data.clean


def test_a_dask_frame_is_described_and_not_computed() -> None:
    dd = pytest.importorskip("dask.dataframe")
    frame = mixed_frame(50)

    def explode(part: pd.DataFrame) -> pd.DataFrame:
        raise AssertionError("a partition was computed")

    lazy = dd.from_pandas(frame, npartitions=3).map_partitions(explode, meta=frame.head(0))
    data = Dataset.from_dask(lazy, target="y", categorical=["k"])
    assert {f.name: f.kind for f in data.schema.features} == {
        "a": "numeric",
        "b": "numeric",
        "f": "boolean",
        "c": "categorical",
        "k": "categorical",
        "t": "datetime",
    }
    assert [leaf.path for leaf in data.scan.leaves] == ["partition-000000", "partition-000001", "partition-000002"]
    named = [Dataset.from_dask(lazy, target="y", token=t).scan.leaves[0].fingerprint for t in ("v1", "v1", "v2")]
    assert named[0] == named[1] != named[2]
    with pytest.raises(ConfigError, match="needs cutoff"):
        Dataset.from_dask(lazy, target="y", time="t").split(by="time")
    chunks = list(leaf_chunks(data.scan.leaves[1], data.schema, frame[10:20]))
    assert [(c.path, c.offset, len(c.table)) for c in chunks] == [("partition-000001", 0, 10)]


def test_pandas_is_not_dask() -> None:
    with pytest.raises(ConfigError, match=r"wants a dask.dataframe.DataFrame, found DataFrame.*from_pandas"):
        Dataset.from_dask(mixed_frame(50))


@pytest.mark.parametrize(
    ("make", "error", "said"),
    [
        (lambda d: d.mkdir(), EmptyDataError, "no Parquet file found.*Check the path"),
        (lambda d: None, EmptyDataError, "no such file or folder"),
        (lambda d: (write(d, mixed_frame(50)), (d / "_delta_log").mkdir()), FileError, "Delta table"),
        (lambda d: write(d, mixed_frame(50).drop(columns="y")), SchemaError, r"no column 'y' \(named as target\)"),
        (lambda d: write(d, mixed_frame(50), mixed_frame(50).drop(columns="b")), SchemaError, "part.1.*'b' is missing"),
        (
            lambda d: (write(d, mixed_frame(50)), (d / "x.parquet").touch()),
            FileError,
            r"x.parquet: the file has 0 bytes",
        ),
        (lambda d: write(d, mixed_frame(50).head(0)), EmptyDataError, "1 files, but not one row"),
    ],
)
def test_bad_input_is_named_when_it_is_first_used(tmp_path: Path, make: Any, error: type[Exception], said: str) -> None:
    make(tmp_path / "d")
    data = Dataset.from_parquet(tmp_path / "d", target="y")
    with pytest.raises(error, match=said) as found:
        data.scan  # noqa: B018
    assert str(tmp_path / "d") in str(found.value)


def test_the_first_columns_of_a_frame_are_the_first_features() -> None:
    frame = pd.DataFrame({"z": [1.0, 2.0], "a": np.array([3, 4], np.uint8), "y": [True, False]})
    assert Dataset.from_pandas(frame, target="y").schema.numbers == ("z", "a")
