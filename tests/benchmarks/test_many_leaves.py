"""The benchmark of tiny leaves runs, small: every job is counted once, and the table says what was measured."""

from __future__ import annotations

import json

from benchmarks.many_leaves import markdown, run, write


def test_every_leaf_and_merge_of_both_passes_is_counted_once(tmp_path):
    facts = run(tmp_path / "data", [60])
    assert len(list((tmp_path / "data").iterdir())) == 60
    by_step = {m["step"]: m for m in facts["measured"]}
    assert list(by_step) == ["scan", "build", "bookkeeping", "open"]
    assert by_step["scan"]["jobs"] == by_step["open"]["jobs"] == 0
    for step in ("build", "bookkeeping"):
        m = by_step[step]
        assert m["counted"] == m["jobs"]
        assert 4 <= m["jobs"] / 2 - 60 <= 20  # merges of a pass
        assert m["cpu_s"] > m["client_cpu_s"] > 0
    assert by_step["bookkeeping"]["cpu_s"] < by_step["build"]["cpu_s"]
    write(facts, tmp_path / "out")
    assert json.loads((tmp_path / "out" / "many_leaves.json").read_text())["rows"] == 50
    assert markdown(facts).count("\n| ") == 4
    assert f"| 60 | build | {by_step['build']['jobs']} |" in (tmp_path / "out" / "many_leaves.md").read_text()
