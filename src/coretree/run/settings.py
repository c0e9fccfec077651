"""What the user chose for a tree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Self

from coretree.coreset.quotas import Budget
from coretree.coreset.residuals import residual_pays, residual_serves
from coretree.data.prepare import PrepareRules
from coretree.data.profile import Level, label_from_text, label_text
from coretree.errors import ConfigError
from coretree.tree.objectives import check_objectives, suits

Exact = bool | Literal["qr"] | None
AUTO_CELLS = 4_000


@dataclass(frozen=True)
class Settings:
    """Settings of a tree; those that decide what its nodes hold are part of their names.

    ``class_rows`` pairs labels, as text that keeps their type, with budgets.
    """

    size: int
    fan_in: int = 8
    seed: int = 0
    prepare: PrepareRules = field(default_factory=PrepareRules)
    objectives: tuple[str, ...] = ("auto",)
    passes: int = 2
    exact: Exact = None
    cells: int | None = None
    scatter: bool = False
    class_rows: tuple[tuple[str, Budget], ...] = ()

    def __post_init__(self) -> None:
        if self.size < 10:
            raise ConfigError(
                f"size={self.size} is too small for a coreset; use at least 10, and 30 rows a feature or more."
            )
        if self.fan_in < 2:
            raise ConfigError(f"fan_in={self.fan_in} must be at least 2.")
        if self.passes not in (1, 2, 3):
            raise ConfigError(f"passes={self.passes} must be 1, 2 or 3.")
        if self.exact not in (None, True, False, "qr"):
            raise ConfigError(
                f"exact={self.exact!r} must be True, False or 'qr' (QR factors, for ill-conditioned data)."
            )
        if self.cells is not None and self.cells < 0:
            raise ConfigError(f"cells={self.cells} must be a number of kd cells, or 0 for none.")
        if self.passes == 1:
            wants = {"objectives": self.objectives[:1] != ("auto",), "exact": self.exact, "cells": self.cells}
            asked = [name for name, value in wants.items() if value]
            if asked:
                raise ConfigError(
                    "passes=1 carries the robust, the balanced and the uniform sketch and nothing else: "
                    f"{asked[0]} needs prepared rows. Leave it out, or use passes=2."
                )

    @classmethod
    def checked(
        cls, *, objectives: Any, class_rows: Mapping[Level, Budget] | None, prepare: Any, **others: Any
    ) -> Self:
        """From what a user types."""
        names = (objectives,) if isinstance(objectives, str) else tuple(objectives)
        if not names:
            raise ConfigError('objectives: name at least one, or "auto".')
        rules = prepare if isinstance(prepare, PrepareRules) else PrepareRules(**(prepare or {}))
        rows = tuple(sorted((label_text(_plain(k)), v) for k, v in (class_rows or {}).items()))
        return cls(objectives=tuple(sorted(names, key="auto".__ne__)), class_rows=rows, prepare=rules, **others)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        lists = {"objectives": list(self.objectives), "class_rows": [list(pair) for pair in self.class_rows]}
        return {**asdict(self), **lists, "prepare": self.prepare.to_dict()}

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Self:
        """Inverse of ``to_dict``."""
        tuples: dict[str, Any] = {
            "objectives": tuple(value["objectives"]),
            "class_rows": tuple((str(k), v) for k, v in value["class_rows"]),
            "prepare": PrepareRules.from_dict(value["prepare"]),
        }
        return cls(**{**value, **tuples})

    def budgets(self, classes: tuple[Level, ...] | None, where: str) -> dict[int, Budget]:
        """Budgets by class code.

        Raises
        ------
        ConfigError
            A label that no row has, or budgets for a target without classes.
        """
        wanted = {label_from_text(text): budget for text, budget in self.class_rows}
        if wanted and classes is None:
            raise ConfigError(f"{where}: class_rows is for a target with classes.")
        unknown = [label for label in wanted if label not in (classes or ())]
        if unknown:
            raise ConfigError(
                f"{where}: class_rows names {unknown[0]!r}, but the classes are {list(classes or ())[:20]}."
            )
        for label, budget in wanted.items():
            if budget == 0:
                raise ConfigError(
                    f"{where}: class_rows keeps no row of {label!r}, and no weight could give it its share. Keep one "
                    "row at least."
                )
        return {(classes or ()).index(label): budget for label, budget in wanted.items() if label is not None}

    def names_of_objectives(self, task: str | None, rows: Sequence[int]) -> tuple[str, ...]:
        """Sketches of a tree, given the rows of each class.

        With "auto" those that serve all the usual models, and of the others named those that are for this target.

        Raises
        ------
        ConfigError
            Without "auto", a name that is not for this target.
        """
        if self.objectives[0] != "auto":
            return check_objectives(self.objectives, task, len(rows))
        if task is None:
            return ("uniform",)
        usual = ["robust", "balanced", "uniform"] if task == "classification" else ["robust", "uniform"]
        if self.passes == 1:
            return tuple(usual)
        if residual_serves(rows) if task == "classification" else residual_pays(self.size, sum(rows)):
            usual.insert(-1, "residual")
        more = [name for name in self.objectives[1:] if suits(name, task, len(rows))]
        return tuple(dict.fromkeys([*usual, *more]))

    def form_of_moments(self, task: str | None) -> str:
        """Whether nodes carry exact moments, and how: by default where the target is a quantity."""
        if self.exact == "qr":
            return "factors"
        wanted = (task == "regression" and self.passes > 1) if self.exact is None else self.exact
        return "moments" if wanted else "no"

    def n_cells(self, task: str | None) -> int:
        """Cells of a node: by default some where there is no target."""
        return (AUTO_CELLS if task is None else 0) if self.cells is None else self.cells


def _plain(label: Any) -> Level:
    """A label as Python's own type, as files give it."""
    plain: Level = label.item() if hasattr(label, "item") else label
    return plain
