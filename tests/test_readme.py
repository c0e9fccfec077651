"""The README is checked like code: its blocks run, and what it names is there."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import coretree as ct

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")
MAIN = 'python3 -m venv .venv && .venv/bin/pip install ".[demo]" && .venv/bin/coretree demo'
TESTS = 'python3 -m venv .venv && .venv/bin/pip install -e ".[test]" && .venv/bin/python -m pytest'


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def section(title: str) -> str:
    found = re.search(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", README, re.MULTILINE | re.DOTALL)
    assert found, title
    return found.group(1)


def cells(title: str, column: int) -> list[str]:
    """First code word of a column of the table in a section."""
    rows = [line.split("|")[1:-1] for line in section(title).splitlines() if line.startswith("| ")]
    found = (re.match(r"\s*`([^`]+)`", row[column]) for row in rows)
    return [match.group(1) for match in found if match]


@pytest.fixture
def demo_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder in which two months of the demo's data are."""
    from coretree.run.flights import write_flights

    (tmp_path / "coretree-demo").mkdir()
    write_flights(tmp_path / "coretree-demo" / "data", 2)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Dask's, about pandas
@pytest.mark.filterwarnings("ignore::coretree.errors.CoretreeWarning")  # two months are small on purpose
def test_python_blocks_run_in_order(demo_folder: Path) -> None:
    found = blocks("python")
    assert len(found) >= 3
    names: dict[str, object] = {"__name__": "readme"}
    for number, block in enumerate(found):
        exec(compile(block, f"README.md, block {number}", "exec"), names)
    assert isinstance(names["result"], ct.Evaluation)
    assert (demo_folder / "model" / "model.skops").exists()
    assert list((demo_folder / "answers").glob("*.parquet"))


def test_the_two_commands_are_there_once() -> None:
    lines = README.splitlines()
    assert lines.count(MAIN) == 1
    assert lines.count(TESTS) == 1


def test_ci_runs_the_test_command_of_this_file() -> None:
    script = ROOT / ".ci" / "run"
    text = script.read_text("utf-8")
    pattern = re.search(r"grep -E '([^']+)' \"\$root/README.md\"", text)
    assert pattern, "the script takes the command from the README"
    done = subprocess.run(
        ["grep", "-E", pattern.group(1), str(ROOT / "README.md")], capture_output=True, text=True, timeout=10
    )
    assert done.stdout.splitlines() == [TESTS]
    assert 'bash -euo pipefail -c "$command"' in text
    assert script.stat().st_mode & 0o111
    assert subprocess.run(["bash", "-n", str(script)], timeout=10).returncode == 0


def test_commands_exist_with_the_options_shown() -> None:
    from coretree.cli import cli

    used = [line for block in blocks("sh") for line in block.splitlines() if re.search(r"\bcoretree \w", line)]
    seen = set()
    for line in used:
        verb, rest = re.search(r"\bcoretree (\w+)([^#>]*)", line).groups()  # type: ignore[union-attr]
        seen.add(verb)
        options = {name for parameter in cli.commands[verb].params for name in parameter.opts}
        assert set(re.findall(r"--[a-z-]+", rest)) <= options, line
    assert seen == set(cli.commands) - {"build"}


def test_options_in_the_text_exist() -> None:
    from coretree.cli import cli

    known = {name for command in cli.commands.values() for parameter in command.params for name in parameter.opts}
    assert set(re.findall(r"`(--[a-z]+)[ `]", README)) <= known | {"--check"}


def test_public_names_exist() -> None:
    named = set(re.findall(r"\bct\.(\w+)", README))
    assert named <= set(ct.__all__)
    assert len(named) > 8


def test_files_and_links_exist() -> None:
    links = re.findall(r"\]\(([^)#]+)\)", README)
    assert links
    for link in links:
        assert (ROOT / link).exists(), link
    for name in re.findall(r"`((?:tests|examples|cluster|\.ci)/[\w./]+)`", README):
        assert (ROOT / name).exists(), name


def test_modules_of_the_reading_order_exist() -> None:
    order = re.search(r"Read the code in this order: (.*?)\. The layers", README, re.DOTALL)
    assert order
    folder = ""
    for name in re.findall(r"`([\w/]+)`", order.group(1)):
        folder = name.split("/")[0] if "/" in name else folder
        assert (ROOT / "src" / "coretree" / folder / f"{name.rpartition('/')[2]}.py").exists(), name


def test_layer_table_is_the_enforced_one() -> None:
    import importlib.util

    spec = importlib.util.spec_from_file_location("layers_of_readme", Path(__file__).with_name("test_layers.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    try:
        spec.loader.exec_module(module)
    finally:
        del sys.modules[spec.name]
    written = cells("How it works", 1)
    assert set(written) == set(module.LAYERS) - {"__init__", "__main__", "console"}
    for name in written:
        (row,) = [line for line in section("How it works").splitlines() if re.match(rf"\| \d \| `{name}` ", line)]
        ours = set(re.findall(r"`(\w+)`", row.split("|")[3]))
        assert ours <= module.LAYERS[name].ours


def test_every_dependency_is_justified_and_no_other() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    declared = {re.split(r"[<>=~! ]", line, maxsplit=1)[0] for line in project["dependencies"]}
    assert set(cells("Dependencies, each for a reason", 0)) == declared
    for extra in project["optional-dependencies"]:
        assert f"`{extra}`" in section("Dependencies, each for a reason")


def test_the_licence_is_the_declared_one() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert project["license"] == "BSD-3-Clause"
    assert "BSD 3-Clause" in README
    assert "Redistribution and use" in (ROOT / "LICENSE").read_text("utf-8")


def test_nothing_is_left_to_fill_in() -> None:
    assert not re.search(r"\b(TODO|FIXME|XXX|TBD)\b|lorem", README)
