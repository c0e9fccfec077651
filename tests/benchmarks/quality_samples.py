"""What a coreset is compared with, drawn from all rows in memory: plain, class-balanced and leverage samples."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

import coretree as ct
from benchmarks.quality_bars import BALANCED, LEVERAGE, UNIFORM
from coretree.data.encode import clean_frame
from coretree.data.to_sklearn import to_sklearn

Index, Weights = np.ndarray, np.ndarray


def built(
    frame: pd.DataFrame, task: str, *, leaves: int = 16, target: str | None = "y", **options: Any
) -> ct.CoresetTree:
    """A tree of the frame cut into about so many leaves, in two threads."""
    size = int(frame.memory_usage(deep=True).sum()) // leaves
    data = ct.Dataset.from_pandas(frame, target=target, task=task, leaf_bytes=max(size, 1 << 14))
    return ct.CoresetTree(**options).build(data, client=ct.ThreadExecutor(2))


def prepared(tree: ct.CoresetTree, frame: pd.DataFrame) -> np.ndarray:
    """Raw rows as the tree's models see them, shape (n, d), without a constant."""
    recipe = tree.recipe_
    return np.asarray(to_sklearn(recipe.preparation).transform(clean_frame(frame, recipe.schema, recipe.clean)))


def uniform(X: np.ndarray, codes: np.ndarray, m: int, rng: np.random.Generator) -> tuple[Index, Weights]:
    """Rows without replacement, all alike."""
    return rng.choice(len(X), m, replace=False), np.ones(m)


def class_balanced(X: np.ndarray, codes: np.ndarray, m: int, rng: np.random.Generator) -> tuple[Index, Weights]:
    """As many rows of each class as there are, up to an even share; what is left goes to larger classes."""
    held = np.bincount(codes)
    low, high = 0, int(held.max())
    while low < high:  # the largest quota that fits
        middle = (low + high + 1) // 2
        low, high = (middle, high) if np.minimum(held, middle).sum() <= m else (low, middle - 1)
    rows = [rng.choice(np.flatnonzero(codes == c), min(k, low), replace=False) for c, k in enumerate(held) if k]
    index = np.concatenate(rows)
    return index, np.ones(len(index))


def by_leverage(X: np.ndarray, codes: np.ndarray, m: int, rng: np.random.Generator) -> tuple[Index, Weights]:
    """Rows in proportion to x'(X'X)^-1 x, without replacement; weights invert the chance of being drawn."""
    A = np.c_[np.ones(len(X)), X]
    values, vectors = np.linalg.eigh(A.T @ A)
    kept = values > 1e-10 * values[-1]
    scores = np.square(A @ (vectors[:, kept] / np.sqrt(values[kept]))).sum(1)
    keys = rng.random(len(A)) / scores
    index = np.argpartition(keys, m)[: m + 1] if m < len(A) else np.arange(len(A))
    index = index[np.argsort(keys[index])]
    if m >= len(A):
        return index, np.ones(len(A))
    threshold = keys[index[-1]]
    index = index[:-1]
    return index, np.maximum(1.0, 1.0 / (scores[index] * threshold))


SAMPLERS: dict[str, Callable[..., tuple[Index, Weights]]] = {
    UNIFORM: uniform,
    BALANCED: class_balanced,
    LEVERAGE: by_leverage,
}


def sampled(method: str, X: np.ndarray, codes: np.ndarray, m: int, seed: int) -> tuple[Index, Weights]:
    """Rows of a sampler, with weights that sum to the true number of rows in each class that was drawn."""
    index, w = SAMPLERS[method](X, codes, m, np.random.default_rng([seed, list(SAMPLERS).index(method)]))
    drawn = codes[index]
    held = np.bincount(drawn, w, minlength=codes.max() + 1)
    return index, w * (np.bincount(codes) / np.maximum(held, 1e-300))[drawn]
