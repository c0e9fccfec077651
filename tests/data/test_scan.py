"""Leaves cover every row once, whatever the layout; files that disagree are named, with the column."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coretree.data.schema import Roles
from coretree.errors import DataError, EmptyDataError, SchemaError
from sample_data import scanned, tables, write

REAL_BAD = Path(__file__).parents[2].parent / "shared" / "data" / "parquet_bad"


def columns(n: int = 40, **over: Any) -> dict[str, Any]:
    return {"a": np.arange(float(n)), "b": np.arange(n) % 5, "y": np.arange(n) % 2, **over}


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 60), st.integers(1, 25)), min_size=1, max_size=4), st.integers(1, 3000))
def test_leaves_cover_every_row_once_and_are_near_their_size(layout: list[tuple[int, int]], leaf_bytes: int) -> None:
    total = sum(n for n, _ in layout)
    with tempfile.TemporaryDirectory() as folder:
        first = 0
        for i, (n, group) in enumerate(layout):
            table = pa.table({"row": np.arange(first, first + n, dtype=np.float64), "x": np.zeros(n)})
            pq.write_table(table, f"{folder}/{i}.parquet", row_group_size=group)
            first += n
        if not total:
            with pytest.raises(EmptyDataError, match="not one row"):
                scanned(folder)
            return
        scan = scanned(folder, leaf_bytes=leaf_bytes)
        read = np.concatenate([t["row"].to_numpy() for t in tables(scan)])
    assert read.tolist() == list(range(total))
    assert scan.n_rows == total == sum(leaf.n_rows for leaf in scan.leaves)
    assert len({leaf.identity for leaf in scan.leaves}) == len(scan.leaves)
    assert all(leaf.n_bytes == 16 * leaf.n_rows for leaf in scan.leaves)
    for leaf in scan.leaves:  # above the target only where one row group is
        assert leaf.n_bytes <= leaf_bytes or len(leaf.row_groups) == 1
    for a, b in zip(
        scan.leaves, scan.leaves[1:], strict=False
    ):  # two neighbours of a file would not have fitted in one
        if a.path == b.path:
            n, group = layout[int(a.path.split(".")[0])]
            assert a.n_bytes + 16 * min(group, n - group * b.row_groups[0]) > leaf_bytes


def test_a_dataset_can_move(tmp_path: Path) -> None:
    here = write(tmp_path / "here" / "m=1", columns(), columns(), row_group_size=7).parent
    shutil.copytree(here, tmp_path / "elsewhere" / "deep", copy_function=shutil.copy2)
    a, b = scanned(here, leaf_bytes=500), scanned(tmp_path / "elsewhere" / "deep", leaf_bytes=500)
    assert len(a.leaves) > 4
    assert [(x.identity, x.fingerprint) for x in a.leaves] == [(x.identity, x.fingerprint) for x in b.leaves]
    assert a.schema == b.schema


def test_hive_folders_are_columns(tmp_path: Path) -> None:
    for year, part in (("2013", "x"), ("2014", "y"), ("__HIVE_DEFAULT_PARTITION__", "y")):
        write(tmp_path / f"year={year}" / f"part={part}", columns(3))
    scan = scanned(tmp_path, Roles(target="y"))
    assert {f.name: f.kind for f in scan.schema.features}["part"] == "categorical"
    read = pa.concat_tables([t.select(["year", "a"]) for t in tables(scan)], promote_options="permissive")
    assert read["year"].to_pylist() == [2013] * 3 + [2014] * 3 + [None] * 3
    assert "year" not in {f.name for f in scanned(tmp_path, hive=False).schema.features}


def test_folder_values_that_are_numbers_here_and_words_there_are_text(tmp_path: Path) -> None:
    write(tmp_path / "k=1", columns(2))
    write(tmp_path / "k=other", columns(2))
    scan = scanned(tmp_path)
    assert {f.name: f.kind for f in scan.schema.features}["k"] == "categorical"
    assert [t["k"].to_pylist() for t in tables(scan)] == [["1"] * 2, ["other"] * 2]


@pytest.mark.parametrize(
    ("second", "kind"),
    [
        ({"a": np.arange(40)}, "numeric"),
        ({"a": np.arange(40, dtype="float32")}, "numeric"),
        ({"a": pa.nulls(40)}, "numeric"),
        ({"a": pa.array([True] * 40)}, "numeric"),
        ({"a": pa.array(range(40)).cast(pa.decimal128(21, 2))}, "numeric"),
    ],
)
def test_numbers_of_different_files_widen(tmp_path: Path, second: dict[str, Any], kind: str) -> None:
    scan = scanned(write(tmp_path, columns(), columns(**second)), Roles(target="y"))
    assert {f.name: f.kind for f in scan.schema.features}["a"] == kind
    assert scan.schema.number_dtype == "float64"


def test_columns_are_matched_by_name(tmp_path: Path) -> None:
    c = columns(4)
    scan = scanned(write(tmp_path, c, {"y": c["y"], "b": c["b"], "a": c["a"]}), Roles(target="y"))
    assert [t["a"].to_pylist() for t in tables(scan)] == [c["a"].tolist()] * 2


@pytest.mark.parametrize(
    ("second", "said"),
    [
        (columns(a=["x"] * 40), "column 'a' is string, but double in 2 of 3 files.*drop = ..a"),
        (columns(a=pa.array([0] * 40).cast(pa.timestamp("us"))), r"column 'a' is timestamp\[us\]"),
        ({k: v for k, v in columns().items() if k != "b"}, "column 'b' is missing, but 2 of 3 files have it.*nulls"),
        (columns(extra=np.zeros(40)), None),
        (pa.table([pa.array([1.0]), pa.array([2.0]), pa.array([1])], ["a", "a", "y"]), "column 'a' occurs 2 times"),
    ],
)
def test_files_that_disagree_are_named(tmp_path: Path, second: Any, said: str | None) -> None:
    write(tmp_path, columns(), second, columns())
    with pytest.raises(SchemaError, match=said) as error:
        scanned(tmp_path, Roles(target="y"))
    odd = "part.0.parquet" if said is None else "part.1.parquet"  # an extra column: the first file that lacks it
    assert str(tmp_path / odd) in str(error.value)


def test_a_column_can_be_left_out_everywhere(tmp_path: Path) -> None:
    write(tmp_path, columns(), columns(a=["x"] * 40, extra=np.zeros(40)))
    scan = scanned(tmp_path, Roles(target="y", drop=("a", "extra")))
    assert scan.schema.columns == ("b", "y")


def test_a_misspelt_column_gets_a_suggestion(tmp_path: Path) -> None:
    write(tmp_path, columns(target=np.zeros(40)))
    with pytest.raises(SchemaError, match=r"no column 'traget' \(named as target\). Did you mean 'target'"):
        scanned(tmp_path, Roles(target="traget"))


def test_bad_files_can_be_skipped_but_not_all_of_them(tmp_path: Path) -> None:
    write(tmp_path, columns(), columns())
    (tmp_path / "part.1.parquet").write_bytes(b"")
    scan = scanned(tmp_path, bad_files="skip")
    assert scan.n_files == 1
    assert scan.bad_files[0][0] == "part.1.parquet"
    (tmp_path / "part.0.parquet").write_bytes(b"")
    with pytest.raises(EmptyDataError, match=r"none of the 2 files could be read; first: part.0.parquet: .*0 bytes"):
        scanned(tmp_path, bad_files="skip")


def test_the_range_of_an_integer_target_decides_its_task(tmp_path: Path) -> None:
    near, far = (
        write(tmp_path / "near", columns(), columns()),
        write(tmp_path / "far", columns(), columns(y=np.arange(100, 140))),
    )
    assert scanned(near, Roles(target="y")).schema.task == "classification"
    assert scanned(far, Roles(target="y")).schema.task == "regression"
    no_statistics = write(tmp_path / "none", columns(), columns(y=np.arange(100, 140)), write_statistics=False)
    assert scanned(no_statistics, Roles(target="y")).schema.task == "classification"


def test_text_counts_by_what_the_file_stores(tmp_path: Path) -> None:
    short = scanned(write(tmp_path / "s", columns(1000, c=["ab"] * 1000)), Roles(target="y"), 1 << 30)
    long = scanned(
        write(tmp_path / "l", columns(1000, c=[f"{i:0200d}" for i in range(1000)])), Roles(target="y"), 1 << 30
    )
    assert short.n_bytes < long.n_bytes
    assert long.n_bytes > 200_000


@pytest.mark.skipif(not REAL_BAD.is_dir(), reason=f"no real bad files in {REAL_BAD}")
@pytest.mark.parametrize("name", sorted(os.listdir(REAL_BAD)) if REAL_BAD.is_dir() else [])
def test_real_bad_files_are_read_whole_or_named(name: str) -> None:
    try:
        scan = scanned(REAL_BAD / name)
        rows = sum(len(t) for t in tables(scan))
    except DataError as error:
        found: DataError | None = error
    else:
        found = None
        assert rows == scan.n_rows
    assert found is None or str(REAL_BAD / name) in str(found)
    assert found is not None or "corrupt" not in name  # a wrong page checksum must not pass


def test_a_folder_of_real_data(tmp_path: Path) -> None:
    for month in (1, 2):
        frame = pd.DataFrame({"month": [month] * 5, "late": [True, False] * 2 + [None]})
        frame.to_parquet(tmp_path / f"m{month}.parquet")
    scan = scanned(tmp_path, Roles(target="late"))
    assert (scan.n_files, scan.n_row_groups, scan.n_rows) == (2, 2, 10)
    assert scan.schema.task == "classification"
