"""The user's way in: a partitioned data set, what its columns mean, and which side of a split it stands for."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import Any, Literal, Self

import numpy as np
import pandas as pd

from coretree.data.clean import CleanRules, clean
from coretree.data.files import PathLike
from coretree.data.frames import FRAME_PATH, first_row, scan_dask, scan_frame
from coretree.data.quantiles import Digest, digest
from coretree.data.read import Chunk, frame_chunks, read_leaf
from coretree.data.scan import Leaf, Scan, scan_parquet
from coretree.data.schema import Roles, Schema
from coretree.data.split import Split
from coretree.errors import ConfigError, EmptyDataError

LEAF_BYTES = 64 << 20
_ROLE_NAMES = tuple(Roles.__dataclass_fields__)


@dataclass(frozen=True)
class ParquetSource:
    """Parquet files, by path, pattern, folder or list."""

    where: PathLike | tuple[PathLike, ...]
    hive: bool = True
    bad_files: Literal["fail", "skip"] = "fail"


@dataclass(frozen=True, eq=False)
class FrameSource:
    """A pandas DataFrame in memory."""

    frame: pd.DataFrame


@dataclass(frozen=True, eq=False)
class DaskSource:
    """A Dask DataFrame; opaque here, only ``run`` computes it."""

    frame: Any
    token: str


@dataclass(frozen=True, eq=False)
class Dataset:
    """A data set that is never loaded whole.

    Make one with ``from_parquet``, ``from_dask`` or ``from_pandas``; the constructor is not meant to be called.

    Examples
    --------
    >>> frame = pd.DataFrame({"x": [1.0, 2.0, 3.0, 4.0], "late": [False, True, False, True]})
    >>> data = Dataset.from_pandas(frame, target="late")
    >>> data.schema.task, data.scan.n_rows
    ('classification', 4)
    >>> train, test = data.split(test=0.25, seed=1)
    >>> train.selection.side, test.selection.side
    ('train', 'test')
    """

    source: ParquetSource | FrameSource | DaskSource
    roles: Roles
    clean: CleanRules = field(default_factory=CleanRules)
    leaf_bytes: int = LEAF_BYTES
    selection: Split | None = None

    @classmethod
    def from_parquet(
        cls,
        path: PathLike | Sequence[PathLike],
        *,
        target: str | None = None,
        time: str | None = None,
        clean: CleanRules | Mapping[str, Any] | None = None,
        hive: bool = True,
        bad_files: Literal["fail", "skip"] = "fail",
        leaf_bytes: int = LEAF_BYTES,
        **roles: Any,
    ) -> Self:
        """Parquet files as a data set; nothing but footers is read until a tree is built.

        Parameters
        ----------
        path : path, glob pattern, folder, or list of them
            A folder is searched at any depth; names that begin with ``_`` or ``.`` are skipped.
        target : str, optional
            Column to predict.
        time : str, optional
            Event time: a datetime feature, and what ``split(by="time")`` cuts.
        clean : CleanRules or mapping, optional
            How cells are read.
        hive : bool
            Read ``key=value`` folder names as columns.
        bad_files : {"fail", "skip"}
            What to do with files that are not readable Parquet.
        leaf_bytes : int
            Target size of a unit of work, in decoded bytes.
        **roles
            ``task``, ``group``, ``id``, ``weight``, ``drop``, ``numeric``, ``categorical``, ``boolean``, ``datetime``:
            see ``Roles``.

        Raises
        ------
        ConfigError
            An unknown role. Everything about the files is raised by ``scan``, when it is first used.
        """
        many = None if isinstance(path, str) or hasattr(path, "__fspath__") else tuple(path)
        source = ParquetSource(many if many is not None else path, hive, bad_files)  # type: ignore[arg-type]
        return cls(source, _roles(target=target, time=time, **roles), _rules(clean), int(leaf_bytes))

    @classmethod
    def from_dask(
        cls,
        frame: Any,
        *,
        target: str | None = None,
        time: str | None = None,
        clean: CleanRules | Mapping[str, Any] | None = None,
        token: str | None = None,
        **roles: Any,
    ) -> Self:
        """Take a Dask DataFrame, with whatever transformations it carries; a pass streams it partition by partition.

        Parameters
        ----------
        frame : dask.dataframe.DataFrame
        target, time, clean, **roles
            As in ``from_parquet``.
        token : str, optional
            Your own name for this version of the data, so that an interrupted build resumes in a later session; Dask's
            name of the collection otherwise. Rows are identified by partition and position: keep both stable, or name
            an ``id`` column.
        """
        if not hasattr(frame, "to_delayed") or not hasattr(frame, "_meta"):
            raise ConfigError(
                f"Dataset.from_dask wants a dask.dataframe.DataFrame, found {type(frame).__name__}. "
                "For pandas use Dataset.from_pandas."
            )
        source = DaskSource(frame, token if token is not None else str(frame._name))
        return cls(source, _roles(target=target, time=time, **roles), _rules(clean))

    @classmethod
    def from_pandas(
        cls,
        frame: pd.DataFrame,
        *,
        target: str | None = None,
        time: str | None = None,
        clean: CleanRules | Mapping[str, Any] | None = None,
        leaf_bytes: int = LEAF_BYTES,
        **roles: Any,
    ) -> Self:
        """A pandas DataFrame as a data set: small data, tests, and what estimators do with X and y in memory."""
        return cls(FrameSource(frame), _roles(target=target, time=time, **roles), _rules(clean), int(leaf_bytes))

    def to_dict(self) -> dict[str, Any] | None:
        """How to open the same files again, as plain data; None for rows in memory or in Dask."""
        if not isinstance(self.source, ParquetSource):
            return None
        where = self.source.where
        many = isinstance(where, tuple)
        return {
            "path": [os.path.abspath(p) for p in where] if many else os.path.abspath(where),  # type: ignore[arg-type, union-attr]
            "hive": self.source.hive,
            "bad_files": self.source.bad_files,
            "leaf_bytes": self.leaf_bytes,
            "roles": asdict(self.roles),
        }

    @classmethod
    def from_dict(cls, value: Mapping[str, Any], clean: CleanRules, path: str | None = None) -> Self:
        """Inverse of ``to_dict``, or the same reading of other files."""
        given: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in value["roles"].items()}
        roles = Roles(**given)
        where = path or value["path"]
        source = ParquetSource(tuple(where) if isinstance(where, list) else where, value["hive"], value["bad_files"])
        return cls(source, roles, clean, value["leaf_bytes"])

    @cached_property
    def scan(self) -> Scan:
        """Schema, leaves, rows and bytes; from footers, Dask's metadata, or the frame.

        Raises
        ------
        EmptyDataError, FileError, SchemaError
            See ``scan_parquet``.
        """
        match self.source:
            case ParquetSource(where, hive, bad):
                return scan_parquet(where, self.roles, leaf_bytes=self.leaf_bytes, hive=hive, bad_files=bad)
            case FrameSource(frame):
                return scan_frame(frame, self.roles, self.leaf_bytes)
            case DaskSource(frame, token):
                return scan_dask(frame, token, self.roles)

    @property
    def schema(self) -> Schema:
        """Columns and roles."""
        return self.scan.schema

    def split(
        self,
        *,
        test: float = 0.2,
        by: Literal["hash", "time", "group"] = "hash",
        seed: int = 0,
        cutoff: str | pd.Timestamp | None = None,
    ) -> tuple[Self, Self]:
        """Divide into a training and a held-out side; no statistic of a tree built on the first sees the second.

        Parameters
        ----------
        test : float
            Share held out.
        by : {"hash", "time", "group"}
            Each row by a hash of its identity; the latest rows; or whole groups by a hash of the group column.
        seed : int
            Of the hash.
        cutoff : str or Timestamp, optional
            For "time": rows at or after it are held out. Default: the (1 - test) quantile of the time column, found
            in a pass over that column alone (to 0.01 % of the rows).

        Returns
        -------
        (train, test) : two Dataset
        """
        if self.selection is not None:
            raise ConfigError("this dataset is one side of a split already; split the whole one.")
        needed = {"time": self.roles.time, "group": self.roles.group}
        if by in needed and needed[by] is None:
            raise ConfigError(
                f"split(by='{by}') needs to know the column: name it with {by}=... when you open the dataset."
            )
        at: float | None = None
        if by == "time":
            at = self._time_quantile(1 - test) if cutoff is None else pd.Timestamp(cutoff).timestamp()
        split = Split(by=by, test=test, seed=seed, cutoff=at)
        return self.on_side(split), self.on_side(replace(split, side="test"))

    def on_side(self, split: Split | None) -> Self:
        """The same data, read on one side of a split that is known already (None: all rows)."""
        out = replace(self, selection=split)
        if "scan" in self.__dict__:
            out.__dict__["scan"] = self.scan  # footers are read once
        return out

    def _time_quantile(self, q: float) -> float:
        if isinstance(self.source, DaskSource):
            raise ConfigError("split(by='time') on a Dask DataFrame needs cutoff=..., the first held-out time.")
        time = self.roles.time
        assert time is not None
        only = Schema((), None, None, time=time)
        found = Digest.empty()
        for leaf in self.scan.leaves:
            for chunk in leaf_chunks(
                leaf, only, None if isinstance(self.source, ParquetSource) else self.frame_part(leaf)
            ):
                found = found + digest(np.asarray(clean(chunk, only, self.clean).seconds))
        if not found.count:
            raise EmptyDataError(f"{self.scan.where}: time column '{time}' holds no time.")
        return float(found.quantile(q))

    def frame_part(self, leaf: Leaf) -> pd.DataFrame:
        """Rows of one leaf of a frame in memory."""
        assert isinstance(self.source, FrameSource)
        low = first_row(leaf)
        return self.source.frame.iloc[low : low + leaf.n_rows]


def leaf_chunks(leaf: Leaf, schema: Schema, frame: pd.DataFrame | None) -> Iterator[Chunk]:
    """Chunks of a leaf: from its file, or from the frame that holds its rows."""
    if frame is None:
        return read_leaf(leaf, schema)
    # rows of a frame in memory are numbered through, however it was cut into leaves
    path = FRAME_PATH if leaf.path.startswith(FRAME_PATH) else leaf.path
    return frame_chunks(frame, schema, path=path, offset=first_row(leaf))


def _roles(**roles: Any) -> Roles:
    unknown = sorted(set(roles) - set(_ROLE_NAMES))
    if unknown:
        raise ConfigError(f"unknown argument '{unknown[0]}'; columns are described by {', '.join(_ROLE_NAMES)}.")
    return Roles(**{k: v for k, v in roles.items() if v is not None})


def _rules(clean: CleanRules | Mapping[str, Any] | None) -> CleanRules:
    return clean if isinstance(clean, CleanRules) else CleanRules(**(clean or {}))
