"""Weighted scores against scikit-learn, and what happens to classes that are absent."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn import metrics
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.svm import LinearSVC

from coretree.errors import ConfigError
from coretree.learn.scoring import REGRESSION_SCORINGS, SCORINGS, weighted_score


def rows(n_classes: int) -> tuple[Any, Any, Any]:
    rng = np.random.default_rng(n_classes)
    X = rng.normal(size=(300, 3))
    y = np.digitize(X[:, 0] + rng.normal(size=300), np.linspace(-1, 1, n_classes - 1) if n_classes > 2 else [0.3])
    return X, y, rng.uniform(0.1, 5.0, 300)


@pytest.mark.parametrize("n_classes", [2, 4])
@pytest.mark.parametrize("scoring", sorted(set(SCORINGS) - REGRESSION_SCORINGS))
def test_classification_scores_equal_scikit_learn(scoring: str, n_classes: int) -> None:
    X, y, w = rows(n_classes)
    model = LogisticRegression().fit(X, y)
    p = model.predict_proba(X)
    one = np.eye(n_classes)[y]
    expected = {
        "roc_auc": lambda: (
            metrics.roc_auc_score(y, p[:, 1], sample_weight=w)
            if n_classes == 2
            else metrics.roc_auc_score(y, p, sample_weight=w, multi_class="ovr")
        ),
        "average_precision": lambda: np.mean(
            [metrics.average_precision_score(one[:, k], p[:, k], sample_weight=w) for k in range(n_classes)]
            if n_classes > 2
            else metrics.average_precision_score(y, p[:, 1], sample_weight=w)
        ),
        "neg_log_loss": lambda: -metrics.log_loss(y, p, sample_weight=w),
        "neg_brier_score": lambda: -metrics.brier_score_loss(y, p if n_classes > 2 else p[:, 1], sample_weight=w),
        "accuracy": lambda: metrics.accuracy_score(y, model.predict(X), sample_weight=w),
        "f1_macro": lambda: metrics.f1_score(y, model.predict(X), sample_weight=w, average="macro"),
    }[scoring]()
    assert weighted_score(model, X, y, weights=w, scoring=scoring) == pytest.approx(float(expected), abs=1e-12)


@pytest.mark.parametrize("scoring", sorted(REGRESSION_SCORINGS))
def test_regression_scores_equal_scikit_learn(scoring: str) -> None:
    X, y, w = rows(4)
    model = Ridge().fit(X, y)
    expected = metrics.get_scorer(scoring)(model, X, y, sample_weight=w)
    assert weighted_score(model, X, y, weights=w, scoring=scoring) == pytest.approx(expected, abs=1e-12)


def test_weights_act_as_repeats() -> None:
    X, y, _ = rows(2)
    model, w = LogisticRegression().fit(X, y), np.arange(300) % 4
    for scoring in set(SCORINGS) - REGRESSION_SCORINGS:
        a = weighted_score(model, X, y, weights=w, scoring=scoring)
        b = weighted_score(model, X.repeat(w, axis=0), y.repeat(w), weights=np.ones(w.sum()), scoring=scoring)
        assert a == pytest.approx(b, abs=1e-12), scoring


@pytest.mark.parametrize("n_classes", [2, 4])
def test_decision_values_rank_as_well(n_classes: int) -> None:
    X, y, w = rows(n_classes)
    model = LinearSVC(dual=False).fit(X, y)
    assert weighted_score(model, X, y, weights=w, scoring="roc_auc") > 0.7
    with pytest.raises(ConfigError, match="LinearSVC predicts no probabilities"):
        weighted_score(model, X, y, weights=w, scoring="neg_log_loss")


def test_absent_classes() -> None:
    """A class the model never saw has probability 0; one that no row has cannot be ranked."""
    X, y, w = rows(4)
    model = LogisticRegression().fit(X[y < 3], y[y < 3])
    loss = -weighted_score(model, X, y, weights=w, scoring="neg_log_loss", classes=[0, 1, 2, 3])
    share = w[y == 3].sum() / w.sum()
    assert loss > share * 36  # log of the smallest probability that counts
    only = y < 3
    known = weighted_score(model, X[only], y[only], weights=w[only], scoring="roc_auc", classes=[0, 1, 2, 3])
    assert known == weighted_score(model, X[only], y[only], weights=w[only], scoring="roc_auc")
    assert np.isnan(weighted_score(model, X[y == 0], y[y == 0], weights=w[y == 0], scoring="roc_auc"))


def test_unknown_score_is_explained() -> None:
    with pytest.raises(ConfigError, match="Did you mean 'roc_auc'"):
        weighted_score(None, None, [], weights=[], scoring="rocauc")
