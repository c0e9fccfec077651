"""The search benchmark runs, small, and finds as good a setting as all rows do."""

from benchmarks.grid_search import run


def test_the_setting_is_as_good_as_that_of_all_rows():
    facts = run(20_000, size=900, grid={"model__C": [1e-6, 1e-3, 1e-1]}, cv=3)
    assert facts["settings"] == 3
    assert facts["relative_loss"] <= 1e-3
    assert facts["largest_difference_of_scores"] < 0.05
    assert min(facts["cpu_s"]) > 0
