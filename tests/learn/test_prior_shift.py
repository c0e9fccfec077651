"""The prior shift: class shares of the data restored, and probabilities as sharp as unseen rows allow."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pytest
from scipy.special import expit
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier, StackingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.neighbors import KNeighborsClassifier
from sklearn.tree import DecisionTreeClassifier
from sklearn.utils.estimator_checks import check_estimator
from threadpoolctl import threadpool_limits

from coretree.errors import ConfigError
from coretree.learn.prior_shift import PriorShift

FloatArray = npt.NDArray[np.float64]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Small fits: more threads would only wait for one another."""
    with threadpool_limits(1):
        yield


def rare(n: int, seed: int) -> tuple[FloatArray, npt.NDArray[np.int64]]:
    """Non-linear classes, about 3 % positives."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 5))
    logit = -5.5 + 1.8 * X[:, 0] * X[:, 1] + 1.5 * np.abs(X[:, 2])
    return X, (rng.random(n) < 1 / (1 + np.exp(-logit))).astype(np.int64)


def balanced_sample(X: FloatArray, y: npt.NDArray[np.int64], per_class: int, seed: int) -> tuple[Any, Any, FloatArray]:
    rng = np.random.default_rng(seed)
    parts = [rng.permutation(np.flatnonzero(y == c))[:per_class] for c in (0, 1)]
    weights = np.concatenate([np.full(p.size, (y == c).sum() / p.size) for c, p in enumerate(parts)])
    index = np.concatenate(parts)
    return X[index], y[index], weights


MODELS = [HistGradientBoostingClassifier(max_iter=40, early_stopping=False), RandomForestClassifier(30, random_state=0)]


@pytest.mark.parametrize("estimator", MODELS, ids=lambda e: type(e).__name__)
def test_prior_shift_restores_the_base_rate(estimator: Any) -> None:
    X, y = rare(40_000, 1)
    model = PriorShift(estimator).fit(
        *balanced_sample(X, y, 800, 0)[:2], sample_weight=balanced_sample(X, y, 800, 0)[2]
    )
    Xt, yt = rare(40_000, 2)
    p = model.predict_proba(Xt)[:, 1]
    raw = model.estimator_.predict_proba(Xt)[:, 1]
    assert p.mean() == pytest.approx(yt.mean(), rel=0.35)
    assert raw.mean() > 4 * yt.mean()  # negative control: without the shift the rate is far off
    assert log_loss(yt, p) < 0.8 * log_loss(yt, np.full(yt.size, yt.mean()))
    assert log_loss(yt, p) < log_loss(yt, np.column_stack([1 - raw, raw]))


def test_shift_beats_weighted_fit_on_rare_classes() -> None:
    """The reason for the treatment: weighted leaves of a few light positives claim certainty."""
    X, y = rare(40_000, 3)
    Xs, ys, w = balanced_sample(X, y, 800, 0)
    Xt, yt = rare(40_000, 4)
    shifted = PriorShift(MODELS[0]).fit(Xs, ys, sample_weight=w).predict_proba(Xt)
    weighted = clone(MODELS[0]).fit(Xs, ys, sample_weight=w).predict_proba(Xt)
    assert log_loss(yt, shifted) < log_loss(yt, weighted)


def test_full_data_is_left_as_it_is() -> None:
    X, y = rare(2000, 5)
    tree = DecisionTreeClassifier(max_depth=4, random_state=0)
    expected = clone(tree).fit(X, y).predict_proba(X)
    np.testing.assert_array_equal(PriorShift(tree).fit(X, y).predict_proba(X), expected)
    np.testing.assert_array_equal(
        PriorShift(tree).fit(X, y, sample_weight=np.full(2000, 7.0)).predict_proba(X), expected
    )


def test_class_counts_win_over_weights_and_prior_can_be_balanced() -> None:
    X, y = np.zeros((4, 1)), np.array(["no", "no", "no", "yes"])
    tree = DecisionTreeClassifier()
    counted = PriorShift(tree, smoothing=0.0).fit(X, y, class_counts={"no": 98, "yes": 2})
    np.testing.assert_allclose(counted.predict_proba(X[:1]), [[0.98, 0.02]])
    even = PriorShift(tree, prior="balanced", smoothing=0.0).fit(X, y, class_counts={"no": 98, "yes": 2})
    np.testing.assert_allclose(even.predict_proba(X[:1]), [[0.5, 0.5]])
    assert counted.predict(X[:1]).tolist() == ["no"]


def test_root_of_the_mass_is_shifted_back_to_the_data() -> None:
    """V_c is known, so a model that knows nothing else gives the class shares, whatever the masses."""
    X, y = np.zeros((4, 1)), np.array([0, 0, 0, 1])
    w = np.array([30.0, 40.0, 30.0, 4.0])
    root = PriorShift(DecisionTreeClassifier(), class_mass="root", smoothing=0.0).fit(X, y, sample_weight=w)
    np.testing.assert_allclose(root.estimator_.predict_proba(X[:1]), [[10 / 12, 2 / 12]])  # roots of 100 and 4
    np.testing.assert_allclose(root.predict_proba(X[:1]), [[100 / 104, 4 / 104]])
    even = PriorShift(DecisionTreeClassifier(), class_mass="root", prior="balanced", smoothing=0.0)
    np.testing.assert_allclose(even.fit(X, y, sample_weight=w).predict_proba(X[:1]), [[0.5, 0.5]])
    rows = PriorShift(DecisionTreeClassifier(), smoothing=0.0).fit(X, y, sample_weight=w)
    np.testing.assert_allclose(rows.estimator_.predict_proba(X[:1]), [[0.75, 0.25]])


@pytest.mark.parametrize("class_mass", ["rows", "root"])
def test_sample_that_dropped_nothing_is_fitted_as_it_is(class_mass: str) -> None:
    X, y = rare(2000, 8)
    tree = DecisionTreeClassifier(max_depth=4, random_state=0)
    full = PriorShift(tree, class_mass=class_mass).fit(X, y, sample_weight=np.ones(2000), class_counts={0: 1, 1: 1})
    np.testing.assert_array_equal(full.estimator_.predict_proba(X), clone(tree).fit(X, y).predict_proba(X))
    counted = dict(enumerate(np.bincount(y).tolist()))
    same = PriorShift(tree, class_mass=class_mass).fit(X, y, sample_weight=np.ones(2000), class_counts=counted)
    np.testing.assert_array_equal(same.predict_proba(X), clone(tree).fit(X, y).predict_proba(X))


def test_smoothing_keeps_the_order_and_opens_pure_leaves() -> None:
    X, y = np.arange(6.0)[:, None], np.array([0, 0, 0, 1, 1, 1])
    w = np.array([99.0] * 3 + [1.0] * 3)
    pure = PriorShift(DecisionTreeClassifier(), smoothing=0.0).fit(X, y, sample_weight=w).predict_proba(X)[:, 1]
    open_ = PriorShift(DecisionTreeClassifier()).fit(X, y, sample_weight=w).predict_proba(X)[:, 1]
    assert set(pure.tolist()) == {0.0, 1.0}
    assert 0.9 < open_.max() < 1.0
    assert np.all(np.diff(open_) >= 0)


def test_rows_of_weight_zero_are_absent() -> None:
    X, y = rare(500, 6)
    w = np.where(np.arange(500) % 3 == 0, 0.0, 2.0)
    kept = w > 0
    tree = DecisionTreeClassifier(max_depth=3, random_state=0)
    np.testing.assert_array_equal(
        PriorShift(tree).fit(X, y, sample_weight=w).predict_proba(X),
        PriorShift(tree).fit(X[kept], y[kept], sample_weight=w[kept]).predict_proba(X),
    )


def test_estimators_without_weights_serve_a_balanced_sample() -> None:
    X, y = rare(5000, 7)
    Xs, ys, w = balanced_sample(X, y, 100, 0)
    assert PriorShift(KNeighborsClassifier(9)).fit(Xs, ys, sample_weight=w).predict_proba(Xs).shape == (200, 2)


def test_mistakes_are_named() -> None:
    X, y = np.zeros((2, 1)), np.array([0, 1])
    with pytest.raises(ConfigError, match="prior must be"):
        PriorShift(DecisionTreeClassifier(), prior="uniform").fit(X, y)
    with pytest.raises(ConfigError, match="class_mass must be 'rows' or 'root', found 'log'"):
        PriorShift(DecisionTreeClassifier(), class_mass="log").fit(X, y)
    with pytest.raises(ConfigError, match="no rows of class 1"):
        PriorShift(DecisionTreeClassifier()).fit(X, y, class_counts={0: 1})


def test_is_a_scikit_learn_estimator() -> None:
    """Repeated rows and weights differ by design: rows, not their mass, say how much of a class the trees see."""
    reason = "class mass inside the fit is the number of rows"
    expected = dict.fromkeys(
        [
            "check_sample_weight_equivalence_on_dense_data",
            "check_sample_weight_equivalence_on_sparse_data",
        ],
        reason,
    )
    results = check_estimator(
        PriorShift(DecisionTreeClassifier(random_state=0)), expected_failed_checks=expected, on_skip=None, on_fail=None
    )
    failed = [r["check_name"] + ": " + repr(r["exception"]) for r in results if r["status"] == "failed"]
    assert failed == []
    assert sum(r["status"] == "passed" for r in results) > 40


class Tempered(ClassifierMixin, BaseEstimator):  # type: ignore[misc, unused-ignore]
    """Logistic regression whose log odds are multiplied by a factor: wrong by a known slope."""

    def __init__(self, factor: float = 1.0) -> None:
        self.factor = factor

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        self.inner_ = LogisticRegression(C=1e6).fit(X, y, sample_weight=sample_weight)
        self.classes_ = self.inner_.classes_
        return self

    def predict_proba(self, X: Any) -> FloatArray:
        p = expit(self.factor * self.inner_.decision_function(X))
        return np.column_stack([1 - p, p])


def linear(n: int, seed: int, constant: float = -4.5) -> tuple[FloatArray, npt.NDArray[np.int64]]:
    """Linear log odds, about 4 % positives."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 3))
    return X, (rng.random(n) < expit(constant + X @ [1.5, -1.0, 0.5])).astype(np.int64)


