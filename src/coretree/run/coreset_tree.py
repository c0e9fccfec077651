"""CoresetTree: two streaming passes become a tree of nodes in a store, from which coresets are drawn in no time."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any, Self

from coretree.coreset.quotas import Budget
from coretree.data.dataset import Dataset
from coretree.data.prepare import PrepareRules
from coretree.data.profile import Level
from coretree.errors import DamagedNodeError, OutputExistsError
from coretree.learn.threads import one_blas_thread
from coretree.run.build import BuildSummary, Progress, build_tree, check_executor, source_name, total_bytes
from coretree.run.changing_tree import ChangingTree
from coretree.run.executor import Executor, executor_for
from coretree.run.membership import Frozen, check_same, scanned
from coretree.run.publish import drop_damaged
from coretree.run.settings import Exact, Settings
from coretree.run.settle import settle
from coretree.tree.addresses import open_store
from coretree.tree.store import Store


class CoresetTree(ChangingTree):
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
    objectives : "auto", name or sequence of names
        Sketches that every node carries side by side. "auto": "robust" (linear models, calibrated), "balanced" (tree
        classifiers; not for quantities), "uniform", and "residual" (trees, by what a boosted pilot gets wrong) where
        one of two classes has less than a tenth of the rows, or where the size is a tenth of the rows of a quantity.
        By name also: "squared_hinge" and "hinge" (linear SVMs of two classes), "poisson", "gamma", "tweedie:1.5"
        (log-linear models). Each with a loss has its own pilot and totals. ["auto", "hinge"]: the usual ones, and the
        others where the target permits.
    passes : {1, 2, 3}
        1: each byte is read once, there is no pilot, and linear models are within sampling error of the full fit. 2:
        scores and exact totals at a pilot model. 3: totals anew at the model that the coreset of the second pass
        gives; near-separable and many-class data gain most, and ``coreset().report`` says when it would pay.
    exact : bool or "qr", optional
        Let nodes carry the exact first and second moments of the prepared features (d x d numbers, for each class):
        least squares, and for classes LDA, QDA, naive Bayes and ridge, are then fitted from all the rows, not from a
        sample. "qr" keeps triangular factors, for ill-conditioned columns. Default: for quantities only.
    cells : int, optional
        kd cells that a node carries, for clustering: 40 to 100 a cluster, at least 2000. Default: 4000 where the data
        have no target, none otherwise.
    scatter : bool
        Let cells carry scatter matrices, for Gaussian mixtures with full covariances.
    class_rows : mapping of label to int or "all", optional
        Rows to keep of a class, or all of them; the weights keep the true class shares.

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
        objectives: str | Sequence[str] = "auto",
        passes: int = 2,
        exact: Exact = None,
        cells: int | None = None,
        scatter: bool = False,
        class_rows: Mapping[Level, Budget] | None = None,
    ) -> None:
        self.settings = Settings.checked(
            size=int(size),
            fan_in=int(fan_in),
            seed=int(seed),
            prepare=prepare,
            objectives=objectives,
            passes=int(passes),
            exact=exact,
            cells=cells,
            scatter=scatter,
            class_rows=class_rows,
        )
        self._temporary = tempfile.TemporaryDirectory(prefix="coretree-") if path is None else None
        place = self._temporary.name if self._temporary is not None else path
        self.store: Store = place if isinstance(place, Store) else open_store(place)  # type: ignore[arg-type]
        self.path = str(place)
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
        known = Settings.__dataclass_fields__
        tree.settings = Settings.from_dict({k: v for k, v in tree.manifest_.settings.items() if k in known})
        return tree

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Return itself: a tree is a place, and clones of an estimator share it."""
        return self

    # ---- build -------------------------------------------------------------------------------------------------

    def build(
        self,
        data: Dataset,
        *,
        client: Any = None,
        progress: Progress | None = None,
        like: CoresetTree | None = None,
    ) -> Self:
        """Build the tree in one to three streaming passes; a finished one of the same data and settings is left alone.

        An interrupted build continues where it stopped when the same call is made again.

        Parameters
        ----------
        data : Dataset
            Training rows; one side of a split, or everything.
        client : distributed.Client, executor or address, optional
            Where to work. Default: a running client if there is one, else threads here (data in memory: threads).
        progress : callable, optional
            Called as ``progress(stage, done, total)``.
        like : CoresetTree, optional
            Build under the frozen recipe and the settings of another tree, in one pass (two of a tree of three): what
            sites that cannot share rows do, so that one of them can ``absorb`` the others.

        Raises
        ------
        OutputExistsError
            The folder holds a tree of other data or settings.
        DataError
            Anything wrong with the data, before or while it is read.
        """
        executor = executor_for(client, data=data)
        if like is not None:
            check_same(data, like.recipe_)
            self.settings, data = like.settings, data.on_side(like.recipe_.split)
        scan = data.scan
        check_executor(executor, self.store, data, self.settings)
        if self.is_built:
            self._forget()
            same = self.manifest_.settings.get("source") == source_name(data, self.settings)
            if not same or (like is not None and self.manifest_.recipe != like.manifest_.recipe):
                raise OutputExistsError(
                    f"{self.path}: a tree of other data, split or settings is here already. Give another folder, "
                    "or remove this one; nothing was changed."
                )
            nodes = self.manifest_.nodes
            self.summary_ = BuildSummary(len(scan.leaves), len(nodes), 0, total_bytes(self.manifest_))
            return self
        with one_blas_thread():  # what is frozen between the passes has the same bits whatever the number of cores
            try:
                self.summary_ = self._built(data, like, executor, progress)
            except DamagedNodeError:
                # what a killed run left behind is damaged; nothing was published, so it can go and be made again
                drop_damaged(self.store)
                self.summary_ = self._built(data, like, executor, progress)
        self._forget()
        return self

    def _built(
        self, data: Dataset, like: CoresetTree | None, executor: Executor, progress: Progress | None
    ) -> BuildSummary:
        """Build, under the frozen recipe of another tree if there is one."""
        if like is None:
            return build_tree(data, self.settings, self.store, executor, progress)
        frozen = Frozen.of(like.store, like.manifest_, like.settings)
        for recipe in (frozen.recipe, frozen.refined):
            if recipe is not None:
                self.store.put(recipe.key, recipe.to_bytes())
        notes = {"source": source_name(data, self.settings), "data": data.to_dict(), "where": data.scan.where}
        members = scanned(data, frozen, None, {})
        done = settle(members, data, frozen, self.store, executor, progress, before=None, notes=notes)
        return BuildSummary(len(members), len(done.manifest.nodes), done.n_made, total_bytes(done.manifest))
