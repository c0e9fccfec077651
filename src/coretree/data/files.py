"""Which files make a dataset: paths, globs, lists and folders become named Parquet files with stable relative paths."""

from __future__ import annotations

import glob
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from coretree.errors import ConfigError, EmptyDataError, FileError

PathLike = str | os.PathLike[str]


@dataclass(frozen=True)
class FileRef:
    """One file: where it lies, its dataset-relative path, and the values its folder names give (hive partitions)."""

    root: str
    path: str
    partition: tuple[tuple[str, str], ...] = ()

    @property
    def full(self) -> str:
        """Absolute path."""
        return os.path.join(self.root, self.path)


def find_files(where: PathLike | Sequence[PathLike], *, hive: bool = True) -> tuple[list[FileRef], list[str]]:
    """List the Parquet files of a dataset.

    Parameters
    ----------
    where : path, glob pattern, folder, or sequence of them
        A folder is searched at any depth for ``*.parquet`` and ``*.parq``. Names that begin with ``_`` or ``.`` at any
        depth are skipped, as every Parquet writer expects.
    hive : bool
        Read ``key=value`` folder names as columns.

    Returns
    -------
    files : list of FileRef
        Sorted by relative path, so that the order never depends on the file system.
    skipped : list of str
        What was passed over, relative to the root.

    Raises
    ------
    EmptyDataError
        Nothing matches.
    ConfigError
        The path is a URL that this version cannot read.
    """
    patterns = [where] if isinstance(where, str | os.PathLike) else list(where)
    if not patterns:
        raise EmptyDataError("the list of input paths is empty; give a path, a glob pattern or a folder.")
    found: list[str] = []
    skipped: list[str] = []
    roots: list[str] = []
    for pattern in [os.fspath(p) for p in patterns]:
        root, files, hidden = _expand(pattern)
        roots.append(root)
        found += files
        skipped += hidden
    root = os.path.commonpath(roots)
    relative = sorted({Path(os.path.relpath(f, root)).as_posix() for f in found})
    if not relative:
        raise EmptyDataError(
            f"{', '.join([os.fspath(p) for p in patterns])}: no Parquet file found"
            + (f" ({len(skipped)} names that begin with '_' or '.' were skipped)" if skipped else "")
            + ". Check the path, or quote a pattern such as 'data/*.parquet'."
        )
    return [FileRef(root, path, _partition(path) if hive else ()) for path in relative], sorted(set(skipped))


def _expand(pattern: str) -> tuple[str, list[str], list[str]]:
    """Root folder, files and skipped names of one path, pattern or folder, all absolute."""
    if "://" in pattern:
        if not pattern.startswith("file://"):
            raise ConfigError(
                f"{pattern}: only local paths are read; mount or copy the data, "
                "or open it with Dask and use Dataset.from_dask."
            )
        pattern = pattern.removeprefix("file://")
    pattern = os.path.expanduser(pattern)
    path = os.path.abspath(pattern)
    if os.path.isdir(path):
        if os.path.isdir(os.path.join(path, "_delta_log")):
            raise FileError(
                f"{pattern}: this is a Delta table; its folder also holds deleted and replaced rows. "
                "Pass the list of live files instead, e.g. deltalake.DeltaTable(path).file_uris()."
            )
        names = sorted(
            p
            for s in ("parquet", "parq")
            for p in glob.glob(os.path.join(glob.escape(path), "**", f"*.{s}"), recursive=True, include_hidden=True)
        )
        shown = [n for n in names if not _hidden(os.path.relpath(n, path))]
        return path, shown, sorted(os.path.relpath(n, path) for n in set(names) - set(shown))
    if os.path.exists(path):
        return os.path.dirname(path), [path], []
    if not glob.has_magic(pattern):
        raise EmptyDataError(
            f"{pattern}: no such file or folder. Check the path; relative paths start at {os.getcwd()}."
        )
    matches = sorted(p for p in glob.glob(path, recursive=True) if os.path.isfile(p))
    root = os.path.abspath(_fixed_part(pattern))
    shown = [m for m in matches if not _hidden(os.path.relpath(m, root))]
    return root, shown, sorted(os.path.relpath(m, root) for m in set(matches) - set(shown))


def _fixed_part(pattern: str) -> str:
    """Folder before the first wildcard."""
    parts = Path(pattern).parts
    keep = next((i for i, part in enumerate(parts) if glob.has_magic(part)), len(parts))
    return os.path.join(*parts[:keep]) if keep else "."


def _hidden(relative: str) -> bool:
    # a hive folder such as _year=2024 is data, not a marker
    return any(p.startswith(".") or (p.startswith("_") and "=" not in p) for p in Path(relative).parts)


def _partition(path: str) -> tuple[tuple[str, str], ...]:
    pairs = [part.split("=", 1) for part in Path(path).parent.parts if "=" in part]
    return tuple((unquote(key), unquote(value)) for key, value in pairs)
