"""Facts become lines of text: aligned labels, plain sentences, numbers that a person reads at a glance."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

LABEL_WIDTH = 10
SCORE_NAMES = {
    "roc_auc": "ROC AUC",
    "average_precision": "average precision",
    "neg_log_loss": "log loss",
    "log_loss": "log loss",
    "neg_brier_score": "Brier score",
    "brier": "Brier score",
    "accuracy": "accuracy",
    "f1_macro": "macro F1",
    "r2": "R²",
    "mse": "MSE",
    "rmse": "RMSE",
    "mae": "MAE",
    "neg_mean_squared_error": "MSE",
    "neg_root_mean_squared_error": "RMSE",
    "neg_mean_absolute_error": "MAE",
}
# What a sentence about held-out rows names, in this order, where it is defined.
HEADLINES = ("roc_auc", "average_precision", "log_loss", "accuracy", "f1_macro", "r2", "rmse", "mae")


@dataclass(frozen=True)
class Fact:
    """One line of a report.

    Parameters
    ----------
    label : str
        What it is about, in a word or two.
    text : str
        One sentence.
    seconds : float, optional
        How long it took.
    """

    label: str
    text: str
    seconds: float | None = None


@dataclass(frozen=True)
class Ears:
    """Who listens to a run: facts are the result as it comes, progress is ``(stage, done, total)`` for a bar."""

    say: Callable[[Fact], None]
    progress: Callable[[str, int, int], None]


def line(fact: Fact, *, width: int = 0) -> str:
    """A fact as text: label, sentence and seconds; wrapped under the sentence where ``width`` is given.

    Examples
    --------
    >>> print(line(Fact("data", "12 files, 336,776 rows", 2.31)))
    data      12 files, 336,776 rows (2.3 s)
    """
    text = fact.text if fact.seconds is None else f"{fact.text} ({seconds(fact.seconds)})"
    label = f"{fact.label:<{LABEL_WIDTH - 1}} "
    if not width:
        return label + text
    wrapped = textwrap.wrap(
        text,
        max(width, 2 * LABEL_WIDTH),
        initial_indent=label,
        subsequent_indent=" " * LABEL_WIDTH,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return "\n".join(wrapped)


def seconds(value: float) -> str:
    """Duration for a person.

    Examples
    --------
    >>> seconds(0.04), seconds(12.34), seconds(190.0)
    ('0.0 s', '12.3 s', '3 min 10 s')
    """
    return f"{value:.1f} s" if value < 60 else f"{int(value) // 60} min {int(value) % 60} s"


def size(n_bytes: float) -> str:
    """Number of bytes for a person.

    Examples
    --------
    >>> size(900), size(8_206_144), size(41e9)
    ('900 bytes', '7.8 MiB', '38.2 GiB')
    """
    for unit, factor in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if n_bytes >= factor:
            return f"{n_bytes / factor:.1f} {unit}"
    return f"{int(n_bytes)} bytes"


def count(n: int, what: str) -> str:
    """A number with its noun.

    Examples
    --------
    >>> count(1, "file"), count(412, "file")
    ('1 file', '412 files')
    """
    return f"{n:,} {what}" if n == 1 else f"{n:,} {what}s"


def score(name: str, value: float | None) -> str:
    """A score with the name that people know it by; scikit-learn's negated losses get their sign back.

    Examples
    --------
    >>> score("roc_auc", 0.70123), score("neg_log_loss", -0.5166), score("r2", None)
    ('ROC AUC 0.7012', 'log loss 0.5166', 'R² undefined')
    """
    label = SCORE_NAMES.get(name, name)
    if value is None:
        return f"{label} undefined"
    return f"{label} {_number(-value if name.startswith('neg_') else value)}"


def _number(value: float) -> str:
    return f"{value:.4f}" if abs(value) < 1000 else f"{value:,.1f}"


def headline(metrics: Mapping[str, Any]) -> str:
    """The few numbers that matter most, as part of a sentence.

    Examples
    --------
    >>> headline({"roc_auc": 0.7012, "log_loss": None, "accuracy": 0.76})
    'ROC AUC 0.7012, accuracy 0.7600'
    """
    return ", ".join(score(name, metrics[name]) for name in HEADLINES if metrics.get(name) is not None)


def leaderboard(rows: Sequence[tuple[str, float | None]], scoring: str) -> str:
    """Models with their scores, in the order they were tried.

    Examples
    --------
    >>> leaderboard([("logistic", 0.7012), ("tree", None)], "roc_auc")
    'logistic 0.7012  tree --'
    """
    sign = -1.0 if scoring.startswith("neg_") else 1.0
    return "  ".join(f"{name} {'--' if value is None else _number(sign * value)}" for name, value in rows)


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Aligned columns: the first to the left, the others to the right.

    Examples
    --------
    >>> print(table(["class", "rows"], [["no", "12"], ["yes", "7"]]))
    class  rows
    no       12
    yes       7
    """
    cells = [list(header), *map(list, rows)]
    widths = [max(len(row[j]) for row in cells) for j in range(len(header))]
    return "\n".join(
        "  ".join(c.ljust(w) if j == 0 else c.rjust(w) for j, (c, w) in enumerate(zip(row, widths, strict=True)))
        for row in cells
    )


def per_class(rows: Sequence[Mapping[str, Any]]) -> str:
    """Precision, recall, F1 and rows of each class.

    Examples
    --------
    >>> print(per_class([{"label": True, "precision": 0.5, "recall": 0.25, "f1": 1 / 3, "support": 8.0}]))
    class  precision  recall      F1  rows
    True      0.5000  0.2500  0.3333     8
    """
    body = [
        [str(row["label"]), *(_number(row[k]) for k in ("precision", "recall", "f1")), f"{row['support']:,.0f}"]
        for row in rows
    ]
    return table(["class", "precision", "recall", "F1", "rows"], body)


def confusion(labels: Sequence[Any], counts: Sequence[Sequence[float]]) -> str:
    r"""Confusion matrix: true classes down, predicted ones across.

    Examples
    --------
    >>> print(confusion(["no", "yes"], [[9.0, 1.0], [2.0, 3.0]]))
    true \ predicted  no  yes
    no                 9    1
    yes                2    3
    """
    rows = [[str(label), *(f"{n:,.0f}" for n in row)] for label, row in zip(labels, counts, strict=True)]
    return table(["true \\ predicted", *map(str, labels)], rows)
