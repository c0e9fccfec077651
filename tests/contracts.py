"""Contracts: what every implementation of an interface must keep, as classes of tests to inherit."""

from __future__ import annotations

import pickle
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from coretree.data.scan import Leaf
from coretree.errors import MissingObjectError, PartitionError, StoreError, WriteConflictError
from coretree.run.executor import Executor
from coretree.run.frontier import Job, batched
from coretree.tree.store import Store, node_key, stored_nodes, token

KEY = "nodes/ab/abcdef.arrow"


def count_up(store: Store, key: str, times: int) -> int:
    """Add one to a number `times` times, by comparing and setting; return how often another writer was faster."""
    conflicts = 0
    while times:
        try:
            data = store.get(key)
        except MissingObjectError:
            data, version = b"0", None
        else:
            version = token(data)
        try:
            store.replace(key, str(int(data) + 1).encode(), expected=version)
        except WriteConflictError:
            conflicts += 1
        else:
            times -= 1
    return conflicts


class StoreContract:
    """Inherit, and give a fixture ``store`` that returns an empty store."""

    def test_it_is_a_store(self, store: Store) -> None:
        assert isinstance(store, Store)

    def test_what_was_put_is_got(self, store: Store) -> None:
        for key, data in ((KEY, b"bytes \x00\xff"), ("empty", b""), ("ä/long name.json", bytes(range(256)) * 5000)):
            store.put(key, data)
            assert store.get(key) == data
            assert type(store.get(key)) is bytes
            assert store.size(key) == len(data)

    def test_a_second_put_changes_nothing(self, store: Store) -> None:
        store.put(KEY, b"first")
        store.put(KEY, b"other bytes under the same name")
        assert store.get(KEY) == b"first"

    def test_names_are_sorted_and_filtered(self, store: Store) -> None:
        assert store.names() == []
        keys = ["nodes/b/2", "nodes/a/1", "manifest.json", "nodes-of-others/x"]
        for key in keys:
            store.put(key, b"")
        assert store.names() == sorted(keys)
        assert store.names("nodes/") == ["nodes/a/1", "nodes/b/2"]
        assert store.names("nodes/b/2") == ["nodes/b/2"]
        assert store.names("none") == []
        assert store.names("..") == []

    def test_stored_nodes_are_the_names_under_nodes(self, store: Store) -> None:
        for name in ("abcdef", "0123"):
            store.put(node_key(name), b"")
        store.put("manifest.json", b"")
        store.put("nodes/readme.txt", b"")
        assert stored_nodes(store) == {"abcdef", "0123"}

    def test_a_missing_object_is_named(self, store: Store) -> None:
        for read in (store.get, store.size):
            with pytest.raises(MissingObjectError, match=KEY) as caught:
                read(KEY)
            assert isinstance(caught.value, StoreError)
            assert isinstance(caught.value, FileNotFoundError)
            assert not isinstance(caught.value, KeyError)
            assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)

    def test_a_name_below_an_object_is_missing(self, store: Store) -> None:
        store.put("a", b"")
        store.delete("a/b")
        with pytest.raises(MissingObjectError):
            store.get("a/b")

    def test_delete_and_put_again(self, store: Store) -> None:
        store.delete(KEY)
        store.put(KEY, b"damaged")
        store.delete(KEY)
        assert store.names() == []
        store.put(KEY, b"whole")
        assert store.get(KEY) == b"whole"

    @pytest.mark.parametrize(
        "key",
        ["", "/", "/etc/passwd", "..", "../x", "a/../b", "a//b", "a/", "./a", ".", "a/.hidden", "a\\b", "a\nb", "a\0b"],
    )
    def test_keys_that_leave_the_store_are_refused(self, store: Store, key: str) -> None:
        calls = (store.get, store.size, store.delete, lambda k: store.put(k, b""))
        for call in (*calls, lambda k: store.replace(k, b"", expected=None)):
            with pytest.raises(ValueError, match="relative path"):
                call(key)
        assert store.names() == []

    def test_replace_compares_and_sets(self, store: Store) -> None:
        first = store.replace("manifest.json", b"1", expected=None)
        assert first == token(b"1")
        second = store.replace("manifest.json", b"2", expected=first)
        assert store.get("manifest.json") == b"2"
        for stale in (None, first, "nonsense"):
            with pytest.raises(WriteConflictError, match=r"another writer.*Run the same command again") as caught:
                store.replace("manifest.json", b"3", expected=stale)
            assert isinstance(caught.value, StoreError)
        assert store.get("manifest.json") == b"2"
        store.delete("manifest.json")
        with pytest.raises(WriteConflictError, match="it is no object"):
            store.replace("manifest.json", b"3", expected=second)
        assert store.names() == []

    def test_of_many_creators_one_wins(self, store: Store) -> None:
        barrier = threading.Barrier(8)

        def create(i: int) -> bool:
            barrier.wait(timeout=30)
            try:
                store.replace("manifest.json", str(i).encode(), expected=None)
            except WriteConflictError:
                return False
            return True

        with ThreadPoolExecutor(8) as pool:
            won = list(pool.map(create, range(8)))
        assert won.count(True) == 1
        assert store.get("manifest.json") == str(won.index(True)).encode()

    def test_threads_lose_no_update(self, store: Store) -> None:
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda _: count_up(store, "n", 15), range(4)))
        assert store.get("n") == b"60"

    def test_threads_may_put_the_same_object(self, store: Store) -> None:
        data = bytes(range(256)) * 4000
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda _: store.put(KEY, data), range(24)))
        assert store.names() == [KEY]
        assert store.get(KEY) == data


