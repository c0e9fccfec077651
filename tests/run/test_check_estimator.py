"""scikit-learn's own checks of an estimator, on rows in memory; and what they do not look at."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from sklearn.base import clone
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.exceptions import DataConversionWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

from coretree import CoresetClassifier, CoresetRegressor, ThreadExecutor
from coretree.errors import ConfigError, SchemaError
from coretree.run.clusterer import CoresetClusterer
from coretree.run.transformer import CoresetTransformer

ONE = ThreadExecutor(1)
WEIGHTS = "check_sample_weight_equivalence_on_dense_data"
MODELS = {
    "classifier": (CoresetClassifier(), {}),
    "regressor": (CoresetRegressor(), {}),
    # scikit-learn expects the same of its own KMeans
    "clusterer": (CoresetClusterer(KMeans(3)), {WEIGHTS: "random starts number the clusters by the order of rows"}),
    "transformer": (CoresetTransformer(PCA(2)), {}),
}


@pytest.mark.filterwarnings("ignore")  # data of 15 rows are no data, and every warning says so
@pytest.mark.parametrize(
    "name",
    # nine seconds each; the other two share most of the code of these
    ["classifier", "clusterer", *(pytest.param(name, marks=pytest.mark.slow) for name in ("regressor", "transformer"))],
)
def test_scikit_learn_finds_nothing(name: str) -> None:
    model, expected = MODELS[name]
    found = check_estimator(model, expected_failed_checks=expected, on_fail=None, on_skip=None)
    failed = [f"{row['check_name']}: {row['exception']}" for row in found if row["status"] == "failed"]
    assert not failed, "\n".join(failed)
    assert {row["check_name"] for row in found if row["status"] == "xfail"} == set(expected)
    assert {row["check_name"] for row in found if row["status"] == "skipped"} <= {"check_array_api_input"}
    assert len(found) > 45


class Forgetful(CoresetRegressor):
    """What the checks must find: answers that depend on how many rows are asked for."""

    def predict(self, X: Any) -> Any:
        return super().predict(X) + len(np.asarray(X))


@pytest.mark.filterwarnings("ignore")
def test_the_checks_can_fail() -> None:
    from sklearn.utils.estimator_checks import check_methods_subset_invariance

    with pytest.raises(AssertionError):
        check_methods_subset_invariance("Forgetful", Forgetful())


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(400, 3)), columns=["a", "b", "c"])
    return frame.assign(kind=rng.choice(["x", "y"], 400), y=(frame["a"] + rng.logistic(size=400) > 0).astype(int))


def test_lists_tuples_arrays_and_numbered_frames_are_the_same_table(rows: pd.DataFrame) -> None:
    X, y = rows[["a", "b", "c"]].to_numpy(), rows["y"]
    numbered = pd.DataFrame(X)  # columns 0, 1, 2
    forms = [X, X.tolist(), tuple(map(tuple, X)), numbered, np.asfortranarray(X), X.astype(object)]
    models = [CoresetClassifier(size=300, client=ONE).fit(form, y) for form in forms]
    want = models[0].predict_proba(X)
    for model, form in zip(models, forms, strict=True):
        assert model.feature_names_in_.tolist() == ["x0", "x1", "x2"]
        assert np.array_equal(model.predict_proba(form), want)


def test_text_in_an_array_of_objects_is_a_category(rows: pd.DataFrame) -> None:
    X = rows[["a", "kind"]].to_numpy()
    assert X.dtype == object
    model = CoresetClassifier(size=300, client=ONE).fit(X, rows["y"])
    assert [f.kind for f in model.schema_.features] == ["numeric", "categorical"]
    assert model.predict(X).shape == (400,)


@pytest.mark.parametrize("make", [sp.csr_matrix, sp.coo_array, pd.DataFrame], ids=lambda make: make.__name__)
def test_sparse_rows_are_refused_in_words(rows: pd.DataFrame, make: Any) -> None:
    X: Any = make(rows[["a", "b", "c"]].to_numpy())
    if isinstance(X, pd.DataFrame):
        X = X.astype(pd.SparseDtype("float64"))
    for model in (CoresetClassifier(), CoresetRegressor(), CoresetClusterer(), CoresetTransformer()):
        with pytest.raises(ConfigError, match=r"sparse input is not supported.*toarray"):
            model.fit(X, rows["y"])
    fitted = CoresetClassifier(size=300, client=ONE).fit(rows[["a", "b", "c"]], rows["y"])
    with pytest.raises(ConfigError, match="sparse"):
        fitted.predict(X)


def test_what_is_no_table_is_refused_in_words(rows: pd.DataFrame) -> None:
    X, y = rows[["a", "b"]], rows["y"]
    bad: list[tuple[Any, Any, Any, str]] = [
        (X, y[:-1], None, "400 rows of X, found 399"),
        (X, y, np.zeros(400), "every weight is zero"),
        (X, y, np.ones(399), "for each of the 400 rows"),
        (X, np.column_stack([y, y]), None, "1d array"),
        (X.iloc[:1], y[:1], None, "at least 2 rows to learn from, found n_samples = 1"),
        (X.astype(complex), y, None, "Complex data not supported: column 'a'"),
        (X.to_numpy().astype(complex), y, None, "Complex data not supported"),
        (X.iloc[:, :0], y, None, "0 feature"),
    ]
    for X_, y_, w, words in bad:
        with pytest.raises(ConfigError, match=words):
            CoresetClassifier(client=ONE).fit(X_, y_, w)
    with pytest.warns(DataConversionWarning, match="1d array was expected"):
        CoresetClassifier(size=300, client=ONE).fit(X, y.to_numpy()[:, None])


def test_columns_that_do_not_match_are_named(rows: pd.DataFrame) -> None:
    model = CoresetClassifier(size=300, client=ONE).fit(rows[["a", "b", "c"]], rows["y"])
    with pytest.raises(SchemaError, match=r"needs 'a', found no such column. It has 'A', 'kind', 'y'"):
        model.predict(rows.rename(columns={"a": "A"}))
    with pytest.raises(ConfigError, match=r"X has 2 features, but CoresetClassifier is expecting 3 .*'a', 'b', 'c'"):
        model.predict(rows[["a", "b"]].to_numpy())
    with pytest.raises(ConfigError, match=r"X.reshape\(1, -1\)"):
        model.predict(np.zeros(3))
    shuffled = rows[["c", "kind", "a", "b"]]
    assert np.array_equal(model.predict(shuffled), model.predict(rows[["a", "b", "c"]].to_numpy()))


def test_inside_scikit_learn(rows: pd.DataFrame) -> None:
    X, y = rows[["a", "b", "c"]], rows["y"]
    scores = cross_val_score(CoresetClassifier(size=300, client=ONE), X, y, cv=3)
    assert scores.min() > 0.55
    search = GridSearchCV(
        CoresetClassifier(LogisticRegression(), size=300, client=ONE), {"estimator__C": [0.1, 1]}, cv=2
    )
    assert search.fit(X, y).best_estimator_.estimator_[-1].C in (0.1, 1)
    piped = make_pipeline(StandardScaler(), CoresetTransformer(PCA(2), client=ONE), LogisticRegression()).fit(X, y)
    assert piped.score(X, y) > 0.55
    assert "CoresetTransformer" in piped._repr_html_()
    assert clone(piped).get_params()["coresettransformer__estimator__n_components"] == 2


def test_output_comes_as_a_frame_when_asked_for(rows: pd.DataFrame) -> None:
    X = rows[["a", "b", "kind"]]
    model = CoresetTransformer(PCA(2), client=ONE).set_output(transform="pandas")
    out = model.fit_transform(X.set_axis(range(1000, 1400)))
    assert out.columns.tolist() == model.get_feature_names_out().tolist() == ["pca0", "pca1"]
    assert out.index.tolist() == list(range(1000, 1400))
    plain = CoresetTransformer(PCA(2), client=ONE).fit(X).transform(X)
    assert isinstance(plain, np.ndarray)
    assert np.array_equal(out.to_numpy(), plain)
