"""The main job: build the tree of a job file, choose and fit a model, judge it on every held-out row, save it all."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import coretree
from coretree.config import Job
from coretree.data.dataset import Dataset
from coretree.data.profile import Profile
from coretree.errors import ConfigError, StoreError
from coretree.report import render
from coretree.report.render import Ears, Fact
from coretree.run import from_job
from coretree.run.coreset_tree import CoresetTree
from coretree.run.estimators import load_model
from coretree.run.evaluate import Evaluation, evaluate
from coretree.run.executor import Executor
from coretree.run.folder import RunFolder, write_json
from coretree.run.predict import predict
from coretree.run.train import Choice, choose


def build(job: Job, out: Path, ears: Ears) -> dict[str, Any]:
    """Build the tree of a job inside its run folder; interrupted, it continues; built, it is left as it is.

    Raises
    ------
    OutputExistsError
        The folder holds something else, or a finished run.
    CoretreeError
        Whatever is wrong with the data or the cluster.
    """
    folder = RunFolder(out)
    values = plain(job)
    folder.check(values)
    data = _opened(job, ears)
    with from_job.executor(job) as executor, folder.started(values, coretree.__version__):
        train, _ = from_job.sides(job, data)
        tree = grow(job, folder, train, executor, ears)
    ears.say(Fact("saved", f"{folder.tree}; train on it with `coretree train`"))
    return {"folder": str(out), "data": data_facts(data), "tree": tree_facts(tree)}


def train(job: Job, out: Path, ears: Ears) -> dict[str, Any]:
    """Build where needed, choose by weighted cross-validation, evaluate on every held-out row, save.

    Returns
    -------
    dict
        What ``result.json`` holds.

    Raises
    ------
    OutputExistsError
        The folder holds a finished run or something else; nothing was touched.
    CoretreeError
        Whatever is wrong with the data, the models or the cluster.
    """
    folder = RunFolder(out)
    values = plain(job)
    folder.check(values)
    data = _opened(job, ears)
    _check_models(job, data)
    with from_job.executor(job) as executor, folder.started(values, coretree.__version__):
        train_side, test_side = from_job.sides(job, data)
        tree = grow(job, folder, train_side, executor, ears)
        choice = pick(job, tree, executor, ears)
        found = evaluate(choice.model, test_side, client=executor, progress=ears.progress)
        ears.say(Fact("held-out", f"{choice.name} on {found.n_rows:,} rows: {held_out_text(found)}", found.seconds))
        result = {
            "folder": str(out),
            "data": data_facts(data),
            "tree": tree_facts(tree),
            "model": choice.name,
            "leaderboard": choice.leaderboard.to_dict(),
            "held_out": found.to_dict(),
        }
        save(folder, choice.model, result)
    ears.say(Fact("saved", f"{folder.model}, {folder.result}, {folder.tree}"))
    return result


def evaluate_run(out: Path, path: str | None, executor: Executor, ears: Ears) -> tuple[dict[str, Any], Evaluation]:
    """Judge the model of a finished run on its own held-out rows, or on every row of other data."""
    folder = RunFolder(out)
    started = folder.finished()
    job = Job.model_validate(started["job"])
    model = load_model(folder.model)
    data = from_job.dataset(job, path)
    if path is None:
        split = CoresetTree.open(folder.tree).recipe_.split
        if split is None:
            raise StoreError(f"{folder.tree}: a tree without held-out rows. Give rows to judge on with --data.")
        data = from_job.held_out(data, split)
    found = evaluate(model, data, client=executor, progress=ears.progress)
    name = started["result"]["model"]
    what = "held-out rows" if path is None else "rows"
    ears.say(Fact("model", f"{name}, {folder.model}"))
    ears.say(Fact("judged", f"{found.n_rows:,} {what} of {data.scan.where}: {held_out_text(found)}", found.seconds))
    facts = {
        "folder": str(out),
        "model": name,
        "data": data.scan.where,
        **found.to_dict(),
        "per_class": found.per_class,
    }
    return facts, found


def predict_run(
    out: Path, path: str, target: str, columns: tuple[str, ...], executor: Executor, ears: Ears
) -> dict[str, Any]:
    """Predict a data set with the model of a finished run, streamed into a new folder of Parquet files."""
    folder = RunFolder(out)
    job = Job.model_validate(folder.finished()["job"])
    model = load_model(folder.model)
    data = Dataset.from_parquet(
        path, clean=model.clean_, hive=job.data.partition_columns, leaf_bytes=int(job.coreset.leaf_bytes)
    )
    started = time.perf_counter()
    n_rows = predict(model, data, out=target, columns=columns, client=executor, progress=ears.progress)
    seconds = time.perf_counter() - started
    ears.say(Fact("predicted", f"{n_rows:,} rows of {data.scan.where} into {target}", seconds))
    return {"rows": n_rows, "data": data.scan.where, "out": target, "seconds": seconds}


def _opened(job: Job, ears: Ears) -> Dataset:
    """Scan the data, before anything is written."""
    began = time.perf_counter()
    data = from_job.dataset(job)
    ears.say(Fact("data", data_text(data), time.perf_counter() - began))
    return data


def _check_models(job: Job, data: Dataset) -> None:
    """Models and score against the task, which may be known only from the files."""
    task = data.schema.task or "classification"
    found = job.models.problems_for(task)
    if found:
        raise ConfigError(f"{data.scan.where}: target '{data.schema.target}' means {task}. {'. '.join(found)}.")


def grow(job: Job, folder: RunFolder, data: Dataset, executor: Executor, ears: Ears) -> CoresetTree:
    """Build the job's tree in its run folder, and say what it is made of."""
    began = time.perf_counter()
    ears.say(Fact("plan", plan_text(data, job.coreset.fan_in, executor)))
    tree = from_job.new_tree(job, folder.tree).build(data, client=executor, progress=ears.progress)
    ears.say(Fact("clean", clean_text(tree.profile_)))
    ears.say(Fact("split", f"{tree.n_rows_:,} rows to learn from, {job.split.test:.0%} held out by {job.split.by}"))
    ears.say(Fact("coreset", coreset_text(tree), time.perf_counter() - began))
    return tree


