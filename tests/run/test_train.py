"""Several models on one tree."""

from __future__ import annotations

import pytest
from sklearn.linear_model import LogisticRegression

from coretree import CoresetTree, Dataset, ThreadExecutor, choose
from coretree.run.estimators import CoresetClassifier, CoresetRegressor
from generated import sales

ONE = ThreadExecutor(1)
FRAME = sales(1500)


@pytest.fixture(scope="module")
def tree() -> CoresetTree:
    data = Dataset.from_pandas(FRAME[["a", "b", "c", "kind", "sold"]], target="sold")
    return CoresetTree(size=500).build(data, client=ONE)


def test_the_best_of_the_board_is_fitted_on_its_own_sketch(tree: CoresetTree) -> None:
    found = choose({"good": LogisticRegression(), "useless": LogisticRegression(C=1e-9)}, tree, client=ONE, cv=3)
    assert found.name == found.leaderboard.best == "good"
    assert set(found.models) == {"good", "useless"}
    assert isinstance(found.model, CoresetClassifier)
    alone = CoresetClassifier(LogisticRegression(), tree=tree, client=ONE).fit()
    assert (found.model.estimator_[-1].coef_ == alone.estimator_[-1].coef_).all()
    again = choose({"good": LogisticRegression()}, tree, client=ONE, cv=3)
    means = {row.name: row.mean for row in found.leaderboard.rows}
    assert again.leaderboard.rows[0].mean == means["good"] > means["useless"] - 1e-12


def test_names_stand_for_estimators_and_trees_get_the_balanced_sketch(tree: CoresetTree) -> None:
    found = choose(["logistic", "tree"], tree, size=450, client=ONE, cv=3)
    objectives = {name: model.coreset_.objective for name, model in found.models.items()}
    assert objectives == {"logistic": "robust", "tree": "balanced"}
    assert {len(model.coreset_) for model in found.models.values()} == {450}


def test_quantities() -> None:
    data = Dataset.from_pandas(FRAME[["a", "b", "c", "price"]], target="price")
    tree = CoresetTree(size=500).build(data, client=ONE)
    found = choose(["ridge"], tree, client=ONE, cv=3)
    assert isinstance(found.model, CoresetRegressor)
    assert found.leaderboard.scoring == "r2"
    assert found.model.score(FRAME, FRAME["price"]) > 0.6
