"""One job: what it reads, what it keeps, and that it can be sent to a worker."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from distributed.protocol import deserialize_bytes, serialize_bytes

from coretree import CoresetTree, Dataset, ThreadExecutor
from coretree.coreset.priority import Sketch
from coretree.coreset.rows import row_ids
from coretree.data.columns import Coded
from coretree.data.schema import Roles
from coretree.run.frontier import Job
from coretree.run.settings import Settings
from coretree.run.surveying import survey_rows
from coretree.run.tasks import NodeWork, Reading, SurveyWork, leaf_name
from coretree.tree.local_store import LocalStore
from coretree.tree.node import Survey
from coretree.tree.store import MemoryStore, node_key
from generated import opened, sales, write_files
from sample_data import cleaned


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return opened(write_files(tmp_path_factory.mktemp("d"), sales(900), files=2, group_rows=200), leaf_bytes=12_000)


def ids_of(data: Dataset) -> np.ndarray:
    reading = Reading.of(data)
    return np.concatenate([ids for leaf in data.scan.leaves for _, ids in reading.rows(leaf, None)])


def test_both_sides_are_all_rows_and_share_none(data: Dataset) -> None:
    train, test = data.split(test=0.25)
    whole, left, right = (set(ids_of(d).tolist()) for d in (data, train, test))
    assert len(whole) == 900
    assert left | right == whole
    assert not left & right


def test_identities_do_not_depend_on_how_leaves_are_cut(data: Dataset, tmp_path: Path) -> None:
    coarse = Dataset(data.source, data.roles, data.clean, 1 << 30)
    assert len(coarse.scan.leaves) < len(data.scan.leaves)
    assert sorted(ids_of(coarse)) == sorted(ids_of(data))


def test_an_id_column_makes_rows_findable_wherever_they_lie(tmp_path: Path) -> None:
    frame = sales(400)
    shuffled = frame.sample(frac=1, random_state=0)
    found = []
    for name, rows in (("a", frame), ("b", shuffled)):
        folder = write_files(tmp_path / name, rows, files=2)
        found.append(sorted(ids_of(opened(folder, drop=["price", "group"], id="number"))))
    assert found[0] == found[1]


def test_a_group_stays_together(tmp_path: Path) -> None:
    folder = write_files(tmp_path / "d", sales(900), files=3)
    train, test = opened(folder, drop=["price"], group="group").split(by="group", test=0.3)
    groups = []
    for side in (train, test):
        reading = Reading.of(side)
        rows = [columns for leaf in side.scan.leaves for columns, _ in reading.rows(leaf, None)]
        groups.append({int(g) for columns in rows if columns.groups is not None for g in columns.groups})
    assert all(groups)
    assert not groups[0] & groups[1]


def test_a_leaf_without_rows_leaves_an_empty_survey_that_merges(data: Dataset) -> None:
    reading = Reading.of(data)
    work = SurveyWork(reading, Settings(100), 100, 100, MemoryStore())
    leaf = data.scan.leaves[0]
    empty = work.survey(*reading.no_rows(leaf), 100)
    full = Survey.merge([work.survey(*rows, 100) for rows in reading.rows(leaf, None)])
    assert empty.profile.n_rows == 0
    assert not empty.pilots
    for merged in (Survey.merge([empty, full]), Survey.merge([full, empty])):
        assert merged.profile.n_rows == full.profile.n_rows
        assert merged.to_bytes() == full.to_bytes()


def test_an_empty_partition_is_read_as_a_leaf_without_rows(tmp_path: Path) -> None:
    frame = sales(100).drop(columns=["price", "number", "group"])
    data = Dataset.from_pandas(frame, target="sold")
    work = SurveyWork(Reading.of(data), Settings(100), 100, 100, LocalStore(tmp_path))
    found = work(Job("abcd", data.scan.leaves[0]), frame.iloc[:0])
    assert found.n_bytes == len((tmp_path / node_key("abcd")).read_bytes())
    assert work.get("abcd").profile.n_rows == 0


def test_work_travels(data: Dataset, tmp_path: Path) -> None:
    work = SurveyWork(Reading.of(data), Settings(100), 100, 100, LocalStore(tmp_path))
    again = deserialize_bytes(serialize_bytes(work))
    job = Job("abcd", data.scan.leaves[0])
    assert again(job, None) == work(job, None)


def test_pilot_rows_are_shared_among_classes(data: Dataset) -> None:
    work = SurveyWork(Reading.of(data), Settings(100), 100, 60, MemoryStore())
    (survey, *_) = [work.survey(*rows, 60) for rows in work.reading.rows(data.scan.leaves[0], None)]
    assert sorted(map(str, survey.pilots)) == ["no", "yes"]
    for sketch in survey.pilots.values():
        sample = sketch.finalise()
        assert len(sample.weights) == 30
        assert set(pd.unique(sample.rows["category0"])) <= {"red", "green", "blue", "grey", None}


def test_grouped_rows_are_the_same_rows_class_by_class(data: Dataset) -> None:
    train, _ = data.split(test=0.25)
    for side in (data, train):
        reading = Reading.of(side)
        for leaf in side.scan.leaves:
            for (plain, ids), (sorted_rows, sorted_ids) in zip(
                reading.rows(leaf, None), reading.rows(leaf, None, grouped=True), strict=True
            ):
                assert isinstance(sorted_rows.target, Coded)
                assert sorted_rows.target.levels == ("no", "yes")
                assert (np.diff(sorted_rows.target.codes) >= 0).all()
                order = np.argsort(ids)[np.argsort(np.argsort(sorted_ids))]
                assert np.array_equal(ids[order], sorted_ids)
                assert np.array_equal(plain.numbers[order], sorted_rows.numbers, equal_nan=True)
                assert np.array_equal(plain.times[order], sorted_rows.times, equal_nan=True)
                assert np.array_equal(plain.categories[0].codes[order], sorted_rows.categories[0].codes)
                assert plain.changes == sorted_rows.changes


@pytest.mark.parametrize("budgets", [{}, {0: 40}, {0: "all"}])
@pytest.mark.parametrize("far", [0.0, 0.05, 0.3, 9.0])
def test_a_leaf_keeps_the_same_rows_whether_or_not_its_classes_are_known(
    tmp_path: Path, budgets: dict[int, int | str], far: float
) -> None:
    data = opened(write_files(tmp_path, sales(1500), files=1, group_rows=300), leaf_bytes=1 << 20)
    tree = CoresetTree(size=1000).build(data, client=ThreadExecutor(1))
    recipe = replace(tree.recipe_, leaf_size=90, budgets=budgets)
    room = {name: np.atleast_1d(recipe.capacity(name)) for name in recipe.objectives}
    typical = {name: 1.0 if name == "robust" else 1000.0 for name in room}  # robust scores sum to 1, the others to n
    recipe = replace(recipe, reach={k: tuple((far * room[k] / typical[k]).tolist()) for k in room})
    store = MemoryStore()
    store.put(recipe.key, recipe.to_bytes())
    reading, (leaf,) = Reading.of(data), data.scan.leaves
    assert len(leaf.row_groups) == 5
    first = SurveyWork(reading, tree.settings, 400, 90, store)
    unknown = NodeWork(reading, recipe.name, store, first.name).leaf(recipe, leaf, None)
    first(Job(leaf_name(leaf, first.name), leaf), None)
    known = NodeWork(reading, recipe.name, store, first.name).leaf(recipe, leaf, None)
    assert known.to_bytes() == unknown.to_bytes()
    with pytest.MonkeyPatch.context() as patch:  # nor does it matter what later chunks know of earlier ones
        patch.setattr("coretree.run.tasks.smallest_keys", lambda seen, part: {})
        assert NodeWork(reading, recipe.name, store, first.name).leaf(recipe, leaf, None).to_bytes() == known.to_bytes()
    for name, found in known.sketches.items():  # all within reach, as far as the root has room
        each = [found] if isinstance(found, Sketch) else found.parts
        for own, key, most in zip(each, recipe.reach[name], room[name].tolist(), strict=True):
            assert len(own) <= own.capacity or own.capacity == most or own.keys[own.capacity] > key
    if not budgets:  # otherwise the test would prove nothing
        assert np.sum(recipe.chunk_capacity(known.profile)("balanced")) < np.sum(recipe.leaf_capacity("balanced"))


def test_pilot_candidates_stand_for_all_rows() -> None:
    rng = np.random.default_rng(0)
    n, kept = 6000, 20
    y = np.sort(rng.random(n) < 0.05).astype(int)
    columns = cleaned({"x": rng.normal(size=n), "y": y}, Roles(target="y", task="classification"))
    totals = []
    for seed in range(60):
        ids = row_ids("a", 0, np.arange(n))
        found = survey_rows(columns, ids, Settings(100, seed=seed), 2 * kept, lambda _: 0)
        samples = [found.pilots[label].finalise() for label in (0, 1)]
        assert [len(s.weights) for s in samples] == [kept, kept]
        assert samples[0].base.min() > 1  # most rows were left out before any was scored
        totals.append([s.weights.sum() for s in samples])
    error = np.std(totals, axis=0) / np.sqrt(len(totals))
    assert (np.abs(np.mean(totals, axis=0) - np.bincount(y)) < 4 * error).all()
    assert (error < 0.05 * np.bincount(y)).all()


@pytest.mark.parametrize("order", ["shuffled", "by class", "by size"])
def test_leaves_shorter_than_the_root_give_pilots_of_every_class_in_any_order(order: str, tmp_path: Path) -> None:
    frame = sales(1600).drop(columns="weight")
    frame.loc[frame.index % 20 == 0, "sold"] = "maybe"
    if order != "shuffled":
        frame = frame.sort_values("sold" if order == "by class" else "b")
    data = opened(write_files(tmp_path / "d", frame, files=8, group_rows=200), weight=None, leaf_bytes=1)
    counts, held = frame["sold"].value_counts(), []
    for seed in range(12):
        work = SurveyWork(Reading.of(data), Settings(100, seed=seed), 120, 60, MemoryStore())
        for i, leaf in enumerate(data.scan.leaves):
            work(Job(str(i), leaf), None)
        names = tuple(str(i) for i in range(len(data.scan.leaves)))
        assert all(sum(len(s.finalise().weights) for s in work.get(name).pilots.values()) <= 60 for name in names)
        work(Job("root", None, names), None)
        found = {label: sketch.finalise().weights for label, sketch in work.get("root").pilots.items()}
        assert set(found) == set(counts.index)
        assert 60 <= sum(map(len, found.values())) <= 120
        held.append([found[label].sum() for label in counts.index])
    error = np.std(held, axis=0, ddof=1) / np.sqrt(len(held))
    assert (np.abs(np.mean(held, axis=0) - counts.to_numpy()) <= 4 * error + 1e-9).all()
