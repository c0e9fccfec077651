from __future__ import annotations

import errno
import fcntl
import multiprocessing
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from contracts import KEY, StoreContract, count_up
from coretree.errors import MissingObjectError, StoreError
from coretree.tree.local_store import LocalStore, together
from coretree.tree.store import SharedStore

DIES_BEFORE_RENAMING = """
import os, signal, sys
from coretree.tree.local_store import LocalStore
os.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
LocalStore(sys.argv[1]).put("nodes/ab/abcdef.arrow", b"x" * 1000)
"""


def files(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def fail_with(error: BaseException) -> Callable[..., None]:
    def fail(*_: object) -> None:
        raise error

    return fail


class TestLocalStore(StoreContract):
    @pytest.fixture
    def store(self, tmp_path: Path) -> LocalStore:
        return LocalStore(tmp_path / "deep" / "my.tree")

    def test_nothing_is_made_before_the_first_write(self, store: LocalStore, tmp_path: Path) -> None:
        assert store.names() == store.sweep() == []
        store.delete(KEY)
        assert list(tmp_path.iterdir()) == []

    def test_an_object_is_a_plain_file(self, store: LocalStore) -> None:
        store.put(KEY, b"bytes")
        assert files(store.folder) == [KEY]
        assert (store.folder / KEY).read_bytes() == b"bytes"

    def test_an_object_is_readable_as_the_umask_says(self, store: LocalStore) -> None:
        store.put(KEY, b"")
        mask = os.umask(0)
        os.umask(mask)
        assert (store.folder / KEY).stat().st_mode & 0o777 == 0o666 & ~mask

    def test_it_pickles_as_its_absolute_path(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        sent = pickle.dumps(LocalStore("my.tree"))
        monkeypatch.chdir("/")
        assert pickle.loads(sent) == LocalStore(tmp_path / "my.tree") != LocalStore("my.tree")
        assert len({pickle.loads(sent), LocalStore(tmp_path / "my.tree")}) == 1

    @pytest.mark.parametrize("step", ["fsync", "replace"])
    @pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
    def test_an_interrupted_write_leaves_nothing(
        self, store: LocalStore, monkeypatch: pytest.MonkeyPatch, step: str, error: BaseException
    ) -> None:
        version = store.replace("manifest.json", b"1", expected=None)
        (store.folder / "nodes" / "ab").mkdir(parents=True)  # so that fsync fails on the file, not on the new folders
        before = files(store.folder)
        monkeypatch.setattr(os, step, fail_with(error))
        for write in (
            lambda: store.put(KEY, b"x" * 1234),
            lambda: store.replace("manifest.json", b"2", expected=version),
        ):
            with pytest.raises(StoreError if isinstance(error, OSError) else KeyboardInterrupt):
                write()
        assert files(store.folder) == before
        monkeypatch.undo()
        assert store.get("manifest.json") == b"1"
        store.put(KEY, b"again")
        assert store.get(KEY) == b"again"

    def test_a_full_disk_is_named_with_path_and_bytes(self, store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(os, "fsync", fail_with(OSError(errno.ENOSPC, "No space left on device")))
        with pytest.raises(StoreError, match=r"abcdef\.arrow: cannot write 1,234 bytes: No space left.*Make room"):
            store.put(KEY, b"x" * 1234)

    def test_a_folder_that_cannot_be_is_named(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_bytes(b"")
        with pytest.raises(StoreError, match="file/nodes"):
            LocalStore(tmp_path / "file").put(KEY, b"")
        (tmp_path / "tree" / KEY).mkdir(parents=True)
        with pytest.raises(StoreError, match="cannot read"):
            LocalStore(tmp_path / "tree").get(KEY)
        with pytest.raises(StoreError, match="cannot delete"):
            LocalStore(tmp_path / "tree").delete(KEY)

    def test_what_a_killed_writer_left_is_hidden_and_swept(self, store: LocalStore) -> None:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        command = [sys.executable, "-c", DIES_BEFORE_RENAMING, str(store.folder)]
        died = subprocess.run(command, env=environment, timeout=60, check=False)
        assert died.returncode == -9
        assert len(files(store.folder)) == 1
        assert store.names() == []
        assert len(store.sweep()) == 1
        assert files(store.folder) == store.sweep() == []

    def test_a_sweep_spares_living_writers(self, store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
        fsync, swept = os.fsync, []

        def sweep_meanwhile(descriptor: int) -> None:
            swept.extend(store.sweep())
            fsync(descriptor)

        monkeypatch.setattr(os, "fsync", sweep_meanwhile)
        store.put(KEY, b"bytes")
        assert swept == []
        assert files(store.folder) == [KEY]

    def test_a_sweep_before_the_writer_has_its_lock_does_no_harm(
        self, store: LocalStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        flock, swept = fcntl.flock, []

        def sweep_first(file: int, operation: int) -> None:
            monkeypatch.setattr(fcntl, "flock", flock)
            swept.extend(store.sweep())
            flock(file, operation)

        store.put("other", b"")
        monkeypatch.setattr(fcntl, "flock", sweep_first)
        store.put(KEY, b"bytes")
        assert len(swept) == 1
        assert store.get(KEY) == b"bytes"
        assert files(store.folder) == [KEY, "other"]

    def test_two_processes_lose_no_update(self, store: LocalStore) -> None:
        spawn = multiprocessing.get_context("spawn")
        writers = [spawn.Process(target=count_up, args=(store, "n", 40), daemon=True) for _ in range(2)]
        for writer in writers:
            writer.start()
        count_up(store, "n", 40)
        for writer in writers:
            writer.join(timeout=60)
        assert [writer.exitcode for writer in writers] == [0, 0]
        assert store.get("n") == b"120"


def test_it_is_made_ready_before_work_and_seen_by_others(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "deep" / "my.tree")
    assert isinstance(store, SharedStore)
    with pytest.raises(StoreError, match="no such folder"):
        store.reach()
    store.check()
    store.reach()
    assert store.names() == []
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StoreError, match=r"file/tree: cannot make: Not a directory"):
        LocalStore(tmp_path / "file" / "tree").check()


FILLS_THE_DISK = """
import os, resource, sys
from coretree.errors import StoreError
from coretree.tree.local_store import LocalStore

folder, limit = sys.argv[1], int(sys.argv[2])
large = 3 * limit or 300_000
if limit:  # no file may grow beyond it: a write stops in the middle, as on a full disk
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
store = LocalStore(folder)
store.put("nodes/ab/small.arrow", b"s" * 1000)
version = store.replace("manifest.json", b"1", expected=None)
before = sorted(os.path.join(*at) for at in ((a, f) for a, _, files in os.walk(folder) for f in files))
for write in (
    lambda: store.put("nodes/ab/large.arrow", b"x" * large),
    lambda: store.replace("manifest.json", b"2" * large, expected=version),
):
    try:
        write()
    except StoreError as error:
        print(error)
    else:
        raise SystemExit("it fitted")
    assert before == sorted(os.path.join(*at) for at in ((a, f) for a, _, files in os.walk(folder) for f in files))
assert store.get("manifest.json") == b"1"
assert store.get("nodes/ab/small.arrow") == b"s" * 1000
store.put("nodes/ab/later.arrow", b"y" * 1000)
"""


def fill(folder: Path, *, before: str = "true", limit: int = 0) -> str:
    """Run the script, after a shell command in the same mount namespace; return what it says."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    shell = f'{before} && exec "$0" -c "$1" "$2" {limit}'
    command = ["sh", "-c", shell, sys.executable, FILLS_THE_DISK, str(folder)]
    if before != "true":
        command = ["unshare", "--mount", "--map-root-user", *command]  # the mount ends with the process
    done = subprocess.run(command, env=environment, timeout=60, check=False, capture_output=True, text=True)
    if done.returncode and before != "true" and "StoreError" not in done.stderr and "assert" not in done.stderr.lower():
        pytest.skip(f"no file system can be mounted here: {done.stderr.strip()[-200:]}")
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("limit", [100_000, 1_200])  # the smaller object fits a buffer, which is flushed once more
def test_a_file_that_cannot_grow_leaves_the_store_as_it_was(tmp_path: Path, limit: int) -> None:
    said = fill(tmp_path / "tree", limit=limit).splitlines()
    assert f"large.arrow: cannot write {3 * limit:,} bytes: File too large. No part of it is left there." in said[0]
    assert f"manifest.json: cannot write {3 * limit:,} bytes: File too large." in said[1]


def test_a_disk_that_is_full_leaves_the_store_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    said = fill(tmp_path / "disk", before=f"mount -t tmpfs -o size=128k tmpfs {tmp_path}/disk").splitlines()
    assert "large.arrow: cannot write 300,000 bytes: No space left on device. No part of it is left there." in said[0]
    assert "manifest.json: cannot write 300,000 bytes: No space left on device." in said[1]
    assert list((tmp_path / "disk").iterdir()) == []  # it was another file system, seen by nobody else


OTHER = "nodes/cd/cdefgh.arrow"


def put_together(store: LocalStore, then: Callable[[], None]) -> None:
    with together():
        store.put(KEY, b"one")
        then()


def test_objects_put_together_are_there_at_the_end(tmp_path: Path) -> None:
    store, again = LocalStore(tmp_path / "tree"), LocalStore(tmp_path / "tree")
    with together():
        store.put(KEY, b"one")
        store.put(KEY, b"one")
        again.put(OTHER, b"two")
        assert (store.get(KEY), store.get(OTHER)) == (b"one", b"two")
        assert store.names() == []
        with ThreadPoolExecutor(1) as pool, pytest.raises(MissingObjectError):
            pool.submit(store.get, KEY).result()
    assert files(store.folder) == store.names() == [KEY, OTHER]
    store.put("later", b"")
    assert store.names() == ["later", KEY, OTHER]


def test_files_are_durable_before_any_of_them_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, steps = LocalStore(tmp_path), []
    fsync, replace = os.fsync, os.replace

    def note_sync(descriptor: int) -> None:
        steps.append(os.path.basename(os.readlink(f"/proc/self/fd/{descriptor}"))[:6])
        fsync(descriptor)

    def note_name(source: Path, target: Path) -> None:
        steps.append(target.name)
        replace(source, target)

    monkeypatch.setattr(os, "fsync", note_sync)
    monkeypatch.setattr(os, "replace", note_name)
    (tmp_path / "nodes" / "ab").mkdir(parents=True)
    (tmp_path / "nodes" / "cd").mkdir()
    with together():
        store.put(KEY, b"one")
        store.put(OTHER, b"two")
    assert steps == [".part-", ".part-", "abcdef.arrow", "cdefgh.arrow", "ab", "cd"]


def test_what_an_error_interrupts_is_kept_as_far_as_it_went(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    with pytest.raises(ZeroDivisionError):
        put_together(store, fail_with(ZeroDivisionError()))
    assert store.get(KEY) == b"one"
    assert files(store.folder) == [KEY]


def test_a_manifest_and_blocks_inside_wait_for_what_is_held_back(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    with together():
        store.put(KEY, b"one")
        store.replace("manifest.json", b"names it", expected=None)
        assert store.names("nodes/") == [KEY]
        store.put(OTHER, b"two")
        with together():
            assert store.names("nodes/") == [KEY, OTHER]
            store.delete(OTHER)
            store.put("third", b"")
        assert store.names() == ["manifest.json", KEY, "third"]
    assert store.names() == ["manifest.json", KEY, "third"]


def test_objects_deleted_together_are_gone_at_once_and_durably_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, synced, real = LocalStore(tmp_path), [], os.fsync
    for name in ("a", "b", "c"):
        store.put(f"nodes/ab/{name}", b"old")
    monkeypatch.setattr(os, "fsync", lambda fd: (synced.append(os.readlink(f"/proc/self/fd/{fd}")), real(fd)))
    with together():
        for name in ("a", "b", "c"):
            store.delete(f"nodes/ab/{name}")
        store.delete("nowhere/x")
        assert store.names() == synced == []
        store.put("nodes/ab/a", b"new")
        store.put("nodes/ab/d", b"never")
        store.delete("nodes/ab/d")
        with pytest.raises(MissingObjectError):
            store.get("nodes/ab/d")
    assert [Path(path).name[:6] for path in synced] == [".part-", "ab"]
    assert store.names() == ["nodes/ab/a"]
    assert store.get("nodes/ab/a") == b"new"


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_objects_that_cannot_be_written_together_leave_nothing_half(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    store, left, real = LocalStore(tmp_path), [2], getattr(os, step)
    (tmp_path / "nodes" / "ab").mkdir(parents=True)
    (tmp_path / "nodes" / "cd").mkdir()

    def full(*args: object) -> None:
        left[0] -= 1
        if not left[0]:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(*args)

    monkeypatch.setattr(os, step, full)
    with pytest.raises(StoreError, match=r"cdefgh\.arrow: cannot write 3 bytes: No space left"):
        put_together(store, partial(store.put, OTHER, b"two"))
    monkeypatch.undo()
    assert files(store.folder) == [KEY]  # whole and durable by then
    store.put(OTHER, b"two")
    assert files(store.folder) == [KEY, OTHER]  # nothing is held back any more


def test_no_more_than_so_much_is_held_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("coretree.tree.local_store.MOST_HELD", 5)
    store = LocalStore(tmp_path)
    with together():
        store.put(KEY, b"one")
        assert not (tmp_path / KEY).exists()
        store.put(OTHER, b"two")
        assert (tmp_path / KEY).read_bytes() == b"one"
        assert (tmp_path / OTHER).read_bytes() == b"two"
