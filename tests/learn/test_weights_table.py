"""Who honours weights, measured: every estimator of scikit-learn that takes them, against a fit on repeated rows."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from sklearn.base import OutlierMixin, clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import TransformedTargetRegressor
from sklearn.ensemble import (
    HistGradientBoostingRegressor,
    IsolationForest,
    RandomForestClassifier,
    StackingClassifier,
    StackingRegressor,
    VotingClassifier,
    VotingRegressor,
)
from sklearn.linear_model import LinearRegression, LogisticRegression, LogisticRegressionCV, Ridge, SGDClassifier
from sklearn.model_selection import GridSearchCV
from sklearn.multioutput import RegressorChain
from sklearn.neighbors import KNeighborsRegressor
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC, SVR, NuSVC, NuSVR, OneClassSVM
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor
from sklearn.utils import all_estimators
from threadpoolctl import threadpool_limits

from coretree.errors import ConfigError
from coretree.learn.explain import CAVEATS, explain
from coretree.learn.fit import fit_weighted
from coretree.learn.models import sketch_for
from coretree.learn.weights import accepts_weights, treatment

# scikit-learn announces its own changes; which estimators it has left is not the matter here
pytestmark = [
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore:Stochastic Optimizer"),  # networks are stopped after a few steps
    pytest.mark.filterwarnings("ignore:lbfgs failed to converge"),
]

FloatArray = npt.NDArray[np.float64]
N = 120
SAME = 1e-5  # largest difference of two predictions, in standard deviations of the predictions
# a power of two, so that no sum of weights is rounded differently and no tie of two splits breaks differently
SCALE = 64.0


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Small fits: more threads would only wait for one another."""
    with threadpool_limits(1):
        yield


def data(n: int = N) -> tuple[FloatArray, dict[str, FloatArray], FloatArray, npt.NDArray[np.int64]]:
    """Positive features, a target for each kind of estimator, rows to predict, and whole weights."""
    rng = np.random.default_rng(7)
    X, T = rng.gamma(3.0, 1.0, (n, 3)), rng.gamma(3.0, 1.0, (100, 3))
    eta = X @ [1.0, -1.0, 0.5] - 1
    classes = (eta + rng.logistic(size=n) > np.median(eta)).astype(float)
    return (
        X,
        {"classifier": classes, "regressor": np.exp(0.3 * eta + 0.3 * rng.normal(size=n))},
        T,
        rng.integers(1, 5, n),
    )


X, TARGETS, T, COUNTS = data()
REPEATS = np.repeat(np.arange(N), COUNTS)
ROWS = np.arange(N)
WEIGHTS = COUNTS.astype(float)

# Members that are converged to the last digits, for estimators that cannot do without any.
LOGISTIC = LogisticRegression(tol=1e-10, max_iter=10_000)
MEMBERS: dict[str, Any] = {
    "VotingClassifier": (("a", LOGISTIC), ("b", LogisticRegression(C=0.1))),
    "StackingClassifier": (("a", LOGISTIC), ("b", LogisticRegression(C=0.1))),
    "VotingRegressor": (("a", Ridge()), ("b", Ridge(10.0))),
    "StackingRegressor": (("a", Ridge()), ("b", Ridge(10.0))),
    **dict.fromkeys(
        ["ClassifierChain", "FixedThresholdClassifier", "MultiOutputClassifier", "OneVsOneClassifier"], LOGISTIC
    ),
    **dict.fromkeys(
        ["OneVsRestClassifier", "OutputCodeClassifier", "SelfTrainingClassifier", "TunedThresholdClassifierCV"],
        LOGISTIC,
    ),
    **dict.fromkeys(["MultiOutputRegressor", "RegressorChain"], Ridge()),
}
TWO_TARGETS = ("MultiOutput", "MultiTask", "ClassifierChain", "RegressorChain")
STEPWISE = {"SGDClassifier", "SGDRegressor", "SGDOneClassSVM", "Perceptron", "MLPClassifier", "MLPRegressor"}

