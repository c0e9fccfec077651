"""Rows whose label no training row has: counted and told, and an error only where there are no others."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt

from coretree.data.columns import Coded
from coretree.data.profile import label_order
from coretree.errors import DataWarning, TargetError

T = TypeVar("T")
_SHOWN = 10


@dataclass(frozen=True, eq=False)
class Counted(Generic[T]):
    """A tally of the rows whose label a model knows, and how many others have which label; ``+`` adds.

    Examples
    --------
    >>> both = Counted(3, {"x": 1}) + Counted(4, {"y": 2, "x": 1})
    >>> both.tally, both.unseen["x"], both.unseen["y"]
    (7, 2, 2)
    """

    tally: T
    unseen: Mapping[Any, int] = field(default_factory=dict)

    def __add__(self, other: Counted[T]) -> Counted[T]:
        total: Any = self.tally
        return Counted(total + other.tally, Counter(self.unseen) + Counter(other.unseen))


def strange_rows(target: Coded, classes: tuple[Any, ...]) -> tuple[npt.NDArray[np.bool_], Counter[Any]]:
    """Which rows have a label outside of ``classes``, and how many have which.

    Examples
    --------
    >>> rows, found = strange_rows(Coded(np.array([0, 1, 1, 2], dtype=np.int32), ("a", "b", "c")), ("a", "c"))
    >>> rows.tolist(), dict(found)
    ([False, True, True, False], {'b': 2})
    """
    known = set(classes)
    strange = np.array([label not in known for label in target.levels] + [False])[target.codes]
    return strange, Counter(target.levels[code] for code in target.codes[strange].tolist())


def in_order(unseen: Mapping[Any, int]) -> dict[Any, int]:
    """Counts in the order of their labels."""
    return {label: unseen[label] for label in sorted(unseen, key=_order)}


def _order(label: Any) -> tuple[str, Any]:
    # rows in memory may have labels that no file holds
    return label_order(label) if label is None or isinstance(label, str | int | float) else ("other", str(label))


def listed(unseen: Mapping[Any, int]) -> str:
    """Counts in words.

    Examples
    --------
    >>> listed({"b": 1200, "a": 3})
    "'a' (3), 'b' (1,200)"
    """
    shown = [f"{label!r} ({n:,})" for label, n in list(in_order(unseen).items())[:_SHOWN]]
    more = len(unseen) - len(shown)
    return ", ".join(shown) + (f" and {more:,} more labels" if more else "")


def check_known(
    unseen: Mapping[Any, int],
    n_known: int,
    classes: tuple[Any, ...] | None,
    where: str,
    *,
    lacking: str = "no training row has",
) -> None:
    """Say of rows with labels that no training row has that they are left out.

    Parameters
    ----------
    unseen : mapping of label to rows
    n_known : int
        Rows with other labels.
    classes : tuple, optional
        Labels that the model knows.
    where : str
        For the message.
    lacking : str
        Who does not know the labels.

    Raises
    ------
    TargetError
        No other row is there.
    """
    if not unseen:
        return
    rows = sum(unseen.values())
    text = (
        f"{where}: {rows:,} of {rows + n_known:,} rows have a label that {lacking}: {listed(unseen)}. "
        f"The model knows {', '.join(map(repr, (classes or ())[:_SHOWN]))}."
    )
    if not n_known:
        raise TargetError(f"{text} No row is left. Check the target column, or train again with rows of that class.")
    warnings.warn(f"{text} They are left out.", DataWarning, stacklevel=3)
