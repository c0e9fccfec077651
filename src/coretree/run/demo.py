"""The demo: late arrivals of New York flights, from Parquet to a judged model, beside a plain sample and all rows."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline

import coretree
from coretree.config import Job
from coretree.config_template import starter_toml
from coretree.data.columns import Coded
from coretree.data.dataset import Dataset
from coretree.data.encode import to_frame
from coretree.data.to_sklearn import to_sklearn
from coretree.learn.models import model_names, named_estimator
from coretree.report import render
from coretree.report.render import Ears, Fact
from coretree.run import from_job, pipeline
from coretree.run.coreset_tree import CoresetTree
from coretree.run.estimators import CoresetClassifier
from coretree.run.evaluate import Evaluation, evaluate_all
from coretree.run.executor import Executor
from coretree.run.fitting import fitted_as
from coretree.run.flights import CARRIED, KNOWN_TOO_LATE, TARGET, write_flights
from coretree.run.folder import RunFolder
from coretree.run.tasks import Reading
from coretree.run.train import Choice

SIZE = 10_000
LEAF_BYTES = 1 << 20
FOLDS = 5


def demo_sections(out: Path, *, size: int = SIZE, seed: int = 0) -> dict[str, dict[str, Any]]:
    """The demo's job: what `coretree init` would have asked for."""
    return {
        "data": {
            "train": str((out / "data").absolute()),
            "target": TARGET,
            "task": "classification",
            "time": "scheduled",
            "drop": list(KNOWN_TOO_LATE),
            "ignore": [*CARRIED, "month"],
        },
        "coreset": {"size": size, "leaf_bytes": f"{LEAF_BYTES >> 20}MiB", "seed": seed},
        "models": {"cv": FOLDS},
        "output": {"folder": str(out.absolute()) + "-train"},
    }


