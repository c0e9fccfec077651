"""PyTorch through skorch and Keras 3 through the same door: as they come, and with weights in a few lines."""

from __future__ import annotations

import copy
import os
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import log_loss

from coretree import CoresetClassifier, CoresetRegressor, CoresetTree, Dataset
from coretree.learn.explain import explain
from coretree.learn.fit import fit_weighted
from coretree.learn.models import sketch_for
from coretree.learn.weights import treatment
from generated import sales

os.environ.setdefault("KERAS_BACKEND", "torch")  # a script of one's own says so, too, unless TensorFlow is there
# of the packages themselves
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore:The given NumPy array is not writable:UserWarning"),
]
FRAME = sales(2000)
FRAME["sold"] = (FRAME["sold"] == "yes").astype("int64")  # skorch takes codes, not text
FEATURES = ["a", "b", "c", "kind"]
X = np.random.default_rng(0).normal(size=(300, 3)).astype(np.float32)
Y = (X[:, 0] + X[:, 1] > 0.3).astype(np.int64)
COUNTS = np.where(X[:, 2] > 0.5, 6, 1)


@pytest.fixture(scope="module")
def trees() -> dict[str, CoresetTree]:
    tasks = {"sold": "classification", "price": "regression"}
    opened = {
        name: Dataset.from_pandas(FRAME[[*FEATURES, name]], target=name, task=task) for name, task in tasks.items()
    }
    return {name: CoresetTree(size=500).build(data) for name, data in opened.items()}


def skorch_network(kind: str, *, weighted: bool = False, **options: Any) -> Any:
    """Tiny network of one layer; ``weighted``: the subclass that a user writes to give a loss its weights."""
    torch, skorch = pytest.importorskip("torch"), pytest.importorskip("skorch")
    torch.manual_seed(0)

    class Layer(torch.nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self, n_outputs: int) -> None:
            super().__init__()
            self.layer = torch.nn.LazyLinear(n_outputs)

        def forward(self, X: Any, sample_weight: Any = None) -> Any:
            return self.layer(X.float())

    class Weighted(skorch.NeuralNetClassifier):  # type: ignore[misc, name-defined]
        def fit(self, X: Any, y: Any, sample_weight: Any = None, **rest: Any) -> Any:
            if sample_weight is not None:
                X = {"X": np.asarray(X, "float32"), "sample_weight": np.asarray(sample_weight, "float32")}
            return super().fit(X, y, **rest)

        def get_loss(self, y_pred: Any, y_true: Any, X: Any, *args: Any, **rest: Any) -> Any:
            loss = super().get_loss(y_pred, y_true, X, *args, **rest)
            return (loss * X["sample_weight"]).mean() if isinstance(X, dict) else loss.mean()

    usual = {"train_split": None, "verbose": 0, "optimizer": torch.optim.Adam, "lr": 0.05, "max_epochs": 15}
    options = {**usual, **options}
    if kind == "Regressor":
        return skorch.NeuralNetRegressor(Layer, module__n_outputs=1, **options)
    if weighted:
        options["criterion__reduction"] = "none"
    net = Weighted if weighted else skorch.NeuralNetClassifier
    return net(Layer, module__n_outputs=2, criterion=torch.nn.CrossEntropyLoss, **options)


def keras_network(*, weighted: bool = False, epochs: int = 15) -> Any:
    """Tiny network of one layer; ``weighted``: the subclass that a user writes for weights and probabilities."""
    pytest.importorskip("torch")
    keras = pytest.importorskip("keras")
    keras.utils.set_random_seed(0)

    def build(X: Any, y: Any) -> Any:
        model = keras.Sequential([keras.layers.Input((X.shape[1],)), keras.layers.Dense(y.shape[1], "softmax")])
        model.compile(loss="categorical_crossentropy", optimizer=keras.optimizers.Adam(0.05))
        return model

    class Weighted(keras.wrappers.SKLearnClassifier):  # type: ignore[misc, name-defined]
        def __sklearn_clone__(self) -> Any:
            new = super().__sklearn_clone__()
            new.fit_kwargs = copy.deepcopy(self.fit_kwargs)  # clone drops them
            return new

        def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Any:
            kept = self.fit_kwargs
            try:  # weights of one fit must not stay for the next
                return super().fit(X, y, **({} if sample_weight is None else {"sample_weight": sample_weight}))
            finally:
                self.fit_kwargs = kept

        def predict_proba(self, X: Any) -> Any:
            return np.asarray(self.model_.predict(X, verbose=0))

    network = Weighted if weighted else keras.wrappers.SKLearnClassifier
    return network(build, fit_kwargs={"epochs": epochs, "verbose": 0})


