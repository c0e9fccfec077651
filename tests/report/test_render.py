"""Lines, tables and numbers as a person reads them."""

from __future__ import annotations

import pytest

from coretree.learn import scoring
from coretree.report import render
from coretree.report.render import Fact


def test_lines_are_aligned_whatever_the_label() -> None:
    lines = [render.line(Fact(label, "text")) for label in ("data", "full data", "held-out")]
    assert {line.index("text") for line in lines} == {render.LABEL_WIDTH}


def test_a_long_label_keeps_a_blank() -> None:
    assert render.line(Fact("a very long label", "text")).split("  ")[0].endswith("label text")


def test_long_sentences_are_wrapped_under_themselves() -> None:
    text = " ".join(f"word{i}" for i in range(40))
    lines = render.line(Fact("data", text, 1.25), width=60).split("\n")
    assert len(lines) > 3
    assert max(map(len, lines)) <= 60
    assert all(line.startswith(" " * render.LABEL_WIDTH) for line in lines[1:])
    assert " ".join(" ".join(lines).split()) == f"data {text} (1.2 s)"


def test_losses_get_their_sign_back() -> None:
    assert render.leaderboard([("a", -0.5), ("b", None)], "neg_log_loss") == "a 0.5000  b --"
    assert render.score("neg_brier_score", -0.25) == "Brier score 0.2500"


def test_every_score_has_a_name_for_people() -> None:
    assert set(scoring.SCORINGS) <= set(render.SCORE_NAMES)
    assert set(render.HEADLINES) <= set(render.SCORE_NAMES)


def test_headline_leaves_out_what_is_undefined() -> None:
    assert render.headline({"roc_auc": None, "accuracy": 1.0, "confusion": [[1]]}) == "accuracy 1.0000"
    assert render.headline({"r2": 0.5, "rmse": 12_345.678, "mae": 2.0}) == "R² 0.5000, RMSE 12,345.7, MAE 2.0000"


@pytest.mark.parametrize(("value", "text"), [(59.94, "59.9 s"), (60, "1 min 0 s"), (3_725, "62 min 5 s")])
def test_seconds(value: float, text: str) -> None:
    assert render.seconds(value) == text


def test_tables_stay_rectangular_with_wide_labels() -> None:
    lines = render.confusion(["a", "a much longer label"], [[1.0, 2.0], [30_000.0, 4.0]]).split("\n")
    assert len({len(line) for line in lines}) == 1
    assert "30,000" in lines[2]
