"""Rows found by value are all such rows, though row groups whose statistics rule them out are not read."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

import coretree.run.find as find
from coretree import Dataset
from coretree.data.scan import Leaf
from coretree.errors import ConfigError
from coretree.run.tasks import Reading

N, GROUP = 60, 7
COLUMNS = {
    "number": [None if i % 9 == 4 else i for i in range(N)],
    "share": [np.nan if i % 11 == 3 else i / 4 for i in range(N)],
    "word": [f"{i // 3:02}" for i in range(N)],
}
VALUES = {
    "number": st.one_of(st.none(), st.integers(-5, N + 5)),
    "share": st.sampled_from([np.nan, -1.0, *(i / 4 for i in range(0, N, 5))]),
    "word": st.sampled_from([f"{i:02}" for i in range(25)]),
}


@pytest.fixture(scope="module")
def leaf(tmp_path_factory: pytest.TempPathFactory) -> tuple[Leaf, Reading]:
    path = tmp_path_factory.mktemp("find") / "rows.parquet"
    table = {name: pa.array(values, from_pandas=False) for name, values in COLUMNS.items()}
    pq.write_table(pa.table({**table, "x": np.arange(N) * 1.5}), path, row_group_size=GROUP)
    data = Dataset.from_parquet(path, drop=list(COLUMNS))
    assert len(data.scan.leaves) == 1
    return data.scan.leaves[0], Reading.of(data)


@given(
    where=st.fixed_dictionaries(
        {}, optional={k: st.lists(v, min_size=1, max_size=3) for k, v in VALUES.items()}
    ).filter(len)
)
def test_every_row_is_found(leaf: tuple[Leaf, Reading], where: dict[str, list[object]]) -> None:
    whole, reading = leaf
    found = find.ids_where(whole, reading, where, None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(find, "_promising", lambda leaf, where: leaf)
        assert found.tolist() == find.ids_where(whole, reading, where, None).tolist()

    def held(name: str, i: int) -> bool:
        value = COLUMNS[name][i]
        return any(w == value or (w is value is None) or (w != w and value != value) for w in where[name])  # type: ignore[comparison-overlap]

    assert len(found) == sum(all(held(name, i) for name in where) for i in range(N))


def test_only_row_groups_that_may_hold_them_are_read(leaf: tuple[Leaf, Reading]) -> None:
    whole, _ = leaf
    assert find._promising(whole, {"word": "00"}).row_groups == (0,)
    assert find._promising(whole, {"number": [0, 58], "word": ["19"]}).row_groups == (8,)
    assert find._promising(whole, {"share": [np.nan]}).row_groups == whole.row_groups
    part = replace(whole, row_groups=(3, 4, 5))
    assert find._promising(part, {"word": ["00", "08"]}).row_groups == (3,)


def test_a_column_or_a_value_that_cannot_be_is_an_error(leaf: tuple[Leaf, Reading]) -> None:
    whole, reading = leaf
    with pytest.raises(ConfigError, match="where names 'wrong', but there is no such column"):
        find.ids_where(whole, reading, {"wrong": 1}, None)
    with pytest.raises(ConfigError, match="column 'number' holds int64, which 'a' is not"):
        find.ids_where(whole, reading, {"number": "a"}, None)
