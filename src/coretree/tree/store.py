"""Where nodes live: the contract of a store of immutable bytes under relative keys, and the store in memory.

A store knows nothing of trees. Objects are written once under a name that comes from their content's recipe
(`Store.put`), so a writer may repeat itself and readers need no locks; the one object that changes, the manifest, is
replaced by comparing and setting (`Store.replace`), so that of two writers exactly one wins.
"""

from __future__ import annotations

import hashlib
import threading
from typing import Protocol, runtime_checkable

from coretree.errors import MissingObjectError, WriteConflictError

_NODES, _SUFFIX = "nodes/", ".arrow"


@runtime_checkable
class Store(Protocol):
    """The contract that every store keeps; ``tests/contracts.py`` checks it for each kind.

    Keys are relative POSIX paths such as ``"nodes/ab/abcdef.arrow"``, see `check_key`. An object is seen whole or not
    at all: a write that fails, or whose writer dies, leaves nothing under the key. Whatever the store itself cannot
    do (no permission, full disk) is a `StoreError` with the place and the cause. Stores are sent to workers: they
    pickle, or say why not.
    """

    def __hash__(self) -> int: ...

    def get(self, key: str) -> bytes:
        """Return the object; `MissingObjectError` when there is none."""
        ...

    def put(self, key: str, data: bytes) -> None:
        """Write the object durably; nothing happens when the key is there already (same name, same bytes)."""
        ...

    def replace(self, key: str, data: bytes, *, expected: str | None) -> str:
        """Write the object if the present one's `token` is `expected` (None: there must be none); return the new token.

        `WriteConflictError` when it is another: reload, and decide again.
        """
        ...

    def names(self, prefix: str = "") -> list[str]:
        """Return the keys that start with `prefix`, sorted."""
        ...

    def size(self, key: str) -> int:
        """Return the object's length in bytes; `MissingObjectError` when there is none."""
        ...

    def delete(self, key: str) -> None:
        """Remove the object; nothing happens when there is none."""
        ...


@runtime_checkable
class SharedStore(Store, Protocol):
    """A store that other processes can reach, too."""

    def check(self) -> None:
        """Make sure, before any work, that the place can be written and decides between writers; else `StoreError`."""
        ...

    def reach(self) -> None:
        """Raise `StoreError` unless this process can read there; workers are asked."""
        ...


def check_key(key: str) -> str:
    """Return the key if every store can hold it.

    Raises
    ------
    ValueError
        The key is absolute, has an empty part, a part that starts with a dot (so ``.`` and ``..``; names with a
        leading dot are the stores' own), a backslash or a character that is not printable.

    Examples
    --------
    >>> check_key("nodes/ab/abcdef.arrow")
    'nodes/ab/abcdef.arrow'
    """
    parts = key.split("/")
    if not key.isprintable() or "\\" in key or any(not part or part.startswith(".") for part in parts):
        raise ValueError(
            f"A store's key must be a relative path whose parts are not empty and do not start with a dot, "
            f"such as 'nodes/ab/abcdef.arrow'; found {key!r}."
        )
    return key


def token(data: bytes) -> str:
    """Return the version token of some content: its sha256 in hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def node_key(name: str) -> str:
    """Return the key of a node, in one of 256 folders so that none grows too long.

    Examples
    --------
    >>> node_key("abcdef")
    'nodes/ab/abcdef.arrow'
    """
    return check_key(f"{_NODES}{name[:2]}/{name}{_SUFFIX}")


def stored_nodes(store: Store) -> frozenset[str]:
    """Return the names of all nodes that a store holds: the `stored` of a plan.

    Examples
    --------
    >>> store = MemoryStore()
    >>> store.put(node_key("abcdef"), b"...")
    >>> stored_nodes(store)
    frozenset({'abcdef'})
    """
    return frozenset(
        key.rpartition("/")[2].removesuffix(_SUFFIX) for key in store.names(_NODES) if key.endswith(_SUFFIX)
    )


def missing_object(where: str, key: str) -> MissingObjectError:
    """Return the error for a key that is not there, the same for every store."""
    return MissingObjectError(
        f"{where}: there is no object {key!r}. If the folder was moved or partly deleted, "
        f"run the same command again: what is missing is built anew."
    )


def check_expected(where: str, key: str, found: str | None, expected: str | None) -> None:
    """Raise `WriteConflictError` unless the version found is the one that was expected, the same for every store."""
    if found == expected:
        return
    versions = [("no object" if version is None else f"version {version[:12]}") for version in (expected, found)]
    raise WriteConflictError(
        f"{where}: another writer changed {key!r} in between: it must still be {versions[0]}, but it is {versions[1]}. "
        f"Nothing was "
        f"overwritten, and the nodes built so far are kept. Run the same command again to continue from them."
    )


class MemoryStore:
    """A store in this process's memory, for tests and for trees that need not last. Safe for threads; does not pickle.

    Examples
    --------
    >>> store = MemoryStore()
    >>> store.put("nodes/ab/abcdef.arrow", b"bytes")
    >>> store.get("nodes/ab/abcdef.arrow"), store.names()
    (b'bytes', ['nodes/ab/abcdef.arrow'])
    """

    def __init__(self) -> None:
        self._objects: dict[str, bytes] = {}
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"MemoryStore({len(self._objects)} objects)"

    def __reduce__(self) -> str:
        raise TypeError(
            "A MemoryStore lives in one process and cannot be sent to another: "
            "give the tree a folder, as in CoresetTree('my.tree'), to build it on several processes."
        )

    def get(self, key: str) -> bytes:
        """Return the object; see `Store.get`."""
        data = self._objects.get(check_key(key))
        if data is None:
            raise missing_object(repr(self), key)
        return data

    def put(self, key: str, data: bytes) -> None:
        """Keep the object unless it is there; see `Store.put`."""
        with self._lock:
            self._objects.setdefault(check_key(key), bytes(data))

    def replace(self, key: str, data: bytes, *, expected: str | None) -> str:
        """Compare and set; see `Store.replace`."""
        with self._lock:
            found = self._objects.get(check_key(key))
            check_expected(repr(self), key, None if found is None else token(found), expected)
            self._objects[key] = bytes(data)
        return token(data)

    def names(self, prefix: str = "") -> list[str]:
        """Return the keys that start with `prefix`, sorted."""
        with self._lock:
            return sorted(key for key in self._objects if key.startswith(prefix))

    def size(self, key: str) -> int:
        """Return the object's length in bytes; see `Store.size`."""
        return len(self.get(key))

    def delete(self, key: str) -> None:
        """Remove the object if it is there."""
        with self._lock:
            self._objects.pop(check_key(key), None)
