"""Learning curves of models whose fit is known beforehand."""

from __future__ import annotations

import pytest
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.svm import LinearSVC
from sklearn.tree import DecisionTreeClassifier

from coretree import CoresetTree, Dataset, ThreadExecutor, diagnose
from coretree.errors import ConfigError
from generated import sales

ONE = ThreadExecutor(1)
COLUMNS = ["a", "b", "c", "kind"]


@pytest.fixture(scope="module")
def sides() -> tuple[Dataset, Dataset]:
    train, test = Dataset.from_pandas(sales(8000)[[*COLUMNS, "sold"]], target="sold").split(test=0.3)
    return train, test


@pytest.fixture(scope="module")
def tree(sides: tuple[Dataset, Dataset]) -> CoresetTree:
    return CoresetTree(size=400).build(sides[0], client=ONE)


def test_a_tree_without_limits_overfits_and_a_straight_line_does_not(
    sides: tuple[Dataset, Dataset], tree: CoresetTree
) -> None:
    deep = diagnose(DecisionTreeClassifier(random_state=0), tree, sides[1], client=ONE, steps=3)
    assert deep.fit == "overfits"
    assert (deep.table["train"] < 0.1 * deep.table["validation"]).all()
    straight = diagnose(LogisticRegression(), tree, sides[1], client=ONE, steps=3)
    assert straight.fit in ("underfits", "fits")
    assert straight.larger_helps is False
    assert "would hardly help" in straight.sentence
    assert list(straight.table.index) == [100, 200, 400]
    assert straight.points[-1].validation < straight.guess
    assert straight.low <= straight.full <= straight.high


def test_a_tree_that_learns_from_more_rows_is_told_to_have_them(
    sides: tuple[Dataset, Dataset], tree: CoresetTree
) -> None:
    model = DecisionTreeClassifier(min_samples_leaf=20, random_state=0)
    found = diagnose(model, tree, sides[1], scoring="roc_auc", client=ONE, steps=3)
    assert found.loss == "1 - roc_auc"
    assert found.guess == 0.5
    assert found.larger_helps is not False
    assert found.full < found.points[-1].validation < found.points[0].validation


def test_a_useless_model_learns_nothing(sides: tuple[Dataset, Dataset], tree: CoresetTree) -> None:
    found = diagnose(LogisticRegression(C=1e-9), tree, sides[1], client=ONE, steps=2)
    assert found.points[-1].validation == pytest.approx(found.guess, rel=1e-3)
    assert found.fit in ("learns nothing", "underfits")


def test_inside_the_tree_and_without_probabilities(tree: CoresetTree) -> None:
    found = diagnose(LinearSVC(), tree, client=ONE, steps=2)
    assert found.loss == "1 - roc_auc"
    assert 0 < found.scored_rows < 200
    assert found.points[-1].rows < 400
    with pytest.raises(ConfigError, match="neg_log_loss is undefined for LinearSVC"):
        diagnose(LinearSVC(), tree, client=ONE, steps=2, scoring="neg_log_loss")


def test_quantities_from_moments_need_no_larger_coreset() -> None:
    data = Dataset.from_pandas(sales(2000)[["a", "b", "c", "price"]], target="price")
    train, test = data.split(test=0.3)
    tree = CoresetTree(size=300).build(train, client=ONE)
    found = diagnose(Ridge(), tree, test, client=ONE, steps=2)
    assert found.loss == "mean squared error"
    assert len(found.points) == 1
    assert "all rows already" in found.sentence
    assert found.points[0].validation < 0.8 * found.guess
