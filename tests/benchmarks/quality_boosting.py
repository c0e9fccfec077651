"""Boosting on few rows, judged on rows that neither the tree nor the fit has seen, against boosting on all rows."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.metrics import log_loss, mean_squared_error, roc_auc_score

import coretree as ct
from benchmarks.quality_bars import BALANCED, FULL, OURS, RESIDUAL, UNIFORM, Bar, Record, Scale, record
from benchmarks.quality_data import Frame, real
from benchmarks.quality_samples import built, prepared, sampled

OPTIONS = {"l2_regularization": 1.0, "early_stopping": False, "random_state": 0}
NO_CHANCE = 1e-12  # probability of a class that a sample did not hold


@dataclass(frozen=True)
class Boosting:
    """One data set; ``size`` is the number of rows of a coreset, or its share of all rows where it is below one."""

    name: str
    group: str
    make: Frame | str
    bars: tuple[Bar, ...]
    size: float
    task: str = "classification"
    rows: int = 60_000
    leaves: int = 16
    iterations: int = 60
    methods: tuple[str, ...] = (OURS, RESIDUAL, UNIFORM, BALANCED)

    def ready(self, scale: Scale) -> bool:
        """Whether the data is there."""
        return not isinstance(self.make, str) or real(scale.data, self.make) is not None

    def measure(self, seeds: Sequence[int], scale: Scale) -> Iterator[list[Record]]:
        """Records of one seed after the other; a quarter of the rows is held out, the same for all seeds."""
        make = real(scale.data, self.make) if isinstance(self.make, str) else self.make
        assert make is not None
        frame = make(scale.rows or self.rows)
        order = np.random.default_rng(0).permutation(len(frame))
        parts = np.split(order, [3 * len(frame) // 4])
        train, test = (frame.iloc[rows].reset_index(drop=True) for rows in parts)
        m, full = int(self.size if self.size > 1 else self.size * len(train)), None
        for seed in seeds:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                options = {"leaves": self.leaves, "size": m, "seed": seed}
                trees = {OURS: built(train, self.task, **options)}
                if RESIDUAL in self.methods and self.task == "classification":  # a default for numbers
                    trees[RESIDUAL] = built(train, self.task, objectives="residual", **options)
                full = full or _Judge(self, trees[OURS], train, test)
                yield self._of_seed(full, trees, m, seed)

    def _of_seed(self, judge: _Judge, trees: dict[str, ct.CoresetTree], m: int, seed: int) -> list[Record]:
        kind = ct.CoresetClassifier if self.task == "classification" else ct.CoresetRegressor
        found = {FULL: judge.full}
        for method, tree in trees.items():
            found[method] = judge.scores(kind(judge.estimator(), tree=tree, size=m).fit(), judge.test)
        for method in (UNIFORM, BALANCED):
            if method not in self.methods or (method == BALANCED and self.task == "regression"):
                continue
            index, w = sampled(method, judge.X, judge.codes, m, seed)
            fitted = judge.estimator().fit(judge.X[index], judge.y[index], sample_weight=w / w.mean())
            found[method] = judge.scores(fitted, judge.held)
        facts = {"n": len(judge.X), "d": judge.X.shape[1], "m": m}
        return [record(self.name, seed, k, name, v, **facts) for k, s in found.items() for name, v in s.items()]


class _Judge:
    """Held-out rows, the model of all rows, and by how much others fall short of it."""

    def __init__(self, case: Boosting, tree: ct.CoresetTree, train: pd.DataFrame, test: pd.DataFrame) -> None:
        self.task, self.iterations = case.task, case.iterations
        self.X, self.held, y = prepared(tree, train), prepared(tree, test), train["y"].to_numpy()
        self.y, self.test, self.truth = y, test.drop(columns="y"), test["y"].to_numpy()
        self.labels, codes = np.unique(y, return_inverse=True)
        self.codes = codes if case.task == "classification" else np.zeros(len(y), int)
        self.raw = self._raw(self.estimator().fit(self.X, y), self.held)
        self.full = self._scores(self.raw, self.raw)

    def estimator(self) -> Any:
        """What is fitted everywhere."""
        kind = HistGradientBoostingClassifier if self.task == "classification" else HistGradientBoostingRegressor
        return kind(max_iter=self.iterations, **OPTIONS)

    def scores(self, model: Any, rows: Any) -> dict[str, float]:
        """Metrics of a fitted model, absolute and beside those of all rows."""
        return self._scores(self._raw(model, rows), self.raw)

    def _raw(self, model: Any, rows: Any) -> np.ndarray:
        """Predicted numbers, or probabilities of all classes."""
        if self.task == "regression":
            return np.asarray(model.predict(rows))
        p = np.full((len(self.truth), len(self.labels)), NO_CHANCE)
        p[:, np.searchsorted(self.labels, model.classes_)] = np.maximum(model.predict_proba(rows), NO_CHANCE)
        return p / p.sum(axis=1, keepdims=True)

    def _scores(self, raw: np.ndarray, full: np.ndarray) -> dict[str, float]:
        if self.task == "regression":
            mse, best = (float(mean_squared_error(self.truth, v)) for v in (raw, full))
            return {"MSE": mse, "MSE gap": mse / best - 1}
        loss, best = (log_loss(self.truth, p, labels=self.labels) for p in (raw, full))
        found = {"log loss": float(loss), "log loss / full": float(loss / best)}
        if len(self.labels) == 2:
            auc, top = (float(roc_auc_score(self.truth, p[:, 1])) for p in (raw, full))
            found |= {"AUC": auc, "AUC lost": top - auc}
        return found
