"""The commands for a stored tree: what they print, change and refuse, and their exit codes."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner, Result

import coretree as ct
from coretree import console
from coretree.cli import cli
from coretree.run.tree_verbs import reopened
from coretree.tree.codec import decode

MONTHS, ROWS = 4, 300


def rows(region: str, month: int) -> pd.DataFrame:
    """A month of one region; in the last month ``a`` is another."""
    rng = np.random.default_rng([month, int(region == "south")])
    first = 1_000_000 * (region == "south") + 10_000 * month
    frame = pd.DataFrame(
        {
            "id": np.arange(ROWS) + first,
            "when": pd.date_range(f"2013-{month:02d}-01", periods=ROWS, freq="2h"),
            "a": rng.normal(size=ROWS) + 2 * (month == MONTHS),
            "c": rng.choice(["x", "y"], ROWS),
        }
    )
    frame["late"] = frame["a"] + rng.logistic(size=ROWS) > 0
    return frame


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``data`` and ``run``, a run that has a tree; not to be changed."""
    folder = tmp_path_factory.mktemp("made")
    for region in ("north", "south"):
        for month in range(1, MONTHS + 1):
            path = folder / "data" / f"region={region}" / f"2013-{month:02d}.parquet"
            path.parent.mkdir(parents=True, exist_ok=True)
            rows(region, month).to_parquet(path, index=False)
    lines = [f'data = {{train = "{folder / "data"}", target = "late", time = "when", id = "id"}}', "coreset.size = 200"]
    (folder / "job.toml").write_text("\n".join(lines))
    assert run("build", folder / "job.toml", "--out", folder / "run").exit_code == 0
    return folder


@pytest.fixture
def here(made: Path, tmp_path: Path) -> Path:
    """A copy to change."""
    return Path(shutil.copytree(made, tmp_path / "here"))


def run(*args: Any) -> Result:
    """A command in this process."""
    return CliRunner().invoke(cli, [str(arg) for arg in args], catch_exceptions=False)


def facts(*args: Any, code: int = 0) -> dict[str, Any]:
    """What a command says with ``--json``."""
    done = run(*args, "--json")
    assert done.exit_code == code, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def refused(result: Result, *parts: str, code: int = 2) -> None:
    """One paragraph on stderr with these parts, nothing on stdout, the right exit code."""
    text = " ".join(result.stderr.split())
    assert result.exit_code == code, text
    assert sum(line.startswith("error: ") for line in result.stderr.splitlines()) == 1, text
    assert result.stdout == ""
    for part in parts:
        assert part in text, text


def stored_numbers(folder: Path) -> set[float]:
    """Every number in every node that lies in a tree's folder, reachable or not."""
    found: set[float] = set()
    for path in (folder / "nodes").rglob("*.arrow"):
        for values in decode(path.read_bytes(), where=str(path))[0].values():
            if values.dtype.kind == "f":
                found |= set(values.ravel().tolist())
    return found


# ---- look ------------------------------------------------------------------------------------------------------------


def test_show_says_the_same_of_a_run_its_tree_and_its_url(made: Path) -> None:
    tree = made / "run" / "tree"
    found = [facts("tree", "show", place) for place in (made / "run", tree, f"file://{tree}")]
    assert found[0]["root"] == found[1]["root"] == found[2]["root"] == ct.CoresetTree.open(tree).name_
    assert found[0]["leaves"] == 2 * MONTHS
    assert sum(level["bytes"] for level in found[0]["levels"]) == found[0]["bytes"]
    assert "of_leaves" not in found[0]
    text = run("tree", "show", made / "run", "--leaves").stdout
    labels = [line.split()[0] for line in text.splitlines()]
    assert labels == ["tree", "built", "times", "level", "level", "storage", *["leaf"] * 8]
    assert "2013-01-01 00:00:00 to 2013-04-25" in text
    listed = facts("tree", "show", made / "run", "--leaves")["of_leaves"]
    assert sum(leaf["rows"] for leaf in listed) == found[0]["rows"]
    assert listed[0]["leaf"] == "region=north/2013-01.parquet#0"


