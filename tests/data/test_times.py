"""Parts of a time against pandas, in the streaming passes and in the transformer alike."""

from __future__ import annotations

import datetime as dt

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone

from coretree.data.times import DatetimeParts
from coretree.data.timestamps import datetime_parts, part_names, to_seconds

stamps = st.datetimes(dt.datetime(1678, 1, 1), dt.datetime(2261, 12, 31))


@settings(max_examples=50, deadline=None)
@given(st.lists(stamps, min_size=1, max_size=20))
def test_parts_are_those_of_pandas(found: list[dt.datetime]) -> None:
    column = pd.Series(pd.to_datetime(found))
    parts = datetime_parts(to_seconds(column))
    wanted = np.column_stack([column.dt.month, column.dt.day_of_week, column.dt.hour])
    np.testing.assert_array_equal(parts, wanted)


def test_missing_times_have_missing_parts() -> None:
    assert np.isnan(datetime_parts(np.array([np.nan]))).all()
    assert datetime_parts(np.zeros(0)).shape == (0, 3)


@pytest.mark.parametrize(
    "column",
    [
        pd.Series(pd.to_datetime(["2013-01-05 15:30", None])),
        pd.Series(pd.to_datetime(["2013-01-05 15:30", None])).dt.tz_localize("UTC"),
        pd.Series(pd.to_datetime(["2013-01-05 16:30", None])).dt.tz_localize("Europe/Berlin"),
        pd.Series(["2013-01-05 15:30", "soon"]),
        pd.Series([dt.datetime(2013, 1, 5, 15, 30), None], dtype=object),
    ],
)
def test_the_transformer_takes_what_files_hold(column: pd.Series) -> None:
    parts = DatetimeParts().fit_transform(column.to_frame("when"))
    np.testing.assert_array_equal(parts, [[1, 5, 15], [np.nan] * 3])


def test_the_transformer_names_its_features_and_can_be_cloned() -> None:
    frame = pd.DataFrame({"a": pd.to_datetime(["2013-01-05"]), "b": pd.to_datetime(["2014-02-05"])})
    parts = clone(DatetimeParts().fit(frame)).fit(frame)
    assert tuple(parts.get_feature_names_out()) == part_names("a") + part_names("b")
    assert parts.transform(frame[["b", "a"]])[0, 0] == 1  # by name, not by place
