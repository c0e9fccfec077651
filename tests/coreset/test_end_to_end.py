"""Two passes over generated partitions, then a fit: the excess over the full-data optimum, against uniform sampling."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy.special import expit

from coretree.coreset.calibrate import calibrate
from coretree.coreset.calibrated import Calibrated
from coretree.coreset.derivatives import objective
from coretree.coreset.losses import loss_named
from coretree.coreset.pilot import fit_pilot, pilot_scores
from coretree.coreset.priority import Sample, merge, sketch
from coretree.coreset.rows import concatenate, row_ids, uniforms
from coretree.coreset.scores import PilotState, pilot_state, robust_scores
from coretree.coreset.totals import Totals, thinning, totals_at

Array = npt.NDArray[Any]
N, PARTS, M, SEEDS = 50_000, 16, 2_000, 3


@dataclass(frozen=True)
class Problem:
    X: Array
    y: Array
    n_classes: int
    loss: str

    @property
    def ids(self) -> Array:
        return row_ids("generated.parquet", 0, np.arange(len(self.X)))

    def counts(self) -> Array:
        codes = self.y if self.n_classes > 1 else np.zeros(len(self.y), int)
        return np.bincount(codes, minlength=self.n_classes).astype(float)


def standardised(X: Array) -> Array:
    return np.column_stack([np.ones(len(X)), (X - X.mean(0)) / X.std(0)])


def gauss(n: int = N, d: int = 20, seed: int = 1) -> Problem:
    rng = np.random.default_rng(seed)
    mix = rng.standard_normal((d, d)) / np.sqrt(d) + 0.5 * np.eye(d)
    X = rng.standard_normal((n, d)) @ mix
    z = X @ rng.standard_normal(d)
    return Problem(standardised(X), (rng.random(n) < expit(1.7 * z / z.std())).astype(int), 2, "logistic")


def heavy(n: int = N, d: int = 20, seed: int = 2, rate: float = 0.01) -> Problem:
    """Student t features over two decades of scale, rare positives, a link that the model does not have."""
    rng = np.random.default_rng(seed)
    Z = rng.standard_t(2.5, (n, d))
    b = rng.standard_normal(d)
    z = (2.4 * np.tanh(Z / 2) + 0.3 * Z) @ (1.2 * b / np.linalg.norm(b))
    low, high = -60.0, 60.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if expit(z + middle).mean() > rate else (middle, high)
    y = (rng.random(n) < expit(z + low)).astype(int)
    return Problem(standardised(Z * 10 ** rng.uniform(-1, 1, d)), y, 2, "logistic")


def softmax(n: int = N, d: int = 10, K: int = 5, seed: int = 3) -> Problem:
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, d))
    z = X @ rng.standard_normal((d, K)) * 0.7 + np.log(np.arange(1, K + 1)) * 0.8
    y = (z + rng.gumbel(size=z.shape)).argmax(1)
    return Problem(standardised(X), y, K, "softmax")


def counting(n: int = N, d: int = 10, seed: int = 4) -> Problem:
    """Over-dispersed counts with a few large features."""
    rng = np.random.default_rng(seed)
    X = rng.standard_t(4, (n, d))
    mean = np.exp(np.clip(X @ rng.standard_normal(d) * 0.2, -6, 6)) * rng.gamma(2.0, 0.5, n)
    return Problem(standardised(X), rng.poisson(mean).astype(float), 1, "poisson")


def margin(loss: str) -> Problem:
    p = gauss(d=10)
    return Problem(p.X, p.y, 2, loss)


def first_pass(p: Problem, seed: int, m0: int) -> Sample:
    """Pilot rows: a sketch per class, scored inside each partition."""
    ids, u = p.ids, uniforms(p.ids, seed, "pilot")
    codes = p.y if p.n_classes > 1 else np.zeros(len(p.y), int)
    kept = []
    for c in range(p.n_classes):
        parts = []
        for cut in np.array_split(np.arange(len(p.X)), PARTS):
            score = pilot_scores(p.X[cut], codes[cut], p.n_classes)
            own = codes[cut] == c
            rows = {"at": cut[own]}
            parts.append(sketch(ids[cut[own]], score[own], rows, m0 // p.n_classes, uniforms=u[cut[own]]))
        kept.append(merge(parts).finalise())
    return joined(kept)


def joined(samples: list[Sample]) -> Sample:
    return Sample(
        rows=concatenate([s.rows for s in samples]),
        ids=np.concatenate([s.ids for s in samples]),
        weights=np.concatenate([s.weights for s in samples]),
        base=np.concatenate([s.base for s in samples]),
        score=np.concatenate([s.score for s in samples]),
        threshold=np.inf,
    )


def second_pass(p: Problem, state: PilotState, seed: int, m: int) -> tuple[Sample, Totals]:
    ids, u = p.ids, uniforms(p.ids, seed, "robust")
    v = uniforms(ids, seed, "hessian")
    sketches, totals = [], []
    for cut in np.array_split(np.arange(len(p.X)), PARTS):
        X, y = np.asfortranarray(p.X[cut], np.float32), p.y[cut]
        score = robust_scores(X, y, state)
        sketches.append(sketch(ids[cut], score, {"at": cut}, m, uniforms=u[cut]))
        totals.append(totals_at(X, y, None, state, thin=thinning(v[cut], score, 100 * state.theta.size)))
    return merge(sketches).finalise(), sum(totals[1:], totals[0])


def coreset(p: Problem, seed: int, m: int = M, m0: int = 4_000) -> tuple[Sample, Calibrated, PilotState, Totals]:
    pilot = first_pass(p, seed, m0)
    at = pilot.rows["at"]
    state = pilot_state(p.X[at], p.y[at], pilot.weights, p.loss, p.counts())
    sample, totals = second_pass(p, state, seed, m)
    at = sample.rows["at"]
    return sample, calibrate(sample.weights, sample.base, p.X[at], p.y[at], state, totals), state, totals


def excess_of(p: Problem, at: Array, w: Array, best: float) -> float:
    theta = fit_pilot(p.X[at], p.y[at], w, p.loss, n_classes=p.n_classes)
    return objective(theta, p.X, p.y, np.ones(len(p.X)), loss_named(p.loss), 1.0) / best - 1.0


def measure(p: Problem, seeds: int = SEEDS, m: int = M) -> dict[str, float]:
    """Median excess of fits on calibrated, sampled and uniform rows."""
    ones = np.ones(len(p.X))
    best = objective(fit_pilot(p.X, p.y, ones, p.loss), p.X, p.y, ones, loss_named(p.loss), 1.0)
    found: dict[str, list[float]] = {"calibrated": [], "sampled": [], "uniform": [], "predicted": []}
    for seed in range(seeds):
        sample, done, _, _ = coreset(p, seed, m)
        at = sample.rows["at"]
        found["calibrated"].append(excess_of(p, at, done.weights, best))
        found["sampled"].append(excess_of(p, at, sample.weights, best))
        assert done.report.expected_excess is not None
        found["predicted"].append(done.report.expected_excess)
        plain = np.random.default_rng(seed).choice(len(p.X), m, replace=False)
        found["uniform"].append(excess_of(p, plain, np.full(m, len(p.X) / m), best))
    return {name: float(np.median(values)) for name, values in found.items()}


@pytest.mark.parametrize(
    ("problem", "limit", "gain"),
    [
        pytest.param(gauss, 1e-5, 500, id="gauss"),
        pytest.param(heavy, 3e-3, 50, id="heavy"),
        pytest.param(softmax, 1e-3, 20, id="softmax"),
        pytest.param(counting, 1e-3, 50, id="poisson"),
    ],
)
def test_excess_is_small_and_far_below_uniform(problem: Any, limit: float, gain: float) -> None:
    found = measure(problem())
    assert abs(found["calibrated"]) <= limit, found
    assert found["uniform"] >= gain * abs(found["calibrated"]), found


@pytest.mark.parametrize(("loss", "limit", "gain"), [("squared_hinge", 1e-3, 50), ("hinge", 5e-3, 8)])
def test_excess_of_support_vector_losses(loss: str, limit: float, gain: float) -> None:
    found = measure(margin(loss))
    assert abs(found["calibrated"]) <= limit, found
    assert found["uniform"] >= gain * abs(found["calibrated"]), found


def test_the_sample_predicts_its_own_excess() -> None:
    found = measure(heavy())
    assert 0.4 < found["predicted"] / found["sampled"] < 2.5, found


def test_partitions_do_not_change_the_sample() -> None:
    """Given the broadcast state, another plan gives the same rows and design weights, and the same fit."""
    p = gauss(n=8_000)
    state = pilot_state(p.X[::4], p.y[::4], np.full(2_000, 4.0), p.loss, p.counts())
    ids, u, found = p.ids, uniforms(p.ids, 0, "robust"), []
    for parts in (1, 7):
        cuts = np.array_split(np.random.default_rng(parts).permutation(8_000), parts)
        sketches = [sketch(ids[c], robust_scores(p.X[c], p.y[c], state), {"at": c}, 500, uniforms=u[c]) for c in cuts]
        totals = [totals_at(p.X[c], p.y[c], None, state) for c in cuts]
        s = merge(sketches).finalise()
        at = s.rows["at"]
        found.append((s, calibrate(s.weights, s.base, p.X[at], p.y[at], state, sum(totals[1:], totals[0]))))
    (a, one), (b, seven) = found
    assert np.array_equal(a.ids, b.ids)
    assert np.allclose(a.weights, b.weights, rtol=1e-9)  # scores come from blocked float products
    assert np.allclose(one.weights, seven.weights, rtol=1e-6)


def test_a_hopeless_pilot_does_no_harm() -> None:
    """Thirty pilot rows with at most one positive: finite, and far better than the pilot itself."""
    p = heavy(n=20_000)
    ones = np.ones(20_000)
    best = objective(fit_pilot(p.X, p.y, ones, p.loss), p.X, p.y, ones, loss_named(p.loss), 1.0)
    for positives in (0, 1):
        at = np.r_[np.flatnonzero(p.y == 0)[: 30 - positives], np.flatnonzero(p.y == 1)[:positives]]
        state = pilot_state(p.X[at], p.y[at], np.full(30, 20_000 / 30), p.loss, p.counts())
        pilot = objective(state.theta, p.X, p.y, ones, loss_named(p.loss), 1.0) / best - 1
        sample, totals = second_pass(p, state, 0, M)
        rows = sample.rows["at"]
        done = calibrate(sample.weights, sample.base, p.X[rows], p.y[rows], state, totals)
        assert excess_of(p, rows, done.weights, best) < pilot
        assert done.report.warnings


@pytest.mark.slow
def test_each_round_squares_the_error() -> None:
    p, w = heavy(n=200_000), np.ones(200_000)
    best = objective(fit_pilot(p.X, p.y, w, p.loss), p.X, p.y, w, loss_named(p.loss), 1.0)
    pilot = first_pass(p, 0, 4_000)
    at, weights, theta = pilot.rows["at"], pilot.weights, None
    for limit in (1e-2, 1e-5, 1e-9):
        state = pilot_state(p.X[at], p.y[at], weights, p.loss, p.counts(), theta=theta)
        sample, totals = second_pass(p, state, 0, M)
        at = sample.rows["at"]
        weights = calibrate(sample.weights, sample.base, p.X[at], p.y[at], state, totals).weights
        theta = fit_pilot(p.X[at], p.y[at], weights, p.loss)
        assert objective(theta, p.X, p.y, w, loss_named(p.loss), 1.0) / best - 1 < limit


@pytest.mark.slow
@pytest.mark.parametrize("make", [gauss, heavy])
def test_sorted_data_are_at_most_ten_times_worse(make: Any) -> None:
    p = make()
    order = np.lexsort((p.X[:, 1], p.y))
    arranged = Problem(p.X[order], p.y[order], p.n_classes, p.loss)
    assert measure(arranged, seeds=5)["calibrated"] < 10 * max(measure(p, seeds=5)["calibrated"], 1e-7)


@pytest.mark.slow
def test_rare_levels_of_one_hot_columns() -> None:
    """Three classes, 84 one-hot columns down to a few dozen rows a level."""
    rng, n = np.random.default_rng(0), 60_000
    columns = [rng.normal(size=(n, 6))]
    for levels in (40, 38):
        share = np.geomspace(1, 0.005, levels)
        columns.append(np.eye(levels)[rng.choice(levels, n, p=share / share.sum())])
    X = np.hstack(columns)
    y = (X @ rng.normal(size=(X.shape[1], 3)) * 0.8 + rng.gumbel(size=(n, 3))).argmax(1)
    found = measure(Problem(standardised(X), y, 3, "softmax"), seeds=3, m=4_000)
    assert found["calibrated"] < 5e-4, found
    assert found["uniform"] > 50 * found["calibrated"], found
