"""scikit-learn on all rows is the oracle: a model fitted from totals alone must be the same model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, clone
from sklearn.decomposition import PCA, TruncatedSVD
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis, QuadraticDiscriminantAnalysis
from sklearn.ensemble import RandomForestRegressor
from sklearn.linear_model import (
    BayesianRidge,
    ElasticNet,
    Lars,
    Lasso,
    LassoCV,
    LinearRegression,
    LogisticRegression,
    Ridge,
    RidgeClassifier,
    RidgeCV,
)
from sklearn.naive_bayes import GaussianNB

from coretree.coreset.comoments import comoments
from coretree.coreset.exact import pseudo_rows
from coretree.coreset.rfactor import rfactor
from coretree.coreset.second_moments import Summary
from coretree.errors import ConfigError, EmptyDataError
from coretree.learn.exact_models import fit_exact, is_exact

Array = npt.NDArray[Any]
Gather = Callable[..., Any]


def regression(n: int = 8000, d: int = 12, seed: int = 0) -> tuple[Array, Array]:
    """A constant column, a collinear one, a mean of 1e6, and decades of scale."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, d)) @ rng.standard_normal((d, d)) + 100 * rng.standard_normal(d)
    X[:, 5] = 7.3
    X[:, 7] = 1e6 + rng.standard_normal(n)
    X[:, 6] = X[:, 0] - X[:, 1]
    return X, X @ (rng.standard_normal(d) * (rng.random(d) < 0.7)) + 3 * rng.standard_t(4, n)


def classes(K: int, n: int = 6000, d: int = 6, seed: int = 0) -> tuple[Array, Array]:
    rng = np.random.default_rng(seed)
    codes = rng.choice(K, n, p=np.arange(1, K + 1) / np.arange(1, K + 1).sum())
    shape = rng.standard_normal((K, d, d)) + 2 * np.eye(d)
    X = 2 * rng.standard_normal((K, d))[codes] + np.einsum("nab,nb->na", shape[codes], rng.standard_normal((n, d)))
    return X + 50, np.array(["ant", "bee", "cow", "dog"])[codes]


def by_class(X: Array, y: Array, parts: int, gather: Gather = comoments) -> dict[Any, Summary]:
    labels = np.unique(y)[::-1]  # not in scikit-learn's order
    pieces = np.array_split(np.arange(len(X)), parts)
    return {label: sum(gather(X[p][y[p] == label]) for p in pieces) for label in labels}


def folded(X: Array, y: Array, parts: int, gather: Gather = comoments) -> Any:
    return sum(gather(X[p], y[p]) for p in np.array_split(np.arange(len(X)), parts))


TIGHT = {"tol": 1e-12, "max_iter": 200_000}
LINEAR = [
    LinearRegression(),
    LinearRegression(fit_intercept=False),
    LinearRegression(positive=True),
    Ridge(100.0),
    Ridge(3.0, fit_intercept=False, solver="svd"),  # solver="auto" loses 1e-7 of its own on all rows here
    Lasso(0.5, **TIGHT),
    ElasticNet(0.1, **TIGHT),
    BayesianRidge(tol=1e-10, max_iter=2000),
]


@pytest.mark.parametrize(("parts", "gather"), [(1, comoments), (50, comoments), (50, rfactor)])
@pytest.mark.parametrize("estimator", LINEAR, ids=str)
def test_least_squares_coefficients_are_those_of_all_rows(estimator: Any, parts: int, gather: Gather) -> None:
    X, y = regression()
    if not estimator.fit_intercept:  # a mean of 1e6 beside a constant 7 is singular without an intercept
        X = X[:, [0, 1, 2, 3, 4, 6]]
    if getattr(estimator, "positive", False):  # with signs fixed, collinear columns have no unique coefficients
        X = np.delete(X, 6, axis=1)
    full, exact = clone(estimator).fit(X, y), fit_exact(estimator, folded(X, y, parts, gather))
    assert type(exact) is type(estimator)
    assert exact.get_params() == estimator.get_params()
    assert np.abs(exact.coef_ - full.coef_).max() <= 1e-7 * np.abs(full.coef_).max()
    assert np.abs(exact.predict(X) - full.predict(X)).max() <= 1e-7 * y.std()
    assert abs(exact.score(X, y) - full.score(X, y)) <= 1e-9


def test_as_many_real_rows_would_not_do() -> None:
    X, y = regression()
    full, few = Ridge(100.0).fit(X, y), Ridge(100.0).fit(X[:14], y[:14])
    assert np.abs(few.coef_ - full.coef_).max() > 1e-2 * np.abs(full.coef_).max()


def test_several_targets_and_predictive_spread() -> None:
    X, y = regression(3000)
    Y = np.column_stack([y, X[:, 2] + y**2 / 100])
    for estimator in (LinearRegression(), Ridge([1.0, 50.0])):
        full, exact = clone(estimator).fit(X, Y), fit_exact(estimator, folded(X, Y, 5))
        assert exact.coef_.shape == full.coef_.shape
        assert np.shape(exact.intercept_) == np.shape(full.intercept_)
        assert np.allclose(exact.predict(X), full.predict(X), atol=1e-7 * Y.std())
    full, exact = BayesianRidge().fit(X, y), fit_exact(BayesianRidge(), folded(X, y, 5))
    assert np.allclose(exact.predict(X[:9], return_std=True)[1], full.predict(X[:9], return_std=True)[1], rtol=1e-7)


