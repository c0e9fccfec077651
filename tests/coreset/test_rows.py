"""Row identity: stable across machines, independent between purposes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coretree.coreset.rows import concatenate, n_rows, row_ids, splitmix64, take, uniforms


def test_splitmix64_gives_the_published_sequence() -> None:
    # first outputs of the generator seeded with 0: its state advances by the golden gamma
    gamma = np.uint64(0x9E3779B97F4A7C15)
    states = np.array([0, 1, 2], np.uint64) * gamma
    assert [hex(v) for v in splitmix64(states)] == ["0xe220a8397b1dcdaf", "0x6e789e6aa1b965f4", "0x6c45d188009454f"]


def test_identity_is_pinned() -> None:
    # computed once with Python's own integers; a change here would silently change every stored sample
    ids = row_ids("year=2024/part-0.parquet", 3, [0, 1])
    assert ids.tolist() == [2204070683992774855, 10891939031685861210]
    assert uniforms(ids, 7, "robust").tolist() == [0.16700629907136438, 0.3066042709133842]


@given(st.text(max_size=20), st.integers(0, 1000), st.integers(1, 200))
@settings(max_examples=25, deadline=None)
def test_ids_depend_on_place_alone(path: str, group: int, n: int) -> None:
    ids = row_ids(path, group, np.arange(n))
    assert np.array_equal(ids, np.concatenate([row_ids(path, group, [i]) for i in range(n)]))
    assert len(np.unique(ids)) == n
    assert not np.isin(ids, row_ids(path + "x", group, np.arange(n))).any()
    assert not np.isin(ids, row_ids(path, group + 1, np.arange(n))).any()


def test_uniforms_are_uniform_and_purposes_independent() -> None:
    ids = row_ids("a", 0, np.arange(100_000))
    u, v, w = uniforms(ids, 0, "split"), uniforms(ids, 0, "pilot"), uniforms(ids, 1, "split")
    assert u.min() > 0
    assert u.max() < 1
    counts = np.bincount((u * 100).astype(int), minlength=100)
    chi2 = np.square(counts - 1000).sum() / 1000
    assert 45 < chi2 < 170  # 99 degrees of freedom: each side fails with probability below 1e-5
    assert abs(np.corrcoef(u, v)[0, 1]) < 0.016  # five standard deviations
    assert abs(np.corrcoef(u, w)[0, 1]) < 0.016


def test_seed_and_purpose_do_not_run_into_one_another() -> None:
    ids = row_ids("a", 0, np.arange(4))
    assert not np.array_equal(uniforms(ids, 1, "1x"), uniforms(ids, 11, "x"))
    assert np.array_equal(uniforms(ids, -3, "x"), uniforms(ids, -3, "x"))


def test_take_and_concatenate_are_inverse() -> None:
    rows = {"x": np.arange(6.0).reshape(3, 2), "name": np.array(["a", "b", None], object)}
    parts = [take(rows, np.array([i])) for i in range(3)]
    joined = concatenate(parts)
    assert list(joined) == ["x", "name"]
    assert np.array_equal(joined["x"], rows["x"])
    assert joined["name"].tolist() == ["a", "b", None]


def test_no_rows_keep_their_types() -> None:
    rows: dict[str, Any] = {"x": np.zeros((0, 2), np.float32), "k": np.zeros(0, np.int8)}
    joined = concatenate([rows, rows])
    assert {name: column.dtype for name, column in joined.items()} == {"x": np.float32, "k": np.int8}
    assert n_rows(joined) == 0


def test_errors_name_what_is_wrong() -> None:
    with pytest.raises(ValueError, match="'y' has 2, the first 3"):
        n_rows({"x": np.zeros(3), "y": np.zeros(2)})
    with pytest.raises(ValueError, match="part 1 has columns"):
        concatenate([{"x": np.zeros(1)}, {"y": np.zeros(1)}])
    with pytest.raises(ValueError, match="at least one"):
        concatenate([])
