"""A run's folder: what is in it, whether it may be continued, and that a finished one is never written over.

::

    run.json       the job, written first: an unfinished run of the same job continues, any other is refused
    tree/          the coreset tree; every finished node is kept
    model/         the fitted model, without pickle
    result.json    what was found, written last: it says that the run is finished
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from coretree.errors import ClusterError, ConfigError, OutputExistsError, StoreError

FORMAT = "coretree-run"
# What the tree depends on; everything else of a job may change between an interrupted run and its continuation.
FIXED = ("data", "clean", "split", "prepare", "coreset")


@dataclass(frozen=True)
class RunFolder:
    """Paths of a run."""

    path: Path

    @property
    def job(self) -> Path:
        """The job as it was started."""
        return self.path / "run.json"

    @property
    def tree(self) -> Path:
        """The coreset tree."""
        return self.path / "tree"

    @property
    def model(self) -> Path:
        """The fitted model."""
        return self.path / "model"

    @property
    def result(self) -> Path:
        """What was found."""
        return self.path / "result.json"

    def check(self, job: Mapping[str, Any], *, again: bool = False) -> bool:
        """Whether there is an unfinished run of this job to continue (with ``again``: or a finished one to redo).

        Touches nothing.

        Raises
        ------
        OutputExistsError
            Something else is there: a finished run, a run of another job, or files that are no run at all.
        """
        if not self.path.exists():
            return False
        if self.path.is_dir() and not any(self.path.iterdir()):
            return False
        if self.result.exists() and not again:
            raise OutputExistsError(
                f"{self.path}: a finished run is here already. Name another folder with --out (or output.folder in the "
                "job file), or remove this one; nothing was changed."
            )
        if not self.job.exists():
            raise OutputExistsError(
                f"{self.path}: exists already and is no run of coretree. Name another folder with --out (or "
                "output.folder in the job file); nothing was changed."
            )
        started = self.read()["job"]
        changed = [name for name in FIXED if started.get(name) != job.get(name)]
        if changed:
            raise OutputExistsError(
                f"{self.path}: a run of another job is here; [{'], ['.join(changed)}] differ. Name another "
                "folder with --out, or remove this one; nothing was changed."
            )
        return True

    def read(self) -> dict[str, Any]:
        """What ``run.json`` says.

        Raises
        ------
        StoreError
            There is none, or it is not one of ours.
        """
        try:
            found = json.loads(self.job.read_text(encoding="utf-8"))
        except OSError as error:
            raise StoreError(
                f"{self.path}: no run of coretree is here ({error.strerror}: run.json). Give the folder that "
                "`coretree train` wrote."
            ) from None
        except ValueError:
            raise StoreError(f"{self.job}: damaged; it is not JSON. Remove the folder and train again.") from None
        if not isinstance(found, dict) or found.get("format") != FORMAT:
            raise StoreError(f"{self.job}: not a run of coretree. Give the folder that `coretree train` wrote.")
        return found

    @contextmanager
    def started(self, job: Mapping[str, Any], version: str, *, again: bool = False) -> Iterator[None]:
        """Make or continue the folder for the length of a ``with`` block.

        What an interruption or a lost cluster leaves is kept, to be continued; after any other error a folder that was
        made here is removed again, so that nothing half-written stays.
        """
        resumed = self.check(job, again=again)
        existed = self.path.exists()
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(
                f"{self.path}: cannot be made ({error.strerror}). Name another folder with --out."
            ) from None
        if not resumed:
            write_json(self.job, {"format": FORMAT, "coretree": version, "job": job})
        try:
            yield
        except (KeyboardInterrupt, ClusterError, SystemExit):
            raise
        except BaseException:
            if not resumed:
                for path in self.path.iterdir():  # it was empty or not there: all of it is this run's
                    shutil.rmtree(path) if path.is_dir() else path.unlink()
                if not existed:
                    self.path.rmdir()
            raise

    def finished(self) -> dict[str, Any]:
        """The result of a finished run.

        Raises
        ------
        ConfigError
            The run was interrupted before it had a model.
        """
        started = self.read()
        if not self.result.exists():
            raise ConfigError(
                f"{self.path}: this run has no model yet. Run the same `coretree train` again to finish it."
            )
        return {**started, "result": json.loads(self.result.read_text(encoding="utf-8"))}


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write a file so that it is there whole or not at all."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False, default=str) + "\n"
    beside = path.with_name(f".{path.name}.part-{os.getpid()}")
    try:
        with open(beside, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    except OSError as error:
        raise StoreError(f"{path}: cannot be written ({error.strerror}).") from error
    finally:
        beside.unlink(missing_ok=True)
