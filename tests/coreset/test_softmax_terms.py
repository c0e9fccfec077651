"""One sweep gives what the formulas give, in any order of the rows and for wide data too."""

from __future__ import annotations

import numpy as np
import pytest

from coretree.coreset import softmax_terms as module
from coretree.coreset.derivatives import margins
from coretree.coreset.losses import Softmax
from coretree.coreset.scores import PilotState, pilot_state
from coretree.coreset.softmax_terms import softmax_terms

K = 3


def problem(d: int, n: int = 900) -> tuple[np.ndarray, np.ndarray, np.ndarray, PilotState]:
    rng = np.random.default_rng(d)
    X = np.column_stack([np.ones(n), rng.normal(size=(n, d - 1))])
    X[:, -1] += X[:, 1]
    y = (X[:, :3] @ rng.normal(size=(3, K)) + rng.gumbel(size=(n, K)) + [2, 0, 0]).argmax(1)
    base = rng.uniform(0.5, 2.0, n)
    return X, y, base, pilot_state(X, y, base, "softmax", np.bincount(y, base))


@pytest.mark.parametrize("d", [5, 320])  # beyond 300 columns leverages are sketched
@pytest.mark.parametrize("block", [64, 2048])
def test_it_is_what_the_formulas_give(monkeypatch: pytest.MonkeyPatch, d: int, block: int) -> None:
    monkeypatch.setattr(module, "_LEAST_BLOCK", block)
    X, y, base, state = problem(d)
    z, kind = margins(X, state.theta), Softmax()
    slopes = kind.slope(z, y)
    force = np.square(slopes) @ (1 / state.spread)
    length = np.minimum(np.square(X @ state.hessian_whitener).sum(axis=1), 1.0)
    own = np.square(np.einsum("ij,ijk->ik", X, state.class_whiteners[y])).sum(axis=1)
    found = softmax_terms(X, y, state, base)
    assert found.loss == pytest.approx(base @ kind.value(z, y), rel=1e-10)
    np.testing.assert_allclose(found.gradient, (slopes * base[:, None]).T @ X, rtol=1e-8, atol=1e-8)
    np.testing.assert_allclose(found.sums, [(base * (y == c)) @ X for c in range(K)], rtol=1e-10, atol=1e-9)
    np.testing.assert_allclose(found.pull, np.sqrt(force * length), rtol=1e-8)
    np.testing.assert_allclose(found.leverage, np.minimum(own, 1.0), rtol=1e-8)
    assert (own < 1).any()


def test_the_order_of_the_rows_does_not_matter() -> None:
    X, y, base, state = problem(5)
    order = np.argsort(y, kind="stable")
    one, two = (
        softmax_terms(X, y, state, base),
        softmax_terms(np.asfortranarray(X[order]), y[order], state, base[order]),
    )
    np.testing.assert_allclose(one.pull[order], two.pull, rtol=1e-9)
    np.testing.assert_allclose(one.leverage[order], two.leverage, rtol=1e-9)
    np.testing.assert_allclose(one.gradient, two.gradient, rtol=1e-9, atol=1e-9)


def test_sums_alone_are_the_same_sums() -> None:
    X, y, _, state = problem(5)
    whole, sums = softmax_terms(X, y, state), softmax_terms(X, y, state, scored=False)
    assert not len(sums.pull)
    assert not len(sums.leverage)
    np.testing.assert_allclose(sums.gradient, whole.gradient, rtol=1e-12, atol=1e-12)
    assert sums.loss == pytest.approx(whole.loss, rel=1e-12)


def test_an_overflow_is_a_row_far_out_and_a_gap_is_told() -> None:
    X, y, _, state = problem(5)
    far = X[:2].astype(np.float32)
    far[0, 1], far[1, 2] = 1e25, np.nan
    found = softmax_terms(far, y[:2], state)
    assert found.leverage[0] == 1.0
    assert np.isnan(found.pull[1])
