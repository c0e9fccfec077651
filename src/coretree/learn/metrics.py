"""How well predicted classes, probabilities and scores fit held-out rows, as exact mergeable sums.

:class:`ClassificationTally` is here; its numeric twin ``RegressionTally`` lives in :mod:`coretree.learn.residuals`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from coretree.learn.checks import (
    Codes,
    FloatTable,
    check_n_classes,
    checked_codes,
    checked_decision,
    checked_proba,
    checked_weights,
)
from coretree.learn.curves import CurvePoints, Scale, ScoreHistogram, score_histogram
from coretree.learn.means import Floats, MeanTally, mean_tally
from coretree.learn.residuals import RegressionTally, regression_tally

__all__ = ["ClassificationTally", "RegressionTally", "classification_tally", "regression_tally"]


@dataclass(frozen=True, eq=False)
class ClassificationTally:
    """Mergeable sums over held-out rows for K classes; build one with :func:`classification_tally`.

    Parameters
    ----------
    n_rows : int
        Rows seen, those of weight 0 included.
    confusion : ndarray of shape (K, K)
        Weight by true class (row) and predicted class (column).
    log_loss : MeanTally, optional
        Tally of the rows' log loss; None without probabilities.
    brier_sum : float
        Weighted sum of ``(p_1 - y)^2`` for two classes, of ``sum_k (p_k - [y = k])^2`` for more.
    scores : ScoreHistogram, optional
        Score bins: one curve for two classes (1 is positive), else one a class against the rest. None without scores.

    Examples
    --------
    >>> import numpy as np
    >>> y, proba = np.array([0, 1, 1]), np.array([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8]])
    >>> tally = classification_tally(y, proba.argmax(axis=1), proba=proba, n_classes=2)
    >>> round(tally.metrics()["accuracy"], 4), tally.metrics()["roc_auc"]
    (0.6667, 1.0)
    """

    n_rows: int
    confusion: Floats
    log_loss: MeanTally | None
    brier_sum: float
    scores: ScoreHistogram | None

    @classmethod
    def empty(cls, n_classes: int, has_proba: bool = False, has_decision: bool = False) -> Self:
        """Return the tally of no row: the identity of ``+`` among tallies of the same kind."""
        check_n_classes(n_classes)
        scale: Scale = "probability" if has_proba else "decision"
        n_curves = 1 if n_classes == 2 else n_classes
        return cls(
            n_rows=0,
            confusion=np.zeros((n_classes, n_classes)),
            log_loss=MeanTally() if has_proba else None,
            brier_sum=0.0,
            scores=ScoreHistogram.empty(n_curves, scale) if has_proba or has_decision else None,
        )

    @property
    def n_classes(self) -> int:
        """Number of classes, K."""
        return len(self.confusion)

    @property
    def weight(self) -> float:
        """Sum of the rows' weights."""
        return float(self.confusion.sum())

    def __add__(self, other: ClassificationTally) -> ClassificationTally:
        """Return the tally of both sets of rows."""
        if not isinstance(other, ClassificationTally):
            return NotImplemented
        mine, theirs = self._kind(), other._kind()
        if mine != theirs:
            raise ValueError(f"tallies add up only when they are of one kind; found {mine} and {theirs}.")
        return ClassificationTally(
            n_rows=self.n_rows + other.n_rows,
            confusion=self.confusion + other.confusion,
            log_loss=None if self.log_loss is None or other.log_loss is None else self.log_loss + other.log_loss,
            brier_sum=self.brier_sum + other.brier_sum,
            scores=None if self.scores is None or other.scores is None else self.scores + other.scores,
        )

    def __radd__(self, other: int) -> ClassificationTally:
        """Let ``sum()`` start from 0."""
        return self if other == 0 else NotImplemented

    def _kind(self) -> str:
        return f"{self.n_classes} classes with {'no' if self.scores is None else self.scores.scale} scores"

    def metrics(self) -> dict[str, Any]:
        """Return every metric as plain numbers, lists of them, or None where a value is undefined; never NaN.

        Returns
        -------
        dict
            ``n_rows``, ``accuracy``, ``balanced_accuracy``; ``precision``, ``recall``, ``f1`` each as ``_per_class``
            (list of K), ``_macro`` and ``_weighted``; ``log_loss``, ``brier``; ``roc_auc``, ``average_precision``, each
            with its ``_error`` (the exact value is at most that far away); ``confusion`` (K lists of K).

        Notes
        -----
        As in scikit-learn, averages run over the classes that occur among true or predicted ones (balanced accuracy:
        true ones), and a precision, recall or F1 of 0 / 0 is 0. With two classes ``roc_auc`` and
        ``average_precision`` take code 1 as positive; with more they are the mean of one class against the rest,
        undefined as soon as one class has no row.
        """
        support, predicted = self.confusion.sum(axis=1), self.confusion.sum(axis=0)
        weight = self.weight
        recall = _ratios(np.diag(self.confusion), support)
        found: dict[str, Any] = {
            "n_rows": self.n_rows,
            "accuracy": float(np.trace(self.confusion)) / weight if weight > 0.0 else None,
            "balanced_accuracy": float(recall[support > 0.0].mean()) if weight > 0.0 else None,
        }
        occurs = support + predicted > 0.0
        for name, values in zip(("precision", "recall", "f1"), self._precision_recall_f1(), strict=True):
            found[f"{name}_per_class"] = values.tolist()
            found[f"{name}_macro"] = float(values[occurs].mean()) if weight > 0.0 else None
            found[f"{name}_weighted"] = float(values @ support) / weight if weight > 0.0 else None
        found["log_loss"] = None if self.log_loss is None else self.log_loss.mean
        found["brier"] = None if self.log_loss is None or weight <= 0.0 else self.brier_sum / weight
        return {**found, **self._areas(), "confusion": self.confusion.tolist()}

    def _precision_recall_f1(self) -> tuple[Floats, Floats, Floats]:
        hits, support, predicted = np.diag(self.confusion), self.confusion.sum(axis=1), self.confusion.sum(axis=0)
        return _ratios(hits, predicted), _ratios(hits, support), _ratios(2.0 * hits, support + predicted)

    def _areas(self) -> dict[str, float | None]:
        """Return both areas, averaged over the curves, with their errors."""
        found: dict[str, float | None] = {}
        scores = self.scores
        n_curves = 0 if scores is None else len(scores.positives)
        for name, area in (
            ("roc_auc", ScoreHistogram.roc_auc),
            ("average_precision", ScoreHistogram.average_precision),
        ):
            areas = [] if scores is None else [area(scores, curve) for curve in range(n_curves)]
            known = [each for each in areas if each is not None]
            defined = n_curves > 0 and len(known) == n_curves
            found[name] = sum(each.value for each in known) / n_curves if defined else None
            found[f"{name}_error"] = sum(each.error for each in known) / n_curves if defined else None
        return found

    def per_class(self, labels: Sequence[Any]) -> list[dict[str, Any]]:
        """Return one row a class: label, support (weight of its true rows), precision, recall, f1.

        Parameters
        ----------
        labels : sequence of K
            The classes' names, by code.
        """
        if len(labels) != self.n_classes:
            raise ValueError(f"labels must name each of the {self.n_classes} classes; found {len(labels)}.")
        columns = (self.confusion.sum(axis=1), *self._precision_recall_f1())
        names = ("support", "precision", "recall", "f1")
        rows = zip(labels, *(column.tolist() for column in columns), strict=True)
        return [{"label": label, **dict(zip(names, row, strict=True))} for label, *row in rows]

    def log_loss_interval(self, level: float = 0.95) -> tuple[float, float] | None:
        """Return the confidence interval of the log loss; None without probabilities. See `MeanTally.interval`."""
        return None if self.log_loss is None else self.log_loss.interval(level)

    def roc_points(self, code: int = 1, *, max_points: int = 500) -> CurvePoints:
        """Return false positive rate, true positive rate and threshold of a class. See `ScoreHistogram.roc_points`."""
        scores, curve = self._curve_of(code)
        return scores.roc_points(curve, max_points=max_points)

    def pr_points(self, code: int = 1, *, max_points: int = 500) -> CurvePoints:
        """Return recall, precision and threshold of a class. See `ScoreHistogram.pr_points`."""
        scores, curve = self._curve_of(code)
        return scores.pr_points(curve, max_points=max_points)

    def _curve_of(self, code: int) -> tuple[ScoreHistogram, int]:
        codes = [1] if self.n_classes == 2 else list(range(self.n_classes))
        if self.scores is None:
            raise ValueError("this tally holds no scores, so no curve; tally with proba= or decision=.")
        if code not in codes:
            raise ValueError(f"code must be one of {codes}, the classes that have a curve; found {code!r}.")
        return self.scores, codes.index(code)

    def state(self) -> dict[str, npt.NDArray[Any]]:
        """Return the tally as arrays, for storing."""
        stored: dict[str, npt.NDArray[Any]] = {
            "n_rows": np.array([self.n_rows], dtype=np.int64),
            "confusion": self.confusion,
        }
        if self.log_loss is not None:
            stored["log_loss"] = self.log_loss.to_array()
            stored["brier_sum"] = np.array([self.brier_sum])
        if self.scores is not None:
            stored |= {f"scores_{name}": values for name, values in self.scores.state().items()}
        return stored

    @classmethod
    def from_state(cls, state: dict[str, npt.NDArray[Any]]) -> Self:
        """Rebuild a tally from :meth:`state`, bit for bit."""
        scores = {name.removeprefix("scores_"): values for name, values in state.items() if name.startswith("scores_")}
        return cls(
            n_rows=int(state["n_rows"][0]),
            confusion=np.asarray(state["confusion"]),
            log_loss=MeanTally.from_array(state["log_loss"]) if "log_loss" in state else None,
            brier_sum=float(state["brier_sum"][0]) if "brier_sum" in state else 0.0,
            scores=ScoreHistogram.from_state(scores) if scores else None,
        )


