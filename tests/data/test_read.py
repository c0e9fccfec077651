"""Reading a leaf: the planned rows or a named error, in slices where a row group is large."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from coretree.data import read as module
from coretree.data.frames import frame_schema
from coretree.data.read import frame_chunks, read_leaf
from coretree.data.schema import Roles
from coretree.errors import DataChangedError, FileError, SchemaError
from sample_data import scanned, tables, write


def sample(n: int = 3000) -> dict[str, object]:
    rng = np.random.default_rng(0)
    return {"a": rng.random(n), "c": rng.choice(["u", "v", None], n), "y": rng.integers(0, 2, n)}


def test_a_huge_row_group_read_in_slices_gives_the_same_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scan = scanned(write(tmp_path, sample(), sample(10), row_group_size=2000), Roles(target="y"), 1 << 30)
    whole = [chunk for leaf in scan.leaves for chunk in read_leaf(leaf, scan.schema)]
    monkeypatch.setattr(module, "WHOLE_GROUP_BYTES", 1000)
    monkeypatch.setattr(module, "SLICE_ROWS", 300)
    sliced = [chunk for leaf in scan.leaves for chunk in read_leaf(leaf, scan.schema)]
    assert len(whole) == 3
    assert max(len(c.table) for c in sliced) <= 300
    for column in scan.schema.columns:
        one, many = ([v for c in chunks for v in c.table[column].to_pylist()] for chunks in (whole, sliced))
        assert one == many

    def places(chunks: list[module.Chunk]) -> list[tuple[str, int, int]]:
        return [(c.path, c.row_group, c.offset + i) for c in chunks for i in range(len(c.table))]

    assert places(whole) == places(sliced)
    assert len(set(places(whole))) == 3010


def test_text_is_read_as_a_dictionary_and_only_the_wanted_columns(tmp_path: Path) -> None:
    scan = scanned(write(tmp_path, {**sample(), "z": np.zeros(3000)}), Roles(target="y", drop=("z",)))
    (table,) = tables(scan)
    assert table.column_names == ["a", "c", "y"]
    assert pa.types.is_dictionary(table["c"].type)


def test_a_file_that_was_rewritten_or_deleted_is_noticed(tmp_path: Path) -> None:
    scan = scanned(write(tmp_path, sample()), Roles(target="y"))
    file = tmp_path / "part.0.parquet"
    write(tmp_path, sample(2999))
    with pytest.raises(DataChangedError, match=r"part.0.parquet: the file was rewritten.*Run the same command again"):
        tables(scan)
    file.unlink()
    with pytest.raises(DataChangedError, match=r"part.0.parquet: the file was deleted.*Run the same command again"):
        tables(scan)


def flip(file: Path) -> None:
    """Flip one bit in the middle of a data page, and keep the modification time."""
    stat = file.stat()
    column = pq.ParquetFile(file).metadata.row_group(0).column(0)
    content = bytearray(file.read_bytes())
    content[column.data_page_offset + column.total_compressed_size // 2] ^= 0x40
    file.write_bytes(content)
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def test_a_flipped_bit_is_named_where_the_file_has_checksums(tmp_path: Path) -> None:
    options = {"compression": "none", "use_dictionary": False}
    checked, plain = tmp_path / "checked", tmp_path / "plain"
    scans = [
        scanned(write(checked, sample(), write_page_checksum=True, **options), Roles(target="y")),
        scanned(write(plain, sample(), **options), Roles(target="y")),
    ]
    clean = tables(scans[1])[0]
    for folder in (checked, plain):
        flip(folder / "part.0.parquet")
    with pytest.raises(FileError, match=r"checked/part.0.parquet: row group 0 cannot be read .*restore it"):
        tables(scans[0])
    # the control: without a checksum the same damage goes unseen
    assert tables(scans[1])[0]["a"].to_pylist() != clean["a"].to_pylist()


def test_frames_come_in_slices_with_their_positions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SLICE_ROWS", 4)
    frame = pd.DataFrame({"a": np.arange(10.0), "unused": 0})
    schema = scanned_schema(frame[["a"]])
    chunks = list(frame_chunks(frame, schema, path="rows", offset=100))
    assert [(c.offset, len(c.table)) for c in chunks] == [(100, 4), (104, 4), (108, 2)]
    assert [v for c in chunks for v in c.table["a"].to_pylist()] == frame["a"].tolist()
    assert chunks[0].table.column_names == ["a"]


def scanned_schema(frame: pd.DataFrame) -> module.Schema:
    return frame_schema(frame, Roles(), "frame")[0]


def test_frames_that_do_not_fit_are_named() -> None:
    schema = scanned_schema(pd.DataFrame({"a": [1.0], "b": [1.0]}))
    with pytest.raises(SchemaError, match="partition-7: column 'b' is missing"):
        list(frame_chunks(pd.DataFrame({"a": [1.0]}), schema, path="partition-7"))
    with pytest.raises(SchemaError, match="column 'a' occurs more than once"):
        list(frame_chunks(pd.DataFrame([[1, 2, 3]], columns=["a", "a", "b"]), schema, path="p"))
    mixed = pd.DataFrame({"a": pd.Series([1, "x"], dtype=object), "b": 1.0})
    with pytest.raises(SchemaError, match=r"p: a column mixes types.*column a.*Cast it first"):
        list(frame_chunks(mixed, schema, path="p"))