# Estimators for which a weight is no exact repeat, and why. Each is checked to be one.
NO_REPEATS: dict[str, str] = {
    **dict.fromkeys(STEPWISE, "a repeated row takes more steps, a heavy row longer ones"),
    **dict.fromkeys(
        ["BaggingClassifier", "BaggingRegressor", "RandomForestClassifier", "RandomForestRegressor"], "draws rows"
    ),
    "AdaBoostRegressor": "draws rows by weight for each stage",
    "IsolationForest": "draws rows by weight for each tree",
    "MiniBatchKMeans": "draws batches of rows",
    "RANSACRegressor": "draws subsets of rows",
}
# Weights as repeats hold, the scale is noticed, and yet they are given with mean 1.
MEAN_ONE_ANYWAY = {"OneClassSVM": "its predictions do not change, and libsvm's tolerance is absolute"}
# What keeps equal fits from comparing equal: penalties that are on, trees without ties, kernels of fixed width.
SETTINGS: dict[str, dict[str, Any]] = {
    "HistGradientBoosting": {"min_samples_leaf": 1, "l2_regularization": 1.0, "max_iter": 5, "early_stopping": False},
    "MLP": {"batch_size": 32, "max_iter": 5, "tol": 0.0},
    "IsotonicRegression": {"out_of_bounds": "clip"},
    "QuantileRegressor": {"alpha": 1e-3},
    "RegressorChain": {"cv": None},  # cross-validated predictions inside it would not be weighted
    "LinearSVR": {"loss": "squared_epsilon_insensitive", "dual": False},
    "LogisticRegressionCV": {"Cs": 3},
    "IsolationForest": {"max_samples": 40},
    "KMeans": {"n_clusters": 3, "n_init": 1, "init": X[:3]},
    "BisectingKMeans": {"n_clusters": 2, "init": lambda x, k, random_state: x[[x[:, 0].argmin(), x[:, 0].argmax()]]},
    "DBSCAN": {"eps": 0.8, "min_samples": 6},
    "GammaRegressor": {"solver": "newton-cholesky"},
    "PoissonRegressor": {"solver": "newton-cholesky"},
    "TweedieRegressor": {"solver": "newton-cholesky"},
    "Perceptron": {"max_iter": 20, "tol": None},
    "SGD": {"max_iter": 20, "tol": None},
}


@dataclass(frozen=True)
class Case:
    """One estimator class, with the kind of target that it needs."""

    name: str
    kind: str
    make: Callable[[], Any]

    def estimator(self, rows: npt.NDArray[np.intp] = ROWS) -> Any:
        """Unfitted, converging to the last digits; folds keep the repeats of a row together."""
        found = self.make()
        own = found.get_params(deep=False)
        set_to: dict[str, Any] = {}
        for part, values in SETTINGS.items():
            if self.name.startswith(part):
                set_to |= values
        defaults = {"random_state": 0, "max_depth": 2, "n_estimators": 3, "n_jobs": 1}
        defaults["min_weight_fraction_leaf"] = 0.05  # a leaf of one row can be cut off by several features: a tie
        if own.get("max_iter") == -1:  # libsvm
            defaults |= {"gamma": 0.3, "tol": 1e-8}
        elif self.name not in STEPWISE:
            defaults |= {"tol": 1e-10, "max_iter": 20_000}
        defaults["cv"] = [(np.flatnonzero(rows % 3 != k), np.flatnonzero(rows % 3 == k)) for k in range(3)]
        return found.set_params(**{k: v for k, v in defaults.items() if k in own} | set_to)

    def fit(self, rows: npt.NDArray[np.intp], weights: FloatArray | None) -> Any:
        """Fit on some rows."""
        y = TARGETS.get(self.kind)
        if y is not None and self.name.startswith(TWO_TARGETS):
            y = np.column_stack([y, y])
        given = {} if weights is None else {"sample_weight": weights}
        x = self.inputs(X)[rows]
        return self.estimator(rows).fit(x, **given) if y is None else self.estimator(rows).fit(x, y[rows], **given)

    def inputs(self, x: FloatArray) -> FloatArray:
        """Features in the form that this estimator takes."""
        if self.name == "IsotonicRegression":
            return x[:, 0]
        return np.minimum(np.floor(x), 5) if self.name == "CategoricalNB" else x

    def output(self, model: Any, rows: npt.NDArray[np.intp]) -> FloatArray:
        """What the model says of fresh rows, as an array that two equal models share."""
        if self.kind == "cluster":
            labels = (
                model.predict(T) if hasattr(model, "predict") else model.labels_[np.unique(rows, return_index=True)[1]]
            )
            return (labels[:, None] == labels[None, :]).astype(float)
        x = self.inputs(T)
        for method in ("predict_proba", "decision_function", "predict"):
            if hasattr(model, method):
                found = getattr(model, method)(x)
                return np.hstack(found) if isinstance(found, list) else np.asarray(found, dtype=float)
        raise AssertionError(f"{self.name} predicts nothing")

    def predicted(self, rows: npt.NDArray[np.intp], weights: FloatArray | None) -> FloatArray:
        return self.output(self.fit(rows, weights), rows)


