"""Trials of a search as jobs of an executor: what they share is sent once, what was found before is not done again."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pandas as pd
from sklearn.exceptions import FitFailedWarning

from coretree.errors import ConfigError
from coretree.learn.trials import TrialResult, Trials
from coretree.run.build import Progress
from coretree.run.executor import Executor, Work
from coretree.run.frontier import Job
from coretree.run.search_file import TrialFile, digest_of


@dataclass(frozen=True)
class Setting:
    """Parameters, and the sketch and size that they are tried on."""

    params: Mapping[str, Any]
    sketch: str
    size: int

    def key(self, fold: int) -> str:
        """Name of one trial in a file."""
        return f"{digest_of(dict(self.params))}-{self.sketch}-{self.size}-{fold}"


@dataclass(frozen=True)
class TrialJob(Job):
    """One setting on one fold."""

    params: Mapping[str, Any] = field(default_factory=dict)
    sketch: str = ""
    size: int = 0
    fold: int = 0
    keep: bool = False


@dataclass(frozen=True, eq=False)
class TrialWork:
    """Carries trials out on whatever they share."""

    trials: Trials

    def __call__(self, job: Job, frame: pd.DataFrame | None) -> TrialResult:  # noqa: ARG002
        """Carry one job out."""
        assert isinstance(job, TrialJob)
        return self.trials.run(job.params, job.sketch, job.size, job.fold, keep=job.keep)


class Runner:
    """Runs the trials of one search.

    Parameters
    ----------
    executor : Executor
    trials : Trials
    cv : int
    file : TrialFile
    error_score : float or "raise"
    progress : callable or None
    """

    def __init__(
        self,
        executor: Executor,
        trials: Trials,
        cv: int,
        file: TrialFile,
        error_score: float | str,
        progress: Progress | None,
    ) -> None:
        self.executor, self.trials, self.cv, self.file = executor, trials, cv, file
        self.error_score, self.progress = error_score, progress
        self.names = list(trials.scorers)
        self._work: Work[TrialResult] = TrialWork(trials)
        self._shared = False

    def scores(self, settings: Sequence[Setting]) -> list[list[TrialResult]]:
        """Results of each setting, fold by fold; those that the file knows are not tried again."""
        found: dict[str, TrialResult] = {}
        jobs, keys = [], {}
        for i, setting in enumerate(settings):
            for k in range(self.cv):
                name = f"trial-{i:05d}-{k}"
                keys[name] = (setting.key(k) if self.file.path is not None else "", setting.params)
                known = self.file.get(keys[name][0])
                if known is None:
                    jobs.append(TrialJob(name, None, (), setting.params, setting.sketch, setting.size, k))
                else:
                    found[name] = known

        def keep(job: Job, result: TrialResult) -> None:
            self.file.put(keys[job.name][0], result, keys[job.name][1])

        try:
            found |= self._run(jobs, "search", keep)
        finally:
            self.file.save()
        self._tell_failures(list(found.values()))
        return [[self._filled(found[f"trial-{i:05d}-{k}"]) for k in range(self.cv)] for i in range(len(settings))]

    def models(self, settings: Sequence[Setting]) -> list[list[Any]]:
        """Fitted models of each setting, fold by fold.

        Raises
        ------
        ConfigError
            One failed.
        """
        jobs = [
            TrialJob(f"model-{i:05d}-{k}", None, (), s.params, s.sketch, s.size, k, keep=True)
            for i, s in enumerate(settings)
            for k in range(self.cv)
        ]
        found = self._run(jobs, "refit the best on each fold", None)
        for result in found.values():
            if result.error:
                raise ConfigError(f"a model failed when it was fitted once more: {result.error}")
        return [[found[f"model-{i:05d}-{k}"].model for k in range(self.cv)] for i in range(len(settings))]

    def _run(
        self, jobs: Sequence[TrialJob], stage: str, keep: Callable[[Job, TrialResult], None] | None
    ) -> dict[str, TrialResult]:
        if not jobs:
            return {}
        if not self._shared:  # sent once, however many rounds there are
            self._work, self._shared = self.executor.share(self._work), True

        def done(_: Job, n_done: int, total: int) -> None:
            if self.progress is not None:
                self.progress(stage, n_done, total)

        return self.executor.run(jobs, self._work, None, done, keep)

    def _filled(self, result: TrialResult) -> TrialResult:
        """The score of a failed trial, as the user wants it."""
        if not result.error or self.error_score == "raise":
            return result
        return replace(result, scores=dict.fromkeys(self.names, float(self.error_score)))

    def _tell_failures(self, results: Sequence[TrialResult]) -> None:
        errors = [result.error for result in results if result.error]
        if not errors:
            return
        if self.error_score == "raise" or len(errors) == len(results):
            raise ConfigError(f"{len(errors)} of {len(results)} trials failed; the first with {errors[0]}")
        message = f"{len(errors)} of {len(results)} trials failed and score {self.error_score}. The first: {errors[0]}"
        warnings.warn(message, FitFailedWarning, stacklevel=4)
