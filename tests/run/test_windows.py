"""Part of a stored tree by time or folder: exact where leaves are whole, unbiased where they are cut."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from coretree import CoresetTree, Dataset, ThreadExecutor
from coretree.errors import ConfigError, CoresetQualityWarning, EmptyDataError
from coretree.run.selection import seconds_of
from coretree.tree.store import MemoryStore
from days import DAY, day, opened, write_day
from generated import same

ONE = ThreadExecutor(1)
pytestmark = pytest.mark.filterwarnings("ignore::coretree.errors.CoretreeWarning")
N_DAYS = 6


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder a day; the last two days have rows without a time."""
    place = tmp_path_factory.mktemp("days")
    for i in range(N_DAYS):
        write_day(place / f"part={i % 2}", f"d{i}", day(i, undated=0.0 if i < 4 else 0.25), group_rows=500)
    return place


@pytest.fixture(scope="module", params=[1, 2, 3])
def tree(request: pytest.FixtureRequest, folder: Path) -> CoresetTree:
    found = CoresetTree(MemoryStore(), size=100, fan_in=2, passes=request.param)
    return found.build(opened(folder, drop=["key", "part"]), client=ONE)


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    return pd.concat([day(i, undated=0.0 if i < 4 else 0.25) for i in range(N_DAYS)], ignore_index=True)


def only(folder: Path, tree: CoresetTree, days: list[int]) -> CoresetTree:
    """A build over some days alone, under the same recipe; the pattern keeps the paths what they were."""
    pattern = str(folder / "part=*" / f"d[{''.join(map(str, days))}].parquet")
    data = Dataset.from_parquet(pattern, target="y", time="when", drop=["key", "part"], leaf_bytes=100)
    return CoresetTree(MemoryStore()).build(data, client=ONE, like=tree)


@pytest.mark.parametrize("days", [[1], [1, 2, 3], [0, 1, 2, 3, 4, 5], [4, 5]])
def test_whole_leaves_are_a_build_over_those_rows(folder: Path, tree: CoresetTree, days: list[int]) -> None:
    window = tree.window(days[0] * DAY, (days[-1] + 1) * DAY)
    assert window.estimated_share == 0
    there = only(folder, tree, days)
    assert window.node.rows.tolist() == there.root_.rows.tolist()
    assert window.node.counts.tolist() == there.root_.counts.tolist()
    if not tree.recipe_.one_pass:  # there sketches of classes are cut only when a coreset is drawn
        for name, found in there.root_.sketches.items():
            ours = window.node.sketches[name].state()
            assert {k: v.tobytes() for k, v in ours.items()} == {k: v.tobytes() for k, v in found.state().items()}
    core = tree.coreset(start=days[0] * DAY, end=(days[-1] + 1) * DAY)
    other = there.coreset()
    assert core.ids.tobytes() == other.ids.tobytes()
    np.testing.assert_allclose(core.sample_weight, other.sample_weight, rtol=1e-9)
    assert core.class_counts == other.class_counts
    noted = [note for note in core.report.warnings if "without a time" in note]
    assert bool(noted) == bool({4, 5} & set(days))


def test_open_windows_and_all_times(tree: CoresetTree) -> None:
    assert tree.coreset(start="1970-01-03").n_rows + tree.coreset(end="1970-01-03").n_rows == tree.n_rows_
    assert same(tree.coreset(start=None, end=None), tree.coreset())
    # what a window reads does not depend on how its edges are written
    cores = [
        tree.coreset(start=start, end=end)
        for start, end in [
            ("1970-01-02", "1970-01-04"),
            (DAY, np.int64(3 * DAY)),
            (pd.Timestamp("1970-01-02 02:00+02:00"), np.datetime64("1970-01-04")),
        ]
    ]
    assert same(cores[0], cores[1])
    assert same(cores[0], cores[2])
    assert cores[0].n_rows == 240


