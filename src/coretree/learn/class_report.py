"""Precision, recall, F1 and support of each class from a weighted confusion matrix, as a table and as text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.metrics import classification_report

COLUMNS = ["precision", "recall", "f1", "support"]


@dataclass(frozen=True, eq=False)
class ClassReport:
    """How a classifier does on each class; ``print`` shows it as text.

    Attributes
    ----------
    table : DataFrame
        One row a class, under its label: precision, recall, f1 and support (weight of its true rows). A share of
        nothing is 0.
    averages : DataFrame
        The same, "macro" (each class alike) and "weighted" (by support).
    accuracy : float
    n_rows : int
        Rows judged.
    unseen : dict of label to rows
        Rows of labels that the model does not know: counted here, and nowhere else.
    """

    table: pd.DataFrame
    averages: pd.DataFrame
    accuracy: float
    n_rows: int
    unseen: Mapping[Any, int] = field(default_factory=dict)

    def __str__(self) -> str:
        shown = pd.concat([self.table.set_axis([str(label) for label in self.table.index]), self.averages])
        formats = dict.fromkeys(COLUMNS[:3], "{:.4f}".format)
        text = shown.to_string(formatters={**formats, "support": "{:,.6g}".format})
        text += f"\naccuracy {self.accuracy:.4f} on {self.n_rows:,} rows"
        if self.unseen:
            text += f"; {sum(self.unseen.values()):,} more have labels that the model does not know: " + ", ".join(
                f"{label!r} ({n:,})" for label, n in self.unseen.items()
            )
        return text


def class_report(
    confusion: npt.NDArray[np.float64], labels: Sequence[Any], n_rows: int, unseen: Mapping[Any, int] | None = None
) -> ClassReport:
    """Report on a confusion matrix, computed by scikit-learn from its cells as weighted rows.

    Parameters
    ----------
    confusion : ndarray of shape (K, K)
        Weight by true class (row) and predicted class (column).
    labels : sequence of K
    n_rows : int
        Rows behind it.
    unseen : mapping of label to rows, optional

    Examples
    --------
    >>> print(class_report(np.array([[8.0, 2.0], [1.0, 4.0]]), ["no", "yes"], 15))
             precision recall     f1 support
    no          0.8889 0.8000 0.8421      10
    yes         0.6667 0.8000 0.7273       5
    macro       0.7778 0.8000 0.7847      15
    weighted    0.8148 0.8000 0.8038      15
    accuracy 0.8000 on 15 rows
    """
    k = len(labels)
    truth, guess = np.repeat(np.arange(k), k), np.tile(np.arange(k), k)
    found = classification_report(
        truth, guess, labels=range(k), sample_weight=confusion.ravel(), output_dict=True, zero_division=0.0
    )
    names = ["precision", "recall", "f1-score", "support"]
    rows = [[found[name][column] for column in names] for name in [*map(str, range(k)), "macro avg", "weighted avg"]]
    index = pd.Index(list(labels), dtype=object if len({type(x) for x in labels}) > 1 else None)
    return ClassReport(
        pd.DataFrame(rows[:k], index=index, columns=COLUMNS),
        pd.DataFrame(rows[k:], index=["macro", "weighted"], columns=COLUMNS),
        float(np.trace(confusion) / confusion.sum()),
        n_rows,
        dict(unseen or {}),
    )
