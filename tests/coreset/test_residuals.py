"""Residual scores: the mix as written, its bounds, and samples that stay unbiased."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from coretree.coreset.boosted import Boosted, boosted
from coretree.coreset.priority import Sample, sketch
from coretree.coreset.residuals import (
    ResidualState,
    misfit,
    pooled,
    residual_pays,
    residual_scores,
    residual_state,
)
from coretree.coreset.rows import uniforms

Float = npt.NDArray[np.float64]


def stump(*values: float) -> dict[str, npt.NDArray[np.float64]]:
    """Left of 0 the first value, right of it the second."""
    columns = {"feature": [0, 0, 0], "threshold": [0.0] * 3, "left": [1, 0, 0], "right": [2, 0, 0]}
    return {k: np.array(v) for k, v in {**columns, "is_leaf": [0, 1, 1], "value": [0.0, *values]}.items()}


STEP = boosted([stump(-1.0, 1.0)], [0.0], [])
BINARY = boosted([stump(-2.0, 2.0)], [0.0], [1.0, 1.0])


def numbers(n: int, seed: int = 0) -> tuple[Float, Float, ResidualState]:
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 2))
    y = np.sign(X[:, 0]) + rng.standard_t(3, size=n)
    errors = misfit(STEP.predict(X), y)
    return X, y, residual_state(STEP, errors, y, np.ones(n), [n])


def classes(n: int, seed: int = 0, above: float = 1.8) -> tuple[Float, npt.NDArray[np.intp], ResidualState]:
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 2))
    y = (X[:, 0] + 0.5 * rng.normal(size=n) > above).astype(np.intp)
    errors = misfit(BINARY.predict(X), y)
    return X, y, residual_state(BINARY, errors, y, np.ones(n), np.bincount(y))


def test_regression_mix_as_written() -> None:
    X, y, state = numbers(1000)
    error = np.abs(y - np.where(X[:, 0] <= 0, -1.0, 1.0))
    np.testing.assert_allclose(residual_scores(X, y, state), 0.5 * error / error.mean() + 0.5)


@pytest.mark.parametrize(("above", "mix"), [(0.9, (0.5, 0.25, 0.25)), (1.8, (0.7, 0.1, 0.2))])
def test_class_mix_as_written(above: float, mix: tuple[float, float, float]) -> None:
    X, y, state = classes(3000, above=above)
    wrong = 1 - BINARY.predict(X)[np.arange(3000), y]
    n_c = np.bincount(y)
    assert (n_c[1] < 300) == (above == 1.8)
    expected = mix[0] * wrong / wrong.sum() + mix[1] / 3000 + mix[2] / (2 * n_c[y])
    scores = residual_scores(X, y, state)
    np.testing.assert_allclose(scores, expected)
    assert scores.sum() == pytest.approx(1.0)


def test_typical_misfit_knows_the_true_class_shares() -> None:
    """Pilot rows are balanced, the data is not: weights within a class and exact counts between classes."""
    y, errors = np.array([0, 0, 1, 1]), np.array([0.1, 0.3, 0.5, 0.9])
    state = residual_state(BINARY, errors, y, np.array([3.0, 1.0, 5.0, 5.0]), [900, 100])
    assert state.typical == pytest.approx(0.9 * 0.15 + 0.1 * 0.7)
    lacking = residual_state(BINARY, errors[:2], y[:2], np.ones(2), [900, 100])
    assert lacking.typical == pytest.approx(0.2)


def test_weights_are_bounded_whatever_the_pilot_says() -> None:
    m = 200
    for (X, y, state), bound in ((numbers(4000), 2.0), (classes(4000, above=0.9), 4.0), (classes(4000), 10.0)):
        ids = np.arange(4000, dtype=np.uint64)
        scores = residual_scores(X, y, state)
        sample = sketch(ids, scores, {"y": y}, m, uniforms=uniforms(ids, 1, "residual")).finalise()
        assert sample.weights.max() <= 1.3 * bound * 4000 / m  # 1.3: the threshold is random
        assert sample.weights.min() >= 1.0


def test_perfect_pilot_means_uniform_scores() -> None:
    X = np.array([[-1.0], [1.0]])
    state = residual_state(STEP, np.zeros(2), np.zeros(2), np.ones(2), [2])
    np.testing.assert_array_equal(residual_scores(X, np.array([-1.0, 1.0]), state), [1.0, 1.0])
    assert residual_scores(X[:0], np.zeros(0), state).shape == (0,)


def test_sample_is_unbiased_and_whole_at_full_size() -> None:
    X, y, state = numbers(2000)
    ids, scores = np.arange(2000, dtype=np.uint64), residual_scores(X, y, state)
    sums = []
    for seed in range(300):
        sample = sketch(ids, scores, {"y": y}, 150, uniforms=uniforms(ids, seed, "residual")).finalise()
        sums.append([sample.weights.sum(), sample.weights @ sample.rows["y"], sample.weights @ sample.rows["y"] ** 2])
    exact = np.array([2000, y.sum(), (y**2).sum()])
    error = (np.mean(sums, axis=0) - exact) / (np.std(sums, axis=0) / np.sqrt(300))
    assert np.abs(error).max() < 4.0  # fails once in 5000 for right code
    whole = sketch(ids, scores, {"y": y}, 2000, uniforms=uniforms(ids, 0, "residual")).finalise()
    np.testing.assert_array_equal(whole.weights, 1.0)


def test_half_neyman_beats_uniform_on_the_residuals() -> None:
    X, y, state = numbers(2000)
    ids, squares = np.arange(2000, dtype=np.uint64), np.square(misfit(STEP.predict(X), y))

    def spread(scores: Float) -> float:
        samples = [
            sketch(ids, scores, {"e": squares}, 150, uniforms=uniforms(ids, seed, "residual")).finalise()
            for seed in range(100)
        ]
        return float(np.std([s.weights @ s.rows["e"] for s in samples]))

    assert spread(residual_scores(X, y, state)) < 0.7 * spread(np.ones(2000))


def test_state_round_trips() -> None:
    X, y, state = classes(500)
    again = ResidualState.from_state(state.state())
    np.testing.assert_array_equal(residual_scores(X, y, again), residual_scores(X, y, state))
    assert isinstance(again.model, Boosted)


def uniform_sample(n: int, m: int, seed: int, purpose: str) -> Sample:
    ids = np.arange(n, dtype=np.uint64)
    y = np.square(ids.astype(np.float64))
    return sketch(ids, np.ones(n), {"y": y}, m, uniforms=uniforms(ids, seed, purpose)).finalise()


def test_pooled_samples_are_unbiased_and_count_each_row_once() -> None:
    n, exact = 500, float(np.square(np.arange(500.0)).sum())
    sums = []
    for seed in range(200):
        both = pooled(uniform_sample(n, 60, seed, "uniform"), uniform_sample(n, 120, seed, "pilot"))
        assert np.unique(both.ids).size == both.ids.size
        sums.append(both.weights @ both.rows["y"])
    assert abs(np.mean(sums) - exact) < 4 * np.std(sums) / np.sqrt(200)
    alone = [s.weights @ s.rows["y"] for s in (uniform_sample(n, 60, seed, "uniform") for seed in range(200))]
    assert np.std(sums) < 0.75 * np.std(alone)
    one = uniform_sample(n, 60, 0, "uniform")
    np.testing.assert_allclose(pooled(one, one).weights.sum(), one.weights.sum())
    assert pooled(one, uniform_sample(n, 0, 0, "pilot")) is one


def test_small_coresets_stay_uniform() -> None:
    assert [residual_pays(m, n) for m, n in ((2000, 20_000), (1999, 5000), (5000, 50_001))] == [True, False, False]


def test_mistakes_are_named() -> None:
    X, y, state = numbers(10)
    with pytest.raises(ValueError, match="row 3 has nan"):
        residual_state(STEP, np.where(np.arange(10) == 3, np.nan, 1.0), y, np.ones(10), [10])
    with pytest.raises(ValueError, match="counts must have 2 entries"):
        residual_state(BINARY, np.ones(1), np.zeros(1), np.ones(1), [1])
    with pytest.raises(ValueError, match="there are no rows"):
        residual_state(STEP, np.ones(0), np.zeros(0), np.ones(0), [1])
    with pytest.raises(ValueError, match="row 2 has one that is not"):
        residual_scores(np.where(np.arange(10)[:, None] == 2, np.nan, X), y, state)
    with pytest.raises(ValueError, match="row 4 has one that is not"):
        residual_scores(X, np.where(np.arange(10) == 4, np.inf, y), state)
