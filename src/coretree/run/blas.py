"""One BLAS thread while tasks run: the same bits whatever the number of cores, and no oversubscription."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from coretree.learn.threads import threaded_libraries

_lock = threading.Lock()
_holders = 0
_limiter: Any = None


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Limit BLAS to one thread until the last of the (possibly concurrent) holders leaves.

    The setting belongs to the process, so concurrent tasks must not each restore it on their own.
    """
    global _holders, _limiter
    with _lock:
        _holders += 1
        if _holders == 1:
            _limiter = threaded_libraries().limit(limits=1, user_api="blas")
    try:
        yield
    finally:
        with _lock:
            _holders -= 1
            if _holders == 0:
                _limiter.restore_original_limits()
                _limiter = None
