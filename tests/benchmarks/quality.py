"""How much worse is a model fitted on m rows than the one fitted on all rows?

    python tests/benchmarks/quality.py --seeds 10 --out quality

For each data set a tree is built per seed; logistic regression (C=1) is fitted on nested coresets, on uniform rows, on
class-balanced rows and on leverage-sampled rows of the same number. The *excess* of a fit is
(F(fit) - F(full)) / F(full), F the regularised objective over all rows, in the tree's own prepared columns. Prints a
Markdown table and writes it beside the results as JSON. Real data is used where the folder given by ``--data`` has it.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import warnings
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.special import expit, logsumexp
from sklearn.linear_model import LogisticRegression

import coretree as ct
from coretree.coreset.calibrate import counts_only
from coretree.coreset.pilot import pilot_scores
from coretree.coreset.priority import sketch
from coretree.coreset.rows import row_ids, uniforms
from coretree.data.encode import clean_frame
from coretree.data.to_sklearn import to_sklearn

METHODS = ("robust", "uniform", "class-balanced", "leverage")
Frame = Callable[[int], pd.DataFrame]


def gauss(n: int) -> pd.DataFrame:
    """Correlated normal features, a true logistic model."""
    rng, d = np.random.default_rng(1), 20
    A = rng.standard_normal((d, d)) / np.sqrt(d)
    L = np.linalg.cholesky(A @ A.T + 0.3 * np.eye(d))
    b = rng.standard_normal(d)
    X = rng.standard_normal((n, d)) @ L.T
    return table(X, rng.random(n) < expit(1.7 * X @ b / np.sqrt(b @ L @ L.T @ b)))


def heavy(rate: float) -> Frame:
    """Student t features over two decades of scale, rare positives, a link that the model does not have."""

    def make(n: int) -> pd.DataFrame:
        rng, d = np.random.default_rng(2), 20
        Z = rng.standard_normal((n, d)) / np.sqrt(rng.chisquare(2.5, (n, 1)) / 2.5)
        Z[:, d // 2 :] = rng.standard_t(2.5, (n, d - d // 2))
        b = rng.standard_normal(d)
        z = (2.4 * np.tanh(Z / 2) + 0.3 * Z) @ (1.2 * b / np.linalg.norm(b))
        return table(Z * 10 ** rng.uniform(-1, 1, d), rng.random(n) < expit(z + intercept(z, rate)))

    return make


def one_hot(n: int) -> pd.DataFrame:
    """Four text columns of 40 skewed levels and six numbers, 6 % positives."""
    rng = np.random.default_rng(3)
    frame = pd.DataFrame(rng.standard_normal((n, 6)), columns=[f"x{j}" for j in range(6)])
    z = frame.to_numpy() @ rng.standard_normal(6) * 0.5
    for j in range(4):
        share = 1 / np.arange(1, 41)
        codes = rng.choice(40, n, p=share / share.sum())
        frame[f"k{j}"] = np.array([f"level {c:02d}" for c in range(40)], dtype=object)[codes]
        z += rng.standard_normal(40)[codes] * 0.7
    return frame.assign(y=(rng.random(n) < expit(z + intercept(z, 0.06))).astype(int))


def ten_classes(n: int) -> pd.DataFrame:
    """A softmax model with shares from 30 % to 0.2 %."""
    rng, d = np.random.default_rng(4), 20
    Z = rng.standard_normal((n, d))
    Z[:, :3] /= np.sqrt(rng.chisquare(3, (n, 1)) / 3)
    shares = np.array([0.30, 0.22, 0.16, 0.11, 0.08, 0.06, 0.04, 0.02, 0.008, 0.002])
    logits = Z @ (rng.standard_normal((d, 10)) * (np.arange(d) < 12)[:, None] * 0.7) + np.log(shares)
    return table(Z, (logits + rng.gumbel(size=logits.shape)).argmax(1))


def table(X: np.ndarray, y: np.ndarray) -> pd.DataFrame:
    """Columns x0, x1, ... and y."""
    return pd.DataFrame(X, columns=[f"x{j}" for j in range(X.shape[1])]).assign(y=np.asarray(y).astype(int))


def intercept(z: np.ndarray, rate: float) -> float:
    """Intercept that gives this share of positives."""
    low, high = -60.0, 60.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if expit(z + middle).mean() > rate else (middle, high)
    return low


def real(folder: Path | None) -> Iterator[tuple[str, Frame, dict[str, str]]]:
    """Real data where it is to be had."""
    for name, target in (("letter", "target"), ("covtype_20k", "cover_type"), ("adult", "income")):
        path = None if folder is None else folder / f"{name}.parquet"
        if path is not None and path.exists():
            yield name, lambda n, path=path: pd.read_parquet(path), {"target": target}


def design_of(tree: ct.CoresetTree, frame: pd.DataFrame) -> np.ndarray:
    """Prepared columns of raw rows."""
    recipe = tree.recipe_
    return to_sklearn(recipe.preparation).transform(clean_frame(frame, recipe.schema, recipe.clean))


def fit(X: np.ndarray, y: np.ndarray, w: np.ndarray) -> np.ndarray:
    """Coefficients (K or 1, d + 1), the intercept first."""
    solver = "newton-cholesky" if X.shape[1] * (len(np.unique(y)) if len(np.unique(y)) > 2 else 1) < 700 else "lbfgs"
    model = LogisticRegression(C=1.0, solver=solver, tol=1e-9, max_iter=3000)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(X, y, sample_weight=w)
    return np.c_[model.intercept_, model.coef_]


def objective(X: np.ndarray, codes: np.ndarray, theta: np.ndarray) -> float:
    """Regularised loss over all rows, in float64."""
    z = theta[:, 0] + X @ theta[:, 1:].T
    if z.shape[1] == 1:
        loss = np.logaddexp(0, z[:, 0]) - codes * z[:, 0]
    else:
        loss = logsumexp(z, axis=1) - z[np.arange(len(z)), codes]
    return float(loss.sum() + 0.5 * np.square(theta[:, 1:]).sum())


def leverage_sample(X: np.ndarray, y: np.ndarray, codes: np.ndarray, m: int, seed: int, totals: object) -> tuple:
    """Rows in proportion to leverage within their class, weights rescaled to the class counts."""
    A = np.asfortranarray(np.c_[np.ones(len(X)), X])
    scores = pilot_scores(A, codes, int(codes.max()) + 1)
    ids = row_ids("leverage", 0, np.arange(len(X)))
    sample = sketch(ids, scores, {"i": np.arange(len(X))}, m, uniforms=uniforms(ids, seed, "leverage")).finalise()
    rows = sample.rows["i"]
    done = counts_only(sample.weights, sample.base, codes[rows].astype(float), totals)
    return X[rows], y[rows], done.weights


def measure(name: str, make: Frame, options: dict[str, str], n: int, sizes: list[int], seeds: int) -> list[dict]:
    """Excess of every method, size and seed on one data set."""
    frame = make(n)
    target = options.get("target", "y")
    data = ct.Dataset.from_pandas(frame, target=target, task="classification", leaf_bytes=2 << 20)
    y = frame[target].to_numpy()
    out: list[dict] = []
    X, best = np.zeros((0, 0)), np.nan
    for seed in range(seeds):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ct.CoresetTree(size=max(sizes), seed=seed).build(data, client=ct.ThreadExecutor())
            labels = tree.recipe_.labels
            codes = np.searchsorted(labels, y)
            if seed == 0:  # the preparation does not depend on the seed
                X = design_of(tree, frame)
                best = objective(X, codes, fit(X, y, np.ones(len(y))))
            for m in sizes:
                for method in METHODS:
                    if method == "leverage":
                        Xs, ys, w = leverage_sample(X, y, codes, m, seed, tree.root_.plain_totals)
                        expected = None
                    else:
                        core = tree.coreset(m, objective="balanced" if method == "class-balanced" else method)
                        Xs = to_sklearn(tree.recipe_.preparation).transform(core.X)
                        ys, w = core.y.to_numpy(), core.sample_weight
                        expected = core.report.expected_excess if method == "robust" else None
                    missed = len(np.unique(ys)) < len(labels)  # a class that no sampled row has: infinitely wrong
                    excess = np.inf if missed else (objective(X, codes, fit(Xs, ys, w)) - best) / best
                    out.append({"data": name, "d": X.shape[1], "n": len(X), "m": m, "method": method, "seed": seed,
                                "excess": max(float(excess), 1e-16), "expected": expected})  # fmt: skip
    return out


def summary(results: list[dict]) -> pd.DataFrame:
    """Median and 90 % quantile over seeds, one row a data set and size, one column a method."""
    frame = pd.DataFrame(results)
    keys = ["data", "n", "d", "m"]
    grouped = frame.groupby([*keys, "method"], sort=False)["excess"].quantile([0.5, 0.9]).unstack()
    text = grouped.map(lambda v: f"{v:.1e}").agg(" / ".join, axis=1).unstack("method")[list(METHODS)]
    median = grouped[0.5].unstack("method")
    text["gain over uniform"] = (median["uniform"] / median["robust"]).map(lambda v: f"{v:,.0f} x")
    return text.reset_index()


def run(sizes: list[int], seeds: int, n: int, data: Path | None, only: list[str] | None = None) -> list[dict]:
    """All data sets."""
    made: list[tuple[str, Frame, dict[str, str]]] = [
        ("gauss", gauss, {}),
        ("heavy tails, 1 %", heavy(0.01), {}),
        ("heavy tails, 0.1 %", heavy(0.001), {}),
        ("one-hot, 6 %", one_hot, {}),
        ("ten classes", ten_classes, {}),
        *real(data),
    ]
    results = []
    for name, make, options in made:
        if only is None or name in only:
            results += measure(name, make, options, n, sizes, seeds)
    return results


def markdown(frame: pd.DataFrame) -> str:
    """A table for the README."""
    head = "| " + " | ".join(frame.columns) + " |"
    rule = "|" + "---|" * len(frame.columns)
    return "\n".join([head, rule, *("| " + " | ".join(map(str, row)) + " |" for row in frame.itertuples(index=False))])


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--sizes", type=int, nargs="+", default=[2000, 10_000])
    parser.add_argument("--data", type=Path, help="folder with letter.parquet, covtype_20k.parquet, ...")
    parser.add_argument("--only", nargs="+")
    parser.add_argument("--out", type=Path, help="write OUT.md and OUT.json")
    a = parser.parse_args()
    results = run(a.sizes, a.seeds, a.rows, a.data, a.only)
    frame = summary(results)
    machine = f"{date.today()}, {platform.machine()}, {os.cpu_count()} cores"
    facts = f"{machine}, {a.seeds} seeds; median / 90 % quantile of the excess"
    text = f"{facts}\n\n{markdown(frame)}\n"
    print(text)
    if a.out is not None:
        a.out.with_suffix(".md").write_text(text)
        a.out.with_suffix(".json").write_text(json.dumps({"facts": facts, "results": results}))


if __name__ == "__main__":
    main()