@pytest.mark.parametrize("factor", [0.5, 1.0, 2.0])
def test_cross_fitting_finds_a_known_slope(factor: float) -> None:
    """Log odds that are wrong by a factor are put right, whatever the masses inside; the order of rows stays."""
    X, y = linear(60_000, 1)
    Xs, ys, w = balanced_sample(X, y, 800, 0)
    Xt, yt = linear(40_000, 2)
    plain = PriorShift(Tempered(factor), class_mass="root", smoothing=1e-9).fit(Xs, ys, w)
    model = clone(plain).set_params(cross_fit=3).fit(Xs, ys, w)
    assert model.sharpness_ == pytest.approx(1 / factor, rel=0.15)
    truth = LogisticRegression(C=1e6).fit(X, y).predict_proba(Xt)
    assert log_loss(yt, model.predict_proba(Xt)) < 1.02 * log_loss(yt, truth)
    if factor != 1.0:  # negative control
        assert log_loss(yt, plain.predict_proba(Xt)) > 1.04 * log_loss(yt, truth)
    order = [np.argsort(m.predict_proba(Xt)[:, 1], kind="stable") for m in (plain, model)]
    np.testing.assert_array_equal(*order)


def test_cross_fitting_finds_the_slope_of_a_very_rare_class() -> None:
    """One in a thousand: the mean loss hardly slopes there, and a solver that looks at it alone stops at once."""
    X, y = linear(400_000, 7, constant=-9.0)
    rows = np.concatenate([np.flatnonzero(y == 1)[:400], np.flatnonzero(y == 0)[:1500]])
    w = np.where(y[rows] == 1, 1.0, 300.0)
    model = PriorShift(Tempered(0.3), class_mass="root", smoothing=1e-9, cross_fit=3).fit(X[rows], y[rows], w)
    assert model.sharpness_ == pytest.approx(1 / 0.3, rel=0.2)
    assert model.ratios_.max() == 1.0


