"""The command line: every verb, every exit code, and that no failure shows a traceback or leaves anything behind."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import tomllib
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result

from coretree import __version__, console
from coretree.cli import cli
from coretree.config import load_job

WAIT_S = 120


def rows(n: int, seed: int) -> pd.DataFrame:
    """Rows with a number that matters, one with gaps, a category and a target."""
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "id": np.arange(n) + 10_000 * seed,
            "a": rng.normal(size=n),
            "b": rng.normal(size=n),
            "c": rng.choice(["x", "y", "z"], n),
        }
    )
    frame["late"] = frame["a"] + (frame["c"] == "x") + rng.logistic(size=n) > 0
    frame.loc[::40, "b"] = np.nan
    return frame


def dataset(folder: Path, files: int = 3, n: int = 600) -> Path:
    """A folder of Parquet files."""
    folder.mkdir()
    for i in range(files):
        rows(n, i).to_parquet(folder / f"part-{i}.parquet", row_group_size=max(1, n // 2), index=False)
    return folder


def job_file(path: Path, folder: Path, /, **sections: dict[str, Any]) -> Path:
    """A job that is quick to train."""
    values = {
        "data": {"train": str(folder), "target": "late", "ignore": ["id"]},
        "coreset": {"size": 400},
        "models": {"try": ["logistic", "tree"], "cv": 3},
        **sections,
    }
    lines = [line for name, keys in values.items() for line in _section(name, keys)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def _section(name: str, keys: dict[str, Any]) -> list[str]:
    return [f"[{name}]", *(f"{key} = {json.dumps(value)}" for key, value in keys.items())]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return dataset(tmp_path / "data")


@pytest.fixture
def job(tmp_path: Path, data: Path) -> Path:
    return job_file(tmp_path / "job.toml", data)


def run(*args: Any) -> Result:
    """A command in this process; an error that is no exit would be raised by the test."""
    return CliRunner().invoke(cli, [str(arg) for arg in args], catch_exceptions=False)


def run_apart(*args: Any, code: int) -> subprocess.CompletedProcess[str]:
    """A command in its own process."""
    done = subprocess.run(
        [sys.executable, "-m", "coretree", *map(str, args)],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=WAIT_S,
        stdin=subprocess.DEVNULL,
        check=False,
    )
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done


def environment() -> dict[str, str]:
    """This process's, with the same coretree in front."""
    source = str(Path(console.__file__).parents[1])
    return {**os.environ, "PYTHONPATH": os.pathsep.join([source, os.environ.get("PYTHONPATH", "")])}


def refused(result: Result, *parts: str, code: int = 2) -> None:
    """One paragraph on stderr with these parts, nothing on stdout, the right exit code."""
    text = " ".join(result.stderr.split())
    assert result.exit_code == code, text
    errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, result.stderr
    assert "Traceback" not in result.stderr
    for part in parts:
        assert part in text, text


# ---- the whole way ---------------------------------------------------------------------------------------------------


def test_train_evaluate_predict(tmp_path: Path, data: Path, job: Path) -> None:
    out, predictions = tmp_path / "run", tmp_path / "predictions"
    trained = run("train", job, "--out", out)
    assert trained.exit_code == 0, trained.stderr
    labels = [line.split()[0] for line in trained.stdout.splitlines()]
    assert labels == ["data", "plan", "clean", "split", "coreset", "models", "held-out", "saved"]
    assert sorted(p.name for p in out.iterdir()) == ["model", "result.json", "run.json", "tree"]
    result = json.loads((out / "result.json").read_text())
    assert result["model"] in ("logistic", "tree")
    assert result["held_out"]["n_rows"] + result["tree"]["rows"] == 1800
    assert result["held_out"]["metrics"]["roc_auc"] > 0.7
    assert "pass 2" in trained.stderr

    judged = run("evaluate", out)
    assert judged.exit_code == 0, judged.stderr
    assert f"{result['held_out']['n_rows']:,} held-out rows" in judged.stdout
    assert "precision" in judged.stdout
    assert "true \\ predicted" in judged.stdout
    again = json.loads(run("evaluate", out, "--json").stdout)
    assert again["metrics"] == result["held_out"]["metrics"]
    other = json.loads(run("evaluate", out, "--data", data / "part-1.parquet", "--json").stdout)
    assert other["n_rows"] == 600

    predicted = run("predict", out, "--data", data, "--out", predictions, "--columns", "id, late")
    assert predicted.exit_code == 0, predicted.stderr
    found = pd.read_parquet(predictions)
    assert found["id"].tolist() == [i + 10_000 * k for k in range(3) for i in range(600)]
    assert (found["prediction"] == found["late"]).mean() > 0.65
    refused(run("predict", out, "--data", data, "--out", predictions), "exists already")
    assert len(pd.read_parquet(predictions)) == 1800


