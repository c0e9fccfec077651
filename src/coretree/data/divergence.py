"""How far two distributions are apart, from their summaries alone, and how much of that chance explains."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from coretree.data.categories import HeavyHitters, Value
from coretree.data.quantiles import Digest

F64 = npt.NDArray[np.float64]

BINS = 10
# A bin of fewer rows than this on either side tells more about chance than about a shift.
ROWS_A_BIN = 5
# A level below this share of both sides is pooled: its own term would be noise.
LEAST_SHARE = 0.005
# Standard errors, and rows, by which a rare level must pass what the other side lets expect.
SURPRISE = 6.0
# Probability with which a digest of thinned rows stays within its stated distance from all rows.
THINNING_MISS = 0.01


@dataclass(frozen=True)
class LevelChange:
    """Levels that came, went and moved between two counts of a categorical column.

    Attributes
    ----------
    new, vanished : tuple of (level, share)
        Levels found on one side only, with their share of that side's present values; most frequent first, ten at
        most. Empty where the other side's counts are not exact: what it does not hold may only be rare there.
    n_new, n_vanished : int
    new_share, vanished_share : float
        Share that all of them hold together.
    moved : tuple of (level, share in the reference, share now)
        The five levels that changed most.
    """

    new: tuple[tuple[Value, float], ...]
    vanished: tuple[tuple[Value, float], ...]
    n_new: int
    n_vanished: int
    new_share: float
    vanished_share: float
    moved: tuple[tuple[Value, float, float], ...]


def psi(reference: npt.ArrayLike, current: npt.ArrayLike) -> float:
    """Population stability index of two sets of bin counts: ``sum (q - p) ln(q / p)``.

    Shares are ``(count + 1/2) / (total + bins / 2)`` (Krichevsky-Trofimov smoothing), so that an empty bin is no
    infinity and its weight fades with the rows. Symmetric in its arguments, 0 for equal shares of equal totals.
    By convention below 0.1 is stable, from 0.25 on a large shift.

    Parameters
    ----------
    reference, current : (B,) counts, >= 0
        The same bins on both sides.

    Returns
    -------
    float, >= 0; 0 where there is at most one bin, or a side is empty.

    Examples
    --------
    >>> round(psi([50, 50], [80, 20]), 3), psi([5, 5], [5, 5])
    (0.406, 0.0)
    """
    a, b = np.asarray(reference, np.float64), np.asarray(current, np.float64)
    if a.shape != b.shape or a.ndim != 1:
        raise ValueError(f"both sides must count the same bins, but have shapes {a.shape} and {b.shape}")
    if a.size < 2 or not a.any() or not b.any():
        return 0.0
    p, q = (a + 0.5) / (a.sum() + a.size / 2), (b + 0.5) / (b.sum() + b.size / 2)
    return float(np.sum((q - p) * (np.log(q) - np.log(p))))


def psi_by_chance(n: float, m: float, bins: int, level: float) -> tuple[float, float]:
    """What `psi` amounts to where nothing shifted: its mean, and the value it passes with probability ``level``.

    Without a shift, PSI is about ``(1/n + 1/m)`` times a chi-square variable of ``bins - 1`` degrees of freedom; its
    quantile is Wilson and Hilferty's. Rows are taken as independent: rows in clusters vary more than this.

    Examples
    --------
    >>> [round(v, 3) for v in psi_by_chance(100, 100, 10, 0.01)]
    [0.18, 0.434]
    """
    if bins < 2 or n <= 0 or m <= 0:
        return 0.0, 0.0
    k, scale = bins - 1, 1 / n + 1 / m
    z = NormalDist().inv_cdf(1 - level)
    return k * scale, scale * k * max(0.0, 1 - 2 / (9 * k) + z * sqrt(2 / (9 * k))) ** 3


def quantile_counts(reference: Digest, current: Digest, bins: int = BINS) -> tuple[F64, F64]:
    """Counts of both sides between the reference's quantiles; the outer bins reach to infinity.

    Fewer bins where a side has few values (five a bin). Edges that repeat (few distinct values) are one, and an edge
    that cuts off less than the rank error of *both* digests is dropped: it would count interpolation, not rows.

    Returns
    -------
    (B,) float64, (B,) float64; B from 0 (a side is empty) to ``bins``
    """
    n, m = reference.count, current.count
    if not n or not m:
        return np.zeros(0), np.zeros(0)
    bins = int(np.clip(min(n, m) // ROWS_A_BIN, 2, bins))
    edges = np.unique(reference.quantile(np.arange(1, bins) / bins))
    ranks = np.column_stack([reference.cdf(edges), current.cdf(edges)])
    least = np.array([reference.rank_error, current.rank_error])
    cuts = [np.zeros(2)]
    for rank in ranks:
        if (rank - cuts[-1] > least).any() and (1.0 - rank > least).any():
            cuts.append(rank)
    shares = np.diff(np.vstack([*cuts, np.ones(2)]), axis=0)
    return shares[:, 0] * n, shares[:, 1] * m


def ks_distance(reference: Digest, current: Digest) -> float:
    """Kolmogorov-Smirnov distance of two digests: the largest difference of their distribution functions.

    Within ``reference.rank_error + current.rank_error`` of the distance between the values digested.

    Returns
    -------
    float in [0, 1]; NaN if a side is empty.

    Examples
    --------
    >>> import numpy as np
    >>> from coretree.data.quantiles import digest
    >>> round(ks_distance(digest(np.arange(1000)), digest(np.arange(250, 1250))), 2)
    0.25
    """
    if not reference.count or not current.count:
        return float("nan")
    ends = [[d.minimum, d.maximum] for d in (reference, current)]
    at = np.unique(np.concatenate([reference.means, current.means, *ends]))
    at = np.concatenate([at, np.nextafter(at, -np.inf)])  # steps count from both of their sides
    return float(np.abs(reference.cdf(at) - current.cdf(at)).max())


def thinning_error(digest: Digest, n_thin: int, n_rows: int) -> float:
    """How far a digest of thinned rows may be from all rows: 0 if it digested them all.

    The bound of Dvoretzky, Kiefer, Wolfowitz and Massart, missed with probability 0.01; taking one row of each
    stretch, as the profile does, usually stays well below it.
    """
    if not digest.count or digest.count > n_thin or n_thin >= n_rows:
        return 0.0
    return float(np.sqrt(np.log(2 / THINNING_MISS) / (2 * digest.count)))


def level_counts(reference: HeavyHitters, current: HeavyHitters) -> tuple[F64, F64]:
    """Counts of both sides by level: the frequent ones, all others pooled, and the missing values.

    A level is frequent with 0.5 % of all rows, and five expected on either side: by both sides together, as picking
    what is frequent on one would pick what chance lifted there. A level that jumped far beyond chance counts too. Rare
    levels that only one side has get a bin of their own where they hold clearly more than chance explains: by Good and
    Turing, a new sample puts the share of levels seen once on levels never seen.

    Returns
    -------
    (B,) float64, (B,) float64
    """
    sides = reference, current
    tables = [dict(side.top(len(side.values))) for side in sides]
    present = [side.n_rows - side.n_missing for side in sides]
    both = {v: (tables[0].get(v, 0), tables[1].get(v, 0)) for v in [*tables[0], *tables[1]]}
    least = max(LEAST_SHARE * sum(present), ROWS_A_BIN * sum(present) / max(min(present), 1))
    frequent = [
        v
        for v, (a, b) in both.items()
        if a + b >= least or _jumped(a, b, present[0], present[1]) or _jumped(b, a, present[1], present[0])
    ]
    named = set(frequent)
    rows = [[float(table.get(v, 0)) for table in tables] for v in frequent]
    rows.append([_surprising(current, reference, named), 0.0])
    rows.append([0.0, _surprising(reference, current, named)])
    pooled = [n - sum(row[i] for row in rows) for i, n in enumerate(present)]
    rows += [pooled, [float(side.n_missing) for side in sides]]
    counts = np.array([row for row in rows if any(row)], np.float64).reshape(-1, 2)
    return counts[:, 0], counts[:, 1]


def _jumped(a: int, b: int, n: int, m: int) -> bool:
    """Whether ``b`` of ``m`` rows are far more than ``a`` of ``n`` let expect; many levels are tried, so by much."""
    usual = (a + 1) * m / max(n, 1)
    return b > usual + SURPRISE * sqrt(usual * (1 + m / max(n, 1))) + SURPRISE


def _surprising(known: HeavyHitters, found: HeavyHitters, named: set[Value]) -> float:
    """Rows of ``found`` on rare levels that ``known`` never saw, if they are more than chance explains, else 0."""
    n, m = known.n_rows - known.n_missing, found.n_rows - found.n_missing
    if not known.exact or not n or not m:
        return 0.0
    seen = set(known.values.tolist())
    rows = sum(count for value, count in found.top(len(found.values)) if value not in seen and value not in named)
    return float(rows) if _jumped(int((known.counts == 1).sum()), rows, n, m) else 0.0


def unseen_by_chance(known: HeavyHitters) -> float:
    """Share of further rows of the same source to expect on levels not seen so far: levels seen once, by the rows.

    Good and Turing's estimate, with one row more so that it is never 0.
    """
    return (int((known.counts == 1).sum()) + 1) / max(known.n_rows - known.n_missing, 1)


def level_change(reference: HeavyHitters, current: HeavyHitters, *, top: int = 10) -> LevelChange:
    """Which levels came, went and moved; see `LevelChange`."""
    shares = []
    for side in (reference, current):
        total = max(side.n_rows - side.n_missing, 1)
        shares.append({v: n / total for v, n in side.top(len(side.values))})
    new = [(v, s) for v, s in shares[1].items() if v not in shares[0]] if reference.exact else []
    gone = [(v, s) for v, s in shares[0].items() if v not in shares[1]] if current.exact else []
    both = [(v, shares[0].get(v, 0.0), shares[1].get(v, 0.0)) for v in dict.fromkeys([*shares[0], *shares[1]])]
    both.sort(key=lambda row: -abs(row[2] - row[1]))
    return LevelChange(
        new=tuple(new[:top]),
        vanished=tuple(gone[:top]),
        n_new=len(new),
        n_vanished=len(gone),
        new_share=_total(new),
        vanished_share=_total(gone),
        moved=tuple(row for row in both[:5] if row[1] != row[2]),
    )


def total_variation(reference: HeavyHitters, current: HeavyHitters) -> tuple[float, float]:
    """Half the sum of the absolute differences of the shares, and its error: 0 where both sides count exactly.

    Rows whose level is not known (see `HeavyHitters`) are taken as one level; this may hide or invent a difference of
    the share of such rows, which is the error. NaN where a side has no value.
    """
    if any(side.n_rows == side.n_missing for side in (reference, current)):
        return float("nan"), 0.0
    tables = [dict(side.top(len(side.values))) for side in (reference, current)]
    total = [max(side.n_rows - side.n_missing, 1) for side in (reference, current)]
    known = [sum(table.values()) / n for table, n in zip(tables, total, strict=True)]
    both = dict.fromkeys([*tables[0], *tables[1]])
    distance = sum(abs(tables[0].get(v, 0) / total[0] - tables[1].get(v, 0) / total[1]) for v in both)
    error = sum(1 - k for k, side in zip(known, (reference, current), strict=True) if not side.exact)
    return min(1.0, (distance + abs(known[0] - known[1])) / 2), float(error)


def _total(rows: Sequence[tuple[Value, float]]) -> float:
    return float(sum(share for _, share in rows))
