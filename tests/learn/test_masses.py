"""Masses of classes inside a fit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coretree.learn.masses import root_class_weights


@settings(max_examples=25, deadline=None)
@given(data=st.data(), n_classes=st.integers(1, 4), scale=st.sampled_from([1e-3, 1.0, 1e6]))
def test_masses_are_roots_and_the_scale_does_not_matter(data: st.DataObject, n_classes: int, scale: float) -> None:
    codes = np.array(data.draw(st.lists(st.integers(0, n_classes - 1), min_size=2, max_size=30)))
    weights = np.array(data.draw(st.lists(st.floats(0.1, 100), min_size=codes.size, max_size=codes.size)))
    weights[0] = 200.0
    found = root_class_weights(codes, weights * scale, n_classes)
    assert found.mean() == pytest.approx(1.0)
    mass, inside = np.bincount(codes, weights), np.bincount(codes, found)
    ratios = inside[mass > 0] / np.sqrt(mass[mass > 0])
    np.testing.assert_allclose(ratios, ratios[0])
    own = weights / mass[codes]  # inside a class nothing changes but the scale
    np.testing.assert_allclose(found / inside[codes], own)


def test_sample_of_equal_weights_is_left_alone() -> None:
    np.testing.assert_array_equal(root_class_weights(np.array([0, 0, 0, 1]), np.full(4, 3.0), 2), 1.0)


def test_class_of_weight_zero_stays_zero() -> None:
    found = root_class_weights(np.array([0, 0, 1]), np.array([1.0, 2.0, 0.0]), 2)
    assert found[2] == 0.0
    assert np.isfinite(found).all()
