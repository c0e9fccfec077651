"""Linear models: how each family is fitted and judged, and by how much a fit on few rows misses the best objective."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.optimize import minimize
from scipy.special import logsumexp, xlogy
from sklearn.linear_model import LogisticRegression, PoissonRegressor
from sklearn.svm import LinearSVC

import coretree as ct
from benchmarks.quality_bars import (
    BALANCED,
    FLOOR,
    FULL,
    LEVERAGE,
    ONE,
    OURS,
    THREE,
    UNIFORM,
    Bar,
    Record,
    Scale,
    record,
)
from benchmarks.quality_data import Frame, real
from benchmarks.quality_samples import built, prepared, sampled
from coretree.data.to_sklearn import to_sklearn

PASSES = {ONE: 1, OURS: 2, THREE: 3}
ROUNDED = 0.05
Theta = np.ndarray  # (1 or K, d + 1), the intercept first


@dataclass(frozen=True)
class Family:
    """A loss with the penalty of C = 1: the estimator that minimises it, its value over rows, the sketch it wants."""

    objective: str
    task: str
    fit: Callable[[np.ndarray, np.ndarray, np.ndarray], Theta]
    losses: Callable[[np.ndarray, np.ndarray], np.ndarray]
    penalised_intercept: bool = False

    def value(self, X: np.ndarray, y: np.ndarray, theta: Theta) -> float:
        """Objective over all rows."""
        penalty = np.square(theta if self.penalised_intercept else theta[:, 1:]).sum()
        return float(self.losses(theta[:, 0] + X @ theta[:, 1:].T, y).sum() + 0.5 * penalty)


def fit_logistic(X: np.ndarray, y: np.ndarray, w: np.ndarray) -> Theta:
    """Newton where the Hessian is small."""
    K = len(np.unique(y))
    solver = "newton-cholesky" if X.shape[1] * (K if K > 2 else 1) < 700 else "lbfgs"
    model = LogisticRegression(C=1.0, solver=solver, tol=1e-9, max_iter=3000).fit(X, y, sample_weight=w)
    return np.c_[model.intercept_, model.coef_]


def logistic_losses(z: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Cross entropy of two or more classes."""
    if z.shape[1] == 1:
        return np.logaddexp(0, z[:, 0]) - y * z[:, 0]
    return logsumexp(z, axis=1) - z[np.arange(len(z)), y]


def fit_squared_hinge(X: np.ndarray, y: np.ndarray, w: np.ndarray) -> Theta:
    """scikit-learn's own, in the primal; it penalises the intercept."""
    model = LinearSVC(C=1.0, dual=False, tol=1e-9, max_iter=20_000).fit(X, y, sample_weight=w)
    return np.c_[model.intercept_, model.coef_]


