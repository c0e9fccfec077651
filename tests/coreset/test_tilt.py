"""Tilting: meets what can be met, moves certain rows least, refuses what no positive weights can do."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coretree.coreset.priority import sketch
from coretree.coreset.quality import kish
from coretree.coreset.rows import row_ids, uniforms
from coretree.coreset.tilt import Constraints, class_constraints, residual, spectrum, tilt


def constraints(A: np.ndarray, target: np.ndarray, d: np.ndarray, q: np.ndarray, share: float = 1e-9) -> Constraints:
    """All rows in one class, then the columns of A."""
    first = class_constraints(np.zeros(len(A), int), np.array([d.sum()]), d * q)
    rest = spectrum(A, target, first, d * q)
    return rest.extend(first, rest.kept(share, len(A)))


@given(st.integers(1, 8), st.integers(0, 2**32 - 1))
@settings(max_examples=25, deadline=None)
def test_weights_are_positive_and_meet_the_totals(p: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    A, d = rng.normal(size=(400, p)), rng.uniform(1, 20, 400)
    q = np.maximum(d - 1, 0) + 0.1
    target = (d * rng.uniform(0.9, 1.1, 400)) @ A  # met by some positive weights
    c = constraints(A, target, d, q)
    w = tilt(d, q, c)
    assert w is not None
    assert (w > 0).all()
    assert residual(w, q, d, c) < 1e-9
    assert np.allclose(A.T @ w, target, atol=1e-6 * d.sum())
    assert np.isclose(w.sum(), d.sum())
    again = tilt(w, q, constraints(A, target, w, q))
    assert again is not None
    assert np.allclose(again, w, rtol=1e-7)


def test_basis_is_orthonormal_and_dependent_columns_are_dropped() -> None:
    rng = np.random.default_rng(0)
    A, d = rng.normal(size=(300, 3)), rng.uniform(1, 5, 300)
    wide = np.hstack([A, 2 * A[:, :1], np.zeros((300, 1)), np.ones((300, 1))])
    c = constraints(wide, d @ wide, d, np.ones(300))
    assert c.basis.shape == (300, 4)
    assert np.allclose((c.basis * d[:, None]).T @ c.basis, np.eye(4), atol=1e-9)


def test_a_rotation_of_the_columns_leaves_the_weights() -> None:
    rng = np.random.default_rng(1)
    A, d = rng.normal(size=(300, 4)), rng.uniform(1, 5, 300)
    target = (d * rng.uniform(0.8, 1.2, 300)) @ A
    turn = np.linalg.qr(rng.normal(size=(4, 4)))[0]
    a = tilt(d, np.ones(300), constraints(A, target, d, np.ones(300)))
    b = tilt(d, np.ones(300), constraints(A @ turn, target @ turn, d, np.ones(300)))
    assert a is not None
    assert b is not None
    assert np.allclose(a, b, rtol=1e-7)


def test_what_cannot_be_met_is_refused() -> None:
    rng = np.random.default_rng(2)
    A, d = rng.normal(size=(200, 2)), rng.uniform(1, 5, 200)
    for far in (d @ A + 50 * d.sum(), np.full(2, 1e300), -(d @ A) + 2.5 * d.sum()):
        assert tilt(d, np.ones(200), constraints(A, far, d, np.ones(200))) is None


def test_guards_refuse_wild_tilts() -> None:
    A, many = np.r_[np.zeros(9999), 1.0][:, None], np.ones(10_000)
    assert tilt(many, many, constraints(A, np.array([20.0]), many, many)) is not None
    assert tilt(many, many, constraints(A, np.array([31.0]), many, many)) is None  # a factor above 30 for one row
    assert tilt(many, many, constraints(A, np.array([0.02]), many, many)) is None
    d = np.ones(100)
    B = np.r_[np.zeros(90), np.ones(10)][:, None]
    assert tilt(d, d, constraints(B, np.array([95.0]), d, d)) is None  # Kish size falls below a quarter


def test_truncation_keeps_the_promised_share() -> None:
    rng = np.random.default_rng(3)
    A = rng.normal(size=(500, 5)) * np.array([10, 5, 1, 0.1, 1e-6])
    first = class_constraints(np.zeros(500, int), np.array([500.0]), np.ones(500))
    s = spectrum(A, np.zeros(5), first, np.ones(500))
    assert [s.kept(t, 99) for t in (1e-9, 1e-3, 0.05, 0.5)] == [4, 3, 2, 1]
    assert s.kept(1e-9, 2) == 2
    for t in (1e-9, 1e-3, 0.05, 0.5):
        assert s.variances[s.kept(t, 99) :].sum() <= t * s.variances.sum()


def test_design_metric_never_hurts_where_the_flat_one_does() -> None:
    """Score near the wanted quantity: the textbook metric doubles the error, ours must not exceed 1.1 times."""
    n, m, draws = 20_000, 600, 60
    rng = np.random.default_rng(4)
    X = rng.standard_normal((n, 4)) / np.sqrt(rng.chisquare(4, (n, 1)) / 4)
    y = np.exp(0.3 * (X @ rng.standard_normal(4)).clip(-9, 9)) * rng.exponential(1, n)
    ids = row_ids("a", 0, np.arange(n))
    error: dict[str, list[float]] = {"none": [], "flat": [], "design": []}
    for seed in range(draws):
        s = sketch(ids, y + 0.1, {"at": np.arange(n)}, m, uniforms=uniforms(ids, seed, "x")).finalise()
        at, d = s.rows["at"], s.weights
        design = np.maximum(d - 1, 0)
        for name, q in (("flat", np.ones(m)), ("design", design + 0.1 * design.mean())):
            first = class_constraints(np.zeros(m, int), np.array([float(n)]), d * q)
            rest = spectrum(X[at], X.sum(0), first, d * q)
            w = tilt(d, q, rest.extend(first, 4))
            error[name].append((d if w is None else w) @ y[at] - y.sum())  # None: a guard refused
        error["none"].append(d @ y[at] - y.sum())
    rmse = {name: np.sqrt(np.mean(np.square(v))) for name, v in error.items()}
    assert rmse["design"] <= 1.1 * rmse["none"], rmse
    assert rmse["flat"] > 1.3 * rmse["none"], rmse


@pytest.mark.parametrize("weights", [np.ones(5), np.array([1.0, 2, 3]), np.full(7, 1e200)])
def test_kish_is_between_one_and_the_rows(weights: np.ndarray) -> None:
    assert 1 <= kish(weights) <= len(weights) * (1 + 1e-12)
    assert np.isclose(kish(weights), kish(3 * weights))
    assert kish(np.zeros(0)) == 0
