"""Newton steps over all rows, from a model that was fitted on a coreset."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

from sklearn.pipeline import Pipeline

from coretree.data.dataset import Dataset
from coretree.errors import ConfigError
from coretree.learn.penalised import penalised
from coretree.learn.polish import descend
from coretree.learn.threads import one_blas_thread
from coretree.run.build import Progress
from coretree.run.full_pass import FullPass


def polish(model: Any, data: Dataset, passes: int = 1, *, client: Any = None, progress: Progress | None = None) -> Any:
    """Take a linear model from its coreset's optimum towards that of all rows; each step about squares the error.

    Parameters
    ----------
    model : CoresetClassifier or CoresetRegressor
        Of a kind for which ``certify`` gives bounds; not changed.
    data : Dataset
        The training rows.
    passes : int
        Steps, each of one pass over the rows; where a step cannot be proven to go downhill, one pass more looks at it
        and at halved ones. A model without a coreset (a loaded one) needs one pass more at the start.
    client, progress
        See ``CoresetTree.build``.

    Returns
    -------
    model
        A new one of the same class, ``estimator_`` again a plain scikit-learn Pipeline. ``polish_`` tells the steps,
        what was known before each, the passes made, and how many rows have labels that the model does not know: those
        are left out, with a ``DataWarning``. Its objective on these rows is never higher.

    Raises
    ------
    ConfigError
        The model has no objective that is known here, ``class_weight`` is set, or ``passes`` is less than 1.
    TargetError
        No row has a label that the model knows.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> import coretree as ct
    >>> rng = np.random.default_rng(0)
    >>> frame = pd.DataFrame(rng.normal(size=(4000, 2)), columns=["a", "b"])
    >>> data = ct.Dataset.from_pandas(frame.assign(y=(frame["a"] + rng.logistic(size=4000) > 0)), target="y")
    >>> better = polish(ct.CoresetClassifier(size=300).fit(data), data)
    >>> ct.certify(better, data).upper < 1e-5
    True
    """
    if passes < 1:
        raise ConfigError(f"passes={passes} must be at least 1.")
    final = model.estimator_[-1]
    objective = penalised(final)
    if objective is None:
        raise ConfigError(
            f"{type(final).__name__} with these settings has no smooth objective that is known here, so there is no "
            "Newton step. Polish is for LogisticRegression, LinearSVC with two classes and squared hinge, "
            "LinearRegression, Ridge, Lasso, ElasticNet, PoissonRegressor, GammaRegressor, TweedieRegressor."
        )
    with one_blas_thread():  # the same bits whatever the number of cores
        look = FullPass(model, objective, data, "polish", client, progress)
        found = descend(look, objective, look.sample, int(passes))
    out = copy.copy(model)
    # the preparation is the same object; only the last step is a new one
    out.estimator_ = Pipeline(
        [*model.estimator_.steps[:-1], (model.estimator_.steps[-1][0], objective.at(final, found.theta))]
    )
    out.polish_ = replace(found, unseen=look.unseen)
    return out
