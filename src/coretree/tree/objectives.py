"""Objectives: the names of a node's sketches, and how many rows of each class a sketch keeps."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from coretree.coreset.losses import loss_named
from coretree.coreset.quotas import Budget, Quotas, class_capacities, class_quotas
from coretree.data.columns import Level
from coretree.errors import ConfigError

PLAIN = ("robust", "balanced", "uniform", "residual")
POOLED, POOLED_OF = "pooled", ("uniform", "robust")  # drawn from two sketches, whose samples are independent
OF_CLASSES, OF_QUANTITIES = ("squared_hinge", "hinge"), ("poisson", "gamma", "tweedie:1.5")


def loss_of(objective: str, task: str | None, n_classes: int) -> str | None:
    """Loss whose pilot, scores and totals an objective needs; None for those that need none.

    Examples
    --------
    >>> loss_of("robust", "classification", 3), loss_of("poisson", "regression", 1), loss_of("uniform", None, 1)
    ('softmax', 'poisson', None)
    """
    if objective != "robust":
        return None if objective in PLAIN else objective
    return "squared" if task == "regression" else "logistic" if n_classes == 2 else "softmax"


def check_objectives(names: Sequence[str], task: str | None, n_classes: int) -> tuple[str, ...]:
    """Objectives that a tree of this task can carry, each once.

    Raises
    ------
    ConfigError
        An unknown name, or one that is not for this target.
    """
    for name in names:
        if task is None and name != "uniform":
            raise ConfigError(
                f"objectives: '{name}' needs a target, but the dataset has none; use 'uniform' or cells=."
            )
        if name in PLAIN:
            if name == "balanced" and task == "regression":
                raise ConfigError("objectives: 'balanced' is for classes, but the target is a quantity.")
            continue
        try:
            kind = loss_named(name).kind
        except ConfigError:
            known = ", ".join((*PLAIN, *OF_CLASSES, *OF_QUANTITIES))
            raise ConfigError(f"objectives: no objective is named '{name}'; choose from {known}.") from None
        if kind == "real" and task != "regression":
            raise ConfigError(f"objectives: '{name}' is for a quantity, but the target holds classes.")
        if kind == "binary" and (task != "classification" or n_classes != 2):
            raise ConfigError(f"objectives: '{name}' is for two classes; for this target use 'robust'.")
    return tuple(dict.fromkeys(names))


def suits(name: str, task: str | None, n_classes: int) -> bool:
    """Whether an objective is for this target.

    Examples
    --------
    >>> suits("hinge", "classification", 2), suits("hinge", "classification", 3)
    (True, False)
    """
    try:
        check_objectives([name], task, n_classes)
    except ConfigError:
        return False
    return True


@dataclass(frozen=True)
class Keeping:
    """How many rows of which class every sketch keeps.

    Attributes
    ----------
    rows : tuple of int
        Training rows of each class when the recipe was frozen; one entry without classes.
    budgets : mapping of class code to rows, or "all"
        What the user asked for.
    labels : tuple of labels, or None
        For messages.
    by_class : tuple of str
        Sketches made of one sketch a class.
    """

    rows: tuple[int, ...]
    budgets: Mapping[int, Budget]
    labels: tuple[Level, ...] | None
    by_class: tuple[str, ...]

    def strata(self, objective: str, codes: npt.NDArray[Any]) -> npt.NDArray[np.intp] | None:
        """Number of the sketch that each row goes to: its class, or one for all that have no budget; None for one."""
        if objective in self.by_class:
            return np.asarray(codes, np.intp)
        if not self.budgets or objective == "uniform":
            return None
        place = np.full(len(self.rows), len(self.budgets), np.intp)
        place[sorted(self.budgets)] = np.arange(len(self.budgets))
        return np.asarray(place[np.asarray(codes, np.intp)])

    def quotas(self, objective: str, rows: Sequence[int], size: int) -> Quotas | None:
        """Rows of each stratum in a sketch of ``size`` rows; None where there are no strata.

        Raises
        ------
        ConfigError
            The budgets need more rows than the size.
        """
        return self._split(class_quotas, objective, rows, size)

    def _split(self, rule: Callable[..., Quotas], objective: str, rows: Sequence[int], size: int) -> Quotas | None:
        """Rows of each stratum by one of the rules of :mod:`~coretree.coreset.quotas`."""
        if objective in self.by_class:
            return rule(rows, size, budgets=self.budgets, labels=self.labels)
        if not self.budgets or objective == "uniform":
            return None
        named = sorted(self.budgets)
        assert self.labels is not None
        held = [*(rows[c] for c in named), sum(rows) - sum(rows[c] for c in named)]
        names = [*(self.labels[c] for c in named), "(all others)"]
        return rule(held, size, budgets={i: self.budgets[c] for i, c in enumerate(named)}, labels=names)

    def fixed(self, objective: str) -> tuple[int, ...]:
        """Strata that have a budget: a leaf keeps as much of them as the root does."""
        return tuple(sorted(self.budgets)) if objective in self.by_class else tuple(range(len(self.budgets)))

    def capacity(self, objective: str, size: int) -> int | Quotas:
        """Capacity of the root's sketch, and of every merge: with room for classes that updates bring more of."""
        found = self._split(class_capacities, objective, self.rows, size)
        return size if found is None else found

    def leaf_capacity(self, objective: str, size: int, leaf_size: int) -> int | Quotas:
        """Capacity of a chunk's sketch."""
        found = self.capacity(objective, size)
        if isinstance(found, int):
            return leaf_size
        least = np.minimum(found, leaf_size)
        at = list(self.fixed(objective))
        least[at] = found[at]
        return least

    def leaf_quotas(self, objective: str, held: Sequence[int], leaf_size: int) -> Quotas:
        """What a whole leaf keeps of the rows that its chunks kept, so that together they are its share."""
        whole = self.fixed(objective)
        size = leaf_size + sum(held[i] for i in whole)
        return class_quotas(held, size, budgets=dict.fromkeys(whole, "all"))
