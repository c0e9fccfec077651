"""A tally is one pass: the same sums however rows are dealt, weighted, or left out."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coretree.learn.curvature import (
    BINS,
    BINS_WIDE,
    CurvatureTally,
    Probe,
    curvature_tally,
    metric,
    no_metric,
    probe_at,
    sample_metric,
    tally_metric,
)
from coretree.learn.margins import Float, MarginLoss, zero_sum_basis

LAWS = settings(max_examples=25, deadline=None)


def problem(name: str, n: int, seed: int) -> tuple[Probe, Float, Float, Float]:
    rng = np.random.default_rng(seed)
    X = np.c_[np.ones(n), rng.standard_t(4, (n, 3))]
    q = 2 if name == "softmax" else 1
    y = rng.integers(0, q + 1, n).astype(float)
    w = rng.integers(0, 4, n).astype(float)
    loss = MarginLoss(name, zero_sum_basis(3) if q == 2 else None)
    theta = rng.normal(size=(4, q))
    found = sample_metric(loss, theta, np.r_[0.0, 1.0, 1.0, 1.0], X, y, np.ones(n))
    return probe_at(loss, theta, found, rng.normal(size=(2, 4, q))), X, y, w


def close(a: CurvatureTally, b: CurvatureTally, rtol: float = 1e-10) -> None:
    assert a.n_rows == b.n_rows
    for name, value in a.state().items():
        scale = np.abs(value).max(initial=1.0)
        np.testing.assert_allclose(value, b.state()[name], rtol=rtol, atol=rtol * scale, err_msg=name)


losses = st.sampled_from(["logistic", "squared", "squared_hinge", "poisson", "softmax"])


@LAWS
@given(losses, st.integers(1, 60), st.integers(0, 99), st.lists(st.integers(0, 60), max_size=4))
def test_any_division_gives_one_pass(name: str, n: int, seed: int, cuts: list[int]) -> None:
    probe, X, y, w = problem(name, n, seed)
    edges = [0, *sorted(min(c, n) for c in cuts), n]
    parts = [curvature_tally(probe, X[a:b], y[a:b], w[a:b]) for a, b in pairwise(edges)]
    whole = curvature_tally(probe, X, y, w)
    close(sum(parts, CurvatureTally.empty(probe)), whole)
    close(sum(reversed(parts), CurvatureTally.empty(probe)), whole)


@LAWS
@given(losses, st.integers(1, 40), st.integers(0, 99))
def test_a_weight_is_a_number_of_repeats(name: str, n: int, seed: int) -> None:
    probe, X, y, w = problem(name, n, seed)
    index = np.repeat(np.arange(n), w.astype(int))
    repeated, weighted = curvature_tally(probe, X[index], y[index]), curvature_tally(probe, X, y, w)
    assert weighted.n_rows == (w > 0).sum()
    assert repeated.weight == weighted.weight
    for field in ("value", "gradient", "curvature", "rows", "rate", "trials", "mass"):
        a, b = repeated.state()[field], weighted.state()[field]
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-10 * np.abs(a).max(initial=1.0))


@pytest.mark.parametrize("name", ["logistic", "squared_hinge", "softmax"])
def test_sums_against_the_rows(name: str) -> None:
    probe, X, y, w = problem(name, 9000, 1)  # more than one block
    tally = curvature_tally(probe, X, y, w)
    value, slope, curved = probe.loss.rows(X @ probe.theta, y)
    root = probe.metric.root
    assert tally.value == pytest.approx(w @ value, rel=1e-12)
    gradient = np.concatenate([root @ g for g in tally.gradient.reshape(-1, 4)])
    np.testing.assert_allclose(gradient, (X.T @ (w[:, None] * slope)).T.ravel(), rtol=1e-9)
    q = probe.theta.shape[1]
    both = np.kron(np.eye(q), root)
    direct = np.einsum("i,ikl,ia,ib->kalb", w, curved, X, X, optimize=True).reshape(4 * q, 4 * q)
    np.testing.assert_allclose(both @ tally.hessian @ both.T, direct, rtol=1e-8, atol=1e-8 * np.abs(direct).max())
    assert tally.rows.sum() == pytest.approx(w.sum())
    assert len(tally.rows) == BINS
    assert (np.diff(tally.rate[tally.rows > 0]) > 0).all()
    other = probe.loss.rows(X @ probe.trials[1], y)[0]
    assert tally.trials[1] == pytest.approx(w @ other, rel=1e-12)


def test_a_state_gives_the_tally_back() -> None:
    probe, X, y, w = problem("softmax", 50, 3)
    tally = curvature_tally(probe, X, y, w)
    again = CurvatureTally.from_state(tally.state())
    assert all(np.array_equal(a, again.state()[k]) for k, a in tally.state().items())
    assert sum([tally]) is tally
    assert (tally + CurvatureTally.empty(probe)).gradient.tolist() == tally.gradient.tolist()


def test_tallies_of_different_probes_do_not_add() -> None:
    a, b = (curvature_tally(*problem(name, 9, 0)) for name in ("logistic", "softmax"))
    with pytest.raises(ValueError, match="different probes"):
        a + b
    with pytest.raises(TypeError):
        a + 1


def test_a_loss_that_overflows_is_noticed() -> None:
    probe, X, y, w = problem("poisson", 20, 0)
    assert curvature_tally(probe, X, y, w).finite
    far = probe_at(probe.loss, probe.theta + 1e4, probe.metric)
    assert not curvature_tally(far, X, y, w + 1).finite


def test_the_metric_of_a_pass_is_the_hessian() -> None:
    probe, X, y, w = problem("logistic", 500, 0)
    l2 = np.r_[0.0, 1.0, 1.0, 1.0]
    plain = probe_at(probe.loss, probe.theta, no_metric(4))
    assert len(plain.edges) == 0
    found = tally_metric(curvature_tally(plain, X, y, w), plain.metric, l2)
    asked = sample_metric(probe.loss, probe.theta, l2, X, y, w)
    np.testing.assert_allclose(found.root @ found.root.T, asked.root @ asked.root.T, rtol=1e-9)
    assert found.mass == pytest.approx(asked.mass)
    wide = probe_at(probe.loss, np.zeros((600, 1)), metric(np.eye(600), np.zeros(600), 1.0))
    assert len(wide.edges) == BINS_WIDE - 1
