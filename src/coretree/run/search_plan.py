"""What a search was asked for, checked before any row is read: settings, rounds, and the score that decides."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

from sklearn.base import is_classifier, is_regressor
from sklearn.model_selection import ParameterGrid, ParameterSampler

from coretree.errors import ConfigError
from coretree.learn.scorers import SINGLE
from coretree.learn.search_table import halving_sizes
from coretree.learn.trials import with_params

STRATEGIES = ("grid", "random", "halving", "optuna")
LEAST_ROWS, LEAST_ROWS_A_FOLD = 500, 10


def check_arguments(search: Any) -> str:
    """Make sure that arguments can be meant; returns the task of the estimator.

    Raises
    ------
    ConfigError
    """
    estimator = search.estimator
    if not (is_classifier(estimator) or is_regressor(estimator)):
        raise ConfigError(
            f"CoresetSearchCV searches classifiers and regressors; {type(estimator).__name__} is neither. Clusterings "
            "have no score on held-out rows: compare their cost_on_cells_ instead."
        )
    if hasattr(estimator, "tree") and hasattr(estimator, "estimator"):
        raise ConfigError(
            f"give the estimator inside {type(estimator).__name__}, and tree=, size= and objective= to the search."
        )
    _among("strategy", search.strategy, STRATEGIES)
    _among("folds", search.folds, ("hash", "time"))
    _among("validate", search.validate, (None, "full"))
    for name, least in (("cv", 2), ("n_iter", 1), ("factor", 2), ("n_best", 1)):
        value = getattr(search, name)
        if not isinstance(value, int) or value < least:
            raise ConfigError(f"{name}={value!r} must be a whole number, at least {least}.")
    if (search.param_grid is None) == (search.param_distributions is None):
        raise ConfigError(
            'give param_grid={"C": [0.1, 1.0]} or param_distributions={"C": loguniform(0.1, 1)}, one of both.'
        )
    if search.error_score != "raise" and not isinstance(search.error_score, float | int):
        raise ConfigError(f'error_score={search.error_score!r} must be a number or "raise".')
    return "classification" if is_classifier(estimator) else "regression"


def _among(name: str, value: Any, known: Sequence[Any]) -> None:
    if value not in known:
        near = difflib.get_close_matches(str(value), [str(one) for one in known], n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ConfigError(f"{name}={value!r} is none of {', '.join(repr(one) for one in known)}.{hint}")


def settings_of(search: Any) -> list[dict[str, Any]] | None:
    """Settings to try, in order; None where Optuna will propose them.

    Raises
    ------
    ConfigError
        A parameter that the estimator has not, or values that are none.
    """
    grid = search.param_grid is not None
    space = search.param_grid if grid else search.param_distributions
    for one in [space] if isinstance(space, Mapping) else space:
        _check_names(search.estimator, one)
    if search.strategy == "optuna":
        if not isinstance(space, Mapping):
            raise ConfigError('strategy="optuna" takes one mapping of parameters, found a sequence of them.')
        return None
    try:
        if search.strategy == "grid" or (search.strategy == "halving" and grid):
            found = list(ParameterGrid(space))
        else:
            found = list(ParameterSampler(space, search.n_iter, random_state=search.seed))
    except (TypeError, ValueError) as error:
        also = ' Distributions are for strategy="random", "halving" or "optuna".' if search.strategy == "grid" else ""
        raise ConfigError(f"{'param_grid' if grid else 'param_distributions'}: {error}{also}") from None
    for params in found:
        try:
            with_params(search.estimator, params)
        except ValueError as error:
            raise ConfigError(f"{params}: {error}") from None
    return [dict(params) for params in found]


def _check_names(estimator: Any, space: Mapping[str, Any]) -> None:
    """Names that no setting could make known: below a step that may be replaced, any name may come to be one."""
    known = estimator.get_params(deep=True)
    for name in space:
        above = name.rpartition("__")[0]
        if name in known or (above and above in space):
            continue
        inside = [k for k in known if k.lower().endswith((f"__{name.lower()}", name.lower()))]
        near = inside or difflib.get_close_matches(name, known, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ConfigError(
            f"{name!r} is no parameter of {type(estimator).__name__}.{hint} It has {', '.join(sorted(known)[:30])}."
        )


def rounds_of(search: Any, n_settings: int, size: int, n_classes: int) -> list[tuple[int, int]]:
    """Settings and rows of each round; one round but for halving.

    Raises
    ------
    ConfigError
        ``min_size`` is more than there are rows.
    """
    if search.strategy != "halving":
        return [(n_settings, size)]
    least = max(LEAST_ROWS, LEAST_ROWS_A_FOLD * search.cv * n_classes) if search.min_size is None else search.min_size
    if search.min_size is not None and not 1 <= least <= size:
        raise ConfigError(f"min_size={least} must lie between 1 and the {size} rows of the last round.")
    return halving_sizes(n_settings, size, search.factor, least)


def deciding_score(refit: Any, names: Sequence[str], multimetric: bool, validate: str | None) -> str | None:
    """Name of the score that settings are compared by; None where ``refit`` is a function, or there is none.

    Raises
    ------
    ConfigError
        Several scores, and none of them is named by ``refit``.
    """
    if not multimetric:
        return None if callable(refit) and validate is None else SINGLE
    if isinstance(refit, str):
        if refit not in names:
            raise ConfigError(f"refit={refit!r} is none of the scores {', '.join(names)}.")
        return refit
    if (refit is False or callable(refit)) and validate is None:
        return None
    raise ConfigError(f"there are several scores: name the one to choose by with refit={names[0]!r}, or refit=False.")