def demo(
    out: Path,
    ears: Ears,
    *,
    months: int = 12,
    size: int = SIZE,
    seed: int = 0,
    cluster: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Run the demo in a folder; data and tree that are there already are used again.

    Parameters
    ----------
    out : Path
        Made where needed. Holds ``data/``, ``job.toml``, ``tree/``, ``model/`` and ``result.json`` afterwards.
    ears : Ears
    months : int
        Months of 2013 to take, 1 to 12.
    size : int
        Rows that the models are fitted on.
    seed : int
    cluster : mapping, optional
        Section ``[cluster]`` of a job.

    Raises
    ------
    OutputExistsError
        The folder holds something that is no demo of the same settings.
    ConfigError
        The demo's data are not installed.
    """
    sections = {**demo_sections(out, size=size, seed=seed), "cluster": dict(cluster or {})}
    job = Job.model_validate(sections)
    folder = RunFolder(out)
    values = {**pipeline.plain(job), "data": {**pipeline.plain(job)["data"], "months": months}}
    folder.check(values, again=True)
    with from_job.executor(job) as executor, folder.started(values, coretree.__version__, again=True):
        data = _data(job, out, months, ears)
        (out / "job.toml").write_text(starter_toml(demo_sections(out, size=size, seed=seed)), encoding="utf-8")
        train, test = from_job.sides(job, data)
        tree = pipeline.grow(job, folder, train, executor, ears)
        return _compare(job, folder, data, tree, train, test, executor, ears)


def _data(job: Job, out: Path, months: int, ears: Ears) -> Dataset:
    """Write the flights where they are not there yet, and scan them."""
    began = time.perf_counter()
    folder = out / "data"
    reused = folder.exists()
    if not reused:
        ears.progress("write", 0, 1)
        write_flights(folder, months)
        ears.progress("write", 1, 1)
    data = from_job.dataset(job)
    verb = "found again" if reused else "written"
    text = f"New York flights {verb} as Parquet: {pipeline.data_text(data)}"
    ears.say(Fact("data", text, time.perf_counter() - began))
    ears.say(
        Fact(
            "features",
            f"{', '.join(data.schema.of_kind('numeric', 'boolean', 'datetime', 'categorical'))}; left "
            f"out, as nobody knows them before departure: {', '.join(KNOWN_TOO_LATE)}",
        )
    )
    return data


def logistic() -> LogisticRegression:
    """The one logistic regression that is fitted three times: on the coreset, on a plain sample, on all rows."""
    return LogisticRegression(solver="newton-cholesky", tol=1e-6)


def _compare(
    job: Job,
    folder: RunFolder,
    data: Dataset,
    tree: CoresetTree,
    train: Dataset,
    test: Dataset,
    executor: Executor,
    ears: Ears,
) -> dict[str, Any]:
    models = {
        name: named_estimator(name, "classification", seed=job.coreset.seed) for name in model_names("classification")
    }
    choice = pipeline.pick(job, tree, executor, ears, {**models, "logistic": logistic()})
    uniform = CoresetClassifier(logistic(), tree=tree, objective="uniform", client=executor).fit()
    began = time.perf_counter()
    full = fit_on_everything(tree, train, ears)
    full_s = time.perf_counter() - began
    found = evaluate_all(
        {**choice.models, "uniform": uniform, "full": full}, test, client=executor, progress=ears.progress
    )
    _say_held_out(choice, found, tree, full_s, ears)
    result = {
        "folder": str(folder.path),
        "data": pipeline.data_facts(data),
        "tree": pipeline.tree_facts(tree),
        "model": choice.name,
        "leaderboard": choice.leaderboard.to_dict(),
        "held_out": found[choice.name].to_dict(),
        "compared": {name: one.to_dict() for name, one in found.items()},
    }
    if folder.result.exists():
        ears.say(Fact("note", f"model and result of the earlier demo in {folder.path} are replaced"))
    pipeline.save(folder, choice.model, result)
    names = ("data", "job.toml", "tree", "model", "result.json")
    ears.say(Fact("saved", ", ".join(str(folder.path / name) for name in names)))
    return result


def fit_on_everything(tree: CoresetTree, train: Dataset, ears: Ears) -> CoresetClassifier:
    """The same logistic regression on every training row, read into memory: what the coreset stands for."""
    recipe = tree.recipe_
    transformer = to_sklearn(recipe.preparation)
    reading, X, y = Reading.of(train), [], []
    leaves = train.scan.leaves
    for done, leaf in enumerate(leaves, 1):
        for columns, _ in reading.rows(leaf, None):
            if not len(columns):  # a leaf may be held out as a whole
                continue
            assert isinstance(columns.target, Coded)
            X.append(transformer.transform(to_frame(columns)))
            y.append(np.array(columns.target.levels)[columns.target.codes])
        ears.progress("read all", done, len(leaves))
    fitted = logistic().fit(np.vstack(X), np.concatenate(y))
    whole = Pipeline([("prepare", transformer), ("model", fitted)])
    return fitted_as(CoresetClassifier(logistic()), whole, recipe.schema, recipe.clean, recipe.classes)


def _say_held_out(
    choice: Choice, found: Mapping[str, Evaluation], tree: CoresetTree, full_s: float, ears: Ears
) -> None:
    best, core, plain, full = (found[name] for name in (choice.name, "logistic", "uniform", "full"))
    auc = {name: one.metrics["roc_auc"] for name, one in found.items()}
    rows = render.leaderboard([(name, auc[name]) for name in choice.models], "roc_auc")
    ears.say(Fact("held-out", f"{best.n_rows:,} rows: {rows}  (ROC AUC on every held-out row)", best.seconds))
    ears.say(Fact("best", f"{choice.name}: {render.headline(best.metrics)}"))
    sample = f"logistic on a plain sample of {min(tree.size, tree.n_rows_):,} rows"
    ears.say(Fact("uniform", f"{sample}: {_scores(plain)}; on the coreset: {_scores(core)}"))
    text = f"logistic on all {tree.n_rows_:,} rows: {_scores(full)}; the coreset's AUC is {_apart(auc)}"
    ears.say(Fact("full data", text, full_s))


def _scores(found: Evaluation) -> str:
    return ", ".join(render.score(name, found.metrics[name]) for name in ("roc_auc", "log_loss"))


def _apart(auc: Mapping[str, float]) -> str:
    core, plain = (abs(auc[name] - auc["full"]) for name in ("logistic", "uniform"))
    return f"{core:.5f} away from it, the plain sample's {plain:.5f}"
