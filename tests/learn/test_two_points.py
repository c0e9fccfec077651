"""Two places bound what one cannot: true at any parameters of softmax, sharp where a Newton step leads, and gated."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression, PoissonRegressor, Ridge

from coretree.learn.certificate import Excess, excess_of
from coretree.learn.curvature import CurvatureTally, Probe, curvature_tally, probe_at, sample_metric
from coretree.learn.margins import Float
from coretree.learn.penalised import Penalised, penalised
from coretree.learn.polish import SampleRows, certified, descend
from coretree.learn.two_points import at_least, from_two, worth_another

NEWTON: dict[str, Any] = {"solver": "newton-cholesky", "tol": 1e-12, "max_iter": 1000}


class World:
    """A softmax problem of random size, its optimum, and passes over its rows at any place."""

    def __init__(self, seed: int, n: int = 2500) -> None:
        rng = np.random.default_rng(seed)
        d, k = int(rng.integers(3, 9)), int(rng.integers(3, 7))
        X = rng.standard_normal((n, d)) / np.sqrt(rng.chisquare(5, (n, 1)) / 5)
        scores = X @ rng.normal(size=(d, k)) / np.sqrt(d) + rng.gumbel(size=(n, k))
        self.y = scores.argmax(axis=1)
        keep = np.flatnonzero(rng.random(n) < 0.2)
        options = {**NEWTON, "C": float(10 ** rng.uniform(-1, 3))}
        best = LogisticRegression(**options).fit(X, self.y)
        small = LogisticRegression(**options).fit(X[keep], self.y[keep], sample_weight=np.full(len(keep), 5.0))
        self.best = self._objective(best)
        self.X, self.passes = self.best.design(X), 0
        self.sample = SampleRows(self.X[keep], self.y[keep].astype(float), np.full(len(keep), 5.0))
        self.away = self._objective(small).theta - self.best.theta
        self.optimum = self.at(self.best, 1)[0]
        assert self.optimum.upper < 1e-10 * self.optimum.objective

    @staticmethod
    def _objective(model: Any) -> Penalised:
        found = penalised(model)
        assert found is not None
        return found

    def look(self, theta: Float, trials: Float, rows: Any = slice(None)) -> tuple[Probe, CurvatureTally]:
        self.passes += 1
        s = self.sample
        metric = sample_metric(self.best.loss, theta, self.best.l2, s.X, s.y, s.weights)
        probe = probe_at(self.best.loss, theta, metric, trials)
        return probe, curvature_tally(probe, self.X[rows], self.y[rows].astype(float))

    def at(self, objective: Penalised, passes: int = 2, sample: bool = True) -> tuple[Excess, Excess]:
        return certified(self.look, objective, self.sample if sample else None, passes)

    def beyond(self, direction: Float, excess: float) -> Penalised:
        """The objective at a place so much (relative) above the optimum."""
        low, high = 0.0, 1e6
        for _ in range(80):
            share = np.sqrt(low * high) if low else high / 1e3
            theta = self.best.theta + share * direction
            value = self.best.loss.value(self.X @ theta, self.y).sum() + self.best.penalty(theta, len(self.y))
            low, high = (share, high) if value < (1 + excess) * self.optimum.objective else (low, share)
        return replace(self.best, theta=self.best.theta + high * direction)

    def true(self, found: Excess) -> float:
        return found.objective - self.optimum.objective


@cache
def world(seed: int) -> World:
    return World(seed)


def holds(world: World, found: Excess) -> None:
    slack = 1e-11 * found.objective
    assert found.lower <= world.true(found) + world.optimum.upper + slack
    assert world.true(found) <= found.upper + slack


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 5), st.floats(-6, 0), st.booleans(), st.booleans(), st.integers(0, 99))
def test_bounds_of_two_points_hold_anywhere(seed: int, exponent: float, random: bool, sample: bool, draw: int) -> None:
    here = world(seed)
    shape = here.away.shape
    direction = np.random.default_rng(draw).normal(size=shape) if random else here.away
    both, first = here.at(here.beyond(direction, 10**exponent), sample=sample)
    holds(here, first)
    holds(here, both)
    assert first.lower <= both.lower <= both.estimate <= both.upper <= first.upper


def test_where_one_point_proves_nothing_two_are_sharp() -> None:
    unproven = 0
    for seed in range(6):
        here = world(seed)
        for excess in (1e-3, 1e-2, 5e-2):
            both, first = here.at(here.beyond(here.away, excess))
            true = here.true(first)
            unproven += not first.bounded
            assert both.bounded
            if both is first:
                assert first.upper <= 4 * first.estimate
                continue
            assert 0.99 * true < both.lower <= true * (1 + 1e-6)
            assert true * (1 - 1e-6) <= both.upper < 1.01 * true
            assert both.estimate == pytest.approx(true, rel=0.01)
    assert unproven >= 10  # else there was nothing to show


def test_a_second_pass_is_made_only_where_it_pays() -> None:
    here = world(0)
    for excess, passes, made in ((1e-2, 2, 2), (1e-2, 1, 1), (1e-8, 2, 1)):
        here.passes = 0
        both, first = here.at(here.beyond(here.away, excess), passes)
        assert here.passes == made
        assert (both is first) == (made == 1)
    ridge = penalised(Ridge().fit(here.X, here.y))
    assert ridge is not None
    probe = probe_at(ridge.loss, 0 * ridge.theta, sample_metric(ridge.loss, ridge.theta, ridge.l2, *_rows(here, ridge)))
    exact = excess_of(ridge, probe, curvature_tally(probe, ridge.design(here.X), here.y.astype(float)))
    assert not worth_another(exact)
    assert worth_another(replace(exact, bounded=False))
    assert worth_another(replace(exact, upper=5 * exact.upper))
    assert not worth_another(replace(exact, upper=1e-7 * exact.objective, estimate=0.0))


def _rows(here: World, objective: Penalised) -> tuple[Float, Float, Float]:
    return objective.design(here.X), here.y.astype(float), np.ones(len(here.y))


def test_what_is_higher_tells_from_above_only() -> None:
    """The order of the two places does not matter, and a worse second place never widens the bounds."""
    here = world(1)
    low, high = (here.at(here.beyond(here.away, excess), 1)[0] for excess in (1e-5, 1e-2))
    assert low.bounded
    assert not high.bounded
    up, down = from_two(high, low), from_two(low, high)
    for found in (up, down):
        holds(here, found)
    assert (down.upper, down.lower, down.estimate) == (low.upper, low.lower, low.estimate)
    assert up.upper < 1.01 * here.true(high)


def test_rows_that_the_second_pass_lacks_break_the_bound() -> None:
    here = world(2)
    start = here.beyond(here.away, 1e-2)
    calls: list[int] = []

    def lacking(theta: Float, trials: Float) -> tuple[Probe, CurvatureTally]:
        calls.append(1)
        return here.look(theta, trials, slice(None) if len(calls) == 1 else slice(2400))

    both = certified(lacking, start, here.sample)[0]
    assert len(calls) == 2
    with pytest.raises(AssertionError):
        holds(here, both)


def test_polish_tells_of_its_start_what_it_found_later() -> None:
    here = world(3)
    start = here.beyond(here.away, 1e-2)
    first = here.at(start, 1)[0]
    polished = descend(here.look, start, here.sample, passes=2)
    before = polished.steps[0].before
    assert not first.bounded
    assert before.bounded
    assert before.objective == first.objective
    assert here.true(first) * (1 - 1e-9) <= before.upper < 1.01 * here.true(first)
    assert not descend(here.look, start, here.sample, passes=1).steps[0].before.bounded


def test_a_step_that_overflows_bounds_from_below_by_what_lies_between() -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(2000, 3))
    y = rng.poisson(np.exp(X[:, 0] / 2)).astype(float)
    objective = penalised(PoissonRegressor(alpha=1e-3).fit(X, y))
    assert objective is not None
    far = replace(objective, theta=objective.theta - 8.0 * np.eye(4)[:, [0]])
    A = objective.design(X)
    probes: list[Probe] = []

    def look(theta: Float, trials: Float) -> tuple[Probe, CurvatureTally]:
        metric = sample_metric(far.loss, far.theta, far.l2, A, y, np.ones(2000))
        probes.append(probe_at(far.loss, theta, metric, trials))
        return probes[-1], curvature_tally(probes[-1], A, y)

    both, first = certified(look, far, None)
    assert not look(probes[1].theta, probes[0].trials)[1].finite
    assert not both.bounded
    assert both.upper == first.upper == first.objective
    least = objective.loss.value(A @ objective.theta, y).sum() + objective.penalty(objective.theta, 2000)
    assert first.lower < both.lower <= first.objective - least
    assert both.lower > 0.2 * (first.objective - least)


def test_what_another_place_proves_holds_for_the_estimate_too() -> None:
    """The fall to a better place is proven; an estimate below it would be known to be wrong."""
    near = Excess(
        objective=100.0, lower=0.0, upper=np.inf, estimate=1.0, bounded=False, gradient_norm=1.0, redrawn=None,
        step=np.zeros((1, 1)), safe=0.0,
    )  # fmt: skip
    far = at_least(near, 95.0)
    assert far.lower == pytest.approx(5.0)
    assert far.lower <= far.estimate <= far.upper
    assert at_least(near, 99.9).estimate == 1.0
