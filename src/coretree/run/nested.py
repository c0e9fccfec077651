"""Fits on nested coresets of one tree, and their scores on rows that no fit has seen."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from sklearn.base import clone

from coretree.data.dataset import Dataset
from coretree.data.to_sklearn import to_sklearn
from coretree.errors import ConfigError, CoretreeError
from coretree.learn.models import named_estimator, sketch_for
from coretree.learn.scoring import check_scoring, weighted_score
from coretree.learn.standings import suits, tallied_score
from coretree.learn.weights import treatment
from coretree.run.build import Progress, source_name
from coretree.run.coreset_model import CoresetModel
from coretree.run.coreset_tree import CoresetTree
from coretree.run.estimators import CoresetClassifier, CoresetRegressor
from coretree.run.evaluate import evaluate_all
from coretree.run.executor import Executor
from coretree.run.fitting import PreparedOnce, effort, exactness
from coretree.run.frontier import Job
from coretree.run.held_inside import HeldInside
from coretree.run.rungs import drawn, sizes_of
from coretree.run.train import DEFAULT_SCORING
from coretree.tree.coresets import Coreset

Models: TypeAlias = Sequence[Any] | Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class Ladder:
    """One model, fitted on nested coresets: by rows, largest first."""

    sketch: str
    exact: bool
    calibrated: bool
    models: Mapping[int, CoresetModel]
    seconds: float

    @property
    def cores(self) -> dict[int, Coreset]:
        """What each was fitted on."""
        return {m: model.coreset_ for m, model in self.models.items()}

    @property
    def largest(self) -> int:
        """Rows of the largest coreset."""
        return next(iter(self.models))


def contenders(models: Models, tree: CoresetTree, seed: int, client: Any) -> dict[str, CoresetModel]:
    """Unfitted models on the tree, from names, estimators, or CoresetClassifier and CoresetRegressor as they are.

    Raises
    ------
    ConfigError
        No model, an unknown name, or something that is no estimator.
    """
    task = tree.recipe_.schema.task
    if task is None:
        raise ConfigError("models are compared by a target, and this tree was built without one: name it with target=.")
    if not isinstance(models, Mapping):
        if isinstance(models, str) or any(not isinstance(name, str) for name in models):
            raise ConfigError('give names in a list, ["logistic", "forest"], or estimators as {"my forest": ...}.')
        models = {name: named_estimator(name, task, seed=seed) for name in models}
    if not models:
        raise ConfigError("there is no model to compare: name at least one.")
    kind = CoresetClassifier if task == "classification" else CoresetRegressor
    found: dict[str, CoresetModel] = {}
    for name, given in models.items():
        estimator = named_estimator(given, task, seed=seed) if isinstance(given, str) else given
        if not hasattr(estimator, "fit"):
            raise ConfigError(f"model '{name}' is {type(estimator).__name__}, which has no fit().")
        if isinstance(estimator, CoresetModel):
            if not isinstance(estimator, kind):
                raise ConfigError(f"model '{name}' is a {type(estimator).__name__}, but the tree is for {task}.")
            found[name] = clone(estimator).set_params(tree=tree, client=client)
        else:
            found[name] = kind(estimator, tree=tree, random_state=seed, client=client)
    return found


def checked_scoring(scoring: str, task: str) -> str:
    """The score's name, if there is one and it is for the task.

    Raises
    ------
    ConfigError
    """
    if not suits(check_scoring(scoring), task):
        usual = DEFAULT_SCORING[task]
        raise ConfigError(f"'{scoring}' is no score for {task}; the usual one is '{usual}'.")
    return scoring


def checked_held_out(data: Dataset, tree: CoresetTree) -> None:
    """Refuse rows that the tree was built from: scores on them would flatter every model, and trees most.

    Raises
    ------
    ConfigError
    """
    settings, split = tree.manifest_.settings, tree.recipe_.split
    same_files = settings.get("data") is not None and settings.get("data") == data.to_dict()
    trained = source_name(data, tree.settings) == settings.get("source")
    if trained or (same_files and (data.selection is None or data.selection == split)):
        raise ConfigError(
            "data= holds rows that this tree was built from, and models are judged on rows outside every sketch. Split "
            "first, train, test = data.split(test=0.2), build on train and give test; or leave data= out."
        )


def sketch_of(model: CoresetModel, tree: CoresetTree) -> str:
    """The sketch that a model is fitted on."""
    return sketch_for(model._estimator(), tree.recipe_.offers) if model.objective == "auto" else model.objective


def check_weights(name: str, model: CoresetModel, core: Coreset) -> None:
    """Refuse, before anything is fitted, a model that cannot take the weights of its coreset.

    Raises
    ------
    ConfigError
    """
    form, w = treatment(model._estimator()), core.sample_weight
    if form.kind == "none" and not np.allclose(w, w[0], rtol=1e-6, atol=0.0):
        raise ConfigError(
            f"model '{name}': {form.reason}, and the {core.objective} rows weigh from {w.min():.4g} to {w.max():.4g}, "
            "so it would learn the sample, not the data. Leave it out, or take one whose fit has sample_weight: linear "
            "models, trees, forests, boosting, SVMs, naive Bayes."
        )


def climb(
    models: Mapping[str, CoresetModel],
    tree: CoresetTree,
    executor: Executor,
    *,
    size: int | None,
    steps: int,
    inside: HeldInside | None,
    sparse: bool = False,
    ranked: bool = False,
    progress: Progress | None = None,
) -> dict[str, Ladder]:
    """Fit every model on nested coresets of its sketch (see `sizes_of`); once where exact moments give the model.

    ``ranked``, where only the order of predictions is scored: the smaller fits need then no sharpening.
    """
    exact = {name: m.objective == "auto" and bool(exactness(m._estimator(), tree.root_)) for name, m in models.items()}
    sketches = {name: sketch_of(model, tree) for name, model in models.items()}
    sizes = {sketch: sizes_of(size, tree, sketch, steps, sparse=sparse) for sketch in dict.fromkeys(sketches.values())}
    if sparse:  # far fewer rows, hard to calibrate, would say nothing of how little the largest coreset loses
        sizes |= {sketch: sizes_of(size, tree, sketch, 2) for sketch in sizes if sketch in tree.totals_}
    cores = drawn(tree, sizes, inside)
    for name, model in models.items():
        if not exact[name]:
            check_weights(name, model, next(iter(cores[sketches[name]].values())))
    transformer = to_sklearn(tree.recipe_.preparation)
    chosen: dict[str, tuple[str, bool, dict[int, tuple[CoresetModel, Coreset]]]] = {}
    tasks: dict[tuple[str, int], Callable[[], Any]] = {}
    for name, model in models.items():
        sketch = sketches[name]
        # moments hold the rows that would be scored on, so inside the tree even those models are fitted on a sample
        once = exact[name] and inside is None
        own = dict(list(cores[sketch].items())[:1]) if once else cores[sketch]
        if exact[name] and inside is not None:
            model = clone(model).set_params(objective=sketch)
        chosen[name] = (sketch, once, {m: (clone(model), core) for m, core in own.items()})
    features = {(sketch, m): PreparedOnce(transformer) for sketch, own in cores.items() for m in own}
    every = [(name, m) for name, it in chosen.items() for m in it[2]]
    # those first that take longest
    for name, m in sorted(every, key=lambda each: -effort(models[each[0]]._estimator(), each[1])):
        fits = chosen[name][2]
        fit, core = fits[m]
        sharpen = not ranked or m == next(iter(fits))
        tasks[name, m] = fit._task_on(core, tree, features[sketches[name], m], sharpen=sharpen)
    fitted = _fitted(tasks, executor, progress)
    found = {}
    for name, (sketch, once, fits) in chosen.items():
        done = {m: fitted[name, m] for m in fits}
        found[name] = Ladder(
            "moments" if once else sketch,
            once,
            sketch in tree.totals_,
            {m: fit._taking(done[m][0], core, tree, transformer) for m, (fit, core) in fits.items()},
            sum(seconds for _, seconds in done.values()),
        )
    return found


@dataclass(frozen=True, eq=False)
class FitJob(Job):
    """One fit; it carries its rows, so that it outlives the worker it was sent to."""

    task: Callable[[], Any] = lambda: None
    what: str = ""


def fit_timed(job: Job, _frame: Any) -> tuple[Any, float]:
    """The fitted estimator, and the seconds that it took.

    Raises
    ------
    ConfigError
        The estimator fails; says which, and on how many rows.
    """
    assert isinstance(job, FitJob)
    began = time.perf_counter()
    try:
        return job.task(), time.perf_counter() - began
    except (CoretreeError, MemoryError):
        raise
    except Exception as error:
        raise ConfigError(f"{job.what} failed: {type(error).__name__}: {error}") from error


def _fitted(
    tasks: Mapping[tuple[str, int], Callable[[], Any]], executor: Executor, progress: Progress | None
) -> dict[tuple[str, int], tuple[Any, float]]:
    """Fits that do not wait for one another, side by side."""
    jobs = [
        FitJob(f"fit-{i:04d}", task=task, what=f"model '{name}' on {m:,} rows")
        for i, ((name, m), task) in enumerate(tasks.items())
    ]
    told = None if progress is None else lambda _, done, total: progress("compare", done, total)
    results = executor.run(jobs, fit_timed, None, told)
    return {key: results[job.name] for key, job in zip(tasks, jobs, strict=True)}


def scored(
    ladders: Mapping[str, Ladder],
    scoring: str,
    data: Dataset | None,
    inside: HeldInside | None,
    client: Any,
    progress: Progress | None,
) -> tuple[dict[str, dict[int, float]], int]:
    """Scores of every fit by model and rows, and how many rows they are from: one pass over ``data``, if any."""
    if data is not None:
        every = {f"{m}|{name}": model for name, ladder in ladders.items() for m, model in ladder.models.items()}
        judged = evaluate_all(every, data, client=client, progress=progress)
        out = {
            name: {m: tallied_score(judged[f"{m}|{name}"].metrics, scoring) for m in ladder.models}
            for name, ladder in ladders.items()
        }
        return out, next(iter(judged.values())).n_rows
    assert inside is not None
    rows = inside.rows()
    out = {name: {m: score_on(model, rows, scoring) for m, model in it.models.items()} for name, it in ladders.items()}
    return out, len(rows)


def score_on(model: CoresetModel, core: Coreset, scoring: str) -> float:
    """Weighted score on the rows of a coreset; NaN where the model cannot be scored so."""
    classes = getattr(model, "classes_", None)
    fitted: Any = model.estimator_
    try:
        return weighted_score(fitted, core.X, core.target, weights=core.sample_weight, scoring=scoring, classes=classes)
    except ConfigError:
        return float("nan")
