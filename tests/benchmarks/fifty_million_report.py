"""What was measured as a table, the bars that it is held against, and a log-log figure."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from benchmarks.fifty_million_meter import Measured

SCAN, BUILD, FIT, RETRAIN, FULL = "bare scan", "build", "fit", "retrain", "sklearn"
MOST_SCANS = {"narrow": 4.0, "wide": 8.0}  # of the bare scan's seconds, by table
MOST_MIB, MOST_RETRAIN_S, MOST_CURVE = 600, 1.5, 0.1
LEAST_FASTER, MOST_WORSE = 10.0, 0.0005
MOST_READ = 1.05  # of the scan's bytes in one pass: each file's footer is read twice
LEAST_SHARE = 0.8  # of an even speed-up in workers


@dataclass(frozen=True)
class Verdict:
    """A bar and what was found."""

    line: str
    sense: Literal["<=", ">="]
    limit: float
    found: float

    @property
    def word(self) -> str:
        """As the other benchmarks say it."""
        met = self.found <= self.limit if self.sense == "<=" else self.found >= self.limit
        return "met" if met else "MISSED"


def named(what: str, passes: int) -> str:
    """Name of a method; two passes are the usual number."""
    return what if passes == 2 else f"{what}, {passes} pass{'es' * (passes > 1)}"


def typical(found: Sequence[Measured], rows: int, method: str, field: str, workers: int) -> float:
    """Median over the runs; NaN where there is none."""
    values = [getattr(m, field) for m in found if (m.rows, m.method, m.workers) == (rows, method, workers)]
    return float(statistics.median(values)) if values and values[0] is not None else math.nan


def _kinds(found: Sequence[Measured]) -> list[tuple[int, str, int]]:
    return list(dict.fromkeys((m.rows, m.method, m.workers) for m in sorted(found, key=lambda m: (m.rows, -m.workers))))


def _most(found: Sequence[Measured]) -> int:
    return max(m.workers for m in found)


def slopes(found: Sequence[Measured]) -> dict[str, float]:
    """Growth of the CPU seconds with the rows on log scales, of scan and builds: 1 is linear; none of a single size."""
    sizes, most, out = sorted({m.rows for m in found}), _most(found), {}
    for method in dict.fromkeys(m.method for m in found if m.method.startswith((SCAN, BUILD))):
        seconds = [typical(found, n, method, "cpu_s", most) for n in sizes]
        if len(sizes) > 1:
            out[method] = float(np.polyfit(np.log(sizes), np.log(seconds), 1)[0])
    return out


def verdicts(facts: dict[str, Any]) -> list[Verdict]:
    """Every bar that what was measured can be held against."""
    found = [Measured(**m) for m in facts["measured"]]
    out: list[Verdict] = []
    for rows in sorted({m.rows for m in found}):
        out += _of_size([m for m in found if m.rows == rows], rows, MOST_SCANS[facts["table"]])
    for method, slope in slopes(found).items():
        line = f"{method}: CPU seconds grow as rows to the {slope:.3f}, off 1 by"
        out.append(Verdict(line, "<=", MOST_CURVE, abs(slope - 1)))
    return out


def _of_size(found: Sequence[Measured], rows: int, most_scans: float) -> Iterator[Verdict]:
    """Bars of one size; ratios on the largest cluster."""
    most, head = _most(found), f"{rows:,} rows:"

    def at(method: str, field: str, workers: int = most) -> float:
        return typical(found, rows, method, field, workers)

    for what, field in (("CPU", "cpu_s"), ("wall", "wall_s")):
        yield Verdict(f"{head} build / bare scan, {what}", "<=", most_scans, at(BUILD, field) / at(SCAN, field))
    one = named(BUILD, 1)
    if any(m.method == one for m in found):
        read = (at(one, "bytes_read") - at(one, "node_bytes")) / at(SCAN, "bytes_read")
        yield Verdict(f"{head} bytes of the table read by {one} / bare scan", "<=", MOST_READ, read)
    ours = [m for m in found if m.workers]
    for who, peak in (("worker", max(max(m.workers_mib) for m in ours)), ("client", max(m.client_mib for m in ours))):
        yield Verdict(f"{head} largest {who}, MiB", "<=", MOST_MIB, peak)
    yield Verdict(f"{head} retrain, s", "<=", MOST_RETRAIN_S, at(RETRAIN, "wall_s"))
    if any(m.method == FULL for m in found):
        faster = at(FULL, "wall_s", 0) / (at(BUILD, "wall_s") + at(FIT, "wall_s"))
        yield Verdict(f"{head} {FULL} / build and fit, wall", ">=", LEAST_FASTER, faster)
        # of two passes: one has no pilot, promises less, and is in the table
        worse = at(FIT, "log_loss") - at(FULL, "log_loss", 0)
        yield Verdict(f"{head} log loss of {FIT} above {FULL}", "<=", MOST_WORSE, worse)
    fewest = min(m.workers for m in ours)
    for method in (SCAN, BUILD) if fewest < most else ():
        share = at(method, "wall_s", fewest) / at(method, "wall_s") / (most / fewest)
        yield Verdict(f"{head} {method}, speed-up from {fewest} to {most} workers, share", ">=", LEAST_SHARE, share)


def markdown(facts: dict[str, Any]) -> str:
    """Medians, and bars, as tables; ratios are to the bare scan of the same size and workers."""
    found = [Measured(**m) for m in facts["measured"]]
    names = ["rows", "what", "workers", "wall s", "CPU s", "of it client", "x scan's wall", "x scan's CPU"]
    names += ["x scan's bytes", "workers MiB", "client MiB", "MB read", "of it nodes", "log loss"]
    lines = _table(names, (_line(found, *kind) for kind in _kinds(found)))
    lines += ["", f"{facts['machine']}; {facts['date']}; medians of the runs of each kind.", ""]
    judged = ([v.line, f"{v.sense} {v.limit:g}", f"{v.found:.4g}", v.word] for v in verdicts(facts))
    return "\n".join([*lines, *_table(["bar", "", "found", ""], judged)])


def _table(names: Sequence[str], rows: Iterator[list[str]]) -> list[str]:
    return [f"| {' | '.join(names)} |", "|---" * len(names) + "|", *(f"| {' | '.join(row)} |" for row in rows)]


def _line(found: Sequence[Measured], rows: int, method: str, workers: int) -> list[str]:
    def at(field: str) -> float:
        return typical(found, rows, method, field, workers)

    def ratio(field: str, value: float) -> str:
        return f"{value / typical(found, rows, SCAN, field, workers or _most(found)):.2f}"

    runs = [m for m in found if (m.rows, m.method, m.workers) == (rows, method, workers)]
    peaks = ", ".join(str(max(peaks)) for peaks in zip(*(m.workers_mib for m in runs), strict=True)) or "-"
    seconds = [f"{at(f):.2f}" for f in ("wall_s", "cpu_s", "client_cpu_s")]
    ratios = [ratio("wall_s", at("wall_s")), ratio("cpu_s", at("cpu_s"))]
    own = at("bytes_read") - at("node_bytes")
    memory = [peaks, str(max(m.client_mib for m in runs))]
    read = [f"{at('bytes_read') / 1e6:.0f}", f"{at('node_bytes') / 1e6:.0f}"]
    quality = "-" if math.isnan(at("log_loss")) else f"{at('log_loss'):.4f}"
    head = [f"{rows:,}", method, str(workers or "-")]
    return [*head, *seconds, *ratios, ratio("bytes_read", own), *memory, *read, quality]


def figure(facts: dict[str, Any], path: Path) -> None:
    """Log-log figure of CPU seconds against rows (needs the extra ``plots``)."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    found = [Measured(**m) for m in facts["measured"]]
    sizes, most = sorted({m.rows for m in found}), _most(found)
    drawing, axes = plt.subplots(figsize=(6, 4), layout="constrained")
    for method, workers in dict.fromkeys((m.method, m.workers) for m in found if m.workers in (0, most)):
        axes.loglog(sizes, [typical(found, n, method, "cpu_s", workers) for n in sizes], marker="o", label=method)
    axes.set(xlabel="rows", ylabel="CPU seconds, all processes", title=f"{facts['table']} table")
    axes.grid(visible=True, which="both", alpha=0.3)
    axes.legend()
    drawing.savefig(path, dpi=150)
    plt.close(drawing)


def write(facts: dict[str, Any], out: Path) -> None:
    """Write JSON, tables and figure."""
    out.mkdir(parents=True, exist_ok=True)
    name = f"fifty_million-{facts['table']}"
    (out / f"{name}.json").write_text(json.dumps(facts, indent=2), encoding="utf-8")
    (out / f"{name}.md").write_text(markdown(facts) + "\n", encoding="utf-8")
    figure(facts, out / f"{name}.png")
