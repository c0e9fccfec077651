"""A question to all workers, and the end of what was abandoned."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from distributed import Client, LocalCluster

from coretree.errors import StalledError
from coretree.run.workers import abandon, ask


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, processes=False, dashboard_address="127.0.0.1:0") as cluster,
        Client(cluster, set_as_default=False) as found,
    ):
        yield found


def leave(path: str) -> None:
    time.sleep(0.4)
    Path(path).touch()


def test_every_worker_answers_and_an_error_is_an_answer(client: Client) -> None:
    assert list(ask(client, divmod, 7, 2).values()) == [(3, 1)] * 2
    assert [type(a) for a in ask(client, divmod, 7, 0).values()] == [ZeroDivisionError] * 2


def test_a_worker_that_does_not_answer_is_not_waited_for(client: Client) -> None:
    started = time.monotonic()
    with pytest.raises(StalledError, match="did not answer"):
        ask(client, time.sleep, 1.0, timeout_s=0.2)
    assert time.monotonic() - started < 0.9


def test_what_was_abandoned_writes_no_more(client: Client, tmp_path: Path) -> None:
    futures = [client.submit(leave, str(tmp_path / str(i)), pure=False) for i in range(6)]
    while not any(client.processing().values()):
        time.sleep(0.01)
    time.sleep(0.1)
    abandon(client, futures)
    after = sorted(tmp_path.iterdir())
    assert len(after) < 6
    time.sleep(0.6)
    assert sorted(tmp_path.iterdir()) == after
    abandon(client, [])