@pytest.mark.parametrize("make", [lambda: skorch_network("Classifier"), keras_network], ids=["torch", "keras"])
def test_a_stock_classifier_is_fitted_on_the_uniform_sketch(make: Any, trees: dict[str, CoresetTree]) -> None:
    network = make()
    assert treatment(network).kind == "none"
    assert sketch_for(network) == "uniform"
    assert "takes no weights" in explain(network)
    model = CoresetClassifier(network, tree=trees["sold"]).fit()
    assert model.coreset_.objective == "uniform"
    share = FRAME["sold"].mean()
    assert model.score(FRAME, FRAME["sold"]) > max(share, 1 - share) + 0.05
    assert set(model.predict(FRAME)) == {0, 1}


def test_a_torch_regressor(trees: dict[str, CoresetTree]) -> None:
    network = skorch_network("Regressor", max_epochs=40)

    class Column(type(network)):  # type: ignore[misc]
        def fit(self, X: Any, y: Any) -> Any:
            return super().fit(X, np.asarray(y, "float32")[:, None])

        def predict(self, X: Any) -> Any:
            return super().predict(X)[:, 0]

    model = CoresetRegressor(Column(**network.get_params(deep=False)), tree=trees["price"]).fit()
    assert model.score(FRAME, FRAME["price"]) > 0.5


@pytest.mark.parametrize(
    "make",
    [lambda: skorch_network("Classifier", weighted=True, batch_size=-1), lambda: keras_network(weighted=True)],
    ids=["torch", "keras"],
)
def test_with_weights_of_mean_one_it_is_the_fit_on_repeated_rows(make: Any) -> None:
    network = make()
    assert treatment(network).kind == "mean1"
    if hasattr(network, "fit_kwargs"):
        network.fit_kwargs |= {"batch_size": 10_000}  # all rows at once: steps do not depend on the batches
    rows = np.repeat(np.arange(300), COUNTS)
    flipped = np.where(COUNTS > 1, 1 - Y, Y)  # the heavy rows follow another rule
    chances = []
    for data in ((X, flipped, COUNTS), (X[rows], flipped[rows], None), (X, flipped, None)):
        fresh = make()
        if hasattr(fresh, "fit_kwargs"):
            fresh.fit_kwargs |= {"batch_size": 10_000}
        model = fit_weighted(fresh, data[0], data[1], weights=data[2])
        chances.append(np.asarray(model.predict_proba(X), dtype=float)[:, 1])
    weighted, repeated, plain = chances
    np.testing.assert_allclose(weighted, repeated, atol=2e-3)
    assert np.abs(weighted - plain).max() > 0.02  # negative control


def test_a_weighted_network_on_a_coreset_gives_probabilities(trees: dict[str, CoresetTree]) -> None:
    y = FRAME["sold"].to_numpy()
    for network in (skorch_network("Classifier", weighted=True), keras_network(weighted=True)):
        model = CoresetClassifier(network, tree=trees["sold"]).fit()
        chances = model.predict_proba(FRAME)[:, 1].astype(float)
        assert log_loss(y, chances) < log_loss(y, np.full(len(y), y.mean())) - 0.05
        assert model.score(FRAME, FRAME["sold"]) > max(y.mean(), 1 - y.mean()) + 0.05
