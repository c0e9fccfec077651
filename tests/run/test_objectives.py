"""Objectives, class budgets and passes, as a user meets them: who is kept, what it weighs, what it is worth."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from scipy.special import expit
from sklearn.base import clone
from sklearn.linear_model import (
    GammaRegressor,
    LinearRegression,
    LogisticRegression,
    PoissonRegressor,
    TweedieRegressor,
)
from sklearn.metrics import mean_tweedie_deviance
from sklearn.svm import LinearSVC
from sklearn.tree import DecisionTreeRegressor

from coretree import CoresetClassifier, CoresetRegressor, CoresetTree, Dataset, ThreadExecutor
from coretree.data import read
from coretree.errors import ConfigError, OutputExistsError, TargetError
from coretree.tree.store import stored_nodes
from generated import write_files

ONE, TWO = ThreadExecutor(1), ThreadExecutor(2)
Array = npt.NDArray[Any]
pytestmark = pytest.mark.filterwarnings("ignore::coretree.errors.CoretreeWarning")


def in_leaves(frame: pd.DataFrame, target: str, leaves: int, **options: Any) -> Dataset:
    row_bytes = 8 * frame.shape[1]
    return Dataset.from_pandas(frame, target=target, leaf_bytes=-(-len(frame) // leaves) * row_bytes, **options)


# ---- budgets of classes ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def three() -> pd.DataFrame:
    """Two frequent classes and one of about 2 %, sorted so that most leaves hold none of the last."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(4000, 3)), columns=["a", "b", "c"])
    frame["y"] = np.where(frame["b"] + rng.logistic(size=4000) > 0, "mid", "low")
    frame.loc[frame["a"] + rng.logistic(size=4000) > 4.5, "y"] = "rare"
    return frame.sort_values("y", kind="stable", ignore_index=True)


@pytest.mark.parametrize("passes", [1, 2])
def test_all_rows_of_a_class_stay_through_many_merges(three: pd.DataFrame, passes: int) -> None:
    counts = three["y"].value_counts()
    options: dict[str, Any] = {"objectives": ["auto", "residual"]} if passes == 2 else {}
    tree = CoresetTree(size=500, passes=passes, fan_in=2, class_rows={"rare": "all"}, **options)
    tree.build(in_leaves(three, "y", 16), client=TWO)
    assert len(tree.manifest_.nodes) > 20
    everyone = three[three["y"] == "rare"].sort_values("a")
    for objective in tree.recipe_.objectives:
        core = tree.coreset(objective=objective)
        rare = (core.y == "rare").to_numpy()
        assert len(core) == 500
        if objective == "uniform":  # stays a plain sample
            assert rare.sum() < 0.5 * len(everyone)
        else:
            kept = core.X[rare].sort_values("a")
            assert np.array_equal(kept[["a", "b", "c"]].to_numpy(), everyone[["a", "b", "c"]].to_numpy()), objective
        for label, n in counts.items():
            assert core.sample_weight[(core.y == label).to_numpy()].sum() == pytest.approx(n, rel=1e-6), objective
    for objective in ("robust", "balanced"):  # smaller coresets keep them too
        assert (tree.coreset(200, objective=objective).y == "rare").sum() == len(everyone)


def test_a_budget_is_kept_to_the_row_and_priors_stay_true(three: pd.DataFrame) -> None:
    tree = CoresetTree(size=400, class_rows={"rare": 7, "mid": 300}, objectives=["auto", "residual"])
    tree.build(in_leaves(three, "y", 8), client=TWO)
    counts = three["y"].value_counts()
    for objective in ("robust", "balanced", "residual"):
        core = tree.coreset(objective=objective)
        held = core.y.value_counts()
        assert (held["rare"], held["mid"], held["low"]) == (7, 300, 93), objective
        sums = pd.Series(core.sample_weight).groupby(core.y.to_numpy()).sum()
        assert sums[counts.index].to_numpy() == pytest.approx(counts.to_numpy(), rel=1e-6), objective


