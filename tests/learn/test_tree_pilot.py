"""The boosted pilot: scikit-learn's own predictions, honest misfits, stored without pickle."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from threadpoolctl import threadpool_limits

from coretree.coreset.residuals import ResidualState, misfit, residual_scores
from coretree.learn.tree_pilot import fit_tree_pilot

Rows = tuple[npt.NDArray[np.float64], npt.NDArray[Any]]
BOOSTING: dict[str, Any] = {"max_leaf_nodes": 15, "l2_regularization": 1.0, "early_stopping": False, "random_state": 0}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Small fits: more threads would only wait for one another."""
    with threadpool_limits(1):
        yield


def numbers(n: int, seed: int = 0) -> Rows:
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 4))
    return X, X[:, 0] * X[:, 1] + 0.5 * rng.normal(size=n)


def classes(n: int, n_classes: int, seed: int = 0) -> Rows:
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 4))
    z = X[:, [0]] * np.linspace(-2, 2, n_classes) - np.linspace(0, 3, n_classes) + rng.gumbel(size=(n, n_classes))
    return X, z.argmax(axis=1)


def test_regression_pilot_is_scikit_learns() -> None:
    X, y = numbers(700)
    expected = HistGradientBoostingRegressor(max_iter=50, **BOOSTING).fit(X, y)
    found = fit_tree_pilot(X, y, np.ones(700), [1e6]).model
    new = numbers(500, 1)[0]
    np.testing.assert_allclose(found.predict(new), expected.predict(new), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("n_classes", [2, 4])
def test_class_pilot_is_scikit_learns_but_for_the_shift(n_classes: int) -> None:
    X, y = classes(700, n_classes)
    expected = HistGradientBoostingClassifier(max_iter=50, **BOOSTING).fit(X, y)
    found = fit_tree_pilot(X, y, np.ones(700), np.bincount(y) * 1000.0).model  # the data's shares: nothing to shift
    new = classes(500, n_classes, 1)[0]
    p = 0.999 * expected.predict_proba(new) + 0.001 / n_classes
    np.testing.assert_allclose(found.predict(new), p, rtol=1e-7)


def test_balanced_pilot_predicts_the_rates_of_the_data() -> None:
    X, y = classes(20_000, 3)
    counts = np.bincount(y)
    pilot = np.concatenate([np.flatnonzero(y == c)[:250] for c in range(3)])
    state = fit_tree_pilot(X[pilot], y[pilot], np.ones(pilot.size), counts)
    np.testing.assert_allclose(state.model.predict(X).mean(axis=0), counts / y.size, rtol=0.25)
    assert counts.min() < 0.2 * y.size  # negative control: the pilot's own rates would be a third each


def test_typical_misfit_is_that_of_unseen_rows() -> None:
    """The scores then keep their halves; the misfit of the pilot's own rows would be much too small."""
    X, y = numbers(20_000)
    state = fit_tree_pilot(X[:1000], y[:1000], np.ones(1000), [20_000])
    unseen = misfit(state.model.predict(X[1000:]), y[1000:]).mean()
    assert state.typical == pytest.approx(unseen, rel=0.15)
    assert misfit(state.model.predict(X[:1000]), y[:1000]).mean() < 0.8 * unseen
    Xc, yc = classes(20_000, 3)
    found = fit_tree_pilot(Xc[:1500], yc[:1500], np.ones(1500), np.bincount(yc))
    assert residual_scores(Xc[1500:], yc[1500:], found).sum() == pytest.approx(18_500 / 20_000, rel=0.1)


def test_weights_of_the_pilot_sample_are_undone() -> None:
    """A pilot sample that prefers one side is drawn back to the data before the fit."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(20_000, 1))
    y = (rng.random(20_000) < 0.3).astype(int)
    rate = np.where((y == 1) == (X[:, 0] > 0), 0.6, 0.1)  # positives taken mostly right, negatives mostly left
    taken = np.flatnonzero(rng.random(20_000) < rate)
    counts = np.bincount(y)
    grid = np.array([[-1.0], [1.0]])
    honest = fit_tree_pilot(X[taken], y[taken], 1 / rate[taken], counts).model.predict(grid)[:, 1]
    blind = fit_tree_pilot(X[taken], y[taken], np.ones(taken.size), counts).model.predict(grid)[:, 1]
    assert abs(honest[1] - honest[0]) < 0.2
    assert blind[1] - blind[0] > 0.4  # negative control


@pytest.mark.parametrize("n_classes", [1, 3])
def test_same_bits_again_and_from_the_store(n_classes: int) -> None:
    X, y = numbers(600) if n_classes == 1 else classes(600, 3)
    counts = [600] if n_classes == 1 else np.bincount(y)
    one, two = (fit_tree_pilot(X, y, np.ones(600), counts, max_rows=300) for _ in range(2))
    again = ResidualState.from_state(one.state())
    for other in (two, again):
        np.testing.assert_array_equal(residual_scores(X, y, other), residual_scores(X, y, one))
    assert all(column.dtype.kind in "fiu" for column in one.state().values())


def test_classes_without_rows_or_with_one() -> None:
    X, y = classes(300, 2)
    for codes, counts in (
        (np.where(y == 1, 3, 1), [10, 500, 10, 500]),  # two of four
        (np.where(np.arange(300) == 7, 2, y), [200, 100, 1]),  # one row
        (np.zeros(300, int), [300, 2]),  # one of two
        (np.full(300, 2), [5, 5, 300]),  # one of three
    ):
        state = fit_tree_pilot(X, codes, np.ones(300), counts)
        p = state.model.predict(X)
        assert p.shape == (300, len(counts))
        np.testing.assert_allclose(p.sum(axis=1), 1.0)
        absent = np.bincount(codes, minlength=len(counts)) == 0
        assert (p[:, absent] == 0).all()
        scores = residual_scores(X, np.arange(300) % len(counts), state)
        assert np.isfinite(scores).all()
        assert (scores > 0).all()
    one = fit_tree_pilot(X[:1], np.array([3.0]), np.ones(1), [1])
    np.testing.assert_allclose(one.model.predict(X), 3.0)


def test_many_classes_get_fewer_trees() -> None:
    X, y = classes(500, 14)
    state = fit_tree_pilot(X, y, np.ones(500), np.bincount(y, minlength=14))
    assert len(state.model.value) <= 400
    assert state.typical < 0.95


def test_mistakes_are_named() -> None:
    with pytest.raises(ValueError, match="pilot rows are needed"):
        fit_tree_pilot(np.zeros((0, 2)), np.zeros(0), np.zeros(0), [1])
    with pytest.raises(ValueError, match=r"classes in \[0, 2\)"):
        fit_tree_pilot(np.zeros((2, 2)), np.array([0, 2]), np.ones(2), [1, 1])
