"""Whether new rows still fit a frozen preparation: one sentence for each column that does not, and what to type."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import sqrt

import numpy as np

from coretree.data.categories import HeavyHitters
from coretree.data.columns import Level
from coretree.data.divergence import unseen_by_chance
from coretree.data.prepare import CategoryPlan, Preparation, PrepareRules
from coretree.data.profile import Profile
from coretree.data.quantiles import Digest

REBUILD = "To learn from them as they are now, rebuild: CoresetTree(new_path).build(...)"
# Share of the rows from which a misfit is worth a sentence.
LEAST_SHARE = 0.01
NAMES_SHOWN = 3


def recipe_fit(
    profile: Profile,
    preparation: Preparation,
    *,
    reference: Profile | None = None,
    classes: Sequence[Level] | None = None,
    least_share: float = LEAST_SHARE,
) -> tuple[str, ...]:
    """Say what in new rows a frozen preparation no longer fits.

    Parameters
    ----------
    profile : Profile
        Of the new rows.
    preparation : Preparation
        Frozen by the build.
    reference : Profile, optional
        Of the rows that froze it. With it, "outside the range" means the range seen, and a level counts where no row
        had it, or too few to keep it. Without it, the preparation alone must tell: the range is that of its clipping or
        min-max scaling, or ``1 / sqrt(least_share)`` standard deviations around the mean, beyond which no such share of
        the rows that froze it can have been (Chebyshev); and a level counts where it is too frequent now to have been
        pooled as rare.
    classes : sequence of labels, optional
        Classes that the models know; default: the reference's.
    least_share : float, default 0.01
        Share of the new rows from which a column is named. New classes are named from their first row on.

    Returns
    -------
    tuple of str
        One sentence a finding, with what to type; empty where everything fits.

    Notes
    -----
    Shares of numbers come from digests (`Digest.rank_error`), mostly of thinned rows: a share near `least_share` may
    fall on either side of it.
    """
    if profile.n_rows == 0:
        return ()
    known = classes if classes is not None else _labels(reference)
    found = [
        *_new_classes(profile, preparation, known),
        *_numbers(profile, preparation, reference, least_share),
        *_categories(profile, preparation, reference, least_share),
    ]
    return tuple(f"{sentence}. {REBUILD}" for sentence in found)


def _labels(reference: Profile | None) -> tuple[Level, ...] | None:
    labels = () if reference is None else tuple(k for k in reference.labels if k is not None)
    return labels or None


def _new_classes(profile: Profile, preparation: Preparation, known: Sequence[Level] | None) -> Iterator[str]:
    if known is None:
        return
    new = [k for k in profile.labels if k is not None and k not in known]
    if new:
        rows = sum(profile.by_class[k].n_rows for k in new)
        yield (
            f"target '{preparation.schema.target}': {rows:,} rows ({rows / profile.n_rows:.1%}) have a class that the "
            f"tree does not know ({_names([repr(k) for k in new])})"
        )


def _numbers(
    profile: Profile, preparation: Preparation, reference: Profile | None, least_share: float
) -> Iterator[str]:
    moments = profile.moments
    ranges, word = _ranges(preparation, reference, least_share)
    for j, name in enumerate(preparation.numeric):
        missing = float(moments.missing[j] / max(moments.weight, 1e-300))
        if moments.count[j] == 0:
            if reference is None or reference.moments.count[j] > 0:
                yield f"column '{name}': every value is missing, and all are filled with {preparation.fill[j]:.6g}"
            continue
        if preparation.rules.indicator and j not in preparation.flagged and missing >= least_share:
            yield (
                f"column '{name}': {missing:.1%} of the values are missing and none was before, so that no column "
                "flags them"
            )
        (low, high), usual = ranges[j], _clipped(preparation)
        beyond = _beyond(profile.quantiles[j], low, high) * (1 - missing)
        if beyond >= least_share + usual:
            yield (
                f"column '{name}': {beyond:.1%} of the values lie outside {word} ({low:.6g} to {high:.6g}); they now "
                f"reach from {moments.minimum[j]:.6g} to {moments.maximum[j]:.6g}"
            )


def _clipped(preparation: Preparation) -> float:
    """Share of the values that the clipping cut off when it was frozen."""
    clip = preparation.rules.clip
    return 0.0 if clip is None else clip[0] + 1 - clip[1]


def _ranges(
    preparation: Preparation, reference: Profile | None, least_share: float
) -> tuple[list[tuple[float, float]], str]:
    """The range of each numeric feature, and what it is called; infinite where nothing is known."""
    rules, p = preparation.rules, len(preparation.numeric)
    if rules.clip is not None:
        low, high, word = preparation.low, preparation.high, "the range that values are clipped to"
    elif reference is not None:
        m = reference.moments
        some = m.count > 0
        low, high, word = np.where(some, m.minimum, -np.inf), np.where(some, m.maximum, np.inf), "the range seen"
    elif rules.scale == "minmax":
        low, high, word = preparation.center, preparation.center + preparation.spread, "the range seen"
    elif rules.scale == "standard":
        reach = preparation.spread / np.sqrt(least_share)
        low, high, word = preparation.center - reach, preparation.center + reach, "any range that the rows before had"
    else:
        low, high, word = np.full(p, -np.inf), np.full(p, np.inf), "the range seen"
    return list(zip(low.tolist(), high.tolist(), strict=True)), word


def _beyond(digest: Digest, low: float, high: float) -> float:
    """Share of a digest's values below ``low`` or above ``high``."""
    if not digest.count:
        return 0.0
    below = float(digest.cdf(np.nextafter(low, -np.inf))) if np.isfinite(low) else 0.0
    above = 1.0 - float(digest.cdf(high)) if np.isfinite(high) else 0.0
    return below + above


