"""Finished trials of a search in a JSON file, so that an interrupted search goes on where it stopped."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import joblib

from coretree.errors import ConfigError
from coretree.learn.trials import TrialResult

FORMAT = "coretree-search"
SAVE_S = 1.0  # between two writes, so that many quick trials do not wait for the disk


class TrialFile:
    """Scores of finished trials; several searches share a file, each under its own name.

    Parameters
    ----------
    path : path or None
        None: nothing is remembered.
    name : str
        Digest of everything that scores depend on besides the trial's own settings.
    clock : callable
        Seconds; decides only how often the file is written.

    Raises
    ------
    ConfigError
        The file is not one of searches.
    """

    def __init__(
        self, path: str | os.PathLike[str] | None, name: str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.path, self.clock = None if path is None else Path(path), clock
        self._searches = _read(self.path)
        self._trials = self._searches.setdefault(name, {})
        self._saved, self._new = clock(), False

    def get(self, key: str) -> TrialResult | None:
        """What was found before, or None."""
        found = self._trials.get(key)
        if found is None:
            return None
        scores = {name: float("nan") if score is None else score for name, score in found["scores"].items()}
        return TrialResult(scores, found["fit_s"], found["score_s"])

    def put(self, key: str, result: TrialResult, params: Mapping[str, Any]) -> None:
        """Remember a finished trial; its settings are written beside it for the reader. Failed ones are tried anew."""
        if self.path is None or result.error:
            return
        scores = {name: None if math.isnan(score) else score for name, score in result.scores.items()}
        said = {name: repr(value) for name, value in params.items()}
        self._trials[key] = {"params": said, "scores": scores, "fit_s": result.fit_s, "score_s": result.score_s}
        self._new = True
        if self.clock() - self._saved >= SAVE_S:
            self.save()

    def save(self) -> None:
        """Write what is new, whole or not at all."""
        if self.path is None or not self._new:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        beside = self.path.with_name(f"{self.path.name}.{os.getpid()}.part")
        text = json.dumps({"format": FORMAT, "version": 1, "searches": self._searches}, indent=1, allow_nan=False)
        beside.write_text(text, encoding="utf-8")
        os.replace(beside, self.path)
        self._saved, self._new = self.clock(), False


def _read(path: Path | None) -> dict[str, dict[str, Any]]:
    if path is None or not path.exists():
        return {}
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        value = None
    if not isinstance(value, dict) or value.get("format") != FORMAT:
        raise ConfigError(
            f"{path}: resume names a file that does not hold searches. Give another path; it is left as it is."
        )
    return dict(value["searches"])


def digest_of(*parts: Any) -> str:
    """Name of some settings: equal in every process that has equal ones.

    Raises
    ------
    ConfigError
        A part has no value that could be compared, such as a function defined on the spot.

    Examples
    --------
    >>> digest_of({"C": 1.0}) == digest_of({"C": 1.0}) != digest_of({"C": 2.0})
    True
    """
    try:
        return str(joblib.hash(parts))
    except Exception as error:
        raise ConfigError(
            f"resume needs settings that can be compared between processes, but {error}. Use a scorer or function "
            "that is defined in a module, or leave resume out."
        ) from error
