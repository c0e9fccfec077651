"""cluster/local: start, submit, refuse, stop; separate processes on loopback, all gone afterwards."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).parents[1]
SCRIPTS = ROOT / "cluster" / "local"
EXAMPLE = ROOT / "examples" / "03_running_cluster.py"

pytestmark = pytest.mark.skipif(os.name != "posix", reason="the scripts are for POSIX shells")


def call(script: str, *arguments: str | Path, timeout: float = 120) -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ,
        "PYTHON": sys.executable,
        "PYTHONPATH": str(ROOT / "src"),
        "WORKERS": "2",
        "MEMORY": "1GiB",
        "PORT": "0",
    }
    command = [str(SCRIPTS / script), *map(str, arguments)]
    return subprocess.run(
        command, capture_output=True, text=True, env=environment, timeout=timeout, stdin=subprocess.DEVNULL
    )


def processes(folder: Path) -> dict[str, psutil.Process]:
    lines = (folder / "pids").read_text().split("\n")
    return {name: psutil.Process(int(pid)) for pid, name in (line.split() for line in lines if line)}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("cluster") / "c"
    done = call("start.sh", folder)
    assert done.returncode == 0, done.stderr
    started = processes(folder)
    children = [child for process in started.values() for child in process.children(recursive=True)]
    yield folder
    stopped = call("stop.sh", folder)
    assert stopped.returncode == 0, stopped.stderr
    _, alive = psutil.wait_procs([*started.values(), *children], timeout=20)
    for process in alive:
        process.kill()
    assert not alive
    assert not (folder / "pids").exists()


def test_it_is_a_scheduler_and_two_workers_on_loopback(cluster: Path) -> None:
    started = processes(cluster)
    assert sorted(started) == ["scheduler", "worker-1", "worker-2"]
    address = (cluster / "address").read_text().strip()
    assert address.startswith("tcp://127.0.0.1:")
    for process in started.values():
        for one in (process, *process.children(recursive=True)):
            listening = {c.laddr.ip for c in one.net_connections("inet") if c.status == psutil.CONN_LISTEN}
            assert listening <= {"127.0.0.1"}


def test_a_second_start_is_refused_and_stops_nothing(cluster: Path) -> None:
    done = call("start.sh", cluster)
    assert done.returncode == 2
    assert "stop.sh" in done.stderr
    assert all(process.is_running() for process in processes(cluster).values())


def worker_seconds(folder: Path) -> float:
    """CPU time of the workers and of the processes that they watch over."""
    workers = [process for name, process in processes(folder).items() if name.startswith("worker")]
    every = [one for worker in workers for one in (worker, *worker.children(recursive=True))]
    return sum(sum(process.cpu_times()[:2]) for process in every)


def test_the_demo_is_submitted(cluster: Path) -> None:
    before = worker_seconds(cluster)
    done = call("submit.sh", cluster, "--months", "1", "--size", "500", "--json", timeout=280)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert 0.55 < result["compared"]["logistic"]["metrics"]["roc_auc"] < 0.75
    assert json.loads((cluster / "demo" / "result.json").read_text())["model"] == result["model"]
    assert worker_seconds(cluster) - before > 1.0  # the work was done over there


def test_the_example_runs_on_it_and_leaves_it_running(cluster: Path) -> None:
    address = (cluster / "address").read_text().strip()
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(
        [sys.executable, str(EXAMPLE), address], capture_output=True, text=True, env=environment, timeout=180
    )
    assert done.returncode == 0, done.stderr
    assert "2 workers" in done.stdout
    assert "same      root and coreset" in done.stdout
    assert all(process.is_running() for process in processes(cluster).values())


def test_submitting_to_nothing_says_what_to_type(tmp_path: Path) -> None:
    done = call("submit.sh", tmp_path / "none")
    assert done.returncode == 2
    assert "start.sh" in done.stderr


def test_stopping_nothing_is_fine(tmp_path: Path) -> None:
    done = call("stop.sh", tmp_path)
    assert done.returncode == 0
    assert "nothing to stop" in done.stdout


def test_stop_leaves_a_stranger_with_a_reused_id_alone(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as stranger:
        (tmp_path / "pids").write_text(f"{stranger.pid} worker-1\n")
        began = time.monotonic()
        assert call("stop.sh", tmp_path).returncode == 0
        assert stranger.poll() is None
        assert time.monotonic() - began < 10
        stranger.kill()
