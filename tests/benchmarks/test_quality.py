"""The quality benchmark runs, small: the calibrated coreset is far below plain sampling, its negative control."""

import numpy as np
import pytest

from benchmarks.quality import METHODS, markdown, run, summary


@pytest.mark.parametrize(("name", "at_most", "gain"), [("gauss", 1e-5, 500), ("heavy tails, 1 %", 1e-3, 100)])
def test_excess_of_the_calibrated_coreset(name, at_most, gain):
    results = run([2000], 2, 50_000, None, [name])
    assert {r["method"] for r in results} == set(METHODS)

    def median(method):
        return np.median([r["excess"] for r in results if r["method"] == method])

    assert median("robust") <= at_most
    assert median("uniform") >= gain * median("robust")
    assert markdown(summary(results)).count("\n") == 2
