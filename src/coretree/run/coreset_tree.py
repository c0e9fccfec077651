"""CoresetTree: two streaming passes become a tree of nodes in a store, from which coresets are drawn in no time."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from functools import cached_property
from typing import Any, Self

from coretree.coreset.scores import PilotState
from coretree.coreset.totals import Totals
from coretree.data.dataset import Dataset
from coretree.data.prepare import PrepareRules
from coretree.data.profile import Profile
from coretree.errors import ConfigError, DamagedNodeError, OutputExistsError, StoreError
from coretree.run.blas import one_blas_thread
from coretree.run.build import BuildSummary, Progress, build_tree, check_executor, source_name, total_bytes
from coretree.run.executor import executor_for
from coretree.run.memory import node_bytes
from coretree.run.publish import drop_damaged
from coretree.run.settings import Settings
from coretree.run.tasks import read_node
from coretree.tree.addresses import open_store
from coretree.tree.coresets import Coreset, make_coreset
from coretree.tree.manifest import Manifest, load
from coretree.tree.node import Node, Survey
from coretree.tree.recipe import Recipe, load_recipe
from coretree.tree.store import Store

N_SKETCHES = 3


class CoresetTree:
    """A durable tree of coresets over a partitioned data set.

    Parameters
    ----------
    path : path, address or store, optional
        Where the tree is: a folder, made by the first build, ``"s3://bucket/prefix"`` (``gs://``, ``az://``), or what
        ``open_store`` returns, to give options. Default: a temporary folder that goes with the object.
    size : int
        Rows that the root (and every inner node) keeps of each sketch; coresets of any smaller size are prefixes.
    prepare : PrepareRules or mapping, optional
        How features become numbers.
    fan_in : int
        Children a merge takes on average.
    seed : int
        Of every sample; independent of the split's.
    exact : bool, optional
        Let nodes carry the exact first and second moments of the prepared features (d x d numbers, for each class):
        least squares, and for classes LDA, QDA, naive Bayes and ridge, are then fitted from all the rows, not from a
        sample. Default: for quantities only.
    passes : {2, 3}
        A third pass takes the totals anew, at the model that the coreset of the second gives. Near-separable and
        many-class data gain most; ``coreset().report`` says when it would pay.

    Attributes
    ----------
    name_ : str
        Name of the root: the hash of all leaves and the recipe. Equal names mean equal coresets.
    recipe_ : Recipe
        What is frozen: schema, cleaning, preparation, pilot.
    n_rows_ : int
        Training rows represented.

    Examples
    --------
    >>> import pandas as pd, numpy as np
    >>> rng = np.random.default_rng(0)
    >>> frame = pd.DataFrame(rng.normal(size=(4000, 3)), columns=["a", "b", "c"])
    >>> frame["y"] = (frame["a"] + rng.logistic(size=4000) > 0).astype(int)
    >>> train, test = Dataset.from_pandas(frame, target="y").split(test=0.25)
    >>> tree = CoresetTree(size=500).build(train)
    >>> core = tree.coreset(size=400)
    >>> len(core), core.n_rows == tree.n_rows_, bool(abs(core.sample_weight.sum() - core.n_rows) < 1e-6)
    (400, True, True)
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | Store | None = None,
        *,
        size: int = 20_000,
        prepare: PrepareRules | Mapping[str, Any] | None = None,
        fan_in: int = 8,
        seed: int = 0,
        exact: bool | None = None,
        passes: int = 2,
    ) -> None:
        if size < 10:
            raise ConfigError(
                f"size={size} is too small for a coreset; use at least 10, and 30 rows a feature or more."
            )
        if fan_in < 2:
            raise ConfigError(f"fan_in={fan_in} must be at least 2.")
        if passes not in (2, 3):
            raise ConfigError(f"passes={passes} must be 2 or 3.")
        self._temporary = tempfile.TemporaryDirectory(prefix="coretree-") if path is None else None
        place = self._temporary.name if self._temporary is not None else path
        self.store: Store = place if isinstance(place, Store) else open_store(place)  # type: ignore[arg-type]
        self.path = str(place)
        rules = prepare if isinstance(prepare, PrepareRules) else PrepareRules(**(prepare or {}))
        self.settings = Settings(int(size), int(fan_in), int(seed), rules, exact, int(passes))
        self.summary_: BuildSummary | None = None

    @property
    def size(self) -> int:
        """Rows that a node keeps of each sketch."""
        return self.settings.size

    @property
    def fan_in(self) -> int:
        """Children a merge takes on average."""
        return self.settings.fan_in

    def __repr__(self) -> str:
        state = f"{self.n_rows_:,} rows, root {self.name_[:8]}" if self.is_built else "not built"
        return f"CoresetTree({self.path!r}, size={self.size:,}: {state})"

    @classmethod
    def open(cls, path: str | os.PathLike[str] | Store) -> Self:
        """Open a tree that was built before, with the settings it was built with.

        Raises
        ------
        StoreError
            There is no tree.
        """
        tree = cls(path)
        settings: Mapping[str, Any] = tree.manifest_.settings
        rules = PrepareRules.from_dict(settings["prepare"])
        kept = {name: settings[name] for name in ("size", "seed", "exact", "passes")}
        return cls(path, prepare=rules, fan_in=tree.manifest_.fan_in, **kept)

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Return itself: a tree is a place, and clones of an estimator share it."""
        return self

    # ---- state -------------------------------------------------------------------------------------------------

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
        found = load(self.store)
        if found is None:
            raise StoreError(
                f"{self.path}: no tree here yet. Build it with CoresetTree({self.path!r}).build(data) "
                "or `coretree build`."
            )
        return found[0]

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
        return read_node(self.store, self.manifest_.root)

    @cached_property
    def profile_(self) -> Profile:
        """Statistics of the training rows (pass 1)."""
        key = str(self.manifest_.settings["profile"])
        return Survey.from_bytes(self.store.get(key), where=key).profile

    @cached_property
    def totals_(self) -> tuple[PilotState, Totals]:
        """What coresets are calibrated to: the pilot of the last pass, and the totals of all training rows there."""
        refined = self.manifest_.settings["refined"]
        if not isinstance(refined, Mapping):
            return self.recipe_.pilot, self.root_.totals
        recipe = load_recipe(self.store, str(refined["recipe"]))
        return recipe.pilot, read_node(self.store, str(refined["root"])).totals

    # ---- use ---------------------------------------------------------------------------------------------------

    def coreset(self, size: int | None = None, *, objective: str = "robust") -> Coreset:
        """Weighted rows that stand for all training rows; takes milliseconds to a second, reads no data.

        Parameters
        ----------
        size : int, optional
            Rows; the tree's size by default.
        objective : {"robust", "balanced", "uniform"}
            "robust" for linear models (calibrated), "balanced" for tree classifiers, "uniform" as a plain sample.

        Raises
        ------
        ConfigError
            More rows than the tree keeps, or an objective it does not carry.
        """
        with one_blas_thread():  # the same bits whatever the number of cores
            return make_coreset(self.root_, self.recipe_, size=size, objective=objective, at=self.totals_)

    # ---- build -------------------------------------------------------------------------------------------------

    def build(self, data: Dataset, *, client: Any = None, progress: Progress | None = None) -> Self:
        """Build the tree in two or three streaming passes; a finished one of the same data and settings is left alone.

        An interrupted build continues where it stopped when the same call is made again.

        Parameters
        ----------
        data : Dataset
            Training rows; one side of a split, or everything.
        client : distributed.Client, executor or address, optional
            Where to work. Default: a running client if there is one, else threads here (data in memory: threads).
        progress : callable, optional
            Called as ``progress(stage, done, total)``.

        Raises
        ------
        OutputExistsError
            The folder holds a tree of other data or settings.
        DataError
            Anything wrong with the data, before or while it is read.
        """
        if data.roles.target is None:
            raise ConfigError("the dataset has no target: name it with target=... when you open the dataset.")
        executor = executor_for(client, data=data)
        scan = data.scan
        merge_bytes = node_bytes(self.size, len(scan.schema.features), self.fan_in, N_SKETCHES)
        check_executor(executor, self.store, scan.leaves, merge_bytes)
        if self.is_built:
            self._forget()
            if self.manifest_.settings.get("source") != source_name(data, self.settings):
                raise OutputExistsError(
                    f"{self.path}: a tree of other data, split or settings is here already. Give another folder, "
                    "or remove this one; nothing was changed."
                )
            nodes = self.manifest_.nodes
            self.summary_ = BuildSummary(len(scan.leaves), len(nodes), 0, total_bytes(self.manifest_))
            return self
        with one_blas_thread():  # what is frozen between the passes has the same bits whatever the number of cores
            try:
                self.summary_ = build_tree(data, self.settings, self.store, executor, progress)
            except DamagedNodeError:
                # what a killed run left behind is damaged; nothing was published, so it can go and be made again
                drop_damaged(self.store)
                self.summary_ = build_tree(data, self.settings, self.store, executor, progress)
        self._forget()
        return self

    def _forget(self) -> None:
        """Read the manifest anew at the next use."""
        for name in ("manifest_", "recipe_", "root_", "profile_", "totals_"):
            self.__dict__.pop(name, None)
