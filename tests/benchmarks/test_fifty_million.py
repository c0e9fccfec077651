"""The speed benchmark runs, small: every method reads all rows, and the coreset's model is as good as the full one."""

from __future__ import annotations

import json
from dataclasses import asdict

import numpy as np
import pyarrow.parquet as pq
import pytest

from benchmarks.fifty_million import run
from benchmarks.fifty_million_meter import Measured
from benchmarks.fifty_million_report import markdown, slopes, verdicts, write
from benchmarks.fifty_million_rivals import rival
from benchmarks.large_tables import SHARES, ten_classes, wide, write_narrow


def test_narrow_table_beside_a_scan_and_what_others_do(tmp_path):
    facts = run(tmp_path / "data", [10_000], size=2_500, repeats=1, passes=(2, 1), against=("sklearn",))
    by_method = {m["method"]: m for m in facts["measured"]}
    ours = {"build", "fit", "retrain"}
    assert set(by_method) == {"bare scan", "sklearn"} | ours | {f"{what}, 1 pass" for what in ours}
    n_bytes = sum(p.stat().st_size for p in (tmp_path / "data" / "narrow-10000").iterdir())
    assert by_method["bare scan"]["bytes_read"] > 0.9 * n_bytes
    own = {name: m["bytes_read"] - m["node_bytes"] for name, m in by_method.items() if name.startswith("build")}
    assert own["build"] > 1.8 * n_bytes  # two passes
    assert 0.9 * n_bytes < own["build, 1 pass"] < 0.6 * own["build"]
    assert 1 < by_method["sklearn"]["log_loss"] < 1.5  # without a model: log 10 = 2.3
    assert by_method["fit"]["log_loss"] < by_method["sklearn"]["log_loss"] + 0.05
    assert all(found["cpu_s"] > 0 for found in by_method.values())
    text = markdown(facts)
    assert text.count("\n| 10,000 |") == 8
    assert f"{facts['date']}" in text
    judged = {v.line.removeprefix("10,000 rows: "): v for v in verdicts(facts)}
    assert judged["bytes of the table read by build, 1 pass / bare scan"].word == "met"
    assert {
        "retrain, s",
        "build / bare scan, CPU",
        "sklearn / build and fit, wall",
        "log loss of fit above sklearn",
    } <= set(judged)


def test_both_streams_learn_the_same(tmp_path):
    write_narrow(tmp_path, 8_000)
    plain, dask = (rival(name, tmp_path, 8_000) for name in ("sgd", "dask-ml"))
    assert plain.log_loss == pytest.approx(dask.log_loss, abs=0.2)
    assert plain.log_loss < 20  # a short stream of heavy tails leaves it poor, but it is a model


def fact(rows: int, method: str, cpu_s: float, workers: int = 2, **more) -> Measured:
    loss = 1.25 if method in ("fit", "sklearn") else None
    given = {"log_loss": loss, "bytes_read": 10 * rows, "client_mib": 400} | more
    peaks = (300, 310)[:workers]
    return Measured(rows, method, workers, cpu_s / max(workers, 1), cpu_s, 0.5, workers_mib=peaks, **given)


def facts_of(found: list[Measured]) -> dict:
    return {"table": "narrow", "machine": "here", "date": "today", "measured": [asdict(m) for m in found]}


def test_report_of_several_sizes(tmp_path):
    pytest.importorskip("matplotlib", reason="the figure needs the extra `plots`")
    found = [fact(n, m, n * 1e-6 * c) for n in (10**6, 10**7) for m, c in (("bare scan", 1), ("build", 4), ("fit", 9))]
    assert slopes(found) == pytest.approx({"bare scan": 1.0, "build": 1.0})
    facts = facts_of(found)
    line = "| 10,000,000 | build | 2 | 20.00 | 40.00 | 0.50 | 4.00 | 4.00 | 1.00 | 300, 310 | 400 | 100 | 0 | - |"
    assert line in markdown(facts)
    write(facts, tmp_path / "out")
    assert json.loads((tmp_path / "out" / "fifty_million-narrow.json").read_text())["table"] == "narrow"
    assert (tmp_path / "out" / "fifty_million-narrow.png").stat().st_size > 10_000


