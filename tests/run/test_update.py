"""A tree that changes: only what changed is read, the rest is kept or refused, and readers never see half of it."""

from __future__ import annotations

import os
import shutil
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from distributed import Client, LocalCluster

from coretree import CoresetTree, Dataset, ThreadExecutor
from coretree.errors import (
    ConfigError,
    DamagedNodeError,
    DataWarning,
    EmptyDataError,
    MissingObjectError,
    OutputExistsError,
    RecipeMismatchError,
    SchemaError,
    StoreError,
    TargetError,
    WriteConflictError,
)
from coretree.run.on_dask import DaskExecutor
from coretree.tree.manifest import load
from coretree.tree.store import MemoryStore, node_key, stored_nodes
from days import day, numbers_in, opened, tags, write_day
from generated import same

ONE = ThreadExecutor(1)
pytestmark = pytest.mark.filterwarnings("ignore::coretree.errors.CoretreeWarning")


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("template")
    for i in range(4):
        write_day(home / "data", f"d{i:02d}", day(i))
    CoresetTree(home / "tree", size=60, fan_in=2).build(opened(home / "data"), client=ONE)
    return home


@pytest.fixture
def home(template: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(template, tmp_path / "home"))


@pytest.fixture
def tree(home: Path) -> CoresetTree:
    return CoresetTree.open(home / "tree")


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Files whose pages are read, in order."""
    from coretree.data import read

    seen: list[str] = []
    real = read._open
    monkeypatch.setattr(
        read, "_open", lambda full, schema: (seen.append(os.path.basename(full)), real(full, schema))[1]
    )
    return seen


def fresh(home: Path, tree: CoresetTree, **options: Any) -> CoresetTree:
    return CoresetTree(MemoryStore()).build(opened(home / "data", **options), client=ONE, like=tree)


def equal(tree: CoresetTree, other: CoresetTree) -> bool:
    """Whether two trees hold the same objects, to the last bit."""
    return tree.name_ == other.name_ and tree.manifest_.nodes == other.manifest_.nodes


# ---- update ----------------------------------------------------------------------------------------------------------


def test_only_new_changed_and_vanished_leaves_are_touched(home: Path, tree: CoresetTree, reads: list[str]) -> None:
    recipe, before = tree.recipe_.name, set(tree.manifest_.nodes)
    write_day(home / "data", "d07", day(7))
    change = tree.update(opened(home / "data"), client=ONE)
    assert (change.added, change.changed, change.removed, change.kept) == (2, 0, 0, 8)
    assert reads == ["d07.parquet"] * 2
    assert change.n_made == 2 + change.n_merged
    assert change.n_made == len(tree.manifest_.nodes.keys() - before)
    reads.clear()
    write_day(home / "data", "d01", day(1, n=90, seed=5))
    os.unlink(home / "data" / "d02.parquet")
    change = tree.update(opened(home / "data"), client=ONE)
    assert (change.added, change.changed, change.removed, change.kept) == (0, 2, 2, 6)
    assert reads == ["d01.parquet"] * 2
    assert tree.recipe_.name == recipe
    assert tree.n_rows_ == 3 * 120 + 90
    assert equal(tree, fresh(home, tree))
    assert [list(record["update"].values()) for record in tree.describe()["history"]] == [[2, 0, 0], [0, 2, 2]]
    # no survey nor anything else but what was superseded is left over
    assert tree.verify().unreachable == len(tree.gc(dry_run=True)) > 0
    tree.gc()
    assert stored_nodes(tree.store) == tree.manifest_.nodes.keys()
    assert tree.verify()


def test_nothing_new_is_nothing_done(home: Path, tree: CoresetTree, reads: list[str]) -> None:
    before = load(tree.store)
    change = tree.update(opened(home / "data"), client=ONE)
    assert (change.kept, change.n_made, change.root) == (8, 0, tree.name_)
    assert load(tree.store) == before
    assert not reads


def test_a_dataset_that_was_looked_at_before_is_looked_at_again(home: Path, tree: CoresetTree) -> None:
    data = opened(home / "data")
    assert len(data.scan.leaves) == 8
    write_day(home / "data", "d07", day(7))
    assert tree.update(data, client=ONE).added == 2


def test_what_vanished_may_be_kept_but_never_twice(home: Path, tree: CoresetTree) -> None:
    os.unlink(home / "data" / "d00.parquet")
    assert tree.update(opened(home / "data"), vanished="keep", client=ONE).n_made == 0
    assert tree.n_rows_ == 480
    # a file that has fewer row groups now has not lost the others: its old leaves go
    write_day(home / "data", "d03", day(3), group_rows=500)
    change = tree.update(opened(home / "data"), vanished="keep", client=ONE)
    assert (change.changed, change.removed, change.kept) == (1, 1, 6)
    assert tree.n_rows_ == 480
    # nor has one that is cut otherwise
    change = tree.update(opened(home / "data", leaf_bytes=1 << 20), vanished="keep", client=ONE)
    assert (change.changed, change.removed) == (2, 2)
    assert tree.n_rows_ == 480
    with pytest.raises(ConfigError, match="vanished='forget' must be 'drop' or 'keep'"):
        tree.update(opened(home / "data"), vanished="forget", client=ONE)  # type: ignore[arg-type]


def test_a_disjoint_dataset_is_refused(home: Path, tree: CoresetTree) -> None:
    write_day(home / "other", "x00", day(0))
    before = load(tree.store)
    with pytest.raises(ConfigError, match=r"not one of the tree's 8 leaves is in this dataset.*vanished='keep'"):
        tree.update(opened(home / "other"), client=ONE)
    assert load(tree.store) == before
    assert tree.update(opened(home / "other"), vanished="keep", client=ONE).added == 2
    assert tree.n_rows_ == 600


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"clean": {"missing_values": ["?"]}}, ConfigError, "other cleaning rules"),
        ({"target": "kind", "drop": ["key"]}, SchemaError, "column 'kind' is missing"),
        ({"drop": ["key", "a"]}, SchemaError, "column 'a' is missing, which the tree's recipe needs"),
        ({"categorical": ["a"]}, SchemaError, "column 'a' is categorical now, but numeric in the tree's recipe"),
        ({"id": "key"}, ConfigError, "the dataset has id='key', the tree id=None"),
    ],
)
def test_another_way_of_reading_is_refused(
    home: Path, tree: CoresetTree, options: dict[str, Any], error: type[Exception], words: str
) -> None:
    before = load(tree.store)
    write_day(home / "data", "d07", day(7))
    with pytest.raises(error, match=words):
        tree.update(opened(home / "data", **options), client=ONE)
    assert load(tree.store) == before


def test_a_new_column_in_every_file_changes_nothing(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The recipe's columns are read, and the survey of a single pass keeps its name, whatever else there is by now."""
    monkeypatch.setattr("coretree.run.build.PILOT_ROWS", 1)  # so that each column counts
    tree = CoresetTree(home / "t", size=60, fan_in=2, passes=1).build(opened(home / "data"), client=ONE)
    under = tree.manifest_.settings["under"]
    for i in range(5):
        write_day(home / "data", f"d{i:02d}", day(i, seed=i == 4).assign(extra=1.0, more=2.0))
    change = tree.update(opened(home / "data"), client=ONE)
    assert (change.added, change.changed) == (2, 8)
    assert tree.manifest_.settings["under"] == under
    assert tree.verify()
    assert list(tree.coreset().X) == ["tag", "a", "kind", "when"]


