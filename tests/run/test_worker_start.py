"""The rule by which a local worker keeps memory."""

from __future__ import annotations

import os

import dask
import pytest

from coretree.run.cluster import local_cluster


def test_glibc_keeps_its_own_rule_in_local_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Dask's would make every array begin with page faults."""
    key = "distributed.nanny.pre-spawn-environ.MALLOC_TRIM_THRESHOLD_"
    before = dask.config.get(key)
    monkeypatch.delenv("MALLOC_TRIM_THRESHOLD_", raising=False)  # a cluster of Dask's own in this process leaves it
    with local_cluster(1) as executor:
        assert list(executor.client.run(os.environ.get, "MALLOC_TRIM_THRESHOLD_").values()) == [None]
    assert before is not None
    assert dask.config.get(key) == before