def test_verify_finds_one_flipped_bit(here: Path) -> None:
    assert facts("tree", "verify", here / "run")["problems"] == []
    assert "ok" in run("tree", "verify", here / "run").stdout
    path = sorted((here / "run" / "tree" / "nodes").rglob("*.arrow"))[3]
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))
    found = facts("tree", "verify", here / "run", code=1)
    assert not found["ok"]
    assert [path.name in problem for problem in found["problems"]] == [True]
    done = run("tree", "verify", here / "run")
    assert done.exit_code == 1
    assert path.name in done.stdout
    text = " ".join(done.stderr.split())
    assert "1 thing is wrong" in text
    assert "run `coretree update`" in text
    path.unlink()
    assert path.stem in facts("tree", "verify", here / "run", code=1)["problems"][0]
    assert facts("update", here / "run")["n_made"] == 1, "what the message says mends it"
    assert facts("tree", "verify", here / "run")["ok"]


def test_diff_names_the_leaves(made: Path, here: Path) -> None:
    assert facts("tree", "diff", made / "run", here / "run")["same_root"]
    facts("tree", "remove", here / "run", "--source", "*/2013-02.parquet")
    found = facts("tree", "diff", made / "run", here / "run")
    gone = [f"region={r}/2013-02.parquet#0" for r in ("north", "south")]
    assert (found["added"], found["changed"], found["removed"]) == ([], [], gone)
    assert facts("tree", "diff", here / "run", made / "run")["added"] == gone
    text = run("tree", "diff", made / "run", here / "run").stdout
    assert "removed   2 leaves: region=north/2013-02.parquet#0" in text


# ---- change ----------------------------------------------------------------------------------------------------------


def test_update_reads_what_is_new_and_equals_a_new_build(here: Path) -> None:
    tree = here / "run" / "tree"
    idle = facts("update", here / "run", "--data", here / "data")
    assert (idle["n_made"], idle["kept"]) == (0, 2 * MONTHS)
    rows("north", 7).to_parquet(here / "data" / "region=north" / "2013-07.parquet", index=False)
    rows("south", 8).to_parquet(here / "data" / "region=south" / "2013-02.parquet", index=False)
    (here / "data" / "region=south" / "2013-03.parquet").unlink()
    done = facts("update", here / "run", "--data", here / "data")
    assert [done[k] for k in ("added", "changed", "removed", "kept")] == [1, 1, 1, 6]
    assert done["n_made"] == 3
    assert done["n_merged"] == 1
    opened = ct.CoresetTree.open(tree)
    fresh = ct.CoresetTree(here / "fresh").build(reopened(opened), like=opened)
    assert fresh.name_ == done["root"] == opened.name_
    assert fresh.n_rows_ == done["rows"]
    assert facts("tree", "verify", here / "run")["ok"]
    # from now on the tree knows where its files are
    assert facts("update", here / "run")["data"] == str(here / "data")


def test_update_can_keep_what_vanished_and_says_that_the_model_is_older(here: Path) -> None:
    (here / "run" / "model").mkdir()  # as a finished training leaves it
    (here / "data" / "region=south" / "2013-03.parquet").unlink()
    rows("south", 5).to_parquet(here / "data" / "region=south" / "2013-05.parquet", index=False)
    done = run("update", here / "run", "--data", here / "data", "--vanished", "keep")
    assert done.exit_code == 0
    assert "1 added, 0 changed, 0 removed, 8 kept" in done.stdout
    assert "model is still the one fitted before" in done.stdout
    assert "pass 2" in done.stderr


