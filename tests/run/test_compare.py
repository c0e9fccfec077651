"""The honest leaderboard: right where the coreset's own table is wrong, on rows outside every fit."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.dummy import DummyRegressor
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from coretree import CoresetClassifier, CoresetTree, Dataset, ThreadExecutor, compare, local_cluster
from coretree.coreset.rows import uniforms
from coretree.errors import ConfigError
from coretree.learn.scoring import RANKINGS
from coretree.run.estimators import CoresetRegressor
from coretree.run.held_inside import HELD_SHARE, HeldInside
from coretree.run.nested import climb, contenders
from generated import sales

ONE = ThreadExecutor(1)
SIZE = 800


def crossed(n: int, seed: int) -> pd.DataFrame:
    """A straight signal that a few rows show, and an interaction that a forest takes many rows to find."""
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(rng.normal(size=(n, 4)), columns=["a", "b", "c", "d"])
    z = 1.5 * frame["a"] + 1.5 * frame["b"] + 0.9 * np.sign(frame["c"] * frame["d"])
    return frame.assign(y=np.where(z + rng.logistic(size=n) > 0, "yes", "no"))


N_TRAIN = 12_000
FRAME = crossed(16_000, 0)
MODELS = {
    "linear": LogisticRegression(),
    "forest": RandomForestClassifier(20, min_samples_leaf=3, random_state=0),
}
FAST = {"linear": LogisticRegression(), "tree": DecisionTreeClassifier(min_samples_leaf=5, random_state=0)}


@pytest.fixture(scope="module")
def sides() -> tuple[Dataset, Dataset]:
    return Dataset.from_pandas(FRAME[:N_TRAIN], target="y"), Dataset.from_pandas(FRAME[N_TRAIN:], target="y")


@pytest.fixture(scope="module")
def tree(sides: tuple[Dataset, Dataset]) -> CoresetTree:
    return CoresetTree(size=SIZE).build(sides[0], client=ONE)


@pytest.fixture(scope="module")
def quantities() -> CoresetTree:
    data = Dataset.from_pandas(sales(2500)[["a", "b", "c", "price"]], target="price")
    return CoresetTree(size=SIZE).build(data, client=ONE)


def test_the_order_is_that_of_all_rows_where_the_coreset_has_it_wrong(
    sides: tuple[Dataset, Dataset], tree: CoresetTree
) -> None:
    found = compare(MODELS, tree, sides[1], client=ONE)
    naive = max(found.rows, key=lambda row: row.value).name
    X, y = FRAME[["a", "b", "c", "d"]], FRAME["y"]
    full = {
        name: roc_auc_score(y[N_TRAIN:], clone(e).fit(X[:N_TRAIN], y[:N_TRAIN]).predict_proba(X[N_TRAIN:])[:, 1])
        for name, e in MODELS.items()
    }
    assert max(full, key=full.__getitem__) == "forest"
    assert naive == "linear"  # the negative control: scores on the coreset as they are
    assert found.best == "forest"
    rows = {row.name: row for row in found.rows}
    assert rows["forest"].low < full["forest"] < rows["forest"].high
    assert abs(rows["forest"].extrapolated - full["forest"]) < abs(rows["forest"].value - full["forest"])
    assert abs(rows["linear"].extrapolated - full["linear"]) < 0.02
    assert rows["forest"].high - rows["forest"].low > 5 * (rows["linear"].high - rows["linear"].low)
    json.dumps(found.to_dict(), allow_nan=False)


def test_each_is_fitted_on_its_own_sketch_and_scored_on_every_held_out_row(
    sides: tuple[Dataset, Dataset], tree: CoresetTree
) -> None:
    found = compare(["logistic", "tree"], tree, sides[1], size=400, steps=3, client=ONE)
    table = found.table
    assert dict(table["sketch"]) == {"logistic": "robust", "tree": "balanced"}
    assert set(table["rows"]) == {400}
    assert {row.name: row.rows for row in found.rows} == {"logistic": (400, 200), "tree": (400, 141, 50)}
    assert (tree.n_rows_, found.scored_rows) == (N_TRAIN, 4_000)
    alone = CoresetClassifier(LogisticRegression(C=1.0, tol=1e-6, max_iter=2000), tree=tree, size=400, client=ONE).fit()
    assert (found.models["logistic"].estimator_[-1].coef_ == alone.estimator_[-1].coef_).all()
    again = compare(["tree", "logistic"], tree, sides[1], size=400, steps=3, client=ONE)
    assert [(r.name, r.scores, r.extrapolated) for r in again.rows] == [
        (r.name, r.scores, r.extrapolated) for r in found.rows
    ]


def test_nested_sizes_are_nested(tree: CoresetTree) -> None:
    for inside in (None, HeldInside(tree, 0)):
        ladders = climb(contenders(FAST, tree, 0, ONE), tree, ONE, size=None, steps=3, inside=inside)
        for ladder in ladders.values():
            ids = [set(core.ids.tolist()) for core in ladder.cores.values()]
            assert ids[0] > ids[1] > ids[2]


@pytest.mark.parametrize(("scoring", "folds"), [("roc_auc", [3, 0, 0]), ("neg_log_loss", [3, 3, 3])])
def test_smaller_fits_are_sharpened_only_where_the_score_sees_it(
    sides: tuple[Dataset, Dataset], scoring: str, folds: list[int]
) -> None:
    """The fit that is handed out always is."""
    grown = CoresetTree(size=SIZE, objectives=["auto", "residual"]).build(sides[0], client=ONE)
    model = CoresetClassifier(DecisionTreeClassifier(max_depth=3, random_state=0), objective="residual")
    wanted = contenders({"tree": model}, grown, 0, ONE)
    ranked = scoring in RANKINGS
    ladder = climb(wanted, grown, ONE, size=None, steps=3, inside=None, ranked=ranked)["tree"]
    assert [fit.estimator_[-1].cross_fit for fit in ladder.models.values()] == folds
    assert compare({"tree": model}, grown, sides[1], scoring=scoring, client=ONE).model.estimator_[-1].cross_fit == 3


def test_without_held_out_data_no_row_is_both_fitted_on_and_scored_on(tree: CoresetTree) -> None:
    inside = HeldInside(tree, 0)
    held = inside.rows()
    assert held.objective == "uniform"
    assert 0.15 < len(held) / len(tree.coreset(objective="uniform")) < 0.35
    ladders = climb(contenders(FAST, tree, 0, ONE), tree, ONE, size=None, steps=3, inside=inside)
    for ladder in ladders.values():
        for core in ladder.cores.values():
            assert not set(core.ids.tolist()) & set(held.ids.tolist())
            assert (uniforms(core.ids, 0, "compare") >= HELD_SHARE).all()
            assert core.class_counts is not None
            for label, count in core.class_counts.items():
                assert core.sample_weight[core.target == label].sum() == pytest.approx(count, rel=1e-6)
    found = compare(FAST, tree, client=ONE, steps=3)
    assert found.scored_rows == len(held)
    assert "no fit has seen" in repr(found)
    assert all(row.rows[0] < SIZE for row in found.rows)


def test_quantities_and_what_moments_give_exactly(quantities: CoresetTree) -> None:
    models = {
        "ridge": Ridge(),
        "tree": DecisionTreeRegressor(min_samples_leaf=5, random_state=0),
        "mean": DummyRegressor(),
    }
    held = Dataset.from_pandas(sales(900, seed=5)[["a", "b", "c", "price"]], target="price")
    found = compare(models, quantities, held, client=ONE, steps=3)
    assert found.best == "ridge"
    exact = found.rows[0]
    assert (exact.sketch, exact.low, exact.extrapolated, exact.high) == (
        "moments",
        exact.value,
        exact.value,
        exact.value,
    )
    assert isinstance(found.model, CoresetRegressor)
    # inside the tree the moments hold the rows that are scored on: a sample is fitted instead
    inside = compare(models, quantities, client=ONE, steps=3, scoring="neg_mean_absolute_error")
    assert "moments" not in {row.sketch for row in inside.rows}
    assert inside.best == "ridge"


def test_a_score_that_one_model_lacks_is_said_and_the_others_are_ranked(
    sides: tuple[Dataset, Dataset], tree: CoresetTree
) -> None:
    for data in (sides[1], None):
        found = compare(["svm", "logistic"], tree, data, scoring="neg_log_loss", client=ONE, steps=2)
        assert [row.name for row in found.rows] == ["logistic", "svm"]
        assert "predicts no probabilities" in found.rows[1].note
    with pytest.raises(ConfigError, match="no model could be scored by neg_log_loss: svm"):
        compare(["svm"], tree, sides[1], scoring="neg_log_loss", client=ONE, steps=2)


def test_a_coreset_model_brings_its_objective(sides: tuple[Dataset, Dataset], tree: CoresetTree) -> None:
    given = CoresetClassifier(LogisticRegression(), objective="uniform")
    found = compare({"plain": given}, tree, sides[1], client=ONE, steps=2)
    assert found.rows[0].sketch == "uniform"
    assert given.tree is None


@pytest.mark.parametrize(
    ("models", "options", "message"),
    [
        (["logistic"], {"scoring": "roc_acu"}, "Did you mean 'roc_auc'"),
        (["logistic"], {"scoring": "r2"}, "no score for classification; the usual one is 'roc_auc'"),
        (["logistc"], {}, "Did you mean 'logistic'"),
        ("logistic", {}, "give names in a list"),
        ([], {}, "name at least one"),
        ({"x": 3}, {}, "'x' is int, which has no fit"),
        ({"near": KNeighborsClassifier()}, {}, "model 'near'.*sample_weight"),
        ({"price": CoresetRegressor()}, {}, "is a CoresetRegressor, but the tree is for classification"),
        (["logistic"], {"size": 801}, r"size=801 must be at most 800.*CoresetTree\(..., size=801\)"),
        (["logistic"], {"size": 100}, "give size= of at least 200"),
        (["logistic"], {"steps": 1}, "steps=1 must be at least 2"),
        (["logistic"], {"confidence": 95}, "confidence=95 must lie between 0 and 1"),
    ],
)
def test_bad_input_teaches(
    sides: tuple[Dataset, Dataset], tree: CoresetTree, models: object, options: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        compare(models, tree, sides[1], client=ONE, **options)  # type: ignore[arg-type]


def test_rows_that_the_tree_was_built_from_are_refused(sides: tuple[Dataset, Dataset], tree: CoresetTree) -> None:
    with pytest.raises(ConfigError, match="rows that this tree was built from"):
        compare(["logistic"], tree, sides[0], client=ONE)


def test_too_few_rows_to_hold_any_out_are_refused() -> None:
    frame = crossed(3000, 1).assign(y=lambda f: np.where(np.arange(len(f)) < 12, "rare", "usual"))
    tree = CoresetTree(size=200).build(Dataset.from_pandas(frame, target="y"), client=ONE)
    with pytest.raises(ConfigError, match=r"data=\.\.\., such as the second of"):
        compare({"tree": DecisionTreeClassifier()}, tree, client=ONE, steps=2)


class Ends(DecisionTreeClassifier):
    """Takes its process down the first time that it is fitted anywhere."""

    def __init__(self, flag: str = "") -> None:
        super().__init__()
        self.flag = flag

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Ends:
        try:
            os.close(os.open(self.flag, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return super().fit(X, y, sample_weight=sample_weight)
        os._exit(1)


class Breaks(DecisionTreeClassifier):
    """Fails."""

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Breaks:
        raise ValueError("something inside")


def test_a_cluster_gives_the_same_and_outlives_a_worker(
    sides: tuple[Dataset, Dataset], tree: CoresetTree, tmp_path: Path
) -> None:
    here = compare(FAST, tree, sides[1], client=ThreadExecutor(2))
    with local_cluster(2) as processes:
        for client in (processes, processes.client):
            there = compare(FAST, tree, sides[1], client=client)
            assert [(r.name, r.scores) for r in there.rows] == [(r.name, r.scores) for r in here.rows]
        given = {"given": CoresetClassifier(DecisionTreeClassifier(max_depth=3), client=processes)}
        assert compare(given, tree, sides[1], client=processes).best == "given"
        found = compare({"ends": Ends(str(tmp_path / "flag"))}, tree, sides[1], client=processes)
        assert (tmp_path / "flag").exists()
        assert found.best == "ends"


def test_a_fit_that_fails_is_named(sides: tuple[Dataset, Dataset], tree: CoresetTree) -> None:
    with pytest.raises(ConfigError, match=r"model 'mine' on .* rows failed: ValueError: something inside"):
        compare({"mine": Breaks()}, tree, sides[1], client=ONE)


def test_progress_counts_the_fits_to_the_end(sides: tuple[Dataset, Dataset], tree: CoresetTree) -> None:
    told: list[tuple[str, int, int]] = []
    compare(["tree"], tree, sides[1], client=ONE, progress=lambda *what: told.append(what))
    assert [what for what in told if what[0] == "compare"] == [("compare", i, 3) for i in (1, 2, 3)]
