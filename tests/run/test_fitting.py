"""What the fits of one coreset share, and what they must not."""

from __future__ import annotations

import pickle
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pandas as pd
from sklearn.preprocessing import StandardScaler

from coretree.run.fitting import PreparedOnce

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
