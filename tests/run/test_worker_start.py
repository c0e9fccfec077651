"""What a worker loads before it can begin, and the rule by which it keeps memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import dask
import pytest

from coretree.run.cluster import local_cluster

HEAVY = ("sklearn", "scipy.optimize", "scipy.stats", "matplotlib", "skops", "dask_ml", "numba")
PASSES = ("coretree.run.tasks", "coretree.run.on_dask", "coretree.run.sketching", "coretree.run.surveying")


def loaded(*modules: str) -> set[str]:
    """Modules of a fresh process that imports these."""
    code = f"import {', '.join(modules)}, json, sys; print(json.dumps([*sys.modules]))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    return set(json.loads(done.stdout))


def test_the_passes_over_the_data_need_no_scikit_learn() -> None:
    """It takes a process as long to load, and as much memory, as all the rest of a worker."""
    assert not loaded(*PASSES) & set(HEAVY)


@pytest.mark.parametrize("module", ["coretree.run.fitting", "coretree.run.evaluate"])
def test_fits_do(module: str) -> None:
    """So the check above can fail."""
    assert "sklearn" in loaded(module)


def test_glibc_keeps_its_own_rule_in_local_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Dask's would make every array begin with page faults."""
    key = "distributed.nanny.pre-spawn-environ.MALLOC_TRIM_THRESHOLD_"
    before = dask.config.get(key)
    monkeypatch.delenv("MALLOC_TRIM_THRESHOLD_", raising=False)  # a cluster of Dask's own in this process leaves it
    with local_cluster(1) as executor:
        assert list(executor.client.run(os.environ.get, "MALLOC_TRIM_THRESHOLD_").values()) == [None]
    assert before is not None
    assert dask.config.get(key) == before
