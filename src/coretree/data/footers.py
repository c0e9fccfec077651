"""One footer per file: its schema, its row groups and a fingerprint, or a plain word on what is wrong with the file."""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from coretree.data.files import FileRef
from coretree.errors import FileError

FOOTER_THREADS = 8  # where reading is waiting; elsewhere they would only wait for each other
_FIRST_FILES = 16
# Spark, Hive and pyarrow write this folder value for a missing one
NULL_FOLDER = "__HIVE_DEFAULT_PARTITION__"


@dataclass(frozen=True)
class FileInfo:
    """One file as its footer describes it; ``fingerprint`` changes whenever the file is rewritten."""

    ref: FileRef
    fingerprint: str
    size: int
    mtime_ns: int
    schema: pa.Schema
    metadata: pq.FileMetaData


def read_footers(
    refs: Iterable[FileRef], bad_files: Literal["fail", "skip"] = "fail"
) -> tuple[list[FileInfo], list[tuple[str, str]]]:
    """Footers of all files, in order, read by a few threads where storage is slow; unreadable ones raise or are listed.

    Files of one schema share one object, so that schemas can be told apart by identity.
    """
    schemas: dict[str, pa.Schema] = {}

    def one(ref: FileRef) -> FileInfo | tuple[str, str]:
        try:
            found = read_footer(ref)
        except FileError as error:
            if bad_files == "fail":
                raise
            return ref.path, str(error)
        return replace(found, schema=schemas.setdefault(str(found.schema), found.schema))

    wall, cpu, every = time.perf_counter(), time.thread_time(), list(refs)
    found = [one(ref) for ref in every[:_FIRST_FILES]]
    if time.perf_counter() - wall < 2 * (time.thread_time() - cpu):
        found += [one(ref) for ref in every[_FIRST_FILES:]]
    else:
        with ThreadPoolExecutor(FOOTER_THREADS) as pool:
            found += pool.map(one, every[_FIRST_FILES:])
    return [f for f in found if isinstance(f, FileInfo)], [f for f in found if not isinstance(f, FileInfo)]


def read_footer(ref: FileRef) -> FileInfo:
    """One footer, with the file's fingerprint: size, modification time and a hash of the footer.

    Raises
    ------
    FileError
        The file is empty, truncated, or not Parquet.
    """
    try:
        stat = os.stat(ref.full)
        metadata = pq.read_metadata(ref.full)
        schema = metadata.schema.to_arrow_schema()
    except (pa.ArrowException, OSError) as error:
        raise FileError(
            f"{ref.full}: {_what(ref.full, error)} Replace the file, or leave such files out with "
            'clean.bad_files = "skip" (bad_files="skip" in Python).'
        ) from None
    for key, value in ref.partition:
        if key not in schema.names:
            schema = schema.append(pa.field(key, pa.scalar(folder_value(value)).type))
    footer = repr([(g.num_rows, g.total_byte_size) for g in map(metadata.row_group, range(metadata.num_row_groups))])
    digest = hashlib.blake2b(f"{stat.st_size} {stat.st_mtime_ns} {schema} {footer}".encode(), digest_size=16)
    return FileInfo(ref, digest.hexdigest(), stat.st_size, stat.st_mtime_ns, schema, metadata)


def _what(path: str, error: Exception) -> str:
    """Say in plain words what is wrong with a file that Arrow refuses."""
    if not os.path.exists(path):
        return "the file does not exist."
    try:
        with open(path, "rb") as f:
            head = f.read(16)
            size = f.seek(0, os.SEEK_END)
            f.seek(max(0, size - 4))
            tail = f.read(4)
    except OSError:
        return f"the file cannot be read ({error})."
    if size == 0:
        return "the file has 0 bytes."
    if head[:4] != b"PAR1":
        looks = " (it looks like an HTML page)" if head.lstrip()[:1] == b"<" else ""
        return f"not a Parquet file{looks}: it begins with {head[:8]!r}."
    if tail != b"PAR1":
        return f"the file is truncated: {size:,} bytes and no Parquet footer at the end."
    return f"the footer cannot be read ({str(error).splitlines()[0]})."


def folder_value(value: str) -> Any:
    """What a hive folder's value means: a whole number where it is written like one, null, or text.

    Examples
    --------
    >>> folder_value("2013"), folder_value("007"), folder_value("__HIVE_DEFAULT_PARTITION__")
    (2013, '007', None)
    """
    if value == NULL_FOLDER:
        return None
    return int(value) if re.fullmatch(r"0|-?[1-9][0-9]{0,17}", value) else value
