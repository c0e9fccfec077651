"""Trees and boosting on coresets against the full data: the promises, measured."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.metrics import log_loss, roc_auc_score
from threadpoolctl import threadpool_limits

from coretree.coreset.class_sketches import sketch_classes
from coretree.coreset.priority import Sample, sketch
from coretree.coreset.quotas import class_quotas
from coretree.coreset.residuals import ResidualState, residual_scores
from coretree.coreset.rows import uniforms
from coretree.learn.fit import fit_weighted
from coretree.learn.tree_pilot import fit_tree_pilot

Array = npt.NDArray[Any]
SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Small fits: more threads would only wait for one another."""
    with threadpool_limits(1):
        yield


def real(name: str, target: str) -> tuple[Array, Array]:
    """Features as numbers, and the target, of a data set that lies outside the repository."""
    path = SHARED / f"{name}.parquet"
    if not path.exists():
        pytest.skip(f"{path} is not there")
    frame = pd.read_parquet(path)
    y = frame.pop(target).to_numpy()
    columns = [c if pd.api.types.is_numeric_dtype(c) else pd.factorize(c, sort=True)[0] for _, c in frame.items()]
    return np.column_stack(columns).astype(np.float32), y


def rare(n: int, seed: int, start: float = -8.0) -> tuple[Array, Array]:
    """Non-linear classes: 0.9 % positives, or 0.3 % with a start of -9.5."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 8)).astype(np.float32)
    z = 1.6 * X[:, 0] * X[:, 1] + 1.3 * np.abs(X[:, 2]) + 0.8 * X[:, 3] + start
    return X, (rng.random(n) < 1 / (1 + np.exp(-z))).astype(np.intp)


def wavy(n: int, seed: int) -> tuple[Array, Array]:
    """A smooth surface with noise that differs by region."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 6)).astype(np.float32)
    noise = np.where(X[:, 3] > 1.2, 4.0, 0.2) * rng.normal(size=n)
    return X, X[:, 0] * X[:, 1] * 2 + 3 * np.abs(X[:, 2]) + noise


@dataclass(frozen=True)
class Case:
    """Training and held-out rows, the classes' counts, and a pilot."""

    X: Array
    y: Array
    X_test: Array
    y_test: Array
    counts: Array
    state: ResidualState
    seed: int

    def sample(self, scores: Array, m: int, purpose: str) -> Sample:
        ids = np.arange(len(self.y), dtype=np.uint64)
        u = uniforms(ids, self.seed, purpose)
        return sketch(ids, scores, {"i": np.arange(len(self.y))}, m, uniforms=u).finalise()

    def residual(self, m: int) -> Sample:
        return self.sample(residual_scores(self.X, self.y, self.state), m, "residual")

    def uniform(self, m: int) -> Sample:
        return self.sample(np.ones(len(self.y)), m, "uniform")

    def quota(self, m: int) -> Sample:
        ids = np.arange(len(self.y), dtype=np.uint64)
        quotas = class_quotas(self.counts.astype(int), m)
        u = uniforms(ids, self.seed, "quota")
        return sketch_classes(ids, self.y, {"i": np.arange(len(ids))}, quotas, uniforms=u).finalise(self.counts)


