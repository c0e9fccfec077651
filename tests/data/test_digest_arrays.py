"""Packed digests come back bit for bit, empty ones and none at all included."""

from __future__ import annotations

import numpy as np
import pytest

from coretree.data.digest_arrays import pack, unpack
from coretree.data.quantiles import Digest, digest


@pytest.mark.parametrize("n", [0, 1, 3])
def test_round_trip(n: int) -> None:
    rng = np.random.default_rng(n)
    many = [digest(rng.standard_normal(50 * i), delta=100 + i) for i in range(n)]  # the first one is empty
    back = unpack(pack(many))
    assert len(back) == n
    for a, b in zip(many, back, strict=True):
        assert np.array_equal(a.means, b.means)
        assert np.array_equal(a.weights, b.weights)
        assert (a.minimum, a.maximum, a.delta) == (b.minimum, b.maximum, b.delta)


def test_what_comes_back_still_merges() -> None:
    left, right = digest(np.arange(100.0)), digest(np.arange(100.0, 201.0))
    back = unpack(pack([left, right, Digest.empty()]))
    assert float((back[0] + back[1] + back[2]).quantile(0.5)) == pytest.approx(float((left + right).quantile(0.5)))
