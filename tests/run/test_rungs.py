"""Nested coresets of a tree: their sizes, and the rows and warnings of each."""

from __future__ import annotations

import warnings
from typing import Any

import pytest

from coretree import CoresetTree, Dataset, ThreadExecutor
from coretree.errors import ConfigError, CoresetQualityWarning
from coretree.run.rungs import drawn, sizes_of
from generated import sales


@pytest.fixture(scope="module")
def tree() -> CoresetTree:
    data = Dataset.from_pandas(sales(4000)[["a", "b", "c", "kind", "sold"]], target="sold")
    return CoresetTree(size=1600).build(data, client=ThreadExecutor(1))


def test_sizes(tree: CoresetTree) -> None:
    for sketch in ("robust", "balanced"):
        assert sizes_of(None, tree, sketch, 3) == [1600, 800, 400]
        assert sizes_of(None, tree, sketch, 2, sparse=True) == [1600, 267]
        assert sizes_of(None, tree, sketch, 3, sparse=True) == [1600, 283, 50]
        assert sizes_of(400, tree, sketch, 4, sparse=True) == [400, 200, 100, 50]
    for sparse in (False, True):
        with pytest.raises(ConfigError, match="have 49 rows, and 50 are needed: give size= of at least 200, or fewer"):
            sizes_of(199, tree, "balanced", 3, sparse=sparse)


@pytest.mark.filterwarnings("ignore::coretree.errors.CoresetQualityWarning")
def test_drawn_side_by_side_they_are_those_drawn_alone(tree: CoresetTree) -> None:
    found = drawn(tree, {"robust": [800, 100], "balanced": [800, 400, 100]}, None)
    assert {sketch: list(own) for sketch, own in found.items()} == {"robust": [800, 100], "balanced": [800, 400, 100]}
    for sketch, own in found.items():
        for size, core in own.items():
            alone = tree.coreset(size, objective=sketch)
            assert (core.ids == alone.ids).all()
            assert (core.sample_weight == alone.sample_weight).all()


def test_only_the_largest_warns(tree: CoresetTree) -> None:
    def told(call: Any) -> list[str]:
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            call()
        assert all(each.category is CoresetQualityWarning for each in seen)
        return [str(each.message) for each in seen]

    large, small = (told(lambda: tree.coreset(size, objective="robust")) for size in (1600, 60))  # noqa: B023
    assert small != large
    assert told(lambda: drawn(tree, {"robust": [1600, 60]}, None)) == large
    assert told(lambda: drawn(tree, {"robust": [60, 30]}, None)) == small
