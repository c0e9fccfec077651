"""One BLAS thread for as long as anybody needs it."""

from __future__ import annotations

import threading

from threadpoolctl import threadpool_info, threadpool_limits

from coretree.run.blas import one_blas_thread


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