def distance(a: FloatArray, b: FloatArray) -> float:
    return float(np.abs(a - b).max() / max(a.std(), 1e-3 * np.abs(a).max()))


def cases() -> list[Case]:
    found: dict[str, Case] = {}
    for kind in ("classifier", "regressor", "cluster", None):
        for name, cls in all_estimators(type_filter=kind):
            if name in found or (kind is None and not issubclass(cls, OutlierMixin)):
                continue
            member = MEMBERS.get(name)
            make = cls if member is None else (lambda cls=cls, member=member: cls(clone_all(member)))
            found[name] = Case(name, kind or "outlier", make)
    return list(found.values())


def clone_all(member: Any) -> Any:
    return [(k, clone(m)) for k, m in member] if isinstance(member, tuple) else clone(member)


with warnings.catch_warnings():
    warnings.simplefilter("ignore", FutureWarning)
    CASES = cases()
    TAKERS = [case for case in CASES if accepts_weights(case.estimator())]
OTHERS = [case for case in CASES if case not in TAKERS]


def named(group: list[Case]) -> Any:
    return pytest.mark.parametrize("case", group, ids=[case.name for case in group])


@named(TAKERS)
def test_estimators_that_take_weights(case: Case) -> None:
    """The form of the weights is the one under which the fit is that of the repeated rows, if there is any."""
    form = treatment(case.estimator()).kind
    by_weight = case.predicted(ROWS, WEIGHTS)
    repeats = distance(by_weight, case.predicted(REPEATS, None)) < SAME
    scale_matters = distance(by_weight, case.predicted(ROWS, SCALE * WEIGHTS)) > SAME
    assert distance(by_weight, case.predicted(ROWS, None)) > SAME, "weights change nothing at all"
    assert repeats == (case.name not in NO_REPEATS), NO_REPEATS.get(case.name, "a row of weight 3 is not three rows")
    if form == "unweighted_prior_shift":
        assert sketch_for(case.estimator()) == "balanced"
    elif not repeats:
        assert form == "mean1" or not scale_matters
        assert scale_matters == (case.name in STEPWISE)
    elif scale_matters:
        assert form == ("mean1" if case.name in MEAN_ONE_ANYWAY else "sum")
    assert explain(case.estimator())


@named(OTHERS)
def test_estimators_that_take_none(case: Case) -> None:
    """They refuse weights, or name no parameter for them: nothing that is called "none" would have honoured them."""
    assert treatment(case.estimator()).kind == "none"
    assert "takes no weights" in explain(case.estimator())
    with pytest.raises((TypeError, ValueError, AttributeError), match=r"sample_weight|keyword|metadata|param"):
        case.fit(ROWS, WEIGHTS)


