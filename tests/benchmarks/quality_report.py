"""The records of the quality benchmark as a table of bars, a table of numbers, and a figure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from benchmarks.quality_bars import (
    BALANCED,
    FULL,
    LEVERAGE,
    METHODS,
    ONE,
    OURS,
    RESIDUAL,
    THREE,
    UNIFORM,
    Case,
    Record,
)

STYLES = {
    OURS: ("tab:blue", "o-"), THREE: ("tab:green", "s-"), ONE: ("tab:cyan", "^-"), RESIDUAL: ("tab:brown", "v-"),
    UNIFORM: ("tab:red", "o--"), BALANCED: ("tab:orange", ":"), LEVERAGE: ("tab:purple", ":"),
}  # fmt: skip
HIDDEN = ("expected", "excess / pilot's", "gate")


def bars(cases: Iterable[Case], records: Sequence[Record]) -> list[dict[str, object]]:
    """Every bar with what was found."""
    out: list[dict[str, object]] = []
    for case in cases:
        for bar in case.bars:
            value = bar.value(case.name, records)
            verdict = "not run" if value is None else "met" if bar.passed(value) else "MISSED"
            out.append({
                "group": case.group, "case": case.name, "line": bar.line, "bar": f"{bar.sense} {bar.limit:g}",
                "found": value, "verdict": verdict,
            })  # fmt: skip
    return out


def markdown(cases: Mapping[str, Case], records: Sequence[Record], facts: str) -> str:
    """Bars, numbers, and what the coresets' reports said."""
    judged = bars(cases.values(), records)
    tally = Counter(str(row["verdict"]) for row in judged)
    head = ", ".join(f"{tally[v]} {v}" for v in ("met", "MISSED", "not run") if tally[v])
    lines = [facts, "", f"## Bars: {head}", ""]
    lines += _table(
        ["family", "data", "what", "bar", "found", ""],
        [[r["group"], r["case"], r["line"], r["bar"], _number(r["found"]), r["verdict"]] for r in judged],
    )
    used = [m for m in METHODS if any(r["method"] == m for r in records)]
    lines += ["", "## Numbers: median / 90 % quantile over seeds", ""]
    lines += _table(["data", "n", "d", "m", "metric", FULL, *used], _numbers(records, used))
    lines += ["", "## What the coresets said of themselves", ""]
    lines += _table(
        ["data", "m", "method", "constraints met", "truncated", "expected excess", "warnings"], _said(records)
    )
    return "\n".join(lines) + "\n"


def _numbers(records: Sequence[Record], used: list[str]) -> list[list[object]]:
    rows: dict[tuple[object, ...], dict[str, list[float]]] = {}
    for r in records:
        if r["metric"] not in HIDDEN and r["metric"] != "objective":
            found = rows.setdefault((r["case"], r["n"], r["d"], r["m"], r["metric"]), {})
            found.setdefault(r["method"], []).append(np.inf if r["value"] is None else r["value"])
    objective = {r["case"]: r["value"] for r in records if r["metric"] == "objective"}
    out: list[list[object]] = []
    for key, found in rows.items():
        full = _spread(found[FULL]) if FULL in found else f"loss {_number(objective.get(str(key[0])))}"
        out.append([*key, full, *(_spread(found[m]) if m in found else "" for m in used)])
    return out


def _said(records: Sequence[Record]) -> list[list[object]]:
    """One line for the reports of a case at the promised size."""
    groups: dict[tuple[object, ...], list[Record]] = {}
    for r in records:
        if "report" in r and r["promised"]:
            groups.setdefault((r["case"], r["m"], r["method"]), []).append(r)
    out: list[list[object]] = []
    for key, found in groups.items():
        met = Counter(" + ".join(r["report"]["groups"]) for r in found)
        kinds = Counter(w.split(":")[0] for r in found for w in r["report"]["warnings"])
        truncated = float(np.median([r["report"]["truncation"] for r in found]))
        expected = float(np.median([np.nan if r["value"] is None else r["value"] for r in found]))
        words = [f"{n} x {what}" for what, n in met.items()], [f"{n} x {what}" for what, n in kinds.items()]
        out.append(
            [
                *key,
                "; ".join(words[0]),
                _number(truncated),
                _number(expected) if np.isfinite(expected) else "not said",
                "; ".join(words[1]) or "none",
            ]
        )
    return out


def _spread(values: list[float]) -> str:
    return f"{_number(float(np.median(values)))} / {_number(float(np.quantile(values, 0.9, method='higher')))}"


def _number(value: object) -> str:
    if value is None:
        return "-"
    number = float(str(value))
    if not np.isfinite(number):
        return "a class is missing"
    return f"{number:.3g}" if number == 0 or 0.01 <= abs(number) < 10_000 else f"{number:.1e}"


def _table(head: list[str], rows: list[list[object]]) -> list[str]:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return [*lines, *("| " + " | ".join(map(str, row)) + " |" for row in rows)]


def figure(cases: Mapping[str, Case], records: Sequence[Record], path: Path) -> bool:
    """Excess against the number of rows, a panel for each case that was run at several sizes; False without any."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    sizes: dict[str, set[int]] = {}
    for r in records:
        if r["metric"] == "excess":
            sizes.setdefault(r["case"], set()).add(r["m"])
    names = [name for name in cases if len(sizes.get(name, ())) > 1]
    if not names:
        return False
    columns = min(4, len(names))
    lines = -(-len(names) // columns)
    drawn, axes = plt.subplots(lines, columns, figsize=(3.4 * columns, 2.9 * lines), squeeze=False)
    for axis, name in zip(axes.ravel(), names, strict=False):
        _panel(axis, cases[name], [r for r in records if r["case"] == name and r["metric"] == "excess"])
    for axis in axes.ravel()[len(names) :]:
        axis.set_visible(False)
    found = [pair for axis in axes.ravel() for pair in zip(*axis.get_legend_handles_labels(), strict=True)]
    named = {label: handle for handle, label in found}
    drawn.legend(named.values(), named, loc="lower center", ncols=len(named), frameon=False, fontsize="small")
    drawn.supylabel("excess (median; shaded to 90 %)", fontsize="medium")
    drawn.tight_layout(rect=(0.01, 0.3 / drawn.get_size_inches()[1], 1, 1))
    drawn.savefig(path, dpi=120)
    plt.close(drawn)
    return True


def _panel(axis: object, case: Case, records: Sequence[Record]) -> None:
    for method in METHODS:
        found: dict[int, list[float]] = {}
        for r in records:
            if r["method"] == method and r["value"] is not None:
                found.setdefault(r["m"], []).append(max(r["value"], 1e-16))
        if found:
            colour, style = STYLES[method]
            m = sorted(found)
            middle = [float(np.median(found[k])) for k in m]
            axis.plot(m, middle, style, color=colour, label=method, markersize=4)  # type: ignore[attr-defined]
            axis.fill_between(m, middle, [float(np.quantile(found[k], 0.9)) for k in m], color=colour, alpha=0.15)  # type: ignore[attr-defined]
    limits = [bar.limit for bar in case.bars if bar.method == OURS and bar.metric == "excess" and bar.over is None]
    for limit in limits[:1]:
        axis.axhline(limit, color="black", linewidth=0.8, linestyle=(0, (1, 3)))  # type: ignore[attr-defined]
    axis.set(xscale="log", yscale="log", title=case.name, xlabel="rows m")  # type: ignore[attr-defined]
