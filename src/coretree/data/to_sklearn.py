"""The frozen preparation as scikit-learn's own transformers, so that a trained model is a plain Pipeline."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pandas as pd
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    MinMaxScaler,
    OneHotEncoder,
    OrdinalEncoder,
    RobustScaler,
    StandardScaler,
)
from sklearn.utils import check_array

from coretree.data.columns import Level
from coretree.data.prepare import F64, CategoryPlan, Preparation
from coretree.data.times import DatetimeParts

ALL_INFREQUENT = 1 << 30
_SCALERS = {"standard": StandardScaler, "robust": RobustScaler, "minmax": MinMaxScaler}


def to_sklearn(preparation: Preparation) -> ColumnTransformer:
    """A fitted ColumnTransformer from raw pandas rows to features, equal to ``design`` without its constant.

    It is fitted by scikit-learn itself on a few rows made for the purpose, so that every private attribute is in place;
    then the learned statistics are set to those of all training rows. Levels that are not kept, and levels never
    seen, are scikit-learn's "infrequent" ones.

    Parameters
    ----------
    preparation : Preparation

    Returns
    -------
    ColumnTransformer
        Needs only scikit-learn, numpy and pandas to load and predict where there are no datetime columns. It takes
        the usual pandas types, among them Int64, Float64, boolean, category and str; text that holds ``pd.NA``
        (string[python], or objects) makes scikit-learn raise TypeError: use ``astype("str")``, or predict with
        coretree's own estimators, which clean rows first.
    """
    schema = preparation.schema
    rows = _rows(preparation)
    p = len(schema.numbers)
    steps: list[tuple[str, Any, list[str]]] = []
    if p:
        steps.append(("numeric", _numeric(preparation, range(p)), list(schema.numbers)))
    if schema.times:
        parts = _numeric(preparation, range(p, len(preparation.numeric)))
        steps.append(("datetime", Pipeline([("parts", DatetimeParts()), *parts.steps]), list(schema.times)))
    # a step's name must not hold "__" or be one of scikit-learn's own, as a column's may
    steps += [
        (f"category_{j}", _categorical(plan, preparation.rules.categorical), [plan.name])
        for j, plan in enumerate(preparation.encoded)
    ]
    # columns are chosen by name, in this order, whatever else the frame holds
    transformer = ColumnTransformer(steps, sparse_threshold=0.0, verbose_feature_names_out=False)
    transformer.set_output(transform="default")
    transformer.fit(rows)
    if p:
        _freeze(transformer.named_transformers_["numeric"], preparation, range(p))
    if schema.times:
        _freeze(transformer.named_transformers_["datetime"], preparation, range(p, len(preparation.numeric)))
    if _names_collide(transformer):
        transformer.verbose_feature_names_out = True
    return transformer


def features(prepare: Any, rows: pd.DataFrame, order: Literal["C", "F"] = "C") -> Any:
    """``prepare.transform(rows)``, to the bit, at a third of its cost: each level is encoded once, not once a row.

    Parameters
    ----------
    prepare : ColumnTransformer or Pipeline
        What `to_sklearn` returns, alone or as the only step of a Pipeline; of anything else its own ``transform``.
    rows : DataFrame (n, ...)
    order : {"C", "F"}
        Of the rows or the columns in memory.

    Returns
    -------
    (n, n_features) array, or what else ``transform`` returns.
    """
    transformer = prepare[0] if isinstance(prepare, Pipeline) and len(prepare) == 1 else prepare
    steps = transformer.transformers_ if isinstance(transformer, ColumnTransformer) else []
    levelled = [name for name, step, _ in steps if _encodes(step)]
    if not levelled or not len(rows):
        found = prepare.transform(rows)
        return np.asarray(found, order=order) if isinstance(found, np.ndarray) else found
    out = np.empty((len(rows), max(at.stop for at in transformer.output_indices_.values())), order=order)
    for name, step, columns in steps:
        at = transformer.output_indices_[name]
        if name not in levelled:
            out[:, at] = step.transform(rows[columns])
            continue
        codes, levels = pd.factorize(rows[columns[0]], use_na_sentinel=False)
        for j, values in enumerate(step.transform(pd.DataFrame({columns[0]: levels})).T, at.start):
            out[:, j] = values.take(codes)
    return out


def _encodes(step: Any) -> bool:
    """Whether a step is that of one category: each has its own."""
    return isinstance(step, Pipeline) and isinstance(step[-1], (OneHotEncoder, OrdinalEncoder))


def scaling(transformer: ColumnTransformer) -> tuple[list[str], F64, F64]:
    """Names of the features that a frozen transformer gives, and centre and spread of each: 0 and 1 where unscaled.

    A feature is ``(x - centre) / spread`` of its filled and clipped column, or part of a time, or indicator.
    """
    names = transformer.get_feature_names_out().tolist()
    centre, spread = np.zeros(len(names)), np.ones(len(names))
    for block in ("numeric", "datetime"):
        steps = transformer.named_transformers_[block].named_steps if block in transformer.named_transformers_ else {}
        if "scale" not in steps:
            continue
        scaler = steps["scale"]
        at = transformer.output_indices_[block]
        if isinstance(scaler, MinMaxScaler):
            centre[at], spread[at] = scaler.data_min_, scaler.data_range_
        else:
            centre[at] = scaler.mean_ if isinstance(scaler, StandardScaler) else scaler.center_
            spread[at] = scaler.scale_
    return names, centre, spread


def _names_collide(transformer: ColumnTransformer) -> bool:
    """Whether two features would have one name, such as a column ``when_hour`` beside a time ``when``."""
    try:
        transformer.get_feature_names_out()
    except ValueError:
        return True
    return False


def _rows(preparation: Preparation) -> pd.DataFrame:
    """Rows to fit on: every kept level twice, the marker of all others once, and a missing cell where one was seen."""
    schema = preparation.schema
    n = 2 * max([len(c.levels) for c in preparation.categories], default=1) + 3
    flagged = {preparation.numeric[j] for j in preparation.flagged}
    data: dict[str, Any] = {}
    for name in schema.numbers:
        values = np.arange(n, dtype=np.float64)
        values[0] = np.nan if name in flagged else 0.0
        data[name] = values
    for name in schema.times:
        column = pd.Series(pd.date_range("2000-01-01", periods=n, freq="31h"))
        if any(f.startswith(f"{name}_") for f in flagged):
            column = column.mask(column.index == 0)
        data[name] = column
    for plan in preparation.categories:
        values_ = [*plan.levels, *plan.levels, plan.other]
        padding: Any = plan.levels[0] if plan.levels else plan.other
        data[plan.name] = np.array(
            values_ + [padding] * (n - len(values_)), dtype=np.float64 if plan.numeric else object
        )
    return pd.DataFrame(data)


def _numeric(preparation: Preparation, which: range) -> Pipeline:
    rules = preparation.rules
    steps: list[tuple[str, Any]] = [
        ("float", FunctionTransformer(check_array, kw_args=_AS_FLOAT, feature_names_out="one-to-one")),
        ("finite", FunctionTransformer(np.nan_to_num, kw_args=_NO_INF, feature_names_out="one-to-one")),
    ]
    low, high = preparation.low[which.start : which.stop], preparation.high[which.start : which.stop]
    if np.isfinite(low).any() or np.isfinite(high).any():
        bounds = {"a_min": low, "a_max": high}
        steps.append(("clip", FunctionTransformer(np.clip, kw_args=bounds, feature_names_out="one-to-one")))
    strategy = rules.missing if rules.missing != "constant" else "constant"
    steps.append(("fill", SimpleImputer(strategy=strategy, add_indicator=rules.indicator, keep_empty_features=True)))
    if rules.scale != "none":
        steps.append(("scale", _SCALERS[rules.scale]()))
    return Pipeline(steps)


_AS_FLOAT = {"dtype": "float64", "ensure_all_finite": False, "ensure_min_samples": 0}
_NO_INF = {"nan": np.nan, "posinf": np.nan, "neginf": np.nan}


def _freeze(pipeline: Pipeline, preparation: Preparation, which: range) -> None:
    """Set the learned statistics of the imputer and the scaler, indicators included."""
    cut = slice(which.start, which.stop)
    pipeline.named_steps["fill"].statistics_ = preparation.fill[cut].copy()
    flags = [i for i, j in enumerate(preparation.flagged) if j in which]
    center = np.r_[preparation.center[cut], preparation.flag_center[flags]]
    spread = np.r_[preparation.spread[cut], preparation.flag_spread[flags]]
    scale = preparation.rules.scale
    if scale == "standard":
        scaler = pipeline.named_steps["scale"]
        scaler.mean_, scaler.scale_, scaler.var_ = center, spread, spread**2
    elif scale == "robust":
        scaler = pipeline.named_steps["scale"]
        scaler.center_, scaler.scale_ = center, spread
    elif scale == "minmax":
        scaler = pipeline.named_steps["scale"]
        scaler.data_min_, scaler.data_max_, scaler.data_range_ = center, center + spread, spread
        scaler.scale_, scaler.min_ = 1 / spread, -center / spread


def _categorical(plan: CategoryPlan, how: str) -> Pipeline:
    if plan.numeric:
        steps: list[tuple[str, Any]] = [
            ("float", FunctionTransformer(check_array, kw_args=_AS_FLOAT, feature_names_out="one-to-one")),
            ("fill", SimpleImputer(strategy="constant", fill_value=plan.missing)),
        ]
    else:
        # pandas holds a missing text as NaN or as None
        steps = [
            ("fill", SimpleImputer(strategy="constant", fill_value=plan.missing)),
            ("fill_none", SimpleImputer(missing_values=None, strategy="constant", fill_value=plan.missing)),
        ]
    dtype = np.float64 if plan.numeric else object
    if how == "ordinal":
        # scikit-learn wants one level at least: one that no row has
        none: Level = float(plan.other) + 0.5 if plan.numeric else f"{plan.other}'"
        levels = np.array(plan.levels or [none], dtype=dtype)
        encoder: Any = OrdinalEncoder(categories=[levels], handle_unknown="use_encoded_value", unknown_value=-1)
    else:
        levels = np.array(sorted([*plan.levels, plan.other], key=None if plan.numeric else str), dtype=dtype)
        # the marker of all others occurs once in the rows made for the purpose; alone, it must still be infrequent
        encoder = OneHotEncoder(
            categories=[levels],
            min_frequency=2 if plan.levels else ALL_INFREQUENT,
            handle_unknown="infrequent_if_exist",
            sparse_output=False,
        )
    return Pipeline([*steps, ("encode", encoder)])
