"""A tree on disk: same bits from the same seed, resumed builds, refusals that change nothing."""

from __future__ import annotations

import copy
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from coretree import CoresetTree, PrepareRules, ThreadExecutor
from coretree.errors import ConfigError, OutputExistsError, StoreError
from coretree.tree.store import node_key, stored_nodes
from generated import opened, sales, same, write_files

ONE = ThreadExecutor(1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_files(tmp_path_factory.mktemp("data"), sales(6000), files=3)


@pytest.fixture(scope="module")
def tree(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> CoresetTree:
    train, _ = opened(folder).split(test=0.2)
    return CoresetTree(tmp_path_factory.mktemp("trees") / "t", size=600, fan_in=3).build(train, client=ONE)


def snapshot(path: Path) -> dict[str, tuple[bytes, int]]:
    return {str(p): (p.read_bytes(), p.stat().st_mtime_ns) for p in path.rglob("*") if p.is_file()}


def test_equal_runs_are_equal_and_moving_the_data_changes_nothing(
    folder: Path, tmp_path: Path, tree: CoresetTree
) -> None:
    moved = shutil.copytree(folder, tmp_path / "elsewhere", copy_function=shutil.copy2)
    for place in (folder, moved):
        train, _ = opened(place).split(test=0.2)
        again = CoresetTree(tmp_path / place.name, size=600, fan_in=3).build(train, client=ONE)
        assert again.name_ == tree.name_
        assert same(again.coreset(500), tree.coreset(500))


def test_another_seed_is_another_sample_of_the_same_rows(folder: Path, tmp_path: Path, tree: CoresetTree) -> None:
    train, _ = opened(folder).split(test=0.2)
    other = CoresetTree(tmp_path / "t", size=600, fan_in=3, seed=1).build(train, client=ONE)
    assert other.name_ != tree.name_
    assert other.n_rows_ == tree.n_rows_
    assert set(other.coreset(500).ids) != set(tree.coreset(500).ids)
    # the seeds of sample and split are independent: the totals count the same rows
    np.testing.assert_allclose(other.root_.counts, tree.root_.counts, rtol=1e-12)
    elsewhere, _ = opened(folder).split(test=0.2, seed=1)
    split = CoresetTree(tmp_path / "s", size=600, fan_in=3).build(elsewhere, client=ONE)
    assert split.root_.counts.tolist() != tree.root_.counts.tolist()


def test_building_again_does_nothing(folder: Path, tree: CoresetTree) -> None:
    before = snapshot(Path(tree.path))
    train, _ = opened(folder).split(test=0.2)
    again = CoresetTree(tree.path, size=600, fan_in=3).build(train, client=ONE)
    assert again.summary_ is not None
    assert again.summary_.n_made == 0
    assert again.summary_.n_leaves == len(train.scan.leaves)
    assert snapshot(Path(tree.path)) == before


@pytest.mark.parametrize("what", ["data", "size", "seed", "prepare", "split"])
def test_another_tree_in_the_folder_is_refused_and_kept(
    folder: Path, tmp_path: Path, tree: CoresetTree, what: str
) -> None:
    before = snapshot(Path(tree.path))
    where = write_files(tmp_path / "other", sales(600, seed=5), files=1) if what == "data" else folder
    train, _ = opened(where).split(test=0.3 if what == "split" else 0.2)
    other = CoresetTree(
        tree.path,
        size=500 if what == "size" else 600,
        fan_in=3,
        seed=1 if what == "seed" else 0,
        prepare=PrepareRules(scale="minmax") if what == "prepare" else None,
    )
    with pytest.raises(OutputExistsError, match="nothing was changed"):
        other.build(train, client=ONE)
    assert snapshot(Path(tree.path)) == before


@pytest.mark.parametrize(("stage", "after"), [("profile", 2), ("sketch", 0), ("sketch", 3)])
def test_an_interrupted_build_continues(
    folder: Path, tmp_path: Path, tree: CoresetTree, stage: str, after: int
) -> None:
    train, _ = opened(folder).split(test=0.2)

    def interrupt(now: str, done: int, total: int) -> None:
        if (now, done) == (stage, after):
            raise KeyboardInterrupt

    mine = CoresetTree(tmp_path / "t", size=600, fan_in=3)
    with pytest.raises(KeyboardInterrupt):
        mine.build(train, client=ONE, progress=interrupt)
    assert not mine.is_built
    assert tree.summary_ is not None
    kept = stored_nodes(mine.store)
    mine.build(train, client=ONE)
    assert mine.name_ == tree.name_
    assert mine.summary_ is not None
    assert 0 < mine.summary_.n_made <= tree.summary_.n_made - after
    assert len(kept) >= after
    assert stored_nodes(mine.store) == stored_nodes(tree.store)
    assert same(mine.coreset(500), tree.coreset(500))


def test_a_damaged_leftover_is_made_again(folder: Path, tmp_path: Path, tree: CoresetTree) -> None:
    train, _ = opened(folder).split(test=0.2)

    def interrupt(now: str, done: int, total: int) -> None:
        if (now, done) == ("sketch", 3):
            raise KeyboardInterrupt

    mine = CoresetTree(tmp_path / "t", size=600, fan_in=3)
    with pytest.raises(KeyboardInterrupt):
        mine.build(train, client=ONE, progress=interrupt)
    leaves = sorted(stored_nodes(mine.store) & set(tree.manifest_.nodes))
    assert leaves
    for name in leaves:
        path = Path(mine.path) / node_key(name)
        path.write_bytes(path.read_bytes()[:-50])
    mine.build(train, client=ONE)
    assert mine.name_ == tree.name_
    assert mine.manifest_.nodes == tree.manifest_.nodes
    assert same(mine.coreset(500), tree.coreset(500))


def test_a_tree_opens_with_its_own_settings(tree: CoresetTree) -> None:
    found = CoresetTree.open(tree.path)
    assert found.settings == tree.settings
    assert same(found.coreset(500), tree.coreset(500))
    assert found.profile_.n_rows == tree.n_rows_
    assert "root" in repr(found)
    with pytest.raises(StoreError, match="no tree here yet"):
        CoresetTree.open(os.path.join(tree.path, "nothing"))


def test_sizes_are_nested(tree: CoresetTree) -> None:
    small, large = (set(tree.root_.sketches["robust"].reduce(k).finalise().ids) for k in (300, 600))
    assert len(small) == 300
    assert small < large
    assert set(tree.coreset(350).ids) <= set(tree.coreset(600).ids)


def test_what_a_tree_does_not_hold_is_refused(tree: CoresetTree) -> None:
    with pytest.raises(ConfigError, match=r"size=601 must lie between 1 and 600"):
        tree.coreset(601)
    with pytest.raises(ConfigError, match="between 1 and"):
        tree.coreset(0)
    with pytest.raises(ConfigError, match="objective='sharp' is not in this tree; it holds robust, balanced, uniform"):
        tree.coreset(objective="sharp")
    with pytest.raises(ConfigError, match="too small"):
        CoresetTree(size=3)
    with pytest.raises(ConfigError, match="fan_in=1"):
        CoresetTree(fan_in=1)


def test_a_dataset_without_a_target_gives_uniform_rows_and_cells(folder: Path) -> None:
    from coretree import Dataset

    tree = CoresetTree(size=100).build(Dataset.from_parquet(folder), client=ONE)
    core = tree.coreset()
    assert core.objective == "uniform"
    assert core.y is None
    assert tree.root_.cells is not None
    assert tree.root_.cells.n_rows == tree.n_rows_
    with pytest.raises(ConfigError, match="no target"):
        core.target  # noqa: B018
    with pytest.raises(ConfigError, match="'robust' needs a target"):
        CoresetTree(size=100, objectives="robust").build(Dataset.from_parquet(folder), client=ONE)


def test_copies_share_the_place(tree: CoresetTree) -> None:
    assert copy.deepcopy(tree) is tree


def test_a_temporary_tree_goes_with_its_object(folder: Path) -> None:
    passing = CoresetTree(size=500).build(opened(folder), client=ONE)
    path = passing.path
    assert os.path.isdir(path)
    del passing
    assert not os.path.exists(path)
