"""A Dask cluster of processes on this machine, for as long as a ``with`` block lasts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from distributed import Client, LocalCluster

from coretree.run.executor import available_cores
from coretree.run.on_dask import DaskExecutor


@contextmanager
def local_cluster(
    workers: int | None = None, *, threads: int = 1, memory_limit: str | int = "auto", dashboard: str | None = None
) -> Iterator[DaskExecutor]:
    """Start worker processes on loopback, yield an executor, and stop them again.

    Parameters
    ----------
    workers : int, optional
        Processes; default: one a core.
    threads : int
        Threads in each. One is best: numpy work then never shares a process.
    memory_limit : str or int
        Of each process, e.g. "1GiB".
    dashboard : str, optional
        Address of Dask's dashboard, e.g. "127.0.0.1:8787"; none by default.
    """
    cluster = LocalCluster(
        n_workers=workers or available_cores(),
        threads_per_worker=threads,
        memory_limit=memory_limit,
        host="127.0.0.1",
        dashboard_address=dashboard,
        processes=True,
    )
    try:
        with Client(cluster, set_as_default=False) as client:
            yield DaskExecutor(client)
    finally:
        cluster.close()
