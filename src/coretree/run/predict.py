"""Predict a data set of any size into Parquet, part by part; the result appears whole or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from coretree.data.clean import clean
from coretree.data.dataset import Dataset, leaf_chunks
from coretree.data.encode import to_frame
from coretree.data.schema import unknown_column
from coretree.data.to_sklearn import features
from coretree.errors import ConfigError, EmptyDataError, OutputExistsError, StoreError
from coretree.run.build import Progress
from coretree.run.evaluate import as_divided, check_columns, run_over_leaves
from coretree.run.frontier import Job
from coretree.run.tasks import Reading

ANSWER, PROBABILITY = "prediction", "probability_"


def predict(
    model: Any,
    data: Dataset,
    *,
    out: str | os.PathLike[str],
    columns: Sequence[str] = (),
    proba: bool = True,
    client: Any = None,
    progress: Progress | None = None,
) -> int:
    """Write predictions as ``part-000000.parquet``, ... in the order of the data, one file a leaf.

    Parameters
    ----------
    model : CoresetClassifier or CoresetRegressor
    data : Dataset
        Rows to predict; the target need not be there.
    out : path
        Folder that must not exist. Parts are written beside it and moved in place when all are complete.
    columns : sequence of str
        Columns of the data to carry along, such as an identifier.
    proba : bool
        Write class probabilities too, as ``probability_<label>``, where the model has them.
    client, progress
        See ``CoresetTree.build``.

    Returns
    -------
    int
        Rows written.

    Raises
    ------
    OutputExistsError
        ``out`` exists; nothing was touched.
    SchemaError
        A column that the model needs, or one to carry, is missing.
    EmptyDataError
        There is no row to predict.
    """
    target = Path(out).absolute()
    if target.exists():
        raise OutputExistsError(
            f"{out}: exists already; predictions are never written over anything. "
            "Name another folder, or remove it first."
        )
    check_columns(model.schema_, data, target=False)
    for name in columns:
        if name == ANSWER or name.startswith(PROBABILITY):
            raise ConfigError(f"columns: '{name}' is the name of an answer. Rename that column, or leave it out.")
        if name not in data.scan.arrow_schema.names:
            raise unknown_column(
                name, data.scan.arrow_schema.names, where=data.scan.where, role="a column to carry along"
            )
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        folder = tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}.part-")
        os.chmod(folder, 0o777 & ~_umask())
    except OSError as error:
        raise StoreError(f"{target.parent}: cannot be written to ({error.strerror}).") from error
    schema = model.schema_.for_prediction(columns)
    if data.selection is not None:  # keep what the split looks at
        schema = replace(as_divided(schema, data), weight=None)
    work = PredictWork(Reading(schema, model.clean_, data.selection), model.estimator_, folder, tuple(columns), proba)
    try:
        rows = sum(run_over_leaves(data, work, "predict", client, progress))
        if not rows:
            raise EmptyDataError(f"{data.scan.where}: no row to predict is left after the split.")
        os.replace(folder, target)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return rows


@dataclass(frozen=True, eq=False)
class PredictWork:
    """Predictions of one leaf, written as one file."""

    reading: Reading
    pipeline: Any
    folder: str
    columns: tuple[str, ...]
    proba: bool

    def __call__(self, job: Job, frame: pd.DataFrame | None) -> int:
        """Carry one job out; the number of rows written."""
        assert job.leaf is not None
        path = os.path.join(self.folder, f"part-{job.name.rpartition('-')[2]}.parquet")
        rows = 0
        writer = None
        try:
            for table in self._tables(job, frame):
                writer = writer or pq.ParquetWriter(path, table.schema, write_page_checksum=True)
                writer.write_table(table)
                rows += table.num_rows
        finally:
            if writer is not None:
                writer.close()
        return rows

    def _tables(self, job: Job, frame: pd.DataFrame | None) -> Any:
        assert job.leaf is not None
        for chunk in leaf_chunks(job.leaf, self.reading.schema, frame):
            columns = clean(chunk, self.reading.schema, self.reading.clean)
            _, mask = self.reading.select(columns)
            carried = {name: _plain(chunk.table.column(name)) for name in self.columns}
            if mask is not None:
                columns = columns.take(mask)
                carried = {name: column.filter(pa.array(mask)) for name, column in carried.items()}
            if len(columns):
                yield self._answers(to_frame(columns), carried)

    def _answers(self, rows: pd.DataFrame, carried: dict[str, pa.ChunkedArray]) -> pa.Table:
        final = self.pipeline[-1]
        X = features(self.pipeline[:-1], rows)
        if not hasattr(final, "predict"):  # a transformer
            names, values = self.pipeline.get_feature_names_out().tolist(), final.transform(X)
            return pa.table({**carried, **{name: pa.array(values[:, j]) for j, name in enumerate(names)}})
        out = {**carried, ANSWER: pa.array(final.predict(X))}
        if self.proba and hasattr(final, "predict_proba"):
            values = final.predict_proba(X)
            labels = final.classes_.tolist() if hasattr(final, "classes_") else range(values.shape[1])
            out |= {f"{PROBABILITY}{label}": pa.array(values[:, j]) for j, label in enumerate(labels)}
        return pa.table(out)


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Spread a dictionary out: it is how text was read, not what the user's column is."""
    return column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
