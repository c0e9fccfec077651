"""What CoresetClusterer and CoresetTransformer share: a tree of features alone, and fits that need no target."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from sklearn.pipeline import Pipeline

from coretree.data.dataset import Dataset
from coretree.data.prepare import PrepareRules
from coretree.data.to_sklearn import to_sklearn
from coretree.run.build import Progress
from coretree.run.coreset_tree import CoresetTree
from coretree.run.executor import Executor
from coretree.run.fitted import FittedModel
from coretree.run.fitting import at_most, fit_on_rows, threads_for
from coretree.run.inputs import as_dataset, without_target


class UnsupervisedModel(FittedModel):
    """What both share; see ``CoresetClusterer``."""

    def __init__(
        self,
        estimator: Any = None,
        *,
        tree: CoresetTree | str | os.PathLike[str] | None = None,
        size: int | None = None,
        prepare: PrepareRules | Mapping[str, Any] | None = None,
        random_state: int = 0,
        client: Any = None,
    ) -> None:
        self.estimator = estimator
        self.tree = tree
        self.size = size
        self.prepare = prepare
        self.random_state = random_state
        self.client = client

    def _check_tree(self, tree: CoresetTree, task: str | None) -> None:
        """Refuse, before any pass, a tree that does not or will not carry what the estimator needs."""

    def _built(self, X: Any, sample_weight: Any, progress: Progress | None) -> tuple[CoresetTree, Dataset | None]:
        """The tree, built where it was not, and the rows it stands for if they are at hand."""
        tree = self._tree(X)
        if X is None:
            self._check_tree(tree, tree.recipe_.schema.task)
            return tree, None
        data = as_dataset(X, None, sample_weight, None)
        if not isinstance(self.tree, CoresetTree) and not tree.is_built:
            data = without_target(data)  # a tree of one's own may serve classifiers too; this one serves nothing else
        self._check_tree(tree, data.schema.task)
        tree.build(data, client=self.client, progress=progress)
        return tree, data

    def _fit_on_sample(self, estimator: Any, tree: CoresetTree, executor: Executor) -> Pipeline:
        """Fit on plain rows of the tree, for estimators that neither moments nor cells determine."""
        core = self.coreset_ = tree.coreset(at_most(self.size, tree, "uniform"), objective="uniform")
        transformer, seed = to_sklearn(tree.recipe_.preparation), int(self.random_state)
        fitted = executor.one(fit_on_rows, estimator, core, transformer, seed, threads_for(len(core)))
        return Pipeline([("prepare", transformer), ("model", fitted)])