def pick(
    job: Job, tree: CoresetTree, executor: Executor, ears: Ears, estimators: Mapping[str, Any] | None = None
) -> Choice:
    """Compare estimators (by default the models that the job names) and say how they did."""
    from coretree.learn.models import model_names

    began = time.perf_counter()
    names = job.models.names or model_names(tree.recipe_.schema.task or "classification")
    ears.progress("choose", 0, 1)
    choice = choose(
        names if estimators is None else estimators,
        tree,
        size=job.coreset.fit_size,
        scoring=job.models.scoring,
        cv=job.models.cv,
        seed=job.coreset.seed,
        client=executor,
    )
    ears.progress("choose", 1, 1)
    ears.say(Fact("models", models_text(choice), time.perf_counter() - began))
    return choice


def save(folder: RunFolder, model: Any, result: Mapping[str, Any]) -> None:
    """The model, then the result: a folder with a result is complete."""
    if folder.model.exists():  # of a run that was interrupted between the two, or of an earlier demo
        shutil.rmtree(folder.model)
    model.save(folder.model, result=result)
    write_json(folder.result, result)


def plain(job: Job) -> dict[str, Any]:
    """A job as JSON keeps it, with absolute paths, so that a run can be evaluated from anywhere."""
    values = job.model_dump(mode="json", by_alias=True, exclude_none=True)
    values["data"]["train"] = [p if "://" in p else str(Path(p).absolute()) for p in job.data.train]
    return values


def data_text(data: Dataset) -> str:
    """What was found, as a sentence."""
    scan = data.scan
    return (
        f"{render.count(scan.n_files, 'file')}, {render.count(scan.n_row_groups, 'row group')}, {scan.n_rows:,} rows, "
        f"{render.count(len(scan.schema.features), 'feature')}, {render.size(scan.n_bytes)} decoded; "
        f"target '{scan.schema.target}' ({scan.schema.task})"
    )


def plan_text(data: Dataset, fan_in: int, executor: Executor) -> str:
    """How the work is cut, as a sentence."""
    leaves = data.scan.leaves
    largest = render.size(max(leaf.n_bytes for leaf in leaves))
    return f"{len(leaves)} leaves of at most {largest}, merged {fan_in} at a time, on {executor!r}"


def clean_text(profile: Profile) -> str:
    """What cleaning dropped and changed, as a sentence."""
    counts = dict(profile.changes.counts)
    read = sum(n for (what, _), n in counts.items() if what == "rows read")
    said = [
        f"{n:,} {what.replace('dropped: no target', 'without a target dropped')}" + (f" ('{column}')" if column else "")
        for (what, column), n in counts.items()
        if what != "rows read"
    ]
    return f"{read:,} rows read; {', '.join(said) if said else 'nothing had to be dropped or changed'}"


def coreset_text(tree: CoresetTree) -> str:
    """How far the data was reduced, as a sentence."""
    summary = tree.summary_
    where = "" if summary is None else f", tree of {summary.n_nodes} nodes, {render.size(summary.n_bytes)} on disk"
    made = " (built before, left as it is)" if summary is not None and summary.n_made == 0 else ""
    return f"{tree.n_rows_:,} rows -> {min(tree.size, tree.n_rows_):,} weighted rows{where}{made}"


def models_text(choice: Choice) -> str:
    """The leaderboard, as a sentence."""
    board = choice.leaderboard
    rows = [(row.name, None if row.mean != row.mean else row.mean) for row in board.rows]
    label = render.SCORE_NAMES.get(board.scoring, board.scoring)
    return f"{render.leaderboard(rows, board.scoring)}  ({board.cv}-fold weighted {label}); best: {board.best}"


def held_out_text(found: Evaluation) -> str:
    """The numbers that matter most."""
    return render.headline(found.metrics)


def data_facts(data: Dataset) -> dict[str, Any]:
    """Numbers about the data, for ``result.json``."""
    scan = data.scan
    return {
        "where": scan.where,
        "files": scan.n_files,
        "row_groups": scan.n_row_groups,
        "rows": scan.n_rows,
        "bytes": scan.n_bytes,
        "leaves": len(scan.leaves),
        "target": scan.schema.target,
        "task": scan.schema.task,
        "features": {f.name: f.kind for f in scan.schema.features},
        "ignored": dict(scan.schema.ignored),
        "skipped_files": [list(bad) for bad in scan.bad_files],
    }


def tree_facts(tree: CoresetTree) -> dict[str, Any]:
    """Numbers about the tree, for ``result.json``."""
    summary = tree.summary_
    assert summary is not None
    return {
        "root": tree.name_,
        "rows": tree.n_rows_,
        "size": tree.size,
        "nodes": summary.n_nodes,
        "nodes_made": summary.n_made,
        "bytes": summary.n_bytes,
        "changes": {f"{what} {column}".strip(): n for (what, column), n in tree.profile_.changes.counts},
    }
