"""Ways to a Dask cluster: processes on this machine, an address, or the client that is running already."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import dask
from distributed import Client, LocalCluster, default_client, get_client

from coretree.errors import ClusterError, SchedulerError, StoreError
from coretree.run.executor import available_cores
from coretree.run.on_dask import DaskExecutor
from coretree.run.workers import ask
from coretree.tree.store import SharedStore

CONNECT_S = 5.0
# Dask makes glibc hand back every larger array at once, and each new one then begins with page faults: a quarter of a
# build. Left to its own rule glibc keeps what is used again and again; the peak is the same.
KEEP_MEMORY = {"distributed.nanny.pre-spawn-environ.MALLOC_TRIM_THRESHOLD_": None}
_lock = threading.Lock()
_connected: dict[str, DaskExecutor] = {}


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
        Address of Dask's dashboard, e.g. "127.0.0.1:8787"; a free port of loopback by default.
    """
    with dask.config.set(KEEP_MEMORY):
        cluster = LocalCluster(
            n_workers=workers or available_cores(),
            threads_per_worker=threads,
            memory_limit=memory_limit,
            host="127.0.0.1",
            dashboard_address=dashboard or "127.0.0.1:0",
            processes=True,
        )
    try:
        with Client(cluster, set_as_default=False) as client:
            yield DaskExecutor(client)
    finally:
        cluster.close()


def connect(address: str) -> DaskExecutor:
    """Executor at a scheduler's address; asking again gives the same connection for as long as it lasts.

    Raises
    ------
    SchedulerError
        Nobody answers there.
    """
    with _lock:
        known = _connected.get(address)
        if known is not None and known.client.status == "running":
            return known
        try:
            found = DaskExecutor(Client(address, timeout=CONNECT_S, set_as_default=False))
        except (OSError, ValueError, RuntimeError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise SchedulerError(
                f"{address}: no Dask scheduler answers ({reason}). Start one with: "
                "dask scheduler --host 127.0.0.1 --port 8786; or leave --scheduler out to run here."
            ) from None
        _connected[address] = found
        return found


def running() -> DaskExecutor | None:
    """Executor on the client that is already there (inside a task: the worker's own), None where there is none."""
    for find in (get_client, default_client):
        try:
            client = find()
        except ValueError:
            continue
        if not client.asynchronous:
            return DaskExecutor(client)
    return None


def check_shared(client: Client, store: SharedStore, version: str) -> None:
    """Make sure that every worker has this version of coretree and reaches the store, which is made ready here.

    Raises
    ------
    ClusterError
        A worker lacks one of them; it is named.
    StoreError
        The store cannot be written, or does not decide between writers.
    """
    store.check()  # before it is sent: what was found out travels with it
    for worker, answer in ask(client, _probe, store).items():
        if isinstance(answer, BaseException):
            raise ClusterError(
                f"worker {worker} cannot import coretree ({type(answer).__name__}: {answer}). "
                f"Install coretree {version} in the environment of every worker."
            )
        found, fault = answer
        if found != version:
            raise ClusterError(
                f"worker {worker} has coretree {found}, this process {version}. Install the same version everywhere."
            )
        if fault:
            raise ClusterError(
                f"worker {worker} does not see {store} ({fault.rstrip('.')}). "
                "Put the tree on storage that all workers share."
            )


def _probe(store: SharedStore) -> tuple[str, str]:
    from coretree import __version__

    try:
        store.reach()
    except StoreError as error:
        return __version__, str(error)
    return __version__, ""
