"""A search on coresets: equal wherever it runs and however often it was interrupted, and near that of all rows."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from distributed import Client, LocalCluster
from sklearn import metrics
from sklearn.base import clone
from sklearn.exceptions import FitFailedWarning, NotFittedError
from sklearn.linear_model import LogisticRegression, Ridge, SGDClassifier
from sklearn.model_selection import GridSearchCV, PredefinedSplit
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures, StandardScaler
from sklearn.tree import DecisionTreeClassifier

from coretree import CoresetClassifier, CoresetSearchCV, CoresetTree, Dataset, ThreadExecutor, evaluate
from coretree.data.to_sklearn import to_sklearn
from coretree.errors import ConfigError
from coretree.learn.folds import folds_by_hash
from coretree.run import on_dask
from coretree.run.on_dask import DaskExecutor
from coretree.run.search_full import FoldsWork
from coretree.run.search_runner import TrialWork
from generated import sales

ONE = ThreadExecutor(1)
FEATURES = ["a", "b", "c", "kind"]
GRID = {"C": [1e-4, 1e-2, 1.0]}


def data_of(n: int = 4000, **options: Any) -> Dataset:
    frame = sales(n)
    frame["day"] = pd.date_range("2024-01-01", periods=n, freq="h")
    columns = [*FEATURES, "sold", "weight", *(["day"] if "time" in options else [])]
    return Dataset.from_pandas(frame[columns], target="sold", weight="weight", **options)


@pytest.fixture(scope="module")
def data() -> Dataset:
    return data_of()


@pytest.fixture(scope="module")
def tree(data: Dataset) -> CoresetTree:
    return CoresetTree(size=900).build(data, client=ONE)


@pytest.fixture(scope="module")
def timed() -> tuple[Dataset, CoresetTree]:
    data = data_of(time="day")
    return data, CoresetTree(size=900).build(data, client=ONE)


def logistic(grid: Any = None, **options: Any) -> CoresetSearchCV:
    options = {"cv": 3, "scoring": "neg_log_loss", "client": ONE, **options}
    return CoresetSearchCV(LogisticRegression(max_iter=500), GRID if grid is None else grid, **options)


def scores(search: CoresetSearchCV) -> dict[str, Any]:
    """Everything in the table but the times."""
    return {k: repr(np.asarray(v, dtype=object).tolist()) for k, v in search.cv_results_.items() if "_time" not in k}


# ---- laws ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, processes=False, dashboard_address="127.0.0.1:0") as cluster,
        Client(cluster, set_as_default=False) as found,
    ):
        yield found


STRATEGIES = [
    {},
    {"strategy": "halving", "min_size": 200, "factor": 2},
    {"validate": "full", "n_best": 2},
]


@pytest.mark.parametrize("options", STRATEGIES, ids=["grid", "halving", "full"])
def test_the_same_bits_one_by_one_in_threads_and_on_a_cluster(
    tree: CoresetTree, data: Dataset, client: Client, options: dict[str, Any]
) -> None:
    executors = [ONE, ThreadExecutor(3), DaskExecutor(client)]
    found = [logistic(tree=tree, data=data, **{**options, "client": executor}).fit() for executor in executors]
    assert scores(found[0]) == scores(found[1]) == scores(found[2])
    assert len({search.best_score_ for search in found}) == 1
    coefficients = {search.best_estimator_.estimator_[-1].coef_.tobytes() for search in found}
    assert len(coefficients) == 1


def test_what_trials_share_is_sent_once(tree: CoresetTree, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[Any] = []
    send = on_dask._sent

    def counted(client: Client, work: Any) -> Any:
        sent.append(work)
        return send(client, work)

    monkeypatch.setattr(on_dask, "_sent", counted)
    search = logistic(tree=tree, strategy="halving", min_size=100, factor=2, client=DaskExecutor(client)).fit()
    assert len(search.n_resources_) == 2
    assert [type(work) for work in sent] == [TrialWork]


class Stops(ThreadExecutor):
    """An executor that dies after some trials."""

    def __init__(self, after: int) -> None:
        super().__init__(1)
        self.left, self.done = after, 0

    def run(self, jobs: Any, work: Any, data: Any, on_done: Any = None, on_result: Any = None) -> dict[str, Any]:
        def keep(job: Any, result: Any) -> None:
            if on_result is not None:
                on_result(job, result)
            self.done += 1
            self.left -= 1
            if self.left == 0:
                raise KeyboardInterrupt

        return super().run(jobs, work, data, on_done, keep)


@pytest.mark.parametrize("options", STRATEGIES, ids=["grid", "halving", "full"])
def test_a_search_that_was_interrupted_finds_the_same(
    tree: CoresetTree, data: Dataset, tmp_path: Path, options: dict[str, Any]
) -> None:
    whole = logistic(tree=tree, data=data, **options).fit()
    path = tmp_path / "search.json"
    with pytest.raises(KeyboardInterrupt):
        logistic(tree=tree, data=data, resume=path, client=Stops(4), **options).fit()
    executor = Stops(10_000)
    again = logistic(tree=tree, data=data, resume=path, client=executor, **options).fit()
    assert scores(again) == scores(whole)
    assert again.best_score_ == whole.best_score_
    third = Stops(10_000)
    assert scores(logistic(tree=tree, data=data, resume=path, client=third, **options).fit()) == scores(whole)
    assert 0 == third.done < executor.done


def test_a_file_serves_other_searches_without_mixing_them(tree: CoresetTree, tmp_path: Path) -> None:
    path = tmp_path / "deep" / "search.json"
    first = logistic(tree=tree, resume=path).fit()
    for changed in ({"scoring": "accuracy"}, {"cv": 4}, {"size": 500}, {"seed": 1}):
        executor = Stops(10_000)
        other = logistic(tree=tree, resume=path, client=executor, **changed).fit()
        assert executor.done == 3 * other.n_splits_, changed
    executor = Stops(10_000)
    more = logistic({"C": [1.0, 100.0]}, tree=tree, resume=path, client=executor).fit()
    assert executor.done == 3  # only the setting that is new
    assert more.cv_results_["mean_test_score"][0] == first.cv_results_["mean_test_score"][2]
    assert len(json.loads(path.read_text())["searches"]) == 5
    assert [p.name for p in path.parent.iterdir()] == ["search.json"]


# ---- what the scores are -------------------------------------------------------------------------------------------


def folds_and_rows(tree: CoresetTree, cv: int) -> tuple[Any, Any, Any, Any]:
    """Everything of a tree that keeps all its rows: prepared rows, target, weights, folds."""
    core = tree.coreset(objective="uniform")
    assert len(core) == tree.n_rows_
    X = to_sklearn(tree.recipe_.preparation).transform(core.X)
    return X, core.target, core.sample_weight, folds_by_hash(core.ids, cv, 0)


def test_with_all_rows_kept_it_is_a_weighted_search_by_hand() -> None:
    tree = CoresetTree(size=2000).build(data_of(800), client=ONE)
    X, y, w, folds = folds_and_rows(tree, 3)
    model = make_pipeline(StandardScaler(), LogisticRegression())
    found = CoresetSearchCV(
        model, {"logisticregression__C": [1e-3, 1.0]}, tree=tree, cv=3, scoring="roc_auc", client=ONE
    ).fit()
    table = found.cv_results_
    counts = {label: w[y == label].sum() for label in ("no", "yes")}
    unweighted = []
    for k in range(3):
        inside, outside = folds == k, folds != k
        # what is outside a fold stands for all rows: each class has its weight in all of them
        scaled = w * [counts[label] / w[outside & (y == label)].sum() for label in y]
        for i, c in enumerate((1e-3, 1.0)):
            fit = {f"{step}__sample_weight": scaled[outside] for step in ("standardscaler", "logisticregression")}
            fitted = clone(model).set_params(logisticregression__C=c).fit(X[outside], y[outside], **fit)
            truth, proba = y[inside] == "yes", fitted.predict_proba(X[inside])[:, 1]
            expected = metrics.roc_auc_score(truth, proba, sample_weight=w[inside])
            assert table[f"split{k}_test_score"][i] == pytest.approx(expected, abs=1e-9)
            unweighted.append(abs(expected - metrics.roc_auc_score(truth, proba)))
    assert max(unweighted) > 1e-3  # else this test could not tell
    for i in range(2):
        each, masses = [table[f"split{k}_test_score"][i] for k in range(3)], np.bincount(folds, w)
        assert table["mean_test_score"][i] == pytest.approx(np.average(each, weights=masses), abs=1e-12)
        assert abs(table["mean_test_score"][i] - np.mean(each)) > 1e-9


def test_full_scores_are_those_of_scikit_learn_on_all_rows_of_each_fold(
    data: Dataset, tree: CoresetTree, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[FoldsWork] = []
    call = FoldsWork.__call__

    def spied(self: FoldsWork, *args: Any) -> Any:
        kept.append(self)
        return call(self, *args)

    monkeypatch.setattr(FoldsWork, "__call__", spied)
    found = logistic(tree=tree, data=data, validate="full", n_best=2).fit()
    table = found.cv_results_
    assert found.n_rows_validated_ == tree.n_rows_ == 4000
    assert len(tree.coreset()) == 900
    chosen = np.flatnonzero(~np.isnan(table["mean_full"]))
    assert set(chosen) == set(np.argsort(-table["mean_test_score"])[:2])
    assert found.best_index_ == np.nanargmax(table["mean_full"])
    assert found.best_score_ == np.nanmax(table["mean_full"])
    everything = CoresetTree(size=5000).build(data, client=ONE).coreset(objective="uniform")
    rows = to_sklearn(tree.recipe_.preparation).transform(everything.X)
    folds, y, w = folds_by_hash(everything.ids, 3, 0), everything.target, everything.sample_weight
    order = sorted(chosen, key=lambda i: table["rank_test_score"][i])
    for place, i in enumerate(order):
        for k in range(3):
            inside = folds == k
            proba = kept[0].models[place][k].final.predict_proba(rows[inside])
            expected = -metrics.log_loss(y[inside], proba, sample_weight=w[inside])
            assert table[f"split{k}_full"][i] == pytest.approx(expected, abs=1e-9)


def test_it_agrees_with_a_search_over_all_rows_and_a_bad_yardstick_does_not() -> None:
    data = data_of(20_000)
    tree = CoresetTree(size=900).build(data, client=ONE)
    grid = {"C": [1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1]}
    found = logistic(grid, tree=tree, cv=3).fit()
    everything = CoresetTree(size=20_000, passes=1).build(data, client=ONE).coreset(objective="uniform")
    X = to_sklearn(tree.recipe_.preparation).transform(everything.X)
    folds = PredefinedSplit(folds_by_hash(everything.ids, 3, 0))
    theirs = GridSearchCV(LogisticRegression(max_iter=500), grid, cv=folds, scoring="neg_log_loss")
    theirs.fit(X, everything.target, sample_weight=everything.sample_weight)
    full = theirs.cv_results_["mean_test_score"]
    assert full[found.best_index_] >= full.max() - 1e-3 * abs(full.max())
    ours = found.cv_results_["mean_test_score"]
    assert np.abs(ours - full).max() < 0.03
    # the same scores on rows that importance chose, without their weights
    core = tree.coreset(objective="robust")
    plain = GridSearchCV(LogisticRegression(max_iter=500), grid, cv=3, scoring="neg_log_loss")
    plain.fit(to_sklearn(tree.recipe_.preparation).transform(core.X), core.target)
    assert np.abs(plain.cv_results_["mean_test_score"] - full).max() > 2 * np.abs(ours - full).max()


def test_folds_by_time_learn_from_the_past_alone(timed: tuple[Dataset, CoresetTree]) -> None:
    data, tree = timed
    found = logistic(tree=tree, data=data, folds="time", validate="full", n_best=1).fit()
    assert found.n_splits_ == 3
    assert found.n_rows_validated_ == pytest.approx(3000, abs=250)  # the first quarter is only learned from
    core = tree.coreset()
    assert core.seconds is not None
    assert evaluate(found.best_estimator_, data, client=ONE).metrics["log_loss"] < 0.6
    with pytest.raises(ConfigError, match="name the column with time="):
        logistic(tree=CoresetTree(size=400).build(data_of(1000), client=ONE), folds="time").fit()


def test_a_target_that_turns_is_learned_by_folds_by_hash_and_not_by_folds_by_time() -> None:
    rng = np.random.default_rng(0)
    late = np.arange(3000) >= 2300  # well behind the last edge
    x = rng.normal(size=3000)
    y = ((np.where(late, -x, x) + 0.1 * rng.normal(size=3000)) > 0).astype(int)
    frame = pd.DataFrame({"x": x, "late": late.astype(float), "xl": x * late, "y": y})
    frame["day"] = pd.date_range("2024-01-01", periods=3000, freq="h")
    data = Dataset.from_pandas(frame, target="y", time="day")
    tree = CoresetTree(size=800).build(data, client=ONE)
    by_hash, by_time = (
        logistic({"C": [1.0]}, tree=tree, cv=2, scoring="accuracy", folds=folds).fit() for folds in ("hash", "time")
    )
    assert by_hash.best_score_ > 0.9
    assert by_time.cv_results_["split1_test_score"][0] < 0.5  # most of the last third is nothing like what came before


# ---- scikit-learn's manners ----------------------------------------------------------------------------------------


def test_attributes_and_answers_are_those_of_scikit_learn(tree: CoresetTree) -> None:
    found = logistic({"C": [1e-3, 1.0], "solver": ["lbfgs"]}, tree=tree, size=700).fit()
    theirs = GridSearchCV(LogisticRegression(), {"C": [1e-3, 1.0], "solver": ["lbfgs"]}, cv=3, scoring="neg_log_loss")
    core = tree.coreset(300)
    theirs.fit(core.X[["a", "b"]], core.y)
    assert set(found.cv_results_) == set(theirs.cv_results_)
    for name, column in theirs.cv_results_.items():
        assert type(found.cv_results_[name]) is type(column), name
        assert np.shape(found.cv_results_[name]) == np.shape(column), name
    assert found.best_params_ == found.cv_results_["params"][found.best_index_]
    assert found.cv_results_["rank_test_score"][found.best_index_] == 1
    assert not found.multimetric_
    assert found.refit_time_ > 0
    assert len(found.best_estimator_.coreset_) == 700
    rows = sales(50, seed=9)
    assert (found.predict(rows) == found.best_estimator_.predict(rows)).all()
    assert found.predict_proba(rows).shape == (50, 2)
    assert found.classes_.tolist() == ["no", "yes"]
    assert found.n_features_in_ == 4
    expected = -metrics.log_loss(rows["sold"], found.predict_proba(rows))
    assert found.score(rows, rows["sold"]) == pytest.approx(expected)
    assert found.scorer_(found.best_estimator_, rows, rows["sold"]) == pytest.approx(expected)


def test_a_clone_is_the_same_search(tree: CoresetTree) -> None:
    search = logistic(tree=tree, strategy="random", n_iter=2)
    copy = clone(search)
    assert copy.get_params(deep=False).keys() == search.get_params(deep=False).keys()
    assert copy.tree is tree
    assert scores(copy.fit()) == scores(search.fit())
    assert copy.set_params(cv=2, estimator__max_iter=50).fit().n_splits_ == 2


def test_several_scores_and_ways_to_choose(tree: CoresetTree) -> None:
    scoring = {"loss": "neg_log_loss", "f1": "f1_macro", "rank": "balanced_accuracy"}
    found = logistic(tree=tree, scoring=scoring, refit="f1").fit()
    assert found.multimetric_
    assert set(found.scorer_) == {"loss", "f1", "rank"}
    assert found.best_score_ == found.cv_results_["mean_test_f1"].max()
    alone = logistic(tree=tree).fit()
    assert (found.cv_results_["mean_test_loss"] == alone.cv_results_["mean_test_score"]).all()
    last = logistic(tree=tree, refit=lambda table: len(table["params"]) - 1).fit()
    assert last.best_params_ == {"C": 1.0}
    none = logistic(tree=tree, refit=False).fit()
    assert none.best_params_ == alone.best_params_
    with pytest.raises(NotFittedError, match="refit=True"):
        none.predict(sales(5))


def test_steps_may_be_replaced_and_get_the_sketch_that_suits_them(tree: CoresetTree) -> None:
    pipe = make_pipeline(StandardScaler(), LogisticRegression())
    grid = {"logisticregression": [LogisticRegression(C=0.1), DecisionTreeClassifier(max_depth=4)]}
    found = CoresetSearchCV(pipe, grid, tree=tree, cv=3, client=ONE).fit()
    assert (found.cv_results_["mean_test_score"] > 0.6).all()
    only = CoresetSearchCV(pipe, {k: v[1:] for k, v in grid.items()}, tree=tree, cv=3, client=ONE).fit()
    assert only.best_estimator_.coreset_.objective == "balanced"
    assert only.best_score_ == found.cv_results_["mean_test_score"][1]
    assert "standardscaler" in only.best_estimator_.estimator_[-1].named_steps


def test_quantities_and_rows_in_memory() -> None:
    frame = sales(1500)
    pipe = make_pipeline(PolynomialFeatures(), Ridge())
    grid = {"polynomialfeatures__degree": [1, 2], "ridge__alpha": [1.0, 1e5]}
    found = CoresetSearchCV(pipe, grid, size=500, cv=3, client=ONE).fit(frame[FEATURES], frame["price"])
    assert found.best_params_["ridge__alpha"] == 1.0
    assert found.best_score_ > 0.6
    assert found.score(frame, frame["price"]) > 0.6
    assert found.tree_.is_built


def test_halving_goes_from_few_rows_to_many(tree: CoresetTree) -> None:
    grid = {"C": [1e-8, 1e-7, 1e-6, 1e-5, 1e-1, 1.0]}
    found = logistic(grid, tree=tree, strategy="halving", min_size=100, factor=3, size=900).fit()
    assert (found.n_candidates_, found.n_resources_) == ([6, 2], [300, 900])
    assert found.cv_results_["iter"].tolist() == [0] * 6 + [1] * 2
    assert found.best_params_["C"] in (1e-1, 1.0)
    assert found.cv_results_["iter"][found.best_index_] == 1
    plain = logistic(grid, tree=tree, size=900).fit()
    for i in (6, 7):
        same = plain.cv_results_["params"].index(found.cv_results_["params"][i])
        assert found.cv_results_["mean_test_score"][i] == plain.cv_results_["mean_test_score"][same]


def test_optuna_proposes_and_an_interrupted_search_repeats_it(tree: CoresetTree, tmp_path: Path) -> None:
    pytest.importorskip("optuna")
    from scipy.stats import loguniform

    options: dict[str, Any] = {"param_distributions": {"C": loguniform(1e-6, 1.0), "tol": [1e-4, 1e-3]}}
    model, more = LogisticRegression(), {"tree": tree, "cv": 3, "strategy": "optuna", "n_iter": 6, "client": ONE}
    whole = CoresetSearchCV(model, **options, **more).fit()
    assert len(whole.cv_results_["params"]) == 6
    assert len({params["C"] for params in whole.cv_results_["params"]}) == 6
    path = tmp_path / "search.json"
    with pytest.raises(KeyboardInterrupt):
        CoresetSearchCV(model, **options, **{**more, "client": Stops(8)}, resume=path).fit()
    assert scores(CoresetSearchCV(model, **options, **more, resume=path).fit()) == scores(whole)


# ---- what cannot work ----------------------------------------------------------------------------------------------


def test_settings_that_fail_are_told_and_lose(tree: CoresetTree) -> None:
    grid = {"C": [1.0], "penalty": ["l2"], "solver": ["lbfgs", "none such"]}
    grid.pop("penalty")
    with pytest.warns(FitFailedWarning, match="3 of 6 trials failed.*solver"):
        found = logistic(grid, tree=tree).fit()
    assert np.isnan(found.cv_results_["mean_test_score"]).tolist() == [False, True]
    assert found.best_params_["solver"] == "lbfgs"
    with pytest.raises(ConfigError, match="3 of 6 trials failed"):
        logistic(grid, tree=tree, error_score="raise").fit()
    with pytest.raises(ConfigError, match="3 of 3 trials failed"):
        logistic({"solver": ["none such"]}, tree=tree).fit()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"grid": {"c": [1.0]}}, "'c' is no parameter of LogisticRegression. Did you mean 'C'"),
        ({"grid": {"C": 1.0}}, "param_grid: "),
        ({"cv": 901}, "cv=901 must lie between 2 and the 900 rows"),
        ({"cv": 1}, "cv=1 must be a whole number, at least 2"),
        ({"size": 901}, r"size=901 must lie between 1 and 900.*CoresetTree\(..., size=901\)"),
        ({"strategy": "gird"}, "Did you mean 'grid'"),
        ({"scoring": "roc_uac"}, "Did you mean 'roc_auc'"),
        ({"scoring": "r2"}, "not for classification"),
        ({"scoring": lambda model, X, y: 1.0}, "takes no sample_weight"),
        ({"scoring": ["accuracy", "roc_auc"]}, "name the one to choose by with refit='accuracy'"),
        ({"validate": "full"}, r"give fit\(data\), or data="),
        ({"validate": "full", "scoring": "f1_weighted"}, "which 'f1_weighted' does not allow"),
        ({"param_distributions": {"C": [1.0]}}, "one of both"),
        ({"strategy": "halving", "min_size": 5000}, "min_size=5000"),
        ({"tree": None}, "needs a built tree"),
    ],
)
def test_bad_input_teaches(tree: CoresetTree, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        logistic(options.pop("grid", None), **{"tree": tree, **options}).fit()


def test_estimators_that_cannot_be_searched(tree: CoresetTree) -> None:
    with pytest.raises(ConfigError, match=r"KNeighborsClassifier\.fit takes no sample_weight"):
        CoresetSearchCV(KNeighborsClassifier(), {"n_neighbors": [3]}, tree=tree, cv=3, client=ONE).fit()
    with pytest.raises(ConfigError, match="is neither"):
        CoresetSearchCV(StandardScaler(), {"with_mean": [True]}, tree=tree, client=ONE).fit()
    with pytest.raises(ConfigError, match="the estimator inside CoresetClassifier"):
        CoresetSearchCV(CoresetClassifier(), {"size": [3]}, tree=tree, client=ONE).fit()
    with pytest.raises(ConfigError, match="is for classification, but Ridge does regression"):
        CoresetSearchCV(Ridge(), {"alpha": [1.0]}, tree=tree, client=ONE).fit()


def test_a_file_of_something_else_is_left_alone(tree: CoresetTree, tmp_path: Path) -> None:
    path = tmp_path / "notes.json"
    path.write_text("[1, 2]")
    with pytest.raises(ConfigError, match="does not hold searches"):
        logistic(tree=tree, resume=path).fit()
    assert path.read_text() == "[1, 2]"
    with pytest.raises(ConfigError, match="compared between processes"):
        logistic(tree=tree, resume=tmp_path / "new.json", scoring=lambda model, X, y, sample_weight: 1.0).fit()


def test_a_rare_class_is_dealt_out_and_forbids_a_full_pass() -> None:
    frame = sales(1200)[["a", "b", "sold"]]
    frame.loc[frame.index[:5], "sold"] = "never"
    data = Dataset.from_pandas(frame, target="sold")
    tree = CoresetTree(size=300).build(data, client=ONE)
    found = logistic({"C": [0.1]}, tree=tree, scoring="accuracy", cv=5).fit()
    assert "class by class" in found.fold_note_
    with pytest.raises(ConfigError, match="folds by hash alone"):
        logistic({"C": [0.1]}, tree=tree, data=data, scoring="accuracy", validate="full", cv=5).fit()


def test_stochastic_estimators_are_seeded(tree: CoresetTree) -> None:
    first, second, other = (
        CoresetSearchCV(SGDClassifier(), {"alpha": [1e-4]}, tree=tree, cv=3, seed=seed, client=ONE).fit()
        for seed in (0, 0, 1)
    )
    assert scores(first) == scores(second) != scores(other)
