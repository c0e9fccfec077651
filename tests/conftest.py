"""Settings of every test: generated examples are the same in each run, but for those of the slow tests."""

from __future__ import annotations

import pytest
from hypothesis import settings

settings.register_profile("repeatable", derandomize=True)
settings.register_profile("searching", derandomize=False)


def pytest_configure(config: pytest.Config) -> None:
    chosen = str(config.getoption("markexpr", ""))
    settings.load_profile("searching" if chosen == "slow" else "repeatable")
