"""Write the trees that every later version must read: ``python tests/tree/make_fixture.py tests/tree/fixtures/v1``.

Run once for a format, and kept for good: a later version gets a folder of its own beside the older ones.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import warnings
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from coretree import CoresetTree, Dataset, ThreadExecutor
from days import DAY, day, write_day

ONE = ThreadExecutor(1)
WRITTEN_NS = 1_600_000_000_000_000_000  # a file's time of change is part of its fingerprint, and git does not keep it
TREES: dict[str, dict[str, Any]] = {
    "classes": {"size": 40, "passes": 3, "class_rows": {"yes": 15}, "objectives": ["auto", "hinge"]},
    "quantity": {
        "size": 40,
        "objectives": ["auto", "residual"],
        "cells": 20,
        "prepare": {"scale": "robust", "clip": [0.02, 0.98]},
    },
    "one-pass": {"size": 40, "passes": 1},
}


def data_of(name: str, folder: Path) -> Dataset:
    """The days of one tree; ``folder`` may be a copy whose files have their time of change set."""
    options: dict[str, Any] = {"target": "a", "drop": ["key", "y"]} if name == "quantity" else {"target": "y"}
    if name == "one-pass":
        options["id"] = "key"
    elif name != "quantity":
        options["drop"] = ["key"]
    return Dataset.from_parquet(folder, time="when", leaf_bytes=100, **options)


def dated(folder: Path) -> Path:
    """Set the files' times to what they were."""
    for path in folder.rglob("*.parquet"):
        os.utime(path, ns=(WRITTEN_NS, WRITTEN_NS))
    return folder


def drawn(tree: CoresetTree, **window: Any) -> dict[str, Any]:
    """A coreset as JSON."""
    core = tree.coreset(**window)
    return {
        "n_rows": core.n_rows,
        "ids": [int(i) for i in core.ids],
        "weights": core.sample_weight.tolist(),
        "first": core.X.iloc[0].astype(str).to_dict(),
    }


def answers(tree: CoresetTree) -> dict[str, Any]:
    """Everything of a tree that must stay the same."""
    objectives = tree.recipe_.objectives
    return {
        "root": tree.name_,
        "recipe": tree.manifest_.recipe,
        "whole": {name: drawn(tree, objective=name) for name in objectives},
        "window": drawn(tree, start=DAY, end=2 * DAY),
        "cut": drawn(tree, start=0.5 * DAY, end=2 * DAY, objective="uniform"),
    }


def main(place: Path) -> None:
    """Write data, trees and answers."""
    warnings.simplefilter("ignore")
    shutil.rmtree(place, ignore_errors=True)
    for i in range(2):
        write_day(place / "data", f"d{i}", day(i, n=60, undated=0.1 * (i == 1)))
    write_day(place / "later", "d3", day(3, n=60))
    expected: dict[str, Any] = {"created_by": None, "trees": {}}
    for name, settings in TREES.items():
        tree = CoresetTree(place / name, fan_in=2, **settings)
        tree.build(data_of(name, dated(place / "data")), client=ONE)
        found = answers(tree)
        copy, both = place / "copy", place / "both"
        shutil.copytree(place / name, copy)
        shutil.copytree(place / "data", both)
        shutil.copy(place / "later" / "d3.parquet", both)
        changed = CoresetTree.open(copy)
        change = changed.update(data_of(name, dated(both)), client=ONE)
        found["updated"] = {"change": change.to_dict(), "whole": drawn(changed)}
        expected["trees"][name] = found
        expected["created_by"] = dict(tree.manifest_.created_by)
        shutil.rmtree(copy)
        shutil.rmtree(both)
    (place / "expected.json").write_text(json.dumps(expected) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
