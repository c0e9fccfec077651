"""Totals: exact, additive, the same in blocks, parts and float32; the thinned Hessian is unbiased."""

from __future__ import annotations

from functools import reduce
from itertools import pairwise
from operator import add
from typing import Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coretree.coreset.derivatives import gradient_and_hessian
from coretree.coreset.losses import loss_named
from coretree.coreset.scores import PilotState, pilot_state, robust_scores
from coretree.coreset.totals import WIDE, Totals, hessian_rows, thinning, totals_at

Problem = tuple[np.ndarray, np.ndarray, np.ndarray, PilotState]


def problem(name: str = "logistic", n: int = 600, d: int = 4, K: int = 3) -> Problem:
    rng = np.random.default_rng(0)
    X = np.column_stack([np.ones(n), rng.normal(size=(n, d - 1))])
    y = {"squared": rng.normal(size=n), "softmax": rng.integers(0, K, n)}.get(name, rng.integers(0, 2, n))
    counts = [n] if name == "squared" else np.bincount(y)
    return X, y, rng.integers(0, 3, n).astype(float), pilot_state(X, y, np.ones(n), name, counts)


def close(a: Totals, b: Totals, rtol: float = 1e-9) -> bool:
    mine, theirs = a.state(), b.state()
    return mine.keys() == theirs.keys() and all(
        np.allclose(v, theirs[k], rtol=rtol, atol=rtol * (np.abs(v).max(initial=0) + 1)) for k, v in mine.items()
    )


@pytest.mark.parametrize("name", ["logistic", "softmax", "squared", "squared_hinge"])
def test_totals_are_the_sums_they_say(name: str) -> None:
    X, y, a, state = problem(name)
    t, loss = totals_at(X, y, a, state, hessian="full"), loss_named(name)
    g, H = gradient_and_hessian(state.theta, X, y, a, loss)
    z = X @ state.theta.T
    assert t.n_rows == 600
    assert t.weight == a.sum()
    assert np.allclose(t.gradient, g)
    assert t.hessian is not None
    assert np.allclose(t.hessian, H)
    assert np.isclose(t.loss, a @ loss.value(z, y))
    codes = state.codes(y)
    assert np.array_equal(t.counts, np.bincount(codes, a))
    assert np.allclose(t.sums, [a[codes == c] @ X[codes == c] for c in range(state.n_classes)])


@given(st.lists(st.integers(0, 600), max_size=6), st.booleans())
@settings(max_examples=25, deadline=None)
def test_any_partition_adds_up(cuts: list[int], right_to_left: bool) -> None:
    X, y, a, state = problem()
    edges = [0, *sorted(cuts), 600]
    parts = [totals_at(X[i:j], y[i:j], a[i:j], state) for i, j in pairwise(edges)]
    merged = reduce(lambda s, t: t + s, reversed(parts)) if right_to_left else reduce(add, parts)
    assert close(merged, totals_at(X, y, a, state))
    assert merged.n_rows == 600


def test_no_rows_are_neutral() -> None:
    X, y, a, state = problem()
    t = totals_at(X, y, a, state)
    for total in (t + totals_at(X[:0], y[:0], None, state), 0 + t):
        assert all(np.array_equal(v, total.state()[k]) for k, v in t.state().items())


@pytest.mark.parametrize("name", ["logistic", "softmax"])
def test_float32_blocks_agree_with_float64(name: str) -> None:
    X, y, a, state = problem(name, n=40_000)
    thin = (np.ones(40_000, bool), 1.0)
    fast = totals_at(np.asfortranarray(X, np.float32), y, a, state, thin=thin)
    assert close(fast, totals_at(X, y, a, state, thin=thin), rtol=1e-5)


@pytest.mark.parametrize("by", ["share", "score"])
def test_thinned_hessian_is_unbiased_and_everything_else_is_exact(by: str) -> None:
    X, y, a, state = problem("softmax")
    full = totals_at(X, y, a, state, hessian="full")
    share, draws, score = 0.3, 200, robust_scores(X, y, state)
    rng = np.random.default_rng(1)
    found = []
    for _ in range(draws):
        u = rng.random(600)
        chosen = (u < share, share) if by == "share" else thinning(u, score, 180)
        t = totals_at(X, y, a, state, thin=chosen)
        assert np.array_equal(t.gradient, full.gradient)
        assert t.hessian is not None
        found.append(t.hessian)
    assert full.hessian is not None
    error = (np.mean(found, 0) - full.hessian) / (np.std(found, 0) / np.sqrt(draws) + 1e-12)
    assert np.abs(error).max() < 5  # 78 distinct entries: fails by chance with probability 5e-5


def test_wide_softmax_has_no_hessian_unless_asked() -> None:
    X, y, a, state = problem("softmax")
    thin = (np.ones(600, bool), 1.0)
    assert totals_at(X, y, a, state).hessian is None
    assert totals_at(X, y, a, state, thin=thin).hessian is not None
    assert totals_at(X, y, a, state, thin=thin, hessian="none").hessian is None
    X, y, a, state = problem("softmax", d=50, K=10)
    assert totals_at(X, y, a, state, thin=(np.ones(600, bool), 1.0)).hessian is None
    with pytest.raises(ValueError, match="must have a Hessian or neither"):
        totals_at(X, y, a, state) + totals_at(X, y, a, state, hessian="full")


@pytest.mark.parametrize("hessian", ["full", "none"])
def test_state_round_trips_exactly(hessian: Literal["full", "none"]) -> None:
    X, y, a, state = problem()
    t = totals_at(X, y, a, state, hessian=hessian)
    back = Totals.from_state(t.state())
    assert (back.n_rows, back.weight, back.loss) == (t.n_rows, t.weight, t.loss)
    assert back.state().keys() == t.state().keys()
    assert all(np.array_equal(v, back.state()[k]) for k, v in t.state().items())


def test_wide_models_of_one_margin_thin_their_hessian_where_the_caller_does() -> None:
    rng = np.random.default_rng(8)
    X = np.column_stack([np.ones(4000), rng.standard_normal((4000, WIDE))])
    y = (X[:, 1] > rng.standard_normal(4000)).astype(int)
    state = pilot_state(X[:1500], y[:1500], np.ones(1500), "logistic", np.bincount(y) * 100)
    assert hessian_rows(state) == 400 * (WIDE + 1)
    u = np.random.default_rng(9).random(4000)
    thin = thinning(u, np.full(4000, 1e-4), 5_000)
    full, some = totals_at(X, y, None, state), totals_at(X, y, None, state, thin=thin)
    assert close(full, totals_at(X, y, None, state, thin=(np.ones(4000, bool), 1.0)))
    assert not np.allclose(some.hessian, full.hessian, rtol=1e-3)
    assert np.isclose(np.trace(some.hessian), np.trace(full.hessian), rtol=0.1)
    assert np.array_equal(some.gradient, full.gradient)
