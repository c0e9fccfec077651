"""Clustering: centres and mixtures found on kd cells, against the best of several fits on all rows."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.cluster import KMeans
from sklearn.mixture import GaussianMixture

from benchmarks.quality_bars import FULL, OURS, UNIFORM, Bar, Record, Scale, record
from benchmarks.quality_data import Frame, real
from benchmarks.quality_samples import built, prepared
from coretree.coreset.cells import nearest
from coretree.learn.clustering import fit_clusters
from coretree.learn.mixture import fit_mixture

FULL_FITS = 3  # all rows have local optima too: the best of so many is the yardstick
AS_IT_IS = {"scale": "none"}  # the instances are hard by their geometry


@dataclass(frozen=True)
class Clusters:
    """k-means on the cells of a tree; rows in another order and other starts for each seed."""

    name: str
    group: str
    make: Frame | str
    k: int
    bars: tuple[Bar, ...]
    rows: int = 64_000
    scale: str = "none"
    leaves: int = 64

    def ready(self, scale: Scale) -> bool:
        """Whether the data is there."""
        return not isinstance(self.make, str) or real(scale.data, self.make) is not None

    def measure(self, seeds: Sequence[int], scale: Scale) -> Iterator[list[Record]]:
        """Records of one seed after the other; the full fits are made once."""
        make = real(scale.data, self.make) if isinstance(self.make, str) else self.make
        assert make is not None
        frame, m, best = make(scale.rows or self.rows).drop(columns="y"), max(2000, 40 * self.k), np.inf
        for seed in seeds:
            rows = np.random.default_rng(seed).permutation(len(frame))
            shuffled = frame.iloc[rows].reset_index(drop=True)
            tree = built(
                shuffled, None, leaves=self.leaves, target=None, size=m, cells=m, prepare={"scale": self.scale}
            )
            X = prepared(tree, shuffled)
            if not np.isfinite(best):
                fits = [KMeans(self.k, n_init=1, random_state=s).fit(X) for s in range(FULL_FITS)]
                best = min(cost(X, fit.cluster_centers_) for fit in fits)
            fit = fit_clusters(KMeans(self.k, n_init=5), tree.root_.cells, seed=seed)
            true = cost(X, fit.centers)
            index = np.random.default_rng([seed, 1]).choice(len(X), m, replace=False)
            plain = KMeans(self.k, n_init=5, random_state=seed).fit(X[index])
            facts = {"n": len(X), "d": X.shape[1], "m": m}
            yield [
                record(self.name, seed, FULL, "objective", best / len(X), **facts),
                record(self.name, seed, OURS, "excess cost", true / best - 1, **facts),
                record(self.name, seed, UNIFORM, "excess cost", cost(X, plain.cluster_centers_) / best - 1, **facts),
                record(self.name, seed, OURS, "cost / certificate - 1", true / fit.upper - 1, **facts),
            ]


@dataclass(frozen=True)
class Mixtures:
    """Gaussian mixtures on cells with scatter: nats lost for each held-out row."""

    name: str
    group: str
    make: Frame
    k: int
    bars: tuple[Bar, ...]
    rows: int = 40_000
    cells_a_component: int = 200
    leaves: int = 64

    def ready(self, scale: Scale) -> bool:
        """Its data is made here."""
        return True

    def measure(self, seeds: Sequence[int], scale: Scale) -> Iterator[list[Record]]:
        """Records of one seed after the other; every fit is the best of eight starts."""
        n, m = scale.rows or self.rows, self.cells_a_component * self.k
        frame = self.make(n + n // 4).drop(columns="y")
        order = np.random.default_rng(0).permutation(len(frame))
        train, test = (frame.iloc[rows].reset_index(drop=True) for rows in (order[:n], order[n:]))
        best = -np.inf
        for seed in seeds:
            rows = np.random.default_rng(seed).permutation(n)
            tree = built(
                train.iloc[rows].reset_index(drop=True), None, leaves=self.leaves, target=None,
                size=m, cells=m, scatter=True, prepare=AS_IT_IS,
            )  # fmt: skip
            held = prepared(tree, test)
            if not np.isfinite(best):
                best = best_mixture(prepared(tree, train), self.k, 0, held)
            ours = fit_mixture(GaussianMixture(self.k), tree.root_.cells, seed=seed).model.score(held)
            sample = prepared(tree, train.iloc[np.random.default_rng([seed, 1]).choice(n, m, replace=False)])
            facts = {"n": n, "d": held.shape[1], "m": m}
            yield [
                record(self.name, seed, FULL, "objective", -best, **facts),
                record(self.name, seed, OURS, "nats lost", best - ours, **facts),
                record(self.name, seed, UNIFORM, "nats lost", best - best_mixture(sample, self.k, seed, held), **facts),
            ]


def cost(X: np.ndarray, centres: np.ndarray) -> float:
    """Sum of squared distances of all rows to their nearest centres."""
    return float(nearest(X, np.asarray(centres, np.float64))[1].sum())


def best_mixture(X: np.ndarray, k: int, seed: int, held: np.ndarray) -> float:
    """Held-out log-likelihood a row of scikit-learn's mixture, the best of eight starts by its own bound."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a start that does not settle is not the best one
        return float(GaussianMixture(k, n_init=8, random_state=seed).fit(X).score(held))
