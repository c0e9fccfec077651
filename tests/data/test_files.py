"""Which files a path means: folders, globs, lists, single files; hidden names are skipped and listed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from coretree.data.files import find_files
from coretree.errors import ConfigError, EmptyDataError, FileError


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")
    return root


def names(where: object, **options: bool) -> list[str]:
    return [ref.path for ref in find_files(where, **options)[0]]  # type: ignore[arg-type]


def test_a_folder_is_searched_at_any_depth_and_sorted(tmp_path: Path) -> None:
    touch(tmp_path, "b.parquet", "a/z.parquet", "a/deep/er.parq", "notes.txt", "a.csv")
    assert names(tmp_path) == ["a/deep/er.parq", "a/z.parquet", "b.parquet"]
    assert names(str(tmp_path)) == names(tmp_path) == names(f"file://{tmp_path}")


def test_hidden_names_are_skipped_and_listed_but_not_hive_folders(tmp_path: Path) -> None:
    touch(tmp_path, "_tmp.parquet", ".x.parquet", "_temporary/0/a.parquet", "_y=1/b.parquet", "c.parquet")
    files, skipped = find_files(tmp_path)
    assert [f.path for f in files] == ["_y=1/b.parquet", "c.parquet"]
    assert skipped == [".x.parquet", "_temporary/0/a.parquet", "_tmp.parquet"]
    assert find_files(str(tmp_path / "*.parquet"))[1] == ["_tmp.parquet"]


def test_one_file_a_glob_and_a_list(tmp_path: Path) -> None:
    touch(tmp_path, "m/a.parquet", "m/b.parquet", "n/c.parquet", "n/[odd].parquet")
    assert names(tmp_path / "m/a.parquet") == ["a.parquet"]
    assert names(str(tmp_path / "m/*.parquet")) == ["a.parquet", "b.parquet"]
    assert names(str(tmp_path / "*/[ac].parquet")) == ["m/a.parquet", "n/c.parquet"]
    assert names([tmp_path / "n/c.parquet", str(tmp_path / "m")]) == ["m/a.parquet", "m/b.parquet", "n/c.parquet"]
    assert names([tmp_path / "m", tmp_path / "m/a.parquet"]) == ["a.parquet", "b.parquet"]  # each once
    assert names(tmp_path / "n/[odd].parquet") == ["[odd].parquet"]


def test_relative_paths_and_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "m/a.parquet")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert names("m") == names("m/*.parquet") == names("~/m") == ["a.parquet"]
    assert os.path.isabs(find_files("m")[0][0].full)


def test_hive_folders_give_values(tmp_path: Path) -> None:
    touch(tmp_path, "year=2013/name=a%20b/x.parquet")
    assert find_files(tmp_path)[0][0].partition == (("year", "2013"), ("name", "a b"))
    assert find_files(tmp_path, hive=False)[0][0].partition == ()


def test_nothing_found_is_said_in_plain_words(tmp_path: Path) -> None:
    touch(tmp_path, "only/_hidden.parquet")
    with pytest.raises(EmptyDataError, match=r"no Parquet file found \(1 names that begin"):
        find_files(tmp_path / "only")
    with pytest.raises(EmptyDataError, match=r"nowhere: no such file or folder.*relative paths start at"):
        find_files(tmp_path / "nowhere")
    with pytest.raises(EmptyDataError, match=r"quote a pattern"):
        find_files(str(tmp_path / "*.parquet"))
    with pytest.raises(EmptyDataError, match="list of input paths is empty"):
        find_files([])


def test_what_is_not_a_folder_of_files_is_refused(tmp_path: Path) -> None:
    touch(tmp_path, "_delta_log/0.json", "a.parquet")
    with pytest.raises(FileError, match=r"Delta table.*file_uris"):
        find_files(tmp_path)
    with pytest.raises(ConfigError, match=r"s3://bucket/x: only local paths.*Dataset.from_dask"):
        find_files("s3://bucket/x")
