"""The learning curve of one model over nested coresets: what more rows, or another model, would bring."""

from __future__ import annotations

import math
from typing import Any

from sklearn.dummy import DummyClassifier, DummyRegressor

from coretree.data.dataset import Dataset
from coretree.errors import ConfigError
from coretree.learn.diagnosis import Diagnosis, Point, diagnosis
from coretree.learn.extrapolate import Extrapolation, extrapolate
from coretree.learn.scoring import RANKINGS
from coretree.run.build import Progress
from coretree.run.coreset_model import CoresetModel
from coretree.run.coreset_tree import CoresetTree
from coretree.run.executor import executor_for
from coretree.run.held_inside import HeldInside
from coretree.run.nested import (
    checked_held_out,
    checked_scoring,
    climb,
    contenders,
    score_on,
    scored,
    sketch_of,
)

LOSSES = {
    "neg_log_loss": "log loss",
    "neg_brier_score": "Brier score",
    "neg_mean_squared_error": "mean squared error",
    "neg_root_mean_squared_error": "root mean squared error",
    "neg_mean_absolute_error": "mean absolute error",
}


def diagnose(
    model: Any,
    tree: CoresetTree,
    data: Dataset | None = None,
    *,
    size: int | None = None,
    scoring: str | None = None,
    steps: int = 4,
    confidence: float = 0.95,
    seed: int = 0,
    client: Any = None,
    progress: Progress | None = None,
) -> Diagnosis:
    """Fit a model on nested coresets and say whether it over- or underfits, and whether a larger coreset would help.

    Parameters
    ----------
    model : name, estimator, CoresetClassifier or CoresetRegressor
        As in ``compare``; not touched.
    tree : CoresetTree
        Built; the sizes are prefixes of one of its sketches, so no data are read for them.
    data, size, steps, confidence, seed, client, progress
        See ``compare``.
    scoring : str, optional
        A scikit-learn score name; the loss shown is 1 less the score, or the loss itself for a "neg_..." one. Default:
        "neg_log_loss" for models with probabilities, "roc_auc" for other classifiers, "neg_mean_squared_error" for
        quantities.

    Returns
    -------
    Diagnosis
        With ``table`` (train and validation loss by rows), ``fit``, ``larger_helps`` and a ``sentence``.

    Raises
    ------
    ConfigError
        As ``compare`` does.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> rng = np.random.default_rng(0)
    >>> frame = pd.DataFrame(rng.normal(size=(4000, 2)), columns=["a", "b"])
    >>> frame["y"] = np.where(frame["a"] + rng.logistic(size=4000) > 0, "yes", "no")
    >>> train, test = Dataset.from_pandas(frame, target="y").split(test=0.25)
    >>> found = diagnose("logistic", CoresetTree(size=800).build(train), test)
    >>> found.fit, found.larger_helps, list(found.table.index)
    ('underfits', False, [100, 200, 400, 800])
    """
    wanted = contenders({"model": model}, tree, seed, client)
    own, task = wanted["model"], str(tree.recipe_.schema.task)
    score = checked_scoring(scoring or _usual(own, task), task)
    guess: Any = DummyClassifier(strategy="prior") if task == "classification" else DummyRegressor()
    models = {**wanted, "guess": type(own)(guess, tree=tree, objective=sketch_of(own, tree), client=client)}
    inside = HeldInside(tree, seed) if data is None else None
    if data is not None:
        checked_held_out(data, tree)
    ladders = climb(
        models,
        tree,
        executor_for(client),
        size=size,
        steps=steps,
        inside=inside,
        ranked=score in RANKINGS,
        progress=progress,
    )
    scores, n_scored = scored(ladders, score, data, inside, client, progress)
    ladder = ladders["model"]
    train = {m: score_on(ladder.models[m], core, score) for m, core in ladder.cores.items()}
    if any(map(math.isnan, [*train.values(), *scores["model"].values()])):
        raise ConfigError(f"{score} is undefined for {type(own._estimator()).__name__} on these rows; give scoring=.")
    curve = scores["model"]
    points = [Point(m, _loss(train[m], score), _loss(curve[m], score)) for m in curve]
    ahead = _ahead(curve, tree.n_rows_, ladder.exact, not ladder.calibrated, confidence)
    return diagnosis(
        points,
        _loss(next(iter(scores["guess"].values())), score),
        Extrapolation(_loss(ahead.value, score), _loss(ahead.high, score), _loss(ahead.low, score)),
        loss=LOSSES.get(score, f"1 - {score}"),
        n_rows=tree.n_rows_,
        scored_rows=n_scored,
        exact=ladder.exact,
    )


def _usual(model: CoresetModel, task: str) -> str:
    if task == "regression":
        return "neg_mean_squared_error"
    return "neg_log_loss" if hasattr(model._estimator(), "predict_proba") else "roc_auc"


def _loss(score: float, scoring: str) -> float:
    return -score if scoring in LOSSES else 1.0 - score


def _ahead(curve: dict[int, float], full: int, exact: bool, gains: bool, confidence: float) -> Extrapolation:
    """The score on all rows; that of the fit itself where it is one on all rows."""
    if exact:
        (value,) = curve.values()
        return Extrapolation(value, value, value)
    return extrapolate(list(curve), list(curve.values()), full, gains=gains, confidence=confidence)
