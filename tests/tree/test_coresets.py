"""From a node to rows and weights: totals are met, sizes nest, labels come back."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest

from coretree import CoresetTree, Dataset, ThreadExecutor
from coretree.errors import ConfigError, CoresetQualityWarning
from coretree.tree.coresets import make_coreset
from generated import sales

FRAME = sales(1500).drop(columns=["price", "number", "group"])


@pytest.fixture(scope="module")
def tree() -> CoresetTree:
    data = Dataset.from_pandas(FRAME, target="sold", weight="weight", leaf_bytes=20_000)
    return CoresetTree(size=600).build(data, client=ThreadExecutor(1))


@pytest.mark.parametrize("objective", ["robust", "balanced", "uniform"])
def test_class_weights_are_those_of_all_rows(tree: CoresetTree, objective: str) -> None:
    core = make_coreset(tree.root_, tree.recipe_, size=400, objective=objective)
    assert len(core) == 400
    assert core.n_rows == 1500
    assert core.objective == objective
    assert (core.sample_weight > 0).all()
    expected = FRAME.groupby("sold")["weight"].sum()
    found = pd.Series(core.sample_weight).groupby(core.y.to_numpy()).sum()
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    assert core.class_counts == expected.to_dict()
    assert core.report.rows == 400
    assert 0 < core.report.effective_rows <= 400


def test_rows_are_rows_of_the_data(tree: CoresetTree) -> None:
    core = tree.coreset(500)
    assert core.X.columns.tolist() == ["a", "b", "c", "kind"]
    known = set(zip(FRAME["a"].astype("float32"), FRAME["b"].astype("float32"), FRAME["sold"], strict=True))
    drawn = zip(core.X["a"].astype("float32"), core.X["b"].astype("float32"), core.y, strict=True)
    assert all(row in known for row in drawn)
    assert set(core.X["kind"].dropna()) <= {*FRAME["kind"].dropna(), "(other)"}
    table = core.to_frame()
    assert table.columns.tolist() == ["a", "b", "c", "kind", "sold", "sample_weight"]
    assert "400" not in repr(core)
    assert repr(core).startswith("Coreset(500 robust rows for 1,500")


def test_sizes_are_nested_and_distinct(tree: CoresetTree) -> None:
    for objective in ("robust", "balanced", "uniform"):
        small, middle, large = (set(tree.coreset(size, objective=objective).ids.tolist()) for size in (400, 500, 600))
        assert small < middle < large
        assert (len(small), len(middle), len(large)) == (400, 500, 600)


def test_too_few_rows_are_a_warning_and_not_silence(tree: CoresetTree) -> None:
    with pytest.warns(CoresetQualityWarning, match="30 rows a column"):
        tree.coreset(50)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tree.coreset(600)


def test_what_a_node_does_not_hold(tree: CoresetTree) -> None:
    with pytest.raises(ConfigError, match="between 1 and 600"):
        make_coreset(tree.root_, tree.recipe_, size=601)
    with pytest.raises(ConfigError, match="it holds robust, balanced, uniform"):
        make_coreset(tree.root_, tree.recipe_, objective="none")
