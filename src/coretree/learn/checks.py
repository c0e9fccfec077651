"""What rows must look like to be tallied, and the errors that say what was found instead."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Codes = npt.NDArray[np.integer[Any]]
FloatTable = npt.NDArray[np.floating[Any]]

ROUNDING = 1e-6
"""How far beyond [0, 1] a probability may lie, as single precision rounds; it is cut back."""


def checked_weights(weights: npt.ArrayLike | None, n_rows: int) -> npt.NDArray[np.float64] | None:
    """Return the rows' weights as float64 after checking them.

    Raises
    ------
    ValueError
        The shape is not (n_rows,), or a weight is negative, infinite or NaN.
    """
    if weights is None:
        return None
    checked = np.asarray(weights, dtype=np.float64)
    if checked.shape != (n_rows,):
        raise ValueError(f"weights must have shape ({n_rows},), one a row; found {checked.shape}.")
    if n_rows and not (checked.min() >= 0.0 and checked.max() < np.inf):
        bad = np.flatnonzero(~((checked >= 0.0) & (checked < np.inf)))
        raise ValueError(
            f"weights must be finite and not negative; found {len(bad):,} that are not, first {checked[bad[0]]} "
            f"in row {bad[0]}."
        )
    return checked


def finite_column(name: str, values: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Return one finite float64 value a row; ValueError for anything else."""
    column = np.asarray(values, dtype=np.float64)
    if column.ndim != 1:
        raise ValueError(f"{name} must have shape (n,), one value a row; found {column.shape}.")
    if not np.isfinite(column).all():
        bad = np.flatnonzero(~np.isfinite(column))
        raise ValueError(
            f"{name} must be finite; found {len(bad):,} values that are not, first {column[bad[0]]} in row {bad[0]}."
        )
    return column


def check_n_classes(n_classes: int) -> None:
    """Refuse fewer than two classes with a ValueError."""
    if n_classes < 2:
        raise ValueError(f"n_classes must be at least 2; found {n_classes}.")


def checked_codes(name: str, codes: npt.ArrayLike, n_classes: int) -> Codes:
    """Return class codes in [0, n_classes) as (n,) integers; ValueError for anything else."""
    checked = np.asarray(codes)
    if checked.ndim != 1 or (len(checked) and checked.dtype.kind not in "iu"):
        raise ValueError(f"{name} must be integers of shape (n,); found {checked.dtype} of shape {checked.shape}.")
    # small code types would overflow in y * K + predicted
    checked = checked.astype(np.intp)
    if len(checked) and not (checked.min() >= 0 and checked.max() < n_classes):
        bad = np.flatnonzero((checked < 0) | (checked >= n_classes))
        raise ValueError(
            f"{name} must lie in [0, {n_classes}); found {len(bad):,} that do not, first {checked[bad[0]]} in row "
            f"{bad[0]}. Drop rows whose class the model does not know, or count them as a class."
        )
    return checked


def checked_proba(proba: npt.ArrayLike, n_rows: int, n_classes: int) -> FloatTable:
    """Return probabilities as (n_rows, n_classes); ValueError unless in [0, 1] and rows sum to 1 within 1e-3."""
    checked = _as_float_table("proba", proba, (n_rows, n_classes))
    if not n_rows:
        return checked
    low, high = checked.min(), checked.max()
    if not (low >= -ROUNDING and high <= 1.0 + ROUNDING):
        bad = np.flatnonzero(~((checked >= -ROUNDING) & (checked <= 1.0 + ROUNDING)).all(axis=1))
        raise ValueError(
            f"proba must lie in [0, 1]; found {len(bad):,} rows that do not, first {checked[bad[0]]} in row {bad[0]}."
        )
    off = np.abs(checked.sum(axis=1, dtype=np.float64) - 1.0)
    if off.max() > 1e-3:
        raise ValueError(f"each row of proba must sum to 1; row {off.argmax()} is off by {off.max():.3g}.")
    return checked if low >= 0.0 and high <= 1.0 else np.clip(checked, 0.0, 1.0)


def checked_decision(decision: npt.ArrayLike | None, n_rows: int, n_classes: int) -> FloatTable | None:
    """Return decision values as (n_rows, n_classes), one column a class; ValueError unless finite and so shaped."""
    if decision is None:
        return None
    values = np.asarray(decision)
    if values.ndim == 1 and n_classes == 2:
        values = np.column_stack([-values, values])
    checked = _as_float_table("decision", values, (n_rows, n_classes))
    if not np.isfinite(checked).all():
        bad = np.flatnonzero(~np.isfinite(checked).all(axis=1))
        raise ValueError(f"decision must be finite; found {len(bad):,} rows that are not, first row {bad[0]}.")
    return checked


def _as_float_table(name: str, values: npt.ArrayLike, shape: tuple[int, int]) -> FloatTable:
    table = np.asarray(values)
    if table.shape != shape:
        raise ValueError(f"{name} must have shape {shape}, one column a class; found {table.shape}.")
    return table if table.dtype.kind == "f" else table.astype(np.float64)
