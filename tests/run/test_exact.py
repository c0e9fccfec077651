"""Where moments determine a model, the one fitted on a tree is the one fitted on all the rows."""

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis, QuadraticDiscriminantAnalysis
from sklearn.linear_model import ElasticNet, HuberRegressor, Lasso, LinearRegression, LogisticRegression, Ridge
from sklearn.naive_bayes import GaussianNB

import coretree as ct

N = 8000
pytestmark = pytest.mark.filterwarnings("ignore::coretree.errors.CoretreeWarning")


@pytest.fixture(scope="module")
def rows():
    """Numbers with a mean of 1e6, a collinear and a constant column, gaps, and a category."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(N, 4)), columns=list("abcd"))
    frame["a"] += 1e6
    frame["sum"] = 2 * frame["b"] + frame["c"]
    frame["constant"] = 3.0
    frame["k"] = rng.choice(["x", "y", "z"], N)
    frame["y"] = 2 * frame["b"] - frame["c"] + (frame["k"] == "x") + rng.standard_t(3, N)
    frame.loc[::9, "d"] = np.nan
    return frame


def in_files(rows, folder, files, target):
    folder.mkdir()
    for i, part in enumerate(np.array_split(np.arange(N), files)):
        rows.iloc[part].to_parquet(folder / f"part-{i:03d}.parquet", index=False)
    return ct.Dataset.from_parquet(folder, target=target, drop=["label" if target == "y" else "y"])


@pytest.mark.parametrize("files", [1, 13])
@pytest.mark.parametrize("estimator", [LinearRegression(), Ridge(3.0), Lasso(0.01), ElasticNet(0.02)], ids=repr)
def test_least_squares_is_that_of_all_rows_however_they_are_divided(rows, tmp_path, files, estimator):
    data = in_files(rows.assign(label=0), tmp_path / "data", files, "y")
    model = ct.CoresetRegressor(estimator, tree=ct.CoresetTree(size=200)).fit(data)
    assert model.exact_
    X = model.estimator_[:-1].transform(rows)
    full = clone(estimator).fit(X, rows["y"])
    np.testing.assert_allclose(model.predict(rows), full.predict(X), rtol=0, atol=1e-7)
    sampled = ct.CoresetRegressor(estimator, tree=model.tree_, objective="uniform").fit()
    assert not sampled.exact_
    assert np.abs(sampled.predict(rows) - full.predict(X)).max() > 1e-3


@pytest.mark.parametrize(
    "estimator", [GaussianNB(), LinearDiscriminantAnalysis(), QuadraticDiscriminantAnalysis(reg_param=0.1)], ids=repr
)
def test_classifiers_of_moments_are_exact_when_the_tree_carries_them(rows, tmp_path, estimator):
    label = np.where(rows["y"] > 1, "high", np.where(rows["y"] < -1, "low", "middle"))
    data = in_files(rows.assign(label=label), tmp_path / "data", 5, "label")
    model = ct.CoresetClassifier(estimator, tree=ct.CoresetTree(size=300, exact=True)).fit(data)
    assert model.exact_
    X = model.estimator_[:-1].transform(rows)
    full = clone(estimator).fit(X, label)
    np.testing.assert_allclose(model.predict_proba(rows), full.predict_proba(X), rtol=0, atol=1e-7)
    plain = ct.CoresetTree(size=300).build(data)
    assert not plain.root_.moments
    assert not ct.CoresetClassifier(LogisticRegression(), tree=model.tree_).fit().exact_


def test_why_a_model_is_not_exact_is_said(rows, tmp_path):
    data = in_files(rows.assign(label=0), tmp_path / "data", 2, "y")
    tree = ct.CoresetTree(tmp_path / "tree", size=500).build(data)
    model = ct.CoresetRegressor(HuberRegressor(max_iter=1000), tree=tree).fit()
    assert "loss" in model.exact_.reason
    without = ct.CoresetTree(tmp_path / "other", size=500, exact=False).build(data)
    assert "exact=True" in ct.CoresetRegressor(Ridge(), tree=without).fit().exact_.reason
    assert ct.CoresetTree.open(tmp_path / "other").settings == without.settings
