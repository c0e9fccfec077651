"""The main job from a Job object: what it means, what it writes, and that workers do not change it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from coretree.config import Job
from coretree.errors import ConfigError, MemoryPlanError, OutputExistsError, StoreError
from coretree.report.render import Ears, Fact
from coretree.run import from_job, pipeline
from coretree.run.check import check, starter, workers_of
from coretree.run.coreset_tree import CoresetTree
from coretree.run.estimators import load_model
from coretree.run.executor import ThreadExecutor
from coretree.run.memory import Demand, preflight


def quiet() -> Ears:
    return Ears(lambda _: None, lambda _stage, _done, _total: None)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Two hive folders with a time, a group and a class of three."""
    rng = np.random.default_rng(0)
    for year in (2023, 2024):
        n = 500
        frame = pd.DataFrame(
            {
                "when": pd.Timestamp(f"{year}-01-01") + pd.to_timedelta(rng.integers(0, 360, n), unit="D"),
                "who": rng.integers(0, 50, n),
                "x": rng.normal(size=n),
                "note": "?",
            }
        )
        noise = frame["x"] + rng.normal(size=n)
        frame["kind"] = np.where(noise > 0.7, "high", np.where(noise < -0.7, "low", "middle"))
        (tmp_path / "data" / f"year={year}").mkdir(parents=True)
        frame.to_parquet(tmp_path / "data" / f"year={year}" / "a.parquet", index=False)
    return tmp_path / "data"


def job(folder: Path, /, **sections: dict[str, Any]) -> Job:
    values: dict[str, Any] = {
        "data": {"train": str(folder), "target": "kind", "time": "when", "group": "who", "drop": ["note"]},
        "coreset": {"size": 300},
        "models": {"try": ["logistic"], "cv": 3},
    }
    return Job.model_validate({**values, **{k: {**values.get(k, {}), **v} for k, v in sections.items()}})


def test_a_job_says_what_the_python_calls_say(data: Path) -> None:
    wanted = job(
        data,
        clean={"missing_numeric": "constant", "fill_value": 3, "missing_values": ["?"], "infinite": "fail"},
        prepare={"scale": "robust", "max_categories": 7},
        coreset={"fan_in": 3, "seed": 9},
    )
    opened = from_job.dataset(wanted)
    assert (opened.roles.target, opened.roles.time, opened.roles.group) == ("kind", "when", "who")
    assert opened.roles.drop == ("note",)
    assert (opened.clean.missing_values, opened.clean.infinite) == (("?",), "fail")
    rules = from_job.prepare_rules(wanted)
    assert (rules.missing, rules.fill_value, rules.scale, rules.max_categories) == ("constant", 3.0, "robust", 7)
    tree = from_job.new_tree(wanted, data.parent / "tree")
    assert (tree.size, tree.fan_in, tree.settings.seed) == (300, 3, 9)
    assert "year" in opened.schema.of_kind("numeric")
    assert "year" not in from_job.dataset(job(data, data={"partition_columns": False})).scan.arrow_schema.names


@pytest.mark.parametrize("by", ["hash", "time", "group"])
def test_train_then_evaluate_judges_the_same_rows(data: Path, tmp_path: Path, by: str) -> None:
    result = pipeline.train(job(data, split={"by": by, "test": 0.3}), tmp_path / "run", quiet())
    assert result["tree"]["rows"] + result["held_out"]["n_rows"] == 1000
    facts, _ = pipeline.evaluate_run(tmp_path / "run", None, ThreadExecutor(1), quiet())
    assert facts["n_rows"] == result["held_out"]["n_rows"]
    assert facts["metrics"] == result["held_out"]["metrics"]
    assert [row["label"] for row in facts["per_class"]] == ["high", "low", "middle"]
    split = CoresetTree.open(tmp_path / "run" / "tree").recipe_.split
    assert split is not None
    assert split.by == by


