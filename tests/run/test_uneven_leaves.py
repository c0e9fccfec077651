"""However rows lie in the files, a tree keeps as many as it was asked for, and the same ones where scores allow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from coretree import CoresetTree, Dataset, ThreadExecutor
from coretree.coreset.quotas import class_quotas
from coretree.coreset.thresholds import threshold_for
from coretree.tree.coresets import most_rows

ONE = ThreadExecutor(1)
N, SIZE = 24_000, 1_600
LAYOUTS = {
    "even": [2_000] * 12,
    "one long file": [N - 1_100] + [100] * 11,
    "short files": [5_000] * 4 + [500] * 8,
}


def table() -> pd.DataFrame:
    """A rare class, and a few rows far out."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.standard_t(2.5, size=(N, 4)), columns=["a", "b", "c", "d"])
    frame["y"] = np.where(frame["a"] - 4 + rng.logistic(size=N) > 0, "yes", "no")
    return frame


def written(folder: Path, frame: pd.DataFrame, lengths: list[int]) -> str:
    """One file for each length."""
    for i, end in enumerate(np.cumsum(lengths)):
        frame.iloc[end - lengths[i] : end].to_parquet(folder / f"{i:02d}.parquet", index=False)
    return str(folder)


@pytest.mark.parametrize("lengths", LAYOUTS.values(), ids=LAYOUTS)
@pytest.mark.parametrize("order", ["as drawn", "by class", "by a feature"])
@pytest.mark.parametrize("target", ["y", "a", None])
def test_a_tree_keeps_its_size_whatever_the_layout(
    tmp_path: Path, lengths: list[int], order: str, target: str | None
) -> None:
    frame = table()
    if order != "as drawn":
        frame = frame.sort_values("y" if order == "by class" else "a", ignore_index=True)
    if target != "y":
        frame = frame.drop(columns="y")
    roles: dict[str, Any] = {} if target is None else {"target": target}
    data = Dataset.from_parquet(written(tmp_path, frame, lengths), **roles)
    tree = CoresetTree(size=SIZE).build(data, client=ONE)
    assert tree.n_rows_ == N
    for objective in tree.recipe_.objectives:
        assert len(tree.coreset(SIZE, objective=objective)) == SIZE


@pytest.mark.parametrize("lengths", LAYOUTS.values(), ids=LAYOUTS)
def test_one_pass_keeps_its_size_of_long_files(tmp_path: Path, lengths: list[int]) -> None:
    data = Dataset.from_parquet(written(tmp_path, table(), lengths), target="y")
    tree = CoresetTree(size=SIZE, passes=1).build(data, client=ONE)
    for objective in tree.recipe_.objectives:
        assert most_rows(tree.root_, tree.recipe_, objective) == SIZE
        assert len(tree.coreset(SIZE, objective=objective)) == SIZE


@pytest.mark.filterwarnings("ignore:.*rebuild:coretree.errors.DataWarning")
@pytest.mark.parametrize("first", [400, 4_000], ids=["fewer rows than the size", "a rare class kept whole"])
def test_as_classes_grow_each_keeps_its_quota_of_the_day(
    tmp_path: Path, first: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    frame = table()
    held = frame["y"].value_counts(sort=False).sort_index()
    quotas = class_quotas(held, SIZE).tolist()

    def kept(folder: Path) -> list[int]:
        folder.mkdir()
        tree = CoresetTree(size=SIZE)
        tree.build(Dataset.from_parquet(written(folder, frame, [first]), target="y"), client=ONE)
        written(folder, frame, [first, 1_500, N - first - 1_500])
        tree.update(Dataset.from_parquet(folder, target="y"), client=ONE)
        assert tree.n_rows_ == N
        return np.bincount(np.unique(tree.coreset(objective="balanced").target, return_inverse=True)[1]).tolist()

    assert kept(tmp_path / "ours") == quotas
    monkeypatch.setattr("coretree.tree.objectives.class_capacities", class_quotas)
    assert sum(kept(tmp_path / "control")) < SIZE  # the negative control: quotas of the first build


def test_without_reach_a_long_file_would_decide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The negative control: its threshold would be that of the root."""
    monkeypatch.setattr("coretree.run.pilots.threshold_for", lambda *_: 0.0)
    data = Dataset.from_parquet(written(tmp_path, table(), LAYOUTS["one long file"]), target="y")
    tree = CoresetTree(size=SIZE).build(data, client=ONE)
    assert len(tree.coreset(objective="uniform")) < 0.8 * SIZE


def test_the_threshold_is_met_in_expectation() -> None:
    rng = np.random.default_rng(1)
    scores, weights = rng.pareto(1.2, 500) + 1e-3, rng.uniform(1, 30, 500)
    for rows in (1.0, 50.0, 2_000.0, 0.999 * weights.sum()):
        t = threshold_for(scores, weights, rows)
        assert weights @ np.minimum(1.0, t * scores) == pytest.approx(rows, rel=1e-9)
    assert threshold_for(scores, weights, weights.sum()) == np.finfo(float).max
    assert threshold_for(np.zeros(0), np.zeros(0), 3.0) == np.finfo(float).max
