"""The commands for a stored tree: update it, compare its windows, or models on it, look at it, check it, remove."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import click

from coretree.cli_frame import cluster_of, common, listening, placed
from coretree.console import complain
from coretree.report.render import Fact

DRIFTED = 3  # exit code of `coretree drift` where a column moved beyond the threshold

stored = click.argument("path", metavar="PATH")


@click.command(
    short_help="Bring a tree in line with its files.",
    epilog="\b\ncoretree update run\ncoretree update flights.tree --data data/ --vanished keep",
)
@stored
@click.option("--data", metavar="PATTERN", help="Parquet folder or pattern.  [default: what the tree was built from]")
@click.option(
    "--vanished",
    type=click.Choice(["drop", "keep"]),
    default="drop",
    show_default=True,
    help="What to do with leaves whose files are gone.",
)
@placed
@common
@click.pass_context
def update(
    ctx: click.Context,
    /,
    path: str,
    data: str | None,
    vanished: Literal["drop", "keep"],
    as_json: bool,
    **where: Any,
) -> None:
    """Read the new and the changed files of a tree, and nothing else; the root is that of a whole new build.

    PATH is the folder of a tree, its URL, or the folder of a run that holds one. The recipe stays as it is; a warning
    says where new rows no longer fit it.
    """
    with listening(ctx, as_json, resumable=True) as (console, ears):
        from coretree.run import tree_verbs
        from coretree.run.from_job import executor_at

        with executor_at(cluster_of(**where)) as executor:
            console.finish(tree_verbs.update(path, data, vanished, executor, ears))


@click.command(
    short_help="Compare two windows of a tree.",
    epilog="\b\ncoretree drift run --current 2013-12\n"
    "coretree drift run --reference 2013-01..2013-07 --current 2013-07.. --threshold 0.1",
)
@stored
@click.option("--current", required=True, metavar="START..END", help="The window to judge.")
@click.option("--reference", metavar="START..END", help="What to judge it by.  [default: all that it does not touch]")
@click.option(
    "--threshold",
    type=click.FloatRange(0, min_open=True),
    default=0.25,
    show_default=True,
    help="Excess of the stability index from which a column has drifted.",
)
@common
@click.pass_context
def drift(
    ctx: click.Context, /, path: str, current: str, reference: str | None, threshold: float, as_json: bool
) -> None:
    """Say what shifted between two windows, by the statistics that every leaf keeps; no data are read.

    PATH is the folder of a tree, its URL, or the folder of a run that holds one. A window is START..END (the end is
    outside, either may be left out), a period such as 2013-06, or column=value of partition folders; leaves that touch
    it count whole. Exit code 3: a column moved beyond the threshold, and by more than chance explains.
    """
    with listening(ctx, as_json) as (console, ears):
        from coretree.run import tree_verbs

        facts, found = tree_verbs.drift(path, current, reference, threshold)
        console.text(str(found))
        beyond = ", ".join(facts["exceeds"]) or "no column"
        ears.say(Fact("beyond", f"{beyond} moved by {threshold:g} or more"))
        console.finish(facts)
        if facts["exceeds"]:
            ctx.exit(DRIFTED)


@click.command(
    short_help="Rank models on a tree.",
    epilog="\b\ncoretree compare run\n"
    "coretree compare run --models logistic,forest --scoring neg_log_loss --out report.json\n"
    "coretree compare flights.tree --data 'next-year/*.parquet'",
)
@stored
@click.option("--models", metavar="A,B", help="Names of models.  [default: all that there are for the task]")
@click.option("--data", metavar="PATTERN", help="Parquet rows to score on.  [default: the tree's held-out rows]")
@click.option("--inside", is_flag=True, help="Score on rows of the tree, kept out of every fit; reads no data.")
@click.option("--scoring", metavar="NAME", help="A score of scikit-learn's.  [default: roc_auc, or r2]")
@click.option("--size", type=click.IntRange(1), help="Rows of the largest coreset.  [default: all that the tree keeps]")
@click.option("--steps", type=click.IntRange(2), default=3, show_default=True, help="Nested sizes: all, a sixth, ...")
@click.option(
    "--confidence",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=0.95,
    show_default=True,
    help="Of the bands.",
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Seed of the models.")
@click.option("--out", type=click.Path(path_type=Path), help="New JSON file for the report.")
@placed
@common
@click.pass_context
def compare(
    ctx: click.Context,
    /,
    path: str,
    models: str | None,
    data: str | None,
    inside: bool,
    scoring: str | None,
    size: int | None,
    steps: int,
    confidence: float,
    seed: int,
    out: Path | None,
    as_json: bool,
    **where: Any,
) -> None:
    """Rank models by the scores that fits on all rows of a tree are expected to have, each with a band.

    PATH is the folder of a tree, its URL, or the folder of a run that holds one. Every model is fitted on nested
    coresets and scored on rows that no fit has seen.
    """
    if inside and data is not None:
        raise click.UsageError("--inside and --data exclude each other: rows are the tree's own, or others.")
    with listening(ctx, as_json) as (console, ears):
        from coretree.run.compare_stored import compare_stored
        from coretree.run.from_job import executor_at

        names = None if models is None else [name.strip() for name in models.split(",") if name.strip()]
        how = {"size": size, "scoring": scoring, "steps": steps, "confidence": confidence, "seed": seed}
        with executor_at(cluster_of(**where)) as executor:
            facts, found = compare_stored(path, names, data, out, executor, ears, inside=inside, **how)
        console.text(str(found))
        if out is not None:
            ears.say(Fact("saved", str(out)))
        console.finish(facts)


@click.group(short_help="Look at a tree, check it, clean it up, remove from it.")
def tree() -> None:
    """Look at a stored tree, check it, clean it up, or remove from it.

    PATH is the folder of a tree, its URL, or the folder of a run that holds one.
    """


@tree.command(short_help="Levels, sizes, times, storage.")
@stored
@click.option("--leaves", is_flag=True, help="List every leaf with its rows, bytes and times.")
@common
@click.pass_context
def show(ctx: click.Context, /, path: str, leaves: bool, as_json: bool) -> None:
    """Print levels, sizes, times, storage and history of the tree at PATH."""
    with listening(ctx, as_json) as (console, ears):
        from coretree.run import tree_verbs

        console.finish(tree_verbs.show(path, ears, leaves=leaves))


@tree.command(short_help="Check every checksum, name and sum.")
@stored
@common
@click.pass_context
def verify(ctx: click.Context, /, path: str, as_json: bool) -> None:
    """Read every object of the tree at PATH and check it; exit code 1 if anything is wrong."""
    with listening(ctx, as_json) as (console, ears):
        from coretree.run import tree_verbs

        facts = tree_verbs.verify(path, ears)
        console.finish(facts)
        if not facts["ok"]:
            n = len(facts["problems"])
            complain(
                "error",
                f"{facts['path']}: {n} {'thing is' if n == 1 else 'things are'} wrong with this tree. Delete the "
                "objects that are named and run `coretree update`: only they are made again.",
            )
            ctx.exit(1)


@tree.command(short_help="Delete what the tree no longer needs.")
@stored
@click.option("--dry-run", is_flag=True, help="Only say what would go.")
@common
@click.pass_context
def gc(ctx: click.Context, /, path: str, dry_run: bool, as_json: bool) -> None:
    """Delete what the tree at PATH no longer needs; not while another process builds it for the first time."""
    with listening(ctx, as_json, resumable=True) as (console, ears):
        from coretree.run import tree_verbs

        console.finish(tree_verbs.gc(path, ears, dry_run=dry_run))


@tree.command(short_help="Compare the leaves of two trees.")
@stored
@click.argument("other", metavar="OTHER")
@common
@click.pass_context
def diff(ctx: click.Context, /, path: str, other: str, as_json: bool) -> None:
    """Say which leaves the tree at OTHER has added, changed or removed against the one at PATH."""
    with listening(ctx, as_json) as (console, ears):
        from coretree.run import tree_verbs

        console.finish(tree_verbs.diff(path, other, ears))


@tree.command(
    short_help="Remove files, folders or rows from a tree.",
    epilog="\b\ncoretree tree remove run --source '2012/*.parquet'\n"
    "coretree tree remove run --where region=north\n"
    "coretree tree remove run --where customer=1017,4711",
)
@stored
@click.option("--source", metavar="PATTERN", help="Files, by their path within the data set.")
@click.option(
    "--where",
    "conditions",
    multiple=True,
    metavar="COLUMN=VALUE[,VALUE]",
    help="Partition folders, or rows to erase; repeat it for several columns, all of which must agree.",
)
@click.option("--data", metavar="PATTERN", help="Where the rows are.  [default: what the tree was built from]")
@placed
@common
@click.pass_context
def remove(
    ctx: click.Context,
    /,
    path: str,
    source: str | None,
    conditions: tuple[str, ...],
    data: str | None,
    as_json: bool,
    **where: Any,
) -> None:
    """Remove leaves, or erase rows, from the tree at PATH and from its files; the data themselves are not touched.

    Rows are found by reading the columns named; then only the leaves that hold any are made anew. A record without
    the values is kept in the tree's history.
    """
    with listening(ctx, as_json, resumable=True) as (console, ears):
        from coretree.run import tree_verbs
        from coretree.run.from_job import executor_at

        with executor_at(cluster_of(**where)) as executor:
            console.finish(tree_verbs.remove(path, source, conditions, data, executor, ears))