def test_folds_from_totals_give_exact_cross_validation() -> None:
    X, y = regression(4000)
    folds = np.array_split(np.arange(len(X)), 5)
    totals = [comoments(X[f], y[f]) for f in folds]
    for alpha in (1e-2, 1e4):
        for i, fold in enumerate(folds):
            model = fit_exact(Ridge(alpha), sum(t for j, t in enumerate(totals) if j != i))
            held = pseudo_rows(totals[i])
            rest = np.setdiff1d(np.arange(len(X)), fold)
            direct = Ridge(alpha).fit(X[rest], y[rest]).score(X[fold], y[fold])
            assert abs(model.score(held.X, held.y, sample_weight=held.weights) - direct) < 1e-9


@pytest.mark.parametrize(
    "estimator",
    [
        RidgeClassifier(2.0),
        RidgeClassifier(5.0, class_weight="balanced"),
        RidgeClassifier(class_weight={"ant": 3.0}, fit_intercept=False),
        LinearDiscriminantAnalysis(store_covariance=True),
        LinearDiscriminantAnalysis("lsqr", shrinkage=0.2),
        LinearDiscriminantAnalysis("eigen"),
        LinearDiscriminantAnalysis("eigen", shrinkage=0.3, n_components=1),
        QuadraticDiscriminantAnalysis(),
        QuadraticDiscriminantAnalysis(reg_param=0.3, store_covariance=True),
        GaussianNB(),
        GaussianNB(var_smoothing=0.1),
    ],
    ids=str,
)
@pytest.mark.parametrize("n_classes", [2, 4])
@pytest.mark.parametrize("gather", [comoments, rfactor])
def test_classifiers_predict_as_if_fitted_on_all_rows(estimator: Any, n_classes: int, gather: Gather) -> None:
    X, y = classes(n_classes)
    full, exact = clone(estimator).fit(X, y), fit_exact(estimator, by_class(X, y, 13, gather))
    assert exact.get_params() == estimator.get_params()
    assert exact.classes_.tolist() == full.classes_.tolist()
    assert (exact.predict(X) == full.predict(X)).all()
    method = "predict_log_proba" if hasattr(full, "predict_proba") else "decision_function"
    assert np.allclose(getattr(exact, method)(X), getattr(full, method)(X), rtol=1e-7, atol=1e-7)
    for name in ("covariance_", "explained_variance_ratio_", "var_", "class_prior_", "priors_"):
        if hasattr(full, name):
            assert np.allclose(getattr(exact, name), getattr(full, name), rtol=1e-7, atol=1e-12), name
    if hasattr(full, "transform") and full.solver != "lsqr":
        assert np.allclose(np.abs(exact.transform(X[:50])), np.abs(full.transform(X[:50])), atol=1e-6)
    assert vars(full).keys() - vars(exact).keys() <= {"y_"}


def test_priors_of_the_user_and_absent_classes_are_kept() -> None:
    X, y = classes(2)
    moments = by_class(X, y, 3) | {"cow": comoments(X[:0])}
    for kind in (LinearDiscriminantAnalysis, QuadraticDiscriminantAnalysis, GaussianNB):
        estimator = kind(priors=[0.7, 0.3])
        full, exact = clone(estimator).fit(X, y), fit_exact(estimator, moments)
        assert exact.priors == [0.7, 0.3]
        assert np.allclose(exact.predict_proba(X), full.predict_proba(X), atol=1e-9)


@pytest.mark.parametrize("n_components", [None, 3, 0.9])
@pytest.mark.parametrize("gather", [comoments, rfactor])
def test_pca_has_every_attribute_of_the_full_fit(n_components: Any, gather: Gather) -> None:
    X = np.random.default_rng(0).standard_normal((5000, 6)) * [1, 5, 3, 2, 9, 0.1] + 100
    # not the default solver: that subtracts the means from a sum of squares, and loses nine digits on some machines
    full = PCA(n_components, svd_solver="full").fit(X)
    exact = fit_exact(PCA(n_components), folded(X, X[:, 0], 9, gather))
    assert vars(full).keys() - vars(exact).keys() <= {"_fit_svd_solver"}
    assert exact.n_components_ == full.n_components_
    for name in ("mean_", "components_", "explained_variance_", "explained_variance_ratio_", "singular_values_"):
        assert np.allclose(getattr(exact, name), getattr(full, name), rtol=1e-9, atol=1e-9), name
    assert np.isclose(exact.noise_variance_, full.noise_variance_, rtol=1e-9)
    assert np.allclose(exact.inverse_transform(exact.transform(X)), full.inverse_transform(full.transform(X)))


