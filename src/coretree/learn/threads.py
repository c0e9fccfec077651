"""How many threads the libraries below a fit, a prediction or a pass may use."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from functools import lru_cache

import joblib
from threadpoolctl import ThreadpoolController


def threaded_libraries() -> ThreadpoolController:
    """The threaded libraries of this process, looked for anew when a module has been loaded since: that takes 4 ms."""
    return _libraries(len(sys.modules))


@lru_cache(maxsize=1)
def _libraries(_n_modules: int) -> ThreadpoolController:
    return ThreadpoolController()


@contextlib.contextmanager
def limited_threads(n_threads: int | None) -> Iterator[None]:
    """Hold OpenMP and joblib to ``n_threads`` inside the block, and BLAS to one; None leaves them alone.

    The sums of BLAS depend on its threads, in the last bits; those of forests and boosting do not.
    """
    if n_threads is None:
        yield
        return
    limits = {"blas": 1, "openmp": n_threads}
    with threaded_libraries().limit(limits=limits), joblib.parallel_config(backend="threading", n_jobs=n_threads):
        yield
