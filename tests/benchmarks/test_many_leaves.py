"""The benchmark of tiny leaves runs, small: every job is counted once, and the table says what was measured."""

from __future__ import annotations

import json

from benchmarks.many_leaves import markdown, run, write


def test_every_leaf_and_merge_of_both_passes_is_counted_once(tmp_path):
    facts = run(tmp_path / "data", [20, 60])
    assert len(list((tmp_path / "data").iterdir())) == 60
    assert [(m["leaves"], m["step"]) for m in facts["measured"]] == [
        (n, step) for n in (20, 60) for step in ("scan", "build", "bookkeeping", "open")
    ]
    for m in facts["measured"]:
        if m["step"] not in ("build", "bookkeeping"):
            assert m["jobs"] == 0
            continue
        merges = (m["jobs"] - 2 * m["leaves"]) / 2
        assert (merges == 1) if m["leaves"] == 20 else (4 <= merges <= 20)  # up to 24 nodes are one group
        assert m["counted"] == m["jobs"]
        assert m["cpu_s"] > m["client_cpu_s"] > 0
    by_step = {m["step"]: m for m in facts["measured"] if m["leaves"] == 60}
    assert by_step["bookkeeping"]["cpu_s"] < by_step["build"]["cpu_s"]
    write(facts, tmp_path / "out")
    assert json.loads((tmp_path / "out" / "many_leaves.json").read_text())["rows"] == 50
    assert markdown(facts).count("\n| ") == 8
    assert f"| 60 | build | {by_step['build']['jobs']} |" in (tmp_path / "out" / "many_leaves.md").read_text()
