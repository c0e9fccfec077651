"""The benchmark of the leaderboard runs, small; what it counts is asserted, never how long it took."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.base import clone

import coretree as ct
from benchmarks.leaderboard import FullSide, Line, Outcome, Seconds, everything, flights, markdown, ratio, run
from coretree.data.to_sklearn import to_sklearn
from generated import sales, write_files

pytestmark = pytest.mark.filterwarnings("ignore::coretree.errors.CoretreeWarning")  # such small coresets are all odd


def test_both_sides_are_measured_on_the_same_rows(tmp_path):
    frame = sales(3000)[["a", "b", "c", "kind", "sold"]]
    train = ct.Dataset.from_parquet(write_files(tmp_path / "train", frame[:2400], 2), target="sold")
    test = ct.Dataset.from_parquet(write_files(tmp_path / "test", frame[2400:], 1), target="sold")
    full, (outcome,) = run(tmp_path, train, test, names=["logistic", "tree"], size=400, seeds=1)
    assert full.rows == 2400
    assert set(full.scores) == {"logistic", "tree"}
    assert [line.name for line in outcome.lines] == ["logistic", "tree"]
    assert abs(outcome.lines[0].extrapolated - full.scores["logistic"]) < 0.02
    assert all(0.5 < line.value < 1 for line in outcome.lines)
    assert outcome.rows == 400
    assert ratio(full, [outcome]).wall > 0
    assert markdown(full, [outcome]).count("\n| 0 |") == 2


def test_all_rows_are_read_and_prepared_as_the_tree_does(tmp_path):
    frame = sales(600)[["a", "b", "c", "kind", "sold"]]
    train = ct.Dataset.from_pandas(frame, target="sold")
    known = to_sklearn(ct.CoresetTree(tmp_path / "tree", size=200).build(train).recipe_.preparation)
    rows, y = everything(train)
    X = clone(known).fit_transform(rows)
    assert X.shape == known.transform(rows).shape == (600, X.shape[1])
    assert np.isfinite(X).all()
    assert np.abs(X.mean(axis=0) - known.transform(rows).mean(axis=0)).max() < 0.05  # medians are estimates
    assert (y == frame["sold"].to_numpy()).all()


def test_the_bars():
    good, off, out = (
        Line("tree", 0.7, 0.69, 0.705, 0.68, 0.72),
        Line("logistic", 0.7, 0.7, 0.7011, 0.69, 0.71),
        Line("tree", 0.7, 0.69, 0.71, 0.701, 0.72),
    )
    assert (good.holds, off.holds, out.holds) == (True, False, False)
    outcome = Outcome(3, (good, Line("svm", 0.6, 0.7, 0.6005, 0.5, 0.7)), Seconds(1, 1), Seconds(1, 2), 400)
    assert (outcome.tau("extrapolated"), outcome.tau("value")) == (1.0, -1.0)
    full = FullSide({}, {"read": Seconds(10, 10), "tree": Seconds(20, 50)}, 9)
    assert ratio(full, [outcome]) == Seconds(15.0, 20.0)
    assert "NO" in markdown(full, [Outcome(0, (out, off), Seconds(1, 1), Seconds(1, 1), 4)])


def test_flights_are_held_out_by_time(tmp_path):
    pytest.importorskip("pkg_resources")  # which the package with the flights imports
    train, test = flights(tmp_path, months=2)
    assert "hour" in train.schema.of_kind("numeric")
    assert train.scan.n_rows > 20_000 < test.scan.n_rows
    absolute, _ = flights(tmp_path, months=2, absolute=True)
    assert "scheduled" in absolute.schema.of_kind("datetime")
