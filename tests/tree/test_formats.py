"""Trees written by every version so far are read, verified, windowed and updated by this one: kept for good."""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from coretree import CoresetTree, ThreadExecutor
from days import DAY

HERE = Path(__file__).parent
ONE = ThreadExecutor(1)
KINDS = [
    (path.parent.name, name)
    for path in sorted(HERE.glob("fixtures/*/expected.json"))
    for name in json.loads(path.read_text())["trees"]
]
pytestmark = pytest.mark.filterwarnings("ignore::coretree.errors.CoretreeWarning")


def writer() -> Any:
    """The script that wrote the fixtures, as a module: how it opens data is part of what must stay."""
    spec = importlib.util.spec_from_file_location("make_fixture", HERE / "make_fixture.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def same(tree: CoresetTree, expected: dict[str, Any], rtol: float = 1e-9, **window: Any) -> None:
    core = tree.coreset(**window)
    assert core.n_rows == pytest.approx(expected["n_rows"], rel=rtol)
    assert [int(i) for i in core.ids] == expected["ids"]
    np.testing.assert_allclose(core.sample_weight, expected["weights"], rtol=rtol)
    assert core.X.iloc[0].astype(str).to_dict() == expected["first"]


def test_there_are_fixtures() -> None:
    assert {version for version, _ in KINDS} >= {"v1", "v2"}
    assert len(KINDS) >= 6


@pytest.mark.parametrize(("version", "name"), KINDS)
def test_a_tree_of_that_version_is_read(version: str, name: str) -> None:
    place = HERE / "fixtures" / version
    expected = json.loads((place / "expected.json").read_text())["trees"][name]
    tree = CoresetTree.open(place / name)
    assert (tree.name_, tree.manifest_.recipe, tree.recipe_.name) == (
        expected["root"],
        expected["recipe"],
        expected["recipe"],
    )
    assert tree.verify()
    assert list(tree.recipe_.objectives) == list(expected["whole"])
    for objective, core in expected["whole"].items():
        same(tree, core, objective=objective)
    same(tree, expected["window"], start=DAY, end=2 * DAY)
    # the same rows; how many a leaf that is cut has inside is an estimate, which versions may make in other ways
    same(tree, expected["cut"], rtol=0.2, start=0.5 * DAY, end=2 * DAY, objective="uniform")
    assert tree.drift((0, DAY), (DAY, 2 * DAY)) is not None
    assert tree.describe()["rows"] == expected["whole"]["uniform"]["n_rows"]


@pytest.mark.parametrize(("version", "name"), KINDS)
def test_a_tree_of_that_version_is_updated(version: str, name: str, tmp_path: Path) -> None:
    """Nothing that is stored is made again: names and formats are still the same."""
    place, script = HERE / "fixtures" / version, writer()
    expected = json.loads((place / "expected.json").read_text())["trees"][name]["updated"]
    tree = CoresetTree.open(shutil.copytree(place / name, tmp_path / "tree"))
    data = Path(shutil.copytree(place / "data", tmp_path / "data"))
    shutil.copy(place / "later" / "d3.parquet", data)
    change = tree.update(script.data_of(name, script.dated(data)), client=ONE)
    assert change.to_dict() == expected["change"]
    assert (change.added, change.kept) == (1, 2)
    same(tree, expected["whole"], rtol=1e-6)  # a new leaf's sums may be taken in another order by then
    assert tree.verify()