def squared_hinge_losses(z: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Square of the shortfall from margin 1."""
    return np.square(np.maximum(1 - (2 * y - 1) * z[:, 0], 0))


def hinge_losses(z: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Shortfall from margin 1, rounded off below ROUNDED: dual solvers of the corner crawl on large weights."""
    gap = np.maximum(1 - (2 * y - 1) * z[:, 0], 0)
    return np.where(gap >= ROUNDED, gap - ROUNDED / 2, np.square(gap) / (2 * ROUNDED))


def fit_hinge(X: np.ndarray, y: np.ndarray, w: np.ndarray) -> Theta:
    """Newton in a trust region, from a wide rounding to the one that counts."""
    A, s, scale = np.c_[np.ones(len(X)), X], 2.0 * y - 1, w / w.sum()
    ridge = np.r_[0.0, np.ones(X.shape[1])] / w.sum()

    def value(theta: np.ndarray, width: float) -> tuple[float, np.ndarray]:
        gap = np.maximum(1 - s * (A @ theta), 0)
        loss = np.where(gap >= width, gap - width / 2, np.square(gap) / (2 * width))
        slope = A.T @ (-s * scale * np.minimum(gap / width, 1)) + ridge * theta
        return float(scale @ loss + 0.5 * ridge @ np.square(theta)), slope

    def hessian(theta: np.ndarray, width: float) -> np.ndarray:
        gap = 1 - s * (A @ theta)
        bent = (gap > 0) & (gap < width)
        return (A[bent] * (scale[bent] / width)[:, None]).T @ A[bent] + np.diag(ridge)

    theta = np.zeros(A.shape[1])
    for width in (2.0, 0.5, 0.15, ROUNDED):
        options = {"gtol": 1e-8, "maxiter": 500}
        theta = minimize(value, theta, (width,), "trust-exact", jac=True, hess=hessian, options=options).x
    return theta[None]


def fit_poisson(X: np.ndarray, y: np.ndarray, w: np.ndarray) -> Theta:
    """scikit-learn's own, whose penalty is for weights that sum to one."""
    model = PoissonRegressor(alpha=1 / w.sum(), solver="newton-cholesky", tol=1e-9, max_iter=500)
    model.fit(X, y, sample_weight=w)
    return np.r_[model.intercept_, model.coef_][None]


def poisson_losses(z: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Half the deviance."""
    return np.exp(z[:, 0]) - y * z[:, 0] + xlogy(y, y) - y


LOGISTIC = Family("robust", "classification", fit_logistic, logistic_losses)
SQUARED_HINGE = Family("squared_hinge", "classification", fit_squared_hinge, squared_hinge_losses, True)
HINGE = Family("hinge", "classification", fit_hinge, hinge_losses)
POISSON = Family("poisson", "regression", fit_poisson, poisson_losses)


@dataclass(frozen=True)
class Linear:
    """One data set and family. Rows of a coreset: ``max(2000, rows_a_parameter x parameters)``."""

    name: str
    group: str
    make: Frame | str
    bars: tuple[Bar, ...]
    family: Family = LOGISTIC
    rows: int = 100_000
    rows_a_parameter: int = 60
    methods: tuple[str, ...] = (OURS, UNIFORM, BALANCED, LEVERAGE)
    sweep: tuple[float, ...] = (0.5, 1, 2.5, 5)
    leaves: int = 16

    def ready(self, scale: Scale) -> bool:
        """Whether the data is there."""
        return not isinstance(self.make, str) or real(scale.data, self.make) is not None

    def measure(self, seeds: Sequence[int], scale: Scale) -> Iterator[list[Record]]:
        """Records of one seed after the other; the full fit is made once, as the preparation knows no seed."""
        make = real(scale.data, self.make) if isinstance(self.make, str) else self.make
        assert make is not None
        frame = make(scale.rows or self.rows)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # small samples of rare classes: solvers say so, the excess does too
            full = _Full.of(self.family, built(frame, self.family.task, size=10, objectives=["uniform"]), frame)
            for seed in seeds:
                yield self._of_seed(full, frame, seed, self._sizes(full, scale))

    def _of_seed(self, full: _Full, frame: pd.DataFrame, seed: int, sizes: dict[int, bool]) -> list[Record]:
        trees = {}
        for method in (m for m in self.methods if m in PASSES):
            # a tree of one pass has no prepared rows, hence only the usual sketches
            named = {} if method == ONE else {"objectives": [self.family.objective]}
            options = {"size": max(sizes), "seed": seed, "passes": PASSES[method], **named}
            trees[method] = built(frame, self.family.task, leaves=self.leaves, **options)
        out = [record(self.name, seed, FULL, "objective", full.best / len(full.y), **full.facts)]
        for m, promised in sizes.items():
            facts = {**full.facts, "m": m, "promised": promised}
            for method in self.methods:
                if method in trees:
                    core = trees[method].coreset(m, objective=self.family.objective)
                    X = np.asarray(to_sklearn(trees[method].recipe_.preparation).transform(core.X))
                    excess = full.excess(X, full.codes_of(core.y.to_numpy()), core.sample_weight)
                    out += _said(self.name, seed, method, core, excess, facts)
                else:
                    index, w = sampled(method, full.X, full.strata, m, seed)
                    excess = full.excess(full.X[index], full.y[index], w)
                out.append(record(self.name, seed, method, "excess", excess, **facts))
        return out

    def _sizes(self, full: _Full, scale: Scale) -> dict[int, bool]:
        """Rows of the coresets, and which of them the promise is for."""
        promised = max(2000, self.rows_a_parameter * full.parameters)
        factors = self.sweep if scale.sweep else (1,)
        return {int(promised * f): f == 1 for f in factors if f == 1 or promised * f <= len(full.y) / 4}


def _said(name: str, seed: int, method: str, core: ct.Coreset, excess: float, facts: dict) -> list[Record]:
    """What the coreset reported of itself, beside what it turned out to be."""
    report = core.report
    expected = np.nan if report.expected_excess is None else report.expected_excess
    given_up = bool(report.warnings) or report.truncation > 0 or report.groups[-1:] != ("class sums",)
    return [
        record(name, seed, method, "expected", expected, **facts, report=report.to_dict()),
        record(name, seed, method, "excess / pilot's", excess / max(report.newton_decrement, FLOOR), **facts),
        record(name, seed, method, "gate", float(given_up), **facts),
    ]


@dataclass(frozen=True)
class _Full:
    """All rows as the models see them, and the best objective over them."""

    family: Family
    X: np.ndarray
    y: np.ndarray
    labels: np.ndarray | None
    best: float

    @classmethod
    def of(cls, family: Family, tree: ct.CoresetTree, frame: pd.DataFrame) -> _Full:
        X, labels = prepared(tree, frame), None
        y = frame["y"].to_numpy()
        if family.task == "classification":
            labels = tree.recipe_.labels
            y = np.searchsorted(labels, y)
        return cls(family, X, y, labels, family.value(X, y, family.fit(X, y, np.ones(len(y)))))

    @property
    def parameters(self) -> int:
        K = 1 if self.labels is None or len(self.labels) == 2 else len(self.labels)
        return K * (self.X.shape[1] + 1)

    @property
    def facts(self) -> dict[str, int]:
        return {"n": len(self.X), "d": self.X.shape[1], "m": len(self.X)}

    @property
    def strata(self) -> np.ndarray:
        """Classes; for counts, whether there is any."""
        return self.y if self.labels is not None else (self.y > 0).astype(int)

    def codes_of(self, y: np.ndarray) -> np.ndarray:
        return y if self.labels is None else np.searchsorted(self.labels, y)

    def excess(self, X: np.ndarray, y: np.ndarray, w: np.ndarray) -> float:
        """How far above the best, relative to it, the fit on these rows is; infinite where a class is missing."""
        if self.labels is not None and len(np.unique(y)) < len(self.labels):
            return np.inf
        found = self.family.value(self.X, self.y, self.family.fit(X, y, w))
        return max((found - self.best) / self.best, FLOOR)
