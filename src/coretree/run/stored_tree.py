"""A stored tree as its readers see it: coresets of all rows or of a window, drift, checks; no data is read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cached_property
from typing import Any, TypeVar

from coretree.data.drift import Drift, drift
from coretree.data.profile import Profile
from coretree.errors import ConfigError, MissingObjectError, StoreError
from coretree.learn.threads import one_blas_thread
from coretree.run.selection import Time, check_folders, decayed, in_folders, span_of
from coretree.run.sweep import fence, sweep
from coretree.run.tasks import read_node, read_survey
from coretree.tree import inspect
from coretree.tree.coresets import Coreset, Pilot, make_coreset, pilots_of
from coretree.tree.manifest import Manifest, load
from coretree.tree.node import Node
from coretree.tree.one_pass import node_of
from coretree.tree.recipe import Recipe, load_recipe
from coretree.tree.store import Store
from coretree.tree.windows import NOTHING, WHOLE, Span, Window, compose

R = TypeVar("R")


class StoredTree:
    """What can be done with a tree once it is stored; see ``CoresetTree``."""

    path: str
    store: Store

    @property
    def is_built(self) -> bool:
        """Whether the folder holds a finished tree."""
        return load(self.store) is not None

    @cached_property
    def manifest_(self) -> Manifest:
        """The current manifest.

        Raises
        ------
        StoreError
            Nothing was built.
        """
        return self._current()[0]

    def _current(self) -> tuple[Manifest, str]:
        """The manifest and its version token."""
        found = load(self.store)
        if found is None:
            raise StoreError(
                f"{self.path}: no tree here yet. Build it with CoresetTree({self.path!r}).build(data) "
                "or `coretree build`."
            )
        return found

    @property
    def name_(self) -> str:
        """Name of the root."""
        return self.manifest_.root

    @property
    def n_rows_(self) -> int:
        """Training rows represented."""
        return self.root_.n_rows

    @cached_property
    def recipe_(self) -> Recipe:
        """The frozen recipe."""
        return load_recipe(self.store, self.manifest_.recipe)

    @cached_property
    def root_(self) -> Node:
        """The root node."""
        return self._again(lambda: self._node(self.manifest_.root))

    @property
    def profile_(self) -> Profile:
        """Statistics of the training rows (pass 1)."""
        found = self.root_.profile
        assert found is not None
        return found

    @cached_property
    def totals_(self) -> dict[str, Pilot]:
        """What coresets are calibrated to, by objective: the pilot of the last pass, and all training rows' totals."""
        refined = self.manifest_.refined
        if refined is None:
            return pilots_of(self.root_, self.recipe_)
        return pilots_of(read_node(self.store, refined[1]), load_recipe(self.store, refined[0]))

    def _node(self, name: str) -> Node:
        """A node by name; of a tree made in one pass, what its survey amounts to."""
        if self.recipe_.one_pass:
            return node_of(read_survey(self.store, name), self.recipe_)
        return read_node(self.store, name)

    def coreset(
        self,
        size: int | None = None,
        *,
        objective: str | None = None,
        start: Time = None,
        end: Time = None,
        where: Mapping[str, Any] | None = None,
        half_life: str | float | None = None,
    ) -> Coreset:
        """Weighted rows that stand for all training rows, or for those of a window; reads no data.

        Parameters
        ----------
        size : int, optional
            Rows; all that the tree keeps by default.
        objective : str
            A sketch that the tree carries: "robust" for linear models (calibrated), "balanced" for tree classifiers,
            "uniform" as a plain sample, and what ``objectives`` names besides. A tree of data without a target has
            "uniform" alone.
        start, end : str, Timestamp or seconds, optional
            Event times from ``start`` on and before ``end``, in UTC. A leaf that lies across an edge counts with its
            stored rows inside; its sums are estimates, and the report says what share of the rows that is. Rows
            without a time belong to their leaf: they count where all of it is inside, which the report says too.
        where : mapping of partition column to value or values, optional
            Leaves whose ``column=value`` folders have these values.
        half_life : str or seconds, optional
            Let the weight of a row halve with every such time before ``end``, or before the latest row.

        Raises
        ------
        ConfigError
            More rows than the tree keeps, an objective it does not carry, no time column.
        EmptyDataError
            No row is in the window.
        """
        objective = objective or self.recipe_.objectives[0]
        span = span_of(start, end)
        with one_blas_thread():  # the same bits whatever the number of cores
            if span.everything and where is None:
                core = self._again(
                    lambda: make_coreset(self.root_, self.recipe_, size=size, objective=objective, at=self.totals_)
                )
            else:
                core = self._windowed(self.window(start, end, where), size, objective)
            return core if half_life is None else decayed(core, half_life, span.end)

    def _windowed(self, window: Window, size: int | None, objective: str) -> Coreset:
        core = make_coreset(window.node, self.recipe_, size=size, objective=objective, at=window.totals)
        notes = []
        if window.estimated_share:
            share = f"{window.estimated_share:.1%} of the rows come from leaves that the window cuts"
            notes.append(f"{share}: their sums are estimates")
        if window.undated_share:
            share = f"{window.undated_share:.2%} of the weight"
            notes.append(f"{share} is that of rows without a time: they count where all of their leaf lies inside")
        return replace(core, report=replace(core.report, warnings=(*core.report.warnings, *notes)))

    def window(self, start: Time = None, end: Time = None, where: Mapping[str, Any] | None = None) -> Window:
        """The rows of a window as one node, made of as few stored nodes as possible; see ``coreset``."""
        with one_blas_thread():
            return self._again(lambda: self._compose(span_of(start, end), where))

    def _compose(self, span: Span, where: Mapping[str, Any] | None) -> Window:
        manifest, recipe = self.manifest_, self.recipe_
        wanted = self._wanted(span, where)
        shapes = inspect.shapes_of(manifest)
        refined = None
        if manifest.refined is not None:
            third = load_recipe(self.store, manifest.refined[0])
            refined = (shapes[1], third, lambda name: read_node(self.store, name))
        return compose(wanted, span, (shapes[0], recipe, self._node), refined)

    def _wanted(self, span: Span, where: Mapping[str, Any] | None) -> list[int]:
        """Of each leaf, whether all its rows are wanted, some, or none."""
        manifest, found = self.manifest_, []
        if not span.everything and self.recipe_.schema.time is None:
            raise ConfigError(
                "a window needs to know the time column: name it with time=... when you open the dataset."
            )
        if where is not None:
            check_folders(manifest.leaves, where)
        for leaf in manifest.leaves:
            inside = span.covers(manifest.nodes[leaf.name])
            found.append(inside if where is None or in_folders(leaf, where) else NOTHING)
        return found

    def _again(self, read: Callable[[], R]) -> R:
        """Read; again from the present manifest where another process has replaced the tree and swept it."""
        while True:
            before = self.manifest_
            try:
                return read()
            except MissingObjectError:
                self._forget()
                if self.manifest_.nodes.keys() == before.nodes.keys():
                    raise  # the tree of the moment lacks it

    def drift(
        self,
        reference: tuple[Time, Time] | Mapping[str, Any] | None = None,
        current: tuple[Time, Time] | Mapping[str, Any] | None = None,
    ) -> Drift:
        """Compare two windows by their stored profiles: what shifted, in features, classes and categories.

        Parameters
        ----------
        reference, current : (start, end), or mapping of partition column to values
            Leaves that touch the window count whole. Default of ``reference``: all leaves that ``current`` does not
            touch.

        Returns
        -------
        coretree.data.drift.Drift
        """

        def compared() -> Drift:
            now = self._touching(current)
            then = [not t for t in now] if reference is None else self._touching(reference)
            return drift(self._profile(then), self._profile(now), self.recipe_.schema)

        with one_blas_thread():
            return self._again(compared)

    def _touching(self, window: tuple[Time, Time] | Mapping[str, Any] | None) -> list[bool]:
        if window is None:
            raise ConfigError("drift needs current=(start, end), or current={partition column: value}.")
        span, where = (Span(), window) if isinstance(window, Mapping) else (span_of(*window), None)
        return [wanted != NOTHING for wanted in self._wanted(span, where)]

    def _profile(self, chosen: list[bool]) -> Profile:
        shape = inspect.shapes_of(self.manifest_)[0]
        read = compose([WHOLE if c else NOTHING for c in chosen], Span(), (shape, self.recipe_, self._node), None)
        assert read.node.profile is not None
        return read.node.profile

    def verify(self) -> inspect.Verification:
        """Check every checksum, name and sum of the stored tree; see ``coretree tree verify``."""
        while True:
            manifest, version = self._current()
            found = inspect.verify(self.store, manifest)
            if found or self._current()[1] == version:  # else it was replaced meanwhile, and parts of it swept
                return found

    def gc(self, *, dry_run: bool = False) -> tuple[str, ...]:
        """Delete stored nodes that the tree no longer needs, and return their keys; never one that it does.

        Not while another process builds the tree for the first time. An update that is under way somewhere ends with
        a ``WriteConflictError``, as what it has made so far goes, and does its work again when it is called again.
        """
        current = self._current()
        keys = inspect.unreachable(self.store, current[0])
        if dry_run:
            return keys
        if keys:
            fence(self.store, current)
        return sweep(self.store)

    def diff(self, other: StoredTree) -> dict[str, Any]:
        """Leaves that ``other`` has added, removed or changed against this tree."""
        return inspect.compare(self.manifest_, other.manifest_)

    def describe(self) -> dict[str, Any]:
        """Levels, sizes, times and storage."""
        return inspect.describe(self.manifest_)

    def _forget(self) -> None:
        """Read the manifest anew at the next use."""
        for name in ("manifest_", "recipe_", "root_", "totals_"):
            self.__dict__.pop(name, None)
