"""Weighted rows as arrays: checked, selected, and rescaled so that each class has the mass that a fit should see."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]


def checked_weights(weights: Any, n_rows: int) -> FloatArray:
    """Weights as a float64 array of shape (n_rows,); ones for None.

    Raises
    ------
    ValueError
        If there is not one finite weight >= 0 a row, or all are 0.
    """
    if weights is None:
        return np.ones(n_rows)
    checked: FloatArray = np.asarray(weights, dtype=np.float64)
    if checked.shape != (n_rows,):
        raise ValueError(f"sample_weight must have shape ({n_rows},), found {checked.shape}")
    bad = np.flatnonzero(~((checked >= 0) & np.isfinite(checked)))
    if bad.size:
        raise ValueError(f"sample_weight must be finite and >= 0; row {bad[0]} has {checked[bad[0]]}")
    if n_rows and not checked.any():
        raise ValueError("every sample_weight is zero: there is nothing to fit")
    return checked


def class_weights(codes: npt.NDArray[np.intp], weights: FloatArray, n_classes: int) -> FloatArray:
    """Weights rescaled so that every class has mean 1: its mass is its number of rows, its shape is kept.

    Parameters
    ----------
    codes : (m,) int array in [0, n_classes)
    weights : (m,) float array, >= 0
    n_classes : int

    Returns
    -------
    (m,) float array; all ones where the weights are constant within each class, as in a class-balanced sketch.

    Examples
    --------
    >>> class_weights(np.array([0, 0, 1]), np.array([9.0, 9.0, 2.0]), 2)
    array([1., 1., 1.])
    """
    rows = np.bincount(codes, minlength=n_classes)
    mass = np.bincount(codes, weights=weights, minlength=n_classes)
    scale: FloatArray = np.divide(rows, mass, out=np.zeros(n_classes), where=mass > 0)
    return weights * scale[codes]


def root_class_weights(codes: npt.NDArray[np.intp], weights: FloatArray, n_classes: int) -> FloatArray:
    """Weights divided by the root of their class's sum, with mean 1: each class's mass is the root of its own.

    Between the data's class shares and balanced ones: rare classes are heard and frequent ones keep their detail. A
    sample of equal weights has dropped nothing and stays as it is.

    Parameters
    ----------
    codes : (m,) int array in [0, n_classes)
    weights : (m,) float array, >= 0, not all 0
    n_classes : int

    Returns
    -------
    (m,) float array

    Examples
    --------
    >>> v = root_class_weights(np.array([0, 0, 1]), np.array([50.0, 50.0, 4.0]), 2)
    >>> bool(np.isclose(v[:2].sum() / v[2], 5.0)), float(v.mean().round(9))  # the root of 100 / 4
    (True, 1.0)
    """
    if np.allclose(weights, weights[0], rtol=1e-9, atol=0.0):
        return np.ones(weights.size)
    mass = np.bincount(codes, weights=weights, minlength=n_classes)
    rooted: FloatArray = weights / np.sqrt(np.where(mass > 0, mass, 1.0))[codes]
    return rooted / rooted.mean()


def take_rows(X: Any, index: npt.NDArray[np.intp]) -> Any:
    """Rows of an array, sparse matrix or data frame, by position; a copy."""
    if hasattr(X, "iloc"):
        return X.iloc[index]
    return X[index] if hasattr(X, "shape") else np.asarray(X)[index]
