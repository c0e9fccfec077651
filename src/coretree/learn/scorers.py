"""What a search scores by: scikit-learn's names and scorers, always called with weights."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.metrics import get_scorer, get_scorer_names

from coretree.errors import ConfigError
from coretree.learn.scoring import RANKINGS, REGRESSION_SCORINGS, SCORINGS, weighted_score

DEFAULTS = {"classification": "roc_auc", "regression": "r2"}
SINGLE = "score"  # the name of a search's only score, as scikit-learn has it in its tables


@dataclass(frozen=True)
class WeightedScorer:
    """A score of a fitted model on weighted rows, greater is better; called as scikit-learn's scorers are.

    ``scorer`` is None for the names of `coretree.learn.scoring.SCORINGS`, which know what to do where a fold lacks a
    class; else scikit-learn's or the user's own.
    """

    name: str
    scorer: Any = None

    def __call__(
        self, estimator: Any, X: Any, y: Any, sample_weight: Any = None, classes: npt.ArrayLike | None = None
    ) -> float:
        """Score rows (n, d) with target (n,); ``classes`` are all labels, where the rows may lack some."""
        weights = np.ones(len(y)) if sample_weight is None else sample_weight
        if self.scorer is None:
            return weighted_score(estimator, X, y, weights=weights, scoring=self.name, classes=classes)
        return float(self.scorer(estimator, X, y, sample_weight=weights))

    @property
    def ranks(self) -> bool:
        """Whether only the order of predictions counts."""
        return self.scorer is None and self.name in RANKINGS


def scorers_for(scoring: Any, task: str) -> tuple[dict[str, WeightedScorer], bool]:
    """Scorers by the name that they have in a table, and whether there are several.

    Parameters
    ----------
    scoring : str, callable, sequence of str, mapping of name to str or callable, or None
        As scikit-learn's searches take it; None is "roc_auc" or "r2".
    task : {"classification", "regression"}

    Raises
    ------
    ConfigError
        There is no such score, it is for the other task, or it takes no weights.

    Examples
    --------
    >>> scorers_for(None, "regression")
    ({'score': WeightedScorer(name='r2', scorer=None)}, False)
    >>> sorted(scorers_for(["accuracy", "balanced_accuracy"], "classification")[0])
    ['accuracy', 'balanced_accuracy']
    """
    if scoring is None:
        scoring = DEFAULTS[task]
    if isinstance(scoring, str) or callable(scoring):
        return {SINGLE: _scorer(scoring, task)}, False
    named = dict(scoring) if isinstance(scoring, Mapping) else {name: name for name in scoring}
    if not named:
        raise ConfigError("scoring names no score.")
    return {str(name): _scorer(one, task) for name, one in named.items()}, True


def _scorer(scoring: Any, task: str) -> WeightedScorer:
    if callable(scoring):
        return WeightedScorer(getattr(scoring, "__name__", type(scoring).__name__), _weighted(scoring, repr(scoring)))
    if scoring in SCORINGS:
        if (scoring in REGRESSION_SCORINGS) != (task == "regression"):
            suitable = [name for name in SCORINGS if (name in REGRESSION_SCORINGS) == (task == "regression")]
            raise ConfigError(f"scoring={scoring!r} is not for {task}. Choose from {', '.join(suitable)}.")
        return WeightedScorer(scoring)
    names = get_scorer_names()
    if scoring not in names:
        near = difflib.get_close_matches(str(scoring), names, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ConfigError(
            f"No score is named {scoring!r}.{hint} Choose from {', '.join(SCORINGS)}, or any other name of "
            "sklearn.metrics.get_scorer_names()."
        )
    return WeightedScorer(scoring, _weighted(get_scorer(scoring), repr(scoring)))


def _weighted(scorer: Any, said: str) -> Any:
    """The scorer itself, once it is known to take weights: a score without them is that of another distribution."""
    parameters = inspect.signature(getattr(scorer, "_score_func", scorer)).parameters.values()
    if not any(p.name == "sample_weight" or p.kind is p.VAR_KEYWORD for p in parameters):
        raise ConfigError(
            f"scoring={said} takes no sample_weight, and the rows that it would score are weighted. Give a scorer "
            "that is called as scorer(estimator, X, y, sample_weight=w), such as make_scorer of a metric with weights."
        )
    return scorer