def test_the_result_is_what_the_file_says(data: Path, tmp_path: Path) -> None:
    facts: list[Fact] = []
    result = pipeline.train(job(data), tmp_path / "run", replace(quiet(), say=facts.append))
    assert json.loads((tmp_path / "run" / "result.json").read_text()) == json.loads(json.dumps(result))
    assert load_model(tmp_path / "run" / "model").manifest_["result"]["model"] == "logistic"
    assert facts[0].text.startswith("2 files, 2 row groups, 1,000 rows, 3 features")
    assert "(classification)" in facts[0].text


def test_a_crash_between_model_and_result_is_repaired(data: Path, tmp_path: Path) -> None:
    first = pipeline.train(job(data), tmp_path / "run", quiet())
    (tmp_path / "run" / "result.json").unlink()
    again = pipeline.train(job(data), tmp_path / "run", quiet())
    assert again["tree"]["nodes_made"] == 0
    assert again["held_out"]["metrics"] == first["held_out"]["metrics"]
    with pytest.raises(OutputExistsError):
        pipeline.train(job(data), tmp_path / "run", quiet())


def test_run_and_data_may_be_used_from_another_directory(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    pipeline.train(job(Path("data")), Path("run"), quiet())
    monkeypatch.chdir(data)
    facts, _ = pipeline.evaluate_run(tmp_path / "run", None, ThreadExecutor(1), quiet())
    assert facts["n_rows"] > 100


def test_predict_carries_ignored_columns_and_needs_no_target(data: Path, tmp_path: Path) -> None:
    pipeline.train(job(data), tmp_path / "run", quiet())
    rows = pd.read_parquet(data / "year=2023" / "a.parquet").drop(columns=["kind", "who"]).assign(year=2023)
    rows.to_parquet(tmp_path / "new.parquet", index=False)
    args = (
        tmp_path / "run",
        str(tmp_path / "new.parquet"),
        str(tmp_path / "out"),
        ("note",),
        ThreadExecutor(1),
        quiet(),
    )
    assert pipeline.predict_run(*args)["rows"] == 500
    found = pd.read_parquet(tmp_path / "out")
    assert list(found.columns)[:2] == ["note", "prediction"]
    assert set(found["prediction"]) <= {"high", "low", "middle"}


def test_what_is_no_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no run of coretree"):
        pipeline.evaluate_run(tmp_path, None, ThreadExecutor(1), quiet())


def test_check_writes_nothing_and_predicts_memory(data: Path, tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    facts = check(job(data, coreset={"size": 500}), lambda _: None)
    assert sorted(tmp_path.rglob("*")) == before
    assert facts["memory_limits"] == {"this process": 0}
    assert facts["peak_bytes"] > 100 * 2**20
    large = Demand(reading=0, leaf=0, merge=2**30)
    more = preflight(workers_of(ThreadExecutor(8)), large)
    assert more > 8 * 2**30
    with pytest.raises(MemoryPlanError):
        preflight({"w": {"nthreads": 1, "memory_limit": 2**28}}, large)


def test_check_refuses_models_of_the_other_task(data: Path) -> None:
    with pytest.raises(ConfigError, match=r"means regression.*'svm'"):
        check(job(data, data={"target": "x"}, models={"try": ["svm"]}), lambda _: None)


def test_starter_of_several_paths(data: Path) -> None:
    paths = tuple(str(data / f"year={year}") for year in (2023, 2024))
    text, facts = starter(paths, "kind", "when")
    assert facts["data"]["rows"] == 1000
    assert 'time = "when"' in text


def test_another_seed_is_another_sample_of_the_same_rows(data: Path, tmp_path: Path) -> None:
    wanted = [job(data, coreset={"seed": seed}) for seed in (0, 1)]
    runs = [pipeline.train(one, tmp_path / str(one.coreset.seed), quiet()) for one in wanted]
    assert runs[0]["tree"]["root"] != runs[1]["tree"]["root"]
    assert runs[0]["held_out"]["n_rows"] == runs[1]["held_out"]["n_rows"]
