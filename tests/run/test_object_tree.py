"""Trees in a bucket: the same bits as in a folder, through races and dead servers."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from coretree import CoresetTree, ThreadExecutor, open_store
from coretree.data.dataset import Dataset
from coretree.errors import StoreError, WriteConflictError
from generated import opened, sales, same, write_files
from s3_server import S3Server, s3_server

BUILDS = """
import sys
from pathlib import Path
from coretree import CoresetTree, ThreadExecutor
from generated import opened
train, _ = opened(Path(sys.argv[1])).split(test=0.2)
tree = CoresetTree(sys.argv[2], size=400, fan_in=2).build(train, client=ThreadExecutor(2))
print(tree.name_, tree.summary_.n_made)
"""


@pytest.fixture(scope="module")
def server() -> Iterator[S3Server]:
    with s3_server() as found:
        yield found


@pytest.fixture(autouse=True)
def _environment(server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_files(tmp_path_factory.mktemp("data"), sales(3000), files=3)


@pytest.fixture(scope="module")
def train(folder: Path) -> Dataset:
    return opened(folder).split(test=0.2)[0]


@pytest.fixture(scope="module")
def here(train: Dataset, tmp_path_factory: pytest.TempPathFactory) -> CoresetTree:
    place = tmp_path_factory.mktemp("here") / "tree"
    return CoresetTree(place, size=400, fan_in=2).build(train, client=ThreadExecutor(2))


def test_a_tree_in_a_bucket_is_the_one_in_a_folder(server: S3Server, train: Dataset, here: CoresetTree) -> None:
    url = server.bucket()
    with pytest.raises(StoreError, match=rf"{url}: no tree here yet"):
        CoresetTree.open(url)
    tree = CoresetTree(url, size=400, fan_in=2).build(train, client=ThreadExecutor(2))
    assert tree.path == url
    assert tree.name_ == here.name_
    assert tree.store.names() == here.store.names()
    for again in (CoresetTree.open(url), CoresetTree.open(open_store(url, patience_s=5))):
        assert same(again.coreset(300), here.coreset(300))
    CoresetTree(url, size=400, fan_in=2).build(train, client=ThreadExecutor(2))
    assert tree.summary_ is not None
    assert sum(key.startswith("nodes/") for key in tree.store.names()) == tree.summary_.n_nodes


def test_a_tree_in_a_bucket_changes_like_one_in_a_folder(server: S3Server, tmp_path: Path) -> None:
    folder = write_files(tmp_path / "data", sales(2000), files=4)
    url, more = server.bucket(), opened(folder)
    later = (folder / "part-3.parquet").rename(tmp_path / "later.parquet")
    trees = [
        CoresetTree(place, size=300).build(opened(folder), client=ThreadExecutor(2)) for place in (tmp_path / "t", url)
    ]
    later.rename(folder / "part-3.parquet")
    for tree in trees:
        before = tree.name_
        tree.update(more, client=ThreadExecutor(2))
        assert tree.name_ != before
    assert trees[0].name_ == trees[1].name_ == CoresetTree.open(url).name_
    assert trees[0].store.names() == trees[1].store.names()


def test_of_two_builders_one_publishes(server: S3Server, train: Dataset, here: CoresetTree) -> None:
    url, together = server.bucket(), threading.Barrier(2)
    outcomes: list[object] = []

    def meet(stage: str, done: int, total: int) -> None:
        if (stage, done) == ("sketch", 0):
            together.wait(timeout=60)

    def build() -> None:
        try:
            outcomes.append(CoresetTree(url, size=400, fan_in=2).build(train, client=ThreadExecutor(1), progress=meet))
        except Exception as error:
            outcomes.append(error)

    builders = [threading.Thread(target=build) for _ in range(2)]
    for builder in builders:
        builder.start()
    for builder in builders:
        builder.join(timeout=120)
    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["CoresetTree", "WriteConflictError"]
    assert any("Run the same command again" in str(o) for o in outcomes if isinstance(o, WriteConflictError))
    assert CoresetTree.open(url).name_ == here.name_


def test_a_server_that_dies_in_the_middle_ends_the_build(train: Dataset) -> None:
    with s3_server() as doomed:
        store = open_store(doomed.bucket(), patience_s=1, request_s=1, **doomed.options)
        died: list[float] = []

        def kill(stage: str, done: int, total: int) -> None:
            if (stage, done) == ("sketch", 2):
                doomed.process.kill()
                died.append(time.monotonic())

        with pytest.raises(StoreError, match=r"cannot (write [\d,]+ bytes|read|list).*Connection refused"):
            CoresetTree(store, size=400, fan_in=2).build(train, client=ThreadExecutor(2), progress=kill)
        assert time.monotonic() - died[0] < 15


@pytest.mark.slow
@pytest.mark.parametrize("nth", ["1", "3", "5", "7", "9", "manifest"])
def test_a_build_killed_while_it_writes_ends_at_the_same_root(
    server: S3Server, folder: Path, here: CoresetTree, nth: str
) -> None:
    """The server holds the n-th write until its writer is dead; nodes of both passes, the recipe, the manifest."""
    url = server.bucket(f"held-{nth}")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", BUILDS, str(folder), url]
    victim = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    assert server.process.stdout is not None
    assert select.select([server.process.stdout], [], [], 60)[0], "there were fewer writes"
    assert server.process.stdout.readline().startswith("held /held-")
    victim.send_signal(signal.SIGKILL)
    assert victim.communicate(timeout=60)[0] == ""
    stored = sum(key.startswith("nodes/") for key in open_store(url).names())
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=True)
    root, made = done.stdout.split()
    assert root == here.name_
    assert same(CoresetTree.open(url).coreset(300), here.coreset(300))
    assert here.summary_ is not None
    assert stored + int(made) <= here.summary_.n_made + 2  # at most the nodes in flight are made twice
