"""A grid of 24 settings times 5 folds on coresets, the build included, against GridSearchCV on all rows.

    python tests/benchmarks/grid_search.py --rows 1500000

makes a table of 20 columns (heavy tails, a product, two that are nearly the same) with a binary target, and searches
for the best penalty and class weights of a logistic regression, by log loss: once with `CoresetSearchCV`, which builds
its tree first, and once with `GridSearchCV` over all rows, on folds of the same kind. Prints one JSON object: whether
both found the same setting; how much less, as a share, the setting of ours scores on all rows than the best one;
processor seconds and wall seconds of both sides, and their ratios. Both sides run on one thread in one process, one
after the other.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, PredefinedSplit
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

import coretree as ct

N_COLUMNS = 20
GRID = {"model__C": np.logspace(-6, 1, 8).tolist(), "model__class_weight": [None, {0: 1.0, 1: 2.0}, {0: 1.0, 1: 4.0}]}


def table(rows: int, seed: int = 0) -> pd.DataFrame:
    """Rows with a target of 12 %, of which part cannot be learned."""
    rng = np.random.default_rng(seed)
    X = rng.standard_t(5, (rows, N_COLUMNS)).astype(np.float32)
    X[:, 1] = 0.9 * X[:, 0] + 0.3 * X[:, 1]
    z = X @ np.linspace(0.6, 0.0, N_COLUMNS) + 0.3 * X[:, 2] * X[:, 3] - 3.0
    frame = pd.DataFrame(X, columns=[f"x{j:02d}" for j in range(N_COLUMNS)])
    return frame.assign(y=(rng.logistic(size=rows) < z).astype(np.int8))


class Clock:
    """Processor and wall seconds of a ``with`` block."""

    def __enter__(self) -> Clock:
        self.started = time.process_time(), time.perf_counter()
        return self

    def __exit__(self, *_: object) -> None:
        self.cpu_s = time.process_time() - self.started[0]
        self.wall_s = time.perf_counter() - self.started[1]


def run(rows: int, *, size: int = 5_000, grid: Any = None, cv: int = 5, seed: int = 0) -> dict[str, Any]:
    """Both sides, one after the other; facts for a table."""
    grid, frame = GRID if grid is None else grid, table(rows, seed)
    model = Pipeline([("scale", StandardScaler()), ("model", LogisticRegression(max_iter=300))])
    data = ct.Dataset.from_pandas(frame, target="y")
    one = ct.ThreadExecutor(1)
    with threadpool_limits(1):
        with Clock() as ours:
            tree = ct.CoresetTree(size=size, seed=seed).build(data, client=one)
            with Clock() as search:
                found = ct.CoresetSearchCV(model, grid, tree=tree, cv=cv, scoring="neg_log_loss", client=one).fit()
        X, y = frame.drop(columns="y").to_numpy(np.float64), frame["y"].to_numpy()
        folds = PredefinedSplit(np.random.default_rng(seed).integers(0, cv, rows))
        with Clock() as theirs:
            full = GridSearchCV(model, grid, cv=folds, scoring="neg_log_loss", refit=True).fit(X, y)
    scores = full.cv_results_["mean_test_score"]
    assert full.cv_results_["params"] == found.cv_results_["params"]
    loss = float((scores.max() - scores[found.best_index_]) / abs(scores.max()))
    return {
        "rows": rows,
        "size": size,
        "settings": len(scores),
        "folds": cv,
        "same_best": bool(found.best_index_ == full.best_index_),
        "ours": found.best_params_,
        "theirs": full.best_params_,
        "relative_loss": loss,
        "largest_difference_of_scores": float(np.abs(scores - found.cv_results_["mean_test_score"]).max()),
        "cpu_s": [round(ours.cpu_s, 2), round(theirs.cpu_s, 2)],
        "search_cpu_s": round(search.cpu_s, 2),
        "wall_s": [round(ours.wall_s, 2), round(theirs.wall_s, 2)],
        "cpu_ratio": round(theirs.cpu_s / ours.cpu_s, 1),
        "wall_ratio": round(theirs.wall_s / ours.wall_s, 1),
        "cores": os.cpu_count(),
    }


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_500_000)
    parser.add_argument("--size", type=int, default=5_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="append the record to this file")
    a = parser.parse_args()
    record = run(a.rows, size=a.size, seed=a.seed)
    print(json.dumps(record, indent=2))
    if a.out is not None:
        with a.out.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")


if __name__ == "__main__":
    main()