def test_all_of_a_class_are_the_same_rows_on_one_thread(three: pd.DataFrame) -> None:
    found = []
    for executor in (ONE, TWO):
        tree = CoresetTree(size=400, class_rows={"rare": "all"}).build(in_leaves(three, "y", 5), client=executor)
        core = tree.coreset()
        found.append((tree.name_, core.ids.tobytes(), core.sample_weight.tobytes()))
    assert found[0] == found[1]


@pytest.mark.parametrize("passes", [1, 2])
@pytest.mark.parametrize(
    ("budget", "words"),
    [
        ({"low": "all"}, r"budgets need 1,\d{3} rows, but the coreset may have 300. Type size=1\d{3} or more"),
        ({"mid": 200, "low": 200}, "budgets need 400 rows, but the coreset may have 300"),
        ({"nobody": 10}, r"class_rows names 'nobody', but the classes are \['low', 'mid', 'rare'\]"),
        ({"rare": -1}, "budget of class 'rare' must be a number of rows or 'all'; found -1"),
        ({"rare": "some"}, "found 'some'"),
        ({"rare": 0}, "keeps no row of 'rare'"),
    ],
)
def test_budgets_that_cannot_be_are_refused_after_one_pass(
    three: pd.DataFrame, tmp_path: Path, budget: Any, words: str, passes: int
) -> None:
    stages: list[str] = []
    data = in_leaves(three, "y", 3)
    tree = CoresetTree(tmp_path / "t", size=300, passes=passes, class_rows=budget)
    with pytest.raises(ConfigError, match=words):
        tree.build(data, client=ONE, progress=lambda stage, done, total: stages.append(stage))
    assert set(stages) == {"profile"}
    assert not tree.is_built


@pytest.mark.parametrize("passes", [1, 2])
def test_the_folder_of_a_refused_build_takes_one_that_fits(three: pd.DataFrame, tmp_path: Path, passes: int) -> None:
    data = in_leaves(three, "y", 3)
    refused = CoresetTree(tmp_path / "t", size=300, passes=passes, class_rows={"low": "all"})
    with pytest.raises(ConfigError, match="budgets need"):
        refused.build(data, client=ONE)
    left = stored_nodes(refused.store)
    mended = CoresetTree(tmp_path / "t", size=300, passes=passes, class_rows={"rare": 5}).build(data, client=ONE)
    fresh = CoresetTree(size=300, passes=passes, class_rows={"rare": 5}).build(data, client=ONE)
    assert mended.name_ == fresh.name_
    assert set(mended.manifest_.nodes) == set(fresh.manifest_.nodes)
    assert not left & set(mended.manifest_.nodes)


def test_budgets_are_for_classes(three: pd.DataFrame) -> None:
    with pytest.raises(ConfigError, match="class_rows is for a target with classes"):
        CoresetTree(size=300, class_rows={1: "all"}).build(in_leaves(three[["a", "b"]], "b", 2), client=ONE)
    for label, y in ((np.int64(1), (three["y"] == "rare").astype(int)), (True, three["y"] == "rare")):
        tree = CoresetTree(size=300, class_rows={label: "all"}).build(in_leaves(three.assign(y=y), "y", 2), client=ONE)
        assert tree.coreset().y.sum() == y.sum()


# ---- objectives by name ----------------------------------------------------------------------------------------


def heavy(n: int, seed: int = 0) -> tuple[pd.DataFrame, Array, np.random.Generator]:
    """Features with heavy tails, and a linear score of them."""
    rng = np.random.default_rng(seed)
    X = pd.DataFrame(rng.standard_t(3, (n, 6)), columns=[f"x{j}" for j in range(6)])
    return X, np.clip(0.4 * (X / X.std()).to_numpy() @ np.linspace(-1, 1, 6), -3, 3), rng


def drawn(name: str, z: Array, rng: np.random.Generator) -> Array:
    if name == "poisson":
        return rng.poisson(np.exp(z - 1)).astype(float)
    if name == "gamma":
        return rng.gamma(2, np.exp(z) / 2) + 1e-6
    if name == "tweedie:1.5":
        return rng.gamma(np.maximum(rng.poisson(np.exp(z)), 1e-9), 1.0).round(6)
    return (4 * z + rng.logistic(size=len(z)) > 3).astype(int)