def test_a_second_train_is_refused_before_any_work(tmp_path: Path, job: Path) -> None:
    out = tmp_path / "run"
    assert run("train", job, "--out", out).exit_code == 0
    before = snapshot(out)
    result = run("train", job, "--out", out)
    refused(result, "a finished run is here already", "--out")
    assert result.stdout == ""
    refused(run("build", job, "--out", out), "a finished run is here already")
    assert snapshot(out) == before


def test_build_then_train_makes_no_node_again(tmp_path: Path, job: Path) -> None:
    out = tmp_path / "run"
    built = json.loads(run("build", job, "--out", out, "--json").stdout)
    assert built["tree"]["nodes_made"] > 0
    assert json.loads(run("build", job, "--out", out, "--json").stdout)["tree"]["nodes_made"] == 0
    refused(run("evaluate", out), "no model yet")
    refused(run("train", job, "--out", out, "--seed", "7"), "a run of another job", "[coreset]")
    trained = json.loads(run("train", job, "--out", out, "--json").stdout)
    assert trained["tree"] == {**built["tree"], "nodes_made": 0}


def test_json_is_one_object_and_the_seed_decides(tmp_path: Path, job: Path) -> None:
    found = [json.loads(run("train", job, "--out", tmp_path / name, "--json", *seed).stdout) for name, seed in SEEDS]
    roots = [one["tree"]["root"] for one in found]
    assert roots[0] == roots[1] != roots[2]
    assert found[0]["held_out"]["metrics"] == found[1]["held_out"]["metrics"]
    assert found[0]["held_out"]["n_rows"] == found[2]["held_out"]["n_rows"], "the split keeps its own seed"


SEEDS = (("one", ()), ("two", ("--threads", "1")), ("three", ("--seed", "5")))


def test_regression_job(tmp_path: Path, data: Path) -> None:
    job = job_file(
        tmp_path / "job.toml",
        data,
        data={"train": str(data), "target": "a", "ignore": ["id"]},
        models={"try": ["lr", "dt"], "cv": 3},
    )
    out = tmp_path / "run"
    assert run("train", job, "--out", out).exit_code == 0
    assert "R²" in run("evaluate", out).stdout


def test_init_gives_a_job_that_check_accepts(tmp_path: Path, data: Path) -> None:
    made = run("init", data, "--target", "late")
    assert made.exit_code == 0
    assert "# 3 files, 6 row groups, 1,800 rows" in made.stdout
    assert "categorical: c" in made.stdout
    job = tmp_path / "job.toml"
    job.write_text(made.stdout, encoding="utf-8")
    assert load_job(job).data.train == (str(data),)
    before = snapshot(tmp_path)
    checked = run("check", job)
    assert checked.exit_code == 0, checked.stderr
    assert [line.split()[0] for line in checked.stdout.splitlines()] == ["data", "roles", "plan", "memory", "ok"]
    assert "warning: " in checked.stderr, "1,800 rows are fewer than the coreset's size"
    facts = json.loads(run("check", job, "--json").stdout)
    assert facts["data"]["features"] == {"id": "numeric", "a": "numeric", "b": "numeric", "c": "categorical"}
    assert facts["peak_bytes"] > 0
    assert snapshot(tmp_path) == before
    assert tomllib.loads(json.loads(run("init", data, "--target", "late", "--json").stdout)["job"])


def snapshot(folder: Path) -> dict[str, tuple[int, int]]:
    """Every file with its size and time."""
    files = (p for p in sorted(folder.rglob("*")) if p.is_file())
    return {str(p.relative_to(folder)): (p.stat().st_size, p.stat().st_mtime_ns) for p in files}


# ---- interruption ----------------------------------------------------------------------------------------------------