def test_the_table_is_about_estimators_that_exist() -> None:
    takers = {case.name for case in TAKERS}
    assert set(NO_REPEATS) | set(MEAN_ONE_ANYWAY) <= takers
    assert len(takers) > 60
    assert {name for name in CAVEATS if not name.startswith("LGBM")} <= takers
    assert set(NO_REPEATS) <= set(CAVEATS)
    assert not [name for name in SETTINGS if not any(t.startswith(name) for t in takers)]


def test_a_wrong_form_would_be_noticed() -> None:
    """Negative control: with weights of mean 1, a penalised fit is not the one on all rows."""
    ridge = Case("Ridge", "regressor", Ridge)
    full = ridge.predicted(REPEATS, None)
    assert distance(ridge.predicted(ROWS, WEIGHTS), full) < 1e-12
    assert distance(ridge.predicted(ROWS, WEIGHTS / WEIGHTS.mean()), full) > 1e-3


def test_one_class_svm_predicts_as_on_all_rows() -> None:
    case = Case("OneClassSVM", "outlier", OneClassSVM)
    full, even = case.fit(REPEATS, None), case.fit(ROWS, WEIGHTS / WEIGHTS.mean())
    np.testing.assert_allclose(even.decision_function(T) * WEIGHTS.mean(), full.decision_function(T), atol=1e-4)
    assert (even.predict(T) == full.predict(T)).mean() > 0.98


CAVEAT_CASES: list[tuple[str, Any]] = [
    ("HistGradientBoostingRegressor", lambda: HistGradientBoostingRegressor(max_iter=5, early_stopping=False)),
    ("LogisticRegressionCV", lambda: LogisticRegressionCV(Cs=[0.1], cv=3)),
    ("CalibratedClassifierCV", lambda: CalibratedClassifierCV(LOGISTIC, cv=3)),
    ("SVC", SVC),
    ("SVR", SVR),
    ("NuSVC", NuSVC),
    ("NuSVR", NuSVR),
    ("OneClassSVM", OneClassSVM),
]


def plain(make: Callable[[], Any], rows: npt.NDArray[np.intp], weights: FloatArray | None) -> FloatArray:
    """Predictions of an estimator as its defaults make it."""
    estimator = make()
    y = TARGETS[
        "regressor"
        if "Regress" in type(estimator).__name__ or type(estimator).__name__.endswith("SVR")
        else "classifier"
    ]
    model = estimator.fit(X[rows], y[rows], sample_weight=weights)
    method = next(m for m in ("predict_proba", "decision_function", "predict") if hasattr(model, m))
    return np.asarray(getattr(model, method)(T))


@pytest.mark.parametrize(("name", "make"), CAVEAT_CASES, ids=[name for name, _ in CAVEAT_CASES])
def test_caveats_are_real(name: str, make: Callable[[], Any]) -> None:
    """With its defaults each of them differs from the fit on repeated rows, as the explanation warns."""
    assert CAVEATS[name] in explain(make())
    if name != "LogisticRegressionCV":  # with one candidate its folds choose nothing
        assert distance(plain(make, ROWS, WEIGHTS), plain(make, REPEATS, None)) > SAME


def test_an_isolation_forest_on_all_rows_is_told_nothing() -> None:
    one = IsolationForest(n_estimators=5, max_samples=N, random_state=0)
    np.testing.assert_array_equal(
        clone(one).fit(X).score_samples(T), clone(one).fit(X, sample_weight=WEIGHTS).score_samples(T)
    )


@pytest.mark.parametrize("make", [MLPClassifier, MLPRegressor])
def test_a_network_fitted_in_one_batch_takes_weights_as_repeats(make: Any) -> None:
    network = make(hidden_layer_sizes=(4,), solver="lbfgs", alpha=0.1, max_iter=15, tol=0.0, random_state=0)
    assert treatment(network).kind == "sum"
    y = TARGETS["classifier"]
    method = "predict_proba" if make is MLPClassifier else "predict"

    def predicted(rows: npt.NDArray[np.intp], weights: FloatArray | None) -> FloatArray:
        model = clone(network).fit(X[rows], y[rows], sample_weight=weights)
        return np.asarray(getattr(model, method)(T))

    full = predicted(REPEATS, None)
    assert distance(predicted(ROWS, WEIGHTS), full) < SAME
    assert distance(predicted(ROWS, WEIGHTS / WEIGHTS.mean()), full) > 1e-3