def test_a_stack_of_trees_is_sharpened() -> None:
    """Before it is fitted it does not say that it will have probabilities."""
    X, y = rare(20_000, 11)
    Xs, ys, w = balanced_sample(X, y, 200, 0)
    trees = [(str(d), DecisionTreeClassifier(max_depth=d, random_state=0)) for d in (2, 4)]
    model = PriorShift(StackingClassifier(trees, cv=2), class_mass="root", cross_fit=2).fit(Xs, ys, w)
    assert model.sharpness_ != 1.0


def test_cross_fitting_judges_unseen_rows() -> None:
    """A tree that knows its rows by heart is sure of them, and mostly wrong about others: its slope is far below 1."""
    X, y = rare(40_000, 9)
    Xs, ys, w = balanced_sample(X, y, 400, 0)
    model = PriorShift(DecisionTreeClassifier(random_state=0), class_mass="root", cross_fit=3).fit(Xs, ys, w)
    assert 0.0 < model.sharpness_ < 0.5
    Xt, yt = rare(40_000, 10)
    plain = clone(model).set_params(cross_fit=0).fit(Xs, ys, w)
    assert log_loss(yt, model.predict_proba(Xt)) < 0.5 * log_loss(yt, plain.predict_proba(Xt))


def test_sharpened_priors_differ_by_the_class_shares_alone() -> None:
    X, y = linear(20_000, 3)
    Xs, ys, w = balanced_sample(X, y, 300, 0)
    model = PriorShift(Tempered(0.5), class_mass="root", cross_fit=3).fit(Xs, ys, w)
    even = clone(model).set_params(prior="balanced").fit(Xs, ys, w)
    p, q = model.predict_proba(X), even.predict_proba(X)
    shares = np.bincount(y) / len(y)
    np.testing.assert_allclose(q[:, 1] / q[:, 0] * (shares[1] / shares[0]), p[:, 1] / p[:, 0], rtol=1e-9)


