"""Which nodes a window takes, what a leaf that it cuts keeps, and that its sums are unbiased."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coretree.coreset.priority import sketch
from coretree.coreset.scores import pilot_state
from coretree.coreset.totals import totals_at
from coretree.tree.manifest import StoredObject
from coretree.tree.plan import plan
from coretree.tree.windows import NOTHING, PART, WHOLE, Span, cover, difference_estimate


def leaves_below(shape, name):
    children = shape.nodes[name]
    return [name] if not children else [leaf for child in children for leaf in leaves_below(shape, child)]


@settings(max_examples=60, deadline=None)
@given(wanted=st.lists(st.sampled_from([WHOLE, NOTHING, PART]), min_size=1, max_size=80), fan_in=st.integers(2, 5))
def test_a_cover_is_exactly_what_is_wanted(wanted, fan_in):
    names = [f"n{i}" for i in range(len(wanted))]
    shape = plan(names, recipe="r", fan_in=fan_in)
    found = cover(shape, wanted)
    whole = [
        leaf for name, cut in zip(found.names, found.cut, strict=True) if not cut for leaf in leaves_below(shape, name)
    ]
    cut = [name for name, cut in zip(found.names, found.cut, strict=True) if cut]
    assert whole == [name for name, w in zip(names, wanted, strict=True) if w == WHOLE]  # each once, in leaf order
    assert cut == [name for name, w in zip(names, wanted, strict=True) if w == PART]
    # and with the fewest nodes: no merge has all of its children taken
    taken = set(found.names)
    assert not any(children and set(children) <= taken - set(cut) for children in shape.nodes.values())


@pytest.mark.parametrize("n", [1000])
def test_a_run_of_leaves_takes_few_nodes(n):
    names = [f"n{i}" for i in range(n)]
    shape = plan(names, recipe="r", fan_in=8)
    rng = np.random.default_rng(0)
    worst = 0
    for _ in range(200):
        low, high = sorted(rng.choice(n + 1, 2, replace=False))
        wanted = [WHOLE if low <= i < high else NOTHING for i in range(n)]
        worst = max(worst, len(cover(shape, wanted).names))
    assert 8 < worst <= 2 * 8 * np.ceil(np.log(n) / np.log(8))


@pytest.mark.parametrize(
    ("start", "end", "first", "last", "expected"),
    [
        (None, None, None, None, WHOLE),
        (10, None, None, None, NOTHING),  # no row has a time
        (10, 20, 10, 19, WHOLE),
        (10, 20, 10, 20, PART),  # the end is left out
        (10, 20, 20, 30, NOTHING),
        (10, 20, 0, 10, PART),  # the start is not
        (10, 20, 0, 9, NOTHING),
        (10, None, 10, 99, WHOLE),
        (None, 20, 0, 25, PART),
        (10, 20, 0, 99, PART),
    ],
)
def test_edges(start, end, first, last, expected):
    assert Span(start, end).covers(StoredObject("", 0, 5, first, last)) == expected


def test_a_missing_time_is_inside_of_no_leaf_that_is_cut():
    seconds = np.array([np.nan, 5.0, 10.0, 15.0])
    assert Span(5, 15).holds(seconds).tolist() == [False, True, True, False]
    assert Span(None, 15).holds(seconds).tolist() == [False, True, True, False]
    assert Span().holds(seconds).all()


def test_restricted_sketches_are_unbiased_and_disjoint_windows_add_up():
    """Over seeds: the weighted count of each third of the rows, against its true size, as z-scores."""
    rng = np.random.default_rng(0)
    n, seeds = 600, 400
    score = rng.lognormal(size=n)
    seconds = np.arange(n)
    edges = [0, 100, 350, n]
    counts = np.zeros((seeds, 3))
    for seed in range(seeds):
        u = np.random.default_rng(seed + 1).random(n)
        whole = sketch(np.arange(n, dtype=np.uint64), score, {"seconds": seconds}, 60, uniforms=u)
        for j, (low, high) in enumerate(pairwise(edges)):
            part = whole.restricted((whole.rows["seconds"] >= low) & (whole.rows["seconds"] < high)).finalise()
            counts[seed, j] = part.weights.sum()
            assert ((part.rows["seconds"] >= low) & (part.rows["seconds"] < high)).all()
        np.testing.assert_allclose(counts[seed].sum(), whole.finalise().weights.sum(), rtol=1e-12)
    z = (counts.mean(0) - np.diff(edges)) / (counts.std(0) / np.sqrt(seeds))
    assert np.abs(z).max() < 4
    # negative control: the members' own base weights are far off
    assert np.abs((np.array([60 * 100 / 600] * 3) - np.diff(edges)) / (counts.std(0) / np.sqrt(seeds))).min() > 20


def test_sums_of_a_cut_leaf_are_unbiased_and_nearer_than_its_sampled_rows_say():
    rng = np.random.default_rng(0)
    n, m, seeds = 2_000, 100, 400
    X = np.column_stack([np.ones(n), rng.lognormal(size=(n, 2))])
    y = (rng.random(n) < 0.3).astype(float)
    pilot = pilot_state(X, y, np.ones(n), "logistic", [n - y.sum(), y.sum()])
    known = totals_at(X, y, None, pilot)
    for share in (0.2, 0.9):
        inside = np.arange(n) < share * n
        true = totals_at(X[inside], y[inside], None, pilot, hessian="none")
        gradients, plain = np.zeros((seeds, 3)), np.zeros((seeds, 3))
        for i in range(seeds):
            rows = rng.permutation(n)[:m]
            w = np.full(m, n / m)
            gradients[i] = difference_estimate(pilot, known, X[rows], y[rows], w, inside[rows]).gradient
            among = rows[inside[rows]]
            plain[i] = totals_at(X[among], y[among], w[: len(among)], pilot, hessian="none").gradient
        z = (gradients.mean(0) - true.gradient) / (gradients.std(0) / np.sqrt(seeds))
        assert np.abs(z).max() < 4
        assert (gradients.std(0) < np.sqrt(1.3 * (1 - share)) * plain.std(0)).all()
    # all or nothing: the sums that are known, and none
    rows, w = np.arange(m), np.full(m, n / m)
    for inside, factor in ((np.ones(m, bool), 1.0), (np.zeros(m, bool), 0.0)):
        found = difference_estimate(pilot, known, X[rows], y[rows], w, inside)
        np.testing.assert_allclose(found.gradient, factor * known.gradient, atol=1e-9 * n)
        np.testing.assert_allclose(found.loss, factor * known.loss)
