"""Boosted trees as arrays: the same predictions as walking the nodes."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coretree.coreset.boosted import Boosted, boosted, shifted

Tree = dict[str, npt.NDArray[Any]]


def grown(rng: np.random.Generator, n_leaves: int, n_features: int) -> Tree:
    """A random tree; few different thresholds, so that ties and repeats occur."""
    feature, threshold, left, right, leaf = [0], [0.0], [0], [0], [True]
    for _ in range(n_leaves - 1):
        node = int(rng.choice(np.flatnonzero(leaf)))
        feature[node], threshold[node] = int(rng.integers(n_features)), float(rng.integers(-2, 3))
        left[node], right[node], leaf[node] = len(leaf), len(leaf) + 1, False
        for column, value in ((feature, 0), (threshold, 0.0), (left, 0), (right, 0), (leaf, True)):
            column.extend([value, value])  # type: ignore[attr-defined]
    names = ("feature", "threshold", "left", "right", "is_leaf")
    tree = dict(zip(names, map(np.array, (feature, threshold, left, right, leaf)), strict=True))
    return {**tree, "value": rng.normal(size=len(leaf))}


def walked(tree: Tree, x: npt.NDArray[Any]) -> float:
    """The textbook way."""
    node = 0
    while not tree["is_leaf"][node]:
        node = int(tree["left" if x[tree["feature"][node]] <= tree["threshold"][node] else "right"][node])
    return float(tree["value"][node])


def model(rng: np.random.Generator, outputs: int, iterations: int, most_leaves: int = 16) -> tuple[Boosted, list[Tree]]:
    trees = [grown(rng, int(rng.integers(1, most_leaves + 1)), 3) for _ in range(outputs * iterations)]
    ratios = [] if outputs == 1 else np.arange(1.0, outputs + 1)
    return boosted(trees, rng.normal(size=outputs), ratios), trees


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), outputs=st.sampled_from([1, 3]), iterations=st.integers(1, 6))
def test_masks_lead_to_the_leaf_that_walking_finds(seed: int, outputs: int, iterations: int) -> None:
    rng = np.random.default_rng(seed)
    found, trees = model(rng, outputs, iterations)
    X = rng.integers(-3, 4, size=(40, 3)).astype(np.float32)
    expected = np.tile(found.start, (40, 1))
    for t, tree in enumerate(trees):
        expected[:, t % outputs] += [walked(tree, x) for x in X]
    np.testing.assert_allclose(found.raw(X), expected, rtol=1e-12, atol=1e-12)


def test_blocks_and_memory_order_change_no_bit() -> None:
    rng = np.random.default_rng(1)
    found, _ = model(rng, 3, 100)
    X = rng.normal(size=(2000, 3))
    whole = found.predict(X)
    np.testing.assert_array_equal(found.predict(np.asfortranarray(X)), whole)
    np.testing.assert_array_equal(np.vstack([found.predict(X[:7]), found.predict(X[7:])]), whole)
    assert found.predict(X[:0]).shape == (0, 3)
    np.testing.assert_allclose(whole.sum(axis=1), 1.0)


def test_state_round_trips_and_copies_leave_the_tables_behind() -> None:
    found, _ = model(np.random.default_rng(2), 3, 4)
    X = np.random.default_rng(3).normal(size=(50, 3))
    expected = found.predict(X)
    for again in (Boosted.from_state(found.state()), pickle.loads(pickle.dumps(found))):
        np.testing.assert_array_equal(again.predict(X), expected)
    assert "_tables" not in found.__getstate__()


def test_values_beyond_all_thresholds_and_not_numbers_go_right() -> None:
    stump = {"feature": [0, 0, 0], "threshold": [0.0] * 3, "left": [1, 0, 0], "right": [2, 0, 0]}
    tree = {k: np.array(v) for k, v in {**stump, "is_leaf": [0, 1, 1], "value": [0.0, -1.0, 1.0]}.items()}
    found = boosted([tree], [0.0], [])
    assert found.predict(np.array([[-np.inf], [0.0], [np.inf], [np.nan]])).tolist() == [-1.0, -1.0, 1.0, 1.0]


def test_shift_is_bayes_and_keeps_a_zero_open() -> None:
    np.testing.assert_allclose(shifted(np.array([[0.5, 0.5]]), np.array([1.8, 0.2]), smoothing=0.0), [[0.9, 0.1]])
    assert 0 < shifted(np.array([[1.0, 0.0]]), np.array([1.0, 1.0]))[0, 1] < 1e-3


def test_mistakes_are_named() -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="may have 16 leaves; tree 1 has 17"):
        boosted([grown(rng, 3, 2), grown(rng, 17, 2)], [0.0], [])
    with pytest.raises(ValueError, match="multiple of 2 outputs; found 1"):
        boosted([grown(rng, 3, 2)], [0.0, 0.0], [1.0, 1.0])
