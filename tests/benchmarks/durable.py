"""What it costs to keep a tree: its storage, an append, a window, a deletion, and the manifest of many leaves.

    PYTHONPATH=tests python -m benchmarks.durable WORK --rows 5e6 --leaves 1000 --out results

writes tables below the folder WORK (the ten-class table, 20 float32 features; with an id and an hourly time for all but
the first measurement), builds trees over them on the threads of this process, and measures

1. *storage*: bytes of all nodes of a tree over ``--rows`` rows, beside the input decoded as Arrow holds it;
2. *append*: nodes merged, and seconds beside reading the new leaf and scanning footers, when a file is added to a tree
   of ``--leaves`` files, ``--repeats`` times;
3. *window*: nodes read and seconds of ``coreset(start, end)`` for as many random windows of the same tree;
4. *deletion*: seconds beside reading their leaves again when 5 rows of ``--erase-rows`` rows are erased by id;
5. *manifest*: seconds to load one of ``--manifest`` leaves.

Each is printed with its bar and kept as Markdown and JSON where ``--out`` is given. Seconds are wall seconds, the
median of the repeats, with the CPU seconds of the process behind them: on a busy machine only the latter compare.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import coretree as ct
from benchmarks.large_tables import SHARES, narrow, write_narrow
from coretree.learn.threads import one_blas_thread
from coretree.run.tasks import Reading
from coretree.tree.inspect import shapes_of
from coretree.tree.local_store import LocalStore
from coretree.tree.manifest import LeafEntry, Manifest, StoredObject, commit, load, name_of_leaf
from coretree.tree.plan import digest, plan
from coretree.tree.windows import NOTHING, WHOLE, cover

START = np.datetime64("2013-01-01T00:00:00", "s")
N_ERASED = 5


@dataclass(frozen=True)
class Cost:
    """One line of the table: a figure, what it must not exceed, and what else was seen."""

    name: str
    figure: float
    bar: float
    unit: str
    seen: dict[str, Any]

    @property
    def holds(self) -> bool:
        """Whether the bar is kept."""
        return self.figure <= self.bar


@dataclass(frozen=True)
class Seconds:
    """Wall and CPU seconds of a call."""

    wall: float
    cpu: float

    def __sub__(self, other: Seconds) -> Seconds:
        return Seconds(self.wall - other.wall, self.cpu - other.cpu)


def timed(call: Callable[[], Any]) -> tuple[Any, Seconds]:
    """What a call returns, and how long it took."""
    wall, cpu = time.perf_counter(), time.process_time()
    found = call()
    return found, Seconds(time.perf_counter() - wall, time.process_time() - cpu)


def median(found: Sequence[Seconds]) -> Seconds:
    """Of wall and of CPU seconds."""
    return Seconds(statistics.median(s.wall for s in found), statistics.median(s.cpu for s in found))


def write_dated(folder: Path, i: int, rows: int, first_id: int) -> None:
    """File i of the ten-class table, with ids from ``first_id`` on and one row a second from its own hour on."""
    columns = narrow(i, rows)
    columns["id"] = pa.array(np.arange(first_id, first_id + rows))
    columns["when"] = pa.array(START + i * rows + np.arange(rows))
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), folder / f"part-{i:05d}.parquet", row_group_size=rows, use_dictionary=["label"])


def dated(folder: Path) -> ct.Dataset:
    """The dataset of such files, one leaf each."""
    return ct.Dataset.from_parquet(folder, target="label", task="classification", time="when", id="id")


def new_tree(path: Path, data: ct.Dataset, size: int) -> ct.CoresetTree:
    """Build, whatever an earlier run left."""
    shutil.rmtree(path, ignore_errors=True)
    return ct.CoresetTree(path, size=size).build(data)


def storage(work: Path, rows: int, size: int) -> Cost:
    """Bytes of all nodes beside the decoded input."""
    write_narrow(work / "narrow", rows)
    data = ct.Dataset.from_parquet(work / "narrow", target="label", task="classification")
    tree, took = timed(lambda: new_tree(work / "narrow.tree", data, size))
    found = tree.describe()
    decoded = rows * decoded_width(work / "narrow")
    share = found["bytes"] / decoded
    levels = [[level["nodes"], level["bytes"]] for level in found["levels"]]
    seen = {"rows": rows, "size": size, "decoded_bytes": decoded, "node_bytes": found["bytes"]}
    return Cost("storage", share, 0.05, "of the decoded input", {**seen, "levels": levels, "build_s": took.wall})


def decoded_width(folder: Path) -> int:
    """Bytes of a row as Arrow holds it in memory."""
    schema = pq.read_schema(next(folder.glob("*.parquet")))
    return sum(field.type.bit_width for field in schema) // 8


def long_tree(work: Path, leaves: int, leaf_rows: int, size: int) -> ct.CoresetTree:
    """A tree over many files of one hour or so each."""
    for i in range(leaves):
        if not (work / "long" / f"part-{i:05d}.parquet").exists():
            write_dated(work / "long", i, leaf_rows, i * leaf_rows)
    for path in sorted((work / "long").glob("part-*.parquet"))[leaves:]:  # of appends
        path.unlink()
    return new_tree(work / "long.tree", dated(work / "long"), size)


def append(work: Path, tree: ct.CoresetTree, leaf_rows: int, repeats: int) -> list[Cost]:
    """Add one file at the end, several times."""
    n = len(tree.manifest_.leaves)
    merges, own, whole, scans, reads = [], [], [], [], []
    for i in range(n, n + repeats):
        write_dated(work / "long", i, leaf_rows, i * leaf_rows)
        data = dated(work / "long")
        scan, scanning = timed(lambda: data.scan)  # noqa: B023  (called at once)
        reading = Reading.of(data)
        _, read = timed(lambda: list(reading.rows(scan.leaves[-1], None)))  # noqa: B023
        change, took = timed(lambda: tree.update(data))  # noqa: B023
        assert (change.added, change.kept) == (1, i)
        assert change.n_made == change.n_merged + 1
        merges.append(change.n_merged)
        own.append(took - read)
        whole.append(took)
        scans.append(scanning)
        reads.append(read)
    seen = {
        "leaves": n,
        "leaf_rows": leaf_rows,
        "update": asdict(median(whole)),
        "read_the_leaf": asdict(median(reads)),
        "scan_footers": asdict(median(scans)),
        "beside": asdict(median(own)),
    }
    return [
        Cost("append: merges at most", max(merges), 4, "nodes", {"merges": merges}),
        Cost("append: beside reading the leaf", median(own).wall, 2.0, "s", seen),
    ]


def window(tree: ct.CoresetTree, repeats: int, seed: int = 0) -> list[Cost]:
    """Random windows: nodes of many by the shape alone, seconds of some."""
    shape, n = shapes_of(tree.manifest_)[0], len(tree.manifest_.leaves)
    rnd = random.Random(seed)
    counts = []
    for _ in range(50 * repeats):
        low, high = sorted(rnd.sample(range(n + 1), 2))
        wanted = [WHOLE if low <= i < high else NOTHING for i in range(n)]
        counts.append(len(cover(shape, wanted).names))
    first, last = (tree.describe()[edge] for edge in ("first", "last"))
    took, read, shares = [], [], []
    for _ in range(repeats):
        start, end = sorted(rnd.uniform(first, last) for _ in range(2))
        with one_blas_thread():  # as coreset() sees to itself
            found, seconds = timed(lambda: tree.window(start, end))  # noqa: B023
        read.append(found.n_nodes)
        shares.append(found.estimated_share)
        core, more = timed(lambda: tree.coreset(min(tree.size, 2_000), start=start, end=end))  # noqa: B023
        assert abs(core.sample_weight.sum() - core.n_rows) < len(SHARES)  # a cut leaf's classes are rounded to rows
        took.append((more, seconds))
    seen = {
        "leaves": n,
        "coreset": asdict(median([t[0] for t in took])),
        "node_alone": asdict(median([t[1] for t in took])),
        "nodes_read": read,
        "estimated_share": [round(share, 5) for share in shares],
    }
    spread = {"windows": len(counts), "median": statistics.median(counts), "most": max(counts)}
    return [
        Cost("window: nodes read at most", max(*counts, *read), most_nodes(n, tree.fan_in), "nodes", spread),
        Cost("window: a coreset of it", median([t[0] for t in took]).wall, 1.0, "s", seen),
    ]


def most_nodes(leaves: int, fan_in: int) -> int:
    """The bar for a window: two partly wanted groups of each level."""
    height, reach = 0, 1
    while reach < leaves:
        height, reach = height + 1, reach * fan_in
    return 2 * fan_in * height


def deletion(work: Path, rows: int, files: int, size: int, repeats: int) -> Cost:
    """Erase rows by their ids, several times."""
    per_file = rows // files
    for i in range(files):
        write_dated(work / "erase", i, per_file, i * per_file)
    data = dated(work / "erase")
    tree = new_tree(work / "erase.tree", data, size)
    rnd, own, whole, reads, hit = random.Random(1), [], [], [], []
    for _ in range(repeats):
        ids = sorted(rnd.sample(range(per_file * files), N_ERASED))
        leaves = [data.scan.leaves[i] for i in sorted({i // per_file for i in ids})]
        reading = Reading.of(data)
        _, read = timed(lambda: [list(reading.rows(leaf, None)) for leaf in leaves])  # noqa: B023
        change, took = timed(lambda: tree.remove(where={"id": ids}, data=data))  # noqa: B023
        assert (change.n_erased, change.changed) == (N_ERASED, len(leaves))
        own.append(took - read)
        whole.append(took)
        reads.append(read)
        hit.append(len(leaves))
    assert tree.verify()
    seen = {
        "rows": rows,
        "files": files,
        "leaves_hit": hit,
        "remove": asdict(median(whole)),
        "read_again": asdict(median(reads)),
        "beside": asdict(median(own)),
    }
    return Cost(f"deletion of {N_ERASED} rows: beside reading again", median(own).wall, 0.5, "s", seen)


def many_leaves(leaves: int) -> Manifest:
    """The manifest of a tree of so many leaves, as a build would write it."""
    recipe = digest("recipe")
    entries = []
    for i in range(leaves):
        path = f"year={2000 + i // 1000}/month={i // 100 % 12 + 1:02d}/part-{i:05d}.parquet"
        fingerprint = digest("fingerprint", i)
        about = {"path": path, "row_groups": [0, 1, 2, 3], "partition": [["year", "2000"], ["month", "01"]]}
        name = name_of_leaf(f"{path}#0", about["row_groups"], fingerprint, (), recipe)
        entries.append(LeafEntry(f"{path}#0", name, fingerprint, 400_000, about))
    shape = plan([e.name for e in entries], recipe=recipe, identities=[e.identity for e in entries])
    nodes = {
        name: StoredObject(2 * digest(name), 1_234_567, 320_000, 1e9 + 3600.5 * i, 1e9 + 3600.5 * i + 3599)
        for i, name in enumerate(shape.nodes)
    }
    return Manifest(shape.root, recipe, tuple(entries), 8, nodes, {"under": recipe}, {"coretree": "0"})


def manifest(work: Path, leaves: int, repeats: int) -> Cost:
    """Load a large manifest from a folder."""
    store, large = LocalStore(work / "manifest.tree"), many_leaves(leaves)
    before = load(store)
    _, written = timed(lambda: commit(store, large, expected=None if before is None else before[1]))
    took = []
    for _ in range(repeats):
        found, seconds = timed(lambda: load(store))
        assert found is not None
        assert found[0] == large
        took.append(seconds)
    _, planned = timed(lambda: shapes_of(large))
    seen = {
        "leaves": leaves,
        "bytes": store.size("manifest.json"),
        "load": asdict(median(took)),
        "commit": asdict(written),
        "plan": asdict(planned),
    }
    return Cost("manifest: load", median(took).wall, 1.0, "s", seen)


def run(
    work: Path,
    *,
    rows: int,
    leaves: int,
    leaf_rows: int,
    erase_rows: int,
    manifest_leaves: int,
    size: int = 20_000,
    repeats: int = 5,
) -> list[Cost]:
    """Measure everything."""
    costs = [storage(work, rows, size)]
    tree = long_tree(work, leaves, leaf_rows, size)
    costs += append(work, tree, leaf_rows, repeats)
    costs += window(tree, repeats)
    costs.append(deletion(work, erase_rows, 16, size, repeats))
    costs.append(manifest(work, manifest_leaves, repeats))
    return costs


def markdown(costs: Sequence[Cost]) -> str:
    """The table, worst news visible."""
    lines = [f"{platform.machine()}, {os.cpu_count()} cores", "", "| cost | figure | bar | kept |", "|---|---|---|---|"]
    lines += [f"| {c.name} | {c.figure:.4g} {c.unit} | {c.bar:g} | {'yes' if c.holds else 'NO'} |" for c in costs]
    return "\n".join(lines)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("work", nargs="?", type=Path, help="where tables and trees go (a temporary folder by default)")
    parser.add_argument("--rows", type=float, default=2e5, help="rows of the storage measurement")
    parser.add_argument("--leaves", type=int, default=100, help="files of the tree that is appended to")
    parser.add_argument("--leaf-rows", type=int, default=2_000, help="rows of each of them")
    parser.add_argument("--erase-rows", type=float, default=4e5, help="rows of the tree that rows are erased from")
    parser.add_argument("--manifest", type=int, default=10_000, help="leaves of the large manifest")
    parser.add_argument("--size", type=int, default=20_000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path, help="folder for durable.md and durable.json")
    a = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        costs = run(
            a.work or Path(folder),
            rows=int(a.rows),
            leaves=a.leaves,
            leaf_rows=a.leaf_rows,
            erase_rows=int(a.erase_rows),
            manifest_leaves=a.manifest,
            size=a.size,
            repeats=a.repeats,
        )
    print(markdown(costs))
    facts = [{**asdict(c), "holds": c.holds} for c in costs]
    if a.out is None:
        print(json.dumps(facts, indent=2))
        return
    a.out.mkdir(parents=True, exist_ok=True)
    (a.out / "durable.md").write_text(markdown(costs) + "\n")
    (a.out / "durable.json").write_text(json.dumps(facts, indent=2) + "\n")


if __name__ == "__main__":
    main()
