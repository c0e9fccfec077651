"""CoresetClassifier and CoresetRegressor: a scikit-learn estimator fitted on a coreset, on a single worker."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.base import ClassifierMixin, RegressorMixin
from sklearn.utils.metaestimators import available_if

from coretree.data.clean import CleanRules
from coretree.data.prepare import PrepareRules
from coretree.data.profile import label_from_text
from coretree.data.schema import Schema
from coretree.errors import ModelFileError
from coretree.learn import persist
from coretree.learn.prior_shift import Prior
from coretree.run.coreset_model import CoresetModel
from coretree.run.coreset_tree import CoresetTree
from coretree.run.fitted import MODEL_KIND, FittedModel, inner_has
from coretree.run.fitting import fitted_as


class CoresetClassifier(ClassifierMixin, CoresetModel):
    """Any scikit-learn classifier, trained on a coreset of data of any size.

    Parameters
    ----------
    estimator : scikit-learn classifier, optional
        Not touched; a clone is fitted. Default: ``LogisticRegression(max_iter=1000)``.
    tree : CoresetTree or path, optional
        Where the tree is, or will be built; a temporary one by default.
    size : int, optional
        Rows to fit on; all that the tree keeps by default.
    objective : str
        Which sketch of the tree to fit on; "auto" chooses for the estimator: that of its own loss or "robust" for
        linear models, "residual" or "balanced" for trees and boosting, whose probabilities are then shifted back to
        the true class shares.
    prepare : PrepareRules or mapping, optional
        For a tree that is made here.
    random_state : int
        For the tree that is made here, and for the estimator where it has none.
    client : optional
        See ``CoresetTree.build``.
    prior : {"data", "balanced"}
        Class shares that the probabilities of tree classifiers are for: "data" for accuracy and log loss, "balanced"
        for balanced accuracy and macro-averaged F1. Other classifiers have those of the data.

    Attributes
    ----------
    estimator_ : sklearn.pipeline.Pipeline
        Plain scikit-learn: the frozen preparation and the fitted estimator; predicts on raw pandas rows.
    coreset_ : Coreset
        What it was fitted on.
    exact_ : Exactness
        True where the estimator was fitted from exact moments of all rows (see ``CoresetTree(exact=True)``) and the
        coreset had no part in it; with a ``reason``.
    tree_ : CoresetTree
    classes_ : ndarray of labels

    Examples
    --------
    >>> import pandas as pd
    >>> from sklearn.linear_model import LogisticRegression
    >>> rng = np.random.default_rng(0)
    >>> X = pd.DataFrame(rng.normal(size=(2000, 2)), columns=["a", "b"])
    >>> y = np.where(X["a"] + rng.logistic(size=2000) > 0, "yes", "no")
    >>> model = CoresetClassifier(LogisticRegression(), size=500).fit(X, y)
    >>> model.predict(pd.DataFrame({"a": [9.0, -9.0], "b": [0.0, 0.0]})).tolist()
    ['yes', 'no']
    """

    _task = "classification"

    def __init__(
        self,
        estimator: Any = None,
        *,
        tree: CoresetTree | str | os.PathLike[str] | None = None,
        size: int | None = None,
        objective: str = "auto",
        prepare: PrepareRules | Mapping[str, Any] | None = None,
        random_state: int = 0,
        client: Any = None,
        prior: Prior = "data",
    ) -> None:
        super().__init__(
            estimator,
            tree=tree,
            size=size,
            objective=objective,
            prepare=prepare,
            random_state=random_state,
            client=client,
        )
        self.prior = prior

    def _class_prior(self) -> Prior:
        return self.prior

    @available_if(inner_has("predict_proba"))
    def predict_proba(self, X: Any) -> npt.NDArray[np.float64]:
        """Class probabilities (n, K) of raw rows, columns as in ``classes_``."""
        return self._answer(X, "predict_proba")

    @available_if(inner_has("decision_function"))
    def decision_function(self, X: Any) -> npt.NDArray[np.float64]:
        """Decision values of raw rows."""
        return self._answer(X, "decision_function")


class CoresetRegressor(RegressorMixin, CoresetModel):
    """Any scikit-learn regressor, trained on a coreset; see ``CoresetClassifier`` for the parameters.

    The default estimator is ``Ridge()``. Least squares (linear, ridge, lasso, elastic net, Bayesian ridge) is exact: it
    is fitted from the moments of all rows. Other linear models fit on the "robust" sketch, trees on the "uniform" one.

    Examples
    --------
    >>> import pandas as pd
    >>> rng = np.random.default_rng(0)
    >>> X = pd.DataFrame(rng.normal(size=(2000, 2)), columns=["a", "b"])
    >>> model = CoresetRegressor(size=300).fit(X, 3 * X["a"] + 1)
    >>> model.predict(pd.DataFrame({"a": [1.0], "b": [0.0]})).round(2).tolist()
    [4.0]
    """

    _task = "regression"


def load_model(folder: str | os.PathLike[str], *, trusted: tuple[str, ...] = ()) -> Any:
    """Load a saved model; checksums and types are checked before anything is parsed.

    Parameters
    ----------
    folder : path
        As given to ``save``.
    trusted : tuple of str
        Full names of further types that you know and the file may hold.

    Returns
    -------
    CoresetClassifier, CoresetRegressor, CoresetClusterer or CoresetTransformer
        As it was saved, with the manifest as ``manifest_``.

    Raises
    ------
    ModelFileError
        Not a model of coretree, damaged, or of types that are not trusted.
    """
    pipeline, manifest = persist.load_model(os.fspath(folder), trusted=trusted)
    if manifest.get("kind") != MODEL_KIND:
        raise ModelFileError(f"{folder}: a saved model, but not one of coretree (kind {manifest.get('kind')!r}).")
    kind = _kind_for(manifest["task"], folder)
    classes = manifest["classes"]
    model: Any = fitted_as(
        kind(pipeline.named_steps["model"]),
        pipeline,
        Schema.from_dict(manifest["schema"]),
        CleanRules(**manifest["clean"]),
        None if classes is None else tuple(label_from_text(c) for c in classes),
    )
    for name in kind._learned:
        if name in manifest.get("learned", {}):
            setattr(model, name, manifest["learned"][name])
    model.manifest_ = manifest
    return model


def _kind_for(task: str, folder: str | os.PathLike[str]) -> type[FittedModel]:
    from coretree.run.clusterer import CoresetClusterer
    from coretree.run.transformer import CoresetTransformer

    for kind in (CoresetClassifier, CoresetRegressor, CoresetClusterer, CoresetTransformer):
        if kind._task == task:
            return kind
    raise ModelFileError(f"{folder}: a model for {task!r}, which this coretree does not know. Install a newer one.")
