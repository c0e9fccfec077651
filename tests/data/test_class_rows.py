"""Rows of a class: the same whether they are grouped, and then a slice, or spread over the chunk."""

from __future__ import annotations

import numpy as np
import pytest

from coretree.data.columns import class_rows, grouped, take_rows


@pytest.mark.parametrize("n_classes", [1, 3, 300])
def test_grouped_rows_keep_their_order_within_a_class(n_classes: int) -> None:
    codes = np.random.default_rng(n_classes).integers(0, n_classes, 2_000).astype(np.int32)
    order = grouped(codes)
    assert np.array_equal(order, np.argsort(codes, kind="stable"))
    block = np.asfortranarray(np.random.default_rng(0).normal(size=(2_000, 2)))
    spread, slices = class_rows(codes, n_classes), class_rows(codes[order], n_classes)
    assert all(isinstance(rows, slice) for rows in slices)
    assert n_classes == 1 or not any(isinstance(rows, slice) for rows in spread)
    for a, b in zip(spread, slices, strict=True):
        assert np.array_equal(take_rows(block, a), take_rows(take_rows(block, order), b))


def test_classes_without_rows_and_no_rows_at_all() -> None:
    assert [r.stop - r.start for r in class_rows(np.array([1, 1], np.int32), 4)] == [0, 2, 0, 0]
    assert [r.stop - r.start for r in class_rows(np.zeros(0, np.int32), 2)] == [0, 0]
    assert grouped(np.zeros(0, np.int32)).tolist() == []
