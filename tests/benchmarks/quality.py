"""How much worse is a model fitted on few rows than the one fitted on all of them, and is that as good as promised?

    python tests/benchmarks/quality.py --seeds 10 --out quality
    python tests/benchmarks/quality.py --only letter covtype_20k --out quality    # some cases; adds to quality.json
    python tests/benchmarks/quality.py --report --out quality                     # only writes table and figure anew

A case is a data set and a model family. For each seed a tree is built over all rows and models are fitted on its
coresets, on as many plain, class-balanced and leverage-sampled rows, and once on all rows. For linear models the
*excess* of a fit is (F(fit) - F(full)) / F(full), F the regularised objective over all rows in the tree's own prepared
columns; trees and mixtures are judged on held-out rows. Every case has bars. OUT.json gets the numbers of each seed
as soon as they are there, so an interrupted run goes on where it stopped, and several processes may work on different
cases with the same OUT; OUT.md gets bars and numbers, OUT.png the excess against the number of rows. Real data is
used where ``--data`` has it: letter, covtype_20k, shuttle, diamonds, california_housing, each as a Parquet file.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import platform
import sys
import time
from collections.abc import Iterable, Sequence
from datetime import date
from pathlib import Path
from typing import Any

from threadpoolctl import threadpool_limits

if not __package__:  # run as a script: its neighbours have the same names as in a test
    sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.quality_bars import Case, Record, Scale
from benchmarks.quality_cases import CASES
from benchmarks.quality_report import bars, figure, markdown

DATA = Path(__file__).parents[3] / "shared" / "data"


def run(
    cases: Iterable[Case], seeds: Sequence[int], scale: Scale, *, done: Iterable[Record] = (), save: Any = None
) -> list[Record]:
    """Records of what is not done; ``save`` gets those of each seed at once."""
    known = {(r["case"], r["seed"]) for r in done}
    out: list[Record] = []
    for case in cases:
        left = [seed for seed in seeds if (case.name, seed) not in known]
        if not left:
            continue
        if not case.ready(scale):
            print(f"{case.name}: its data is not in {scale.data}", file=sys.stderr)
            continue
        start = time.process_time()
        with threadpool_limits(1):  # small fits: threads would wait for one another
            for found in case.measure(left, scale):
                out += found
                if save is not None:
                    save(found)
                now = time.process_time()
                print(f"{case.name}: seed {found[0]['seed']} ({now - start:.1f} s of CPU)", file=sys.stderr)
                start = now
    return out


def load(path: Path, scale: Scale) -> list[Record]:
    """Records of an earlier run of the same scale.

    Raises
    ------
    SystemExit
        They are of another scale: their numbers do not belong together.
    """
    if not path.exists():
        return []
    stored = json.loads(path.read_text("utf-8"))
    if stored["rows"] != scale.rows:
        raise SystemExit(f"{path} holds runs with --rows {stored['rows']}; give another --out.")
    return list(stored["records"])


def append(path: Path, scale: Scale, found: Sequence[Record]) -> None:
    """Add records to a file that other processes add to as well; what is there for the same seed gives way."""
    with open(path.with_suffix(".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        new = {(r["case"], r["seed"]) for r in found}
        records = [r for r in load(path, scale) if (r["case"], r["seed"]) not in new] + list(found)
        part = path.with_suffix(".part")
        lines = ",\n".join(json.dumps(r, allow_nan=False) for r in records)
        part.write_text(f'{{"rows": {json.dumps(scale.rows)}, "records": [\n{lines}\n]}}\n', "utf-8")
        os.replace(part, path)


def write(out: Path | None, records: Sequence[Record]) -> None:
    """Table and figure; the table is printed as well."""
    seeds = len({r["seed"] for r in records})
    order = list(CASES)
    ordered = sorted(records, key=lambda r: (order.index(r["case"]), r["seed"]))
    facts = f"{date.today()}, {platform.machine()}, {os.cpu_count()} cores; {seeds} seeds"
    text = markdown(CASES, ordered, facts)
    print(text)
    if out is not None:
        out.with_suffix(".md").write_text(text, "utf-8")
        figure(CASES, ordered, out.with_suffix(".png"))


def main() -> None:
    """Command line; leaves with 1 where a bar that was run is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--rows", type=int, help="rows of every case, for a quick look; the bars are for the default")
    parser.add_argument("--data", type=Path, default=DATA, help="folder with letter.parquet, covtype_20k.parquet, ...")
    parser.add_argument("--only", nargs="+", metavar="CASE", help=f"of: {', '.join(CASES).replace('%', '%%')}")
    parser.add_argument("--promised", action="store_true", help="only the sizes that bars are for; no figure")
    parser.add_argument("--report", action="store_true", help="run nothing, write table and figure of OUT.json")
    parser.add_argument("--out", type=Path, help="write OUT.json, OUT.md and OUT.png")
    a = parser.parse_args()
    unknown = [name for name in a.only or () if name not in CASES]
    if unknown:
        parser.error(f"no case {unknown[0]!r}; there are {', '.join(CASES)}")
    scale = Scale(a.rows, a.data, not a.promised)
    stored = None if a.out is None else a.out.with_suffix(".json")
    done = [] if stored is None else load(stored, scale)
    save = None if stored is None else lambda found: append(stored, scale, found)
    new = (
        [] if a.report else run([CASES[name] for name in a.only or CASES], range(a.seeds), scale, done=done, save=save)
    )
    records = load(stored, scale) if stored is not None else new
    write(a.out, records)
    sys.exit(any(row["verdict"] == "MISSED" for row in bars(CASES.values(), records)))


if __name__ == "__main__":
    main()