def test_interrupted_and_run_again(tmp_path: Path, data: Path, job: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, whole = tmp_path / "run", tmp_path / "whole"
    expected = json.loads(run("train", job, "--out", whole, "--json").stdout)

    def stop(self: console.Console, stage: str, done: int, total: int) -> None:
        if stage == "sketch" and done == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(console.Console, "progress", stop)
        stopped = run("train", job, "--out", out, "--threads", "1")
    assert stopped.exit_code == 130
    assert "Run the same command again to resume" in " ".join(stopped.stderr.split())
    assert not (out / "result.json").exists()
    resumed = json.loads(run("train", job, "--out", out, "--json").stdout)
    assert 0 < resumed["tree"]["nodes_made"] < expected["tree"]["nodes_made"]
    assert resumed["tree"]["root"] == expected["tree"]["root"]
    assert resumed["held_out"]["metrics"] == expected["held_out"]["metrics"]


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGINT for one process")
def interrupted(job: Path, out: Path) -> tuple[int, str]:
    """Exit code and messages of a run that is sent SIGINT once its tree has a node."""
    command = [sys.executable, "-m", "coretree", "train", str(job), "--out", str(out), "--threads", "1"]
    process = subprocess.Popen(
        command,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        stdin=subprocess.DEVNULL,
        # tests that a shell runs in the background ignore the signal, and so would what they start
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )
    try:
        deadline = time.monotonic() + WAIT_S
        while not any((out / "tree").rglob("*.arrow")) and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=WAIT_S)
    finally:
        process.kill()
        process.wait()
    return process.returncode, stderr


def test_ctrl_c_on_a_real_process(tmp_path: Path) -> None:
    job = job_file(tmp_path / "job.toml", dataset(tmp_path / "data", files=30, n=40))
    for attempt in range(3):  # on a busy machine the signal may come when all is done
        out = tmp_path / f"run{attempt}"
        code, stderr = interrupted(job, out)
        if code != 0:
            break
    assert code == 130, stderr
    assert "Traceback" not in stderr
    assert "interrupted: " in stderr
    assert run("train", job, "--out", out).exit_code == 0


# ---- bad input -------------------------------------------------------------------------------------------------------