def test_pca_of_few_rows_and_of_ill_conditioned_ones() -> None:
    few = np.random.default_rng(1).standard_normal((4, 6))
    full, exact = PCA().fit(few), fit_exact(PCA(), comoments(few))
    assert exact.components_.shape == full.components_.shape
    assert np.allclose(exact.singular_values_, full.singular_values_, atol=1e-7)
    rng = np.random.default_rng(2)
    Q, scale = np.linalg.qr(rng.standard_normal((8, 8)))[0], 10.0 ** -np.linspace(0, 9, 8)
    X = rng.standard_normal((5000, 8)) * scale @ Q
    full = PCA(svd_solver="full").fit(X)
    small = [fit_exact(PCA(), sum(gather(p) for p in np.array_split(X, 16))) for gather in (rfactor, comoments)]
    gaps = [np.abs(model.singular_values_ / full.singular_values_ - 1)[-1] for model in small]
    assert gaps[0] < 1e-5
    assert gaps[1] > 0.1  # documented: the co-moment's condition number is a square


def test_truncated_svd_leaves_the_mean_in() -> None:
    X = np.random.default_rng(0).standard_normal((3000, 6)) * [1, 5, 3, 2, 9, 0.1] + 10
    full = TruncatedSVD(4, algorithm="arpack").fit(X)
    for moments in (folded(X, X[:, 0], 9), by_class(X, (X[:, 0] > 10).astype(int), 3)):
        exact = fit_exact(TruncatedSVD(4), moments)
        assert np.allclose(exact.transform(X), full.transform(X), atol=1e-7)
        for name in ("explained_variance_", "explained_variance_ratio_", "singular_values_"):
            assert np.allclose(getattr(exact, name), getattr(full, name), rtol=1e-8), name


def test_weights_are_repeats_even_where_scikit_learn_takes_none() -> None:
    X, y = classes(3, 400)
    w = np.random.default_rng(0).integers(0, 4, len(X))
    weighted = {c: comoments(X[y == c], weights=w[y == c]) for c in np.unique(y)}
    again, labels = np.repeat(X, w, axis=0), np.repeat(y, w)
    for estimator in (LinearDiscriminantAnalysis(), QuadraticDiscriminantAnalysis(), GaussianNB()):
        full = clone(estimator).fit(again, labels)
        assert np.allclose(fit_exact(estimator, weighted).predict_proba(X), full.predict_proba(X), atol=1e-9)
    full = PCA().fit(again)
    assert np.allclose(fit_exact(PCA(), weighted).explained_variance_, full.explained_variance_, rtol=1e-9)


def test_feature_names_are_checked_like_those_of_any_model() -> None:
    X, y = regression(500)
    names = [f"x{i}" for i in range(X.shape[1])]
    model = fit_exact(Ridge(), comoments(X, y), feature_names=names)
    assert np.allclose(model.predict(pd.DataFrame(X, columns=names)), Ridge().fit(X, y).predict(X))
    with pytest.raises(ValueError, match="feature names"):
        model.predict(pd.DataFrame(X, columns=names[::-1]))


@pytest.mark.parametrize(
    ("estimator", "why"),
    [
        (RidgeCV(), "leave-one-out"),
        (LassoCV(), "folds"),
        (Lars(), "no sample weights"),
        (LogisticRegression(), "squared"),
        (RandomForestRegressor(), "not known"),
        (PCA("mle"), "mle"),
        (LinearDiscriminantAnalysis("lsqr", shrinkage="auto"), "fourth moments"),
        (LinearDiscriminantAnalysis("lsqr", covariance_estimator=PCA()), "covariance estimator"),
        (Lasso(precompute=np.eye(2)), "Gram"),
    ],
    ids=str,
)
def test_what_is_not_exact_says_why(estimator: BaseEstimator, why: str) -> None:
    verdict = is_exact(estimator)
    assert not verdict
    assert why in verdict.reason
    with pytest.raises(ConfigError, match="no exact fit"):
        fit_exact(estimator, comoments(np.eye(3)))


def test_the_wrong_kind_of_moments_is_told() -> None:
    X, _ = classes(2, 50)
    with pytest.raises(ConfigError, match="moments of each class"):
        fit_exact(GaussianNB(), comoments(X))
    with pytest.raises(ConfigError, match="with a target"):
        fit_exact(Ridge(), comoments(X))
    with pytest.raises(ConfigError, match="at least two classes"):
        fit_exact(RidgeClassifier(), {"ant": comoments(X)})
    with pytest.raises(ConfigError, match="class 'bee' has one"):
        fit_exact(QuadraticDiscriminantAnalysis(), {"ant": comoments(X), "bee": comoments(X[:1])})
    with pytest.raises(EmptyDataError):
        fit_exact(GaussianNB(), {"ant": comoments(X[:0])})
    with pytest.raises(EmptyDataError):
        fit_exact(PCA(), comoments(X[:1]))
    with pytest.raises(ValueError, match="without y"):
        fit_exact(GaussianNB(), {"ant": comoments(X, X[:, 0])})
    with pytest.raises(ConfigError, match="n_components"):
        fit_exact(TruncatedSVD(99), comoments(X))
