"""Models that people train, compared honestly: nested coresets, rows outside of them, and what all rows would give."""

from __future__ import annotations

import math
import time
from typing import Any

from coretree.data.dataset import Dataset
from coretree.errors import ConfigError
from coretree.learn.scoring import RANKINGS
from coretree.learn.standings import Comparison, Standing, ranked, standing
from coretree.run.build import Progress
from coretree.run.coreset_tree import CoresetTree
from coretree.run.executor import executor_for
from coretree.run.held_inside import HeldInside
from coretree.run.nested import (
    Ladder,
    Models,
    checked_held_out,
    checked_scoring,
    climb,
    contenders,
    scored,
)
from coretree.run.train import DEFAULT_SCORING

HELD_OUT, INSIDE = "held-out rows", "uniform rows of the tree that no fit has seen"


def compare(
    models: Models,
    tree: CoresetTree,
    data: Dataset | None = None,
    *,
    size: int | None = None,
    scoring: str | None = None,
    steps: int = 3,
    confidence: float = 0.95,
    seed: int = 0,
    client: Any = None,
    progress: Progress | None = None,
) -> Comparison:
    """Rank models by the scores that fits on *all* rows are expected to have.

    On a coreset linear models lose next to nothing and trees lose a little, so scores as they are would be biased
    against trees. Each model is fitted on the sketch made for it at ``steps`` nested sizes, and scored on rows outside
    every sketch; its curve is extrapolated to all rows, with a band. The sizes are all, a sixth, a 36th, ..., or nearer
    where rows are few: near sizes cost most and say least. Linear models on calibrated weights, and those that exact
    moments give, are not extrapolated: the band of the former comes from fits on all and on half of their rows.

    Parameters
    ----------
    models : sequence of names, or mapping of name to estimator
        Names as in ``choose``; estimators, or CoresetClassifier and CoresetRegressor with an objective or prior.
    tree : CoresetTree
        Built.
    data : Dataset, optional
        Held-out rows, such as the second side of ``Dataset.split``: all of them are scored in one streaming pass for
        all models. Default: a quarter of the tree's rows is kept out of every fit, and its uniform ones are scored on.
    size : int, optional
        Rows of the largest coreset; all that the tree keeps by default.
    scoring : str, optional
        A scikit-learn score name; "roc_auc" or "r2" by default.
    steps : int
        Nested sizes of models that are extrapolated; with more of them bands are narrower and more fits are made.
    confidence : float
        Of the bands.
    seed : int
        For estimators without a ``random_state``, and for the rows kept out.
    client, progress
        See ``CoresetTree.build``.

    Returns
    -------
    Comparison
        With ``table``, ``best``, ``undecided`` and the fitted ``models``.

    Raises
    ------
    ConfigError
        An unknown model or score, a model that takes no weights, a size that the tree does not keep, ``data`` that
        the tree was built from, or no model that could be scored.

    Notes
    -----
    Curves are taken to rise with the rows. One that turns down beyond the largest coreset is not foreseen: a forest
    may do worse with all rows than with some of them where the held-out rows are of a later time.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> rng = np.random.default_rng(0)
    >>> frame = pd.DataFrame(rng.normal(size=(4000, 2)), columns=["a", "b"])
    >>> frame["y"] = np.where(frame["a"] * frame["b"] + 0.3 * rng.normal(size=4000) > 0, "yes", "no")
    >>> train, test = Dataset.from_pandas(frame, target="y").split(test=0.25)
    >>> found = compare(["logistic", "tree"], CoresetTree(size=800).build(train), test)
    >>> found.best, list(found.table.index), found.scored_rows
    ('tree', ['tree', 'logistic'], 997)
    """
    began = time.perf_counter()
    if not 0 < confidence < 1:
        raise ConfigError(f"confidence={confidence} must lie between 0 and 1, both excluded (0.95 is usual).")
    wanted = contenders(models, tree, seed, client)
    task = str(tree.recipe_.schema.task)
    score = checked_scoring(scoring or DEFAULT_SCORING[task], task)
    inside = HeldInside(tree, seed) if data is None else None
    if data is not None:
        checked_held_out(data, tree)
    ladders = climb(
        wanted,
        tree,
        executor_for(client),
        size=size,
        steps=steps,
        inside=inside,
        sparse=True,
        ranked=score in RANKINGS,
        progress=progress,
    )
    scores, n_scored = scored(ladders, score, data, inside, client, progress)
    rows = ranked(
        [_standing(name, ladder, scores[name], tree.n_rows_, confidence, score) for name, ladder in ladders.items()]
    )
    if math.isnan(rows[0].value):
        raise ConfigError(f"no model could be scored by {score}: {rows[0].name}: {rows[0].note}.")
    fitted = {row.name: ladders[row.name].models[ladders[row.name].largest] for row in rows}
    return Comparison(
        rows=rows,
        scoring=score,
        confidence=confidence,
        n_rows=tree.n_rows_,
        scored_rows=n_scored,
        scored_on=INSIDE if data is None else HELD_OUT,
        models=fitted,
        seconds=time.perf_counter() - began,
    )


def _standing(
    name: str, ladder: Ladder, scores: dict[int, float], full: int, confidence: float, scoring: str
) -> Standing:
    note = ""
    if ladder.exact:
        note = "exact: fitted from moments of all rows"
    elif any(map(math.isnan, scores.values())):
        final = ladder.models[ladder.largest].estimator_[-1]
        why = "" if hasattr(final, "predict_proba") else f", and {type(final).__name__} predicts no probabilities"
        note = f"{scoring} is undefined{why}"
    elif ladder.calibrated:
        note = "calibrated to all rows: not extrapolated"
    return standing(
        name,
        ladder.sketch,
        scores,
        full,
        gains=not ladder.calibrated,
        exact=ladder.exact,
        confidence=confidence,
        seconds=ladder.seconds,
        note=note,
    )
