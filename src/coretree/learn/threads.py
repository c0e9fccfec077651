"""How many threads the libraries below a fit, a prediction or a pass may use."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import joblib
from threadpoolctl import ThreadpoolController

_lock = threading.Lock()
_holders = 0
_limiter: Any = None


@contextlib.contextmanager
def one_blas_thread() -> Iterator[None]:
    """Limit BLAS to one thread until the last of the (possibly concurrent) holders leaves.

    Its sums then have the same bits whatever the number of cores. The setting belongs to the process, so concurrent
    tasks must not each restore it on their own.
    """
    global _holders, _limiter
    with _lock:
        _holders += 1
        if _holders == 1:
            _take_over()
            _limiter = _libraries(len(sys.modules)).select(user_api="blas").limit(limits=1)
    try:
        yield
    finally:
        with _lock:
            _holders -= 1
            if _holders == 0:
                _take_over()
                _limiter.restore_original_limits()
                _limiter = None


def _take_over() -> None:
    """Let this thread change the setting: threadpoolctl leaves OpenBLAS's to the first one that did, from 3.8 on."""
    for library in _libraries(len(sys.modules)).lib_controllers:
        if hasattr(library, "clear_controlling_thread"):
            library.clear_controlling_thread(force=True)


@lru_cache(maxsize=1)
def _libraries(_n_modules: int) -> ThreadpoolController:
    """The threaded libraries of this process, looked for anew when a module has been loaded since: that takes 4 ms."""
    return ThreadpoolController()


@contextlib.contextmanager
def limited_threads(n_threads: int | None) -> Iterator[None]:
    """Hold OpenMP and joblib to ``n_threads`` inside the block, and BLAS to one; None leaves them alone.

    The sums of BLAS depend on its threads, in the last bits; those of forests and boosting do not.
    """
    if n_threads is None:
        yield
        return
    openmp = _libraries(len(sys.modules)).select(user_api="openmp")  # its setting is each thread's own
    with (
        one_blas_thread(),
        openmp.limit(limits=n_threads),
        joblib.parallel_config(backend="threading", n_jobs=n_threads),
    ):
        yield
