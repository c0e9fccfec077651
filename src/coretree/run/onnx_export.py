"""A model as an ONNX file, written only after it has given the model's own answers, missing values included."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.base import is_classifier

from coretree.errors import ConfigError, OutputExistsError, StoreError
from coretree.learn.onnx_graph import MISSING_TEXT, number_columns, pipeline_graph, session_maker, text_columns
from coretree.run.fitted import FittedModel

SAMPLE = 500  # rows of the coreset that the file is checked on where no sample is given
_UNKNOWN = "(a level that no row has)"


@dataclass(frozen=True)
class OnnxExport:
    """What was written, and how well it agrees.

    Attributes
    ----------
    path : Path
    inputs : mapping of column to "number" or "text"
        Each (N, 1): numbers as double with NaN for missing ones, texts as string with ``""`` for missing ones.
    outputs : tuple of str
        "label" and "probabilities" (in the order of ``classes_``), or "prediction".
    n_checked : int
        Rows on which file and model were compared.
    worst : float
        Greatest difference of a probability, or of a prediction as a share of the greatest one.
    """

    path: Path
    inputs: Mapping[str, str]
    outputs: tuple[str, ...]
    n_checked: int
    worst: float


def to_onnx(
    model: Any, path: str | os.PathLike[str], sample: pd.DataFrame | None = None, *, tolerance: float = 1e-4
) -> OnnxExport:
    """Write a fitted model with its preparation as one ONNX file, if it answers as the model does.

    Parameters
    ----------
    model : CoresetClassifier or CoresetRegressor
        Fitted or loaded; linear models, trees and forests are known to work.
    path : path
        File that must not exist.
    sample : DataFrame, optional
        Raw rows to check on: they are also tried with each column missing, with all, with levels never seen and
        infinite numbers. Default: rows of the model's coreset.
    tolerance : float
        Greatest difference allowed, of probabilities, or of predictions as a share of the greatest one; a label may
        differ only where two classes are as near.

    Returns
    -------
    OnnxExport

    Raises
    ------
    ConfigError
        Packages are missing (``pip install "coretree[onnx]"``), a part of the model has no form in ONNX, or the
        answers differ; the message says where. Nothing is written.
    OutputExistsError
        ``path`` exists.
    """
    target = Path(path)
    if not isinstance(model, FittedModel) or not hasattr(model.estimator_[-1], "predict"):
        raise ConfigError(f"to_onnx: needs a fitted classifier or regressor of coretree, found {type(model).__name__}.")
    if target.exists():
        raise OutputExistsError(f"{target} exists already. Name another file, or remove it first.")
    start = session_maker()
    graph = pipeline_graph(model.estimator_)
    rows = _trials(_sample(model, sample), number_columns(model.estimator_[0]))
    session = start(graph.SerializeToString())
    columns = text_columns(model.estimator_[0])
    names = [output.name for output in session.get_outputs()]
    found = dict(zip([n.rstrip("_") for n in names], session.run(names, feed(rows, columns)), strict=True))
    worst = _checked(model.estimator_, rows, found, tolerance)
    try:
        target.write_bytes(graph.SerializeToString())
    except OSError as error:
        raise StoreError(f"{target}: cannot be written ({error.strerror}).") from error
    inputs = {name: "text" if text else "number" for name, text in columns.items()}
    return OnnxExport(target, inputs, tuple(names), len(rows), worst)


def feed(rows: pd.DataFrame, columns: Mapping[str, bool]) -> dict[str, npt.NDArray[Any]]:
    """Rows as the inputs of the graph."""
    return {
        name: rows[name].astype(object).where(rows[name].notna(), MISSING_TEXT).to_numpy(object)[:, None]
        if text
        else rows[name].to_numpy(np.float64, na_value=np.nan)[:, None]
        for name, text in columns.items()
    }


def _sample(model: FittedModel, sample: pd.DataFrame | None) -> pd.DataFrame:
    if sample is None:
        core = getattr(model, "coreset_", None)
        if core is None:
            raise ConfigError("to_onnx: a loaded model brings no rows to check on; give some: sample=frame.")
        sample = core.X.head(SAMPLE)
    rows = model._rows(sample)
    if not len(rows):
        raise ConfigError("to_onnx: the sample has no row to check on.")
    return rows.reset_index(drop=True)


def _trials(rows: pd.DataFrame, numbers: Sequence[str]) -> pd.DataFrame:
    """The rows, then again with each column missing, with all, with unknown levels and infinite numbers."""
    parts = [rows]
    empty = {name: pd.Series([None] * len(rows)).astype(rows[name].dtype) for name in rows.columns}
    parts += [rows.assign(**{name: empty[name]}) for name in rows.columns]
    parts.append(rows.assign(**empty))
    for name in rows.columns:
        strange = (np.inf, -np.inf) if name in numbers else (-12345.5 if rows[name].dtype.kind == "f" else _UNKNOWN,)
        parts += [rows.head(50).assign(**{name: value}) for value in strange]
    return pd.concat(parts, ignore_index=True)


def _checked(pipeline: Any, rows: pd.DataFrame, found: Mapping[str, Any], tolerance: float) -> float:
    """Greatest difference.

    Raises
    ------
    ConfigError
        It is too great, or a label differs for no reason.
    """
    name = type(getattr(pipeline[-1], "estimator", pipeline[-1])).__name__
    expected = pipeline.predict(rows)
    if not is_classifier(pipeline):
        scale = float(np.abs(expected).max()) or 1.0
        off = np.abs(found["prediction"][:, 0] - expected) / scale
    elif "probabilities" in found:
        p = pipeline.predict_proba(rows)
        top = np.sort(p, axis=1)
        near = top[:, -1] - top[:, -2] <= 2 * tolerance
        off = np.abs(found["probabilities"] - p).max(axis=1)
        off = np.where((found["label"] != expected) & ~near, np.maximum(off, 1.0), off)
    else:
        decision = np.asarray(pipeline.decision_function(rows))
        top = np.sort(np.column_stack([-decision, decision]) if decision.ndim == 1 else decision, axis=1)
        off = ((found["label"] != expected) & (top[:, -1] - top[:, -2] > tolerance * np.abs(top).max())).astype(float)
    wrong = np.flatnonzero(~(off <= tolerance))
    if wrong.size:
        first = rows.iloc[wrong[0]].to_dict()
        raise ConfigError(
            f"to_onnx: refused: the ONNX form of {name} differs from the model on {wrong.size:,} of {len(rows):,} rows "
            f"by up to {np.nanmax(off[wrong]):.3g}, more than {tolerance:g}; first on {first}. Nothing was written. "
            "Save with model.save(folder) instead, or allow more: tolerance=..."
        )
    return float(off.max())
