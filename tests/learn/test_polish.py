"""Newton steps on all rows: they square the error, never raise the objective, and survive what makes Newton diverge."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from coretree.learn.certificate import Excess, excess_of
from coretree.learn.curvature import CurvatureTally, Probe, curvature_tally, probe_at, sample_metric
from coretree.learn.margins import Float
from coretree.learn.penalised import Penalised, penalised
from coretree.learn.polish import Polished, SampleRows, descend

NEWTON: dict[str, Any] = {"solver": "newton-cholesky", "tol": 1e-12, "max_iter": 1000}


class World:
    """All rows of a logistic problem, the optimum of scikit-learn, and the model of a sample by norm."""

    def __init__(
        self, seed: int, *, n: int = 4000, spread: float = 1.0, a_parameter: int = 60, classes: int = 2
    ) -> None:
        rng = np.random.default_rng(seed)
        d = int(rng.integers(3, 9))
        X = rng.standard_normal((n, d)) / np.sqrt(rng.chisquare(4, (n, 1)) / 4)
        scores = spread * X @ rng.normal(size=(d, classes)) / np.sqrt(d) + rng.gumbel(size=(n, classes))
        self.y = scores.argmax(axis=1)
        size = np.sqrt(1 + (X**2).sum(axis=1))
        share = np.minimum(1, a_parameter * (d + 1) * (classes - 1) * size / size.sum())
        keep = np.flatnonzero(rng.random(n) < share)
        options = {**NEWTON, "C": float(rng.choice([0.01, 1.0, 100.0]))}
        self.best = LogisticRegression(**options).fit(X, self.y)
        self.small = LogisticRegression(**options).fit(X[keep], self.y[keep], sample_weight=1 / share[keep])
        self.objective = found(self.small)
        self.X, self.l2 = self.objective.design(X), self.objective.l2
        self.sample = SampleRows(self.X[keep], self.y[keep].astype(float), 1 / share[keep])
        self.looks = 0
        self.optimum = self.at(found(self.best).theta)
        assert self.optimum.upper < 1e-10 * self.optimum.objective

    def look(self, theta: Float, trials: Float) -> tuple[Probe, CurvatureTally]:
        self.looks += 1
        rows = self.sample
        metric = sample_metric(self.objective.loss, theta, self.l2, rows.X, rows.y, rows.weights)
        probe = probe_at(self.objective.loss, theta, metric, trials)
        return probe, curvature_tally(probe, self.X, self.y.astype(float))

    def at(self, theta: Float) -> Excess:
        return excess_of(self.objective, *self.look(theta, np.zeros((0, *theta.shape))))

    def excess(self, theta: Float) -> float:
        """Relative, with what is not known of the optimum."""
        return (self.at(theta).objective - self.optimum.objective) / self.optimum.objective

    def polish(self, start: Float, passes: int, sample: bool = True) -> Polished:
        return descend(self.look, replace(self.objective, theta=start), self.sample if sample else None, passes)


def found(model: Any) -> Penalised:
    objective = penalised(model)
    assert objective is not None
    return objective


SEEDS = range(20)


@cache
def world_of(seed: int) -> World:
    return World(seed, spread=1.0 + seed % 3, classes=2 if seed % 4 else 3)


@pytest.fixture(scope="module", params=SEEDS)
def world(request: pytest.FixtureRequest) -> World:
    return world_of(request.param)


def test_the_excess_of_a_sample_is_within_its_bounds(world: World) -> None:
    start = world.at(world.objective.theta)
    true = start.objective - world.optimum.objective
    slack = world.optimum.upper
    assert start.lower <= true + slack
    assert true <= start.upper
    if true < 1e-2 * world.optimum.objective:
        assert true / 2 <= start.estimate <= 2 * (true + slack)
    # what the sample cost can be told from what it did not: nearer the optimum, bounds come near each other
    near = found(world.best).theta + 0.03 * (world.objective.theta - found(world.best).theta)
    close = world.at(near)
    true = close.objective - world.optimum.objective
    assert close.lower <= true + slack
    assert true <= close.upper < 1.5 * true + slack


def at_excess(world: World, wanted: float) -> Float:
    """Parameters of that relative excess, on the line from the optimum through the sample's."""
    best = found(world.best).theta
    low, high = 0.0, 1.0
    while world.excess(best + high * (world.objective.theta - best)) < wanted:
        high *= 2
    for _ in range(12):
        middle = (low + high) / 2
        if world.excess(best + middle * (world.objective.theta - best)) < wanted:
            low = middle
        else:
            high = middle
    return np.asarray(best + high * (world.objective.theta - best), np.float64)


