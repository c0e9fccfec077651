"""The public face: the names, that each is there and documented as it is, and that importing costs nothing."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from dataclasses import is_dataclass
from typing import Any

import pytest

import coretree as ct

# Renames and removals cost users most of all: this list changes only on purpose, together with the README.
NAMES = {
    "Certificate",
    "CleanRules",
    "Comparison",
    "Coreset",
    "CoresetClassifier",
    "CoresetClusterer",
    "CoresetRegressor",
    "CoresetSearchCV",
    "CoresetTransformer",
    "CoresetTree",
    "Dataset",
    "Diagnosis",
    "Evaluation",
    "Job",
    "PrepareRules",
    "ThreadExecutor",
    "certify",
    "coefficients",
    "choose",
    "compare",
    "diagnose",
    "errors",
    "evaluate",
    "load_model",
    "local_cluster",
    "partial_dependence",
    "per_class_report",
    "permutation_importance",
    "polish",
    "open_store",
    "predict",
    "shap_values",
    "to_onnx",
    "tune_threshold",
}
HEAVY = {"dask", "distributed", "dask_ml", "sklearn", "pandas", "matplotlib", "pyarrow", "scipy", "numpy", "pydantic"}


def public_callables() -> list[tuple[str, Any]]:
    """Functions, classes and public methods of classes, with their dotted names."""
    found: list[tuple[str, Any]] = []
    for name in sorted(NAMES - {"errors"}):
        thing = getattr(ct, name)
        found.append((name, thing))
        if inspect.isclass(thing):
            for attribute, value in vars(thing).items():
                function = value.__func__ if isinstance(value, classmethod | staticmethod) else value
                if not attribute.startswith("_") and inspect.isfunction(function):
                    found.append((f"{name}.{attribute}", function))
    return found


def documented(doc: str, section: str) -> list[str]:
    """Names in a numpydoc section, in order; ``a, b : type`` counts as two."""
    match = re.search(rf"^{section}\n-+\n(.*?)(?=^\w[\w ]*\n-+\n|\Z)", doc, re.MULTILINE | re.DOTALL)
    if match is None:
        return []
    heads = [line.partition(" : ")[0] for line in match.group(1).splitlines() if line and not line[0].isspace()]
    return [name.strip().lstrip("*") for head in heads for name in head.split(",")]


def arguments(thing: Any) -> list[str]:
    return [name for name in inspect.signature(thing).parameters if name not in ("self", "cls")]


def doc_problems(name: str, thing: Any) -> list[str]:
    """What the docstring of a callable says that its signature does not, and the other way round."""
    doc = inspect.getdoc(thing) or ""
    if not doc.strip():
        return [f"{name}: no docstring"]
    if inspect.isclass(thing) and (is_dataclass(thing) or hasattr(thing, "model_fields")):
        return []  # values: fields are checked below
    written, real = documented(doc, "Parameters"), arguments(thing)
    if not written and "see ``" in doc.lower():
        return []  # says where the parameters are described
    found = [f"{name}: documents {x!r}, which it does not take" for x in written if x not in real]
    found += [f"{name}: does not document {x!r}" for x in real if written and x not in written]
    if real and not written and "." not in name:
        found.append(f"{name}: takes {', '.join(real)} and documents none of them")
    return found


def default_problems(name: str, thing: Any) -> list[str]:
    """Defaults given in words that are not those of the signature."""
    doc = inspect.getdoc(thing) or ""
    found = []
    for argument, parameter in inspect.signature(thing).parameters.items():
        choices = re.search(rf"^{argument} : \{{(.*?)\}}", doc, re.MULTILINE)
        if choices and isinstance(parameter.default, str) and f'"{parameter.default}"' not in choices.group(1):
            found.append(f"{name}: default {parameter.default!r} of {argument} is not among {choices.group(1)}")
    return found


def test_exported_names_are_the_documented_ones() -> None:
    assert set(ct.__all__) == NAMES | {"__version__"}
    assert len(ct.__all__) == len(set(ct.__all__))
    assert set(dir(ct)) == set(ct.__all__)


@pytest.mark.parametrize("name", sorted(NAMES))
def test_each_name_is_there(name: str) -> None:
    thing = getattr(ct, name)
    assert inspect.getdoc(thing)
    assert name == "errors" or thing.__name__ == name


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'CoresetTre'"):
        _ = ct.CoresetTre  # type: ignore[attr-defined]


def test_docstrings_match_signatures() -> None:
    things = public_callables()
    assert len(things) > 20
    found = [p for name, thing in things for p in doc_problems(name, thing) + default_problems(name, thing)]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    "name", ["Certificate", "CleanRules", "Comparison", "Coreset", "Diagnosis", "Evaluation", "PrepareRules"]
)
def test_every_field_of_a_value_is_documented(name: str) -> None:
    thing = getattr(ct, name)
    doc = inspect.getdoc(thing) or ""
    written = documented(doc, "Parameters") + documented(doc, "Attributes")
    assert set(written) == set(thing.__dataclass_fields__)


def test_the_checker_sees_what_is_wrong() -> None:
    def wrong(a: int, b: str = "x") -> None:
        """Do something.

        Parameters
        ----------
        a : int
        c : int
        b : {"y", "z"}
        """

    def bare(a: int) -> None:
        """Do something."""

    assert doc_problems("wrong", wrong) == ["wrong: documents 'c', which it does not take"]
    assert default_problems("wrong", wrong) == ["""wrong: default 'x' of b is not among "y", "z\""""]
    assert doc_problems("bare", bare) == ["bare: takes a and documents none of them"]