def test_a_leaf_on_the_border_is_cut_and_the_report_says_so(tree: CoresetTree, rows: pd.DataFrame) -> None:
    start, end = 0.5 * DAY, 2.25 * DAY
    core = tree.coreset(start=start, end=end)
    assert ((core.seconds >= start) & (core.seconds < end)).all()
    (note,) = [note for note in core.report.warnings if "the window cuts" in note]
    share = float(note.split("%")[0]) / 100
    seconds = (rows["when"] - pd.Timestamp(0)).dt.total_seconds()
    inside = (seconds >= start) & (seconds < end)
    cut = inside & (seconds // DAY != 1)
    assert share == pytest.approx(cut.sum() / inside.sum(), abs=0.06)
    assert core.n_rows == pytest.approx(inside.sum(), rel=0.1)
    assert core.sample_weight.sum() == pytest.approx(sum(core.class_counts.values()))
    assert tree.window(start, end).n_nodes == 3
    assert not [note for note in tree.coreset(start=DAY, end=2 * DAY).report.warnings if "cuts" in note]
    assert tree.window(start, end).node.profile is None  # nothing is said of a part that is only known of the whole


SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    ("passes", "seeds"), [(2, 10), pytest.param(2, 100, marks=SLOW), pytest.param(1, 100, marks=SLOW)]
)
def test_cut_leaves_are_unbiased_over_seeds(passes: int, seeds: int) -> None:
    """Rows inside, the sum of a feature over them and a class, as z-scores; the tree keeps one row of sixteen."""
    frame = pd.concat([day(0, n=1600), day(1, n=1600)], ignore_index=True).drop(columns="key")
    data = Dataset.from_pandas(frame, target="y", time="when", leaf_bytes=1600 * 8 * 5)
    start, end = 0.6 * DAY, 1.5 * DAY
    seconds = (frame["when"] - pd.Timestamp(0)).dt.total_seconds()
    inside = frame[(seconds >= start) & (seconds < end)]
    truth = np.array([len(inside), inside["a"].sum(), (inside["y"] == "yes").sum()])
    found: dict[str, list[list[float]]] = {"uniform": [], "robust": []}
    for seed in range(seeds):
        tree = CoresetTree(MemoryStore(), size=200, seed=seed, passes=passes).build(data, client=ONE)
        for objective, estimates in found.items():
            core = tree.coreset(start=start, end=end, objective=objective)
            w = core.sample_weight
            estimates.append([w.sum(), w @ core.X["a"].to_numpy(), w[core.target == "yes"].sum()])
    for estimates in found.values():
        z = (np.mean(estimates, axis=0) - truth) / (np.std(estimates, axis=0) / np.sqrt(seeds))
        assert np.abs(z).max() < 4
        assert np.std(estimates, axis=0)[0] / truth[0] < 0.12  # an estimate worth its name