def test_one_pass_and_two_passes(world: World) -> None:
    start = at_excess(world, 1e-3)
    assert world.excess(start) == pytest.approx(1e-3, rel=0.05)
    assert world.excess(world.polish(start, 1).theta) <= 1e-5
    assert world.excess(world.polish(start, 2).theta) <= 1e-9
    assert world.excess(world.polish(start, 1, sample=False).theta) <= 1e-4  # Newton's own step, for a loaded model


def test_passes_are_counted_and_a_proven_step_costs_one() -> None:
    world = world_of(1)
    start = at_excess(world, 1e-4)
    world.looks = 0
    done = world.polish(start, 1)
    assert [step.gate for step in done.steps] == ["proven"]
    assert done.n_passes == world.looks == 1
    world.looks = 0
    done = world.polish(start, 9)
    assert done.steps[-1].gate == "converged"  # it does not go on for nothing
    assert done.n_passes == world.looks == len(done.steps) < 6
    assert world.excess(done.theta) < 1e-11


@settings(max_examples=20, deadline=None)
@given(st.sampled_from(SEEDS), st.floats(0.01, 30.0), st.integers(0, 99), st.booleans())
def test_polish_never_raises_the_objective(seed: int, size: float, draw: int, sample: bool) -> None:
    world = world_of(seed)
    shape = world.objective.theta.shape
    start = world.objective.theta + size * np.random.default_rng(draw).normal(size=shape)
    before = world.at(start).objective
    done = world.polish(start, 2, sample)
    values = [step.before.objective for step in done.steps] + [world.at(done.theta).objective]
    assert (np.diff([before, *values]) <= 1e-11 * before).all()
    assert values[-1] < before or size > 5  # from very far, a step of any share tried may be no way down


def quasi_separated(slope: float) -> tuple[World, Float]:
    """Nearly separated rows, and parameters so far out that almost every row has lost its curvature."""
    world = World(7, n=3000, spread=40.0)
    direction = found(world.best).theta
    return world, np.asarray(slope * direction[::-1], np.float64)


@pytest.mark.parametrize("sample", [True, False])
def test_a_diverging_newton_step_is_caught_and_damped(sample: bool) -> None:
    world, start = quasi_separated(3.0)
    before = world.at(start)
    full = world.at(start + before.step)
    assert full.objective > 2 * before.objective  # negative control: left alone, Newton's step diverges here
    done = world.polish(start, 1, sample)
    step = done.steps[0]
    assert step.gate == "measured"
    after = world.at(done.theta).objective
    assert after < before.objective
    assert sample or step.share < 1
    rest = world.polish(start, 40, sample)
    assert world.excess(rest.theta) < 1e-9
    values = [s.before.objective for s in rest.steps]
    assert (np.diff(values) <= 1e-11 * before.objective).all()


def test_without_the_gate_newton_does_not_come_back() -> None:
    world, theta = quasi_separated(3.0)
    first = world.at(theta).objective
    for _ in range(3):
        theta = theta + world.at(theta).step
        if world.at(theta).objective > first:
            return
    pytest.fail("the control does not diverge")


def test_a_step_that_leads_nowhere_is_not_taken() -> None:
    world = world_of(1)
    best = found(world.best).theta
    done = world.polish(best, 3)
    assert world.at(done.theta).objective <= world.at(best).objective * (1 + 1e-14)
    assert done.n_passes <= 2