def case(X: Array, y: Array, n_classes: int, seed: int, pilot_rows: int = 4000) -> Case:
    """Hold a fifth out and fit the pilot on rows balanced between the classes."""
    u = uniforms(np.arange(len(y), dtype=np.uint64), seed, "split")
    train, test = u >= 0.2, u < 0.2
    A, b = X[train], y[train]
    codes = np.zeros(len(b), np.intp) if n_classes == 1 else b
    counts = np.bincount(codes, minlength=n_classes).astype(np.float64)
    order = np.argsort(uniforms(np.arange(len(b), dtype=np.uint64), seed, "pilot"))
    pilot = np.concatenate([order[codes[order] == c][: pilot_rows // n_classes] for c in range(n_classes)])
    state = fit_tree_pilot(A[pilot], b[pilot], np.ones(len(pilot)), counts)
    return Case(A, b, X[test], y[test], counts, state, seed)


def fitted(one: Case, sample: Sample, **options: Any) -> Any:
    """The named model's own estimator on a sample."""
    kind = HistGradientBoostingClassifier if len(one.counts) > 1 else HistGradientBoostingRegressor
    estimator = kind(l2_regularization=1.0, early_stopping=False)
    i = sample.rows["i"]
    return fit_weighted(estimator, one.X[i], one.y[i], weights=sample.weights, **options)


def losses(one: Case, model: Any) -> tuple[float, float]:
    """Held-out log loss, and AUC of two classes."""
    K = len(one.counts)
    p = np.zeros((len(one.y_test), K))
    p[:, np.asarray(model.classes_, np.intp)] = model.predict_proba(one.X_test)
    auc = float(roc_auc_score(one.y_test, p[:, 1])) if K == 2 else np.nan
    return float(log_loss(one.y_test, np.clip(p, 1e-15, 1), labels=np.arange(K))), auc


def gaps(X: Array, y: Array, seeds: int, share: float) -> Array:
    """Held-out squared error above the full fit's: of uniform and of residual samples; shape (seeds, 2)."""
    found = []
    for seed in range(seeds):
        one = case(X, y.astype(np.float64), 1, seed, 2000)
        m = int(share * len(one.y))

        def error(sample: Sample, one: Case = one) -> float:
            return float(np.mean((fitted(one, sample).predict(one.X_test) - one.y_test) ** 2))

        full = error(one.uniform(len(one.y)))
        found.append([error(one.uniform(m)) / full - 1, error(one.residual(m)) / full - 1])
    return np.array(found)


def test_probabilities_come_back_to_the_rates_of_the_data() -> None:
    """The mean of shifted probabilities is the class's share, for both forms; unshifted ones are far off."""
    one = case(*rare(20_000, 0), 2, 0, 600)
    rate = one.counts[1] / one.counts.sum()
    counts = dict(enumerate(one.counts.tolist()))
    for sample, mass in ((one.quota(800), "rows"), (one.residual(800), "root")):
        model = fitted(one, sample, class_counts=counts, class_mass=mass)
        assert model.predict_proba(one.X_test)[:, 1].mean() == pytest.approx(rate, rel=0.5)
        assert model.estimator_.predict_proba(one.X_test)[:, 1].mean() > 3 * rate


@pytest.mark.slow
@pytest.mark.parametrize(("start", "bar"), [(-9.5, 1.05), (-8.0, 1.08)], ids=["0.3 %", "0.9 %"])
def test_rare_class_boosting_at_2000_rows(start: float, bar: float) -> None:
    """Measured at 0.9 %: 1.055, median of 8 seeds, just above the 1.05 that holds for rarer classes."""
    found = []
    for seed in range(5):
        one = case(*rare(100_000, seed, start), 2, seed)
        counts = dict(enumerate(one.counts.tolist()))
        full = losses(one, fitted(one, one.uniform(len(one.y))))
        ours = losses(one, fitted(one, one.residual(2000), class_counts=counts, class_mass="root"))
        uniform = losses(one, fitted(one, one.uniform(2000), class_counts=counts))
        found.append([ours[0] / full[0], full[1] - ours[1], uniform[0] / full[0]])
    median = np.median(found, axis=0)
    assert median[0] <= bar
    assert median[1] <= 0.02
    assert median[2] > 1.15  # negative control


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "target"), [("diamonds", "price"), ("california_housing", "MedHouseVal"), ("wavy", "")]
)
def test_boosted_regression_at_a_fifth_of_the_rows(name: str, target: str) -> None:
    X, y = wavy(30_000, 0) if not target else real(name, target)
    uniform, ours = np.median(gaps(X, y, 5, 0.2), axis=0)
    assert ours <= 0.75 * uniform


@pytest.mark.slow
@pytest.mark.parametrize(("name", "target", "m"), [("covtype_20k", "cover_type", 3200), ("shuttle", "target", 2320)])
def test_multi_class_boosting_is_never_much_worse_than_uniform(name: str, target: str, m: int) -> None:
    X, labels = real(name, target)
    y = np.unique(labels, return_inverse=True)[1]
    K = int(y.max()) + 1
    for seed in range(2):
        one = case(X, y, K, seed)
        counts = dict(enumerate(one.counts.tolist()))
        uniform = losses(one, fitted(one, one.uniform(m), class_counts=counts))[0]
        assert losses(one, fitted(one, one.quota(m), class_counts=counts))[0] <= 1.05 * uniform
        assert losses(one, fitted(one, one.residual(m), class_counts=counts, class_mass="root"))[0] <= 1.05 * uniform
