"""Footers: what is wrong with a file is said by name, and a fingerprint follows the content, not the place."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from coretree.data.files import find_files
from coretree.data.footers import folder_value, read_footers
from coretree.errors import FileError
from sample_data import write

GOOD = {"a": np.arange(50.0), "y": np.arange(50) % 2}


def damage(path: Path, how: str) -> None:
    whole = path.read_bytes()
    new = {
        "empty": b"",
        "half": whole[: len(whole) // 2],
        "html": b"<html>404</html>" * 50,
        "text": b"a,y\n1,0\n" * 50,
        "garbled footer": whole[:-200] + b"\xff" * 192 + whole[-8:],
    }[how]
    path.write_bytes(new)


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("empty", "the file has 0 bytes"),
        ("half", "the file is truncated: [0-9,]+ bytes and no Parquet footer"),
        ("html", r"not a Parquet file \(it looks like an HTML page\)"),
        ("text", "not a Parquet file: it begins with b'a,y"),
        ("garbled footer", "the footer cannot be read"),
    ],
)
def test_a_bad_file_is_named_and_described(tmp_path: Path, how: str, said: str) -> None:
    write(tmp_path, GOOD, GOOD)
    damage(tmp_path / "part.1.parquet", how)
    refs, _ = find_files(tmp_path)
    with pytest.raises(FileError, match=said) as error:
        read_footers(refs)
    assert str(tmp_path / "part.1.parquet") in str(error.value)
    assert 'bad_files = "skip"' in str(error.value)
    good, bad = read_footers(refs, "skip")
    assert [g.ref.path for g in good] == ["part.0.parquet"]
    assert [path for path, _ in bad] == ["part.1.parquet"]


def fingerprints(folder: Path) -> list[str]:
    return [f.fingerprint for f in read_footers(find_files(folder)[0])[0]]


def test_a_fingerprint_follows_the_content_and_not_the_place(tmp_path: Path) -> None:
    here = write(tmp_path / "here", GOOD, GOOD)
    before = fingerprints(here)
    shutil.copytree(here, tmp_path / "there", copy_function=shutil.copy2)
    assert fingerprints(tmp_path / "there") == before
    write(here, {**GOOD, "a": np.arange(50.0) + 1})  # same size, same layout
    os.utime(here / "part.0.parquet", ns=(1, 1))
    after = fingerprints(here)
    assert after[0] != before[0]
    assert after[1] == before[1]


@pytest.mark.parametrize(
    ("text", "value"),
    [("7", 7), ("-7", -7), ("0", 0), ("07", "07"), ("7.5", "7.5"), ("²", "²"), ("", ""), ("9" * 30, "9" * 30)],
)
def test_folder_values_are_numbers_only_where_they_are_written_so(text: str, value: object) -> None:
    assert folder_value(text) == value
    assert pa.scalar(folder_value(text)).as_py() == value
