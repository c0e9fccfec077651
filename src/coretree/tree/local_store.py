"""A store in a local (or NFS) folder: temporary file, fsync, rename, fsync of the folder; a file lock for replacing.

After a power cut or a SIGKILL at any point an object is there whole or not at all. What a dead writer leaves behind
is a file with a leading dot, which no listing shows and `LocalStore.sweep` removes: a living writer holds a lock on
it. Objects that are put `together` take each step side by side: all files, then all names, then all folders.
"""

from __future__ import annotations

import fcntl
import os
import threading
import uuid
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from coretree.errors import StoreError
from coretree.tree.store import check_expected, check_key, missing_object, token

MOST_HELD = 32 << 20  # bytes that a thread holds back
_TEMPORARY, _LOCK = ".part-", ".lock-"
_thread = threading.local()  # with ``held``: what it is to write later
_writers = threading.BoundedSemaphore(3)  # threads with many files open at a time


@contextmanager
def together() -> Iterator[None]:
    """Hold back what this thread puts into local stores, and write it when the block ends, also by an error.

    A disk makes many small files durable in less time side by side than one by one. Inside the block the thread gets
    what it has put; nobody else may yet, nor need it be durable: report nothing done before the block has ended.
    What it deletes is gone at once, and durably so at the end.

    Raises
    ------
    StoreError
        At the end, if one of the objects cannot be written; others may be there then.
    """
    settle()
    before, _thread.held = _held(), {}
    try:
        yield
    finally:
        try:
            settle()
        finally:
            _thread.held = before


def settle() -> None:
    """Write now what this thread holds back."""
    held = _held()
    if held:
        objects = dict(held)
        held.clear()
        with _writers:
            _write(objects)


def _held() -> dict[Path, bytes | None] | None:
    """Objects by path, None for what was deleted; None outside of blocks."""
    found: dict[Path, bytes | None] | None = getattr(_thread, "held", None)
    return found


class LocalStore:
    """A store in a folder, which is made by the first write. Safe for threads and processes; pickles as its path.

    Parameters
    ----------
    folder : str or path
        Where the objects go; relative paths are resolved now, so that workers elsewhere see the same folder.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     store = LocalStore(folder)
    ...     store.put("nodes/ab/abcdef.arrow", b"bytes")
    ...     store.get("nodes/ab/abcdef.arrow"), store.names()
    (b'bytes', ['nodes/ab/abcdef.arrow'])
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(os.path.abspath(folder))

    def __repr__(self) -> str:
        return f"LocalStore({str(self.folder)!r})"

    def __str__(self) -> str:
        return str(self.folder)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, LocalStore) and self.folder == other.folder

    def __hash__(self) -> int:
        return hash(self.folder)

    def get(self, key: str) -> bytes:
        """Return the object; see `Store.get`."""
        with self._reading(key) as path:
            data = (_held() or {}).get(path)
            return path.read_bytes() if data is None else data

    def size(self, key: str) -> int:
        """Return the object's length in bytes; see `Store.size`."""
        with self._reading(key) as path:
            return path.stat().st_size

    def put(self, key: str, data: bytes) -> None:
        """Write the object durably unless it is there; see `Store.put`."""
        path, held = self._path(key), _held()
        with _writing(path, len(data)):
            if path.exists():
                return
        if held is None:
            _write({path: data})
        else:
            held[path] = data
            if sum(len(each or b"") for each in held.values()) > MOST_HELD:
                settle()

    def replace(self, key: str, data: bytes, *, expected: str | None) -> str:
        """Compare and set under an exclusive file lock; see `Store.replace`."""
        settle()  # what it is about to name
        path = self._path(key)
        with _writing(path, len(data)):
            _make_folder(path.parent)
            with _locked(path.with_name(_LOCK + path.name)):
                found = token(path.read_bytes()) if path.exists() else None
                check_expected(str(self.folder), key, found, expected)
                _write({path: data})
        return token(data)

    def names(self, prefix: str = "") -> list[str]:
        """Return the keys that start with `prefix`, sorted; none when the folder is not there yet."""
        start = len(str(self.folder)) + 1
        keys = (path[start:].replace(os.sep, "/") for path in self._files())
        return sorted(key for key in keys if key.startswith(prefix) and "/." not in f"/{key}")

    def delete(self, key: str) -> None:
        """Remove the object if it is there."""
        path, held = self._path(key), _held()
        with _refusing(path, "delete"), suppress(NotADirectoryError):
            path.unlink(missing_ok=True)
            if held is not None:
                held[path] = None
            elif path.parent.exists():
                _sync_folder(path.parent)

    def check(self) -> None:
        """Make the folder; see `SharedStore.check`."""
        with _refusing(self.folder, "make"):
            _make_folder(self.folder)

    def reach(self) -> None:
        """Raise `StoreError` unless this process sees the folder."""
        if not self.folder.is_dir():
            raise StoreError(f"{self.folder}: there is no such folder.")

    def sweep(self) -> list[str]:
        """Remove what dead writers left, and return the paths; the files of living writers are locked and stay."""
        swept = []
        for path in map(Path, self._files()):
            if not path.name.startswith(_TEMPORARY):
                continue
            # skipped when gone meanwhile, or when its writer lives
            with _refusing(path, "sweep"), suppress(FileNotFoundError, BlockingIOError), open(path, "r+b") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink()
                swept.append(str(path))
        return sorted(swept)

    def _path(self, key: str) -> Path:
        return self.folder / check_key(key)

    def _files(self) -> Iterator[str]:
        def refuse(error: OSError) -> None:
            if not isinstance(error, FileNotFoundError):  # no folder yet: no objects
                raise StoreError(f"{error.filename}: cannot list: {error.strerror}.") from error

        for folder, _, files in os.walk(self.folder, onerror=refuse):
            yield from (os.path.join(folder, name) for name in files)  # text: a Path for each is most of a listing

    @contextmanager
    def _reading(self, key: str) -> Iterator[Path]:
        path = self._path(key)
        with _refusing(path, "read"):
            try:
                yield path
            except (FileNotFoundError, NotADirectoryError):
                raise missing_object(str(self.folder), key) from None


