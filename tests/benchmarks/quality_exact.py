"""What is exact: least squares from moments, for any number of partitions, on columns that make sums cancel."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.linear_model import ElasticNet, Lasso, LinearRegression, Ridge

import coretree as ct
from benchmarks.quality_bars import FULL, LEVERAGE, OURS, UNIFORM, Bar, Record, Scale, record
from benchmarks.quality_data import Frame
from benchmarks.quality_samples import built, prepared, sampled

TIGHT = {"tol": 1e-12, "max_iter": 100_000}
MODELS: dict[str, Any] = {
    "linear": LinearRegression(),
    "ridge": Ridge(alpha=10.0),
    "lasso": Lasso(alpha=0.1, **TIGHT),
    "elastic net": ElasticNet(alpha=0.1, **TIGHT),
}


@dataclass(frozen=True)
class LeastSquares:
    """All four models, each on trees of several numbers of leaves; the worst of the trees is what counts."""

    name: str
    group: str
    make: Frame
    bars: tuple[Bar, ...]
    rows: int = 50_000
    size: int = 2000
    partitions: tuple[int, ...] = (1, 8, 50)

    def ready(self, scale: Scale) -> bool:
        """Its data is made here."""
        return True

    def measure(self, seeds: Sequence[int], scale: Scale) -> Iterator[list[Record]]:
        """Records of one seed after the other: the rows come in another order for each."""
        frame = self.make(scale.rows or self.rows)
        for seed in seeds:
            rows = frame.iloc[np.random.default_rng(seed).permutation(len(frame))].reset_index(drop=True)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of the constant column
                trees = [
                    built(rows, "regression", leaves=k, objectives="uniform", size=self.size, seed=seed)
                    for k in self.partitions
                ]
                X, y = prepared(trees[0], rows), rows["y"].to_numpy()
                facts = {"n": len(X), "d": X.shape[1], "m": self.size}
                yield [r for name in MODELS for r in self._of_model(name, trees, X, y, seed, facts)]

    def _of_model(
        self, name: str, trees: list[ct.CoresetTree], X: np.ndarray, y: np.ndarray, seed: int, facts: dict[str, int]
    ) -> list[Record]:
        full = MODELS[name].fit(X, y).coef_.copy()

        def error(coefficients: np.ndarray) -> float:
            return float(np.linalg.norm(coefficients - full) / np.linalg.norm(full))

        ours = [ct.CoresetRegressor(MODELS[name], tree=tree).fit() for tree in trees]
        assert all(model.exact_ for model in ours)
        worst = max(error(model.estimator_.named_steps["model"].coef_) for model in ours)
        metric = f"coefficient error, {name}"
        out = [
            record(self.name, seed, FULL, metric, 0.0, **facts),
            record(self.name, seed, OURS, metric, worst, **facts),
        ]
        for method in (UNIFORM, LEVERAGE):
            index, w = sampled(method, X, np.zeros(len(X), int), self.size, seed)
            fitted = MODELS[name].fit(X[index], y[index], sample_weight=w)
            out.append(record(self.name, seed, method, metric, error(fitted.coef_), **facts))
        return out
