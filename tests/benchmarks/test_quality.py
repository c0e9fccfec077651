"""The quality benchmark on small data: every family once, held to three times its bars; what it writes; its bars."""

import json
from dataclasses import replace

import numpy as np
import pytest

from benchmarks.quality import append, load, run
from benchmarks.quality_bars import ONE, OURS, THREE, UNIFORM, Bar, Scale, record
from benchmarks.quality_cases import CASES
from benchmarks.quality_report import bars, figure, markdown
from benchmarks.quality_samples import SAMPLERS, sampled

SLACK = 3


def small(name, **changes):
    """A case with few leaves, and only what its bars need."""
    return replace(CASES[name], **({"leaves": 2} | changes))


SMALL = [
    (small("heavy tails, 1 %", methods=(OURS, THREE, ONE, UNIFORM)), 8_000),
    (small("one-hot, 6 %", methods=(OURS, UNIFORM)), 8_000),
    (small("ten classes", methods=(OURS, UNIFORM)), 6_000),
    (small("counts"), 10_000),
    (small("squared hinge", methods=(OURS, UNIFORM)), 8_000),
    (small("hinge", methods=(OURS, UNIFORM)), 8_000),
    (replace(CASES["collinear, means of 1e6"], partitions=(1, 3)), 2_000),
    (small("imbalanced, k = 50", leaves=4), 6_000),
    (small("far outliers, k = 50", leaves=4), 6_000),
    (small("ten components", leaves=4), 5_000),
    (small("waves", iterations=60), 13_400),
    (small("nonlinear, 1 %, noisy", iterations=20, methods=(OURS, UNIFORM)), 30_000),
    (small("seven classes, 20%", iterations=8, methods=(OURS, UNIFORM)), 4_000),
]


@pytest.mark.parametrize(("case", "rows"), [pytest.param(*pair, id=pair[0].name) for pair in SMALL])
def test_a_family_keeps_near_its_bars(case, rows):
    records = run([case], [0], Scale(rows, sweep=False))
    assert records
    for bar in case.bars:
        slack = SLACK if bar.sense == "<=" else 1 / SLACK
        value = bar.value(case.name, records)
        assert value is not None, bar
        assert replace(bar, limit=bar.limit * slack).passed(value), f"{bar.line}: {value}"


def test_more_passes_come_closer_and_plain_rows_stay_behind():
    records = run([small("normal features", methods=(OURS, THREE, ONE, UNIFORM))], [0], Scale(8_000, sweep=False))
    excess = {r["method"]: r["value"] for r in records if r["metric"] == "excess"}
    assert excess[THREE] < excess[OURS] < excess[ONE] < excess[UNIFORM]


def test_the_cost_is_measured_in_one_run():
    found = {
        r["metric"]: r["value"] for r in run([CASES["ten classes, d = 20, the usual sketches"]], [0], Scale(8_000))
    }
    assert found["read, us a row"] > 0
    assert found["pass 2 beyond reading / reading"] * found["read, us a row"] == pytest.approx(
        found["pass 2 beyond reading, us a row"]
    )


def test_a_case_without_its_data_is_left_out(tmp_path):
    assert run([CASES["letter"]], [0], Scale(data=tmp_path)) == []


@pytest.mark.parametrize("method", SAMPLERS)
def test_samples_stand_for_the_rows_of_each_class(method):
    rng = np.random.default_rng(0)
    X, codes = rng.standard_normal((3000, 4)), (rng.random(3000) < 0.2).astype(int)
    index, w = sampled(method, X, codes, 500, seed=1)
    assert len(np.unique(index)) == len(index) == 500
    assert np.bincount(codes[index], w) == pytest.approx(np.bincount(codes))


def records_of(**values):
    return [record("a", seed, method, "excess", v) for method, found in values.items() for seed, v in enumerate(found)]


def test_bars_are_medians_over_seeds_unless_the_worst_is_meant():
    records = records_of(ours=[1.0, 2.0, 9.0], plain=[10.0, 20.0, np.inf])
    assert Bar("", "<=", 2, "ours").value("a", records) == 2
    assert Bar("", "<=", 2, "ours", statistic="worst").value("a", records) == 9
    assert Bar("", ">=", 2, "ours", statistic="worst").value("a", records) == 1
    assert Bar("", ">=", 5, "plain", over="ours").value("a", records) == 10
    assert Bar("", "<=", 5, "plain", statistic="worst").value("a", records) == np.inf
    assert Bar("", "<=", 5, "other").value("a", records) is None


def test_a_bar_can_be_missed_and_needs_something_to_relate_to():
    assert not Bar("", "<=", 1).passed(1.1)
    assert not Bar("", ">=", 1).passed(0.9)
    found = Bar("", "<=", 1, "ours", over="plain").value("a", records_of(ours=[1.0], plain=[-1.0]))
    assert found is not None
    assert np.isnan(found)
    assert not Bar("", "<=", 1).passed(found)


def test_sizes_beyond_the_promised_one_are_not_judged():
    records = [*records_of(ours=[1.0]), {**record("a", 0, "ours", "excess", 5.0), "promised": False}]
    assert Bar("", "<=", 2, "ours").value("a", records) == 1


def test_results_are_stored_seed_by_seed_and_merged(tmp_path):
    path, scale = tmp_path / "out.json", Scale(100)
    append(path, scale, [record("a", 0, "ours", "excess", 1.0)])
    append(path, scale, [record("a", 1, "ours", "excess", np.inf)])
    append(path, scale, [record("a", 0, "ours", "excess", 3.0)])
    assert sorted((r["seed"], r["value"]) for r in load(path, scale) if r["value"]) == [(0, 3.0)]
    assert len(json.loads(path.read_text())["records"]) == 2
    with pytest.raises(SystemExit, match="another --out"):
        load(path, Scale(None))


def test_what_is_stored_is_not_run_again():
    done = [record("normal features", seed, OURS, "excess", 1.0) for seed in (0, 1)]
    assert run([CASES["normal features"]], [0, 1], Scale(1000), done=done) == []


def test_the_table_names_every_bar_and_the_figure_has_a_panel_for_each_sweep(tmp_path):
    cases = {name: CASES[name] for name in ("counts", "hinge")}
    facts = {"n": 9, "d": 1}
    records = [
        record("counts", seed, method, "excess", value * m, m=m, **facts) | {"promised": m == 1}
        for seed in (0, 1)
        for method, value in ((OURS, 1e-5), (UNIFORM, 1e-1))
        for m in (1, 2)
    ]
    text = markdown(cases, records, "facts")
    assert "2 met, 2 not run" in text
    assert [row["verdict"] for row in bars(cases.values(), records)] == ["met", "met", "not run", "not run"]
    pytest.importorskip("matplotlib")
    assert figure(cases, records, tmp_path / "out.png")
    assert (tmp_path / "out.png").stat().st_size > 5_000
    assert not figure(cases, [r for r in records if r["m"] == 1], tmp_path / "none.png")
