"""New rows against a frozen preparation: rows like those that froze it fit, each misfit gets its sentence."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from coretree.data.fits import recipe_fit
from coretree.data.prepare import PrepareRules, freeze
from coretree.data.schema import Roles
from sample_data import MIXED, cut, frame_columns, mixed_frame, profiled

REBUILD = "rebuild: CoresetTree(new_path).build(...)"


def sentences(
    old: pd.DataFrame,
    new: pd.DataFrame,
    rules: PrepareRules | None = None,
    *,
    known: bool,
    roles: Roles = MIXED,
    **options: Any,
) -> tuple[str, ...]:
    schema, columns = frame_columns(old, roles)
    reference = profiled([columns], rules)
    preparation = freeze(reference, schema, rules or PrepareRules())
    found = profiled([frame_columns(new, roles)[1]], rules)
    return recipe_fit(found, preparation, reference=reference if known else None, **options)


ALL_RULES = [
    PrepareRules(),
    PrepareRules(clip=(0.01, 0.99)),
    PrepareRules(scale="minmax"),
    PrepareRules(scale="robust"),
    PrepareRules(indicator=True, max_categories=2, min_frequency=0.2),
    PrepareRules(missing_categorical="most_frequent", categorical="ordinal"),
]


@pytest.mark.parametrize("rules", ALL_RULES, ids=lambda r: f"{r.scale} {r.clip} {r.indicator}")
@pytest.mark.parametrize("known", [True, False])
def test_rows_like_the_ones_before_fit(rules: PrepareRules, known: bool) -> None:
    for seed in range(2):
        new = mixed_frame(800, 100 + seed)
        assert sentences(mixed_frame(1500, seed), new, rules, known=known) == ()
        assert sentences(mixed_frame(1500, seed), new.head(30), rules, known=known) == ()


@pytest.mark.parametrize("known", [True, False])
def test_unseen_levels_are_named(known: bool) -> None:
    new = mixed_frame(1000, 1)
    new.loc[::5, "c"] = "brand new"
    found = sentences(mixed_frame(1500), new, known=known)
    assert len(found) == 1
    assert "column 'c': 20.0% of the rows hold levels that the tree pools" in found[0]
    assert "'brand new' 20.0%" in found[0]
    assert found[0].endswith(REBUILD)
    assert sentences(mixed_frame(1500), new, known=known, least_share=0.3) == ()


@pytest.mark.parametrize("known", [True, False])
def test_a_rare_level_that_became_frequent_is_named(known: bool) -> None:
    rules = PrepareRules(min_frequency=0.01)  # "rare" holds 0.1 % of the old rows
    new = mixed_frame(1000, 1)
    new.loc[::5, "c"] = "rare"
    assert "'rare' 20" in sentences(mixed_frame(3000), new, rules, known=known)[0]


def test_levels_pooled_from_the_start_are_no_news() -> None:
    rules = PrepareRules(max_categories=1)
    assert sentences(mixed_frame(1500), mixed_frame(900, 1), rules, known=True) == ()
    assert sentences(mixed_frame(1500), mixed_frame(900, 1), rules, known=False) == ()


@pytest.mark.parametrize("rules", ALL_RULES[:4], ids=lambda r: f"{r.scale} {r.clip}")
@pytest.mark.parametrize("known", [True, False])
def test_values_outside_the_range_are_counted(rules: PrepareRules, known: bool) -> None:
    new = mixed_frame(1000, 1)
    far = np.arange(1000) % 10 == 3
    new.loc[far, "a"] = 1e4
    found = sentences(mixed_frame(1500), new, rules, known=known)
    if rules.scale == "robust" and not known:
        assert found == ()  # nothing frozen says what was seen
        return
    assert len(found) == 1
    share = float(found[0].split("column 'a': ")[1].split("%")[0]) / 100
    assert share == pytest.approx(new["a"].gt(100).mean(), abs=0.02)
    assert "10000" in found[0]
    assert REBUILD in found[0]


def test_a_column_that_went_missing_is_named() -> None:
    new = mixed_frame(900, 1).assign(a=np.nan, c=None).astype({"c": "str"})
    for known in (True, False):
        found = sentences(mixed_frame(1500), new, known=known)
        assert [s.split(":")[0] for s in found] == ["column 'a'", "column 'c'"]
        assert all("every value is missing" in s for s in found)
    assert sentences(new, new, known=True) == ()  # it was so before


def test_missing_values_that_no_indicator_flags_are_named() -> None:
    new = mixed_frame(900, 1)
    new.loc[::4, "b"] = np.nan
    found = sentences(mixed_frame(1500), new, PrepareRules(indicator=True), known=False)
    assert len(found) == 1
    assert "column 'b': 25.0% of the values are missing and none was before" in found[0]
    assert sentences(mixed_frame(1500), new, known=False) == ()


def test_new_classes_are_named_from_their_first_row_on() -> None:
    new = mixed_frame(1000, 1)
    new.loc[7, "y"] = 5
    expected = "target 'y': 1 rows (0.1%) have a class that the tree does not know (5)"
    assert expected in sentences(mixed_frame(1500), new, known=True)[0]
    assert expected in sentences(mixed_frame(1500), new, known=False, classes=(0, 1))[0]
    assert sentences(mixed_frame(1500), new, known=False) == ()
    assert sentences(mixed_frame(1500), new, known=True, classes=(0, 1, 5)) == ()


def test_no_rows_fit_anything() -> None:
    schema, columns = frame_columns(mixed_frame(300), MIXED)
    reference = profiled([columns])
    preparation = freeze(reference, schema, PrepareRules())
    assert recipe_fit(profiled([cut(columns, 0, 0)]), preparation, reference=reference) == ()