GLM = {"alpha": 1e-4, "max_iter": 1000, "tol": 1e-8}
OWN: dict[str, tuple[Any, float]] = {  # estimator, and the largest excess over the full fit
    "poisson": (PoissonRegressor(**GLM), 1e-5),
    "gamma": (GammaRegressor(**GLM), 1e-5),
    "tweedie:1.5": (TweedieRegressor(power=1.5, link="log", **GLM), 1e-4),
    "squared_hinge": (LinearSVC(loss="squared_hinge", dual=False, tol=1e-8), 1e-4),
    "hinge": (LinearSVC(loss="hinge", C=0.01, tol=1e-6, max_iter=200_000, random_state=0), 5e-3),
}


def own_loss(name: str, model: Any, Z: Array, y: Array) -> float:
    """The objective that the estimator minimises, on all rows."""
    if not name.endswith("hinge"):
        power = {"poisson": 1, "gamma": 2}.get(name, 1.5)
        deviance = mean_tweedie_deviance(y, model.predict(Z), power=power)
        return float(deviance / 2 + model.alpha / 2 * np.square(model.coef_).sum())
    h = np.maximum(1 - (2 * y - 1) * model.decision_function(Z), 0)
    penalty = np.square(model.coef_).sum() + np.square(model.intercept_).sum()
    return float(model.C * np.sum(h**2 if name == "squared_hinge" else h) + 0.5 * penalty)


@pytest.mark.parametrize("name", OWN)
def test_an_objective_of_its_own_beats_uniform_rows_on_its_own_loss(name: str) -> None:
    X, z, rng = heavy(15_000)
    y, (estimator, bar) = drawn(name, z, rng), OWN[name]
    task = "classification" if name.endswith("hinge") else "regression"
    tree = CoresetTree(size=800, objectives=["auto", name])
    tree.build(Dataset.from_pandas(X.assign(y=y), target="y", task=task, leaf_bytes=1 << 18), client=TWO)
    kind = CoresetClassifier if task == "classification" else CoresetRegressor
    ours = kind(estimator, tree=tree, client=ONE).fit()
    assert ours.coreset_.objective == name  # found without being asked for
    Z = ours.estimator_[:-1].transform(X)
    least = own_loss(name, clone(estimator).fit(Z, y), Z, y)
    plain = kind(estimator, tree=tree, objective="uniform", client=ONE).fit()
    excess, uniform = (own_loss(name, m.estimator_[-1], Z, y) / least - 1 for m in (ours, plain))
    assert excess < bar
    assert uniform > (4 if name == "hinge" else 50) * max(excess, 1e-7)


def test_a_model_of_a_named_loss_brings_its_objective_along() -> None:
    X, z, rng = heavy(1500)
    model = CoresetRegressor(PoissonRegressor(), size=300, client=ONE).fit(X, drawn("poisson", z, rng))
    assert model.coreset_.objective == "poisson"
    asked = CoresetClassifier(size=300, objective="residual", client=ONE).fit(X, drawn("hinge", z, rng))
    assert asked.coreset_.objective == "residual"  # the tree that is made for it carries it
    with pytest.raises(TargetError, match="must be not negative for the objective 'poisson'"):
        CoresetTree(size=300, objectives="poisson").build(in_leaves(X.assign(y=z), "y", 2), client=ONE)
    with pytest.raises(ConfigError, match="no objective is named 'sharp'"):
        CoresetTree(size=300, objectives="sharp").build(in_leaves(X.assign(y=z), "y", 2), client=ONE)


