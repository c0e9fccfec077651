"""Laws of kd cells: exact count, mean and error, a cost bound that always holds, and no randomness."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coretree.coreset.cells import Cells, build, merge, nearest
from coretree.coreset.cut import cut, kd_rows
from coretree.coreset.rows import row_ids, uniforms
from coretree.errors import DataError

Array = npt.NDArray[Any]


def blobs(n: int, d: int, seed: int) -> Array:
    rng = np.random.default_rng(seed)
    return rng.normal(0, 5, (7, d))[rng.integers(0, 7, n)] + rng.standard_normal((n, d)) * 10 ** rng.uniform(-1, 1, d)


def in_tree(parts: list[Array], m: int, arity: int, *, scatter: bool = False) -> Cells:
    nodes = [build(part, m, scatter=scatter) for part in parts]
    while len(nodes) > 1:
        nodes = [merge(nodes[i : i + arity]) for i in range(0, len(nodes), arity)]
    return nodes[0]


def cost(X: Array, C: Array) -> float:
    return float(((X[:, None, :] - C) ** 2).sum(axis=2).min(axis=1).sum())


def same(a: Cells, b: Cells) -> bool:
    x, y = a.state(), b.state()
    return x.keys() == y.keys() and all(np.array_equal(x[k], y[k]) and x[k].dtype == y[k].dtype for k in x)


@given(
    n=st.integers(1, 300),
    parts=st.integers(1, 9),
    m=st.integers(1, 40),
    arity=st.integers(2, 8),
    seed=st.integers(0, 99),
)
@settings(max_examples=25, deadline=None)
def test_count_mean_and_error_are_exact_and_the_bound_holds(n: int, parts: int, m: int, arity: int, seed: int) -> None:
    X = blobs(n, 3, seed) + 1000
    cells = in_tree(np.array_split(X, parts), m, arity, scatter=True)
    assert len(cells) <= m
    assert cells.n_rows == n
    assert np.isclose(cells.weight.sum(), n, rtol=1e-14)
    assert np.allclose(cells.weight @ cells.mean / n, X.mean(0), rtol=1e-13)
    D = X - X.mean(0)
    assert np.isclose(cells.inertia, (D * D).sum(), rtol=1e-11, atol=1e-18)
    assert cells.scatter is not None
    about = cells.mean - X.mean(0)
    total = (cells.weight[:, None] * about).T @ about + cells.scatter.sum(axis=0)
    assert np.allclose(total, D.T @ D, rtol=1e-9, atol=1e-9 * (1e-9 + (D * D).sum()))
    assert np.allclose(np.diagonal(cells.scatter, axis1=1, axis2=2), cells.error, rtol=1e-9, atol=1e-12)
    rng = np.random.default_rng(seed)
    for k in range(1, 21):
        C = X[rng.choice(n, min(k, n), replace=False)] + (rng.normal(0, 10.0**k, 3) if k > 15 else 0.0)
        assert cost(X, C) <= cells.bound(C) * (1 + 1e-11)


def test_the_bound_is_needed_and_as_tight_as_the_cells() -> None:
    X = blobs(5000, 3, 0)
    C = X[:7]
    coarse, fine = build(X, 20), build(X, 1000)
    assert coarse.cost(C) < cost(X, C)  # S alone flatters
    assert cost(X, C) <= fine.bound(C) <= coarse.bound(C)
    assert fine.bound(C) < 1.1 * cost(X, C)


def test_weights_are_repeats_and_zero_is_absence() -> None:
    X = blobs(300, 3, 1)
    w = np.random.default_rng(1).integers(0, 4, 300)
    a, b = build(X, 40, w), build(np.repeat(X, w, axis=0), 40)
    assert np.allclose(a.weight, b.weight)
    assert np.allclose(a.mean, b.mean)
    assert np.allclose(a.error, b.error, atol=1e-9)
    assert a.n_rows == (w > 0).sum()


def test_as_many_cells_as_distinct_rows_lose_nothing() -> None:
    X = np.repeat(blobs(30, 3, 2), 11, axis=0)[np.random.default_rng(2).permutation(330)]
    cells = merge([build(part, 30) for part in np.array_split(X, 4)])
    assert len(cells) == 30
    assert cells.delta == 0.0
    assert np.array_equal(np.unique(cells.mean, axis=0), np.unique(X, axis=0))
    assert len(build(np.full((50, 2), 0.1), 20)) == 1


def test_moving_and_scaling_the_rows_moves_and_scales_the_cells() -> None:
    X = np.round(blobs(400, 3, 3) * 256) / 256  # so that the shift is exact
    cells, moved = build(X, 50, scatter=True), build(X * 4 + 1024, 50, scatter=True)
    assert np.array_equal(cells.weight, moved.weight)
    assert np.allclose(cells.mean * 4 + 1024, moved.mean, rtol=1e-14)
    back = moved.rescaled(1024, 4)
    assert np.allclose(back.mean, cells.mean, atol=1e-11)
    assert np.allclose(back.error, cells.error, atol=1e-9)
    assert back.scatter is not None
    assert cells.scatter is not None
    assert np.allclose(back.scatter, cells.scatter, atol=1e-9)


def test_the_same_rows_give_the_same_bits_in_any_memory_layout() -> None:
    X = blobs(2000, 4, 4).astype(np.float32)
    before = X.copy()
    a = build(X, 100, scatter=True)
    assert same(a, build(np.asfortranarray(X), 100, scatter=True))
    assert np.array_equal(X, before)
    assert same(Cells.from_state(a.state()), a)
    assert same(Cells.from_state(build(X, 9).state()), build(X, 9))


def test_merging_none_changes_nothing_and_capacities_take_the_smaller() -> None:
    cells = build(blobs(200, 3, 5), 50)
    empty = Cells.empty(3, 50)
    assert same(cells + empty, cells)
    assert same(empty + cells, cells)
    assert same(sum([cells]), cells)
    assert same(build(np.zeros((0, 3)), 50), empty)
    assert (empty.inertia, empty.delta) == (0.0, 0.0)
    assert len(cells + build(blobs(200, 3, 6), 20)) == 20
    assert len(cells.reduce(10)) == 10
    with pytest.raises(ValueError, match="same features"):
        cells + Cells.empty(4, 50)
    with pytest.raises(ValueError, match="scatter"):
        cells + Cells.empty(3, 50, scatter=True)


def test_bad_input_is_told() -> None:
    X = blobs(10, 2, 7)
    X[3, 1] = np.nan
    with pytest.raises(DataError, match=r"feature 'b' .* first: row 3"):
        build(X, 5, names=["a", "b"])
    for wrong in (-np.ones(10), np.full(10, np.nan)):
        with pytest.raises(ValueError, match=">= 0"):
            build(np.ones((10, 2)), 5, wrong)
    with pytest.raises(ValueError, match="capacity"):
        build(np.ones((10, 2)), 0)
    with pytest.raises(ValueError, match="at least 1"):
        build(np.ones((10, 2)), 5).reduce(0)


def test_the_worst_cell_is_cut_along_its_widest_feature() -> None:
    X = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 9.0], [1.0, 9.0], [0.0, 50.0]])
    assert cut(X, np.ones(5), 1).tolist() == [0] * 5
    assert cut(X, np.ones(5), 2).tolist() == [0, 0, 0, 0, 1]
    assert cut(X, np.ones(5), 3).tolist() == [0, 0, 1, 1, 2]
    assert cut(X, np.array([1.0, 1, 1, 1, 0.01]), 2).tolist() == [0, 0, 1, 1, 1]
    assert cut(X, np.ones(5), 9).tolist() == [0, 1, 2, 3, 4]
    assert cut(X[:0], np.ones(0), 3).tolist() == []


def test_nearest_survives_a_large_mean() -> None:
    X = np.round(blobs(3000, 3, 8) * 64) / 64
    C = X[:9]
    label, squared = nearest(X, C)
    far, far_squared = nearest(X + 2.0**24, C + 2.0**24)
    assert np.allclose(squared, ((X[:, None] - C) ** 2).sum(axis=2).min(axis=1), rtol=1e-12)
    assert np.allclose(far_squared, squared, rtol=1e-6)
    assert (far == label).mean() > 0.999


def test_kd_rows_are_rows_of_the_cells_and_unbiased_through_a_tree() -> None:
    X = blobs(400, 2, 9)
    ids, f = row_ids("a", 0, np.arange(400)), np.abs(X[:, 0]) ** 1.5
    sums = []
    for seed in range(150):
        leaves = []
        for part in np.array_split(np.arange(400), 4):
            pick, w = kd_rows(X[part], None, 20, uniforms=uniforms(ids[part], seed, "level 0"))
            leaves.append((part[pick], w))
        rows, weights = (np.concatenate(values) for values in zip(*leaves, strict=True))
        pick, w = kd_rows(X[rows], weights, 20, uniforms=uniforms(ids[rows], seed, "level 1"))
        assert np.isclose(w.sum(), 400)
        assert len(set(rows[pick].tolist())) == len(pick) <= 20
        sums.append(w @ f[rows[pick]])
    z = (np.mean(sums) - f.sum()) / (np.std(sums) / np.sqrt(len(sums)))
    assert abs(z) < 4  # fails by chance once in 16,000
    uniform = [400 / 20 * f[np.random.default_rng(s).choice(400, 20)].sum() for s in range(150)]
    assert np.std(sums) < 0.5 * np.std(uniform)


def test_kd_rows_of_few_rows_are_all_of_them() -> None:
    rows, w = kd_rows([[1.0], [2.0]], [3.0, 4.0], 5, uniforms=np.array([0.5, 0.5]))
    assert (rows.tolist(), w.tolist()) == ([0, 1], [3.0, 4.0])
    with pytest.raises(ValueError, match="positive"):
        kd_rows([[1.0], [2.0]], [3.0, 0.0], 1, uniforms=np.array([0.5, 0.5]))
