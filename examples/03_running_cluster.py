"""Submit to a Dask cluster that is already running: any scheduler address will do.

Start one on this machine first (two terminals, or see cluster/local/start.sh), on loopback only:

    dask scheduler --host 127.0.0.1 --port 8786
    dask worker tcp://127.0.0.1:8786 --nthreads 1 --memory-limit 2GiB

    python examples/03_running_cluster.py tcp://127.0.0.1:8786

The workers must see the folders of the data and of the tree under the same path (here: this machine's disk; on real
clusters: a shared file system). Nothing on the cluster is changed, and it is still running afterwards.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
from distributed import Client
from sklearn.linear_model import LogisticRegression

import coretree as ct


def write_sensors(folder: Path, n_files: int, rows_per_file: int) -> None:
    """Readings of machines, one file a day; two in a hundred come before a failure."""
    folder.mkdir()
    for day in range(n_files):
        rng = np.random.default_rng(day)
        heat, load = rng.gamma(2.0, 10.0, rows_per_file), rng.normal(size=rows_per_file)
        chance = 1 / (1 + np.exp(6.5 - 0.07 * heat - 0.8 * load))
        table = pd.DataFrame(
            {
                "heat": np.where(rng.random(rows_per_file) < 0.01, np.nan, heat),
                "load": load,
                "site": rng.choice(["north", "south", "west"], rows_per_file),
                "fails": rng.random(rows_per_file) < chance,
            }
        )
        table.to_parquet(folder / f"day={day:02d}.parquet", index=False)


def main(address: str, folder: Path) -> None:
    write_sensors(folder / "sensors", n_files=8, rows_per_file=10_000)
    train, test = ct.Dataset.from_parquet(folder / "sensors", target="fails").split(test=0.25)

    # An address as `client=` would do as well: CoresetTree(...).build(train, client=address)
    with Client(address, timeout="10s") as client:
        workers = client.scheduler_info()["workers"]
        print(f"cluster   {len(workers)} workers at {address}")
        tree = ct.CoresetTree(folder / "sensors.tree", size=2_000)
        tree.build(train, progress=lambda stage, done, total: print(f"{stage:<9} {done}/{total}", end="\r"))
        print(f"tree      {tree.n_rows_:,} training rows, root {tree.name_[:12]}")
        model = ct.CoresetClassifier(LogisticRegression(), tree=tree).fit()  # the fit runs on one worker
        print(f"held out  {ct.evaluate(model, test)}")
        rows = ct.predict(model, test, out=folder / "answers", columns=["site"])  # each worker writes its parts
        print(f"answers   {rows:,} rows in {len(list((folder / 'answers').iterdir()))} files")

    # The place of work changes nothing: threads in this process give the same tree, bit for bit.
    here = ct.CoresetTree(folder / "again.tree", size=2_000).build(train, client=ct.ThreadExecutor(1))
    assert here.name_ == tree.name_
    assert here.coreset().to_frame().equals(tree.coreset().to_frame())
    print("same      root and coreset when built in this process")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("address", help="of the scheduler, such as tcp://127.0.0.1:8786")
    parser.add_argument("--folder", type=Path, help="a folder that the workers see too; default: a temporary one here")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as scratch:
        main(options.address, Path(scratch))
