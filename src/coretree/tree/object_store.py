"""A store in a bucket (S3, Google, Azure, anything that speaks S3): one request an object, and conditional writes.

There is no rename and no lock there. What makes it a store all the same is that a server takes an object whole or not
at all, and decides between writers: *create* (``If-None-Match: *``) lets the first one win, and *replace* (``If-Match``
with the version that was read) only one that knows the present version. A server that ignores the conditions would
let two writers lose each other's work in silence, so that is tried out before the first write.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from typing import Any, TypeVar
from urllib.parse import urlsplit

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError, PreconditionError

from coretree.errors import StoreError
from coretree.tree.addresses import SCHEMES, bucket_url
from coretree.tree.object_client import FIRST_PAUSE_S, Connection, connection, lacks_bucket, listed, persist, reason
from coretree.tree.store import check_expected, check_key, missing_object, token

T = TypeVar("T")
_WRITER = "coretreewriter"  # metadata of a replaced object; letters only, as Azure wants it
_CONFLICT = (AlreadyExistsError, PreconditionError)
_ATTEMPTS = 8  # at a write that others get in the way of without changing anything


class ObjectStore:
    """A store in a bucket or container, below a prefix. Safe for threads and processes; pickles with its options.

    Parameters
    ----------
    url : str
        ``s3://bucket/prefix``, ``gs://bucket/prefix``, ``az://container/prefix``; ``memory:///name`` for objects in
        this process.
    single_writer : bool
        Promise that nobody else builds into this place, and do without conditional writes.
    patience_s : float
        How long a request is repeated that gets no answer, or one that asks to come again.
    request_s : float
        The longest that one request may take. A server that is gone costs `patience_s` a call, one that hangs
        `patience_s` and `request_s` at most.
    **options
        What the store needs beside its address: ``endpoint="http://127.0.0.1:9000"``, ``region``, credentials,
        ``client_options``; the names are obstore's. Better kept in the environment, where workers find them, too.

    Raises
    ------
    ConfigError
        No such kind of address, or an option that it does not know.

    Examples
    --------
    >>> store = ObjectStore("memory:///example")
    >>> store.put("nodes/ab/abcdef.arrow", b"bytes")
    >>> store.get("nodes/ab/abcdef.arrow"), store.names()
    (b'bytes', ['nodes/ab/abcdef.arrow'])
    """

    def __init__(
        self,
        url: str,
        *,
        single_writer: bool = False,
        patience_s: float = 30.0,
        request_s: float = 60.0,
        **options: Any,
    ) -> None:
        self.url, self.single_writer = bucket_url(url), single_writer
        self.patience_s, self.request_s = patience_s, request_s
        self._options = options
        self._checked = False
        self._connection()  # what is wrong with the options is said now

    def __repr__(self) -> str:
        return f"ObjectStore({self.url!r})"

    def __str__(self) -> str:
        return self.url

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ObjectStore) and self._identity == other._identity

    def __hash__(self) -> int:
        return hash(self.url)

    def __getstate__(self) -> dict[str, Any]:
        if self.url.startswith("memory:"):
            raise TypeError(
                f"{self.url} lives in one process and cannot be sent to another: "
                "give the tree a bucket or a folder to build it on several processes."
            )
        return self.__dict__

    @property
    def _identity(self) -> tuple[Any, ...]:
        return self.url, self.single_writer, self.patience_s, self.request_s, self._options

    # ---- the contract ------------------------------------------------------------------------------------------

    def get(self, key: str) -> bytes:
        """Return the object; see `Store.get`."""
        found = self._read(check_key(key))
        if found is None:
            raise missing_object(self.url, key)
        return found[0]

    def size(self, key: str) -> int:
        """Return the object's length in bytes; see `Store.size`."""
        found = self._head(check_key(key))
        if found is None:
            raise missing_object(self.url, key)
        return int(found["size"])

    def put(self, key: str, data: bytes) -> None:
        """Create the object in one request, unless it is there; see `Store.put`."""
        check_key(key)
        self.check()
        if self.single_writer:
            if self._head(key) is None:
                self._send(key, data, "overwrite")
            return
        for pause in _pauses():
            try:
                self._send(key, data, "create")
            except _CONFLICT:
                if self._head(key) is None:  # refused for another's sake, whose own write came to nothing
                    time.sleep(pause)
                    continue
            return
        raise StoreError(f"{self.url}/{key}: refused {_ATTEMPTS} times as if it were there, but it is not.")

    def replace(self, key: str, data: bytes, *, expected: str | None) -> str:
        """Compare, and set if the version is still the one that was compared; see `Store.replace`.

        The object carries its writer's mark: an attempt whose answer was lost, and which then meets its own work, is
        known for a success (unless somebody replaced that in turn meanwhile: then it counts as a conflict).
        """
        check_key(key)
        self.check()
        mark = uuid.uuid4().hex
        for pause in _pauses():
            found = self._read(key)
            if found is not None and found[2] == mark:
                return token(data)
            check_expected(self.url, key, None if found is None else token(found[0]), expected)
            mode = "overwrite" if self.single_writer else "create" if found is None else found[1]
            try:
                self._send(key, data, mode, {_WRITER: mark})
            except _CONFLICT:
                time.sleep(pause)
                continue
            return token(data)
        raise StoreError(f"{self.url}/{key}: refused {_ATTEMPTS} times as if it had changed, but it has not.")

    def names(self, prefix: str = "") -> list[str]:
        """Return the keys that start with `prefix`, sorted."""
        folder = prefix.rpartition("/")[0]
        try:
            found = self._ask("list", folder, lambda: listed(self._client, check_key(folder) if folder else ""))
        except ValueError:  # no key starts like this
            return []
        except FileNotFoundError as error:
            raise self._failed("list", folder, error) from error
        return sorted(key for key in found if "/." not in f"/{key}" and key.startswith(prefix))

    def delete(self, key: str) -> None:
        """Remove the object if it is there."""
        check_key(key)
        self._remove(key)

    # ---- sharing -----------------------------------------------------------------------------------------------

    def check(self) -> None:
        """Make sure, once, that objects can be written here and that of two writers one wins.

        Costs six small requests in the first process that writes; stores that are pickled afterwards remember it.
        That the server decides between two writers at the very same moment cannot be seen from here.

        Raises
        ------
        StoreError
            The server ignores conditions, or nothing can be written.
        """
        if self._checked or self.single_writer:
            return
        connected = self._connection()
        with connected.lock:
            if not connected.checked:
                ignored = self._ignored()
                if ignored is not None:
                    raise StoreError(
                        f"{self.url}: this store ignores conditional writes ({ignored}): of two writers the later one "
                        f"would overwrite the other in silence. Use a store that honours them, or, where nobody else "
                        f"builds into this place, coretree.open_store({self.url!r}, single_writer=True)."
                    )
                connected.checked = True
        self._checked = True

    def reach(self) -> None:
        """Raise `StoreError` unless this process can read here (network, credentials, bucket)."""
        self.names("manifest")

    def _ignored(self) -> str | None:
        """Which condition the server ignores, None if none: each is put to it twice, and may hold once at most."""
        key = f".probe-{uuid.uuid4().hex}"  # the leading dot hides it if this process dies meanwhile
        try:
            if [self._wins(key, data, "create") for data in (b"1", b"22")][1]:
                return "If-None-Match: of two creators of one object both won"
            found = self._head(key)
            version = {} if found is None else _version(found)
            if not version:
                return "it gives its objects no version"
            if [self._wins(key, data, version) for data in (b"333", b"4444")][1]:
                return "If-Match: of two who replaced one version both won"
            return None
        finally:
            self._remove(key)

    def _wins(self, key: str, data: bytes, mode: str | dict[str, str]) -> bool:
        try:
            self._send(key, data, mode)
        except _CONFLICT:
            return False
        return True

    # ---- requests ----------------------------------------------------------------------------------------------

    def _connection(self) -> Connection:
        return connection(self.url, self._options, self.request_s)

    @property
    def _client(self) -> Any:
        return self._connection().client

    def _read(self, key: str) -> tuple[bytes, dict[str, str], str | None] | None:
        """Content, version and writer of an object, None where there is none."""

        def read() -> tuple[bytes, dict[str, str], str | None]:
            found = obstore.get(self._client, key)
            return found.bytes().to_bytes(), _version(found.meta), found.attributes.get(_WRITER)

        return self._unless_missing("read", key, read)

    def _head(self, key: str) -> Any:
        return self._unless_missing("read", key, lambda: obstore.head(self._client, key))

    def _unless_missing(self, verb: str, key: str, call: Callable[[], T]) -> T | None:
        try:
            return self._ask(verb, key, call)
        except FileNotFoundError as error:
            if lacks_bucket(error):
                raise self._failed(verb, key, error) from error
            return None

    def _send(self, key: str, data: bytes, mode: str | dict[str, str], marks: dict[str, str] | None = None) -> None:
        """Write in one request; an error of `_CONFLICT` where the condition does not hold."""
        verb = f"write {len(data):,} bytes"
        try:
            self._ask(
                verb,
                key,
                lambda: obstore.put(self._client, key, data, mode=mode, attributes=marks, use_multipart=False),
            )
        except FileNotFoundError as error:
            if isinstance(mode, dict) and not lacks_bucket(error):
                raise PreconditionError(str(error)) from error  # removed meanwhile, as some servers say it
            raise self._failed(verb, key, error) from error

    def _remove(self, key: str) -> None:
        self._unless_missing("delete", key, lambda: obstore.delete(self._client, key))

    def _ask(self, verb: str, key: str, call: Callable[[], T]) -> T:
        try:
            return persist(call, self.patience_s)
        except _CONFLICT:
            raise
        except BaseError as error:
            raise self._failed(verb, key, error) from error

    def _failed(self, verb: str, key: str, error: BaseException) -> StoreError:
        names = SCHEMES[urlsplit(self.url).scheme]
        return StoreError(
            f"{self.url}/{key}: cannot {verb}: {reason(error)}. Check the address and the environment "
            f"({names}), and that the server runs, then run the same command again: it continues where it stopped."
        )


def _version(found: Any) -> dict[str, str]:
    """What the server calls this version of an object."""
    return {name: str(found[name]) for name in ("e_tag", "version") if found[name]}


def _pauses() -> list[float]:
    return [FIRST_PAUSE_S * attempt for attempt in range(_ATTEMPTS)]
