"""The split: a pure function of a row's identity, complete, disjoint, and blind to how the data is cut or ordered."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coretree.coreset.rows import row_ids, uniforms
from coretree.data.clean import clean
from coretree.data.dataset import Dataset
from coretree.data.read import read_leaf
from coretree.data.split import Split, kept
from coretree.errors import ConfigError
from sample_data import write

unit = st.floats(0, 1, exclude_min=True, exclude_max=True)


@settings(max_examples=25, deadline=None)
@given(st.lists(unit, max_size=30), st.sampled_from([0.1, 0.5, 0.9]))
def test_the_sides_are_disjoint_and_complete(u: list[float], share: float) -> None:
    train, test = (kept(Split(test=share, side=side), np.array(u), None) for side in ("train", "test"))  # type: ignore[arg-type]
    assert (train ^ test).all()
    seconds = np.array([np.nan, *u])
    late, early = (kept(Split(by="time", cutoff=0.5, side=side), None, seconds) for side in ("test", "train"))  # type: ignore[arg-type]
    assert (late ^ early).all()
    assert early[0]  # rows without a time train


def test_shares_are_right_and_seeds_differ() -> None:
    ids = row_ids("part.0.parquet", 0, np.arange(100_000))
    masks = [kept(Split(test=0.2, seed=s, side="test"), uniforms(ids, s, "split"), None) for s in (0, 1, 0)]
    assert abs(masks[0].mean() - 0.2) < 4 * np.sqrt(0.16 / len(ids))
    assert (masks[0] == masks[2]).all()
    assert abs((masks[0] & masks[1]).mean() - 0.04) < 4 * np.sqrt(0.04 / len(ids))


@pytest.mark.parametrize(
    ("wrong", "said"),
    [({"by": "row"}, "use 'hash', 'time' or 'group'"), ({"test": 0.0}, "between 0 and 1"), ({"test": 1.0}, "between")],
)
def test_unknown_splits_are_refused(wrong: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Split(**wrong)  # type: ignore[arg-type]


def frame(n: int = 2000) -> pd.DataFrame:
    rng = np.random.default_rng(3)
    when = pd.Timestamp("2013-01-01") + pd.to_timedelta(rng.integers(0, 10**7, n), unit="s")
    return pd.DataFrame({"row": np.arange(n), "g": rng.integers(0, 150, n), "t": when, "y": rng.integers(0, 2, n)})


def sides(data: Dataset) -> list[set[int]]:
    """Rows on this side; as the passes do it: a hash of the row's or its group's identity, or its time."""
    found: set[int] = set()
    split = data.selection
    assert split is not None
    for leaf in data.scan.leaves:
        for chunk in read_leaf(leaf, data.schema):
            columns = clean(chunk, data.schema, data.clean)
            ids = columns.groups if split.by == "group" else columns.keys
            ids = row_ids(columns.path, columns.row_group, columns.offsets) if ids is None else ids
            mask = kept(split, uniforms(ids, split.seed, "split"), columns.seconds)
            found |= set(columns.numbers[mask, columns.schema.numbers.index("row")].astype(int))
    return [found]


@pytest.mark.parametrize("by", ["hash", "group", "time"])
def test_leaf_size_and_the_order_of_files_change_nothing(tmp_path: Path, by: str) -> None:
    f = frame()
    folder = write(tmp_path / "d", f[:900], f[900:1400], f[1400:], row_group_size=100)
    roles = {"target": "y", "group": "g"} if by == "group" else {"target": "y", "time": "t"}
    files = sorted(folder.iterdir())
    ways = [(folder, 1000), (folder, 1 << 20), (files[::-1], 5000)]
    found = []
    for where, leaf_bytes in ways:
        train, test = Dataset.from_parquet(where, leaf_bytes=leaf_bytes, **roles).split(test=0.25, by=by, seed=7)  # type: ignore[arg-type]
        found.append(sides(train) + sides(test))
    assert found[0] == found[1] == found[2]
    train_rows, test_rows = found[0]
    assert train_rows.isdisjoint(test_rows)
    assert len(train_rows | test_rows) == len(f)
    assert 0.1 < len(test_rows) / len(f) < 0.4
    if by == "group":
        assert set(f.g[sorted(train_rows)]).isdisjoint(f.g[sorted(test_rows)])
    if by == "time":
        assert f.t[sorted(train_rows)].max() < f.t[sorted(test_rows)].min()
        assert abs(len(test_rows) / len(f) - 0.25) < 0.01


def test_groups_stay_together_across_files_of_different_types(tmp_path: Path) -> None:
    f = frame(400)
    folder = write(tmp_path / "d", f[:200].astype({"g": "int32"}), f[200:].astype({"g": "float64"}))
    train, test = Dataset.from_parquet(folder, target="y", group="g").split(test=0.4, by="group")
    a, b = sides(train)[0], sides(test)[0]
    assert a
    assert b
    assert set(f.g[sorted(a)]).isdisjoint(f.g[sorted(b)])


def test_an_id_column_decides_whatever_the_files(tmp_path: Path) -> None:
    f = frame(600).assign(i=lambda d: d.row)
    one = write(tmp_path / "one", f)
    other = write(tmp_path / "other", f[300:], f[:300])
    results = [sides(Dataset.from_parquet(p, target="y", id="i").split(test=0.3)[1]) for p in (one, other)]
    assert results[0] == results[1]
    plain = [sides(Dataset.from_parquet(p, target="y").split(test=0.3)[1]) for p in (one, other)]
    assert plain[0] != plain[1]  # the control: without an id, a row is where it is stored