def test_empty_directory(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    job, out = job_file(tmp_path / "job.toml", tmp_path / "empty"), tmp_path / "run"
    refused(run("train", job, "--out", out), str(tmp_path / "empty"), "no Parquet file found")
    refused(run("init", tmp_path / "none", "--target", "late"), "no such file or folder")
    assert not out.exists()


def test_misspelt_target(tmp_path: Path, data: Path) -> None:
    job = job_file(tmp_path / "job.toml", data, data={"train": str(data), "target": "lat"})
    for verb in ("check", "train"):
        refused(
            run(verb, job, *(["--out", tmp_path / "run"] if verb == "train" else [])), "'lat'", "Did you mean 'late'"
        )
    assert not (tmp_path / "run").exists()


def test_one_class(tmp_path: Path, data: Path) -> None:
    for i in range(3):
        rows(600, i).assign(late=True).to_parquet(data / f"part-{i}.parquet", index=False)
    job = job_file(tmp_path / "job.toml", data)
    done = run_apart("train", job, "--out", tmp_path / "run", code=2)
    text = " ".join(done.stderr.split())
    assert "error: " in text
    assert "'late' holds only" in text
    assert not (tmp_path / "run").exists(), "nothing half-written stays"


def test_type_change_between_files(tmp_path: Path, data: Path) -> None:
    rows(600, 1).assign(a="seven").to_parquet(data / "part-1.parquet", index=False)
    refused(run("train", job_file(tmp_path / "j", data), "--out", tmp_path / "run"), "part-1.parquet", "column 'a'")
    assert not (tmp_path / "run").exists()


def test_truncated_file_and_html_page(tmp_path: Path, data: Path, job: Path) -> None:
    whole = (data / "part-2.parquet").read_bytes()
    (data / "part-2.parquet").write_bytes(whole[: len(whole) // 2])
    refused(run("check", job), "part-2.parquet", "truncated")
    (data / "part-2.parquet").write_text("<html><body>Not found</body></html>")
    refused(run("check", job), "part-2.parquet", "HTML page", 'clean.bad_files = "skip"')
    skipping = job_file(tmp_path / "skip.toml", data, clean={"bad_files": "skip"})
    skipped = run("check", skipping)
    assert skipped.exit_code == 0
    assert "part-2.parquet" in skipped.stderr


def test_page_damaged_in_the_middle(tmp_path: Path, data: Path, job: Path) -> None:
    """The footer is whole, so only reading the rows can find it."""
    path = data / "part-1.parquet"
    content = bytearray(path.read_bytes())
    end = len(content) * 3 // 4
    content[4:end] = bytes(end - 4)
    path.write_bytes(bytes(content))
    refused(run("train", job, "--out", tmp_path / "run"), "part-1.parquet")
    assert not (tmp_path / "run").exists()


def test_duplicate_columns(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    table = pa.table([[1.0, 2.0], [3.0, 4.0], [True, False]], names=["a", "a", "late"])
    pq.write_table(table, folder / "x.parquet")
    job = job_file(tmp_path / "job.toml", folder, data={"train": str(folder), "target": "late"})
    refused(run("check", job), "x.parquet", "column 'a' occurs 2 times")


def test_job_with_three_mistakes(tmp_path: Path, data: Path) -> None:
    job = tmp_path / "job.toml"
    job.write_text(f'[data]\ntrian = "{data}"\ntarget = "late"\n[split]\ntest = 2\n[models]\ntry = ["logistc"]\n')
    done = run_apart("train", job, code=2)
    text = " ".join(done.stderr.split())
    assert "4 mistakes" in text, "the misspelt key and the missing one count apart"
    for part in ("data.trian", "did you mean 'train'?", "split.test", "did you mean 'logistic'?"):
        assert part in text


def test_model_of_the_other_task(tmp_path: Path, data: Path) -> None:
    job = job_file(tmp_path / "job.toml", data, models={"try": ["ridge"]})
    refused(run("train", job, "--out", tmp_path / "run"), "classification", "ridge")
    refused(run("check", job), "classification", "ridge")
    assert not (tmp_path / "run").exists()


def test_output_that_is_something_else(tmp_path: Path, job: Path) -> None:
    out = tmp_path / "run"
    out.mkdir()
    (out / "thesis.txt").write_text("years of work")
    refused(run("train", job, "--out", out), str(out), "no run of coretree", "--out")
    refused(run("demo", "--out", out, "--months", "1"), str(out), "no run of coretree")
    assert [p.name for p in out.iterdir()] == ["thesis.txt"]
    refused(run("evaluate", out), "no run of coretree", code=1)


def test_scheduler_that_is_not_there(tmp_path: Path, job: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{free.getsockname()[1]}"
        started = time.monotonic()
        done = run_apart("train", job, "--out", tmp_path / "run", "--scheduler", address, code=1)
    assert time.monotonic() - started < 60
    text = " ".join(done.stderr.split())
    assert address in text
    assert "no Dask scheduler answers" in text
    assert not (tmp_path / "run").exists()
    refused(run("check", job, "--scheduler", "localhost"), "cluster.scheduler", "tcp://")


def test_wrong_usage() -> None:
    for args in (["trian"], ["train"], ["train", "x", "--workers", "0"], ["predict", "run"]):
        assert run(*args).exit_code == 2
    both = run("check", "job.toml", "--workers", "2", "--scheduler", "tcp://h:1")
    assert both.exit_code == 2
    assert "exclude each other" in both.stderr


# ---- the frame around it ---------------------------------------------------------------------------------------------


def test_an_unexpected_error_is_a_paragraph_too(job: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError("by design")

    monkeypatch.setattr("coretree.run.check.check", broken)
    refused(run("check", job), "ZeroDivisionError: by design", "bug", "--debug", code=1)
    shown = run("check", job, "--debug")
    assert shown.exit_code == 1
    assert "Traceback" in shown.stderr


def test_help_and_version() -> None:
    assert f"version {__version__}" in run("--version").stdout
    text = run("--help").stdout
    for verb in ("demo", "init", "check", "build", "train", "evaluate", "predict"):
        assert f"  {verb}" in text
        assert "coretree" in run(verb, "--help").stdout
    assert "Exit codes" in text


def test_as_a_command_of_another_program(tmp_path: Path) -> None:
    """``dask coretree`` finds the group by its entry point and puts it under its own."""

    @click.group()
    def dask() -> None:
        """Stand-in for Dask's command."""

    dask.add_command(cli, "coretree")
    result = CliRunner().invoke(dask, ["coretree", "check", str(tmp_path / "none.toml")], catch_exceptions=False)
    refused(result, "none.toml: cannot be read")


def test_importing_the_command_line_is_light() -> None:
    heavy = ("dask", "distributed", "sklearn", "pandas", "numpy", "pyarrow", "pydantic", "rich")
    code = f"import coretree.cli, sys; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment(), capture_output=True, text=True, timeout=WAIT_S, check=True
    )
    assert done.stdout.strip() == "[]"
