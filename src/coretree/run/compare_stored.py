"""What `coretree compare` does: rank models on a stored tree by rows that no fit has seen, and keep the report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from coretree.data.dataset import Dataset
from coretree.errors import ConfigError, OutputExistsError
from coretree.learn.models import model_names
from coretree.learn.standings import Comparison
from coretree.report import render
from coretree.report.render import Ears, Fact
from coretree.run.compare import compare
from coretree.run.coreset_tree import CoresetTree
from coretree.run.executor import Executor
from coretree.run.folder import write_json
from coretree.run.from_job import held_out
from coretree.run.tree_verbs import open_tree, reopened


def compare_stored(
    path: str,
    names: Sequence[str] | None,
    pattern: str | None,
    out: Path | None,
    executor: Executor,
    ears: Ears,
    *,
    inside: bool = False,
    **options: Any,
) -> tuple[dict[str, Any], Comparison]:
    """Compare models on a stored tree; see ``compare`` for the options.

    Parameters
    ----------
    path : str
        Of a tree, or of a run that holds one.
    names : sequence of str, optional
        Models; by default all that there are for the task.
    pattern : str, optional
        Rows to score on, none of them in the tree; by default those that the tree's split holds out.
    out : Path, optional
        New file for the report.
    executor, ears
        Where to work, and who listens.
    inside : bool
        Score on rows of the tree that are kept out of every fit, and read no data.

    Raises
    ------
    ConfigError
        There are no held-out rows, or ``pattern`` names files that the tree was built from (copies of them are not
        noticed); and as ``compare`` does.
    OutputExistsError
        ``out`` is there already. Nothing was done.
    """
    if out is not None:
        _free(out)
    tree = open_tree(path)
    data = None if inside else _outside(tree, pattern)
    task = tree.recipe_.schema.task
    if names is None:
        names = model_names(task) if task is not None else ()
    found = compare(list(names), tree, data, client=executor, progress=ears.progress, **options)
    where = tree.path if data is None else data.scan.where
    ears.say(Fact("tree", f"{tree.path}: {tree.n_rows_:,} rows, root {tree.name_}"))
    models = render.count(len(found.rows), "model")
    ears.say(Fact("scored", f"{models} by {found.scored_rows:,} rows of {where}", found.seconds))
    facts = {"path": tree.path, "root": tree.name_, "data": where, **found.to_dict()}
    if out is not None:
        write_json(out, facts)
    return facts, found


def _free(out: Path) -> None:
    if out.exists():
        raise OutputExistsError(
            f"{out}: exists already; a report is never written over anything. Name another file, or remove it first."
        )
    if not out.parent.is_dir():
        raise ConfigError(f"{out}: there is no folder {out.parent} to write it into. Make it first.")


def _outside(tree: CoresetTree, pattern: str | None) -> Dataset:
    """Rows that the tree was not built from."""
    if pattern is None:
        split = tree.recipe_.split
        if split is None:
            raise ConfigError(
                f"{tree.path}: a tree without held-out rows. Give rows to score on with --data, or keep some of the "
                "tree's own out of every fit with --inside."
            )
        return held_out(reopened(tree), split)
    data = reopened(tree, pattern).on_side(None)
    known = {leaf.fingerprint for leaf in tree.manifest_.leaves}
    shared = sorted({leaf.path for leaf in data.scan.leaves if leaf.fingerprint in known})
    if shared:
        raise ConfigError(
            f"{data.scan.where}: the tree was built from {len(shared):,} of these files (such as {shared[0]}), and "
            "models are judged on rows outside every sketch. Give other files, or leave --data out for held-out rows."
        )
    return data
