"""From a profile to a frozen preparation: what fills, clips, scales and encodes, fixed for every later row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt

from coretree.data.columns import Level
from coretree.data.profile import Profile, numeric_names
from coretree.data.schema import Feature, Schema
from coretree.errors import ConfigError

F64 = npt.NDArray[np.float64]


@dataclass(frozen=True)
class PrepareRules:
    """How features become the numbers a model sees.

    Parameters
    ----------
    missing : {"mean", "median", "most_frequent", "constant"}
        What fills a missing number; taken from all training rows.
    fill_value : float
        The constant, for "constant".
    indicator : bool
        Add a 0/1 column for each numeric feature that had missing values.
    missing_categorical : {"category", "most_frequent"}
        A missing category is a level of its own (pooled with the rare ones where it is rare), or the most frequent one.
    clip : (float, float) or None
        Clip numeric features at these quantiles of the training rows, e.g. (0.001, 0.999).
    scale : {"standard", "robust", "minmax", "none"}
        How numbers are scaled.
    categorical : {"onehot", "ordinal", "none"}
        How categories are encoded; "none" leaves them out of the models (they stay in the coreset's rows).
    min_frequency : float
        A level must hold at least this share of the training rows, or it is pooled with all other rare and unseen ones.
    max_categories : int
        At most so many levels a column are kept, the most frequent ones.
    """

    missing: Literal["mean", "median", "most_frequent", "constant"] = "mean"
    fill_value: float = 0.0
    indicator: bool = False
    missing_categorical: Literal["category", "most_frequent"] = "category"
    clip: tuple[float, float] | None = None
    scale: Literal["standard", "robust", "minmax", "none"] = "standard"
    categorical: Literal["onehot", "ordinal", "none"] = "onehot"
    min_frequency: float = 0.001
    max_categories: int = 100

    def __post_init__(self) -> None:
        """Validate at construction."""
        allowed = {
            "missing": ("mean", "median", "most_frequent", "constant"),
            "missing_categorical": ("category", "most_frequent"),
            "scale": ("standard", "robust", "minmax", "none"),
            "categorical": ("onehot", "ordinal", "none"),
        }
        for name, values in allowed.items():
            if getattr(self, name) not in values:
                raise ConfigError(f"prepare {name}={getattr(self, name)!r} is unknown; use one of {', '.join(values)}.")
        if self.clip is not None:
            object.__setattr__(self, "clip", tuple(self.clip))
            if len(self.clip) != 2 or not 0 <= self.clip[0] < self.clip[1] <= 1:
                raise ConfigError(f"prepare clip={self.clip} must be two quantiles in order, such as (0.001, 0.999).")

    @property
    def exact_quantiles(self) -> bool:
        """Whether some rule needs the quantiles of every row."""
        return self.missing == "median" or self.scale == "robust" or self.clip is not None

    @property
    def numeric_frequent(self) -> bool:
        """Whether some rule needs the most frequent numbers."""
        return self.missing == "most_frequent"

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Self:
        """Inverse of ``to_dict``."""
        return cls(**{**value, "clip": tuple(value["clip"]) if value["clip"] else None})


@dataclass(frozen=True)
class CategoryPlan:
    """The levels of one categorical feature, sorted, and what stands for missing and for all others.

    ``missing`` is itself one of ``levels`` where missing cells are frequent enough to be a level.
    """

    name: str
    levels: tuple[Level, ...]
    missing: Level
    other: Level

    @property
    def numeric(self) -> bool:
        """Whether the levels are numbers."""
        return not isinstance(self.other, str)


@dataclass(frozen=True, eq=False)
class Preparation:
    """Everything frozen before pass 2, as plain data; ``design`` applies it fast, ``pipeline`` makes it scikit-learn's.

    Attributes
    ----------
    numeric : tuple of str
        Numeric features in order: columns, then the parts of times.
    fill, low, high, center, spread : (p,) float64
        Per numeric feature: value for a missing cell, clipping bounds (±inf where there are none), then
        (x - center) / spread.
    flagged : tuple of int
        Numeric features with a missing-value indicator; ``flag_center``, ``flag_spread`` scale it.
    categories : tuple of CategoryPlan
        Categorical features.
    """

    schema: Schema
    rules: PrepareRules
    numeric: tuple[str, ...]
    fill: F64
    low: F64
    high: F64
    center: F64
    spread: F64
    flagged: tuple[int, ...]
    flag_center: F64
    flag_spread: F64
    categories: tuple[CategoryPlan, ...]

    @property
    def encoded(self) -> tuple[CategoryPlan, ...]:
        """Categorical features that enter the models."""
        return () if self.rules.categorical == "none" else self.categories

    @property
    def n_features(self) -> int:
        """Columns of the design without the constant."""
        onehot = self.rules.categorical == "onehot"
        return len(self.numeric) + len(self.flagged) + sum(len(c.levels) + 1 if onehot else 1 for c in self.encoded)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON; floats survive exactly."""
        arrays = {
            k: getattr(self, k).tolist()
            for k in ("fill", "low", "high", "center", "spread", "flag_center", "flag_spread")
        }
        bounds = {k: [None if np.isinf(v) else v for v in arrays[k]] for k in ("low", "high")}
        return {
            "schema": self.schema.to_dict(),
            "rules": self.rules.to_dict(),
            "numeric": list(self.numeric),
            "flagged": list(self.flagged),
            "categories": [asdict(c) for c in self.categories],
            **arrays,
            **bounds,
        }

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Self:
        """Inverse of ``to_dict``."""

        def array(key: str, absent: float = np.nan) -> F64:
            return np.array([absent if v is None else v for v in value[key]], dtype=np.float64)

        return cls(
            schema=Schema.from_dict(value["schema"]),
            rules=PrepareRules.from_dict(value["rules"]),
            numeric=tuple(value["numeric"]),
            fill=array("fill"),
            low=array("low", -np.inf),
            high=array("high", np.inf),
            center=array("center"),
            spread=array("spread"),
            flagged=tuple(value["flagged"]),
            flag_center=array("flag_center"),
            flag_spread=array("flag_spread"),
            categories=tuple(CategoryPlan(**{**c, "levels": tuple(c["levels"])}) for c in value["categories"]),
        )


def freeze(profile: Profile, schema: Schema, rules: PrepareRules) -> Preparation:
    """Fix the preparation from the statistics of all training rows.

    Means and variances are those of the *filled* (and clipped) columns, as scikit-learn would compute them: a column
    filled with its mean keeps that mean and shrinks its variance by the share of missing cells. Clipping and filling
    with something else than the mean shift them; both are exact but for clipping, where the moments of the unclipped
    values are kept (scaling needs no more).
    """
    m = profile.moments
    total = np.maximum(m.weight, 1e-300)
    fill = _fills(profile, rules)
    low, high = np.full(len(fill), -np.inf), np.full(len(fill), np.inf)
    if rules.clip is not None:
        bounds = np.array(
            [d.quantile(list(rules.clip)) if d.count else [-np.inf, np.inf] for d in profile.quantiles]
        ).reshape(-1, 2)
        low, high = bounds[:, 0], bounds[:, 1]
        fill = np.clip(fill, low, high)
    share = m.missing / total  # of missing cells
    mean = m.mean * (1 - share) + fill * share
    variance = m.m2 / total + share * (1 - share) * (m.mean - fill) ** 2
    center, spread = _scales(profile, rules, mean, np.sqrt(variance), fill)
    flagged = tuple(int(j) for j in np.flatnonzero(m.missing > 0)) if rules.indicator else ()
    rate = share[list(flagged)]
    standard = rules.scale == "standard"
    return Preparation(
        schema=schema,
        rules=rules,
        numeric=numeric_names(schema),
        fill=fill,
        low=low,
        high=high,
        center=center,
        spread=spread,
        flagged=flagged,
        flag_center=rate if standard else np.zeros(len(rate)),
        flag_spread=_spread_of_flags(rate) if standard else np.ones(len(rate)),
        categories=tuple(
            _levels(profile, j, f, rules) for j, f in enumerate(f for f in schema.features if f.kind == "categorical")
        ),
    )


def _spread_of_flags(rate: F64) -> F64:
    spread = np.sqrt(rate * (1 - rate))
    return np.where(spread > 0, spread, 1.0)  # 0 where every cell is missing


def _fills(profile: Profile, rules: PrepareRules) -> F64:
    m = profile.moments
    if rules.missing == "constant":
        return np.full(len(m.mean), float(rules.fill_value))
    if rules.missing == "mean":
        return np.asarray(m.mean, dtype=np.float64)
    if rules.missing == "median":
        return np.array([float(d.quantile(0.5)) if d.count else 0.0 for d in profile.quantiles], dtype=np.float64)
    counters = profile.frequent[len(profile.frequent) - len(m.mean) :]
    return np.array([float(c.top(1)[0][0]) if c.top(1) else 0.0 for c in counters], dtype=np.float64)


def _scales(profile: Profile, rules: PrepareRules, mean: F64, std: F64, fill: F64) -> tuple[F64, F64]:
    """Centre and spread of each numeric feature; a spread that is only rounding becomes 1, as in scikit-learn."""
    p = len(mean)
    if rules.scale == "none":
        return np.zeros(p), np.ones(p)
    if rules.scale == "standard":
        tiny = std <= 10 * np.finfo(np.float64).eps * np.maximum(np.abs(mean), 1e-300) * np.sqrt(max(profile.n_rows, 1))
        return mean, np.where(tiny, 1.0, std)
    if rules.scale == "minmax":
        m = profile.moments
        some = m.count > 0
        low = np.minimum(np.where(some, m.minimum, fill), np.where(m.missing > 0, fill, np.inf))
        high = np.maximum(np.where(some, m.maximum, fill), np.where(m.missing > 0, fill, -np.inf))
        if rules.clip is not None:
            cut = np.array(
                [d.quantile(list(rules.clip)) if d.count else [0.0, 0.0] for d in profile.quantiles]
            ).reshape(-1, 2)
            low, high = np.maximum(low, cut[:, 0]), np.minimum(high, cut[:, 1])
        return low, np.where(high > low, high - low, 1.0)
    quartiles = np.array(
        [d.quantile([0.25, 0.5, 0.75]) if d.count else [0.0, 0.0, 0.0] for d in profile.quantiles]
    ).reshape(-1, 3)
    width = quartiles[:, 2] - quartiles[:, 0]
    return quartiles[:, 1], np.where(width > 0, width, 1.0)


def _levels(profile: Profile, j: int, feature: Feature, rules: PrepareRules) -> CategoryPlan:
    """Keep the frequent levels; choose markers for missing and for all others that no level seen uses."""
    counter = profile.frequent[j]
    least = max(1.0, rules.min_frequency * max(counter.n_rows, 1))
    kept: list[Level] = [value for value, n in counter.top(rules.max_categories) if n >= least]
    seen: list[Any] = counter.values.tolist()
    missing: Level
    other: Level
    if feature.is_text:
        missing, other = _unused("(missing)", seen), _unused("(other)", seen)
    else:  # half a unit below the smallest code: one that no later file holds
        missing, other = float(np.floor(min(seen, default=0.0))) - 0.5, float(np.floor(max(seen, default=0.0))) + 1.0
    if rules.missing_categorical == "most_frequent" and kept:
        missing = kept[0]
    elif counter.n_missing >= least:
        kept.append(missing)
    return CategoryPlan(feature.name, tuple(sorted(kept)), missing, other)


def _unused(marker: str, seen: list[Any]) -> str:
    while marker in seen:
        marker += "'"
    return marker
