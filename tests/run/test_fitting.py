"""What the fits of one coreset share, and what they must not."""

from __future__ import annotations

import pickle
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from coretree import CoresetClassifier, CoresetTree, Dataset, ThreadExecutor
from coretree.run.fitting import PreparedOnce, foreseen

ROWS = pd.DataFrame(np.random.default_rng(0).normal(size=(500, 3)), columns=["a", "b", "c"])


class Counting(StandardScaler):  # type: ignore[misc, unused-ignore]
    """Counts how often it is asked."""

    calls = 0

    def transform(self, X: Any, copy: bool | None = None) -> Any:
        self.calls += 1
        return super().transform(X, copy)


def test_rows_are_prepared_once_and_every_fit_has_its_own_copy() -> None:
    scaler = Counting().fit(ROWS)
    once = PreparedOnce(scaler)
    with ThreadPoolExecutor(4) as pool:
        first, *others = pool.map(once.transform, [ROWS] * 8)
    assert scaler.calls == 1
    first[:] = 0.0  # as an estimator with copy_X=False might
    assert all((each == StandardScaler().fit_transform(ROWS)).all() for each in others)
    assert (once.transform(ROWS) == others[0]).all()


def test_other_rows_are_not_mistaken_for_them() -> None:
    scaler = Counting().fit(ROWS)
    once = PreparedOnce(scaler)
    assert len(once.transform(ROWS)) == 500
    assert len(once.transform(ROWS[:7])) == 7
    assert scaler.calls == 2


def test_it_travels_without_the_rows() -> None:
    once = PreparedOnce(StandardScaler().fit(ROWS))
    empty = len(pickle.dumps(once))
    expected = once.transform(ROWS)
    assert len(pickle.dumps(once)) == empty
    assert (pickle.loads(pickle.dumps(once)).transform(ROWS) == expected).all()


@pytest.mark.parametrize("n_classes", [2, 4])
def test_what_is_foreseen_is_nearer_to_the_fit_than_the_pilot(n_classes: int) -> None:
    rng = np.random.default_rng(n_classes)
    X = rng.normal(size=(12_000, 4))
    y = (X @ rng.normal(size=(4, n_classes)) + rng.gumbel(size=(12_000, n_classes))).argmax(axis=1)
    frame = pd.DataFrame(X, columns=list("abcd")).assign(y=y)
    tree = CoresetTree(size=2_000).build(Dataset.from_pandas(frame, target="y"), client=ThreadExecutor(1))
    final = CoresetClassifier(LogisticRegression(tol=1e-8), tree=tree, client=ThreadExecutor(1)).fit().estimator_[-1]
    fitted = np.column_stack([final.intercept_, final.coef_])
    near, pilot = foreseen(tree, "robust"), tree.totals_["robust"][0].theta
    assert near is not None

    def off(theta: Any) -> float:
        gap = theta.reshape(fitted.shape) - fitted
        return float(np.abs(gap - gap.mean(axis=0) * (n_classes > 2)).max())  # a common shift of classes is none

    assert off(near) < 0.2 * off(pilot)
    assert foreseen(tree, "balanced") is None