def _categories(
    profile: Profile, preparation: Preparation, reference: Profile | None, least_share: float
) -> Iterator[str]:
    for j, plan in enumerate(preparation.categories):
        counter = profile.frequent[j]
        if counter.n_missing == counter.n_rows:
            before = None if reference is None else reference.frequent[j]
            if before is None or before.n_missing < before.n_rows:
                yield f"column '{plan.name}': every value is missing"
            continue
        strange, usual = _strange(
            counter, None if reference is None else reference.frequent[j], plan, preparation.rules
        )
        share = sum(n for _, n in strange) / counter.n_rows
        if share >= least_share + usual:
            names = _names([f"{value!r} {n / counter.n_rows:.1%}" for value, n in strange])
            yield (
                f"column '{plan.name}': {share:.1%} of the rows hold levels that the tree pools with all rare ones "
                f"({names})"
            )


def _strange(
    counter: HeavyHitters, before: HeavyHitters | None, plan: CategoryPlan, rules: PrepareRules
) -> tuple[list[tuple[Level, int]], float]:
    """Levels without a code of their own that were never seen or were rare, and their share to expect by chance."""
    pooled = [(value, n) for value, n in counter.top(len(counter.values)) if value not in plan.levels]
    if before is not None and before.exact:
        past = dict(before.top(len(before.values)))
        rare = rules.min_frequency * before.n_rows
        found = [(v, n) for v, n in pooled if v not in past or (past[v] < rare and _frequent(n, counter.n_rows, rules))]
        return found, unseen_by_chance(before)
    if len(plan.levels) >= rules.max_categories:  # frequent levels may have been pooled from the start
        return [], 0.0
    return [(value, n) for value, n in pooled if _frequent(n, counter.n_rows, rules)], 0.0


def _frequent(n: int, rows: int, rules: PrepareRules) -> bool:
    """Whether a level that is rare by the rules would not come up so often by chance (4 standard errors and 4 rows)."""
    most = rules.min_frequency * rows
    return n > most + 4 * sqrt(most) + 4


def _names(texts: Sequence[str]) -> str:
    return ", ".join(texts[:NAMES_SHOWN]) + (", ..." if len(texts) > NAMES_SHOWN else "")
