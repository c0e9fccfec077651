"""Part of a calibrated sample, weighed to stand for all the data on its own."""

import numpy as np
import pytest
from scipy.special import expit

from coretree.coreset.derivatives import objective
from coretree.coreset.losses import loss_named
from coretree.coreset.pilot import fit_pilot
from coretree.coreset.priority import sketch
from coretree.coreset.rows import row_ids, uniforms
from coretree.coreset.scores import pilot_state, robust_scores
from coretree.coreset.totals import totals_at
from coretree.learn.reweigh import Recalibration

N, D = 40_000, 9


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    X = np.asfortranarray(np.c_[np.ones(N), rng.standard_normal((N, D - 1))])
    y = (rng.random(N) < expit(X @ rng.standard_normal(D) - 1)).astype(float)
    return X, y


def recalibration(data, size):
    X, y = data
    ids = row_ids("a.parquet", 0, np.arange(N))
    pick = np.random.default_rng(1).choice(N, 2000, replace=False)
    counts = np.bincount(y.astype(int))
    pilot = pilot_state(X[pick], y[pick], np.full(2000, N / 2000), "logistic", counts)
    u = uniforms(ids, 0, "robust")
    sample = sketch(ids, robust_scores(X, y, pilot), {"i": np.arange(N)}, size, uniforms=u).finalise()
    rows = sample.rows["i"]
    return Recalibration(sample.weights, sample.base, X[rows], y[rows], pilot, totals_at(X, y, None, pilot)), counts


@pytest.mark.parametrize("size", [1500, 6000])
def test_weights_of_a_part_sum_to_all_class_counts(data, size):
    reweigh, counts = recalibration(data, size)
    index = np.flatnonzero(np.arange(size) % 5 != 0)
    w = reweigh(index)
    assert w.shape == index.shape
    assert (w > 0).all()
    np.testing.assert_allclose(np.bincount(reweigh.y[index].astype(int), w), counts, rtol=1e-9)
    assert reweigh(index) is w


def test_a_fit_on_a_part_is_near_the_fit_on_all_rows_and_design_weights_are_not(data):
    X, y = data
    reweigh, _ = recalibration(data, 1500)
    index = np.flatnonzero(np.arange(1500) % 5 != 0)
    loss = loss_named("logistic")
    best = objective(fit_pilot(X, y, np.ones(N), loss), X, y, np.ones(N), loss, 1.0)

    def excess(w):
        theta = fit_pilot(np.asfortranarray(reweigh.X[index]), reweigh.y[index], w, loss)
        return objective(theta, X, y, np.ones(N), loss, 1.0) / best - 1

    plain = reweigh.weights[index] * 1.25
    assert excess(reweigh(index)) < 1e-4 < excess(plain)


def test_a_large_share_of_the_data_is_only_rescaled(data):
    reweigh, _ = recalibration(data, 6000)
    index = np.flatnonzero(np.arange(6000) % 5 != 0)
    w, y = reweigh(index), reweigh.y[index]
    d = np.maximum(reweigh.weights[index] * (reweigh.weights.sum() / reweigh.weights[index].sum()), 1.0)
    for code in (0, 1):
        ratio = w[y == code] / d[y == code]
        np.testing.assert_allclose(ratio, ratio[0], rtol=1e-9)