@pytest.mark.parametrize("passes", [1, 2, pytest.param(3, marks=pytest.mark.slow)])
def test_a_new_class_is_refused_and_the_tree_unchanged(home: Path, passes: int) -> None:
    tree = CoresetTree(home / "t", size=60, fan_in=2, passes=passes).build(opened(home / "data"), client=ONE)
    before = load(tree.store)
    strange = day(7)
    strange.loc[70, "y"] = "maybe"
    write_day(home / "data", "d07", strange)
    for _ in range(2):  # also when the node of the leaf is stored already
        with pytest.raises(TargetError, match=r"d07\.parquet.*'maybe'"):
            tree.update(opened(home / "data"), client=ONE)
        assert load(tree.store) == before
        assert tree.verify()
    with pytest.raises(TargetError, match="'maybe'"):
        CoresetTree(home / "site").build(opened(home / "data"), client=ONE, like=tree)
    write_day(home / "data", "d07", day(7))
    assert tree.update(opened(home / "data"), client=ONE).added == 2


def test_leaves_that_no_longer_fit_are_pointed_out(home: Path, tree: CoresetTree) -> None:
    write_day(home / "data", "d07", day(7).assign(kind="violet", a=lambda rows: rows["a"] + 1e6))
    with pytest.warns(DataWarning, match=r"(violet|'a')") as said:
        tree.update(opened(home / "data"), client=ONE)
    assert len(said) >= 2
    with warnings.catch_warnings():
        warnings.simplefilter("error", DataWarning)  # negative control: rows like the others
        write_day(home / "data", "d08", day(8))
        tree.update(opened(home / "data"), client=ONE)


