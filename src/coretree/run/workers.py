"""A word to all workers at once: a question that never waits for ever, and the end of what was abandoned."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

from coretree.errors import NoWorkersError, StalledError

ANSWER_S = 30.0  # for a question to all workers
SETTLE_S = 10.0  # for what was cancelled to leave the workers' threads


def ask(client: Any, function: Callable[..., Any], *args: Any, timeout_s: float = ANSWER_S) -> dict[str, Any]:
    """Answers of all workers, by address; an error is an answer too.

    Raises
    ------
    StalledError
        A worker does not answer in time.
    """
    try:
        found = client.sync(client._run, function, *args, on_error="return", callback_timeout=timeout_s)
    except TimeoutError:
        raise StalledError(f"a worker did not answer in {timeout_s:.0f} s. Restart the workers that hang.") from None
    return dict(found)


def need_worker(client: Any, timeout_s: float) -> None:
    """Wait for a first worker.

    Raises
    ------
    NoWorkersError
        None comes in time.
    """
    try:
        client.wait_for_workers(1, timeout=timeout_s)
    except TimeoutError:
        address = client.scheduler.address
        raise NoWorkersError(f"{address}: the scheduler has no worker. Start one with: dask worker {address}") from None


def ended(future: Any, wait_s: float) -> bool:
    """Wait a little for a future; whether it has ended."""
    until = time.monotonic() + wait_s
    while not future.done() and time.monotonic() < until:
        time.sleep(0.01)
    return bool(future.done())


def abandon(client: Any, futures: Iterable[Any]) -> None:
    """Cancel futures and wait a while for the threads that run them: when this returns they write no more."""
    futures = list(futures)
    if not futures or client.status != "running":
        return
    keys = frozenset(f.key for f in futures)
    unfinished = any(not f.done() for f in futures)
    with suppress(OSError, StalledError):  # a scheduler that is gone runs nothing
        client.cancel(futures, force=True)  # an erred key, too, stays on the scheduler until then
        deadline = time.monotonic() + SETTLE_S
        while unfinished and time.monotonic() < deadline:
            unfinished = any(a is True for a in ask(client, _runs_any, keys, timeout_s=SETTLE_S).values())


def _runs_any(keys: frozenset[str], dask_worker: Any = None) -> bool:
    return not keys.isdisjoint(dask_worker.active_threads.values())
