"""The store's contract on objects in memory and on a real S3 server, and everything a server can do to it."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator

import obstore
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts import KEY, StoreContract
from coretree.errors import MissingObjectError, StoreError, WriteConflictError
from coretree.tree import object_client
from coretree.tree.object_store import ObjectStore
from coretree.tree.store import SharedStore, check_key
from s3_server import KEYS, S3Server, s3_server

COUNTS = """
import sys
from coretree.errors import WriteConflictError
from coretree.tree.object_store import ObjectStore
from coretree.tree.store import token

store = ObjectStore(**dict(argument.split("=", 1) for argument in sys.argv[1:]))
left = 30
while left:
    data = store.get("n")
    try:
        store.replace("n", str(int(data) + 1).encode(), expected=token(data))
    except WriteConflictError:
        continue
    left -= 1
"""


@pytest.fixture(scope="module")
def server() -> Iterator[S3Server]:
    with s3_server() as found:
        yield found


def opened(server: S3Server, kind: str = "good", **options: object) -> ObjectStore:
    return ObjectStore(server.bucket(kind), **{**server.options, **options})  # type: ignore[arg-type]


class TestInMemory(StoreContract):
    @pytest.fixture
    def store(self) -> ObjectStore:
        return ObjectStore(f"memory:///{uuid.uuid4().hex}")

    def test_an_address_is_one_place_that_stays_in_its_process(self, store: ObjectStore) -> None:
        store.put(KEY, b"bytes")
        assert ObjectStore(store.url).get(KEY) == b"bytes"
        with pytest.raises(TypeError, match="lives in one process"):
            pickle.dumps(store)


class TestOnS3(StoreContract):
    @pytest.fixture
    def store(self, server: S3Server) -> ObjectStore:
        return opened(server)

    def test_it_is_shared(self, store: ObjectStore) -> None:
        assert isinstance(store, SharedStore)
        store.reach()
        store.check()
        assert store.names() == []

    def test_each_call_is_one_request(self, store: ObjectStore, server: S3Server) -> None:
        data = os.urandom(12_000_000)  # larger than any client's threshold for uploads in parts
        store.put(KEY, data)
        assert server.seen(store.url) == {"PUT": 1}
        assert store.get(KEY) == data
        assert store.size(KEY) == len(data)
        assert server.seen(store.url) == {"PUT": 1, "GET": 1, "HEAD": 1}

    def test_it_is_probed_once_wherever_it_is_sent(self, store: ObjectStore, server: S3Server) -> None:
        assert not server.seen(store.url, probes=True)
        store.names()
        assert not server.seen(store.url, probes=True)  # readers need no right to write
        store.put("a", b"")
        probed = server.seen(store.url, probes=True)
        assert probed == {"PUT": 4, "HEAD": 1}
        sent = pickle.dumps(store)
        object_client._connect.cache_clear()  # as in another process
        pickle.loads(sent).put("b", b"")
        assert server.seen(store.url, probes=True) == probed
        ObjectStore(store.url, **server.options).put("c", b"")
        assert server.seen(store.url, probes=True)["PUT"] == 8

    def test_it_pickles_with_its_options_and_shows_none(self, store: ObjectStore) -> None:
        store.put(KEY, b"bytes")
        again = pickle.loads(pickle.dumps(store))
        assert again == store
        assert len({again, store}) == 1
        assert again.get(KEY) == b"bytes"
        for text in (repr(again), str(again), f"{again!r:>3}"):
            assert KEYS["secret_access_key"] not in text

    def test_two_processes_lose_no_update(self, store: ObjectStore, server: S3Server) -> None:
        store.put("n", b"0")
        command = [sys.executable, "-c", COUNTS, *(f"{name}={value}" for name, value in server.options.items())]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        writers = [subprocess.Popen([*command, f"url={store.url}"], env=environment) for _ in range(2)]
        assert [writer.wait(timeout=60) for writer in writers] == [0, 0]
        assert store.get("n") == b"60"


@settings(max_examples=50, deadline=None)
@given(st.text(st.characters(exclude_categories=["C"]), min_size=1, max_size=12))
def test_any_key_comes_back_as_it_was(key: str) -> None:
    store = ObjectStore(f"memory:///{uuid.uuid4().hex}")
    try:
        check_key(key)
    except ValueError:
        return
    store.put(key, b"bytes")
    assert store.names() == store.names(key) == [key]
    assert store.get(key) == b"bytes"


@pytest.mark.parametrize(("kind", "named"), [("deaf", "If-None-Match"), ("halfdeaf", "If-Match")])
def test_a_store_that_ignores_conditions_is_refused(server: S3Server, kind: str, named: str) -> None:
    store = opened(server, kind)
    for write in (lambda: store.put(KEY, b""), lambda: store.replace("m", b"", expected=None), store.check):
        with pytest.raises(StoreError, match=rf"{kind}.*\({named}.*both won\).*single_writer=True"):
            write()
    assert not any(obstore.list(store._client))  # nothing is left of the probe either
    # and it would indeed have gone wrong
    trusting = opened(server, kind)
    trusting._checked = True
    version = trusting.replace("m", b"1", expected=None)
    read, compared = trusting._read, threading.Barrier(2)

    def read_together(key: str) -> object:
        found = read(key)
        compared.wait(timeout=30)
        return found

    trusting._read = read_together  # type: ignore[method-assign, assignment]
    won: list[str] = []
    writers = [
        threading.Thread(target=lambda data=data: won.append(trusting.replace("m", data, expected=version)))
        for data in (b"2", b"3")
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(timeout=30)
    assert len(won) == 2


def test_a_sole_writer_may_use_a_store_that_ignores_conditions(server: S3Server) -> None:
    store = opened(server, "deaf", single_writer=True)
    store.put(KEY, b"first")
    store.put(KEY, b"other bytes under the same name")
    assert store.get(KEY) == b"first"
    first = store.replace("m", b"1", expected=None)
    store.replace("m", b"2", expected=first)
    with pytest.raises(WriteConflictError):
        store.replace("m", b"3", expected=first)
    assert store.get("m") == b"2"
    assert not server.seen(store.url, probes=True)


def test_a_write_whose_answer_was_lost_is_known_for_ones_own(server: S3Server) -> None:
    store = opened(server, "lossy")
    store.put(KEY, b"bytes")
    assert store.get(KEY) == b"bytes"
    assert server.seen(store.url)["PUT"] == 2
    version = store.replace("m", b"1", expected=None)
    assert store.get("m") == b"1"
    store.replace("m", b"2", expected=version)
    # negative control: the same bytes of another writer are no success
    another = ObjectStore(store.url, **server.options)  # type: ignore[arg-type]
    with pytest.raises(WriteConflictError):
        another.replace("m", b"2", expected=version)


@pytest.mark.parametrize("kind", ["busy", "clumsy"])
def test_a_server_that_asks_to_come_again_is_asked_again(server: S3Server, kind: str) -> None:
    store = opened(server, kind)
    store.put(KEY, b"bytes")
    store.replace("m", b"1", expected=None)
    assert (store.get(KEY), store.get("m")) == (b"bytes", b"1")
    if kind == "busy":
        with pytest.raises(StoreError, match="503 Service Unavailable: Fault: On purpose"):
            opened(server, kind, patience_s=0.1).put(KEY, b"bytes")


def test_what_no_repetition_helps_is_said_at_once(server: S3Server) -> None:
    store = opened(server, "full")
    with pytest.raises(StoreError, match=r"abcdef\.arrow: cannot write 5 bytes: .*400 Bad Request: Fault: On purp"):
        store.put(KEY, b"bytes")
    assert server.seen(store.url) == {"PUT": 1}


def test_a_bucket_that_is_not_there_is_no_missing_object(server: S3Server) -> None:
    store = ObjectStore("s3://nobody/has/this", **server.options)  # type: ignore[arg-type]
    for call in (lambda: store.get(KEY), lambda: store.put(KEY, b""), store.names, store.reach):
        with pytest.raises(StoreError, match=r"s3://nobody/has/this.*NoSuchBucket.*AWS_ACCESS_KEY_ID") as caught:
            call()
        assert not isinstance(caught.value, MissingObjectError)


def every_call(store: ObjectStore) -> list[Callable[[], object]]:
    return [
        lambda: store.get(KEY),
        lambda: store.size(KEY),
        lambda: store.put("other", b"x"),
        lambda: store.replace("m", b"", expected=None),
        store.names,
        lambda: store.delete("other"),  # which may be heard, once the server wakes up
    ]


def fails_within(store: ObjectStore, seconds: float) -> None:
    for call in every_call(store):
        started = time.monotonic()
        with pytest.raises(StoreError, match=rf"{store.url}.*cannot .*http://127.0.0.1.*continues") as caught:
            call()
        assert time.monotonic() - started < seconds
        assert caught.value.__cause__ is not None
        assert KEYS["secret_access_key"] not in f"{caught.value!r} {caught.value.__cause__!r}"


def test_a_server_that_hangs_or_dies_is_a_named_error_in_time() -> None:
    with s3_server() as doomed:
        store = opened(doomed, patience_s=0.4, request_s=0.5)
        store.put(KEY, b"bytes")
        doomed.process.send_signal(signal.SIGSTOP)
        fails_within(store, 0.4 + 0.5 + 4.0)  # the last seconds are a loaded machine's
        doomed.process.send_signal(signal.SIGCONT)
        patient = ObjectStore(store.url, patience_s=20, **doomed.options)  # type: ignore[arg-type]
        assert patient.get(KEY) == b"bytes"
        failed: list[StoreError] = []

        def put_until_it_fails() -> None:
            for i in range(100_000):
                try:
                    store.put(f"many/{i}", b"x" * 100_000)
                except StoreError as error:
                    failed.append(error)
                    return

        writer = threading.Thread(target=put_until_it_fails, daemon=True)
        writer.start()
        while not any(key.startswith("many/") for key in patient.names()):
            time.sleep(0.02)
        doomed.process.kill()
        writer.join(timeout=10)
        assert "cannot write 100,000 bytes" in str(failed[0])
        fails_within(store, 0.4 + 4.0)