def test_bars_are_met_and_missed():
    methods = {"bare scan": 2.0, "build": 7.0, "build, 1 pass": 4.0, "fit": 1.0, "fit, 1 pass": 1.0, "retrain": 0.5}
    found = [fact(10**6, m, s) for m, s in methods.items()] + [fact(10**6, "sklearn", 50.0, workers=0)]
    found += [fact(10**6, "bare scan", 1.8, workers=1), fact(10**6, "build", 4.0, workers=1)]
    words = {v.line.removeprefix("1,000,000 rows: "): v.word for v in verdicts(facts_of(found))}
    assert words["build / bare scan, CPU"] == "met"
    assert words["sklearn / build and fit, wall"] == "met"
    assert words["bytes of the table read by build, 1 pass / bare scan"] == "met"
    assert words["bare scan, speed-up from 1 to 2 workers, share"] == "met"
    assert words["build, speed-up from 1 to 2 workers, share"] == "MISSED"  # 4 s alone, 3.5 s together
    assert words["largest worker, MiB"] == words["largest client, MiB"] == "met"

    def word_of(line: str, **change) -> str:
        worse = [m if m.method != change["method"] else fact(10**6, **change) for m in found]
        (word,) = [v.word for v in verdicts(facts_of(worse)) if v.line.endswith(line)]
        return word

    assert word_of("build / bare scan, wall", method="build", cpu_s=8.1) == "MISSED"
    assert word_of("retrain, s", method="retrain", cpu_s=3.1) == "MISSED"
    assert word_of("largest client, MiB", method="fit", cpu_s=1.0, client_mib=601) == "MISSED"
    assert word_of("log loss of fit above sklearn", method="fit", cpu_s=1.0, log_loss=1.2506) == "MISSED"
    assert word_of("pass / bare scan", method="build, 1 pass", cpu_s=4.0, bytes_read=2 * 10**7) == "MISSED"
    steep = [fact(n, "bare scan", n * 1e-6) for n in (10**6, 10**7)]
    steep += [fact(n, "build", n**1.2 * 1e-6) for n in (10**6, 10**7)]
    assert [v.word for v in verdicts(facts_of(steep)) if "grow as rows" in v.line] == ["met", "MISSED"]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::coretree.errors.CoresetQualityWarning")  # hundreds of columns, few rows
def test_wide_table_of_numbers_and_texts(tmp_path):
    facts = run(tmp_path / "data", [3_000], table="wide", size=1_000, repeats=1)
    assert {m["method"] for m in facts["measured"]} == {"bare scan", "build", "fit", "retrain"}


def test_tables_depend_on_the_file_alone_and_short_ones_replace_long_ones(tmp_path):
    X, y = ten_classes(3, 50_000)
    again, _ = ten_classes(3, 50_000)
    other, _ = ten_classes(4, 50_000)
    assert np.array_equal(X, again, equal_nan=True)
    assert not np.array_equal(X, other, equal_nan=True)
    shares = np.bincount(y, minlength=len(SHARES)) / len(y)
    assert shares.min() > 0.001
    assert shares.max() > 0.15
    missing = np.isnan(X).mean(axis=0)
    assert np.allclose(missing[8:12], 0.02, atol=0.005)
    assert missing[:8].max() == 0
    columns = wide(0, 500)
    assert len(columns) == 201
    assert 0.02 < columns["label"].to_numpy().mean() < 0.4
    for rows in (600_000, 1_000):
        write_narrow(tmp_path, rows)
        assert sum(pq.read_metadata(p).num_rows for p in tmp_path.iterdir()) == rows


def test_slope_of_a_single_size_is_unknown():
    assert slopes([fact(10, "build", 1.0)]) == {}
