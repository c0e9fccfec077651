"""The one task that runs on a single worker: fit an estimator on a coreset, prepared."""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from sklearn.pipeline import Pipeline

from coretree.coreset.quality import newton_direction
from coretree.data.clean import CleanRules
from coretree.data.schema import Schema
from coretree.data.to_sklearn import features
from coretree.learn.exact_models import Exactness, fit_exact, is_exact
from coretree.learn.fit import fit_weighted
from coretree.learn.models import is_tree_based
from coretree.learn.newton_start import MOST_UNKNOWNS
from coretree.learn.prior_shift import ClassMass, Prior
from coretree.learn.threads import one_blas_thread
from coretree.run.coreset_tree import CoresetTree
from coretree.run.executor import available_cores
from coretree.tree.coresets import Coreset, most_rows
from coretree.tree.node import Node

Model = TypeVar("Model")
ROWS_WORTH_THREADS = 50_000


def threads_for(n_rows: int) -> int:
    """Threads for one fit: a small one gains nothing from a second, and waits long for it where cores are busy."""
    return available_cores() if n_rows > ROWS_WORTH_THREADS else 1


def effort(estimator: Any, n_rows: int) -> float:
    """How long a fit takes beside others, roughly: so that a long one is not begun last.

    Examples
    --------
    >>> from sklearn.ensemble import RandomForestClassifier
    >>> from sklearn.linear_model import LogisticRegression
    >>> effort(RandomForestClassifier(), 1_000) > effort(LogisticRegression(), 9_000) > effort(LogisticRegression(), 99)
    True
    """
    boosts = is_tree_based(estimator) and not hasattr(estimator, "n_estimators")
    trees = getattr(estimator, "max_iter" if boosts else "n_estimators", None)
    return math.sqrt(n_rows) * (trees if isinstance(trees, int) else 1)


def at_most(size: int | None, tree: CoresetTree, objective: str) -> int | None:
    """Rows to draw of a sketch: as many as asked for, or all that the tree keeps."""
    return None if size is None else min(size, most_rows(tree.root_, tree.recipe_, objective))


def class_mass(objective: str) -> ClassMass:
    """What tree classifiers see of each class: rows of a residual sketch are many where they are hard, not frequent."""
    return "root" if objective == "residual" else "rows"


def exactness(estimator: Any, node: Node) -> Exactness:
    """Whether the moments of a node give the model of all its rows, and why or why not."""
    found = is_exact(estimator)
    if found and not node.moments:
        return Exactness(False, "the tree carries no moments; build it with CoresetTree(..., exact=True)")
    return found


def by_request(objective: str) -> Exactness:
    """Say that a sketch was asked for by name."""
    return Exactness(False, f"fitted on the '{objective}' sketch, as asked for")


def fit_on_moments(estimator: Any, moments: Mapping[Any, Any]) -> Any:
    """Fit from the exact moments of all training rows: no sample is involved."""
    return fit_exact(estimator, moments[None] if None in moments else dict(moments))


class PreparedOnce:
    """The features of one coreset, worked out once for all models that are fitted on it; it travels without them."""

    def __init__(self, transformer: Any) -> None:
        self._transformer = transformer
        self._rows: Any = None
        self._features: Any = None
        self._lock = threading.Lock()

    def transform(self, rows: Any) -> Any:
        """Features of the rows; a copy, since estimators may be told to work in place."""
        with self._lock:
            if self._rows is not rows:
                self._rows, self._features = rows, features(self._transformer, rows)
            return self._features.copy()

    def __reduce__(self) -> tuple[type[PreparedOnce], tuple[Any]]:
        """Leave the rows and the lock behind."""
        return PreparedOnce, (self._transformer,)


def foreseen(tree: CoresetTree, objective: str) -> npt.NDArray[np.float64] | None:
    """Coefficients that a logistic fit on a sketch ends close to: one Newton step on all rows from its pilot."""
    if objective not in tree.totals_:
        return None
    pilot, totals = tree.totals_[objective]
    if pilot.loss not in ("logistic", "softmax") or pilot.theta.size > MOST_UNKNOWNS:
        return None  # no fit would begin there
    if totals.hessian is None or not totals.finite:
        return None
    no_rows = np.zeros((0, pilot.n_features))
    with one_blas_thread():  # the fit's last bits follow from where it begins
        return pilot.theta + newton_direction(no_rows[:, 0], no_rows, no_rows[:, 0], pilot, totals)[0]


def fit_on_coreset(
    estimator: Any,
    core: Coreset,
    transformer: Any,
    seed: int,
    n_threads: int,
    prior: Prior,
    near: npt.NDArray[np.float64] | None = None,
    sharpen: bool = True,
) -> Any:
    """Fit on prepared rows; the task that runs on the one worker."""
    return fit_weighted(
        estimator,
        features(transformer, core.X),
        core.target,
        weights=core.sample_weight,
        class_counts=core.class_counts,
        class_mass=class_mass(core.objective),
        prior=prior,
        seed=seed,
        n_threads=n_threads,
        near=near,
        sharpen=sharpen,
    )


def fit_on_rows(estimator: Any, core: Coreset, transformer: Any, seed: int, n_threads: int) -> Any:
    """Fit without a target on prepared rows; weights that an estimator cannot take become resampled rows."""
    return fit_weighted(
        estimator,
        features(transformer, core.X),
        None,
        weights=core.sample_weight,
        seed=seed,
        n_threads=n_threads,
        unsupported="resample",
    )


def fitted_as(
    model: Model, pipeline: Pipeline, schema: Schema, rules: CleanRules, classes: tuple[Any, ...] | None
) -> Model:
    """Give a model its fitted pipeline, and what has to be known of the data to use it."""
    into: Any = model
    into.estimator_, into.schema_, into.clean_ = pipeline, schema, rules
    into.feature_names_in_ = np.array([f.name for f in schema.features], dtype=object)
    into.n_features_in_ = len(schema.features)
    if classes is not None:
        into.classes_ = np.array(classes)
    return model
