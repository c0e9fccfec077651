"""Clusters, mixtures and outliers of all rows: bounds that hold, the same bits everywhere, refusals before any pass."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dask.dataframe as dd
import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from sklearn.base import clone, is_clusterer, is_outlier_detector
from sklearn.cluster import DBSCAN, Birch, BisectingKMeans, KMeans, MiniBatchKMeans
from sklearn.covariance import EllipticEnvelope
from sklearn.decomposition import PCA, TruncatedSVD
from sklearn.ensemble import IsolationForest
from sklearn.kernel_approximation import Nystroem
from sklearn.linear_model import SGDOneClassSVM
from sklearn.mixture import GaussianMixture
from sklearn.neighbors import LocalOutlierFactor
from sklearn.pipeline import Pipeline
from sklearn.svm import OneClassSVM

from coretree import CoresetClassifier, CoresetTree, Dataset, ThreadExecutor, load_model, local_cluster, predict
from coretree.errors import ConfigError, DataError, ModelFileError, SchemaError
from coretree.run.clusterer import CoresetClusterer
from coretree.run.executor import Executor
from coretree.run.inputs import without_target
from coretree.run.on_dask import DaskExecutor
from coretree.run.transformer import CoresetTransformer
from generated import write_files

ONE, TWO = ThreadExecutor(1), ThreadExecutor(2)
N = 4000
Array = npt.NDArray[Any]


def groups(n: int, seed: int = 0) -> pd.DataFrame:
    """Nine clusters of unequal sizes on unequal scales, with holes, a category, a weight, and far rows."""
    rng = np.random.default_rng(seed)
    centre, label = rng.normal(0, 6, (9, 4)), rng.choice(9, n, p=np.arange(9, 0, -1) / 45)
    X = centre[label] + rng.normal(size=(n, 4))
    X[: n // 100] *= 5  # scattered far out
    frame = pd.DataFrame(X * [1, 10, 0.1, 1000], columns=list("abcd"))
    frame["kind"] = rng.choice(["red", "green"], n)
    frame["weight"] = rng.integers(1, 4, n).astype(float)
    frame["late"] = rng.integers(0, 2, n)
    frame.loc[rng.random(n) < 0.03, "b"] = np.nan
    return frame.sample(frac=1.0, random_state=seed, ignore_index=True)


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    return groups(N)


@pytest.fixture(scope="module")
def folder(rows: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_files(tmp_path_factory.mktemp("data"), rows, files=4)


def opened(folder: Path, **options: Any) -> Dataset:
    return Dataset.from_parquet(folder, **{"weight": "weight", "drop": ["late"], "leaf_bytes": 120_000, **options})


@pytest.fixture(scope="module")
def tree(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> CoresetTree:
    return CoresetTree(tmp_path_factory.mktemp("trees") / "t", size=1500, cells=600).build(opened(folder), client=TWO)


def true_cost(model: CoresetClusterer, rows: pd.DataFrame) -> float:
    """Weighted cost of all rows at their nearest centres, by plain numpy."""
    X = model.estimator_[:-1].transform(rows)
    squares = ((X[:, None, :] - model.estimator_[-1].cluster_centers_) ** 2).sum(axis=2).min(axis=1)
    return float(rows["weight"] @ squares)


# ---- k-means ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow), pytest.param(2, marks=pytest.mark.slow)])
@pytest.mark.parametrize("estimator", [KMeans(9), MiniBatchKMeans(9, n_init=3), BisectingKMeans(9)], ids=str)
def test_the_cost_of_all_rows_is_never_above_the_bound(
    tree: CoresetTree, folder: Path, rows: pd.DataFrame, estimator: Any, seed: int
) -> None:
    model = CoresetClusterer(estimator, tree=tree, random_state=seed, client=TWO).fit()
    cost = true_cost(model, rows)
    assert cost <= model.upper_ * (1 + 1e-12)
    assert model.upper_ == model.cost_on_cells_ + model.delta_
    assert model.cost_on_cells_ < cost  # by itself it flatters
    assert model.exact_cost_ is None
    if not isinstance(estimator, BisectingKMeans):
        better = clone(model).set_params(refine=1).fit(opened(folder))
        after = true_cost(better, rows)
        assert better.exact_cost_ == pytest.approx(cost, rel=1e-12)
        assert after <= better.upper_ * (1 + 1e-12)
        assert better.upper_ < better.exact_cost_ <= model.upper_


def test_k_means_on_cells_costs_little_more_than_on_all_rows(tree: CoresetTree, rows: pd.DataFrame) -> None:
    ours = [true_cost(CoresetClusterer(KMeans(9), tree=tree, random_state=s).fit(), rows) for s in range(3)]
    X = CoresetClusterer(KMeans(9), tree=tree).fit().estimator_[:-1].transform(rows)
    full = KMeans(9, n_init=10, random_state=0).fit(X, sample_weight=rows["weight"]).inertia_
    assert np.median(ours) < 1.05 * full
    few = KMeans(9, n_init=10, random_state=0).fit(X[:30])  # negative control
    assert -few.score(X, sample_weight=rows["weight"]) > 1.2 * full


def test_passes_lower_the_cost_each_time(folder: Path, rows: pd.DataFrame, tmp_path: Path) -> None:
    data = opened(folder)
    coarse = CoresetTree(tmp_path / "t", size=100, cells=40).build(data, client=TWO)
    costs = []
    for passes in range(3):
        model = CoresetClusterer(KMeans(9), tree=coarse, refine=passes, client=TWO).fit(data)
        costs.append(true_cost(model, rows))
        assert costs[-1] <= model.upper_ * (1 + 1e-12)
    assert costs == sorted(costs, reverse=True)
    assert costs[1] < 0.999 * costs[0]


def test_more_starts_where_the_number_is_left_to_us(tree: CoresetTree) -> None:
    assert CoresetClusterer(KMeans(9), tree=tree).fit().estimator_[-1].n_init == 5
    assert CoresetClusterer(KMeans(9, n_init=2), tree=tree).fit().estimator_[-1].n_init == 2
    start = CoresetClusterer(KMeans(9), tree=tree).fit().estimator_[-1].cluster_centers_
    again = CoresetClusterer(KMeans(9, init=start), tree=tree).fit()  # one start that is given is one
    assert again.estimator_[-1].n_init == "auto"


def test_weights_are_repeated_rows(rows: pd.DataFrame) -> None:
    few = rows.head(500).drop(columns=["late", "weight"])
    w = rows["weight"].head(500)
    weighted = CoresetClusterer(KMeans(4), cells=500, refine=1, client=ONE).fit(few, sample_weight=w)
    repeated = few.loc[few.index.repeat(w.astype(int))]
    again = CoresetClusterer(KMeans(4), cells=2000, refine=1, client=ONE).fit(repeated)
    for model in (weighted, again):  # the optimum of each is a good one of the other
        assert model.exact_cost_ == pytest.approx(weighted.exact_cost_, rel=0.1)
    plain = CoresetClusterer(KMeans(4), cells=500, refine=1, client=ONE).fit(few)
    assert plain.exact_cost_ < 0.7 * weighted.exact_cost_


def test_in_memory_rows_have_labels(rows: pd.DataFrame) -> None:
    X = rows[["a", "b", "kind"]]
    model = CoresetClusterer(KMeans(3), client=ONE)
    labels = model.fit_predict(X)
    assert labels.tolist() == model.labels_.tolist() == model.estimator_.predict(X).tolist()
    assert model.transform(X).shape == (N, 3)
    assert (model.transform(X).argmin(axis=1) == labels).all()
    assert model.fit_transform(X).shape == (N, 3)
    assert -model.score(X) <= model.upper_ * (1 + 1e-12)
    assert model.n_features_in_ == 3
    lazy = dd.from_pandas(X, npartitions=3)
    assert (np.asarray(model.predict(lazy).compute(scheduler="sync")) == labels).all()
    assert np.array_equal(np.asarray(model.transform(lazy).compute(scheduler="sync")), model.transform(X))
    with pytest.raises(ConfigError, match="for rows in memory"):
        model.score(lazy)
    other = CoresetClusterer(KMeans(3), client=ONE).fit(lazy)
    assert not hasattr(other, "labels_")
    assert other.upper_ == pytest.approx(model.upper_, rel=0.02)


# ---- the same everywhere ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def processes() -> Iterator[DaskExecutor]:
    with local_cluster(2) as executor:
        yield executor


EVERYWHERE: dict[str, Any] = {
    "clusters": CoresetClusterer(KMeans(5), refine=1, cells=300, size=300),
    "forest": CoresetClusterer(IsolationForest(n_estimators=10, contamination=0.05), size=500),
    "mixture": CoresetClusterer(GaussianMixture(2, max_iter=200), cells=300, size=300),
    "axes": CoresetTransformer(PCA(2), size=300),
}


@pytest.mark.parametrize(
    "name", ["clusters", "forest", *(pytest.param(name, marks=pytest.mark.slow) for name in ("mixture", "axes"))]
)
def test_threads_and_processes_give_the_same_bits(
    folder: Path, processes: DaskExecutor, tmp_path: Path, name: str
) -> None:
    data, found, rows = opened(folder), [], groups(200, seed=9)
    executors: list[Executor] = [ONE, TWO, processes]
    for i, executor in enumerate(executors):
        fitted = clone(EVERYWHERE[name]).set_params(tree=tmp_path / str(i), client=executor).fit(data)
        known = {k: getattr(fitted, k) for k in fitted._learned if hasattr(fitted, k)}
        answer = fitted.predict(rows) if hasattr(fitted, "predict") else fitted.transform(rows)
        found.append((fitted.tree_.name_, known, answer.tobytes(), parameters(fitted.estimator_[-1])))
    assert found[0] == found[1] == found[2]


def parameters(model: Any) -> dict[str, bytes]:
    names = ("cluster_centers_", "means_", "covariances_", "components_", "offset_", "mean_")
    return {name: np.asarray(getattr(model, name)).tobytes() for name in names if hasattr(model, name)}


# ---- mixtures --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kind", ["full", "diag", *(pytest.param(k, marks=pytest.mark.slow) for k in ("tied", "spherical"))]
)
def test_a_mixture_comes_near_that_of_all_rows(rows: pd.DataFrame, kind: str) -> None:
    X = rows[["a", "b", "c", "d"]]
    estimator = GaussianMixture(5, covariance_type=kind, n_init=8, max_iter=300, tol=1e-4, random_state=0)
    model = CoresetClusterer(estimator, cells=800, client=TWO).fit(X)
    Z = model.estimator_[:-1].transform(X)
    full = clone(estimator).set_params(n_init=2).fit(Z)
    assert model.bound_ <= model.score(X) + 1e-9
    assert model.score(X) > full.score(Z) - 0.1
    assert one_ball(Z) < full.score(Z) - 0.3  # negative control: one round cluster
    assert model.predict_proba(X).shape == (N, 5)
    assert model.score_samples(X).mean() == pytest.approx(model.score(X))
    assert not hasattr(model, "upper_")


def one_ball(Z: Array) -> float:
    """Mean log-likelihood of one spherical Gaussian."""
    return float(GaussianMixture(1, covariance_type="spherical").fit(Z).score(Z))


def test_scatter_is_asked_for_in_words(folder: Path, tree: CoresetTree, tmp_path: Path) -> None:
    for kind in ("full", "tied"):
        with pytest.raises(ConfigError, match=r"CoresetTree\(\.\.\., cells=2000, scatter=True\)"):
            CoresetClusterer(GaussianMixture(2, covariance_type=kind), tree=tree).fit()
        unbuilt = CoresetTree(tmp_path / kind, size=100)
        with pytest.raises(ConfigError, match="scatter=True"):
            CoresetClusterer(GaussianMixture(2, covariance_type=kind), tree=unbuilt).fit(opened(folder))
        assert not (tmp_path / kind).exists()  # said before any pass
    assert CoresetClusterer(GaussianMixture(2, covariance_type="diag"), tree=tree).fit().bound_ < 100


# ---- outliers --------------------------------------------------------------------------------------------------

DETECTORS = {
    "forest": (IsolationForest(n_estimators=40, contamination=0.02), 0.02),
    "svm": (OneClassSVM(nu=0.05), 0.05),
    "linear svm": (SGDOneClassSVM(nu=0.05), 0.05),
    "ellipse": (EllipticEnvelope(contamination=0.03), 0.03),
    "neighbours": (LocalOutlierFactor(novelty=True, contamination=0.05), 0.05),
}


@pytest.mark.parametrize(
    "name",
    ["forest", "svm", *(pytest.param(k, marks=pytest.mark.slow) for k in ("linear svm", "ellipse", "neighbours"))],
)
def test_contamination_is_a_share_of_all_rows(folder: Path, tree: CoresetTree, rows: pd.DataFrame, name: str) -> None:
    estimator, wanted = DETECTORS[name]
    if name == "ellipse":  # wants columns that are not collinear: no indicators of a category
        tree, data = CoresetTree(size=1500, prepare={"categorical": "ordinal"}), opened(folder)
        tree.build(data, client=TWO)
    model = CoresetClusterer(estimator, tree=tree, client=TWO).fit(opened(folder))
    flagged = float(rows["weight"] @ (model.predict(rows) == -1) / rows["weight"].sum())
    assert 0.8 * wanted < flagged < 1.2 * wanted
    assert is_outlier_detector(model)
    assert not is_clusterer(model)
    if name != "neighbours":
        assert model.flagged_share_ == pytest.approx(flagged, abs=1e-3)  # a row or two at the threshold
        assert model.decision_function(rows) == pytest.approx(model.score_samples(rows) - model.offset_, abs=1e-9)
    blind = CoresetClusterer(estimator, tree=tree, client=TWO).fit()  # from the weighted sample alone
    shared = float(rows["weight"] @ (blind.predict(rows) == -1) / rows["weight"].sum())
    assert 0.6 * wanted < shared < 1.5 * wanted
    assert not hasattr(blind, "flagged_share_")


def test_the_share_is_of_weighted_rows(rows: pd.DataFrame) -> None:
    """Far rows that weigh nothing much are no large share; unweighted they are."""
    X, far = rows[["a", "b", "c", "d"]], np.arange(N) < N // 10
    X = X.mul(np.where(far, 20, 1), axis=0)
    w = np.where(far, 0.05, 1.0)
    model = CoresetClusterer(IsolationForest(n_estimators=30, contamination=0.05), size=2000, client=TWO)
    out = model.fit(X, sample_weight=w).predict(X) == -1
    assert 0.8 * 0.05 < (w @ out) / w.sum() < 1.2 * 0.05
    assert out.mean() > 1.5 * 0.05  # in rows it is more
    out = model.fit(X).predict(X) == -1
    assert 0.8 * 0.05 < out.mean() < 1.2 * 0.05


def test_a_rule_of_its_own_stays(tree: CoresetTree, folder: Path) -> None:
    model = CoresetClusterer(IsolationForest(n_estimators=10), tree=tree, client=TWO).fit(opened(folder))
    assert model.offset_ == -0.5
    assert not hasattr(model, "flagged_share_")


# ---- transformers ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("estimator", "exact"),
    [
        (PCA(3), "qr"),
        (TruncatedSVD(2), True),
        pytest.param(PCA(0.9, whiten=True), True, marks=pytest.mark.slow),
    ],
    ids=repr,
)
def test_axes_are_those_of_all_rows(folder: Path, rows: pd.DataFrame, estimator: Any, exact: Any) -> None:
    model = CoresetTransformer(estimator, tree=CoresetTree(size=100, exact=exact), client=TWO).fit(
        opened(folder, weight=None)
    )
    assert model.exact_
    X = rows.drop(columns=["late"])
    full = clone(estimator).fit(model.estimator_[:-1].transform(X))
    signs = np.sign((model.estimator_[-1].components_ * full.components_).sum(axis=1))
    want = full.transform(model.estimator_[:-1].transform(X)) * signs
    np.testing.assert_allclose(model.transform(X), want, atol=1e-6)
    sampled = CoresetTransformer(estimator, tree=CoresetTree(size=100, exact=False), client=TWO)
    sampled.fit(opened(folder, weight=None))
    assert not sampled.exact_
    assert "exact=True" in sampled.exact_.reason
    if sampled.transform(X).shape == want.shape:
        assert np.abs(np.abs(sampled.transform(X)) - np.abs(want)).max() > 1e-3


def test_other_transformers_see_plain_rows(folder: Path) -> None:
    model = CoresetTransformer(Nystroem(n_components=2), size=500, client=TWO).fit(opened(folder))
    assert len(model.coreset_) == 500
    assert not model.exact_
    assert "Nystroem" in model.exact_.reason
    model.set_params(estimator=PCA(2)).fit(opened(folder))
    assert model.exact_
    assert not hasattr(model, "coreset_")


def test_of_a_tree_with_classes_all_classes_count(rows: pd.DataFrame) -> None:
    X = rows[["a", "b", "c", "d", "late"]]
    tree = CoresetTree(size=200, exact=True).build(Dataset.from_pandas(X, target="late"), client=TWO)
    model = CoresetTransformer(PCA(2), tree=tree).fit()
    assert model.estimator_[-1].n_samples_ == N
    assert model.feature_names_in_.tolist() == ["a", "b", "c", "d"]


# ---- trees, data, files ----------------------------------------------------------------------------------------


def test_the_target_of_a_dataset_is_left_out(folder: Path, tmp_path: Path) -> None:
    data = opened(folder, target="late", drop=[], categorical=["late"])
    model = CoresetClusterer(KMeans(3), tree=tmp_path / "t", cells=200, client=TWO).fit(data)
    assert "late" not in model.feature_names_in_
    assert model.tree_.recipe_.objectives == ("uniform",)
    again = CoresetClusterer(KMeans(3), tree=tmp_path / "t", client=TWO).fit(without_target(data), progress=None)
    assert again.tree_.name_ == model.tree_.name_
    assert without_target(without_target(data)).roles == without_target(data).roles
    assert data.roles.target == "late"


def test_a_tree_serves_classifiers_and_clusters(folder: Path, tmp_path: Path) -> None:
    data = opened(folder, target="late", drop=[])
    tree = CoresetTree(tmp_path / "t", size=600, cells=300)
    clusters = CoresetClusterer(KMeans(3), tree=tree, refine=1, client=TWO).fit(data)
    assert clusters.upper_ < clusters.exact_cost_
    assert len(CoresetClassifier(tree=tree, client=TWO).fit().coreset_) == 600
    plain = CoresetTree(tmp_path / "p", size=600)
    with pytest.raises(
        ConfigError, match=r"kd cells, which this tree does not carry.*CoresetTree\(\.\.\., cells=4000\)"
    ):
        CoresetClusterer(KMeans(3), tree=plain).fit(data)
    assert not (tmp_path / "p").exists()
    with pytest.raises(ConfigError, match="does not carry"):
        CoresetClusterer(KMeans(3), tree=plain.build(data, client=TWO)).fit()


def test_a_saved_model_knows_its_bounds(folder: Path, rows: pd.DataFrame, tmp_path: Path) -> None:
    models: list[Any] = [
        CoresetClusterer(KMeans(4), cells=200, refine=1, client=TWO),
        CoresetClusterer(BisectingKMeans(4), cells=200, client=TWO),
        CoresetClusterer(GaussianMixture(2, covariance_type="diag"), cells=200, client=TWO),
        CoresetClusterer(OneClassSVM(nu=0.1), size=200, client=TWO),
        CoresetTransformer(PCA(2), client=TWO),
    ]
    for i, model in enumerate(models):
        model.fit(opened(folder)).save(tmp_path / str(i), note=i)
        again = load_model(tmp_path / str(i))
        assert type(again) is type(model)
        method = "predict" if hasattr(model, "predict") else "transform"
        assert getattr(again, method)(rows).tobytes() == getattr(model, method)(rows).tobytes()
        for name in model._learned:
            assert getattr(again, name, "absent") == getattr(model, name, "absent")
        assert type(again.estimator_) is Pipeline
        if i % 2:
            continue
        assert predict(again, opened(folder), out=tmp_path / f"out{i}", client=TWO) == N
        found = pd.read_parquet(tmp_path / f"out{i}")
        assert len(found) == N
        assert found.shape[1] == {"predict": 1, "transform": 2}[method] + (2 if i == 2 else 0)
    with pytest.raises(ModelFileError, match="without pickle"):
        CoresetClusterer(Birch(n_clusters=3), size=200, client=TWO).fit(opened(folder)).save(tmp_path / "birch")


# ---- refusals --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (CoresetClusterer(DBSCAN()), "DBSCAN has no predict"),
        (CoresetClusterer(LocalOutlierFactor()), r"Use LocalOutlierFactor\(novelty=True\)"),
        (CoresetClusterer(KMeans(30), cells=20), "n_clusters=30 needs as many cells, but cells=20"),
        (CoresetClusterer(GaussianMixture(30), cells=20), "n_components=30 needs as many cells"),
        (CoresetClusterer(BisectingKMeans(3), refine=1), "BisectingKMeans does not predict by centres"),
        (CoresetClusterer(IsolationForest(), refine=2), "refine=2 moves the centres"),
        (CoresetClusterer(refine=-1), "refine=-1 must be"),
        (CoresetClusterer(refine=0.5), "refine=0.5 must be"),
        (CoresetClusterer(cells=0), "cells=0 must be"),
    ],
)
def test_what_cannot_work_is_refused_before_any_pass(
    model: Any, words: str, rows: pd.DataFrame, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=words):
        model.set_params(tree=tmp_path / "t").fit(rows)
    assert not (tmp_path / "t").exists()


def test_refusals_that_need_the_rows(tree: CoresetTree, rows: pd.DataFrame) -> None:
    with pytest.raises(ConfigError, match="n_clusters=50 needs as many cells, but there are 20 of 20 rows"):
        CoresetClusterer(KMeans(50), client=ONE).fit(rows.head(20))
    with pytest.raises(ConfigError, match="needs a built tree"):
        CoresetClusterer().fit()
    with pytest.raises(ConfigError, match=r"refine=1 reads all rows once more: call fit\(data\)"):
        CoresetClusterer(KMeans(3), tree=tree, refine=1).fit()
    with pytest.raises(ConfigError, match=r"cells=601 are more than the 600 .*CoresetTree\(\.\.\., cells=601\)"):
        CoresetClusterer(KMeans(3), tree=tree, cells=601).fit()
    fewer = CoresetClusterer(KMeans(3), tree=tree, cells=50).fit()
    assert len(fewer.cells_) == 50
    assert fewer.delta_ > CoresetClusterer(KMeans(3), tree=tree).fit().delta_
    with pytest.raises(SchemaError, match="needs 'kind', found no such column"):
        fewer.predict(rows[["a", "b", "c", "d"]])
    with pytest.raises(ConfigError, match="names its own"):
        CoresetClusterer().fit(Dataset.from_pandas(rows), sample_weight=rows["weight"])


def test_numbers_that_overflow_are_an_error_that_names_the_column(rows: pd.DataFrame) -> None:
    huge = rows[["a", "b"]].assign(vast=np.where(np.arange(N) % 2, 1e308, -1e308))
    with pytest.raises(DataError, match="vast"):
        CoresetClusterer(KMeans(3), client=ONE).fit(huge)
    far = rows[["a", "b"]].fillna(0) * 1e160
    with pytest.raises(DataError, match="overflow float64: scale"), np.errstate(over="ignore"):
        CoresetClusterer(KMeans(3), prepare={"scale": "none"}, client=ONE).fit(far)