def test_folders(folder: Path) -> None:
    tree = CoresetTree(MemoryStore(), size=100, fan_in=2).build(opened(folder, drop=["key"]), client=ONE)
    odd = tree.coreset(where={"part": 1})
    assert odd.n_rows == 360
    assert (odd.X["part"] == 1).all()
    assert same(odd, tree.coreset(where={"part": "1"}))
    assert tree.coreset(where={"part": [0, 1]}).n_rows == tree.n_rows_
    both = tree.coreset(where={"part": 1}, start=DAY, end=3 * DAY)
    assert (both.n_rows, both.seconds.min() // DAY, both.seconds.max() // DAY) == (120, 1, 1)
    with pytest.raises(ConfigError, match=r"no folder has part=7; there are 0, 1\."):
        tree.coreset(where={"part": [1, 7]})
    with pytest.raises(ConfigError, match=r"where names 'month', which is no partition column of .*; it has part"):
        tree.coreset(where={"month": 1})
    drift = tree.drift(reference={"part": 0}, current={"part": 1})
    assert drift is not None
    change = tree.remove(where={"part": 0}, client=ONE)
    assert (change.removed, tree.n_rows_) == (3, 360)


def test_weights_halve(tree: CoresetTree) -> None:
    plain, half = tree.coreset(), tree.coreset(half_life="1D", end=4 * DAY)
    assert half.n_rows == 480
    whole = tree.coreset(end=4 * DAY)
    assert whole.ids.tobytes() == half.ids.tobytes()
    np.testing.assert_allclose(half.sample_weight, whole.sample_weight * 0.5 ** (4 - half.seconds / DAY), rtol=1e-12)
    assert sum(half.class_counts.values()) == pytest.approx(half.sample_weight.sum())
    assert half.report.effective_rows < whole.report.effective_rows
    assert any("halve every 86400 s" in note for note in half.report.warnings)
    # without an end it is counted from the latest row; a row without a time counts as the oldest
    late = tree.coreset(half_life=DAY)
    latest, oldest = np.nanmax(late.seconds), np.nanmin(late.seconds)
    seconds = np.where(np.isnan(late.seconds), oldest, late.seconds)
    np.testing.assert_allclose(late.sample_weight, plain.sample_weight * 0.5 ** ((latest - seconds) / DAY), rtol=1e-12)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"start": "yesterday-ish"}, ConfigError, "'yesterday-ish' is no time; write it like '2013-06'"),
        ({"start": ""}, ConfigError, "'' is no time"),
        ({"end": float("nan")}, ConfigError, "nan is no time; leave start or end out"),
        ({"start": "1970-01-04", "end": "1970-01-02"}, ConfigError, "start must be before end"),
        ({"start": "1980", "end": "1981"}, EmptyDataError, "none of the 6 leaves has a row in this window"),
        ({"half_life": "often"}, ConfigError, "half_life='often' is no time span; write '30D'"),
        ({"half_life": -1}, ConfigError, "must be longer than nothing"),
        ({"half_life": "0D"}, ConfigError, "must be longer than nothing"),
        ({"start": DAY, "size": 9999}, ConfigError, "size=9999 must lie between 1 and"),
        ({"start": DAY, "objective": "sharp"}, ConfigError, "objective='sharp' is not in this tree"),
    ],
)
def test_wrong_windows_say_what_to_type(tree: CoresetTree, options: dict[str, Any], error: type, words: str) -> None:
    with pytest.raises(error, match=words):
        tree.coreset(**options)


def test_data_without_a_time_column(folder: Path) -> None:
    tree = CoresetTree(MemoryStore(), size=100).build(
        opened(folder, time=None, drop=["key", "part", "when"]), client=ONE
    )
    for use in (
        lambda: tree.coreset(start=0),
        lambda: tree.coreset(half_life="1D"),
        lambda: tree.drift(current=(0, DAY)),
    ):
        with pytest.raises(ConfigError, match="name it with time="):
            use()


def test_a_window_leaves_the_tree_and_its_warnings_alone(tree: CoresetTree) -> None:
    before = tree.coreset()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CoresetQualityWarning)
        for low in range(5):
            tree.coreset(start=low * DAY + 7000, end=(low + 1) * DAY + 7000)
    assert same(tree.coreset(), before)


def test_a_time_with_no_row_in_a_leaf(folder: Path) -> None:
    """A leaf none of whose rows has a time is in no window."""
    frame = pd.concat([day(0), day(1, undated=1.0), day(2)], ignore_index=True).drop(columns="key")
    data = Dataset.from_pandas(frame, target="y", time="when", leaf_bytes=120 * 8 * 5)
    tree = CoresetTree(MemoryStore(), size=100).build(data, client=ONE)
    assert len(tree.manifest_.leaves) == 3
    assert tree.coreset(start=0, end=3 * DAY).n_rows == 240
    assert tree.coreset().n_rows == 360
    assert seconds_of(None) is None
