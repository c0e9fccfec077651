"""scikit-learn's own tools at work on our coresets, and on our estimators."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn import config_context, metrics
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import make_column_transformer
from sklearn.ensemble import StackingClassifier, StackingRegressor, VotingClassifier
from sklearn.impute import SimpleImputer
from sklearn.inspection import permutation_importance
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV, RandomizedSearchCV, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler
from sklearn.tree import DecisionTreeClassifier

from coretree import CoresetClassifier, CoresetRegressor, CoresetSearchCV, CoresetTree, Dataset, ThreadExecutor
from coretree.data.to_sklearn import to_sklearn
from coretree.tree.coresets import Coreset
from generated import sales

ONE = ThreadExecutor(1)
FEATURES = ["a", "b", "c", "kind"]
FRAME, NEW = sales(2000), sales(500, seed=7)
X, Y = FRAME[FEATURES], FRAME["sold"]


@pytest.fixture(scope="module")
def tree() -> CoresetTree:
    return CoresetTree(size=600).build(Dataset.from_pandas(FRAME[[*FEATURES, "sold"]], target="sold"), client=ONE)


@pytest.fixture(scope="module")
def core(tree: CoresetTree) -> Coreset:
    return tree.coreset()


def linear(**options: Any) -> CoresetClassifier:
    return CoresetClassifier(LogisticRegression(max_iter=500), size=600, client=ONE, **options)


def auc(model: Any) -> float:
    return float(metrics.roc_auc_score(NEW["sold"] == "yes", model.predict_proba(NEW[FEATURES])[:, 1]))


# ---- on our coresets -----------------------------------------------------------------------------------------------


def test_a_grid_search_that_routes_weights_through_a_pipeline(core: Coreset) -> None:
    with config_context(enable_metadata_routing=True):
        prepare = make_column_transformer((SimpleImputer(), ["a", "b", "c"]), (OneHotEncoder(), ["kind"]))
        model = LogisticRegression(max_iter=2000).set_fit_request(sample_weight=True)
        scorer = metrics.get_scorer("neg_log_loss").set_score_request(sample_weight=True)
        search = GridSearchCV(make_pipeline(prepare, model), {"logisticregression__C": [1e-6, 1.0]}, scoring=scorer)
        search.fit(core.X, core.y, sample_weight=core.sample_weight)
    assert search.best_params_ == {"logisticregression__C": 1.0}
    assert auc(search) > 0.75


def test_weights_reach_the_fit_and_the_score_of_a_grid_search(tree: CoresetTree, core: Coreset) -> None:
    rows = to_sklearn(tree.recipe_.preparation).transform(core.X)
    search = GridSearchCV(LogisticRegression(), {"C": [0.1]}, scoring="accuracy", cv=3)
    weighted = clone(search).fit(rows, core.y, sample_weight=core.sample_weight)
    plain = clone(search).fit(rows, core.y)
    assert weighted.best_score_ != plain.best_score_
    expected = metrics.accuracy_score(core.y, weighted.predict(rows), sample_weight=core.sample_weight)
    assert weighted.best_score_ == pytest.approx(expected, abs=0.05)


def test_other_searches_take_a_coreset_as_it_comes(core: Coreset) -> None:
    numbers = core.X[["a", "b"]]
    for search in (
        RandomizedSearchCV(DecisionTreeClassifier(random_state=0), {"max_depth": [1, 3, 5]}, n_iter=2, random_state=0),
        GridSearchCV(LogisticRegression(), {"C": [0.1, 1.0]}, scoring=["roc_auc", "accuracy"], refit="roc_auc"),
    ):
        found = search.fit(numbers, core.y, sample_weight=core.sample_weight)
        assert found.best_score_ > 0.6


# ---- on our estimators ---------------------------------------------------------------------------------------------


def test_in_a_pipeline() -> None:
    raise_a = FunctionTransformer(lambda rows: rows.assign(a=rows["a"] * 10))
    pipe = make_pipeline(raise_a, linear())
    pipe.fit(X, Y, coresetclassifier__sample_weight=np.ones(len(X)))
    assert auc(pipe) == pytest.approx(auc(linear().fit(X, Y)), abs=0.02)
    scaled = make_pipeline(StandardScaler().set_output(transform="pandas"), linear()).fit(X[["a", "b"]], Y)
    assert scaled.predict(NEW[["a", "b"]]).shape == (500,)
    assert scaled.score(NEW[["a", "b"]], NEW["sold"]) > 0.6


def test_in_a_stack_and_a_vote() -> None:
    members = [
        ("linear", linear()),
        ("tree", CoresetClassifier(DecisionTreeClassifier(max_depth=4), size=600, client=ONE)),
    ]
    stack = StackingClassifier(members, cv=2).fit(X, Y)
    vote = VotingClassifier(members, voting="soft").fit(X, Y)
    for model in (stack, vote):
        assert model.classes_.tolist() == ["no", "yes"]
        assert auc(model) > 0.75
    assert isinstance(stack.named_estimators_["linear"], CoresetClassifier)
    both = [
        (name, CoresetRegressor(Ridge(alpha), size=600, client=ONE)) for name, alpha in (("one", 1.0), ("two", 9.0))
    ]
    assert StackingRegressor(both, cv=2).fit(X, FRAME["price"]).score(NEW[FEATURES], NEW["price"]) > 0.6


@pytest.mark.parametrize("method", ["sigmoid", "isotonic"])
def test_calibrated(method: str) -> None:
    model = CalibratedClassifierCV(linear(), method=method, cv=2).fit(X, Y, sample_weight=np.ones(len(X)))
    assert auc(model) > 0.75
    loss = metrics.log_loss(NEW["sold"], model.predict_proba(NEW[FEATURES]))
    assert loss < metrics.log_loss(NEW["sold"], np.full((500, 2), 0.5))


def test_searched_and_predicted_by_folds() -> None:
    search = GridSearchCV(linear(), {"estimator__C": [1e-6, 1.0]}, cv=2, scoring="neg_log_loss").fit(X, Y)
    assert search.best_params_ == {"estimator__C": 1.0}
    assert isinstance(search.best_estimator_, CoresetClassifier)
    proba = cross_val_predict(linear(), X, Y, cv=2, method="predict_proba")
    assert metrics.roc_auc_score(Y == "yes", proba[:, 1]) > 0.75


def test_explained() -> None:
    found = permutation_importance(linear().fit(X, Y), NEW[FEATURES], NEW["sold"], n_repeats=2, random_state=0)
    assert pd.Series(found.importances_mean, FEATURES).idxmax() in ("a", "b")


def test_a_search_of_ours_inside_theirs() -> None:
    search = CoresetSearchCV(
        LogisticRegression(max_iter=500), {"C": [1e-6, 1.0]}, size=600, cv=2, scoring="neg_log_loss", client=ONE
    )
    model = CalibratedClassifierCV(search, cv=2).fit(X, Y)
    assert auc(model) > 0.75
    assert all(one.estimator.best_params_ == {"C": 1.0} for one in model.calibrated_classifiers_)
    assert make_pipeline(FunctionTransformer(), search).fit(X, Y).score(NEW[FEATURES], NEW["sold"]) > -0.6
