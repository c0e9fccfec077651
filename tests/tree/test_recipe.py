"""A recipe's name is its content, and storing it is exact."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from coretree import CleanRules, CoresetTree, Dataset, ThreadExecutor
from coretree.data.split import Split
from coretree.errors import MissingObjectError
from coretree.tree.recipe import Recipe, load_recipe
from generated import sales


@pytest.fixture(scope="module", params=["sold", "price", "group"])
def tree(request: pytest.FixtureRequest) -> CoresetTree:
    """Text classes, a quantity, and integer classes."""
    frame = sales(900)
    frame["group"] %= 3
    drop = [c for c in ("sold", "price", "group", "number") if c != request.param]
    task = "regression" if request.param == "price" else "classification"
    data = Dataset.from_pandas(frame.drop(columns=drop), target=request.param, task=task)
    train, _ = data.split(test=0.2)
    return CoresetTree(size=400).build(train, client=ThreadExecutor(1))


def test_storing_is_exact(tree: CoresetTree) -> None:
    recipe = load_recipe(tree.store, tree.manifest_.recipe)
    assert recipe.name == tree.manifest_.recipe
    again = Recipe.from_bytes(recipe.to_bytes(), where="r")
    assert again.to_bytes() == recipe.to_bytes()
    assert again.name == recipe.name
    assert again.classes == recipe.classes
    assert again.preparation.to_dict() == recipe.preparation.to_dict()
    assert again.split == Split(test=0.2)


def test_labels_keep_their_type(tree: CoresetTree) -> None:
    recipe = tree.recipe_
    expected: dict[str, Any] = {"sold": ("no", "yes"), "price": None, "group": (0, 1, 2)}
    assert recipe.schema.target is not None
    assert recipe.classes == expected[recipe.schema.target]
    if recipe.classes is not None:
        assert recipe.labels.tolist() == list(recipe.classes)


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 9},
        {"size": 401},
        {"leaf_size": 7},
        {"split": None},
        {"clean": CleanRules(missing_values=("?",))},
        {"objectives": ("uniform",)},
    ],
)
def test_every_part_is_in_the_name(tree: CoresetTree, change: dict[str, Any]) -> None:
    assert replace(tree.recipe_, **change).name != tree.recipe_.name


def test_the_pilot_is_in_the_name(tree: CoresetTree) -> None:
    pilot = tree.recipe_.pilots["robust"]
    nudged = replace(pilot, theta=np.nextafter(pilot.theta, np.inf))
    assert replace(tree.recipe_, pilots={"robust": nudged}).name != tree.recipe_.name


def test_a_recipe_that_is_not_there(tree: CoresetTree) -> None:
    with pytest.raises(MissingObjectError, match=r"recipes/none\.arrow"):
        load_recipe(tree.store, "none")
