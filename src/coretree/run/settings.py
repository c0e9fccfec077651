"""What the user chose for a tree."""

from __future__ import annotations

from dataclasses import dataclass

from coretree.data.prepare import PrepareRules


@dataclass(frozen=True)
class Settings:
    """Settings of a tree; those that decide what its nodes hold are part of their names."""

    size: int
    fan_in: int
    seed: int
    prepare: PrepareRules
    exact: bool | None = None
    passes: int = 2

    def wants_moments(self, task: str | None) -> bool:
        """Whether nodes carry exact moments: by default where the target is a quantity."""
        return task == "regression" if self.exact is None else self.exact