def test_cross_fitting_counts_classes_as_the_data_do() -> None:
    """Exact class counts win over the weights' sums in the calibration, too."""
    X, y = linear(40_000, 4)
    rows = np.concatenate([np.flatnonzero(y == 1), np.flatnonzero(y == 0)[::8]])
    Xs, ys, w = X[rows], y[rows], np.where(y[rows] == 1, 1.0, 8.0)
    made = PriorShift(Tempered(0.5), class_mass="root", cross_fit=3)
    right = made.fit(Xs, ys, w).predict_proba(X)[:, 1]
    assert right.mean() == pytest.approx(y.mean(), rel=0.05)
    counts = {0: 1.0, 1: 1.0}
    even = clone(made).fit(Xs, ys, w, class_counts=counts).predict_proba(X)[:, 1]
    again = clone(made).fit(Xs, ys, np.where(ys == 1, 5.0 * w, w), class_counts=counts).predict_proba(X)[:, 1]
    assert (even[y == 0].mean() + even[y == 1].mean()) / 2 == pytest.approx(0.5, rel=0.05)
    np.testing.assert_allclose(again, even, atol=0.02)  # another root of the mass inside, the same classes outside


@pytest.mark.parametrize("positives", [29, 30])
def test_too_few_rows_tell_no_slope(positives: int) -> None:
    X, y = linear(20_000, 5)
    rows = np.concatenate([np.flatnonzero(y == 1)[:positives], np.flatnonzero(y == 0)[:500]])
    w = np.where(y[rows] == 1, 1.0, 30.0)
    model = PriorShift(Tempered(0.5), class_mass="root", cross_fit=3).fit(X[rows], y[rows], w)
    assert (model.sharpness_ == 1.0) == (positives < 30)


def test_cross_fitting_leaves_alone_what_it_cannot_judge() -> None:
    """A sample that dropped nothing, more than two classes, and a model that says the opposite on unseen rows."""
    X, y = linear(3000, 6)
    whole = PriorShift(Tempered(0.5), class_mass="root", cross_fit=3).fit(X, y, np.full(len(y), 2.0))
    assert whole.sharpness_ == 1.0
    three = np.arange(3000) % 3
    many = PriorShift(Tempered(), class_mass="root", cross_fit=3).fit(X[:, :2], three, 1.0 + three)
    assert many.sharpness_ == 1.0
    opposite = PriorShift(Tempered(-1.0), class_mass="root", cross_fit=3).fit(X, y, np.where(y == 1, 1.0, 9.0))
    assert opposite.sharpness_ == 1.0
