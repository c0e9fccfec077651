"""The memory benchmark runs, small, and its workers stay within what the plan predicts."""

from benchmarks.out_of_core import ROW_BYTES, run


def test_workers_stay_below_their_limit_and_every_row_is_represented(tmp_path):
    facts = run(tmp_path, 60e6, memory="1GiB", size=2500)
    assert facts["rows"] == int(60e6 // ROW_BYTES)
    assert facts["coreset"]["rows"] == 2500
    assert max(facts["worker_peak_mib"]) < 700
    assert facts["coreset"]["residual"] < 1e-8
