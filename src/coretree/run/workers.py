"""A word to all workers at once: a question that never waits for ever, and the end of what was abandoned."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

from coretree.errors import StalledError

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
