"""The course of a search: rounds of trials, the table they give, and the last word of all rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from coretree.data.dataset import Dataset
from coretree.errors import ConfigError
from coretree.learn.scorers import WeightedScorer
from coretree.learn.search_table import fold_means, ranks, results_table
from coretree.learn.trials import TrialResult
from coretree.run.build import Progress
from coretree.run.coreset_tree import CoresetTree
from coretree.run.search_full import full_scores
from coretree.run.search_ground import Ground
from coretree.run.search_runner import Runner, Setting

FloatArray = npt.NDArray[np.float64]


@dataclass(eq=False)
class Rounds:
    """Trials so far.

    Parameters
    ----------
    runner : Runner
    masses : mapping of sketch to (cv,) float array
        Weight of the rows that each fold is scored on.
    decides : str
        Name of the score by which settings go on to the next round.
    """

    runner: Runner
    masses: Mapping[str, FloatArray]
    decides: str
    settings: list[Setting] = field(default_factory=list)
    results: list[list[TrialResult]] = field(default_factory=list)
    rounds: list[int] = field(default_factory=list)

    def add(self, settings: Sequence[Setting]) -> FloatArray:
        """Try settings as one round more; their means."""
        found = self.runner.scores(settings)
        number = self.rounds[-1] + 1 if self.rounds else 0
        self.settings += settings
        self.results += found
        self.rounds += [number] * len(settings)
        scores = np.array([[r.scores[self.decides] for r in row] for row in found])
        return fold_means(scores, np.array([self.masses[s.sketch] for s in settings]))[0]

    def halve(self, settings: Sequence[Setting], plan: Sequence[tuple[int, int]]) -> None:
        """All settings on few rows, the best on more; equal ones go on in the order they were given."""
        left, means = list(settings), np.zeros(len(settings))
        for n, size in plan:
            if len(left) > n:
                order = np.argsort(ranks(means), kind="stable")[:n]
                left = [left[i] for i in sorted(order.tolist())]
            left = [Setting(s.params, s.sketch, size) for s in left]
            means = self.add(left)

    def table(self, *, rounds: bool) -> dict[str, Any]:
        """``cv_results_``; with the number of the round and its rows where there are several."""
        masses = np.array([self.masses[s.sketch] for s in self.settings])
        out = results_table([s.params for s in self.settings], self.results, masses, self.runner.names)
        if rounds:
            out["iter"] = np.array(self.rounds)
            out["n_resources"] = np.array([s.size for s in self.settings])
        return out

    def best(self, table: Mapping[str, Any], name: str, n: int = 1) -> list[int]:
        """Rows of the table with the best means of the last round, best first, the first of equals.

        Raises
        ------
        ConfigError
            No setting has a score.
        """
        last = (
            np.flatnonzero(np.array(self.rounds) == self.rounds[-1]) if "iter" in table else np.arange(len(self.rounds))
        )
        means = table[f"mean_test_{name}"][last]
        if np.isnan(means).all():
            raise ConfigError(
                "no setting has a score: on every fold it is undefined. Use fewer folds or another score."
            )
        order = last[np.argsort(ranks(means), kind="stable")]
        return [int(i) for i in order[:n] if not np.isnan(table[f"mean_test_{name}"][i])]


def validated(
    board: Rounds,
    chosen: Sequence[int],
    table: dict[str, Any],
    ground: Ground,
    tree: CoresetTree,
    data: Dataset,
    scorer: WeightedScorer,
    client: Any,
    progress: Progress | None,
) -> tuple[int, int]:
    """Score the chosen settings on all rows of their folds, and write that into the table.

    Returns
    -------
    (int, int)
        Row of the best setting by these scores, and the number of rows read.

    Raises
    ------
    ConfigError
        Folds are not those of the hash alone, so that a row outside the sketch has none.
    """
    if ground.note:
        raise ConfigError(
            f'validate="full" needs folds by hash alone, but {ground.note}. Use fewer folds, or a larger tree.'
        )
    settings, file, cv = [board.settings[i] for i in chosen], board.runner.file, ground.rule.cv
    keys = [[f"full-{scorer.name}-{s.key(k)}" if file.path is not None else "" for k in range(cv)] for s in settings]
    known = [[file.get(key) for key in row] for row in keys]
    if any(one is None for row in known for one in row):
        models = board.runner.models(settings)
        scores, masses, n_rows = full_scores(
            models, data, tree.recipe_, ground.rule, ground.prepare, scorer, client, progress
        )
        for i, setting in enumerate(settings):
            for k in range(cv):
                facts = {"score": float(scores[i, k]), "weight": float(masses[k]), "rows": float(n_rows)}
                file.put(keys[i][k], TrialResult(facts), setting.params)
        file.save()
    else:
        facts_of = [[one.scores for one in row if one is not None] for row in known]
        scores = np.array([[facts["score"] for facts in row] for row in facts_of])
        masses = np.array([facts["weight"] for facts in facts_of[0]])
        n_rows = int(facts_of[0][0]["rows"])
    means, deviations = fold_means(scores, np.broadcast_to(masses, scores.shape))
    if np.isnan(means).all():
        raise ConfigError('validate="full": the score is undefined on all rows of every fold. Use another one.')
    columns = {f"split{k}_full": scores[:, k] for k in range(cv)} | {"mean_full": means, "std_full": deviations}
    for name, values in {**columns, "rank_full": ranks(means).astype(np.float64)}.items():
        table[name] = np.full(len(board.settings), np.nan)
        table[name][list(chosen)] = values
    return chosen[int(np.argmin(ranks(means)))], n_rows
