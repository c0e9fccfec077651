"""Rows whose label no training row has: counted and told, and an error only where there are no others."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

from coretree.errors import DataWarning, TargetError


def check_known(unseen: Mapping[Any, int], n_known: int, classes: tuple[Any, ...] | None, where: str) -> None:
    """Say of rows with labels that no training row has that they are left out.

    Raises
    ------
    TargetError
        No other row is there.
    """
    if not unseen:
        return
    rows = sum(unseen.values())
    shown = ", ".join(f"{label!r} ({n:,})" for label, n in sorted(unseen.items(), key=str)[:10])
    text = (
        f"{where}: {rows:,} of {rows + n_known:,} rows have a label that no training row has: {shown}. "
        f"The model knows {', '.join(map(repr, (classes or ())[:10]))}."
    )
    if not n_known:
        raise TargetError(f"{text} No row is left. Check the target column, or train again with rows of that class.")
    warnings.warn(f"{text} They are left out.", DataWarning, stacklevel=3)
