"""The speed benchmark runs, small: every method reads all rows, and the coreset's model is as good as the full one."""

from __future__ import annotations

import json
from dataclasses import asdict

import numpy as np
import pyarrow.parquet as pq
import pytest

from benchmarks.fifty_million import Measured, markdown, other, run, slope, write
from benchmarks.large_tables import SHARES, ten_classes, wide, write_narrow


def test_narrow_table_beside_a_scan_and_what_others_do(tmp_path):
    facts = run(tmp_path / "data", [10_000], size=2_500, repeats=1, against=("sklearn",))
    by_method = {m["method"]: m for m in facts["measured"]}
    assert set(by_method) == {"bare scan", "build", "fit", "retrain", "sklearn"}
    n_bytes = sum(p.stat().st_size for p in (tmp_path / "data" / "narrow-10000").iterdir())
    assert by_method["bare scan"]["bytes_read"] > 0.9 * n_bytes
    assert by_method["build"]["bytes_read"] > 1.8 * n_bytes  # two passes
    assert 1 < by_method["sklearn"]["log_loss"] < 1.5  # without a model: log 10 = 2.3
    assert by_method["fit"]["log_loss"] < by_method["sklearn"]["log_loss"] + 0.05
    assert all(found["cpu_s"] > 0 for found in by_method.values())
    text = markdown(facts)
    assert text.count("\n| ") == 5
    assert f"{facts['date']}" in text


def test_both_streams_learn_the_same(tmp_path):
    write_narrow(tmp_path, 8_000)
    plain, dask = (other(name, tmp_path, 8_000) for name in ("sgd", "dask-ml"))
    assert plain.log_loss == pytest.approx(dask.log_loss, abs=0.2)
    assert plain.log_loss < 20  # a short stream of heavy tails leaves it poor, but it is a model


def fact(rows: int, method: str, cpu_s: float) -> Measured:
    return Measured(rows, method, cpu_s / 2, cpu_s, (300, 310), 400, 10 * rows, 1.25 if method == "fit" else None)


def test_report_of_several_sizes(tmp_path):
    pytest.importorskip("matplotlib", reason="the figure needs the extra `plots`")
    found = [fact(n, m, n * 1e-6 * c) for n in (10**6, 10**7) for m, c in (("bare scan", 1), ("build", 4), ("fit", 9))]
    assert slope(found, "build") == pytest.approx(1.0)
    facts = {"table": "narrow", "machine": "here", "date": "today", "measured": [asdict(m) for m in found]}
    assert "| 10,000,000 | build | 20.00 | 40.00 | 4.0 | 4.0 | 300, 310 | 400 | 100 | - |" in markdown(facts)
    write(facts, tmp_path / "out")
    assert json.loads((tmp_path / "out" / "fifty_million-narrow.json").read_text())["table"] == "narrow"
    assert (tmp_path / "out" / "fifty_million-narrow.png").stat().st_size > 10_000


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
    assert slope([fact(10, "build", 1.0)], "build") is None
