"""What every fitted model of ours does: take raw rows in any form, answer at once or lazily, and be saved."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Self

import pandas as pd
from sklearn.base import BaseEstimator, MetaEstimatorMixin
from sklearn.utils.validation import check_is_fitted

from coretree.data.clean import CleanRules
from coretree.data.dataset import Dataset
from coretree.data.encode import clean_frame
from coretree.data.prepare import PrepareRules
from coretree.data.profile import label_text
from coretree.data.schema import Schema
from coretree.errors import ConfigError
from coretree.learn import persist
from coretree.run.coreset_tree import CoresetTree
from coretree.run.inputs import as_known, check_names, is_lazy
from coretree.tree.coresets import Coreset

DEFAULT_SIZE = 20_000
MODEL_KIND = "coretree model"


class FittedModel(MetaEstimatorMixin, BaseEstimator):
    """A scikit-learn estimator inside, a tree of coresets behind it; subclasses say how it is fitted."""

    estimator: Any
    tree: CoresetTree | str | os.PathLike[str] | None
    size: int | None
    prepare: PrepareRules | Mapping[str, Any] | None
    random_state: int
    client: Any
    estimator_: Any
    schema_: Schema
    clean_: CleanRules
    tree_: CoresetTree
    coreset_: Coreset

    _task: ClassVar[str] = ""
    _learned: ClassVar[tuple[str, ...]] = ()  # numbers that the manifest of a saved model keeps

    def __sklearn_clone__(self) -> Self:
        """A client is a connection: clones share it, and nothing of it is copied."""
        bare = copy.copy(self)
        bare.client = None
        into: Self = super(FittedModel, bare).__sklearn_clone__()
        return into.set_params(client=self.client)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = tags.input_tags.string = True
        return tags

    def _estimator(self) -> Any:
        """The estimator to fit: the one given, or the default."""
        return self._default() if self.estimator is None else self.estimator

    def _default(self) -> Any:
        raise TypeError(f"{type(self).__name__} has no default estimator")

    def _tree_options(self) -> dict[str, Any]:
        """What a tree that is made here has to carry for the estimator."""
        return {}

    def _tree(self, X: Any) -> CoresetTree:
        if isinstance(self.tree, CoresetTree):
            return self.tree
        if self.tree is not None and (X is None or (self.prepare is None and CoresetTree(self.tree).is_built)):
            return CoresetTree.open(self.tree)
        if X is None:
            name = type(self).__name__
            raise ConfigError(
                f"fit() without data needs a built tree: {name}(estimator, tree=CoresetTree(path)).fit()."
            )
        return CoresetTree(
            self.tree,
            size=self.size or DEFAULT_SIZE,
            prepare=self.prepare,
            seed=int(self.random_state),
            **self._tree_options(),
        )

    def _rows(self, X: Any) -> pd.DataFrame:
        """Raw rows as the fitted Pipeline wants them."""
        if isinstance(X, Dataset):
            raise ConfigError(
                'a Dataset is predicted part by part: ct.predict(model, data, out="folder"), '
                "or ct.evaluate(model, data)."
            )
        names = [feature.name for feature in self.schema_.features]
        return clean_frame(as_known(X, names, type(self).__name__), self.schema_, self.clean_)

    def _answer(self, X: Any, method: str) -> Any:
        check_is_fitted(self, "estimator_")
        if hasattr(X, "to_delayed"):
            if is_lazy(X):
                check_names(X.columns, [feature.name for feature in self.schema_.features], "Dask DataFrame")
            from coretree.run.on_dask import lazy

            return lazy(self, X, method)
        return getattr(self.estimator_, method)(self._rows(X))

    def _score(self, X: Any) -> float:
        """One number for rows in memory."""
        if is_lazy(X):
            raise ConfigError(
                "score() is for rows in memory: a score of all rows is no score of each partition. Compute "
                "score_samples or predict lazily, or call score(X.compute())."
            )
        return float(self._answer(X, "score"))

    def save(self, folder: str | os.PathLike[str], **facts: Any) -> None:
        """Save as a new folder with ``model.skops`` and ``manifest.json``; no pickle.

        Parameters
        ----------
        folder : path
            Must not exist.
        **facts
            Anything JSON can hold, kept in the manifest (metrics, for instance).
        """
        check_is_fitted(self, "estimator_")
        classes = (
            [label_text(c.item() if hasattr(c, "item") else c) for c in self.classes_]
            if self._task == "classification"
            else None
        )
        manifest = {
            "kind": MODEL_KIND,
            "task": self._task,
            "schema": self.schema_.to_dict(),
            "clean": self.clean_.to_dict(),
            "classes": classes,
            "tree": self.tree_.name_ if hasattr(self, "tree_") else None,
            "learned": {name: getattr(self, name) for name in self._learned if hasattr(self, name)},
            **facts,
        }
        persist.save_model(os.fspath(folder), self.estimator_, manifest)


def inner_has(method: str) -> Callable[[FittedModel], bool]:
    """Whether the estimator inside, fitted or to be fitted, has a method."""
    return lambda model: hasattr(getattr(model, "estimator_", None) or model._estimator(), method)
