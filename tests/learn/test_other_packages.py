"""Estimators of other packages through the same door: what they do with weights, measured where they are installed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from sklearn.base import clone
from sklearn.metrics import log_loss

from coretree.errors import ConfigError
from coretree.learn.explain import explain
from coretree.learn.fit import fit_weighted
from coretree.learn.models import sketch_for
from coretree.learn.prior_shift import PriorShift
from coretree.learn.weights import accepts_weights, treatment

FloatArray = npt.NDArray[np.float64]
N = 150
RNG = np.random.default_rng(0)
X, T = RNG.gamma(3.0, 1.0, (N, 3)), RNG.gamma(3.0, 1.0, (200, 3))
SIGNAL = X @ [1.0, -1.0, 0.5]
CLASSES = (SIGNAL + RNG.logistic(size=N) > np.median(SIGNAL)).astype(np.int64)
QUANTITY = np.exp(0.3 * SIGNAL + 0.3 * RNG.normal(size=N))
COUNTS = RNG.integers(1, 5, N)
WEIGHTS, REPEATS = COUNTS.astype(float), np.repeat(np.arange(N), COUNTS)
# LightGBM gives columns names of its own and then misses them in an array
UNNAMED = pytest.mark.filterwarnings("ignore:X does not have valid feature names")


def xgboost(kind: str, **options: Any) -> Any:
    package = pytest.importorskip("xgboost")
    return getattr(package, f"XGB{kind}")(n_estimators=8, max_depth=3, n_jobs=1, **options)


def lightgbm(kind: str, **options: Any) -> Any:
    package = pytest.importorskip("lightgbm")
    return getattr(package, f"LGBM{kind}")(n_estimators=8, max_depth=3, n_jobs=1, verbose=-1, **options)


def catboost(kind: str, **options: Any) -> Any:
    package = pytest.importorskip("catboost")
    quiet = {"verbose": 0, "allow_writing_files": False, "thread_count": 1}
    return getattr(package, f"CatBoost{kind}")(iterations=8, depth=3, learning_rate=0.3, **quiet, **options)


BOOSTING = pytest.mark.parametrize("make", [xgboost, lightgbm, catboost], ids=lambda f: f.__name__)
# LightGBM's defaults count rows in leaves and histograms, which is its caveat and not its use of weights; leaves by
# mass, as one row alone can be cut off by several features: a tie
BY_WEIGHT: list[tuple[Callable[..., Any], dict[str, Any]]] = [
    (xgboost, {}),
    (lightgbm, {"min_child_samples": 1, "min_data_in_bin": 1, "reg_lambda": 1.0, "min_child_weight": 4.0}),
]


def predicted(estimator: Any, rows: npt.NDArray[np.intp], weights: FloatArray | None) -> FloatArray:
    target = CLASSES if hasattr(estimator, "predict_proba") else QUANTITY
    model = clone(estimator).fit(X[rows], target[rows], sample_weight=weights)
    return np.asarray(
        model.predict_proba(T)[:, 1] if hasattr(model, "predict_proba") else model.predict(T), dtype=float
    )


def distance(a: FloatArray, b: FloatArray) -> float:
    return float(np.abs(a - b).max() / a.std())


@UNNAMED
@pytest.mark.parametrize("kind", ["Classifier", "Regressor"])
@pytest.mark.parametrize(("make", "options"), BY_WEIGHT, ids=lambda v: getattr(v, "__name__", ""))
def test_weights_are_repeats_and_penalties_notice_their_scale(make: Any, options: dict[str, Any], kind: str) -> None:
    """So regressors get weights that sum to the rows, as their treatment says."""
    estimator = make(kind, **options)
    rows = np.arange(N)
    full = predicted(estimator, REPEATS, None)
    assert distance(full, predicted(estimator, rows, WEIGHTS)) < 5e-3  # gradients are float32
    assert distance(full, predicted(estimator, rows, WEIGHTS / WEIGHTS.mean())) > 5e-2
    assert distance(full, predicted(estimator, rows, None)) > 1e-2
    assert treatment(estimator).kind == ("sum" if kind == "Regressor" else "unweighted_prior_shift")


@UNNAMED
def test_lightgbm_counts_rows_by_default_as_its_caveat_says() -> None:
    model = lightgbm("Regressor")
    assert distance(predicted(model, REPEATS, None), predicted(model, np.arange(N), WEIGHTS)) > 1e-2
    assert "Mind that LGBMRegressor: min_child_samples" in explain(model)


def test_catboost_does_not_notice_the_scale_of_weights() -> None:
    """It divides its penalty by their mean, so that either form is the same."""
    model = catboost("Regressor", boosting_type="Plain", bootstrap_type="No", random_strength=0, l2_leaf_reg=30.0)
    rows = np.arange(N)
    assert distance(predicted(model, rows, WEIGHTS), predicted(model, rows, 64 * WEIGHTS)) < 1e-6
    assert distance(predicted(model, rows, WEIGHTS), predicted(model, rows, None)) > 1e-2
    assert treatment(model).kind == "sum"


@UNNAMED
@BOOSTING
def test_a_regressor_is_fitted_from_the_uniform_sketch(make: Any) -> None:
    model = make("Regressor")
    assert accepts_weights(model)
    assert sketch_for(model) == "uniform"
    fitted = fit_weighted(model, X, QUANTITY, weights=np.full(N, 40.0))
    assert type(fitted) is type(model)
    error = np.mean((fitted.predict(X) - QUANTITY) ** 2)
    assert error < 0.7 * QUANTITY.var()
    assert "leaf penalty" in explain(model)


@UNNAMED
@BOOSTING
def test_a_classifier_is_fitted_balanced_and_shifted_back(make: Any) -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(size=(6000, 3))
    y = (rng.random(6000) < 1 / (1 + np.exp(4.5 - 2 * x[:, 0]))).astype(int)
    sample = np.concatenate([np.flatnonzero(y == c)[:200] for c in (0, 1)])
    share = np.array([(y == c).sum() / (y[sample] == c).sum() for c in (0, 1)])
    model = fit_weighted(make("Classifier"), x[sample], y[sample], weights=share[y[sample]])
    assert isinstance(model, PriorShift)
    assert sketch_for(make("Classifier")) == "balanced"
    chances = model.predict_proba(x)[:, 1]
    assert chances.mean() == pytest.approx(y.mean(), rel=0.35)
    assert log_loss(y, chances) < 0.85 * log_loss(y, np.full(6000, y.mean()))
    raw = model.estimator_.predict_proba(x)[:, 1]
    assert raw.mean() > 2 * y.mean()  # negative control: without the shift


@UNNAMED
@BOOSTING
def test_labels_of_text_come_back(make: Any) -> None:
    """XGBoost itself takes codes from 0 only."""
    labels = np.array(["no", "yes"])[CLASSES]
    model = fit_weighted(make("Classifier"), X, labels, weights=np.full(N, 2.0))
    assert model.classes_.tolist() == ["no", "yes"]
    assert (np.asarray(model.predict(X)).ravel() == labels).mean() > 0.7
    codes = fit_weighted(make("Classifier"), X, CLASSES, weights=np.full(N, 2.0))
    np.testing.assert_allclose(model.predict_proba(X), codes.predict_proba(X), atol=1e-6)


def test_a_torch_network_in_skorch_takes_no_weights_and_says_so() -> None:
    skorch, torch = pytest.importorskip("skorch"), pytest.importorskip("torch")
    torch.manual_seed(0)
    network = skorch.NeuralNetRegressor(
        torch.nn.Linear, module__in_features=3, module__out_features=1, max_epochs=2, verbose=0, train_split=None
    )
    inputs, target = X.astype(np.float32), QUANTITY[:, None].astype(np.float32)
    assert treatment(network).kind == "none"
    assert sketch_for(network) == "uniform"
    assert "takes no weights" in explain(network)
    assert fit_weighted(network, inputs, target, weights=np.full(N, 40.0)).predict(inputs).shape == (N, 1)
    with pytest.raises(ConfigError, match="unsupported='resample'"):
        fit_weighted(network, inputs, target, weights=WEIGHTS)
    drawn = fit_weighted(network, inputs, target, weights=WEIGHTS, unsupported="resample")
    assert drawn.predict(inputs).shape == (N, 1)
