"""The command line: one verb for each step, progress on stderr, the result on stdout."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from coretree import __version__
from coretree.cli_frame import cluster_of, common, listening, placed
from coretree.cli_tree import compare, drift, tree, update
from coretree.console import Commands

if TYPE_CHECKING:
    from coretree.config import Job

EPILOG = """\b
A first run:
  coretree demo
  coretree init data/ --target late > job.toml
  coretree check job.toml
  coretree train job.toml --out run
  coretree compare run --models logistic,forest
  coretree predict run --data new/ --out predictions

\b
The second day:
  coretree update run
  coretree drift run --current 2026-11
  coretree tree verify run

Exit codes: 0 done, 1 failed, 2 wrong usage, job file or data, 3 drift beyond the threshold, 130 interrupted. Progress
goes to stderr, the result to stdout.
"""


@click.group(cls=Commands, epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="coretree")
def cli() -> None:
    """Train ordinary scikit-learn models on data that does not fit in memory.

    Parquet is read in parts, each part shrinks to a small weighted coreset, a tree on disk merges them, and one
    worker trains. Quality is measured on every held-out row.
    """


@cli.command(short_help="The whole job on flights that are installed with it.")
@click.option("--out", type=click.Path(path_type=Path), default="coretree-demo", show_default=True, help="Folder.")
@click.option("--months", type=click.IntRange(1, 12), default=12, show_default=True, help="Months of flights to take.")
@click.option("--size", type=click.IntRange(100), help="Rows to fit on.  [default: 10,000]")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Seed of samples and models.")
@placed
@common
@click.pass_context
def demo(
    ctx: click.Context, /, out: Path, months: int, size: int | None, seed: int, as_json: bool, **where: Any
) -> None:
    """Late arrivals of 336,776 New York flights: the whole job in about a minute, on data that is installed with it."""
    with listening(ctx, as_json, resumable=True) as (console, ears):
        from coretree.run import demo as show

        cluster = cluster_of(**where)
        console.finish(show.demo(out, ears, months=months, size=size or show.SIZE, seed=seed, cluster=cluster))


@cli.command(short_help="Print a job file to start from.", epilog="\b\ncoretree init data/ --target late > job.toml")
@click.argument("path", nargs=-1, required=True)
@click.option("--target", required=True, help="Column to predict.")
@click.option("--time", help="Column with the time of a row.")
@common
@click.pass_context
def init(ctx: click.Context, /, path: tuple[str, ...], target: str, time: str | None, as_json: bool) -> None:
    """Print a commented job file for the Parquet files at PATH; reads nothing but footers."""
    with listening(ctx, as_json) as (console, _):
        from coretree.run.check import starter

        text, facts = starter(path, target, time)
        console.text(text.rstrip("\n"))
        console.finish({"job": text, **facts})


@cli.command(
    short_help="Check a job, its files and its workers.",
    epilog="\b\ncoretree check job.toml --scheduler tcp://127.0.0.1:8786",
)
@click.argument("job", type=click.Path(path_type=Path))
@placed
@common
@click.pass_context
def check(ctx: click.Context, /, job: Path, as_json: bool, **where: Any) -> None:
    """Check a job file, every footer and the memory of the workers; nothing is written."""
    with listening(ctx, as_json) as (console, ears):
        found = _job(job, None, **where)
        from coretree.run.check import check as look

        console.finish(look(found, ears.say))


@cli.command(short_help="Build the coreset tree of a job.", epilog="\b\ncoretree build job.toml --out run --workers 4")
@click.argument("job", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="Folder of the run.  [default: output.folder of the job]")
@click.option("--seed", type=click.IntRange(0), help="Seed of the samples.  [default: coreset.seed of the job]")
@placed
@common
@click.pass_context
def build(ctx: click.Context, /, job: Path, out: Path | None, seed: int | None, as_json: bool, **where: Any) -> None:
    """Build the coreset tree of a job, and stop before any model; an interrupted build continues."""
    with listening(ctx, as_json, resumable=True) as (console, ears):
        found = _job(job, seed, **where)
        from coretree.run import pipeline

        console.finish(pipeline.build(found, out or Path(found.output.folder), ears))


@cli.command(short_help="Build, choose, judge and save a model.", epilog="\b\ncoretree train job.toml --out run")
@click.argument("job", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="Folder of the run.  [default: output.folder of the job]")
@click.option("--seed", type=click.IntRange(0), help="Seed of samples and models.  [default: coreset.seed of the job]")
@placed
@common
@click.pass_context
def train(ctx: click.Context, /, job: Path, out: Path | None, seed: int | None, as_json: bool, **where: Any) -> None:
    """Build the tree, choose a model by cross-validation, judge it on every held-out row, save it."""
    with listening(ctx, as_json, resumable=True) as (console, ears):
        found = _job(job, seed, **where)
        from coretree.run import pipeline

        console.finish(pipeline.train(found, out or Path(found.output.folder), ears))


@cli.command(
    short_help="Judge the model of a finished run.",
    epilog="\b\ncoretree evaluate run\ncoretree evaluate run --data new/",
)
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--data", help="Parquet rows to judge on, with the target.  [default: the run's held-out rows]")
@placed
@common
@click.pass_context
def evaluate(ctx: click.Context, /, run: Path, data: str | None, as_json: bool, **where: Any) -> None:
    """Judge the model of a finished run on its held-out rows, or on other data."""
    with listening(ctx, as_json) as (console, ears):
        from coretree.report import render
        from coretree.run import from_job, pipeline

        with from_job.executor_at(cluster_of(**where)) as executor:
            facts, found = pipeline.evaluate_run(run, data, executor, ears)
        if found.task == "classification":
            console.text("\n" + render.per_class(found.per_class))
            console.text("\n" + render.confusion(found.labels, found.metrics["confusion"]))
        console.finish(facts)


@cli.command(
    short_help="Predict a data set with a finished run.",
    epilog="\b\ncoretree predict run --data new/ --out predictions --columns id",
)
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--data", required=True, help="Parquet folder, file or pattern to predict.")
@click.option("--out", required=True, help="New folder for the predictions.")
@click.option("--columns", default="", metavar="A,B", help="Columns of the data to carry along.")
@placed
@common
@click.pass_context
def predict(ctx: click.Context, /, run: Path, data: str, out: str, columns: str, as_json: bool, **where: Any) -> None:
    """Predict a data set of any size with the model of a finished run, part by part."""
    with listening(ctx, as_json) as (console, ears):
        from coretree.run import from_job, pipeline

        names = tuple(name.strip() for name in columns.split(",") if name.strip())
        with from_job.executor_at(cluster_of(**where)) as executor:
            console.finish(pipeline.predict_run(run, data, out, names, executor, ears))


for command in (compare, update, drift, tree):
    cli.add_command(command)


def _job(path: Path, seed: int | None, **where: Any) -> Job:
    """The job file, with what the options say instead."""
    # the run layer is imported after this: a mistake in the file is said at once
    from coretree.config import Job, load_job

    cluster = cluster_of(**where)
    job = load_job(path)
    if cluster:
        if set(cluster) == {"threads"}:  # more threads of whatever the job names
            cluster = {**job.cluster.model_dump(exclude_none=True), **cluster}
        job = Job.model_validate({**job.model_dump(by_alias=True, exclude_none=True), "cluster": cluster})
    if seed is None:
        return job
    # the split keeps its own seed, so that the scores of two seeds can be compared
    return job.model_copy(update={"coreset": job.coreset.model_copy(update={"seed": seed})})


def main() -> None:
    """Entry point of the ``coretree`` command."""
    cli(prog_name="coretree")