class Recorder:
    """Work for executors: the name of each job with a number; a poisoned one fails, a slow one waits."""

    def __init__(self, poison: str = "", wait_s: float = 0.0) -> None:
        self.poison, self.wait_s = poison, wait_s

    def __call__(self, job: Job, frame: object) -> tuple[str, int]:
        time.sleep(self.wait_s)
        if job.name == self.poison:
            raise ZeroDivisionError("poisoned")
        return job.name, len(job.children) if job.leaf is None else job.leaf.n_rows


def small_tree(prefix: str) -> list[Job]:
    """Jobs of a binary tree over six leaves; the last pair's leaves are stored already."""
    leaves = [Job(f"{prefix}{i}", Leaf(f"f{i}.parquet", (i, i + 1), 10 + i, 1, "")) for i in range(4)]
    pairs = [Job(f"{prefix}p{i}", None, (f"{prefix}{2 * i}", f"{prefix}{2 * i + 1}")) for i in range(3)]
    return [*leaves, *pairs, Job(f"{prefix}root", None, tuple(pair.name for pair in pairs))]


def wide_tree(prefix: str, n_leaves: int) -> list[Job]:
    """Jobs of a tree over many tiny leaves, seven to a merge."""
    leaves = [Job(f"{prefix}{i}", Leaf(f"f{i}.parquet", (0,), 9, 99, "")) for i in range(n_leaves)]
    names = [leaf.name for leaf in leaves]
    merges = [Job(f"{prefix}p{i}", None, tuple(names[i * 7 : i * 7 + 7])) for i in range(-(-n_leaves // 7))]
    return [*leaves, *merges, Job(f"{prefix}root", None, tuple(merge.name for merge in merges))]


class ExecutorContract:
    """Inherit, and give a fixture ``executor``."""

    def test_results_are_those_of_the_jobs(self, executor: Executor) -> None:
        jobs = small_tree("a")
        assert executor.run(jobs, Recorder(), None) == {
            **{f"a{i}": (f"a{i}", 10 + i) for i in range(4)},
            **{f"ap{i}": (f"ap{i}", 2) for i in range(3)},
            "aroot": ("aroot", 3),
        }
        assert executor.run([], Recorder(), None) == {}
        assert executor.n_slots >= 1

    def test_progress_counts_every_job_once_and_children_first(self, executor: Executor) -> None:
        seen: list[tuple[str, int, int]] = []
        jobs = small_tree("b")
        executor.run(jobs, Recorder(), None, lambda job, done, total: seen.append((job.name, done, total)))
        names = [name for name, _, _ in seen]
        assert sorted(names) == sorted(job.name for job in jobs)
        assert [(done, total) for _, done, total in seen] == [(i + 1, 8) for i in range(8)]
        place = {name: i for i, name in enumerate(names)}
        assert all(place[c] < place[job.name] for job in jobs for c in job.children if c in place)

    def test_an_error_names_its_leaf_and_the_same_jobs_can_run_again(self, executor: Executor) -> None:
        with pytest.raises(PartitionError, match=r"f2\.parquet, row groups \[2, 3\]: ZeroDivisionError: poisoned"):
            executor.run(small_tree("c"), Recorder(poison="c2"), None)
        with pytest.raises(PartitionError, match="merge cp1: ZeroDivisionError"):
            executor.run(small_tree("c"), Recorder(poison="cp1"), None)
        assert executor.run(small_tree("c"), Recorder(), None)["croot"] == ("croot", 3)

    def test_tiny_leaves_may_go_together_but_count_apart(self, executor: Executor) -> None:
        jobs = wide_tree("e", 70)
        assert len(batched(jobs, executor.n_slots)) < len(jobs) / 3
        seen: list[tuple[str, int, int]] = []
        results: dict[str, tuple[str, int]] = {}
        found = executor.run(
            jobs,
            Recorder(),
            None,
            lambda job, done, total: seen.append((job.name, done, total)),
            lambda job, result: results.update({job.name: result}),
        )
        assert found == results == {job.name: (job.name, len(job.children) or 9) for job in jobs}
        assert [(done, total) for _, done, total in seen] == [(i + 1, len(jobs)) for i in range(len(jobs))]
        place = {name: i for i, (name, _, _) in enumerate(seen)}
        assert all(place[child] < place[job.name] for job in jobs for child in job.children)

    @pytest.mark.parametrize("poison", ["g0", "g37", "g69", "gp5"])
    def test_an_error_in_a_batch_names_its_own_job(self, executor: Executor, poison: str) -> None:
        where = f"merge {poison}" if "p" in poison else rf"f{poison[1:]}\.parquet, row groups \[0\]"
        with pytest.raises(PartitionError, match=f"^{where}: ZeroDivisionError: poisoned") as caught:
            executor.run(wide_tree("g", 70), Recorder(poison=poison), None)
        assert isinstance(caught.value.__cause__, ZeroDivisionError)

    def test_nothing_runs_after_an_interrupt(self, executor: Executor, tmp_path: Path) -> None:
        def interrupt(job: Job, done: int, total: int) -> None:
            raise KeyboardInterrupt

        jobs = [Job(f"d{i}", Leaf(f"f{i}.parquet", (0,), i, 1, "")) for i in range(20)]
        with pytest.raises(KeyboardInterrupt):
            executor.run(jobs, Touch(str(tmp_path)), None, interrupt)
        after = sorted(tmp_path.iterdir())
        assert 1 <= len(after) < 20
        time.sleep(0.3)
        assert sorted(tmp_path.iterdir()) == after
        assert not any(path.name.endswith(".begun") for path in after)

    def test_one_call_on_one_worker(self, executor: Executor) -> None:
        assert executor.one(divmod, 7, 2) == (3, 1)
        with pytest.raises(ZeroDivisionError):
            executor.one(divmod, 7, 0)


class Touch:
    """Work that leaves a file behind: first one called begun, then renamed."""

    def __init__(self, folder: str) -> None:
        self.folder = folder

    def __call__(self, job: Job, frame: object) -> None:
        begun = Path(self.folder) / f"{job.name}.begun"
        begun.touch()
        time.sleep(0.1)
        begun.rename(begun.with_suffix(".done"))
