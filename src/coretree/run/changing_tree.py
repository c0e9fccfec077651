"""A stored tree that changes: updates, removals, trees of other sites; only what changed is read."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from coretree.data.dataset import Dataset
from coretree.data.fits import recipe_fit
from coretree.errors import DamagedNodeError, DataWarning, MissingObjectError
from coretree.learn.threads import one_blas_thread
from coretree.run.build import Progress
from coretree.run.executor import executor_for
from coretree.run.membership import Change
from coretree.run.publish import drop_damaged
from coretree.run.removal import remove_from
from coretree.run.settings import Settings
from coretree.run.stored_tree import StoredTree
from coretree.run.update import Vanished, absorb_trees, update_tree
from coretree.tree.manifest import Manifest


class ChangingTree(StoredTree):
    """What changes a tree once it is stored; see ``CoresetTree``."""

    settings: Settings

    def update(
        self,
        data: Dataset,
        *,
        vanished: Vanished = "drop",
        client: Any = None,
        progress: Progress | None = None,
    ) -> Change:
        """Bring the tree in line with a dataset: only new and changed leaves are read, under the frozen recipe.

        The root is the one that building all of it anew under the same recipe would give. Where new leaves do not fit
        the recipe any more (new categories, values beyond what was seen), a ``DataWarning`` says so.

        Parameters
        ----------
        data : Dataset
            Everything that the tree shall stand for, old files and new, opened as for ``build``. Its footers are read
            anew.
        vanished : {"drop", "keep"}
            What to do with leaves of the tree whose file is not in the dataset.
        client, progress
            As in ``build``.

        Raises
        ------
        ConfigError, SchemaError
            The dataset has nothing in common with the tree, or is read in another way; nothing was changed.
        TargetError
            A class that the recipe does not know.
        WriteConflictError
            Another process changed the tree in between; nothing of theirs is lost.
        """
        current = self._current()
        executor = executor_for(client, data=data)
        with one_blas_thread():
            try:
                change = update_tree(
                    self.store, current, self.settings, data, executor, progress, vanished=vanished, now=_now()
                )
            except DamagedNodeError:
                drop_damaged(self.store)  # and make them again, as far as the dataset has their rows
                change = update_tree(
                    self.store, current, self.settings, data, executor, progress, vanished=vanished, now=_now()
                )
        self._forget()
        self._warn_of_misfit(current[0])
        return change

    def remove(
        self,
        *,
        source: str | None = None,
        where: Mapping[str, Any] | None = None,
        data: Dataset | None = None,
        client: Any = None,
        progress: Progress | None = None,
    ) -> Change:
        """Remove leaves, or erase rows; their stored rows are deleted, and the manifest's history keeps a record.

        Parameters
        ----------
        source : str, optional
            Pattern of leaf paths, such as ``"2012/*.parquet"``: those leaves go, and nothing is read.
        where : mapping of column to value or values, optional
            Of partition columns: leaves in these folders. Of other columns: the rows that have these values are
            erased; the columns are read to find them, and then only the leaves that hold any.
        data : Dataset, optional
            To erase rows: the dataset that the tree was built from. Its files are not touched; the rows stay out of
            the tree also when it is updated, as long as an ``id`` column names them, wherever they turn up again, or
            their file is the same. For that the manifest keeps their identities, which are hashes.
        client, progress
            As in ``build``.
        """
        with one_blas_thread():
            change = remove_from(
                self.store,
                self._current(),
                self.settings,
                executor_for(client, data=data),
                progress,
                source=source,
                where=where,
                data=data,
                now=_now(),
            )
        self._forget()
        return change

    def absorb(self, *others: StoredTree, client: Any = None) -> Change:
        """Take in the leaves of trees that other sites built under this tree's recipe; equals one build of all rows.

        Raises
        ------
        RecipeMismatchError
            Another recipe: build with ``CoresetTree(path).build(data, like=this_tree)``.
        ConfigError
            Two trees hold a leaf of the same path.
        """
        theirs = [(other.path, other._current()[0], other.store) for other in others]
        with one_blas_thread():
            change = absorb_trees(self.store, self._current(), self.settings, theirs, executor_for(client), _now())
        self._forget()
        return change

    def _warn_of_misfit(self, before: Manifest) -> None:
        """Say where leaves that are new since another manifest no longer fit the recipe."""
        known = {leaf.name for leaf in before.leaves}
        chosen = [leaf.name not in known for leaf in self.manifest_.leaves]
        if not any(chosen):
            return
        split, nodes = self.recipe_.split, self.manifest_.nodes
        if split is not None and split.by == "time":
            new = [leaf for leaf in self.manifest_.leaves if leaf.name not in known]
            if not any(nodes[leaf.name].n_rows for leaf in new):
                message = (
                    f"{self.path}: no row of the {len(new)} new leaves is before the split's cutoff, which is frozen: "
                    "all of them are held out. To learn from them, build a new tree with a later cutoff."
                )
                warnings.warn(message, DataWarning, stacklevel=3)
                return
        with suppress(MissingObjectError):  # where another process has gone on from here and swept
            recipe, reference = self.recipe_, self._node(before.root).profile
            found = recipe_fit(self._profile(chosen), recipe.preparation, reference=reference, classes=recipe.classes)
            for sentence in found:
                warnings.warn(f"{self.path}: {sentence}", DataWarning, stacklevel=3)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
