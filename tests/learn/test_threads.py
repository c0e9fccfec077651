"""One BLAS thread for as long as anybody needs it, and limits of one thread that are no limits of another."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager

import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from coretree.learn.threads import limited_threads, one_blas_thread


def blas_threads() -> set[int]:
    return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}


def test_the_last_one_to_leave_restores_the_setting() -> None:
    with threadpool_limits(limits=2, user_api="blas"):
        before = blas_threads()
        entered, leave = threading.Event(), threading.Event()

        def hold() -> None:
            with one_blas_thread():
                entered.set()
                leave.wait(timeout=10)

        other = threading.Thread(target=hold)
        with one_blas_thread():
            other.start()
            assert entered.wait(timeout=10)
            assert blas_threads() == {1}
            leave.set()
            other.join(timeout=10)
            assert blas_threads() == {1}  # the first one still holds it
        assert blas_threads() == before
        try:
            with one_blas_thread():
                raise RuntimeError
        except RuntimeError:
            assert blas_threads() == before


def in_another_thread(call: Callable[[], None]) -> None:
    with ThreadPoolExecutor(1) as pool:
        pool.submit(call).result(timeout=60)


@pytest.mark.parametrize("limit", [one_blas_thread, lambda: limited_threads(3)])
def test_it_holds_whichever_thread_enters(limit: Callable[[], AbstractContextManager[None]]) -> None:
    """threadpoolctl 3.8 listens to the first thread that ever set a limit, and to no other."""
    with threadpool_limits(limits=2, user_api="blas"):
        with limit():
            pass

        def other() -> None:
            with limit():
                assert blas_threads() == {1}
            assert blas_threads() == {2}

        in_another_thread(other)
        with limit():
            assert blas_threads() == {1}
        assert blas_threads() == {2}


def openmp_threads() -> set[int]:
    return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "openmp"}


def test_openmp_is_held_in_its_own_thread_alone() -> None:
    import sklearn.ensemble  # noqa: F401  (brings OpenMP)

    before = openmp_threads()
    with limited_threads(3):
        assert openmp_threads() == {3}

        def other() -> None:
            with limited_threads(5):
                assert openmp_threads() == {5}

        in_another_thread(other)
        assert openmp_threads() == {3}
        assert blas_threads() == {1}
    assert openmp_threads() == before
