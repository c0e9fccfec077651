"""Rows that cannot be tallied are refused, with what was found."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from coretree.learn.checks import (
    check_n_classes,
    checked_codes,
    checked_decision,
    checked_proba,
    checked_weights,
    finite_column,
)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([1.0, 2.0], r"shape \(3,\), one a row; found \(2,\)"),
        ([1.0, -2.0, -1.0], "found 2 that are not, first -2.0 in row 1"),
        ([1.0, 2.0, np.nan], "found 1 that are not, first nan in row 2"),
        ([np.inf, 2.0, 1.0], "first inf in row 0"),
    ],
)
def test_weights(weights: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        checked_weights(weights, 3)


@pytest.mark.parametrize(
    ("codes", "message"),
    [
        ([0, 3, -1], r"lie in \[0, 3\); found 2 that do not, first 3 in row 1"),
        ([0.0, 1.0], "integers"),
        ([[0, 1]], "found int64 of shape"),
    ],
)
def test_codes(codes: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        checked_codes("y_codes", codes, 3)


@pytest.mark.parametrize(
    ("proba", "message"),
    [
        ([[0.5, 0.5]], r"shape \(2, 2\), one column a class; found \(1, 2\)"),
        ([[0.5, 0.5], [-0.1, 1.1]], r"lie in \[0, 1\]; found 1 rows"),
        ([[np.nan, 0.5], [0.5, 0.5]], r"lie in \[0, 1\]; found 1 rows that do not, first \[nan"),
        ([[0.5, 0.5], [0.5, 0.6]], "sum to 1; row 1 is off by 0.1"),
    ],
)
def test_proba(proba: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        checked_proba(proba, 2, 2)


def test_rounding_beyond_one_is_cut_and_the_input_left_alone() -> None:
    proba = np.array([[1.0 + 1e-7, 0.0], [0.5, 0.5]], dtype=np.float32)
    before = proba.copy()
    found = checked_proba(proba, 2, 2)
    assert found.max() == 1.0
    assert np.array_equal(proba, before)
    assert proba.max() > 1.0


def test_decision_columns_and_classes() -> None:
    found = checked_decision([1.0, -2.0], 2, 2)
    assert found is not None
    assert found[:, 1].tolist() == [1.0, -2.0]
    assert checked_decision(None, 2, 2) is None
    with pytest.raises(ValueError, match="one column a class"):
        checked_decision([1.0, 2.0], 2, 3)
    with pytest.raises(ValueError, match="finite; found 1 rows that are not, first row 1"):
        checked_decision([1.0, np.inf], 2, 2)
    with pytest.raises(ValueError, match="at least 2; found 1"):
        check_n_classes(1)


def test_columns() -> None:
    assert finite_column("y", [1, 2]).dtype == np.float64
    with pytest.raises(ValueError, match=r"y must have shape \(n,\)"):
        finite_column("y", [[1.0]])
    with pytest.raises(ValueError, match="found 2 values that are not, first inf in row 0"):
        finite_column("y", [np.inf, np.nan])