def test_residual_rows_feed_regression_trees_from_a_tenth_of_the_rows_on() -> None:
    def steps(n: int, rng: np.random.Generator) -> tuple[pd.DataFrame, Array]:
        X = pd.DataFrame(rng.uniform(size=(n, 4)), columns=list("abcd"))
        return X, np.where(X["a"] > 0.97, 50 * X["b"], np.sin(6 * X["c"]) + 0.1 * rng.normal(size=n))

    rng = np.random.default_rng(1)
    (X, y), (unseen, truth) = steps(12_000, rng), steps(12_000, rng)
    data = in_leaves(X.assign(y=y), "y", 4)
    estimator = DecisionTreeRegressor(min_samples_leaf=5, random_state=0)
    errors: dict[str, list[float]] = {"auto": [], "uniform": []}
    for seed in range(2):
        tree = CoresetTree(size=2000, seed=seed).build(data, client=TWO)
        for objective, found in errors.items():
            model = CoresetRegressor(estimator, tree=tree, objective=objective, client=ONE).fit()
            found.append(float(np.mean((model.predict(unseen) - truth) ** 2)))
            assert model.coreset_.objective == ("residual" if objective == "auto" else "uniform")
    assert max(errors["auto"]) < min(errors["uniform"])
    small = CoresetTree(size=1100).build(data, client=TWO)
    assert "residual" not in small.recipe_.objectives
    assert CoresetRegressor(estimator, tree=small, client=ONE).fit().coreset_.objective == "pooled"


# ---- passes ----------------------------------------------------------------------------------------------------


def test_each_pass_reads_every_byte_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    X, z, rng = heavy(4000)
    folder = write_files(tmp_path / "d", X.assign(y=rng.random(4000) < expit(z)), files=3)
    opened: Counter[str] = Counter()
    groups: Counter[tuple[str, int]] = Counter()
    open_file, tables = read._open, read._tables

    def counted_open(full: str, schema: Any) -> Any:
        opened[full] += 1
        file = open_file(full, schema)
        file.place = full
        return file

    def counted_tables(file: Any, group: int, *rest: Any) -> Any:
        groups[file.place, group] += 1
        return tables(file, group, *rest)

    monkeypatch.setattr(read, "_open", counted_open)
    monkeypatch.setattr(read, "_tables", counted_tables)
    for passes in (1, 2, 3):
        opened.clear()
        groups.clear()
        data = Dataset.from_parquet(folder, target="y")
        CoresetTree(size=300, passes=passes).build(data, client=ONE)
        assert len(opened) == 3
        assert len(groups) == 9
        assert set(opened.values()) == set(groups.values()) == {passes}


def test_one_pass_beats_uniform_rows_on_heavy_tails() -> None:
    ours, uniform = [], []
    for seed in range(3):
        X, z, rng = heavy(20_000, seed)
        y = (rng.random(20_000) < expit(3 * z - 4)).astype(int)
        tree = CoresetTree(size=600, passes=1, seed=seed).build(in_leaves(X.assign(y=y), "y", 6), client=TWO)
        estimator = LogisticRegression(solver="newton-cholesky", tol=1e-10)
        models = {
            o: CoresetClassifier(estimator, tree=tree, objective=o, client=ONE).fit() for o in ("auto", "uniform")
        }
        assert models["auto"].coreset_.objective == "robust"
        Z = models["auto"].estimator_[:-1].transform(X)

        def loss(model: Any, Z: Array = Z, y: Array = y) -> float:
            z = model.decision_function(Z)
            return float((np.logaddexp(0, z) - y * z).sum() + 0.5 * np.square(model.coef_).sum())

        least = loss(clone(estimator).fit(Z, y))
        ours.append(loss(models["auto"].estimator_[-1]) / least - 1)
        uniform.append(loss(models["uniform"].estimator_[-1]) / least - 1)
    assert np.median(ours) < 0.03
    assert np.median(uniform) > 3 * np.median(ours)


def test_one_pass_needs_a_target(tmp_path: Path) -> None:
    X, _, _ = heavy(300)
    with pytest.raises(ConfigError, match="passes=1 is for data with a target"):
        CoresetTree(tmp_path / "t", size=100, passes=1).build(Dataset.from_pandas(X), client=ONE)
    with pytest.raises(ConfigError, match="passes=1 carries the robust"):
        CoresetTree(size=100, passes=1, objectives="hinge")
    one = CoresetTree(tmp_path / "t", size=100, passes=1).build(in_leaves(X, "x5", 2), client=ONE)
    with pytest.raises(OutputExistsError):
        CoresetTree(tmp_path / "t", size=100).build(in_leaves(X, "x5", 2), client=ONE)
    assert len(one.coreset()) == 100