TREES = [("a", DecisionTreeClassifier(max_depth=2)), ("b", RandomForestClassifier(3, max_depth=2))]
COMPOSED: list[tuple[Any, str]] = [
    (VotingClassifier([("a", LOGISTIC), ("b", SGDClassifier())]), "mean1"),
    (VotingClassifier([("a", LOGISTIC), ("b", RandomForestClassifier())]), "sum"),
    (VotingClassifier(TREES, voting="soft"), "unweighted_prior_shift"),
    (VotingClassifier(TREES, voting="hard"), "sum"),
    (StackingClassifier(TREES), "unweighted_prior_shift"),
    (VotingRegressor([("a", Ridge()), ("b", DecisionTreeRegressor())]), "sum"),
    (StackingRegressor([("a", Ridge())]), "sum"),
    (StackingRegressor([("a", Ridge()), ("b", KNeighborsRegressor())]), "none"),
    (StackingRegressor([("a", Ridge())], final_estimator=KNeighborsRegressor()), "none"),
    (VotingRegressor([("a", make_pipeline(StandardScaler(), Ridge()))]), "none"),
    (TransformedTargetRegressor(), "sum"),
    (TransformedTargetRegressor(Ridge(), func=np.log, inverse_func=np.exp), "sum"),
    (TransformedTargetRegressor(KNeighborsRegressor()), "none"),
    (RegressorChain(KNeighborsRegressor()), "none"),
    (GridSearchCV(VotingClassifier([("a", SGDClassifier())]), {}), "mean1"),
    (CalibratedClassifierCV(SGDClassifier()), "mean1"),
]


@pytest.mark.parametrize(("estimator", "kind"), COMPOSED, ids=lambda v: v if isinstance(v, str) else type(v).__name__)
def test_votes_stacks_and_transformed_targets(estimator: Any, kind: str) -> None:
    """What is said of them is what happens: weights reach every member, or the fit is refused."""
    assert treatment(estimator).kind == kind
    y = TARGETS["regressor" if "Regressor" in type(estimator).__name__ else "classifier"]
    if kind == "none":
        with pytest.raises(ConfigError, match="takes no sample_weight"):
            fit_weighted(estimator, X, y, weights=WEIGHTS)
        return
    model = fit_weighted(estimator, X, y, weights=WEIGHTS)
    assert model.predict(T).shape == (100,)
    if kind == "unweighted_prior_shift":
        assert model.predict_proba(T).shape == (100, 2)


def test_a_vote_of_linear_models_is_the_one_on_all_rows() -> None:
    for estimator in (
        VotingRegressor([("a", Ridge()), ("b", LinearRegression())]),
        TransformedTargetRegressor(Ridge()),
    ):
        y = TARGETS["regressor"]
        full = clone(estimator).fit(X[REPEATS], y[REPEATS]).predict(T)
        np.testing.assert_allclose(fit_weighted(estimator, X, y, weights=WEIGHTS).predict(T), full, rtol=1e-9)
        assert distance(full, clone(estimator).fit(X, y).predict(T)) > 1e-3  # negative control: no weights


def test_explanations_read_as_sentences() -> None:
    text = explain(LogisticRegression())
    assert text.startswith("LogisticRegression is fitted on the robust sketch (")
    assert "a row of weight 3 counts as three equal rows" in text
    assert "Mind that" not in text
    assert "PriorShift restores the real class shares" in explain(RandomForestClassifier())
    assert "Mind that RandomForestClassifier: its bootstrap" in explain(GridSearchCV(RandomForestClassifier(), {}))
    with pytest.raises(ConfigError, match=r"type explain\(Ridge\(\)\)"):
        explain(Ridge)
    with pytest.raises(ConfigError, match="has no fit"):
        explain(3)