def test_a_frozen_cutoff_is_pointed_out(home: Path) -> None:
    train, _ = opened(home / "data").split(by="time", cutoff="1970-01-04")
    tree = CoresetTree(home / "t", size=60, fan_in=2).build(train, client=ONE)
    write_day(home / "data", "d07", day(7))
    train, _ = opened(home / "data").split(by="time", cutoff="1970-01-09")
    with pytest.warns(DataWarning, match="no row of the 2 new leaves is before the split's cutoff"):
        tree.update(train, client=ONE)
    assert tree.n_rows_ == 360


def test_the_whole_dataset_stands_for_the_side_that_was_built(home: Path) -> None:
    train, test = opened(home / "data").split(test=0.3)
    tree = CoresetTree(home / "t", size=60, fan_in=2).build(train, client=ONE)
    write_day(home / "data", "d07", day(7))
    whole = opened(home / "data")
    tree.update(whole, client=ONE)
    train, test = whole.split(test=0.3)
    assert tree.n_rows_ < 0.8 * 600
    assert tree.build(train, client=ONE).summary_.n_made == 0  # type: ignore[union-attr]
    for other in (whole, test):
        with pytest.raises(OutputExistsError):
            tree.build(other, client=ONE)
    with pytest.raises(ConfigError, match="pass the side that was built, or the whole dataset"):
        tree.update(test, client=ONE)


def test_frames_in_memory_keep_their_order() -> None:
    frame = pd.concat([day(i) for i in range(12)], ignore_index=True).drop(columns="key")
    tree = CoresetTree(MemoryStore(), size=60, fan_in=2)

    def data(rows: pd.DataFrame) -> Dataset:
        return Dataset.from_pandas(rows, target="y", time="when", leaf_bytes=120 * 8 * 5)

    tree.build(data(frame.head(1200)), client=ONE)
    assert len(tree.manifest_.leaves) == 10
    assert tree.update(data(frame), client=ONE).added == 2
    new = CoresetTree(MemoryStore()).build(data(frame), client=ONE, like=tree)
    assert equal(tree, new)
    assert [leaf.identity for leaf in tree.manifest_.leaves] == [leaf.path for leaf in data(frame).scan.leaves]
    # rows of a frame are no file: what is left over was there in another cut
    tree.update(data(frame.head(600)), vanished="keep", client=ONE)
    assert tree.n_rows_ == 600


# ---- remove ----------------------------------------------------------------------------------------------------------


