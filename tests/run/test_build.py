"""From data to a frozen tree: no leak, odd data, weights as repeats, and a coreset worth its name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression

from coretree import CoresetClassifier, CoresetTree, Dataset, ThreadExecutor
from coretree.coreset.rows import uniforms
from coretree.data.to_sklearn import to_sklearn
from coretree.errors import DataWarning, EmptyDataError, TargetError
from generated import DROP, opened, sales, write_files

ONE = ThreadExecutor(1)


def build(folder: Path, size: int = 500, **options: object) -> CoresetTree:
    return CoresetTree(size=size).build(opened(folder, **options), client=ONE)  # type: ignore[arg-type]


def test_no_statistic_sees_a_held_out_row(tmp_path: Path) -> None:
    """Rows after the cutoff carry poison in every column: a mean, level, class or pilot row would show it."""
    frame = sales(1500)
    frame["when"] = pd.date_range("2020-01-01", periods=1500, freq="h")
    late = frame["when"] >= "2020-02-15"
    poisoned = frame.copy()
    poisoned.loc[late, ["a", "b", "c"]] = 1e30
    poisoned.loc[late, "kind"] = "poison"
    poisoned.loc[late, "sold"] = "maybe"
    trees = []
    for name, rows in (("clean", frame), ("poisoned", poisoned)):
        data = opened(write_files(tmp_path / name, rows, files=2), time="when")
        train, _ = data.split(by="time", cutoff="2020-02-15")
        trees.append(CoresetTree(tmp_path / f"{name}.tree", size=450).build(train, client=ONE))
    clean, dirty = trees
    assert clean.n_rows_ == dirty.n_rows_ == int((~late).sum())
    assert dirty.recipe_.classes == ("no", "yes")
    assert clean.recipe_.name == dirty.recipe_.name  # preparation and pilot, to the last bit
    assert {k: v.tolist() for k, v in clean.root_.totals["robust"].state().items()} == {
        k: v.tolist() for k, v in dirty.root_.totals["robust"].state().items()
    }
    # negative control: without the split the poison is seen
    seen = CoresetTree(tmp_path / "seen.tree", size=450).build(opened(tmp_path / "poisoned", time="when"), client=ONE)
    assert "maybe" in (seen.recipe_.classes or ())


def test_integer_weights_are_repeats(tmp_path: Path) -> None:
    frame = sales(1200)
    repeated = frame.loc[frame.index.repeat(frame["weight"].astype(int))].assign(weight=1.0)
    weighted = build(write_files(tmp_path / "w", frame, files=2))
    profile, again = weighted.profile_, build(write_files(tmp_path / "r", repeated, files=2)).profile_
    assert again.weight == profile.weight == frame["weight"].sum()
    for label in ("no", "yes"):
        np.testing.assert_allclose(profile.by_class[label].weight, again.by_class[label].weight, rtol=1e-12)
    np.testing.assert_allclose(profile.moments.mean, again.moments.mean, rtol=1e-12)
    np.testing.assert_allclose(profile.moments.std, again.moments.std, rtol=1e-12)


def test_pilot_and_sample_draw_independently() -> None:
    ids = np.arange(20_000, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    draws = [uniforms(ids, 0, name) for name in ("pilot", "robust", "balanced", "uniform", "split", "hessian")]
    off_diagonal = np.corrcoef(draws) - np.eye(len(draws))
    assert abs(off_diagonal).max() < 5 / np.sqrt(20_000)  # five standard errors for each of 15 pairs


def test_a_class_missing_in_a_leaf_and_a_class_with_one_row(tmp_path: Path) -> None:
    frame = sales(1200)
    frame.loc[:599, "sold"] = "no"
    frame.loc[700, "sold"] = "once"
    frame["weight"] = 1.0
    tree = build(write_files(tmp_path / "d", frame, files=4), size=500, weight=None, drop=[*DROP["sold"], "weight"])
    assert tree.recipe_.classes == ("no", "once", "yes")
    counts = frame["sold"].value_counts()
    for objective in ("balanced", "robust"):
        core = tree.coreset(objective=objective)
        totals = pd.Series(core.sample_weight).groupby(core.y.to_numpy()).sum()
        assert core.class_counts == {k: float(counts[k]) for k in ("no", "once", "yes")}
        np.testing.assert_allclose([totals[k] for k in totals.index], [counts[k] for k in totals.index], rtol=1e-9)
    assert "once" in set(tree.coreset(objective="robust").y)


@pytest.mark.parametrize(
    ("spoil", "error", "words"),
    [
        (lambda f: f.assign(sold="no"), TargetError, "target 'sold' holds only the class 'no' in 600 training rows"),
        (lambda f: f.assign(sold=pd.Series([None] * 600, dtype="string")), EmptyDataError, "no training row is left"),
    ],
)
def test_a_target_without_classes(
    tmp_path: Path, spoil: Callable[[pd.DataFrame], pd.DataFrame], error: type[Exception], words: str
) -> None:
    folder = write_files(tmp_path / "d", spoil(sales(600)), files=2)
    with pytest.raises(error, match=words):
        CoresetTree(tmp_path / "t", size=300).build(opened(folder), client=ONE)
    assert not CoresetTree(tmp_path / "t").is_built


def test_a_constant_quantity_is_no_target(tmp_path: Path) -> None:
    folder = write_files(tmp_path / "d", sales(600).assign(price=2.5), files=2)
    with pytest.raises(TargetError, match=r"target 'price' is 2\.5 in every training row"):
        CoresetTree(size=300).build(opened(folder, "price"), client=ONE)


def test_leaves_without_rows_and_a_column_without_values(tmp_path: Path) -> None:
    frame = sales(1500)
    frame.loc[500:999, "sold"] = None  # the middle file keeps no row
    frame["nothing"] = np.nan
    folder = write_files(tmp_path / "d", frame, files=3)
    with pytest.warns(DataWarning, match="constant columns teach nothing: nothing"):
        tree = CoresetTree(size=450).build(opened(folder), client=ONE)
    assert tree.n_rows_ == 1000
    core = tree.coreset()
    assert len(core) == 450
    assert abs(core.sample_weight.sum() - frame.loc[frame["sold"].notna(), "weight"].sum()) < 1e-6
    assert np.isfinite(to_sklearn(tree.recipe_.preparation).transform(core.X)).all()


def test_fewer_rows_than_wanted_are_all_kept_and_give_the_full_model(tmp_path: Path) -> None:
    frame = sales(900)
    folder = write_files(tmp_path / "d", frame.assign(weight=1.0), files=3)
    tree = build(folder, size=2000)
    core = tree.coreset()
    assert len(core) == 900
    assert (core.sample_weight == 1).all()
    model = CoresetClassifier(LogisticRegression(tol=1e-10, max_iter=2000), tree=tree).fit()
    prepared = to_sklearn(tree.recipe_.preparation).transform(frame)
    full = LogisticRegression(solver="newton-cholesky", tol=1e-10).fit(prepared, frame["sold"])  # the optimum itself
    np.testing.assert_allclose(model.estimator_[-1].coef_, full.coef_, atol=1e-6)
    np.testing.assert_allclose(model.predict_proba(frame), full.predict_proba(prepared), atol=1e-6)


def test_an_identifier_is_pointed_out(tmp_path: Path) -> None:
    frame = sales(2000).assign(key=[f"id-{i}" for i in range(2000)])
    folder = write_files(tmp_path / "d", frame, files=2)
    with pytest.warns(DataWarning, match="nearly every row has its own value in key"):
        CoresetTree(size=500).build(opened(folder), client=ONE)


def test_a_coreset_is_far_better_than_a_sample_of_its_size(tmp_path: Path) -> None:
    """60,000 rows: excess of the regularised log loss over the full fit, per row; seeds are fixed, so no chance."""
    frame = sales(60_000).assign(weight=1.0)
    frame["b"] = frame["b"].clip(upper=20)
    folder = write_files(tmp_path / "d", frame, files=8, group_rows=8000)
    tree = CoresetTree(size=2000).build(opened(folder, leaf_bytes=1 << 20), client=ThreadExecutor(2))
    X = to_sklearn(tree.recipe_.preparation).transform(frame)
    y = (frame["sold"] == "yes").to_numpy()
    full = LogisticRegression(tol=1e-9, max_iter=5000).fit(X, y)

    def objective(model: LogisticRegression) -> float:
        z = X @ model.coef_[0] + model.intercept_[0]
        return float((np.logaddexp(0, -np.where(y, z, -z)).sum() + 0.5 * (model.coef_**2).sum()) / len(y))

    excess = {}
    for name in ("robust", "uniform"):
        core = tree.coreset(2000, objective=name)
        design = to_sklearn(tree.recipe_.preparation).transform(core.X)
        fitted = LogisticRegression(tol=1e-9, max_iter=5000).fit(
            design, core.y.to_numpy() == "yes", sample_weight=core.sample_weight
        )
        excess[name] = objective(fitted) - objective(full)
    assert 0 <= excess["robust"] <= 1e-3
    assert excess["uniform"] > 20 * excess["robust"]


def test_frames_give_the_coreset_of_their_rows_however_they_are_cut() -> None:
    frame = sales(1500).drop(columns=["price", "number", "group"])
    whole, pieces = (
        CoresetTree(size=450).build(
            Dataset.from_pandas(frame, target="sold", weight="weight", leaf_bytes=size), client=ONE
        )
        for size in (1 << 30, 20_000)
    )
    assert len(pieces.manifest_.leaves) > len(whole.manifest_.leaves) == 1
    assert set(whole.root_.sketches["uniform"].ids) == set(pieces.root_.sketches["uniform"].ids)