def classification_tally(
    y_codes: npt.ArrayLike,
    predicted_codes: npt.ArrayLike,
    *,
    n_classes: int,
    proba: npt.ArrayLike | None = None,
    decision: npt.ArrayLike | None = None,
    weights: npt.ArrayLike | None = None,
) -> ClassificationTally:
    """Tally one partition of held-out rows in one pass, without sorting.

    Parameters
    ----------
    y_codes, predicted_codes : array-like of int of shape (n,)
        True and predicted classes, as codes in [0, n_classes).
    n_classes : int
        Number of classes K, at least 2; a class may be missing from these rows.
    proba : array-like of shape (n, K), optional
        Predicted probabilities. The log loss cuts them to [eps, 1 - eps] of float64.
    decision : array-like of shape (n,) or (n, K), optional
        Decision values; (n,) for two classes only, (n, 2) counts by its second column. Curves use them only where
        there are no probabilities.
    weights : array-like of shape (n,), optional
        Rows' weights, finite and not negative; 1 each when left out.

    Returns
    -------
    ClassificationTally

    Raises
    ------
    ValueError
        Shapes, codes, probabilities, decision values or weights are not as described.
    """
    check_n_classes(n_classes)
    y = checked_codes("y_codes", y_codes, n_classes)
    predicted = checked_codes("predicted_codes", predicted_codes, n_classes)
    if len(y) != len(predicted):
        raise ValueError(
            f"y_codes and predicted_codes must match row by row; found {len(y)} and {len(predicted)} rows."
        )
    checked = checked_weights(weights, len(y))
    pairs = np.bincount(y * n_classes + predicted, checked, minlength=n_classes * n_classes)
    shares = None if proba is None else checked_proba(proba, len(y), n_classes)
    scale: Scale = "decision" if shares is None else "probability"
    columns = shares if shares is not None else checked_decision(decision, len(y), n_classes)
    codes = [1] if n_classes == 2 else list(range(n_classes))
    return ClassificationTally(
        n_rows=len(y),
        confusion=pairs.reshape(n_classes, n_classes).astype(np.float64),
        log_loss=None if shares is None else mean_tally(_row_log_loss(y, shares), checked),
        brier_sum=0.0 if shares is None else mean_tally(_row_brier(y, shares), checked).total,
        scores=None
        if columns is None
        else score_histogram([columns[:, code] for code in codes], [y == code for code in codes], scale, checked),
    )


def _row_log_loss(y: Codes, proba: FloatTable) -> Floats:
    eps = np.finfo(np.float64).eps
    chosen = proba[np.arange(len(y)), y].astype(np.float64)
    return -np.log(np.clip(chosen, eps, 1.0 - eps))


def _row_brier(y: Codes, proba: FloatTable) -> Floats:
    total = np.zeros(len(y))
    for code in [1] if proba.shape[1] == 2 else range(proba.shape[1]):
        total += np.square(proba[:, code].astype(np.float64) - (y == code))
    return total


def _ratios(part: Floats, whole: Floats) -> Floats:
    """Divide, with 0 for 0 / 0."""
    return np.divide(part, whole, out=np.zeros(len(part)), where=whole > 0.0)
