from __future__ import annotations

import sys
from pathlib import Path

import pytest

from coretree import open_store
from coretree.errors import ConfigError
from coretree.tree.local_store import LocalStore
from coretree.tree.object_store import ObjectStore


def test_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    expected = LocalStore(tmp_path / "my tree")
    for where in (tmp_path / "my tree", str(tmp_path / "my tree"), "~/my tree", f"file://{tmp_path}/my%20tree"):
        assert open_store(where) == expected
    assert open_store(f"file://localhost{tmp_path}/my tree") == expected


@pytest.mark.parametrize(
    ("where", "options"),
    [
        ("s3://bucket/a/tree", {"region": "us-east-1", "access_key_id": "a", "secret_access_key": "b"}),
        ("gs://bucket/a/tree", {"skip_signature": True}),
        ("az://container/a/tree", {"account_name": "me", "account_key": "aGVsbG8="}),
        ("memory:///a/tree", {}),
    ],
)
def test_a_bucket_of_each_kind(where: str, options: dict[str, object]) -> None:
    store = open_store(where + "/", **options)
    assert isinstance(store, ObjectStore)
    assert store == open_store(where, **options)
    assert (str(store), repr(store)) == (where, f"ObjectStore({where!r})")
    assert store != open_store(where, patience_s=1, **options)


@pytest.mark.parametrize("where", ["http://host/tree", "file://otherhost/tree", "file://", "ftp://key:secret@host/x"])
def test_other_addresses_are_refused_with_what_is_taken(where: str) -> None:
    with pytest.raises(ConfigError, match=r"local folder.*file:///path.*s3://bucket/prefix") as caught:
        open_store(where)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("where", ["s3://", "gs:///x", "s3://key:secret@bucket/x", "s3://bucket/x?sig=secret"])
def test_an_address_that_is_none_is_refused_and_keeps_its_secrets(where: str) -> None:
    with pytest.raises(ConfigError) as caught:
        open_store(where)
    assert "secret" not in str(caught.value)


def test_an_address_that_went_through_a_path_is_noticed() -> None:
    with pytest.raises(ConfigError, match=r"lost a slash. Give it as text, such as 's3://"):
        open_store(Path("s3://bucket/tree"))


def test_options_are_checked() -> None:
    with pytest.raises(ConfigError, match=r"s3://bucket/x: cannot be opened: .*'nonsense' is not valid"):
        open_store("s3://bucket/x", nonsense=1)
    with pytest.raises(ConfigError, match="a folder takes no options; found region"):
        open_store("my.tree", region="x")


def test_without_the_extra_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("coretree.tree.object_store", "coretree.tree.object_client"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setitem(sys.modules, "obstore", None)
    with pytest.raises(ConfigError, match=r"pip install 'coretree\[cloud\]'"):
        open_store("s3://bucket/x")
