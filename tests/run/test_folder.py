"""A run's folder: what may be continued, what is refused, and what an error leaves behind."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from coretree.errors import ConfigError, NoWorkersError, OutputExistsError, StoreError, TargetError
from coretree.run.folder import FIXED, RunFolder, write_json

JOB: dict[str, Any] = {"data": {"target": "late"}, "models": {"cv": 3}}


def start(path: Path, error: BaseException | None = None) -> RunFolder:
    folder = RunFolder(path)
    with folder.started(JOB, "1"):
        folder.tree.mkdir(exist_ok=True)
        (folder.tree / "node").write_text("work done")
        if error is not None:
            raise error
    return folder


def test_new_and_empty_folders_are_taken(tmp_path: Path) -> None:
    assert not RunFolder(tmp_path / "new").check(JOB)
    assert not RunFolder(tmp_path).check(JOB)
    assert start(tmp_path).read()["job"] == JOB


@pytest.mark.parametrize("error", [KeyboardInterrupt(), NoWorkersError("gone"), SystemExit(1)])
def test_what_an_interruption_leaves_is_continued(tmp_path: Path, error: BaseException) -> None:
    path = tmp_path / "deep" / "run"
    with pytest.raises(type(error)):
        start(path, error)
    assert (path / "tree" / "node").exists()
    assert RunFolder(path).check({**JOB, "models": {"cv": 5}}), "models may change: the tree does not depend on them"


@pytest.mark.parametrize("existed", [True, False])
def test_what_an_error_leaves_is_removed(tmp_path: Path, existed: bool) -> None:
    path = tmp_path / "run"
    if existed:
        path.mkdir()
    with pytest.raises(TargetError):
        start(path, TargetError("one class"))
    assert path.exists() == existed
    assert list(tmp_path.rglob("*")) == ([path] if existed else [])


def test_an_error_in_a_continued_run_keeps_its_work(tmp_path: Path) -> None:
    path = tmp_path / "run"
    start(path)
    with pytest.raises(TargetError):
        start(path, TargetError("later"))
    assert (path / "tree" / "node").exists()


def test_finished_foreign_and_other_runs_are_refused(tmp_path: Path) -> None:
    folder = start(tmp_path / "run")
    for name in FIXED:
        with pytest.raises(OutputExistsError, match=rf"\[{name}\] differ"):
            folder.check({**JOB, name: {"other": 1}})
    with pytest.raises(ConfigError, match="no model yet"):
        folder.finished()
    write_json(folder.result, {"model": "logistic"})
    assert folder.finished()["result"] == {"model": "logistic"}
    with pytest.raises(OutputExistsError, match="a finished run"):
        folder.check(JOB)
    assert folder.check(JOB, again=True)
    (tmp_path / "notes.txt").write_text("mine")
    for path in (tmp_path, tmp_path / "notes.txt"):
        with pytest.raises(OutputExistsError, match="no run of coretree"):
            RunFolder(path).check(JOB)


def test_a_damaged_or_foreign_marker_is_named(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    with pytest.raises(StoreError, match=r"no run of coretree is here"):
        folder.read()
    folder.job.write_text("{")
    with pytest.raises(StoreError, match="not JSON"):
        folder.read()
    folder.job.write_text(json.dumps({"format": "other"}))
    with pytest.raises(StoreError, match="not a run"):
        folder.read()


def test_json_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    write_json(path, {"a": 1})
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(path, {"a": float("nan")})
    assert json.loads(path.read_text()) == {"a": 1}
    with pytest.raises(StoreError, match="cannot be written"):
        write_json(tmp_path / "none" / "x.json", {})
    assert [p.name for p in tmp_path.iterdir()] == ["x.json"]