def test_leaves_are_removed_without_the_data(home: Path, tree: CoresetTree, reads: list[str]) -> None:
    shutil.rmtree(home / "data")
    change = tree.remove(source="d0[01].parquet", client=ONE)
    assert (change.removed, change.kept, change.n_made) == (4, 4, change.n_merged)
    assert tree.n_rows_ == 240
    assert tree.verify().unreachable == 0
    assert tree.describe()["history"][-1]["remove"]["n_leaves"] == 4
    assert tree.remove(source="nothing", client=ONE).removed == 0
    with pytest.raises(EmptyDataError, match="no leaf would be left"):
        tree.remove(source="*", client=ONE)
    for nothing in ({}, {"where": {}}):
        with pytest.raises(ConfigError, match="remove needs source="):
            tree.remove(**nothing, client=ONE)  # type: ignore[arg-type]
    assert not reads


def test_rows_are_erased_from_everything_stored(home: Path, tree: CoresetTree, reads: list[str]) -> None:
    gone = [5, 1070]
    find, before = tags(gone), tree.n_rows_
    assert any(np.isin(find, numbers).any() for numbers in numbers_in(tree.store).values())  # or the test shows nothing
    change = tree.remove(where={"key": gone}, data=opened(home / "data"), client=ONE)
    assert (change.n_erased, change.changed, change.kept) == (2, 2, 6)
    # only where statistics leave it open: once to find them, and once again
    assert sorted(reads) == ["d00.parquet", "d00.parquet", "d01.parquet", "d01.parquet"]
    assert tree.n_rows_ == before - 2
    assert not any(np.isin(find, numbers).any() for numbers in numbers_in(tree.store).values())
    record = tree.describe()["history"][-1]
    assert record["erase"] == {"columns": ["key"], "rows": 2}
    assert "1070" not in str(record)
    # they stay out, whatever else is new
    write_day(home / "data", "d07", day(7))
    tree.update(opened(home / "data"), client=ONE)
    assert tree.n_rows_ == before - 2 + 120
    assert tree.describe()["erased_rows"] == 2
    # also when the unchanged files are cut otherwise
    tree.update(opened(home / "data", leaf_bytes=1 << 20), client=ONE)
    assert tree.n_rows_ == before - 2 + 120
    assert tree.remove(where={"key": gone}, data=opened(home / "data", leaf_bytes=1 << 20), client=ONE).n_erased == 0


def test_rows_with_an_id_stay_out_wherever_they_turn_up(home: Path) -> None:
    tree = CoresetTree(home / "t", size=60, fan_in=2).build(opened(home / "data", id="key"), client=ONE)
    tree.remove(where={"key": [5, 1070]}, data=opened(home / "data", id="key"), client=ONE)
    frame = day(0)
    os.unlink(home / "data" / "d00.parquet")
    tree.update(opened(home / "data", id="key"), client=ONE)  # the row is in no leaf now
    write_day(home / "data", "d09", frame)  # and here it is again
    tree.update(opened(home / "data", id="key"), client=ONE)
    assert tree.n_rows_ == 480 - 2
    assert tree.describe()["erased_rows"] == 2
    assert not any(np.isin(tags([5, 1070]), numbers).any() for numbers in numbers_in(tree.store).values())


def test_rows_without_an_id_come_back_with_another_file_and_a_warning(home: Path, tree: CoresetTree) -> None:
    tree.remove(where={"key": [5]}, data=opened(home / "data"), client=ONE)
    write_day(home / "data", "d00", day(0))
    with pytest.warns(DataWarning, match=r"d00\.parquet: rows of this file were erased by their position"):
        tree.update(opened(home / "data"), client=ONE)
    assert tree.n_rows_ == 480


