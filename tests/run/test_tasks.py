"""One job: what it reads, what it keeps, and that it can be sent to a worker."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from distributed.protocol import deserialize_bytes, serialize_bytes

from coretree import Dataset
from coretree.run.frontier import Job
from coretree.run.settings import Settings
from coretree.run.tasks import Reading, SurveyWork
from coretree.tree.local_store import LocalStore
from coretree.tree.node import Survey
from coretree.tree.store import MemoryStore, node_key
from generated import opened, sales, write_files


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
    empty = work.survey(*reading.no_rows(leaf))
    full = Survey.merge([work.survey(*rows) for rows in reading.rows(leaf, None)])
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
    work = SurveyWork(Reading.of(data), Settings(100), 60, 100, MemoryStore())
    (survey, *_) = [work.survey(*rows) for rows in work.reading.rows(data.scan.leaves[0], None)]
    assert sorted(map(str, survey.pilots)) == ["no", "yes"]
    for sketch in survey.pilots.values():
        sample = sketch.finalise()
        assert len(sample.weights) == 30
        assert set(pd.unique(sample.rows["category0"])) <= {"red", "green", "blue", "grey", None}
