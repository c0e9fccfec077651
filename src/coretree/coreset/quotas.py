"""Class quotas: how many rows of each class a coreset keeps.

By default class c gets rows in proportion to n_c / (2 n) + 1 / (2 K), water-filled: a class smaller than its share is
kept whole and leaves the rest to the others. Nobody gets less than half of what a uniform sample would have given.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from coretree.coreset.rows import Float
from coretree.errors import ConfigError

Budget: TypeAlias = int | Literal["all"]
"""Rows of a class, or all of them, also those that later updates bring."""

Quotas: TypeAlias = npt.NDArray[np.int64]

KEEP_ALL = 2**62
"""The quota of a class that is kept whole, whatever comes."""


def class_quotas(
    counts: npt.ArrayLike,
    size: int,
    *,
    budgets: Mapping[int, Budget] | None = None,
    labels: Sequence[Any] | None = None,
) -> Quotas:
    """Rows to keep of each class.

    Parameters
    ----------
    counts : array_like of int, shape (K,)
        Rows (not weights) of each class in the full data.
    size : int
        Rows in all, >= 1.
    budgets : mapping of class code to int or "all", optional
        The user's wishes. The other classes share what is left by the rule of the module.
    labels : sequence, optional
        Names of the classes, for messages.

    Returns
    -------
    ndarray of int64, shape (K,)
        `KEEP_ALL` where the user asked for all, else at most the class's rows. Summing with ``"all"`` counted as the
        class's rows, they add up to ``min(size, n)``, or to less where the user gave every class a smaller budget.
        Every class with rows gets one if there are as many places; half a proportional share from 2 K rows on.

    Raises
    ------
    ConfigError
        If a budget is negative, names no class, or the budgets exceed the size.

    Examples
    --------
    >>> class_quotas([9_900, 100], 1_000).tolist()  # 10 in proportion, 500 in balance: all it has
    [900, 100]
    >>> class_quotas([9_000, 900, 100], 1_000, budgets={1: 100}).tolist()
    [800, 100, 100]
    >>> class_quotas([9_000, 1_000], 2_000, budgets={1: "all"}).tolist() == [1_000, KEEP_ALL]
    True
    """
    held = np.asarray(counts, np.int64).ravel()
    if size < 1 or (held < 0).any():
        raise ValueError(f"class_quotas: size must be >= 1 and counts >= 0; found {size} and {held.tolist()}")
    quotas = np.zeros(len(held), np.int64)
    wishes = _checked(budgets or {}, len(held), size, held, labels)
    for code, wish in wishes.items():
        quotas[code] = held[code] if wish == "all" else min(wish, int(held[code]))
    free = np.array([c for c in range(len(held)) if c not in wishes], np.intp)
    if len(free):
        quotas[free] = _whole(held[free], size - int(quotas.sum()))
    quotas[[code for code, wish in wishes.items() if wish == "all"]] = KEEP_ALL
    return quotas


def class_capacities(
    counts: npt.ArrayLike,
    size: int,
    *,
    budgets: Mapping[int, Budget] | None = None,
    labels: Sequence[Any] | None = None,
) -> Quotas:
    """Rows of each class that a sketch has room for: its quota, and room to grow where it is kept whole today.

    A class is given up to twice its share of the size, so that its quota finds the rows as classes grow. A sketch may
    then hold up to three times ``size`` rows; a coreset takes the quotas of the day.

    Parameters
    ----------
    counts, size, budgets, labels
        As for :func:`class_quotas`.

    Returns
    -------
    ndarray of int64, shape (K,)
        At least :func:`class_quotas`; the budget itself where the user gave one.

    Raises
    ------
    ConfigError
        As :func:`class_quotas`.

    Examples
    --------
    >>> class_quotas([9_900, 100], 1_000).tolist(), class_capacities([9_900, 100], 1_000).tolist()
    ([900, 100], [900, 308])
    """
    quotas, held = class_quotas(counts, size, budgets=budgets, labels=labels), np.asarray(counts, np.int64).ravel()
    free, left = np.ones(len(held), np.bool_), size
    for code, wish in (budgets or {}).items():
        free[code] = False
        left -= int(np.minimum(quotas[code], held[code]))
        quotas[code] = KEEP_ALL if wish == "all" else wish
    shares = _shares(held[free])
    room = np.floor(min(_level(held[free], shares, left), 2.0 * left) * shares).astype(np.int64)
    quotas[free] = np.maximum(quotas[free], np.minimum(room, left))
    return quotas


def _shares(held: Quotas) -> Float:
    """Half in proportion, half in balance among the classes that have rows."""
    present, n = int(np.count_nonzero(held)), int(held.sum())
    return held / (2.0 * max(n, 1)) + (held > 0) / (2.0 * max(present, 1))


def _checked(
    budgets: Mapping[int, Budget], n_classes: int, size: int, held: Quotas, labels: Sequence[Any] | None
) -> dict[int, Budget]:
    """Refuse budgets that mean nothing or do not fit."""
    name = [repr(label) for label in (range(n_classes) if labels is None else labels)]
    for code, wish in budgets.items():
        if not 0 <= code < n_classes:
            raise ConfigError(f"A class budget names class {code!r}, but there are only {', '.join(name)}.")
        if wish != "all" and (not isinstance(wish, (int, np.integer)) or wish < 0):
            raise ConfigError(f"The budget of class {name[code]} must be a number of rows or 'all'; found {wish!r}.")
    needed = sum(
        int(held[code]) if wish == "all" else min(int(wish), int(held[code])) for code, wish in budgets.items()
    )
    if needed > size:
        raise ConfigError(
            f"The class budgets need {needed:,} rows, but the coreset may have {size:,}. "
            f"Type size={needed} or more, or give smaller budgets."
        )
    return dict(budgets)


def _whole(held: Quotas, size: int) -> Quotas:
    """Water-filled quotas of the module's rule as whole numbers that add up to ``min(size, n)``."""
    present, n = np.count_nonzero(held), int(held.sum())
    if n <= size or not present:
        return held.copy()
    shares = _shares(held)
    even = np.minimum(_level(held, shares, size) * shares, held)
    quotas = np.minimum(np.floor(even + 1e-9).astype(np.int64), held)
    if size >= present:
        quotas = np.maximum(quotas, held > 0)
    spare = size - int(quotas.sum())
    rank = np.argsort((quotas - even).round(9), kind="stable")  # the most wronged by rounding first
    while spare:
        turn = rank[quotas[rank] < held[rank]] if spare > 0 else rank[::-1][quotas[rank[::-1]] > 1]
        turn = turn[: abs(spare)]
        quotas[turn] += np.sign(spare)
        spare = size - int(quotas.sum())
    return quotas


def _level(held: Quotas, shares: Float, size: int) -> float:
    """What a share is multiplied by so that ``size`` rows are kept, of no class more than it has; infinite for all."""
    full = np.zeros(len(held), np.bool_)
    while not full.all():
        level = (size - int(held[full].sum())) / max(float(shares[~full].sum()), 1e-300)
        over = ~full & (level * shares > held)
        if not over.any():
            return level
        full |= over
    return np.inf
