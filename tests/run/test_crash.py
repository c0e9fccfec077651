"""Whoever dies wherever, however full the disk, whatever bit flips: the same root after resuming, or a named error."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from distributed import Client

from coretree import CoresetTree, ThreadExecutor
from coretree.errors import DamagedNodeError, SchedulerError, StoreError
from coretree.run.cluster import local_cluster
from coretree.run.on_dask import DaskExecutor
from coretree.tree.manifest import MANIFEST_KEY
from coretree.tree.store import node_key, stored_nodes
from days import day, opened, write_day

TESTS = Path(__file__).parents[1]
ONE = ThreadExecutor(1)
N_DAYS = 4
pytestmark = [
    pytest.mark.filterwarnings("ignore::coretree.errors.CoretreeWarning"),
    pytest.mark.timeout(240),  # never a hang
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("days")
    for i in range(N_DAYS):
        write_day(place, f"d{i}", day(i))
    return place


@pytest.fixture(scope="module")
def whole(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> CoresetTree:
    return CoresetTree(tmp_path_factory.mktemp("whole"), size=60, fan_in=2).build(opened(folder), client=ONE)


def victim(**job: Any) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS.parent / "src"), str(TESTS)])}
    command = [sys.executable, str(TESTS / "victim.py"), json.dumps({k: _plain(v) for k, v in job.items()})]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else value


def killed(**job: Any) -> None:
    done = victim(**job)
    assert done.returncode == -signal.SIGKILL, done.stderr


def assert_resumes(place: Path, folder: Path, whole: CoresetTree, *, made: int, passes: int = 2) -> None:
    """The same call makes at most what is missing, and ends with the same objects."""
    assert whole.summary_ is not None
    tree = CoresetTree(place, size=60, fan_in=2, passes=passes).build(opened(folder), client=ONE)
    assert tree.name_ == whole.name_
    assert tree.manifest_.nodes == whole.manifest_.nodes
    assert tree.verify()
    assert tree.summary_ is not None
    assert tree.summary_.n_made <= whole.summary_.n_made - made
    tree.gc()
    assert stored_nodes(tree.store) == stored_nodes(whole.store)
    assert not list(place.rglob(".part-*"))


# ---- the driver ------------------------------------------------------------------------------------------------------


def test_a_driver_killed_while_it_sketches(folder: Path, whole: CoresetTree, tmp_path: Path) -> None:
    killed(data=folder, tree=tmp_path, stage="sketch", after=3)
    n_surveys = len(CoresetTree(tmp_path).store.names("nodes/"))
    assert n_surveys >= 3 + 2 * N_DAYS
    # what was reported done is never done again, so at most what was in flight is
    assert_resumes(tmp_path, folder, whole, made=3 + 2 * N_DAYS)


@pytest.mark.slow
@pytest.mark.parametrize("passes", [1, 2, 3])
@pytest.mark.parametrize("write", range(1, 36, 6))
@pytest.mark.parametrize("done", [False, True])
def test_a_driver_killed_at_any_write(folder: Path, tmp_path: Path, passes: int, write: int, done: bool) -> None:
    """Nodes, recipes, the manifest, and the sweep of surveys after it."""
    reference = CoresetTree(tmp_path / "whole", size=60, fan_in=2, passes=passes).build(opened(folder), client=ONE)
    found = victim(data=folder, tree=tmp_path / "t", passes=passes, write=write, done=done, threads=1)
    assert found.returncode in (0, -signal.SIGKILL), found.stderr
    assert_resumes(tmp_path / "t", folder, reference, made=0, passes=passes)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("stage", "after"), [("profile", 1), ("profile", 8), ("sketch", 1), ("refine", 2), ("refine", 8)]
)
def test_a_driver_killed_at_each_stage(folder: Path, tmp_path: Path, stage: str, after: int) -> None:
    reference = CoresetTree(tmp_path / "whole", size=60, fan_in=2, passes=3).build(opened(folder), client=ONE)
    killed(data=folder, tree=tmp_path / "t", passes=3, stage=stage, after=after)
    assert_resumes(tmp_path / "t", folder, reference, made=after, passes=3)


@pytest.mark.slow
@pytest.mark.parametrize("write", range(1, 6))
def test_an_update_killed_at_any_write(folder: Path, whole: CoresetTree, tmp_path: Path, write: int) -> None:
    data = Path(shutil.copytree(folder, tmp_path / "data"))
    shutil.copytree(whole.path, tmp_path / "t")
    write_day(data, "d9", day(9))
    found = victim(data=data, tree=tmp_path / "t", write=write, what="update", threads=1)
    tree = CoresetTree.open(tmp_path / "t")
    assert tree.verify()
    if found.returncode:
        assert found.returncode == -signal.SIGKILL, found.stderr
        assert tree.name_ == whole.name_
    tree.update(opened(data), client=ONE)
    new = CoresetTree(tmp_path / "new").build(opened(data), client=ONE, like=tree)
    assert tree.manifest_.nodes == new.manifest_.nodes


# ---- workers and scheduler -------------------------------------------------------------------------------------------


@pytest.fixture
def processes() -> Iterator[DaskExecutor]:
    with local_cluster(workers=2) as executor:
        yield executor


def kill_at(stage: str, after: int, pids: list[int]) -> Any:
    """Progress that kills some processes once."""

    def progress(now: str, done: int, total: int) -> None:
        if (now, done) == (stage, after):
            for pid in pids:
                os.kill(pid, signal.SIGKILL)
            pids.clear()

    return progress


@pytest.mark.slow
@pytest.mark.parametrize("n_killed", [1, 2])
@pytest.mark.parametrize(
    ("stage", "after"), [("profile", 2), ("profile", 9), ("sketch", 2), ("sketch", 9), ("refine", 2)]
)
def test_workers_killed(
    folder: Path, tmp_path: Path, processes: DaskExecutor, n_killed: int, stage: str, after: int
) -> None:
    reference = CoresetTree(tmp_path / "whole", size=60, fan_in=2, passes=3).build(opened(folder), client=ONE)
    pids = list(processes.client.run(os.getpid).values())[:n_killed]
    tree = CoresetTree(tmp_path / "t", size=60, fan_in=2, passes=3)
    tree.build(opened(folder), client=processes, progress=kill_at(stage, after, list(pids)))
    assert not any(psutil.pid_exists(pid) and psutil.Process(pid).status() != "zombie" for pid in pids)
    assert tree.name_ == reference.name_
    assert tree.manifest_.nodes == reference.manifest_.nodes
    assert tree.verify()


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["profile", "sketch"])
def test_the_scheduler_killed(folder: Path, whole: CoresetTree, tmp_path: Path, stage: str) -> None:
    address_file = tmp_path / "scheduler.json"
    options = ["--host", "127.0.0.1", "--port", "0", "--dashboard-address", "127.0.0.1:0"]
    dask = [sys.executable, "-m", "distributed.cli.dask_scheduler", *options, "--scheduler-file", str(address_file)]
    environment = {**os.environ, "PYTHONPATH": str(TESTS.parent / "src")}
    scheduler = subprocess.Popen(dask, env=environment, stderr=subprocess.DEVNULL)
    work = [sys.executable, "-m", "distributed.cli.dask_worker", "--scheduler-file", str(address_file)]
    worker = subprocess.Popen(
        [*work, "--nthreads", "1", "--no-dashboard", "--local-directory", str(tmp_path)],
        env=environment,
        stderr=subprocess.DEVNULL,
    )
    try:
        with Client(scheduler_file=str(address_file), set_as_default=False, timeout=60) as client:
            client.wait_for_workers(1, timeout=60)
            tree = CoresetTree(tmp_path / "t", size=60, fan_in=2)
            with pytest.raises(SchedulerError, match="run the same command to resume"):
                tree.build(opened(folder), client=client, progress=kill_at(stage, 3, [scheduler.pid]))
    finally:
        for process in (worker, scheduler):
            for child in psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []:
                child.kill()
            process.kill()
            process.wait(timeout=30)
    assert_resumes(tmp_path / "t", folder, whole, made=3)


# ---- disk ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("at", [2, 9])
def test_a_full_disk(
    folder: Path, whole: CoresetTree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    """Every fourth fsync is that of a file; the file is written by then, and must not stay."""
    left, real = [at], os.fsync

    def full(descriptor: int) -> None:
        left[0] -= os.path.isfile(f"/proc/self/fd/{descriptor}")
        if not left[0]:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(descriptor)

    monkeypatch.setattr("coretree.tree.local_store.os.fsync", full)
    with pytest.raises(StoreError, match=r"cannot write [\d,]+ bytes: No space left on device"):
        CoresetTree(tmp_path, size=60, fan_in=2).build(opened(folder), client=ONE)
    monkeypatch.undo()
    assert not list(tmp_path.rglob(".part-*"))
    assert_resumes(tmp_path, folder, whole, made=at - 1)


@pytest.mark.slow
def test_files_that_may_not_grow(folder: Path, whole: CoresetTree, tmp_path: Path) -> None:
    done = victim(data=folder, tree=tmp_path, fsize=2_000)
    assert done.returncode == 1
    assert "StoreError" in done.stderr
    assert "File too large" in done.stderr
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and path.stat().st_size >= 2_000]
    assert_resumes(tmp_path, folder, whole, made=0)


# ---- bits ------------------------------------------------------------------------------------------------------------


def flip(path: Path, where: float) -> None:
    data = bytearray(path.read_bytes())
    data[int(where * (len(data) - 1))] ^= 16
    path.write_bytes(data)


@pytest.mark.parametrize(("stage", "after"), [pytest.param("profile", 9, marks=pytest.mark.slow), ("sketch", 9)])
def test_bits_flipped_before_resuming(folder: Path, whole: CoresetTree, tmp_path: Path, stage: str, after: int) -> None:
    """In every object that an interrupted build has left, its recipe among them."""

    def stop(now: str, done: int, total: int) -> None:
        if (now, done) == (stage, after):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        CoresetTree(tmp_path, size=60, fan_in=2).build(opened(folder), client=ONE, progress=stop)
    left = sorted(path for path in tmp_path.rglob("*.arrow"))
    assert len(left) >= after
    assert any("recipes" in str(path) for path in left) == (stage == "sketch")
    for i, path in enumerate(left):
        flip(path, (i + 0.5) / len(left))
    assert_resumes(tmp_path, folder, whole, made=0)


def test_a_bit_flipped_in_a_finished_tree(folder: Path, whole: CoresetTree, tmp_path: Path) -> None:
    """Reading it is a named error, verifying names it and nothing else, updating makes it again."""
    place = Path(shutil.copytree(whole.path, tmp_path / "t"))
    tree = CoresetTree.open(place)
    keys = [*map(node_key, sorted(tree.manifest_.nodes)), tree.recipe_.key]
    for i, key in enumerate(keys):
        flip(place / key, (i + 0.5) / len(keys))
        found = CoresetTree.open(place).verify()
        assert not found
        assert len(found.problems) == 1
        assert key in found.problems[0]
        if key in (node_key(tree.manifest_.root), tree.recipe_.key):
            with pytest.raises(DamagedNodeError, match=key):
                CoresetTree.open(place).coreset()
        shutil.copy2(Path(whole.path) / key, place / key)
    flip(place / MANIFEST_KEY, 0.5)
    with pytest.raises(DamagedNodeError, match="the manifest is damaged"):
        CoresetTree.open(place)


@pytest.mark.parametrize("stage", [pytest.param("profile", marks=pytest.mark.slow), "sketch"])
def test_one_leaf_below_a_merge_that_is_stored(folder: Path, whole: CoresetTree, tmp_path: Path, stage: str) -> None:
    """Nothing would be merged from it any more, but the tree shall have it."""

    def stop(now: str, done: int, total: int) -> None:
        if (now, done) == (stage, total):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        CoresetTree(tmp_path, size=60, fan_in=2).build(opened(folder), client=ONE, progress=stop)
    for name in whole.manifest_.leaves if stage == "sketch" else ():
        flip(tmp_path / node_key(name.name), 0.4)
        break
    assert_resumes(tmp_path, folder, whole, made=0)


def test_damaged_nodes_are_made_again_by_an_update(folder: Path, whole: CoresetTree, tmp_path: Path) -> None:
    data = Path(shutil.copytree(folder, tmp_path / "data"))
    place = Path(shutil.copytree(whole.path, tmp_path / "t"))
    tree = CoresetTree.open(place)
    leaf = tree.manifest_.leaves[-1]
    flip(place / node_key(leaf.name), 0.3)
    write_day(data, "d9", day(9))
    tree.update(opened(data), client=ONE)  # needs the damaged leaf for a merge
    assert tree.verify()
    new = CoresetTree(tmp_path / "new").build(opened(data), client=ONE, like=tree)
    assert tree.manifest_.nodes == new.manifest_.nodes
    # what no merge needs is made again once it is deleted, as the errors say
    (place / node_key(tree.manifest_.leaves[0].name)).unlink()
    (place / node_key(tree.name_)).unlink()
    assert len(tree.verify().problems) == 2
    change = tree.update(opened(data), client=ONE)
    assert (change.n_made, change.n_merged, change.kept) == (2, 1, len(tree.manifest_.leaves))
    assert tree.verify()
    assert tree.manifest_.nodes == new.manifest_.nodes
