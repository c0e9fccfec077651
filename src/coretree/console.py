"""What a person sees while a command runs: progress, warnings and errors on stderr, the result on stdout."""

from __future__ import annotations

import json
import shutil
import sys
import textwrap
import time
import traceback
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import click

from coretree.errors import CoretreeError, CoretreeWarning
from coretree.report.render import Fact, line, seconds

DEBUG = "coretree.debug"
RESUME = "coretree.resume"
STAGES = {
    "write": "writing the data",
    "profile": "pass 1: statistics",
    "sketch": "pass 2: coresets",
    "choose": "choosing a model",
    "compare": "fitting on nested coresets",
    "read all": "reading all rows",
    "evaluate": "judging held-out rows",
    "predict": "predicting",
}


def width(*, most: int = 110) -> int:
    """Columns of the terminal, or a readable number of them."""
    return min(most, shutil.get_terminal_size((100, 24)).columns)


def complain(kind: str, message: str) -> None:
    """One paragraph on stderr, wrapped to the terminal."""
    text = textwrap.fill(
        f"{kind}: {' '.join(message.split())}", width(), break_long_words=False, break_on_hyphens=False
    )
    click.echo(text, err=True)


class Console:
    """Listens to a run: facts go to stdout (or are kept for ``--json``), progress to stderr.

    Parameters
    ----------
    as_json : bool
        Print no facts; `finish` prints one JSON object instead.
    """

    def __init__(self, *, as_json: bool = False) -> None:
        self.as_json = as_json
        self._bar: Any = None
        self._task: Any = None
        self._stage, self._began = "", 0.0

    def say(self, fact: Fact) -> None:
        """Print a fact."""
        if not self.as_json:
            self._hide()
            click.echo(line(fact, width=width() if sys.stdout.isatty() else 0))

    def text(self, text: str) -> None:
        """Print lines that belong to the result, such as a table."""
        if not self.as_json:
            self._hide()
            click.echo(text)

    def progress(self, stage: str, done: int, total: int) -> None:
        """Show how far a stage is: a bar on a terminal, else one line when it is done."""
        if stage != self._stage:
            self._hide()
            self._stage, self._began = stage, time.perf_counter()
        if sys.stderr.isatty():
            self._draw(stage, done, total)
        elif done >= total:
            took = seconds(time.perf_counter() - self._began)
            click.echo(f"{STAGES.get(stage, stage)}: {total} of {total} done in {took}", err=True)
        if done >= total:
            self._hide()

    def finish(self, result: Mapping[str, Any]) -> None:
        """Print the whole result for machines, where that was asked for."""
        self._hide()
        if self.as_json:
            click.echo(json.dumps(result, indent=2, ensure_ascii=False, allow_nan=False, default=str))

    def close(self) -> None:
        """Take the bar away."""
        self._hide()

    def _draw(self, stage: str, done: int, total: int) -> None:
        if self._bar is None:
            from rich.console import Console as Terminal
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

            columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
            self._bar = Progress(*columns, console=Terminal(stderr=True), transient=True)
            self._bar.start()
            self._task = self._bar.add_task(STAGES.get(stage, stage), total=total)
        self._bar.update(self._task, completed=done, total=total)

    def _hide(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
        self._stage = ""


@contextmanager
def warnings_told(*, debug: bool) -> Iterator[None]:
    """Our own warnings as one paragraph each, once; those of libraries only with ``--debug``."""
    told: set[str] = set()
    with warnings.catch_warnings():
        if not debug:
            warnings.simplefilter("ignore")
        warnings.simplefilter("always", CoretreeWarning)
        shown = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], *rest: Any, **more: Any) -> None:
            if not issubclass(category, CoretreeWarning):
                shown(message, category, *rest, **more)
            elif str(message) not in told:
                told.add(str(message))
                complain("warning", str(message))

        warnings.showwarning = show
        yield


class Commands(click.Group):
    """A group of commands whose every failure is one paragraph and an exit code, never a traceback by surprise."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; see the exit codes in ``coretree --help``."""
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, click.Abort, BrokenPipeError):
            raise
        except KeyboardInterrupt:
            resume = "what was finished is kept. Run the same command again to resume."
            complain("interrupted", resume if ctx.meta.get(RESUME) else "nothing was written.")
            ctx.exit(130)
        except CoretreeError as error:
            self._trace(ctx)
            complain("error", str(error))
            ctx.exit(error.exit_code)
        except MemoryError:
            self._trace(ctx)
            complain(
                "error", "this process ran out of memory. Use smaller leaves (coreset.leaf_bytes) or fewer threads."
            )
            ctx.exit(1)
        except Exception as error:
            self._trace(ctx)
            complain(
                "error",
                f"{type(error).__name__}: {error}. This is a bug in coretree: please report it with what "
                "the same command prints with --debug.",
            )
            ctx.exit(1)

    @staticmethod
    def _trace(ctx: click.Context) -> None:
        if ctx.meta.get(DEBUG):
            traceback.print_exc()
