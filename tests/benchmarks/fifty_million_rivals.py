"""What people would use instead of a tree, each in a process of its own: in memory, in a stream, dask-ml, Spark."""

from __future__ import annotations

import resource
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from scipy.special import softmax
from sklearn.exceptions import ConvergenceWarning
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, SGDClassifier
from sklearn.metrics import log_loss
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks.fifty_million_meter import Measured, Meter
from benchmarks.large_tables import HELD_OUT, SHARES, narrow

HELD_OUT_ROWS, CORES = 100_000, 2


def held_out(columns: Callable[[int, int], dict[str, Any]], rows: int) -> tuple[Any, npt.NDArray[Any]]:
    """Rows of a file that no size has, as a DataFrame and labels."""
    frame = pa.table(columns(HELD_OUT, rows)).to_pandas()
    return frame.drop(columns="label"), frame["label"].to_numpy()


def _numbers(path: Path) -> tuple[npt.NDArray[np.float32], npt.NDArray[Any]]:
    frame = pq.read_table(path).to_pandas()
    return frame.drop(columns="label").to_numpy(np.float32), frame["label"].to_numpy()


def in_memory(folder: Path) -> Any:
    """scikit-learn's LogisticRegression on all rows at once."""
    parts = [_numbers(p) for p in sorted(folder.iterdir())]
    X, y = np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts])
    return make_pipeline(SimpleImputer(), StandardScaler(), LogisticRegression(max_iter=1000)).fit(X, y)


def _scaler(folder: Path) -> StandardScaler:
    scaler = StandardScaler()
    for path in sorted(folder.iterdir()):
        scaler.partial_fit(_numbers(path)[0])  # leaves missing values out
    return scaler


def stream(folder: Path) -> Any:
    """scikit-learn's SGDClassifier: one pass for the scale, one of ``partial_fit``, averaged."""
    scaler, model = _scaler(folder), SGDClassifier(loss="log_loss", average=True, random_state=0)
    for path in sorted(folder.iterdir()):
        X, y = _numbers(path)
        model.partial_fit(np.nan_to_num(scaler.transform(X), nan=0.0), y, classes=np.arange(len(SHARES)))
    return _Scaled(scaler, model)


def incremental(folder: Path) -> Any:
    """dask-ml's Incremental around the same classifier, on a Dask array with one chunk a file."""
    import dask
    import dask.array as da
    from dask_ml.wrappers import Incremental

    scaler, paths = _scaler(folder), sorted(folder.iterdir())
    parts = [dask.delayed(_scaled_part)(scaler, p) for p in paths]
    rows = [pq.read_metadata(p).num_rows for p in paths]
    blocks = [da.from_delayed(p[0], (n, scaler.n_features_in_), np.float32) for p, n in zip(parts, rows, strict=True)]
    labels = [da.from_delayed(p[1], (n,), np.int64) for p, n in zip(parts, rows, strict=True)]
    model = Incremental(SGDClassifier(loss="log_loss", average=True, random_state=0), shuffle_blocks=False)
    with dask.config.set(scheduler="synchronous"):
        model.fit(da.concatenate(blocks), da.concatenate(labels), classes=np.arange(len(SHARES)))
    return _Scaled(scaler, model.estimator_)


def _scaled_part(scaler: StandardScaler, path: Path) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    X, y = _numbers(path)
    return np.nan_to_num(scaler.transform(X), nan=0.0), y.astype(np.int64)


@dataclass(frozen=True)
class _Scaled:
    """A model on scaled columns, missing values at the mean."""

    scaler: StandardScaler
    model: Any

    def predict_proba(self, X: npt.NDArray[Any]) -> npt.NDArray[Any]:
        return self.model.predict_proba(np.nan_to_num(self.scaler.transform(X), nan=0.0))


def spark(folder: Path) -> Any:
    """Spark MLlib's multinomial logistic regression with two local cores and 4 GiB."""
    from pyspark.ml import Pipeline
    from pyspark.ml.classification import LogisticRegression as SparkRegression
    from pyspark.ml.feature import Imputer, VectorAssembler
    from pyspark.ml.feature import StandardScaler as SparkScaler
    from pyspark.sql import SparkSession

    session = SparkSession.builder.master(f"local[{CORES}]").config("spark.driver.memory", "4g").getOrCreate()
    rows = session.read.parquet(str(folder))
    names = [c for c in rows.columns if c != "label"]
    filled = [f"{c}_filled" for c in names]
    steps = [
        Imputer(inputCols=names, outputCols=filled),
        VectorAssembler(inputCols=filled, outputCol="raw"),
        SparkScaler(inputCol="raw", outputCol="features", withMean=True),
        SparkRegression(maxIter=100, standardization=False),
    ]
    fitted = Pipeline(stages=steps).fit(rows)
    means = fitted.stages[0].surrogateDF.first()
    scale, model = fitted.stages[2], fitted.stages[3]
    found = _Linear(
        np.array([means[c] for c in names]),
        np.asarray(scale.mean.toArray()),
        np.asarray(scale.std.toArray()),
        model.coefficientMatrix.toArray(),
        model.interceptVector.toArray(),
    )
    session.stop()
    return found


@dataclass(frozen=True)
class _Linear:
    """A softmax model on filled and scaled columns."""

    fill: npt.NDArray[np.float64]
    center: npt.NDArray[np.float64]
    spread: npt.NDArray[np.float64]
    coef: npt.NDArray[np.float64]
    intercept: npt.NDArray[np.float64]

    def predict_proba(self, X: npt.NDArray[Any]) -> npt.NDArray[Any]:
        Z = (np.where(np.isnan(X), self.fill, X) - self.center) / self.spread
        return softmax(Z @ self.coef.T + self.intercept, axis=1)


RIVALS: dict[str, Callable[[Path], Any]] = {"sklearn": in_memory, "sgd": stream, "dask-ml": incremental, "spark": spark}


def rival(name: str, folder: Path, rows: int) -> Measured:
    """Run one of them; meant for a process of its own."""
    X, y = held_out(narrow, min(HELD_OUT_ROWS, max(rows, 20_000)))
    meter = Meter([])
    with warnings.catch_warnings(), meter():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = RIVALS[name](folder)
    loss = float(log_loss(y, model.predict_proba(X.to_numpy(np.float32)), labels=np.arange(len(SHARES))))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    return Measured(rows, name, 0, log_loss=loss, **{**meter.found, "client_mib": peak})