# ---- odd leaves ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def odd() -> pd.DataFrame:
    """A class that some leaves miss, one of a single row, a leaf of zero weights, and one whose rows all drop out."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(2000, 3)), columns=["a", "b", "c"])
    frame["y"] = np.where(frame["a"] + rng.logistic(size=2000) > 0, "p", "q")
    frame["w"] = rng.integers(0, 3, 2000).astype(float)
    frame.loc[:499, "y"], frame.loc[1000:1249, "w"], frame.loc[1250:1499, "y"] = "q", 0.0, None
    frame.loc[777, ["y", "w"]] = ["once", 1.0]
    return frame


@pytest.mark.parametrize(
    ("passes", "weight"),
    [(1, None), (1, "w"), (2, "w"), (3, "w"), *(pytest.param(p, None, marks=pytest.mark.slow) for p in (2, 3))],
)
def test_odd_leaves_do_no_harm(odd: pd.DataFrame, passes: int, weight: str | None) -> None:
    frame = odd if weight else odd.drop(columns="w")
    options: dict[str, Any] = {"objectives": ["auto", "residual"], "exact": True, "cells": 40} if passes > 1 else {}
    tree = CoresetTree(size=400, passes=passes, **options).build(in_leaves(frame, "y", 8, weight=weight), client=TWO)
    live = odd.dropna(subset="y")
    want = live.groupby("y")["w"].sum() if weight else live["y"].value_counts()
    for objective in tree.recipe_.objectives:
        core = tree.coreset(objective=objective)
        w = core.sample_weight
        assert np.isfinite(w).all()
        assert (w > 0).all()
        assert core.class_counts == pytest.approx(want.to_dict())
        assert w.sum() == pytest.approx(want.sum(), rel=1e-9)
        if objective != "uniform":  # which may miss the one row
            sums = pd.Series(w).groupby(core.y.to_numpy()).sum()
            assert sums[want.index].to_numpy() == pytest.approx(want.to_numpy(), rel=1e-6), objective
        if weight:  # no row of weight zero is ever drawn
            zero = set(odd.loc[odd["w"] == 0, "a"])
            assert not zero & set(core.X["a"])
    assert CoresetClassifier(tree=tree, client=ONE).fit().predict_proba(odd).shape == (2000, 3)


# ---- exact factors ---------------------------------------------------------------------------------------------


def test_factors_fit_ill_conditioned_columns_where_moments_lose_them() -> None:
    rng = np.random.default_rng(0)
    X = pd.DataFrame(rng.normal(size=(4000, 4)), columns=list("abcd"))
    X["e"] = X["a"] + 1e-9 * rng.normal(size=4000)  # condition number about 1e9: its square is beyond float64
    truth = 1e9 * (X["e"] - X["a"]) + X["b"]
    y = truth + 3 * rng.normal(size=4000)
    errors = {}
    for exact in (True, "qr"):
        tree = CoresetTree(size=100, exact=exact).build(in_leaves(X.assign(y=y), "y", 6), client=TWO)  # type: ignore[arg-type]
        model = CoresetRegressor(LinearRegression(), tree=tree, client=ONE).fit()
        assert model.exact_
        errors[exact] = float(np.sqrt(np.mean((model.predict(X) - truth) ** 2)))
    assert errors["qr"] < 0.2
    assert errors[True] > 5 * errors["qr"]


@pytest.mark.parametrize(("rows", "there"), [((990, 10), True), ((10, 990), True), ((700, 300), False)])
def test_a_rare_class_brings_a_residual_sketch(rows: tuple[int, int], there: bool) -> None:
    found = {p: CoresetTree(size=500, passes=p).settings.names_of_objectives("classification", rows) for p in (1, 2)}
    assert ("residual" in found[2]) == there
    assert "residual" not in found[1]
