"""Settings proposed by Optuna, one after another, each with all its folds in parallel."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from coretree.errors import ConfigError


def propose(space: Mapping[str, Any], n_iter: int, seed: int, evaluate: Callable[[dict[str, Any]], float]) -> None:
    """Ask a seeded TPE sampler for settings and tell it their scores, ``n_iter`` times.

    Parameters
    ----------
    space : mapping of parameter to values
        Lists, SciPy's ``uniform``, ``loguniform`` and ``randint``, or Optuna's own distributions.
    n_iter : int
    seed : int
        The same seed and the same scores give the same settings, so that a search that was interrupted repeats them.
    evaluate : callable
        Mean score of settings; NaN where they failed.

    Raises
    ------
    ConfigError
        Optuna is not installed, or a distribution is of another kind.
    """
    optuna = _optuna()
    lists = {name: list(values) for name, values in space.items() if _is_list(values)}
    wanted = {name: distribution(optuna, name, values) for name, values in space.items()}
    with _quiet(optuna):
        study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=seed))
        for _ in range(n_iter):
            trial = study.ask(wanted)
            # choices are told by position, since Optuna takes only plain ones
            params = {name: lists[name][v] if name in lists else v for name, v in trial.params.items()}
            score = evaluate(params)
            if math.isnan(score):
                study.tell(trial, state=optuna.trial.TrialState.FAIL)
            else:
                study.tell(trial, score)


def distribution(optuna: Any, name: str, values: Any) -> Any:
    """Optuna's distribution for what a user gave.

    Raises
    ------
    ConfigError
    """
    kinds = optuna.distributions
    if isinstance(values, kinds.BaseDistribution):
        return values
    if _is_list(values):
        return kinds.CategoricalDistribution(range(len(values)))
    kind = getattr(getattr(values, "dist", None), "name", None)
    if kind in ("uniform", "loguniform", "reciprocal"):
        low, high = (float(edge) for edge in values.support())
        return kinds.FloatDistribution(low, high, log=kind != "uniform")
    if kind == "randint":
        low, high = (int(edge) for edge in values.support())
        return kinds.IntDistribution(low, high)
    raise ConfigError(
        f'{name}: strategy="optuna" takes a list, SciPy\'s uniform, loguniform or randint, or a distribution of '
        f"optuna.distributions; found {values!r}."
    )


def _is_list(values: Any) -> bool:
    return isinstance(values, Sequence) or (hasattr(values, "tolist") and getattr(values, "ndim", 0) == 1)


def _optuna() -> Any:
    try:
        import optuna
    except ModuleNotFoundError as error:
        if error.name != "optuna":
            raise
        raise ConfigError("strategy=\"optuna\" needs the extra: pip install 'coretree[search]'") from None
    return optuna


@contextmanager
def _quiet(optuna: Any) -> Iterator[None]:
    """No line for each trial on stderr; the user's level comes back."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)