def test_an_erasure_that_was_cut_short_before_its_sweep(home: Path, tree: CoresetTree, monkeypatch: Any) -> None:
    data = opened(home / "data")
    monkeypatch.setattr("coretree.run.removal.sweep", _stop)
    with pytest.raises(KeyboardInterrupt):
        tree.remove(where={"key": [5]}, data=data, client=ONE)
    monkeypatch.undo()
    tree = CoresetTree.open(tree.path)
    assert tree.n_rows_ == 479
    assert any(np.isin(tags([5]), numbers).any() for numbers in numbers_in(tree.store).values())
    (home / "tree" / "nodes" / "ab").mkdir(exist_ok=True)
    (home / "tree" / "nodes" / "ab" / ".part-dead").write_bytes(b"rows of a writer that is no more")
    assert tree.remove(where={"key": [5]}, data=data, client=ONE).n_erased == 0
    assert not any(np.isin(tags([5]), numbers).any() for numbers in numbers_in(tree.store).values())
    assert not list((home / "tree").rglob(".part-*"))


def _stop(*_: Any) -> None:
    raise KeyboardInterrupt


def test_what_cannot_be_erased_says_why(home: Path, tree: CoresetTree) -> None:
    data = opened(home / "data")
    with pytest.raises(ConfigError, match="give data="):
        tree.remove(where={"key": 5}, client=ONE)
    with pytest.raises(ConfigError, match="where names 'keys', but there is no such column"):
        tree.remove(where={"keys": 5}, data=data, client=ONE)
    with pytest.raises(ConfigError, match="column 'key' holds int64, which 'five' is not"):
        tree.remove(where={"key": "five"}, data=data, client=ONE)
    write_day(home / "data", "d00", day(0, seed=4))
    with pytest.raises(ConfigError, match=r"'d00\.parquet#0' is not in the dataset given, or its file was changed"):
        tree.remove(where={"key": 5}, data=opened(home / "data"), client=ONE)
    assert tree.n_rows_ == 480


def test_what_two_trees_differ_in(home: Path, tree: CoresetTree) -> None:
    old = CoresetTree.open(shutil.copytree(home / "tree", home / "old"))
    same_tree = old.diff(tree)
    assert same_tree["same_root"]
    assert [same_tree[what] for what in ("added", "removed", "changed")] == [[], [], []]
    write_day(home / "data", "d07", day(7))
    os.unlink(home / "data" / "d00.parquet")
    tree.update(opened(home / "data"), client=ONE)
    tree.remove(where={"key": [1005]}, data=opened(home / "data"), client=ONE)
    found = old.diff(tree)
    assert (found["same_root"], found["same_recipe"]) == (False, True)
    assert found["added"] == ["d07.parquet#0", "d07.parquet#1"]
    assert found["removed"] == ["d00.parquet#0", "d00.parquet#1"]
    assert found["changed"] == ["d01.parquet#0"]
    assert found["n_rows"] == [480, 479]


