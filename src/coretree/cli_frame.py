"""What every command shares: its options, where the work is done, and a console for as long as it runs."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import click

from coretree.console import DEBUG, RESUME, Console, warnings_told
from coretree.report.render import Ears

F = TypeVar("F", bound=Callable[..., Any])


def _debug(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    ctx.meta[DEBUG] = ctx.meta.get(DEBUG, False) or value


def common(function: F) -> F:
    """Options that every command has."""
    for option in (
        click.option(
            "--debug", is_flag=True, expose_value=False, callback=_debug, help="Show tracebacks and all warnings."
        ),
        click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of text."),
    ):
        function = option(function)
    return function


def placed(function: F) -> F:
    """Options that say where the work is done."""
    for option in (
        click.option("--threads", type=click.IntRange(1), help="Threads in this process, or of each worker."),
        click.option("--workers", type=click.IntRange(1), help="Start so many worker processes on this machine."),
        click.option("--scheduler", metavar="tcp://HOST:PORT", help="Work on the Dask cluster at this address."),
    ):
        function = option(function)
    return function


@contextmanager
def listening(ctx: click.Context, as_json: bool, *, resumable: bool = False) -> Iterator[tuple[Console, Ears]]:
    """A console, and what the run layer tells it."""
    debug = bool(ctx.meta.get(DEBUG))
    ctx.meta[RESUME] = resumable
    # Before Dask and OpenMP are loaded: no log lines between ours, and threads that wait without burning a busy core.
    if not debug:
        os.environ.setdefault("DASK_LOGGING__DISTRIBUTED", "critical")
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    console = Console(as_json=as_json)
    with warnings_told(debug=debug):
        try:
            yield console, Ears(console.say, console.progress)
        finally:
            console.close()


def cluster_of(scheduler: str | None, workers: int | None, threads: int | None) -> dict[str, Any]:
    """Options as the section ``[cluster]`` of a job; empty where none was given."""
    if scheduler is not None and workers is not None:
        raise click.UsageError("--scheduler and --workers exclude each other: a cluster has its own workers.")
    if scheduler is not None:
        return {"kind": "address", "scheduler": scheduler}
    given = {"workers": workers, "threads": threads}
    found = {key: value for key, value in given.items() if value is not None}
    return {"kind": "local", **found} if workers is not None else found
