from __future__ import annotations

import pickle

import pytest

from contracts import StoreContract
from coretree.tree.store import MemoryStore, node_key


class TestMemoryStore(StoreContract):
    @pytest.fixture
    def store(self) -> MemoryStore:
        return MemoryStore()

    def test_it_says_why_it_cannot_be_sent(self, store: MemoryStore) -> None:
        with pytest.raises(TypeError, match="give the tree a folder"):
            pickle.dumps(store)

    def test_later_changes_of_a_buffer_do_not_reach_it(self, store: MemoryStore) -> None:
        data = bytearray(b"abc")
        store.put("a", data)  # type: ignore[arg-type]
        data[0] = 0
        assert store.get("a") == b"abc"


@pytest.mark.parametrize("name", ["", "../../x", ".x", "a/../b"])
def test_a_node_name_cannot_leave_the_nodes(name: str) -> None:
    with pytest.raises(ValueError, match="relative path"):
        node_key(name)
