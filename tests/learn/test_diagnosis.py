"""What is said of a learning curve: each case by hand."""

from __future__ import annotations

import json

import pytest

from coretree.learn.diagnosis import Point, diagnosis
from coretree.learn.extrapolate import Extrapolation

ABOUT = {"loss": "log loss", "n_rows": 100_000, "scored_rows": 900}


def judged(train, validation, full, guess=0.7, **options):
    points = [Point(400, 0.1, validation + 0.05), Point(800, train, validation)]
    return diagnosis(points, guess, Extrapolation(*full), **ABOUT, **options)


@pytest.mark.parametrize(
    ("train", "validation", "full", "fit", "helps"),
    [
        (0.20, 0.50, (0.40, 0.35, 0.45), "overfits", True),
        (0.20, 0.50, (0.499, 0.49, 0.51), "overfits", False),
        (0.499, 0.50, (0.4995, 0.49, 0.51), "underfits", False),
        (0.499, 0.50, (0.45, 0.42, 0.49), "fits", True),
        (0.47, 0.50, (0.499, 0.49, 0.51), "fits", False),
        (0.499, 0.50, (0.47, 0.40, 0.51), "fits", None),
        (0.69, 0.71, (0.70, 0.69, 0.71), "learns nothing", None),
        (0.10, 0.80, (0.70, 0.60, 0.79), "overfits", None),
    ],
)
def test_cases(train, validation, full, fit, helps):
    found = judged(train, validation, full)
    assert (found.fit, found.larger_helps) == (fit, helps)
    said = {True: "would help", False: "would hardly help", None: "may help"}[helps]
    assert said in found.sentence
    assert f"{validation:.4f}" in found.sentence


def test_a_fit_on_all_rows_needs_no_more():
    found = judged(0.499, 0.50, (0.5, 0.5, 0.5), exact=True)
    assert (found.fit, found.larger_helps) == ("underfits", False)
    assert "all rows already" in found.sentence


def test_points_are_sorted_and_plain():
    points = [Point(800, 0.4, 0.5), Point(200, 0.1, 0.6), Point(400, 0.3, 0.55)]
    found = diagnosis(points, 0.7, Extrapolation(0.4, 0.3, 0.45), **ABOUT)
    assert list(found.table.index) == [200, 400, 800]
    assert list(found.table["train"]) == [0.1, 0.3, 0.4]
    assert json.loads(json.dumps(found.to_dict()))["points"][0] == {"rows": 200, "train": 0.1, "validation": 0.6}
    assert found.sentence in repr(found)
