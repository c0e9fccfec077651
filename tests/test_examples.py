"""Every example runs as a newcomer would run it: a fresh process, no input, some lines of result."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"

# 03 needs a scheduler's address: tests/test_cluster_local.py starts one and runs it there
RUNS = {
    "01_quick_start.py": ("held out", "the same predictions, bit for bit"),
    "02_dask_dataframe.py": ("held out", "computed part by part"),
    "04_regression_and_search.py": ("best      ", "minutes in the air"),
}


def run(name: str, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    # Warnings are errors, but for those that Dask causes in pandas, and the flights' package in setuptools.
    allowed = ["-W", "ignore::DeprecationWarning", "-W", "ignore:pkg_resources is deprecated:UserWarning"]
    command = [sys.executable, "-W", "error", *allowed, str(EXAMPLES / name), *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    return subprocess.run(
        command, capture_output=True, text=True, cwd=cwd, env=environment, timeout=240, stdin=subprocess.DEVNULL
    )


@pytest.mark.parametrize("name", sorted(RUNS))
def test_example(name: str, tmp_path: Path) -> None:
    done = run(name, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for text in RUNS[name]:
        assert text in done.stdout
    assert list(tmp_path.iterdir()) == []  # examples tidy up


def test_the_dask_example_runs_on_worker_processes_too(tmp_path: Path) -> None:
    here = run("02_dask_dataframe.py", "--months", "1", cwd=tmp_path)
    there = run("02_dask_dataframe.py", "--months", "1", "--workers", "2", cwd=tmp_path)
    assert there.returncode == 0, there.stderr
    # the same root name, and so the same model
    assert here.stdout.splitlines()[0] == there.stdout.splitlines()[0]


def test_the_cluster_example_says_what_is_missing(tmp_path: Path) -> None:
    done = run("03_running_cluster.py", cwd=tmp_path)
    assert done.returncode == 2
    assert "address" in done.stderr


def test_every_example_is_run_by_some_test() -> None:
    assert {path.name for path in EXAMPLES.glob("*.py")} == {*RUNS, "03_running_cluster.py"}


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.name)
def test_examples_guard_their_main(path: Path) -> None:
    text = path.read_text("utf-8")
    assert text.startswith('"""')
    assert 'if __name__ == "__main__":' in text
