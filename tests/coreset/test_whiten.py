"""Leverage through whitening: right, affine invariant, finite on singular matrices."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coretree.coreset.whiten import SKETCH_COLUMNS, leverages, whitener


@given(st.integers(1, 12), st.integers(0, 2**32 - 1))
@settings(max_examples=25, deadline=None)
def test_leverage_is_the_quadratic_form(d: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(5 * d + 5, d)) * 10 ** rng.uniform(-6, 6, d)
    gram = X.T @ X
    Q, _ = np.linalg.qr(X / np.abs(X).max(0))
    got = leverages(X, whitener(gram))
    assert np.allclose(got, np.square(Q).sum(1), rtol=1e-4, atol=1e-6)


def test_singular_matrices_make_news_large_and_old_rows_ordinary() -> None:
    X = np.column_stack([np.ones(50), np.zeros(50), np.arange(50.0), np.arange(50.0)])
    W = whitener(X.T @ X)
    assert np.isfinite(W).all()
    assert np.isclose(leverages(X, W).sum(), 2, atol=1e-3)
    news = np.array([[1.0, 5.0, 0.0, 0.0], [1.0, 0.0, 1.0, -1.0]])
    assert (leverages(news, W) > 100).all()


def test_no_matrix_is_refused() -> None:
    for gram in (np.zeros((3, 3)), -np.eye(2), np.array([[1.0, 2.0], [2.0, 1.0]])):
        assert np.isfinite(whitener(gram)).all()
    with pytest.raises(ValueError, match="must be finite"):
        whitener(np.full((2, 2), np.nan))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_wide_matrices_are_sketched_without_bias(dtype: type[np.floating]) -> None:
    d, n = 320, 1500
    X = np.random.default_rng(0).normal(size=(n, d))
    W = whitener(X.T @ X)
    assert W.shape == (d, SKETCH_COLUMNS)
    Q, _ = np.linalg.qr(X)
    ratio = leverages(np.asfortranarray(X, dtype), W) / np.square(Q).sum(1)
    assert abs(ratio.mean() - 1) < 0.05  # columns of the sketch are shared, so rows are not independent
    assert ratio.std() < 0.35  # sqrt(2 / 32) = 0.25 in theory