def test_the_history_does_not_grow_for_ever(home: Path, tree: CoresetTree, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("coretree.run.update.HISTORY", 2)
    tree.remove(where={"key": [5]}, data=opened(home / "data"), client=ONE)
    for i in range(3):
        write_day(home / "data", "d07", day(7, seed=i))
        tree.update(opened(home / "data"), client=ONE)
    assert [next(iter(record.keys() - {"at", "before"})) for record in tree.describe()["history"]] == [
        "erase",
        "update",
        "update",
    ]


# ---- several writers and readers -------------------------------------------------------------------------------------


def test_of_two_writers_one_wins_and_the_other_loses_nothing(home: Path, tree: CoresetTree) -> None:
    write_day(home / "data", "d07", day(7))
    other, said = CoresetTree.open(tree.path), []

    def meanwhile(stage: str, done: int, total: int) -> None:
        if done == 0:
            said.append(other.remove(source="d00*", client=ONE))

    with pytest.raises(WriteConflictError, match="another writer changed"):
        tree.update(opened(home / "data"), client=ONE, progress=meanwhile)
    now = CoresetTree.open(tree.path)
    assert now.name_ == said[0].root
    assert now.n_rows_ == 360
    assert now.verify()
    change = tree.update(opened(home / "data"), client=ONE)  # looks at the tree of the winner
    assert (change.added, change.kept) == (4, 6)
    assert equal(tree, fresh(home, tree))


@pytest.mark.slow
def test_two_writers_at_the_same_time(home: Path) -> None:
    """Again and again, with threads: whoever does not win gets the error, and the tree is whole in the end."""
    for i in range(4, 8):
        write_day(home / "data", f"d{i:02d}", day(i))
    errors: list[BaseException] = []

    def write(names: list[str]) -> None:
        tree, data = CoresetTree.open(home / "tree"), [home / "data" / f"{name}.parquet" for name in names]
        for _ in range(60):
            try:
                tree.update(opened(data), vanished="keep", client=ONE)
                return
            except WriteConflictError as error:
                errors.append(error)

    threads = [threading.Thread(target=write, args=([f"d{i:02d}"],)) for i in range(4, 8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    tree = CoresetTree.open(home / "tree")
    assert len(tree.describe()["history"]) == 4
    assert tree.verify()
    assert equal(tree, fresh(home, tree))


def test_a_sweep_never_takes_what_another_writer_commits(home: Path, tree: CoresetTree) -> None:
    write_day(home / "data", "d07", day(7))
    other = CoresetTree.open(tree.path)
    (home / "tree" / "nodes" / "ab").mkdir(exist_ok=True)
    tree.store.put(node_key("ab" * 16), b"garbage")

    def meanwhile(stage: str, done: int, total: int) -> None:
        if done == 2:
            assert len(other.gc()) >= 1 + 2  # what was made so far goes

    with pytest.raises(WriteConflictError):
        tree.update(opened(home / "data"), client=ONE, progress=meanwhile)
    assert other.verify()
    tree.update(opened(home / "data"), client=ONE)
    assert tree.verify()
    # a writer that finds its nodes swept without a new manifest makes them again
    write_day(home / "data", "d08", day(8))
    taken: list[str] = []

    def sweeper(stage: str, done: int, total: int) -> None:
        if done == total and not taken:
            for name in stored_nodes(tree.store) - other.manifest_.nodes.keys():
                tree.store.delete(node_key(name))
                taken.append(name)

    other = CoresetTree.open(tree.path)
    tree.update(opened(home / "data"), client=ONE, progress=sweeper)
    assert taken
    assert tree.verify()
    assert equal(tree, fresh(home, tree))


def test_a_sweep_stops_where_the_tree_changes_under_it(home: Path, tree: CoresetTree, monkeypatch: Any) -> None:
    """The updated tree's nodes are unreachable by the manifest that the sweep began with."""
    from coretree.run import sweep

    write_day(home / "data", "d07", day(7))
    listed: list[int] = []
    real = sweep.unreachable

    def listing(store: Any, manifest: Any) -> tuple[str, ...]:
        if not listed:  # another writer commits between the manifest's reading and the listing
            listed.append(1)
            CoresetTree.open(home / "tree").update(opened(home / "data"), client=ONE)
        return real(store, manifest)

    monkeypatch.setattr(sweep, "unreachable", listing)
    tree.remove(source="nothing", client=ONE)
    assert listed
    now = CoresetTree.open(home / "tree")
    assert now.n_rows_ == 600
    assert now.verify()


def test_readers_see_the_old_tree_or_the_new_one(home: Path, tree: CoresetTree) -> None:
    """Readers that go on while others update and erase: every answer is that of one state of the tree."""
    states: set[tuple[bytes, int]] = set()
    data = opened(home / "data")

    def note() -> None:
        found = CoresetTree.open(home / "tree")
        states.add((found.coreset().ids.tobytes(), found.n_rows_))

    note()
    stop, failed, seen = threading.Event(), [], set()

    def read() -> None:
        reader = CoresetTree.open(home / "tree")
        while not stop.is_set():
            try:
                core = reader.coreset()
                seen.add((core.ids.tobytes(), core.n_rows, round(core.sample_weight.sum())))
                reader.window(0, 2 * 86_400)
                assert reader.verify()
                assert reader.drift((0, 86_400), (86_400, 2 * 86_400)) is not None
                reader = CoresetTree.open(home / "tree")
            except BaseException as error:
                failed.append(error)
                raise

    readers = [threading.Thread(target=read) for _ in range(2)]
    for thread in readers:
        thread.start()
    try:
        for i in range(3):
            tree.remove(where={"key": [i, 1000 + i]}, data=data, client=ONE)
            note()
        write_day(home / "data", "d07", day(7))
        tree.update(opened(home / "data"), client=ONE)
        note()
    finally:
        stop.set()
        for thread in readers:
            thread.join()
    assert not failed
    assert len(seen) > 1
    for ids, n_rows, weight in seen:
        assert (ids, n_rows) in states
        assert weight == n_rows


def test_a_reader_that_was_there_before_the_erasure(home: Path, tree: CoresetTree) -> None:
    for use in (
        lambda reader: reader.coreset().n_rows,
        lambda reader: reader.root_.n_rows,
        lambda reader: reader.window(0, 86_400 * 10).node.n_rows,
        lambda reader: reader.profile_.n_rows,
    ):
        reader = CoresetTree.open(tree.path)
        old = reader.manifest_
        victim = int(tree.n_rows_)
        tree.remove(where={"key": [victim % 60]}, data=opened(home / "data"), client=ONE)
        assert old.root not in stored_nodes(reader.store)
        assert use(reader) == tree.n_rows_


def test_a_reader_that_comes_too_late_again_and_again(home: Path, tree: CoresetTree, monkeypatch: Any) -> None:
    """Each time that it has read the manifest, the next erasure has swept what that names."""
    reader, data, left = CoresetTree.open(tree.path), opened(home / "data"), [1, 2, 3]
    real = reader._node

    def slow(name: str) -> Any:
        if left:
            tree.remove(where={"key": [left.pop()]}, data=data, client=ONE)
        return real(name)

    monkeypatch.setattr(reader, "_node", slow)
    assert reader.coreset().n_rows == 477
    (home / "tree" / node_key(tree.name_)).unlink()
    with pytest.raises(MissingObjectError):  # negative control: what is really missing is looked for once more only
        CoresetTree.open(tree.path).coreset()


# ---- trees of other sites --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "passes", [pytest.param(1, marks=pytest.mark.slow), 2, pytest.param(3, marks=pytest.mark.slow)]
)
def test_absorbing_is_building_over_both(home: Path, tmp_path: Path, passes: int) -> None:
    for i in range(4, 7):
        write_day(home / "data", f"e{i:02d}", day(i))
    ours = [home / "data" / f"d{i:02d}.parquet" for i in range(4)]
    theirs = [home / "data" / f"e{i:02d}.parquet" for i in range(4, 7)]
    tree = CoresetTree(tmp_path / "a", size=60, fan_in=2, passes=passes).build(opened(ours), client=ONE)
    site = CoresetTree(tmp_path / "b").build(opened(theirs), client=ONE, like=tree)
    assert site.settings == tree.settings
    change = tree.absorb(site, client=ONE)
    assert (change.added, change.kept, change.n_made) == (6, 8, change.n_merged)
    assert equal(tree, fresh(home, tree))
    assert tree.verify()
    assert tree.update(opened(home / "data"), client=ONE).n_made == 0
    with pytest.raises(ConfigError, match="is in two of the trees"):
        tree.absorb(site, client=ONE)
    # building the site once more does nothing; like another recipe it is refused
    assert CoresetTree(tmp_path / "b").build(opened(theirs), client=ONE, like=tree).summary_.n_made == 0  # type: ignore[union-attr]
    stranger = CoresetTree(tmp_path / "c", size=60, fan_in=2, passes=passes).build(opened(theirs), client=ONE)
    with pytest.raises(OutputExistsError):
        CoresetTree(tmp_path / "c").build(opened(theirs), client=ONE, like=tree)
    before = load(tree.store)
    with pytest.raises(RecipeMismatchError, match="like=tree"):
        tree.absorb(stranger, client=ONE)
    assert load(tree.store) == before


def test_a_damaged_node_of_another_site_is_not_taken_over(home: Path, tree: CoresetTree, tmp_path: Path) -> None:
    place = write_day(home / "site", "e00", day(9))
    site = CoresetTree(tmp_path / "b").build(opened(place), client=ONE, like=tree)
    path = tmp_path / "b" / node_key(site.name_)
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(DamagedNodeError, match="Delete it there"):
        tree.absorb(site, client=ONE)
    path.unlink()
    site.update(opened(place), client=ONE)
    assert tree.absorb(site, client=ONE).added == 2
    assert tree.verify()


def test_a_build_like_another_reads_its_side_only(home: Path, tmp_path: Path) -> None:
    train, _ = opened(home / "data").split(test=0.3)
    tree = CoresetTree(tmp_path / "a", size=60).build(train, client=ONE)
    place = write_day(home / "site", "e00", day(9))
    for data in (opened(place), opened(place).split(test=0.3)[0]):
        site = CoresetTree(MemoryStore()).build(data, client=ONE, like=tree)
        assert site.n_rows_ < 110
    with pytest.raises(ConfigError, match="pass the side that was built"):
        CoresetTree(MemoryStore()).build(opened(place).split(test=0.3)[1], client=ONE, like=tree)
    tree.absorb(site, client=ONE)
    assert tree.verify()


# ---- places and executors --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, processes=False, dashboard_address="127.0.0.1:0") as cluster,
        Client(cluster, set_as_default=False) as found,
    ):
        yield found


def test_every_executor_and_store_gives_the_same_bits(home: Path, tree: CoresetTree, client: Client) -> None:
    there = Path(shutil.copytree(home / "tree", home / "there"))
    memory = CoresetTree(MemoryStore(), size=60, fan_in=2).build(opened(home / "data"), client=ONE)
    write_day(home / "data", "d07", day(7))
    write_day(home / "data", "d01", day(1, seed=3))
    os.unlink(home / "data" / "d02.parquet")
    trees = {tree: ThreadExecutor(2), CoresetTree.open(there): DaskExecutor(client), memory: ONE}
    calls: list[Callable[[CoresetTree, Any], Any]] = [
        lambda one, executor: one.update(opened(home / "data"), client=executor),
        lambda one, executor: one.remove(where={"key": [5, 7010]}, data=opened(home / "data"), client=executor),
        lambda one, executor: one.remove(source="d03*", client=executor),
    ]
    for call in calls:
        changes = [call(one, executor).to_dict() for one, executor in trees.items()]
        assert changes[0] == changes[1] == changes[2]
        first, *others = trees
        for other in others:
            assert equal(first, other)
            assert same(first.coreset(50), other.coreset(50))


@pytest.mark.slow
def test_rows_of_a_dask_frame_are_erased(client: Client) -> None:
    import dask.dataframe as dd

    frame = dd.concat([dd.from_pandas(day(i), npartitions=1) for i in range(3)])
    data = Dataset.from_dask(frame, target="y", time="when", drop=["key"])
    tree = CoresetTree(MemoryStore(), size=60, fan_in=2).build(data, client=ONE)
    change = tree.remove(where={"key": [5, 2001]}, data=data, client=ONE)
    assert (change.n_erased, change.changed, change.kept) == (2, 2, 1)
    assert tree.n_rows_ == 358
    assert not any(np.isin(tags([5, 2001]), numbers).any() for numbers in numbers_in(tree.store).values())


def test_a_tree_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no tree here yet"):
        CoresetTree(tmp_path / "none").update(opened(tmp_path), client=ONE)
