"""Shapley values by the package shap, with weighted rows as the background that absent features are drawn from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from coretree.errors import ConfigError
from coretree.learn.fit import resampled

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class ShapleyValues:
    """What each feature adds to each prediction.

    Attributes
    ----------
    values : DataFrame
        One row a row explained, one column a feature; a row's sum is its prediction less ``expected``.
    expected : float
        Weighted mean prediction of the background.
    n_background : int
        Background rows used.
    """

    values: pd.DataFrame
    expected: float
    n_background: int


def shapley_values(
    predict: Callable[[pd.DataFrame], npt.NDArray[Any]],
    rows: pd.DataFrame,
    background: pd.DataFrame,
    weights: FloatArray,
    *,
    n_background: int = 100,
    n_samples: int | str = "auto",
    seed: int = 0,
) -> ShapleyValues:
    """Kernel SHAP (Lundberg & Lee, 2017) with a weighted background.

    Parameters
    ----------
    predict : callable
        From rows to one number each.
    rows : DataFrame (n, d)
        To explain.
    background : DataFrame (m, d)
    weights : (m,) array >= 0
    n_background : int
        A larger background is drawn down to about so many rows, in proportion to weight; each feature subset of each
        row costs a prediction of all of them.
    n_samples : int or "auto"
        Feature subsets a row; all of them for few features.
    seed : int

    Raises
    ------
    ConfigError
        shap is not installed.
    """
    try:
        import shap
        from shap.utils._legacy import DenseData
    except ImportError as error:
        raise ConfigError(
            f'shap_values needs the package shap ({error}). Type: pip install "coretree[explain]"; '
            "ct.permutation_importance needs no package."
        ) from None
    kept = np.flatnonzero(weights > 0)
    if len(kept) > n_background:
        places = drawn_down(weights[kept], n_background, seed)
        drawn, counts = np.unique(kept[places], return_counts=True)
        kept, mass = drawn, counts.astype(np.float64)
    else:
        mass = weights[kept]
    background, rows = background.iloc[kept], rows[background.columns]
    code = Codebook(pd.concat([background, rows]))
    data = DenseData(code.numbers(background), list(map(str, background.columns)), None, mass)
    explainer = shap.KernelExplainer(lambda z: np.asarray(predict(code.frame(z)), dtype=np.float64), data, seed=seed)
    options = {"nsamples": n_samples, "l1_reg": f"num_features({rows.shape[1]})", "silent": True}
    found = np.asarray(explainer.shap_values(code.numbers(rows), **options))
    return ShapleyValues(
        pd.DataFrame(found, index=rows.index, columns=background.columns), float(explainer.expected_value), len(kept)
    )


def drawn_down(weights: FloatArray, n: int, seed: int) -> npt.NDArray[np.intp]:
    """About n positions in proportion to weight: every so many of as many draws as there are rows."""
    all_drawn = resampled(weights, seed)
    return all_drawn[np.linspace(0, len(all_drawn) - 1, n).round().astype(np.intp)]


class Codebook:
    """Mixed columns as numbers and back, since shap mixes rows as arrays: a category is its place among all."""

    def __init__(self, frame: pd.DataFrame) -> None:
        self.dtypes = frame.dtypes
        self.levels: dict[Any, pd.Index[Any]] = {}
        for name in frame.columns:
            if frame[name].dtype.kind not in "iufb":
                self.levels[name] = pd.Index(frame[name].dropna().unique())

    def numbers(self, frame: pd.DataFrame) -> FloatArray:
        """Rows as float64, a missing category as -1."""
        columns = [
            self.levels[name].get_indexer(pd.Index(frame[name]))
            if name in self.levels
            else frame[name].astype(np.float64)
            for name in frame.columns
        ]
        return np.column_stack([np.asarray(column, dtype=np.float64) for column in columns])

    def frame(self, numbers: FloatArray) -> pd.DataFrame:
        """Inverse of ``numbers``."""
        columns: dict[Any, Any] = {}
        for j, (name, dtype) in enumerate(self.dtypes.items()):
            if name in self.levels:
                codes = numbers[:, j].astype(np.intp)
                values = self.levels[name].take(np.maximum(codes, 0)) if len(self.levels[name]) else None
                empty = pd.Series([None] * len(codes), dtype=dtype)
                columns[name] = empty if values is None else pd.Series(values, dtype=dtype).mask(codes < 0)
            else:
                columns[name] = numbers[:, j].astype(dtype) if dtype.kind != "f" else numbers[:, j]
        return pd.DataFrame(columns)
