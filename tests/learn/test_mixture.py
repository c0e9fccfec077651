"""Mixtures from cells: plain EM on points, a bound that holds, repeats for weights, and little lost."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import BayesianGaussianMixture, GaussianMixture

from coretree.coreset.cells import Cells, build, merge
from coretree.errors import ConfigError, EmptyDataError
from coretree.learn.mixture import fit_mixture

Array = npt.NDArray[Any]
KINDS = pytest.mark.parametrize("kind", ["full", "tied", "diag", "spherical"])


def three(n: int, seed: int = 0) -> Array:
    """Three clusters well apart, of unlike shapes."""
    rng = np.random.default_rng(seed)
    centre, shape = np.array([[0.0, 0, 0], [12, 0, 5], [0, 15, -5]]), rng.standard_normal((3, 3, 3)) + np.eye(3)
    c = rng.choice(3, n, p=[0.6, 0.3, 0.1])
    return centre[c] + np.einsum("nab,nb->na", shape[c], rng.standard_normal((n, 3)))


def ten(balanced: bool, d: int = 8) -> Any:
    """Sampler of ten overlapping components, of equal shares or of 50 % down to 0.1 %."""
    rng = np.random.default_rng(3)
    share = np.full(10, 0.1) if balanced else np.array([0.5, 0.25, 0.12, 0.06, 0.03, 0.02, 0.01, 0.006, 0.003, 0.001])
    centre, shape = rng.normal(0, 5, (10, d)), 0.5 * rng.standard_normal((10, d, d)) + 0.7 * np.eye(d)

    def draw(n: int) -> Array:
        c = rng.choice(10, n, p=share)
        return centre[c] + np.einsum("nab,nb->na", shape[c], rng.standard_normal((n, d)))

    return draw


def by_share(model: GaussianMixture) -> Array:
    return np.argsort(model.weights_)


@KINDS
def test_on_points_it_is_plain_em(kind: str) -> None:
    X = three(600)
    # reg_covar above the floor of 1e-6 of the variance, so that both add the same
    estimator = GaussianMixture(3, covariance_type=kind, tol=1e-10, max_iter=1000, reg_covar=1e-3, random_state=0)
    full, fit = estimator.fit(X), fit_mixture(estimator, build(X, len(X)), seed=0, n_starts=4)
    assert vars(full).keys() == vars(fit.model).keys()
    ours, theirs = by_share(fit.model), by_share(full)
    assert np.allclose(fit.model.means_[ours], full.means_[theirs], atol=1e-3)
    for name in ("covariances_", "precisions_", "precisions_cholesky_"):
        a, b = getattr(fit.model, name), getattr(full, name)
        assert a.shape == b.shape
        assert np.allclose(*((a, b) if kind == "tied" else (a[ours], b[theirs])), rtol=2e-3, atol=2e-3), name
    assert abs(fit.bound - full.score(X)) < 1e-5
    assert abs(fit.bound - fit.model.score(X)) < 1e-9  # with one point a cell the bound is the likelihood
    assert (fit.model.predict(X[:100]) == ours[np.argsort(theirs)][full.predict(X[:100])]).all()
    assert fit.model.sample(5)[0].shape == (5, 3)


@KINDS
def test_integer_weights_are_repeated_rows(kind: str) -> None:
    X = three(200)
    w = np.random.default_rng(1).integers(1, 5, len(X))
    estimator = GaussianMixture(3, covariance_type=kind, tol=1e-9, max_iter=500)
    a = fit_mixture(estimator, build(X, 200, w), seed=0, n_starts=3)
    again = np.repeat(X, w, axis=0)
    b = fit_mixture(estimator, build(again, len(again)), seed=0, n_starts=3)
    assert abs(a.bound - b.bound) < 1e-6
    assert np.allclose(a.model.means_[by_share(a.model)], b.model.means_[by_share(b.model)], atol=1e-3)


@KINDS
def test_the_bound_holds_through_a_tree_and_tightens_with_more_cells(kind: str) -> None:
    X = three(1500, seed=2)
    below = []
    for m in (15, 150):
        cells = merge([build(part, m, scatter=True) for part in np.array_split(X, 4)])
        fit = fit_mixture(GaussianMixture(3, covariance_type=kind), cells, seed=0, n_starts=2)
        below.append(fit.model.score(X) - fit.bound)
        assert fit.bound == max(fit.bounds) == fit.model.lower_bound_
        assert (np.diff(fit.model.lower_bounds_) > -1e-9).all()  # EM never steps down
    assert min(below) >= -1e-12
    assert below[-1] < 0.5 * below[0]


def test_a_few_hundred_cells_lose_little_and_means_alone_collapse() -> None:
    X, held = np.split(three(12_000, seed=4), 2)
    full = GaussianMixture(3, random_state=0).fit(X).score(held)
    cells = merge([build(part, 600, scatter=True) for part in np.array_split(X, 4)])
    assert full - fit_mixture(GaussianMixture(3), cells, seed=0, n_starts=3).model.score(held) < 0.02
    bare = Cells(cells.capacity, cells.n_rows, cells.weight, cells.mean, np.zeros_like(cells.error))
    assert full - fit_mixture(GaussianMixture(3), bare, seed=0, n_starts=3).model.score(held) > 0.05


@pytest.mark.slow
@pytest.mark.parametrize("balanced", [True, False])
def test_the_promise_of_a_tenth_of_a_nat_at_200_cells_a_component(balanced: bool) -> None:
    draw = ten(balanced)
    X, held = draw(40_000), draw(40_000)
    best = GaussianMixture(10, n_init=4, random_state=0).fit(X).score(held)
    cells = merge([build(part, 2000, scatter=True) for part in np.array_split(X, 16)])
    fits = [fit_mixture(GaussianMixture(10), cells, seed=s) for s in range(5)]
    losses = [best - fit.model.score(held) for fit in fits]
    print(f"balanced={balanced}: median {np.median(losses):.3f} nat, worst {max(losses):.3f}")
    assert np.median(losses) <= 0.1
    assert all(fit.bound <= fit.model.score(X) for fit in fits)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_the_same_seed_gives_the_same_model_and_seeds_differ() -> None:
    cells = build(ten(True, 3)(3000), 200, scatter=True)
    a, b, c = (fit_mixture(GaussianMixture(10, max_iter=5), cells, seed=s, n_starts=2) for s in (0, 0, 1))
    assert np.array_equal(a.model.means_, b.model.means_)
    assert not np.array_equal(a.model.means_, c.model.means_)
    assert len(fit_mixture(GaussianMixture(2, n_init=3, max_iter=2), cells, seed=0, n_starts=1).bounds) == 3
    with pytest.warns(ConvergenceWarning, match="best of 1 starts"):
        short = fit_mixture(GaussianMixture(10, max_iter=1), cells, seed=0, n_starts=1)
    assert not short.model.converged_
    assert short.model.n_iter_ == 1


def test_a_large_mean_and_repeated_rows_stay_finite() -> None:
    X = np.repeat(np.round(three(40)), 20, axis=0) + 1e6
    fit = fit_mixture(GaussianMixture(3), build(X, 30, scatter=True), seed=0, n_starts=2)
    assert np.isfinite(fit.bound)
    assert np.isfinite(fit.model.predict_proba(X)).all()
    constant = fit_mixture(GaussianMixture(1), build(np.ones((10, 2)), 5, scatter=True), seed=0, n_starts=1)
    assert np.allclose(constant.model.means_, 1.0)


def test_bad_requests_are_told() -> None:
    cells = build(three(100), 20)
    with pytest.raises(ConfigError, match="scatter=True"):
        fit_mixture(GaussianMixture(2), cells, seed=0)
    with pytest.raises(ConfigError, match="n_components=21"):
        fit_mixture(GaussianMixture(21, covariance_type="diag"), cells, seed=0)
    with pytest.raises(ConfigError, match="found BayesianGaussianMixture"):
        fit_mixture(BayesianGaussianMixture(n_components=2), cells, seed=0)
    with pytest.raises(ConfigError, match="means_init"):
        fit_mixture(GaussianMixture(2, covariance_type="diag", means_init=np.zeros((2, 3))), cells, seed=0)
    with pytest.raises(EmptyDataError):
        fit_mixture(GaussianMixture(2), Cells.empty(3, 5), seed=0)