@contextmanager
def _refusing(path: Path, verb: str) -> Iterator[None]:
    """Turn what the system refuses into an error that names the path."""
    try:
        yield
    except StoreError:
        raise
    except OSError as error:
        raise StoreError(f"{path}: cannot {verb}: {error.strerror or error}.") from error


@contextmanager
def _writing(path: Path, n_bytes: int) -> Iterator[None]:
    """Turn what the system refuses into an error that names path and bytes."""
    try:
        yield
    except StoreError:
        raise
    except OSError as error:
        raise StoreError(
            f"{path}: cannot write {n_bytes:,} bytes: {error.strerror or error}. No part of it is left there. "
            f"Make room or give permission there, then run the same command again: it continues where it stopped."
        ) from error


def _write(objects: Mapping[Path, bytes | None]) -> None:
    """Write temporary files in the same folders, make them durable, rename them, make all changed names durable."""
    files: dict[Path, tuple[BinaryIO, Path]] = {}
    durable: list[Path] = []
    with ExitStack() as opened:
        try:
            for path, data in objects.items():
                if data is not None:
                    with _writing(path, len(data)):
                        _make_folder(path.parent)
                        descriptor, temporary = _temporary(path.parent)
                        files[path] = opened.enter_context(os.fdopen(descriptor, "wb")), temporary
                        files[path][0].write(data)
                        files[path][0].flush()
            for path, (file, _) in files.items():
                with _writing(path, len(objects[path] or b"")):
                    os.fsync(file.fileno())
                durable.append(path)
        finally:  # also when the disk is full, or by an interrupt: what is durable stays, and no other file does
            try:
                for path in durable:
                    with _writing(path, len(objects[path] or b"")):
                        os.replace(files[path][1], path)
            finally:
                for file, temporary in files.values():
                    with suppress(OSError):
                        temporary.unlink(missing_ok=True)
                    with suppress(OSError):  # what did not fit is flushed once more
                        file.close()
                _sync_folders(objects)


def _sync_folders(objects: Mapping[Path, bytes | None]) -> None:
    """Make the names of objects that were written or deleted durable."""
    for folder, path in {path.parent: path for path in objects if path.parent.exists()}.items():
        with _writing(path, len(objects[path] or b"")):
            _sync_folder(folder)


def _temporary(folder: Path) -> tuple[int, Path]:
    """Return a new file that is locked as long as it is open: that tells `LocalStore.sweep` that its writer lives."""
    while True:
        path = folder / f"{_TEMPORARY}{uuid.uuid4().hex}"
        # not mkstemp: the object shall be readable for whom the umask says, other workers may run as other users
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if os.fstat(descriptor).st_nlink:  # else a sweep came between making and locking
                return descriptor, path
        except BaseException:
            os.close(descriptor)
            with suppress(OSError):
                os.unlink(path)
            raise
        os.close(descriptor)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on a file that stays: removing it would let two writers lock two files of one name."""
    with open(path, "ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _make_folder(folder: Path) -> None:
    """Make a folder and its parents durably."""
    if not folder.exists():
        _make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        _sync_folder(folder.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
