"""Standings: the order is that of the full data, where the coreset's own order is wrong."""

from __future__ import annotations

import json
import math

import pytest

from coretree.learn.metrics import classification_tally, regression_tally
from coretree.learn.scoring import SCORINGS
from coretree.learn.standings import IN_TALLIES, Comparison, ranked, standing, suits, tallied_score

FULL = 1_000_000
ROWS = (8000, 4000, 2000)


def place(name, scores, **options):
    given = {"gains": True, "exact": False, "confidence": 0.95, "seconds": 1.0, **options}
    return standing(name, "balanced", dict(zip(ROWS, scores, strict=True)), FULL, **given)


def comparison(rows):
    return Comparison(ranked(rows), "roc_auc", 0.95, FULL, 5000, "held-out rows", {r.name: r.name for r in rows}, 1.0)


LINEAR = place("linear", (0.7200, 0.7201, 0.7199), gains=False)
TREE = place("tree", (0.7100, 0.6950, 0.6740))
BLANK = standing(
    "blank", "robust", {8000: math.nan, 4000: 0.5}, FULL, gains=True, exact=False, confidence=0.95, seconds=1
)


def test_a_tree_that_still_learns_is_ranked_above_a_linear_model_that_scores_better_now():
    board = comparison([LINEAR, TREE])
    assert [row.name for row in board.rows] == ["tree", "linear"]
    assert max(board.rows, key=lambda row: row.value).name == "linear"  # what the coreset alone would say
    assert board.best == board.model == "tree"
    assert board.undecided == ("linear",)  # three sizes do not prove it
    flat = place("tree", (0.7100, 0.7099, 0.7101))
    assert comparison([LINEAR, flat]).best == "linear"


def test_bands_of_trees_are_wider():
    assert TREE.high - TREE.low > 10 * (LINEAR.high - LINEAR.low)


def test_bands_that_meet_are_undecided():
    near = place("near", (0.7195, 0.7100, 0.7050))
    assert comparison([near, TREE, LINEAR]).undecided


def test_what_could_not_be_scored_comes_last_and_says_so():
    board = comparison([BLANK, LINEAR])
    assert [row.name for row in board.rows] == ["linear", "blank"]
    assert math.isnan(board.rows[1].extrapolated)
    assert board.undecided == ()
    plain = json.loads(json.dumps(board.to_dict(), allow_nan=False))
    assert plain["best"] == "linear"
    assert plain["rows"][1]["value"] is None


def test_an_exact_model_has_its_score_and_no_band():
    exact = standing("ridge", "moments", {8000: 0.8}, FULL, gains=False, exact=True, confidence=0.95, seconds=1)
    assert (exact.low, exact.extrapolated, exact.high) == (0.8, 0.8, 0.8)


def test_the_table_and_the_text_hold_what_matters():
    board = comparison([LINEAR, TREE])
    assert list(board.table.index) == ["tree", "linear"]
    assert list(board.table.columns) == [
        "sketch", "rows", "value", "extrapolated", "low", "high", "seconds", "note",
    ]  # fmt: skip
    text = repr(board)
    assert "roc_auc on 5,000 held-out rows" in text
    assert f"{TREE.extrapolated:.4f} [{TREE.low:.4f}, {TREE.high:.4f}]" in text


def test_every_score_has_its_tally():
    assert set(IN_TALLIES) == set(SCORINGS)
    classes = classification_tally([0, 1, 1], [0, 1, 0], proba=[[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]], n_classes=2)
    numbers = regression_tally([1.0, 2.0, 4.0], [1.0, 2.0, 3.0])
    for name in SCORINGS:
        tally = numbers if suits(name, "regression") else classes
        assert not math.isnan(tallied_score(tally.metrics(), name))
    assert tallied_score(numbers.metrics(), "neg_mean_squared_error") == pytest.approx(-1 / 3)
