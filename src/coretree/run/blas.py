"""One BLAS thread while tasks run: the same bits whatever the number of cores, and no oversubscription."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

from threadpoolctl import ThreadpoolController

_lock = threading.Lock()
_holders = 0
_limiter: Any = None


@lru_cache(maxsize=1)
def _libraries(_n_modules: int) -> ThreadpoolController:
    """The BLAS libraries of this process, looked for anew when a module has been loaded since."""
    return ThreadpoolController()


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Limit BLAS to one thread until the last of the (possibly concurrent) holders leaves.

    The setting belongs to the process, so concurrent tasks must not each restore it on their own.
    """
    global _holders, _limiter
    with _lock:
        _holders += 1
        if _holders == 1:
            _limiter = _libraries(len(sys.modules)).limit(limits=1, user_api="blas")
    try:
        yield
    finally:
        with _lock:
            _holders -= 1
            if _holders == 0:
                _limiter.restore_original_limits()
                _limiter = None
