"""Calibration: exact counts always, every guard, and no infinities whatever the data."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from coretree.coreset.calibrate import calibrate, counts_only, match_sums
from coretree.coreset.losses import loss_named
from coretree.coreset.priority import Sample, sketch
from coretree.coreset.quality import expected_excess, newton_direction
from coretree.coreset.rows import row_ids, uniforms
from coretree.coreset.scores import PilotState, pilot_state, robust_scores
from coretree.coreset.totals import Totals, totals_at

Case = tuple[np.ndarray, np.ndarray, PilotState, Totals, Sample]


def drawn(X: np.ndarray, y: np.ndarray, loss: str, counts: Any, m: int, seed: int = 0, pilot: int = 3) -> Case:
    n = len(X)
    state = pilot_state(X[::pilot], y[::pilot], np.full(len(X[::pilot]), float(pilot)), loss, counts)
    ids = row_ids("a", 0, np.arange(n))
    u = uniforms(ids, seed, "robust")
    sample = sketch(ids, robust_scores(X, y, state), {"at": np.arange(n)}, m, uniforms=u).finalise()
    thin = uniforms(ids, seed, "thin") < 0.5
    return X, y, state, totals_at(X, y, None, state, thin=(thin, 0.5)), sample


def problem(loss: str = "logistic", m: int = 600, n: int = 8000, d: int = 6, seed: int = 0) -> Case:
    rng = np.random.default_rng(0)
    X = np.column_stack([np.ones(n), rng.standard_t(4, (n, d - 1))])
    if loss == "softmax":
        y = (X @ rng.normal(size=(d, 4)) + rng.gumbel(size=(n, 4))).argmax(1)
        counts: Any = np.bincount(y)
    elif loss in ("logistic", "squared_hinge", "hinge"):
        y = (X @ rng.normal(size=d) + rng.logistic(size=n) > 2).astype(int)
        counts = np.bincount(y)
    else:
        y, counts = rng.gamma(2.0, np.exp(0.2 * X[:, 1]).clip(0.1, 10)), [n]
    return drawn(X, y, loss, counts, m, seed)


def run(case: Case, weights: np.ndarray | None = None) -> Any:
    X, y, state, totals, s = case
    at = s.rows["at"]
    return calibrate(s.weights if weights is None else weights, s.base, X[at], y[at], state, totals)


@pytest.mark.parametrize("loss", ["logistic", "softmax", "squared", "squared_hinge", "hinge", "poisson", "gamma"])
def test_laws_of_the_weights(loss: str) -> None:
    case = problem(loss)
    X, y, state, totals, s = case
    done = run(case)
    w, r, at = done.weights, done.report, s.rows["at"]
    assert (w > 0).all()
    assert 1 / 30 <= r.tilt_min <= r.tilt_max <= 30
    assert r.ess_share >= 0.25
    assert r.residual < 1e-8
    assert r.truncation <= 1e-9
    assert np.isclose(w.sum(), totals.weight, rtol=1e-12)
    assert np.allclose(np.bincount(state.codes(y[at]), w), totals.counts, rtol=1e-9)
    ahead = "gradient" if loss == "hinge" else "gradient ahead"
    assert r.groups[:2] == ("counts", ahead)
    assert ("class sums" in r.groups) == (loss != "hinge")
    if "class sums" in r.groups:
        sums = [w[state.codes(y[at]) == c] @ X[at][state.codes(y[at]) == c] for c in range(state.n_classes)]
        assert np.allclose(sums, totals.sums, atol=1e-6 * totals.weight)
    assert np.allclose(run(case, weights=w).weights, w, rtol=1e-7)  # a second call changes nothing


def test_the_gradient_one_step_ahead_is_met() -> None:
    X, y, state, totals, s = problem("logistic")
    w, at = run((X, y, state, totals, s)).weights, s.rows["at"]
    delta, decrement = newton_direction(s.weights, X[at], y[at], state, totals)
    z, loss = X[at] @ state.theta, loss_named("logistic")
    ahead = X[at].T @ (w * (loss.slope(z, y[at]) + loss.curvature(z, y[at]) * (X[at] @ delta)))
    penalty = np.r_[0, np.ones(5)] * (state.theta + delta)
    assert np.allclose(ahead + penalty, 0, atol=1e-6 * totals.weight)
    assert 0 < decrement < 0.05


def test_all_rows_kept_means_base_weights() -> None:
    for m in (800, 801, 5000):
        case = problem(n=800, m=m)
        done = run(case)
        assert np.array_equal(done.weights, case[4].base)
        assert done.report.groups == ("all rows",)
        assert done.report.expected_excess == 0
        assert done.report.warnings == ()


def test_any_window_is_calibrated_to_its_own_totals() -> None:
    X, y, state, _, _ = problem()
    ids = row_ids("a", 0, np.arange(8000))
    for rows in (slice(0, 3000), slice(2000, 8000)):
        s = sketch(
            ids[rows], robust_scores(X[rows], y[rows], state), {"at": np.arange(8000)[rows]}, 400,
            uniforms=uniforms(ids[rows], 0, "robust"),
        ).finalise()  # fmt: skip
        own = totals_at(X[rows], y[rows], None, state)
        w = run((X, y, state, own, s)).weights
        assert np.allclose(np.bincount(y[s.rows["at"]], w), own.counts)


def test_base_weights_count_as_repeated_rows() -> None:
    X, y, state, _, _ = problem()
    base = np.random.default_rng(1).integers(0, 4, 8000).astype(float)
    ids = row_ids("a", 0, np.arange(8000))
    s = sketch(
        ids, robust_scores(X, y, state), {"at": np.arange(8000)}, 600, uniforms=uniforms(ids, 0, "r"), base=base
    ).finalise()
    totals = totals_at(X, y, base, state)
    done = run((X, y, state, totals, s))
    assert np.isclose(done.weights.sum(), base.sum())
    assert np.allclose(np.bincount(y[s.rows["at"]], done.weights), np.bincount(y, base))


def test_constant_and_duplicate_columns_change_nothing() -> None:
    X, y, _, _, _ = problem()
    plain = run(drawn(X, y, "logistic", np.bincount(y), 600))
    ids = row_ids("a", 0, np.arange(8000))
    odd = np.column_stack([X, X[:, 1], np.zeros(8000), np.full(8000, 2.0)])
    state = pilot_state(odd[::3], y[::3], np.full(2667, 3.0), "logistic", np.bincount(y))
    s = sketch(ids, robust_scores(odd, y, state), {"at": np.arange(8000)}, 600, uniforms=uniforms(ids, 0, "r"))
    done = run((odd, y, state, totals_at(odd, y, None, state), s.finalise()))
    assert done.report.groups == plain.report.groups
    assert done.report.residual < 1e-8


@pytest.mark.parametrize("loss", ["logistic", "softmax"])
@pytest.mark.parametrize("lam", [1.0, 1e-6])
def test_separable_data(loss: str, lam: float) -> None:
    rng = np.random.default_rng(2)
    X = np.column_stack([np.ones(4000), rng.normal(size=(4000, 3))])
    y = (X[:, 1] > 0).astype(int) + (X[:, 1] > 1 if loss == "softmax" else 0)
    state = pilot_state(X[::3], y[::3], np.full(1334, 3.0), loss, np.bincount(y), lam=lam)
    ids = row_ids("a", 0, np.arange(4000))
    s = sketch(ids, robust_scores(X, y, state), {"at": np.arange(4000)}, 300, uniforms=uniforms(ids, 0, "r")).finalise()
    totals = totals_at(X, y, None, state, thin=(np.ones(4000, bool), 1.0))
    done = run((X, y, state, totals, s))
    assert np.isfinite(done.weights).all()
    assert np.allclose(np.bincount(y[s.rows["at"]], done.weights), totals.counts)


@pytest.mark.parametrize("loss", ["logistic", "softmax"])
@pytest.mark.parametrize("m", [1, 2, 5, 12, 40])
def test_tiny_samples_fall_back_to_counts(loss: str, m: int) -> None:
    done = run(problem(loss, m=m))
    assert np.isfinite(done.weights).all()
    assert (done.weights > 0).all()
    assert np.isclose(done.weights.sum(), 8000)
    assert any("rows for 6 columns" in note for note in done.report.warnings)
    json.dumps(done.report.to_dict(), allow_nan=False)


def test_a_class_of_one_row_and_a_class_absent_from_the_sample() -> None:
    X, y, _, _, _ = problem("softmax")
    y = np.where(y == 3, 2, y)
    y[17] = 3
    counts = np.bincount(y)
    X, y, state, totals, s = drawn(X, y, "softmax", counts, 600)
    assert 17 in s.rows["at"]  # kept as good as certainly
    assert np.isclose(run((X, y, state, totals, s)).weights[s.rows["at"] == 17], 1)
    keep = s.rows["at"] != 17
    rest = (s.ids[keep], s.weights[keep], s.base[keep], s.score[keep])
    lost = Sample({"at": s.rows["at"][keep]}, *rest, threshold=s.threshold)
    done = run((X, y, state, totals, lost))
    assert any("class code [3]" in note for note in done.report.warnings)
    assert np.isclose(done.weights.sum(), 8000)
    assert np.isfinite(done.weights).all()


def test_contradictory_and_unreachable_totals_drop_gracefully() -> None:
    X, y, state, t, s = problem()
    for gradient in (t.gradient + 50 * t.weight, np.full(6, 1e12)):
        far = Totals(t.n_rows, t.weight, t.counts, t.sums, t.loss, gradient, t.hessian)
        done = run((X, y, state, far, s))
        assert np.allclose(np.bincount(y[s.rows["at"]], done.weights), t.counts)
        assert done.report.warnings
    lost = Totals(t.n_rows, t.weight, t.counts, t.sums, np.inf, t.gradient * np.nan, t.hessian)
    done = run((X, y, state, lost, s))
    assert np.allclose(np.bincount(y[s.rows["at"]], done.weights), t.counts)
    assert any("not finite" in note for note in done.report.warnings)
    broken = Totals(t.n_rows, t.weight, t.counts, t.sums + 1e9, t.loss, t.gradient, t.hessian)
    assert run((X, y, state, broken, s)).report.groups == ("counts", "gradient ahead")


def test_missing_hessian_means_the_gradient_alone() -> None:
    X, y, state, t, s = problem("softmax")
    bare = Totals(t.n_rows, t.weight, t.counts, t.sums, t.loss, t.gradient, None)
    done = run((X, y, state, bare, s))
    assert done.report.groups == ("counts", "gradient", "class sums")
    assert 0 < done.report.newton_decrement < 0.1


def test_a_step_gone_astray_falls_back_to_the_gradient() -> None:
    X, y, state, t, s = problem("softmax")
    assert t.hessian is not None
    wild = Totals(t.n_rows, t.weight, t.counts, t.sums, t.loss, t.gradient, 1e-4 * t.hessian)
    done = run((X, y, state, wild, s))
    assert done.report.groups[1] == "gradient"
    assert done.report.residual < 1e-8


def test_a_common_shift_of_the_intercepts_is_no_step() -> None:
    X, y, state, t, s = problem("softmax")
    noisy = t.gradient + np.tile(np.r_[1e-3, np.zeros(5)], 4)  # round-off of float32 totals along the free direction
    other = Totals(t.n_rows, t.weight, t.counts, t.sums, t.loss, noisy, t.hessian)
    at = s.rows["at"]
    plain = newton_direction(s.weights, X[at], y[at], state, t)
    shifted = newton_direction(s.weights, X[at], y[at], state, other)
    assert np.allclose(plain[0], shifted[0], atol=1e-6)
    assert np.isclose(plain[1], shifted[1], rtol=1e-6)


def test_a_far_pilot_is_reported() -> None:
    X, y, state, _, s = problem()
    far = pilot_state(X, y, np.ones(8000), "logistic", np.bincount(y), theta=state.theta * 0.2)
    done = run((X, y, far, totals_at(X, y, None, far), s))
    assert done.report.newton_decrement > 0.05
    assert done.report.expected_excess is not None
    assert done.report.expected_excess >= done.report.newton_decrement**2
    assert any("further round" in note for note in done.report.warnings)


def test_expected_excess_falls_with_the_size() -> None:
    found = []
    for m in (300, 1200, 4800):
        X, y, state, totals, s = problem(m=m)
        at = s.rows["at"]
        found.append(expected_excess(s.weights, s.base, X[at], y[at], state, totals))
    assert found[0] > 2 * found[1] > 4 * found[2] > 0


def test_without_a_pilot_nothing_is_claimed() -> None:
    X, y, _, totals, s = problem()
    at = s.rows["at"]
    assert counts_only(s.weights, s.base, y[at], totals).report.expected_excess is None
    assert match_sums(s.weights, s.base, X[at], y[at], totals).report.expected_excess is None


def test_counts_only_gives_exact_classes() -> None:
    _, y, _, totals, _ = problem("softmax")
    ids = row_ids("a", 0, np.arange(8000))
    score = (1.0 / totals.counts)[y]  # every class as often
    s = sketch(ids, score, {"at": np.arange(8000)}, 400, uniforms=uniforms(ids, 0, "balanced")).finalise()
    at = s.rows["at"]
    done = counts_only(s.weights, s.base, y[at], totals)
    assert np.allclose(np.bincount(y[at], done.weights), totals.counts)
    some = at[y[at] != 1]
    part = counts_only(s.weights[y[at] != 1], s.base[y[at] != 1], y[some], totals)
    assert any("class code [1]" in note for note in part.report.warnings)
    assert np.isclose(part.weights.sum(), 8000)
    same = counts_only(np.ones(8000), np.ones(8000), y, totals)
    assert np.array_equal(same.weights, np.ones(8000))


def test_inputs_are_not_written_and_bad_weights_are_named() -> None:
    X, y, state, totals, s = problem()
    before = s.weights.copy()
    run((X, y, state, totals, s))
    assert np.array_equal(s.weights, before)
    bad = before.copy()
    bad[4] = np.nan
    with pytest.raises(ValueError, match="row 4 has nan"):
        run((X, y, state, totals, s), weights=bad)
    with pytest.raises(ValueError, match="there are no rows"):
        counts_only(np.ones(0), np.ones(0), np.ones(0, int), totals)


def test_same_inputs_same_bits() -> None:
    case = problem("softmax")
    assert np.array_equal(run(case).weights, run(case).weights)
