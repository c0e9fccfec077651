"""Progress, warnings and facts: what goes where, and what is said once."""

from __future__ import annotations

import sys
import warnings

import pytest

from coretree.console import Console, complain, warnings_told
from coretree.errors import DataWarning
from coretree.report.render import Fact


def test_facts_go_to_stdout_and_progress_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    console = Console()
    for done in range(4):
        console.progress("profile", done, 3)
    console.say(Fact("data", "3 files"))
    console.finish({"rows": 1})
    out, err = capsys.readouterr()
    assert out == "data      3 files\n"
    assert err.startswith("pass 1: statistics: 3 of 3 done in ")
    assert err.count("\n") == 1, "one line a stage"


def test_json_prints_one_object_and_no_facts(capsys: pytest.CaptureFixture[str]) -> None:
    console = Console(as_json=True)
    console.say(Fact("data", "3 files"))
    console.text("table")
    console.finish({"rows": 1, "name": "ä"})
    assert capsys.readouterr().out == '{\n  "rows": 1,\n  "name": "ä"\n}\n'


def test_a_terminal_gets_a_bar_that_goes_away(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    console = Console()
    console.progress("sketch", 0, 2)
    assert console._bar is not None
    console.progress("sketch", 2, 2)
    assert console._bar is None
    console.progress("evaluate", 0, 2)
    console.close()
    assert console._bar is None
    assert "done in" not in capsys.readouterr().err


def test_our_warnings_are_told_once_and_others_not_at_all(capsys: pytest.CaptureFixture[str]) -> None:
    with warnings_told(debug=False):
        for _ in range(3):
            warnings.warn("7 rows dropped", DataWarning, stacklevel=1)
        warnings.warn("a library's own", FutureWarning, stacklevel=1)
    assert capsys.readouterr().err == "warning: 7 rows dropped\n"


def test_a_complaint_is_wrapped_and_keeps_its_words(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    path = "/a/very/long/path/that-must-not-be/broken-in-two.parquet"
    complain("error", f"{path}: the file\nis truncated; replace it or leave such files out.")
    err = capsys.readouterr().err
    assert path in err
    assert all(len(line) <= 40 or path in line for line in err.splitlines())
    assert "the file is truncated" in " ".join(err.split())