def test_an_interrupted_update_changes_nothing_and_continues(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows("north", 7).to_parquet(here / "data" / "region=north" / "2013-07.parquet", index=False)
    before = facts("tree", "show", here / "run")["root"]

    def stop(self: console.Console, stage: str, done: int, total: int) -> None:
        raise KeyboardInterrupt

    command = ("update", here / "run", "--data", here / "data", "--threads", "1")
    with monkeypatch.context() as patch:
        patch.setattr(console.Console, "progress", stop)
        stopped = run(*command)
    assert stopped.exit_code == 130
    assert "Run the same command again" in stopped.stderr
    assert facts("tree", "show", here / "run")["root"] == before
    assert facts(*command)["added"] == 1
    assert facts("tree", "verify", here / "run")["ok"]


def test_gc_deletes_what_an_update_superseded_and_dead_writers_left(here: Path) -> None:
    tree = here / "run" / "tree"
    rows("north", 7).to_parquet(here / "data" / "region=north" / "2013-07.parquet", index=False)
    facts("update", here / "run", "--data", here / "data")
    (tree / "nodes" / ".part-0123").write_bytes(b"half a node")
    assert "left over" in run("tree", "verify", here / "run").stdout
    before = sorted(tree.rglob("*"))
    would = facts("tree", "gc", here / "run", "--dry-run")
    assert len(would["keys"]) == 1
    assert sorted(tree.rglob("*")) == before
    done = facts("tree", "gc", here / "run")
    assert done["keys"] == would["keys"]
    assert not (tree / "nodes" / ".part-0123").exists()
    assert facts("tree", "verify", here / "run")["unreachable"] == 0
    assert facts("tree", "gc", here / "run")["keys"] == []


def test_remove_erases_rows_everywhere_and_keeps_no_record_of_the_values(here: Path) -> None:
    tree = here / "run" / "tree"
    wanted = [10_003, 10_004, 10_005, 1_020_007, 5]  # the last is nobody's
    all_rows = pd.concat(rows(region, month) for region in ("north", "south") for month in range(1, MONTHS + 1))
    gone = set(all_rows.loc[all_rows["id"].isin(wanted), "a"])
    assert gone & stored_numbers(tree), "some of them are in the tree"
    command = ("tree", "remove", here / "run", "--where", f"id={','.join(map(str, wanted))}", "--data", here / "data")
    done = facts(*command)
    assert (done["n_erased"], done["changed"], done["removed"]) == (4, 2, 0)
    assert done["n_merged"] == 1
    assert not gone & stored_numbers(tree)
    history = facts("tree", "show", here / "run")["history"]
    assert [list(entry) for entry in history] == [["at", "before", "erase"]]
    assert not any(str(value) in json.dumps(history[0]["erase"]) for value in wanted)
    assert facts(*command)["n_erased"] == 0
    assert "nothing was changed" in run(*command).stdout
    assert facts("tree", "verify", here / "run")["ok"]


def test_remove_drops_folders_and_files(here: Path) -> None:
    command = ("tree", "remove", here / "run")
    assert facts(*command, "--where", "region=north")["removed"] == MONTHS
    assert facts(*command, "--where", "region=south", "--source", "*/2013-01*")["removed"] == 1
    assert facts(*command, "--source", "nothing*")["removed"] == 0
    refused(run(*command, "--source", "*"), "no leaf would be left")
    assert facts("tree", "show", here / "run")["leaves"] == MONTHS - 1
    refused(run(*command), "source=", "where=")
    refused(run(*command, "--where", "region"), "'region' is no condition", "column=value")
    refused(run(*command, "--where", "=north"), "no condition")
    refused(run(*command, "--where", "colour=red"), "'colour'", "no such column")
    refused(run(*command, "--where", "a=much"), "column 'a' holds double")


# ---- drift -----------------------------------------------------------------------------------------------------------


def test_drift_answers_with_its_exit_code(made: Path) -> None:
    shifted = run("drift", made / "run", "--current", "2013-04")
    assert shifted.exit_code == 3, shifted.stderr
    assert "beyond" in shifted.stdout
    lines = {line.split()[0]: line for line in shifted.stdout.splitlines()}
    assert lines["a"].endswith("large")
    found = facts("drift", made / "run", "--current", "2013-04", code=3)
    assert "a" in found["exceeds"]
    assert "when_month" not in found["exceeds"], "the windows themselves move it"
    assert found["current_rows"] + found["reference_rows"] == facts("tree", "show", made / "run")["rows"]
    quiet = facts("drift", made / "run", "--current", "2013-02..2013-03", "--reference", "..2013-02")
    assert quiet["exceeds"] == []
    assert facts("drift", made / "run", "--current", "2013-04", "--threshold", "50")["exceeds"] == []


def test_drift_between_folders_and_what_is_no_window(made: Path) -> None:
    found = facts("drift", made / "run", "--current", "region=south", "--reference", "region=north", code=3)
    assert found["exceeds"] == ["region"]
    refused(run("drift", made / "run", "--current", "soon"), "'soon' is no window", "2013-06-01..2013-07-01")
    refused(run("drift", made / "run", "--current", "soon..later"), "'soon' is no time")
    refused(run("drift", made / "run", "--current", "2019"), "none of the 8 leaves")
    refused(run("drift", made / "run", "--current", "colour=red"), "'colour'", "it has region")
    assert run("drift", made / "run").exit_code == 2
    assert run("drift", made / "run", "--current", "2013-04", "--threshold", "0").exit_code == 2


# ---- compare ---------------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::coretree.errors.CoresetQualityWarning")
def test_compare_ranks_models_by_held_out_rows_and_keeps_the_report(made: Path, tmp_path: Path) -> None:
    out = tmp_path / "report.json"
    options = ("--models", "logistic, tree", "--scoring", "neg_log_loss", "--steps", "2", "--seed", "3")
    done = run("compare", made / "run", *options, "--out", out)
    assert done.exit_code == 0, done.stderr
    tree = ct.CoresetTree.open(made / "run" / "tree")
    assert tree.recipe_.split is not None
    test = reopened(tree).on_side(replace(tree.recipe_.split, side="test"))
    plain = ct.compare(["logistic", "tree"], tree, test, scoring="neg_log_loss", steps=2, seed=3)
    assert [line.split()[0] for line in done.stdout.splitlines()][:4] == ["tree", "scored", "Comparison", "logistic"]
    assert str(plain) in done.stdout
    assert f"saved     {out}" in done.stdout
    assert "judging held-out rows" in done.stderr
    report = json.loads(out.read_text())
    assert report["root"] == tree.name_
    assert report["scored_rows"] + report["n_rows"] == 2 * MONTHS * ROWS
    wanted = plain.to_dict()
    for found in (report, wanted):
        found.pop("seconds")
        for row in found["rows"]:
            row.pop("seconds")
    assert {key: report[key] for key in wanted} == json.loads(json.dumps(wanted))
    again = facts("compare", made / "run" / "tree", *options, "--threads", "1")
    assert [row["scores"] for row in again["rows"]] == [row["scores"] for row in report["rows"]]


def test_compare_on_other_rows_or_on_the_trees_own(made: Path, tmp_path: Path) -> None:
    new = tmp_path / "new" / "region=north"
    new.mkdir(parents=True)
    rows("north", 7).to_parquet(new / "2013-07.parquet", index=False)
    few = ("--models", "logistic", "--steps", "2")
    other = facts("compare", made / "run", *few, "--data", tmp_path / "new")
    assert (other["scored_rows"], other["data"]) == (ROWS, str(tmp_path / "new"))
    assert other["scoring"] == "roc_auc"
    own = facts("compare", made / "run", *few, "--inside")
    assert own["scored_on"] == "uniform rows of the tree that no fit has seen"
    assert own["n_rows"] == other["n_rows"]
    assert own["data"] == str(made / "run" / "tree")
    frame = rows("north", 1).drop(columns=["id", "when"])
    ct.CoresetTree(tmp_path / "tree", size=200).build(ct.Dataset.from_pandas(frame, target="late"))
    assert facts("compare", tmp_path / "tree", *few, "--inside")["n_rows"] == ROWS
    refused(run("compare", tmp_path / "tree", *few), "a tree without held-out rows", "--data", "--inside")
    refused(run("compare", tmp_path / "tree", *few, "--data", new), "rows in memory")


def test_what_compare_refuses(made: Path, tmp_path: Path) -> None:
    command = ("compare", made / "run", "--steps", "2")
    out = tmp_path / "report.json"
    named = (*command, "--out", out, "--models")
    refused(run(*named, "logistic,florest"), "'florest'", "forest")
    refused(run(*named, ","), "there is no model to compare")
    refused(run(*named, "ridge"), "'ridge'", "logistic")
    refused(run(*named, "tree", "--scoring", "r2"), "'r2' is no score for classification", "roc_auc")
    refused(run(*named, "tree", "--scoring", "auc"), "'auc'", "roc_auc")
    refused(run(*named, "tree", "--size", "5000"), "size=5000 must be at most 200")
    few = run("compare", made / "run", "--steps", "4")
    refused(few, "the smallest of 4 nested coresets would have 25 rows", "fewer steps")
    refused(run(*named, "tree", "--data", made / "data"), "the tree was built from 8 of these files")
    some = made / "data" / "*" / "2013-02.parquet"
    refused(run(*named, "tree", "--data", some), "the tree was built from 2 of these files (", "2013-02.parquet)")
    refused(run(*named, "tree", "--data", tmp_path / "none"), "no such file or folder")
    refused(run("compare", tmp_path / "none"), "none: no tree here yet", code=1)
    assert not out.exists(), "nothing is written where something is wrong"
    out.write_text("kept")
    refused(run(*named, "tree"), "report.json: exists already")
    assert out.read_text() == "kept"
    refused(run(*command, "--out", tmp_path / "no" / "report.json"), "there is no folder")
    for wrong in (("--steps", "1"), ("--confidence", "1"), ("--size", "0"), ("--inside", "--data", "x")):
        assert run("compare", made / "run", *wrong).exit_code == 2
    assert "exclude each other" in run(*command, "--inside", "--data", "x").stderr


# ---- refusals --------------------------------------------------------------------------------------------------------


def test_where_no_tree_is(tmp_path: Path, made: Path) -> None:
    for verb in (("update",), ("tree", "show"), ("tree", "verify"), ("tree", "gc"), ("drift", "--current", "2013")):
        refused(run(*verb, tmp_path / "none"), "none: no tree here yet", code=1)
    refused(run("tree", "diff", made / "run", tmp_path / "none"), "none: no tree", code=1)
    assert list(tmp_path.iterdir()) == [], "a question makes no folder"
    refused(run("update", made / "run", "--data", tmp_path / "none"), "no such file or folder")
    (tmp_path / "run").mkdir()
    shutil.copy(made / "run" / "run.json", tmp_path / "run")
    refused(run("tree", "show", tmp_path / "run"), "run/tree: no tree here yet", code=1)


def test_a_tree_of_rows_in_memory_is_updated_in_python(tmp_path: Path) -> None:
    frame = rows("north", 1).drop(columns=["id", "when"])
    ct.CoresetTree(tmp_path / "tree", size=100).build(ct.Dataset.from_pandas(frame, target="late"))
    refused(run("update", tmp_path / "tree"), "rows in memory", "In Python:")
    refused(run("tree", "remove", tmp_path / "tree", "--where", "c=x"), "give data=")
    assert facts("tree", "verify", tmp_path / "tree")["ok"]
    assert run("tree", "show", tmp_path / "tree").stdout.splitlines()[2].startswith("level 0")


def test_help_of_every_verb() -> None:
    for verb in ("compare", "update", "drift", "tree"):
        assert f"  {verb}" in run("--help").stdout
        assert "PATH" in run(verb, "--help").stdout
    for verb in ("show", "verify", "gc", "diff", "remove"):
        assert f"  {verb}" in run("tree", "--help").stdout
        assert "--json" in run("tree", verb, "--help").stdout
