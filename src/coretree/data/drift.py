"""Drift: two profiles of the same columns compared, feature by feature, without reading a row."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from coretree.data.categories import HeavyHitters
from coretree.data.divergence import (
    BINS,
    ks_distance,
    level_change,
    level_counts,
    psi,
    psi_by_chance,
    quantile_counts,
    thinning_error,
    total_variation,
)
from coretree.data.profile import Profile, numeric_names
from coretree.data.quantiles import Digest
from coretree.data.schema import Schema
from coretree.data.shifts import Drift as Drift
from coretree.data.shifts import Kind, TimeShift
from coretree.data.shifts import Shift as Shift
from coretree.data.timestamps import part_names
from coretree.errors import EmptyDataError, SchemaError

# Probability that chance alone lifts any column of a comparison above its limit.
FALSE_ALARMS = 0.01
# Seconds of the cycle that each part of the event time runs through, in the order of `part_names`.
CYCLES = (365 * 86_400, 7 * 86_400, 86_400)


def drift(reference: Profile, current: Profile, schema: Schema, *, bins: int = BINS) -> Drift:
    """Compare two profiles of the same schema.

    Parameters
    ----------
    reference, current : Profile
        Of any two sets of rows, such as two windows of time: sums of their parts' profiles.
    schema : Schema
        Columns of both.
    bins : int, default 10
        Quantile bins of numbers, at least 2.

    Returns
    -------
    Drift

    Raises
    ------
    EmptyDataError
        If a side has no rows.
    SchemaError
        If a profile has other columns than the schema.

    Notes
    -----
    O(columns x 1000), whatever the rows. Numbers are compared in digests of thinned rows unless the profile digested
    all; rows count once each, whatever their base weights, but in the shares of missing numbers.
    """
    for name, profile in (("reference", reference), ("current", current)):
        if profile.n_rows == 0:
            raise EmptyDataError(f"drift: the {name} side has no rows; choose a window that holds some.")
        _check_columns(profile, schema, name)
    if bins < 2:
        raise ValueError(f"bins must be at least 2, but is {bins}")
    names = numeric_names(schema)
    n_columns = len(names) + len(schema.categories) + (schema.target is not None)
    pair = _Pair(reference, current, bins, FALSE_ALARMS / max(n_columns, 1))
    calendar = set(_calendar(reference, current, schema))
    shifts = [pair.feature(name, "calendar" if name in calendar else "numeric", j) for j, name in enumerate(names)]
    shifts += [pair.category(name, j) for j, name in enumerate(schema.categories)]
    if schema.target is not None:
        shifts.append(pair.target(schema.target))
    shifts.sort(key=lambda s: (s.kind == "calendar", -s.severity, -s.excess, s.name))
    return Drift(tuple(shifts), reference.n_rows, current.n_rows, _time(reference, current))


@dataclass(frozen=True)
class _Pair:
    """The two sides, and how they are compared."""

    reference: Profile
    current: Profile
    bins: int
    level: float

    @property
    def sides(self) -> tuple[Profile, Profile]:
        return self.reference, self.current

    def feature(self, name: str, kind: Kind, j: int) -> Shift:
        """One numeric feature, by its place."""
        a, b = (float(side.moments.missing[j] / max(side.weight, 1e-300)) for side in self.sides)
        return self._numbers(name, kind, (self.reference.quantiles[j], self.current.quantiles[j]), (a, b))

    def category(self, name: str, j: int) -> Shift:
        """One categorical feature, by its place."""
        return self._levels(name, "categorical", self.reference.frequent[j], self.current.frequent[j])

    def target(self, name: str) -> Shift:
        """The target: classes, or a quantity."""
        if self.reference.labels == (None,) == self.current.labels:
            digests = self.reference.target_quantiles, self.current.target_quantiles
            return self._numbers(name, "target", digests, (0.0, 0.0))
        return self._levels(name, "class", *(_class_counter(side) for side in self.sides))

    def _numbers(self, name: str, kind: Kind, digests: tuple[Digest, Digest], missing: tuple[float, float]) -> Shift:
        counts = np.column_stack(quantile_counts(*digests, self.bins))
        # rows that were digested, and as many missing ones as go with them
        n, m = (
            d.count / (1 - share) if d.count and share < 1 else float(side.n_thin)
            for d, share, side in zip(digests, missing, self.sides, strict=True)
        )
        empty = np.array([n * missing[0], m * missing[1]])
        if not len(counts):  # a side without any value: present or missing is all that can be told
            counts = np.array([[digests[0].count, digests[1].count]])
        if empty.any():
            counts = np.vstack([counts, empty])
        error = sum(
            d.rank_error + thinning_error(d, side.n_thin, side.n_rows)
            for d, side in zip(digests, self.sides, strict=True)
        )
        expected, limit = psi_by_chance(n, m, len(counts), self.level)
        index, distance = psi(counts[:, 0], counts[:, 1]), ks_distance(*digests)
        return Shift(name, kind, index, expected, limit, distance, error, missing, (n, m))

    def _levels(self, name: str, kind: Kind, a: HeavyHitters, b: HeavyHitters) -> Shift:
        counts = level_counts(a, b)
        expected, limit = psi_by_chance(a.n_rows, b.n_rows, len(counts[0]), self.level)
        distance, error = total_variation(a, b)
        missing = a.n_missing / max(a.n_rows, 1), b.n_missing / max(b.n_rows, 1)
        rows = float(a.n_rows), float(b.n_rows)
        return Shift(name, kind, psi(*counts), expected, limit, distance, error, missing, rows, level_change(a, b))


def _class_counter(profile: Profile) -> HeavyHitters:
    """Rows of each class as exact counts."""
    rows = sorted(
        ((profile.by_class[k].n_rows, i, k) for i, k in enumerate(profile.labels)), key=lambda r: (-r[0], r[1])
    )
    values = np.empty(len(rows), dtype=object)
    values[:] = [label for _, _, label in rows]
    return HeavyHitters(values, np.array([n for n, _, _ in rows], np.int64), 0, profile.n_rows, 0, max(len(rows), 1))


def _calendar(reference: Profile, current: Profile, schema: Schema) -> Iterator[str]:
    """Parts of the event time whose cycle a window covers less than twice."""
    if schema.time not in schema.times or not (reference.seconds.n_features and current.seconds.n_features):
        return
    shortest = min(float(side.seconds.maximum[0] - side.seconds.minimum[0]) for side in (reference, current))
    for name, cycle in zip(part_names(schema.time), CYCLES, strict=True):
        if shortest < 2 * cycle:
            yield name


def _time(reference: Profile, current: Profile) -> TimeShift | None:
    sides = reference.seconds, current.seconds
    if not all(m.n_features and m.count[0] > 0 for m in sides):
        return None
    spans = [(float(m.minimum[0]), float(m.maximum[0])) for m in sides]
    rates = [
        m.n_rows * m.count[0] / m.weight / (b - a) if b > a else np.nan for m, (a, b) in zip(sides, spans, strict=True)
    ]
    return TimeShift(spans[0], spans[1], float(rates[1] / rates[0]), spans[1][0] - spans[0][1])


def _check_columns(profile: Profile, schema: Schema, side: str) -> None:
    p, q = len(numeric_names(schema)), len(schema.categories)
    found = len(profile.quantiles), len(profile.distinct)
    if found != (p, q):
        raise SchemaError(
            f"drift: the {side} profile has {found[0]} numeric and {found[1]} categorical features, the schema {p} and "
            f"{q}; compare profiles of one data set, or of data sets with the same columns."
        )
