from __future__ import annotations

import hashlib
import json
import time
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coretree.errors import DamagedNodeError, StoreError, WriteConflictError
from coretree.tree.manifest import LeafEntry, Manifest, StoredObject, commit, load
from coretree.tree.plan import canonical_json, digest
from coretree.tree.store import MemoryStore

LEAF = LeafEntry("2013/ä.parquet:0-3", "abc", "1024-17", 10, {"time": ["2013-01", "2013-02"], "share": 0.1})
MANIFEST = Manifest("abc", "r", (LEAF,), 8, {"abc": StoredObject("00ff", 512)}, {"size": 20000}, {"coretree": "0.1.0"})
# the first format, kept for good: what this version wrote, every later version must read
WRITTEN = (
    b'{"created_by":{"coretree":"0.1.0"},"fan_in":8,"format":1,"leaves":[{"extra":{"share":0.1,"time":["2013-01",'
    b'"2013-02"]},"fingerprint":"1024-17","identity":"2013/\\u00e4.parquet:0-3","n_rows":10,"name":"abc"}],"nodes":'
    b'{"abc":["00ff",512,0,null,null]},"recipe":"r","root":"abc","settings":{"size":20000},"sha256":"'
    b'1900763a92c6d6224382584185ea2929690d33686832a1b7fcbf6e44c6a28d36"}\n'
)

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(), inner, max_size=2),
    max_leaves=3,
)
members = st.dictionaries(st.text(), json_values, max_size=3)
leaves = st.builds(LeafEntry, st.text(), st.text(), st.text(), st.integers(0, 2**62), members)
times = st.none() | st.floats(allow_nan=False, allow_infinity=False)
objects = st.builds(StoredObject, st.text(), st.integers(0), st.integers(0), times, times)
manifests = st.builds(
    Manifest,
    st.text(),
    st.text(),
    st.lists(leaves, max_size=2).map(tuple),
    st.integers(2, 99),
    st.dictionaries(st.text(), objects, max_size=2),
    members,
    st.dictionaries(st.text(), st.text(), max_size=2),
)


def sealed(**members: Any) -> bytes:
    content = json.loads(MANIFEST.to_json())
    del content["sha256"]
    content = {key: value for key, value in (content | members).items() if value != "drop"}
    return json.dumps({**content, "sha256": hashlib.sha256(canonical_json(content).encode()).hexdigest()}).encode()


@settings(max_examples=20, deadline=None)
@given(manifests)
def test_round_trip(manifest: Manifest) -> None:
    data = manifest.to_json()
    back = Manifest.from_json(data, where="test")
    assert back == manifest
    assert back.to_json() == data


def test_the_order_of_members_has_no_say() -> None:
    swapped = replace(MANIFEST, settings={"b": 1, "a": 2})
    assert swapped.to_json() == replace(MANIFEST, settings={"a": 2, "b": 1}).to_json()


def test_the_first_format_is_read_for_good() -> None:
    assert MANIFEST.to_json() == WRITTEN
    assert Manifest.from_json(WRITTEN, where="test") == MANIFEST
    assert Manifest.from_json(json.dumps(json.loads(WRITTEN), indent=4).encode(), where="test") == MANIFEST


def test_no_flipped_bit_makes_a_difference() -> None:
    noticed = 0
    for i in range(len(WRITTEN)):
        for bit in range(8):
            data = bytearray(WRITTEN)
            data[i] ^= 1 << bit
            try:
                assert Manifest.from_json(bytes(data), where="test") == MANIFEST  # \u00E4 is \u00e4
            except DamagedNodeError:
                noticed += 1
    assert noticed > 8 * len(WRITTEN) - 20


@pytest.mark.parametrize("n_bytes", [0, 1, 100, len(WRITTEN) - 2])
def test_a_cut_manifest_is_damaged(n_bytes: int) -> None:
    with pytest.raises(DamagedNodeError, match=r"^here: .*not JSON.*run the build again"):
        Manifest.from_json(WRITTEN[:n_bytes], where="here")


@pytest.mark.parametrize("data", [b"[]", b"3", b"null", b"\xff", b'{"a": NaN}', b"{}", b"<html>", b'{"sha256": 3}'])
def test_what_is_no_manifest_is_damaged(data: bytes) -> None:
    with pytest.raises(DamagedNodeError, match="here"):
        Manifest.from_json(data, where="here")


@pytest.mark.parametrize(
    "members",
    [
        {"root": "drop"},
        {"root": 3},
        {"leaves": {}},
        {"leaves": [3]},
        {"leaves": [{}]},
        {"leaves": [{"identity": "a", "name": "b", "fingerprint": "c", "n_rows": "10", "extra": {}}]},
        {"leaves": [{"identity": "a", "name": "b", "fingerprint": "c", "n_rows": 10, "extra": {}, "colour": 1}]},
        {"fan_in": True},
        {"nodes": {"abc": ["00ff"]}},
        {"nodes": {"abc": 3}},
        {"nodes": {"abc": "ab"}},
        {"settings": None},
    ],
)
def test_members_of_another_kind_are_damage(members: dict[str, Any]) -> None:
    with pytest.raises(DamagedNodeError, match="a member is missing or of another kind"):
        Manifest.from_json(sealed(**members), where="here")


def test_a_newer_format_says_which_version_is_needed() -> None:
    with pytest.raises(StoreError, match=r"format 2.*reads format 1. Use coretree 0\.9\.0 or newer") as caught:
        Manifest.from_json(sealed(format=2, created_by={"coretree": "0.9.0"}, leaves="anything"), where="here")
    assert not isinstance(caught.value, DamagedNodeError)
    with pytest.raises(StoreError, match="the version of coretree that wrote it"):
        Manifest.from_json(sealed(format=2, created_by="drop"), where="here")


def test_load_and_commit() -> None:
    store = MemoryStore()
    assert load(store) is None
    first = commit(store, MANIFEST, expected=None)
    assert load(store) == (MANIFEST, first)
    later = replace(MANIFEST, leaves=(LEAF, replace(LEAF, identity="b", name="b")))
    second = commit(store, later, expected=first)
    with pytest.raises(WriteConflictError):
        commit(store, MANIFEST, expected=first)
    assert load(store) == (later, second)
    assert later.n_rows == 20
    assert load(store, key="other.json") is None


def test_ten_thousand_leaves_load_in_no_time() -> None:
    names = [digest("leaf", i) for i in range(10_000)]
    entries = tuple(
        LeafEntry(f"year=2013/part-{i:05}.parquet:0-7", name, f"1048576-{i}", 100_000, {"start": i, "end": i + 1})
        for i, name in enumerate(names)
    )
    nodes = {name: StoredObject(2 * digest(name), 100_000) for name in [*names, *(digest(i) for i in range(1500))]}
    store = MemoryStore()
    commit(store, Manifest(names[0], "r", entries, 8, nodes), expected=None)
    begin = time.process_time()
    loaded = load(store)
    seconds = time.process_time() - begin
    print(f"10,000 leaves: {store.size('manifest.json'):,} bytes, loaded in {seconds:.3f} s")
    assert loaded is not None
    assert loaded[0].leaves == entries
    assert seconds < 5  # a runaway would be noticed; benchmarks/durable.py measures against the bar