def test_errors_are_one_tree_drawn_in_the_docstring() -> None:
    drawn = ct.errors.__doc__ or ""
    for name, kind in vars(ct.errors).items():
        if inspect.isclass(kind) and issubclass(kind, Exception):
            assert issubclass(kind, ct.errors.CoretreeError | ct.errors.CoretreeWarning), name
            assert name in drawn


def imported_by(statement: str) -> set[str]:
    """Modules of a fresh process after a statement; packages among them."""
    code = f"{statement}\nimport sys\nprint(' '.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    return set(done.stdout.split())


def test_importing_is_light() -> None:
    assert imported_by("import coretree") & HEAVY == set()


def test_importing_the_command_line_is_light() -> None:
    assert imported_by("import coretree.cli") & HEAVY == set()


def test_the_light_test_can_fail() -> None:
    assert {"pandas", "numpy"} <= imported_by("import coretree; coretree.Dataset") & HEAVY


def test_a_fit_does_not_import_what_saving_takes() -> None:
    assert {"sklearn"} <= imported_by("import coretree; coretree.CoresetClassifier")
    assert {"skops", "torch"} & imported_by("import coretree; coretree.CoresetClassifier") == set()


def test_the_passes_over_the_data_need_no_scikit_learn() -> None:
    """It takes a worker as long to load, and as much memory, as all the rest of it."""
    passes = "import coretree.run.tasks, coretree.run.on_dask, coretree.run.sketching, coretree.run.surveying"
    heavy = {"sklearn", "scipy.optimize", "scipy.stats", "matplotlib", "skops", "dask_ml", "numba"}
    assert imported_by(passes) & heavy == set()


@pytest.mark.parametrize("module", ["coretree.run.fitting", "coretree.run.evaluate"])
def test_fits_do(module: str) -> None:
    """So the check above can fail."""
    assert "sklearn" in imported_by(f"import {module}")


def test_the_data_layer_does_without_dask() -> None:
    assert (
        imported_by("import coretree; coretree.Dataset, coretree.CoresetTree, coretree.evaluate")
        & {
            "dask",
            "distributed",
            "dask_ml",
        }
        == set()
    )
