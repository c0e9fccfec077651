"""A leaf whose design is made piece by piece is the leaf of the design made at once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from coretree import CoresetTree, Dataset, ThreadExecutor
from coretree.coreset.class_sketches import ClassSketches
from coretree.run import sketching

N = 3_000


def table(n_columns: int, kind: str) -> pd.DataFrame:
    """Numbers, a text with rare levels, and a target."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        rng.standard_normal((N, n_columns)).astype("float32"), columns=[f"x{j}" for j in range(n_columns)]
    )
    frame["k"] = np.array(["a", "b", "c", "rare"])[np.minimum(rng.geometric(0.6, N) - 1, 3)]
    z = frame["x0"] + rng.logistic(size=N)
    cuts = {"two": [0.0], "four": [-1.0, 0.5, 2.0]}
    frame["y"] = z if kind == "quantity" else np.digitize(z, cuts[kind]).astype(str)
    return frame


@pytest.mark.parametrize("kind", ["two", "four", "quantity"])
@pytest.mark.parametrize("n_columns", [5, 310])
def test_pieces_make_the_same_leaf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, n_columns: int) -> None:
    table(n_columns, kind).to_parquet(tmp_path / "part.parquet")
    data = Dataset.from_parquet(tmp_path, target="y")

    def root(rows: int) -> sketching.Node:
        monkeypatch.setattr(sketching, "PIECE_BYTES", 4 * rows * (n_columns + 1))
        return CoresetTree(size=400, exact=False).build(data, client=ThreadExecutor(1)).root_

    whole, parts = root(10 * N), root(700)
    for name, found in whole.sketches.items():
        assert isinstance(found, ClassSketches) == isinstance(parts.sketches[name], ClassSketches)
        a, b = found.state(), parts.sketches[name].state()
        assert np.array_equal(a["ids"], b["ids"])
        np.testing.assert_allclose(a["score"], b["score"], rtol=1e-4)
    for name, totals in whole.totals.items():
        a, b = totals.state(), parts.totals[name].state()
        assert a.keys() == b.keys()
        for key, value in a.items():
            # sums of N terms in float32, which nearly cancel where the gradient is
            np.testing.assert_allclose(b[key], value, rtol=1e-4, atol=1e-7 * N, err_msg=key)
