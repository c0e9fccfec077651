"""Certificates and polish of whole data sets: true, the same wherever leaves are read, plain models at the end."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dask.dataframe as dd
import numpy as np
import pandas as pd
import pytest
from distributed import Client, LocalCluster
from sklearn.cluster import KMeans
from sklearn.ensemble import HistGradientBoostingRegressor, RandomForestClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression, PoissonRegressor, Ridge
from sklearn.metrics import log_loss
from sklearn.pipeline import Pipeline
from sklearn.svm import LinearSVC

import coretree as ct
from coretree.errors import (
    ConfigError,
    CoresetQualityWarning,
    DataError,
    DataWarning,
    EmptyDataError,
    SchemaError,
    TargetError,
)
from coretree.run import full_pass
from generated import opened, sales, write_files

TWO = ct.ThreadExecutor(2)
NEWTON: dict[str, Any] = {"solver": "newton-cholesky", "tol": 1e-12}
pytestmark = pytest.mark.filterwarnings("ignore::coretree.errors.CoresetQualityWarning")


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    rows = sales(3000)
    rng = np.random.default_rng(1)
    rows["level"] = pd.cut(rows["price"], [-np.inf, -2, 2, np.inf], labels=["low", "mid", "top"]).astype(str)
    rows["visits"] = rng.poisson(np.exp(rows["a"] / 3)).astype(float)
    return rows


@pytest.fixture(scope="module")
def folder(frame: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_files(tmp_path_factory.mktemp("rows") / "d", frame, files=3)


TARGETS = ["sold", "price", "level", "visits"]


def data_of(folder: Path, target: str, **options: Any) -> ct.Dataset:
    drop = [*(t for t in TARGETS if t != target), "number", "group"]
    return opened(folder, target, drop=drop, leaf_bytes=30_000, **options)


@pytest.fixture(scope="module")
def trees(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, ct.CoresetTree]:
    home = tmp_path_factory.mktemp("trees")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CoresetQualityWarning)
        return {
            target: ct.CoresetTree(home / target, size=400).build(
                data_of(folder, target).split(test=0.3)[0], client=TWO
            )
            for target in TARGETS
        }


MODELS: dict[str, Any] = {
    "sold": LogisticRegression(C=0.5, **NEWTON),
    "level": LogisticRegression(C=0.5, **NEWTON),
    "price": Ridge(alpha=3.0),
    "visits": PoissonRegressor(alpha=0.01, **NEWTON),
}


def fitted(trees: dict[str, ct.CoresetTree], target: str, model: Any = None, **options: Any) -> Any:
    kind = ct.CoresetClassifier if target in ("sold", "level") else ct.CoresetRegressor
    return kind(MODELS[target] if model is None else model, tree=trees[target], client=TWO, **options).fit()


def train_rows(frame: pd.DataFrame, folder: Path, target: str, tmp_path: Path, model: Any) -> pd.DataFrame:
    """Training rows in memory: those whose number a prediction of the training side carries."""
    train, _ = data_of(folder, target).split(test=0.3)
    ct.predict(model, train, out=tmp_path / "rows", columns=["number"], client=TWO)
    return frame.set_index("number").loc[pd.read_parquet(tmp_path / "rows")["number"]].reset_index()


@pytest.mark.parametrize("target", TARGETS)
def test_the_certificate_of_a_coreset_model_is_true(
    frame: pd.DataFrame, folder: Path, trees: dict[str, ct.CoresetTree], target: str, tmp_path: Path
) -> None:
    model = fitted(trees, target)
    train, _ = data_of(folder, target).split(test=0.3)
    found = ct.certify(model, train, client=TWO)
    rows = train_rows(frame, folder, target, tmp_path, model)
    X, y, w = model.estimator_[:-1].transform(rows), rows[target], rows["weight"].to_numpy()
    full = type(model.estimator_[-1])(**MODELS[target].get_params()).fit(X, y, sample_weight=w)
    best, ours = (objective(m, X, y, w) for m in (full, model.estimator_[-1]))
    assert found.kind == "objective"
    assert found.n_rows == len(rows)
    assert found.value == pytest.approx(ours, rel=1e-10)
    assert found.proven
    true, slack = ours - best, 1e-10 * best
    assert found.lower <= true + slack
    assert true - slack <= found.upper
    if target == "price":  # fitted from exact moments: it is the optimum
        assert found.upper < 1e-9 * best
    else:
        assert 1e-9 < true / best < 3e-2
        assert true / 2 < found.estimate < 2 * true
    assert found.statement.startswith("The training objective (")
    assert f"on all {len(rows):,} rows" in found.statement
    assert "proven" in repr(found)
    assert found.to_dict()["upper"] == found.upper


def objective(model: Any, X: Any, y: Any, w: Any) -> float:
    """Written down anew for each estimator, as scikit-learn's guide has it."""
    squares = np.square(model.coef_).sum()
    if isinstance(model, Ridge):
        return float(w @ (model.predict(X) - y) ** 2 + model.alpha * squares) / 2
    if isinstance(model, PoissonRegressor):
        mu, t = model.predict(X), np.asarray(y)
        deviance = np.where(t > 0, t * np.log(np.where(t > 0, t, 1) / mu), 0) - t + mu
        return float(w @ deviance + model.alpha * w.sum() * squares / 2)
    loss = log_loss(y, model.predict_proba(X), sample_weight=w, normalize=False, labels=model.classes_)
    return float(loss + squares / (2 * model.C))


@pytest.mark.parametrize("target", TARGETS)
def test_polish_ends_at_the_optimum_of_all_rows(
    folder: Path, trees: dict[str, ct.CoresetTree], target: str, tmp_path: Path
) -> None:
    model = fitted(trees, target)
    train, test = data_of(folder, target).split(test=0.3)
    coef = model.estimator_[-1].coef_.copy()
    one, two = (ct.polish(model, train, passes, client=TWO) for passes in (1, 2))
    before, after, last = (ct.certify(m, train, client=TWO) for m in (model, one, two))
    assert after.value <= before.value * (1 + 1e-12)
    assert after.upper < max(1e-5 * after.value, 2e-12 * after.value)
    assert last.upper < 1e-9 * last.value
    assert (model.estimator_[-1].coef_ == coef).all()  # the model itself is left alone
    assert not hasattr(model, "polish_")
    assert type(two.estimator_[-1]) is type(MODELS[target])
    assert two.estimator_[:-1][0] is model.estimator_[:-1][0]
    assert 1 <= len(two.polish_.steps) <= 2
    judged = ct.evaluate(two, test, client=TWO)
    two.save(tmp_path / "polished")
    loaded = ct.load_model(tmp_path / "polished")
    assert ct.evaluate(loaded, test, client=TWO).metrics == judged.metrics


@pytest.fixture(scope="module")
def cluster() -> Iterator[Client]:
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, processes=False, dashboard_address="127.0.0.1:0") as made,
        Client(made, set_as_default=False) as client,
    ):
        yield client


@pytest.mark.parametrize("target", ["sold", "level"])
def test_the_same_bits_on_threads_and_on_a_cluster(
    folder: Path, trees: dict[str, ct.CoresetTree], target: str, cluster: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = fitted(trees, target)
    train, _ = data_of(folder, target).split(test=0.3)
    assert len(train.scan.leaves) == 6
    certificates, coefs = [], []
    for client in (ct.ThreadExecutor(1), TWO, cluster):
        certificates.append({**ct.certify(model, train, client=client).to_dict(), "seconds": 0})
        coefs.append(ct.polish(model, train, client=client).estimator_[-1].coef_.tobytes())
    monkeypatch.setattr(full_pass, "HELD_BYTES", 1)  # a few leaves at a time
    steps: list[tuple[str, int, int]] = []
    watched = ct.certify(model, train, client=ct.ThreadExecutor(1), progress=lambda *step: steps.append(step))
    certificates.append({**watched.to_dict(), "seconds": 0})
    assert certificates[0] == certificates[1] == certificates[2] == certificates[3]
    assert len(set(coefs)) == 1
    n = len(train.scan.leaves)
    assert steps == [("certify", done, n) for done in range(1, n + 1)]


def test_a_dask_frame_is_certified_as_the_files_are(
    frame: pd.DataFrame, trees: dict[str, ct.CoresetTree], cluster: Client
) -> None:
    model = fitted(trees, "sold")
    options: dict[str, Any] = {
        "target": "sold",
        "weight": "weight",
        "drop": ["price", "level", "visits", "number", "group"],
    }
    lazy = ct.Dataset.from_dask(dd.from_pandas(frame, npartitions=4), **options)
    here, there = (ct.certify(model, lazy, client=client) for client in (TWO, cluster))
    assert {**here.to_dict(), "seconds": 0} == {**there.to_dict(), "seconds": 0}
    plain = ct.certify(model, ct.Dataset.from_pandas(frame, **options), client=TWO)
    assert plain.value == pytest.approx(here.value, rel=1e-12)
    assert plain.upper == pytest.approx(here.upper, rel=1e-6)


def test_a_loaded_model_needs_no_coreset(folder: Path, trees: dict[str, ct.CoresetTree], tmp_path: Path) -> None:
    model = fitted(trees, "sold")
    model.save(tmp_path / "m")
    loaded = ct.load_model(tmp_path / "m")
    train, test = data_of(folder, "sold").split(test=0.3)
    for rows in (train, test):
        a, b = ct.certify(model, rows, client=TWO), ct.certify(loaded, rows, client=TWO)
        assert a.value == pytest.approx(b.value, rel=1e-13)
        assert a.estimate == pytest.approx(b.estimate, rel=1e-6)
        assert b.lower <= a.upper
        assert a.lower <= b.upper
        assert b.proven
    better = ct.polish(loaded, train, passes=2, client=TWO)
    assert ct.certify(better, train, client=TWO).upper < 1e-9 * a.value


def test_a_poisson_step_that_overflows_is_damped(folder: Path, trees: dict[str, ct.CoresetTree]) -> None:
    model = fitted(trees, "visits")
    model.estimator_[-1].intercept_ -= 8.0  # means e^-8 times too small: Newton's step is a thousand times too long
    train, _ = data_of(folder, "visits").split(test=0.3)
    before = ct.certify(model, train, passes=1, client=TWO)
    assert not before.proven
    assert "Too far for a proof: ct.polish" in before.statement
    assert "more than 10 %" in before.statement
    second = ct.certify(model, train, client=TWO)  # the coreset knows the way: corrected, it leads near the optimum
    assert second.proven
    assert (before.n_passes, second.n_passes) == (1, 2)
    better = ct.polish(model, train, client=TWO)
    assert ct.certify(better, train, client=TWO).value < before.value / 2
    del model.coreset_  # without a sample it is Newton's own step, and overflows
    lost = ct.certify(model, train, client=TWO)
    assert not lost.proven
    assert before.value / 2 < (lost.lower or 0) <= second.lower  # what lies on the way is lower
    damped = ct.polish(model, train, client=TWO)
    assert damped.polish_.steps[0].gate == "measured"
    assert damped.polish_.steps[0].share < 0.01
    assert ct.certify(damped, train, client=TWO).value < before.value
    assert (lost.lower or 0) >= before.value - ct.certify(damped, train, passes=1, client=TWO).value - 1e-6
    model.estimator_[-1].intercept_ += 1e4
    with pytest.raises(DataError, match="overflow"):
        ct.certify(model, train, client=TWO)


def test_a_second_pass_bounds_a_softmax_that_one_cannot(folder: Path, trees: dict[str, ct.CoresetTree]) -> None:
    model = fitted(trees, "level")
    train, _ = data_of(folder, "level").split(test=0.3)
    near = ct.certify(model, train, client=TWO)
    assert near.n_passes == (1 if near.upper < 4 * near.estimate else 2)
    model.estimator_[-1].coef_ = model.estimator_[-1].coef_ * 0.6
    one, two = (ct.certify(model, train, passes=passes, client=TWO) for passes in (1, 2))
    assert not one.proven
    assert one.upper == one.value
    assert two.proven
    assert two.n_passes == 2
    best = ct.certify(ct.polish(model, train, 4, client=TWO), train, client=TWO)
    true = one.value - best.value
    assert true > 5e-3 * best.value
    assert 0.9 * true < two.lower <= true + best.upper
    assert true <= two.upper < 1.1 * true
    assert (one.value, one.newton_decrement, one.redrawn) == (two.value, two.newton_decrement, two.redrawn)
    assert "(proven, by a second pass where a Newton step leads; estimate" in two.statement
    steps: list[tuple[str, int, int]] = []
    ct.certify(model, train, client=TWO, progress=lambda *step: steps.append(step))
    assert len(steps) == 2 * len(train.scan.leaves)
    for passes in (0, 3):
        with pytest.raises(ConfigError, match=f"passes={passes} must be 1 or 2"):
            ct.certify(model, train, passes=passes, client=TWO)


def test_a_linear_svm(folder: Path, trees: dict[str, ct.CoresetTree]) -> None:
    model = fitted(trees, "sold", LinearSVC(C=0.1, dual=False, tol=1e-10, max_iter=10_000))
    train, _ = data_of(folder, "sold").split(test=0.3)
    found = ct.certify(model, train, client=TWO)
    assert found.proven
    assert 0 < found.estimate <= found.upper < 1e-2 * found.value
    assert ct.certify(ct.polish(model, train, 2, client=TWO), train, client=TWO).upper < 1e-8 * found.value


def test_k_means_costs_exactly_what_it_costs(
    frame: pd.DataFrame, folder: Path, trees: dict[str, ct.CoresetTree]
) -> None:
    other = fitted(trees, "price")
    prepare = other.estimator_[:-1]
    X, w = prepare.transform(frame), frame["weight"].to_numpy()
    final = KMeans(4, n_init=1, random_state=0).fit(X[:300])
    model = SimpleNamespace(
        estimator_=Pipeline([*prepare.steps, ("model", final)]), schema_=other.schema_, clean_=other.clean_
    )
    found = ct.certify(model, data_of(folder, "price"), client=TWO)
    assert found.kind == "clusters"
    assert found.n_rows == len(frame)
    assert found.value == pytest.approx(w @ final.transform(X).min(axis=1) ** 2, rel=1e-9)
    moved = KMeans(4, init=final.cluster_centers_, n_init=1, max_iter=300, tol=0).fit(X, sample_weight=w)
    assert 0 < found.lower <= found.value - moved.inertia_
    assert "(exact)" in found.statement


def test_other_models_are_judged_and_compared_with_a_plain_sample(
    folder: Path, trees: dict[str, ct.CoresetTree]
) -> None:
    forest = RandomForestClassifier(n_estimators=10, min_samples_leaf=5, random_state=0)
    model = fitted(trees, "sold", forest)
    _, test = data_of(folder, "sold").split(test=0.3)
    found = ct.certify(model, test, client=TWO)
    judged = ct.evaluate(model, test, client=TWO)
    assert found.kind == "held-out"
    assert found.value == judged.metrics["log_loss"]
    assert found.interval is not None
    assert found.interval[0] < found.value < found.interval[1]
    plain = ct.CoresetClassifier(forest, objective="uniform", tree=trees["sold"], size=400, client=TWO).fit()
    gap = ct.evaluate(plain, test, client=TWO).metrics["log_loss"] - found.value
    assert found.uniform_gap == pytest.approx(gap)
    assert found.lower is None
    assert found.upper is None
    assert "No bound" in found.statement
    assert "plain sample" in found.statement
    assert ct.certify(model, test, uniform=False, client=TWO).uniform_gap is None
    boosted = fitted(trees, "price", HistGradientBoostingRegressor(max_iter=20, early_stopping=False))
    squared = ct.certify(boosted, data_of(folder, "price").split(test=0.3)[1], client=TWO)
    assert squared.measure == "mean squared error"
    assert squared.uniform_gap is not None  # it was fitted on pooled rows, which are no plain sample


def test_a_decision_without_probabilities_is_judged_by_its_errors(
    frame: pd.DataFrame, folder: Path, trees: dict[str, ct.CoresetTree]
) -> None:
    model = fitted(trees, "level", LinearSVC(dual=False))
    found = ct.certify(model, data_of(folder, "level", weight=None), uniform=False, client=TWO)
    wrong = (model.predict(frame) != frame["level"]).mean()
    assert found.value == pytest.approx(wrong)
    low, high = found.interval or (0, 0)
    assert high - low == pytest.approx(2 * 1.96 * np.sqrt(wrong * (1 - wrong) / len(frame)), rel=0.01)
    weighted = ct.certify(model, data_of(folder, "level"), uniform=False, client=TWO)
    assert weighted.interval is None  # rows of unequal weight


def test_what_cannot_be_certified(
    frame: pd.DataFrame, folder: Path, trees: dict[str, ct.CoresetTree], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train, _ = data_of(folder, "sold").split(test=0.3)
    balanced = fitted(trees, "sold", LogisticRegression(class_weight="balanced"))
    for call in (ct.certify, ct.polish):
        with pytest.raises(ConfigError, match="class_weight='balanced'"):
            call(balanced, train, client=TWO)
    forest = fitted(trees, "sold", RandomForestClassifier(n_estimators=2, random_state=0))
    with pytest.raises(ConfigError, match="no smooth objective"):
        ct.polish(forest, train, client=TWO)
    model = fitted(trees, "sold")
    with pytest.raises(ConfigError, match="passes=0"):
        ct.polish(model, train, 0)
    lacking = write_files(tmp_path / "lacking", frame.drop(columns="b").head(50), files=1)
    with pytest.raises(SchemaError, match="'b'"):
        ct.certify(model, data_of(lacking, "sold"), client=TWO)
    strange = write_files(tmp_path / "strange", frame.assign(sold="maybe").head(50), files=1)
    with pytest.raises(TargetError, match="maybe"):
        ct.certify(model, data_of(strange, "sold"), client=TWO)
    empty = write_files(tmp_path / "empty", frame.head(50).assign(sold=pd.Series([None] * 50, dtype="str")), files=1)
    with pytest.raises(EmptyDataError, match="no row is left"):
        ct.certify(model, data_of(empty, "sold"), client=TWO)
    monkeypatch.setattr(full_pass, "MOST_PARAMETERS", 3)
    with pytest.raises(ConfigError, match="parameters; their Hessian is gathered up to 3"):
        ct.certify(model, train, client=TWO)


@pytest.fixture
def strange(frame: pd.DataFrame, tmp_path: Path) -> dict[str, Path]:
    """Two partitions, each with labels of its own that no training row has: with these rows, without, and only them."""
    rows = frame.head(800).copy()
    for target in ("sold", "level"):
        rows.loc[[5, 17, 300], target] = "maybe"
        rows.loc[[500, 799], target] = "soon"
    odd = rows["sold"].isin(["maybe", "soon"])
    halves = np.arange(800) < 400
    out = {}
    for name, kept in (("with", odd | True), ("without", ~odd), ("only", odd)):
        out[name] = tmp_path / name
        for i, half in enumerate((halves, ~halves)):
            write_files(out[name] / str(i), rows[half & kept], files=1)
    return out


@pytest.mark.parametrize("target", ["sold", "level"])
def test_labels_that_no_training_row_has_are_counted_told_and_left_out(
    strange: dict[str, Path], trees: dict[str, ct.CoresetTree], target: str, tmp_path: Path
) -> None:
    model = fitted(trees, target)
    rows, rest = (data_of(strange[name], target) for name in ("with", "without"))
    told = r"5 of 800 rows have a label that the fitted estimator does not know: 'maybe' \(3\), 'soon' \(2\)"
    with pytest.warns(DataWarning, match=told) as said:
        found = ct.certify(model, rows, client=TWO)
    assert len(said) == 1
    assert found.unseen == {"maybe": 3, "soon": 2}
    assert "Left out: 5 rows with labels that the model does not know: 'maybe' (3), 'soon' (2)." in repr(found)
    assert json.loads(json.dumps(found.to_dict()))["unseen"] == {"maybe": 3, "soon": 2}
    plain = ct.certify(model, rest, client=TWO)
    assert plain.unseen == plain.to_dict()["unseen"] == {}
    assert "Left out" not in repr(plain)
    figures = [{**one.to_dict(), "seconds": 0, "statement": "", "unseen": {}} for one in (found, plain)]
    assert figures[0] == figures[1]
    assert found.n_rows == 795
    model.save(tmp_path / "m")
    for start in (model, ct.load_model(tmp_path / "m")):  # without a coreset there is a pass more, and no word more
        with pytest.warns(DataWarning, match=told) as said:
            better = ct.polish(start, rows, passes=2, client=TWO)
        assert len(said) == 1
        same = ct.polish(start, rest, passes=2, client=TWO)
        assert better.polish_.theta.tobytes() == same.polish_.theta.tobytes()
        assert better.polish_.to_dict() == {**same.polish_.to_dict(), "unseen": {"maybe": 3, "soon": 2}}
        assert "'maybe' (3), 'soon' (2)" in repr(better.polish_)
        assert "left out" not in repr(same.polish_)
        assert json.loads(json.dumps(better.polish_.to_dict()))["n_passes"] == same.polish_.n_passes


def test_models_without_bounds_count_unknown_labels_too(
    strange: dict[str, Path], trees: dict[str, ct.CoresetTree]
) -> None:
    forest = fitted(trees, "sold", RandomForestClassifier(n_estimators=5, random_state=0))
    with pytest.warns(DataWarning, match="maybe"):
        found = ct.certify(forest, data_of(strange["with"], "sold"), uniform=False, client=TWO)
    assert found.value == ct.certify(forest, data_of(strange["without"], "sold"), uniform=False, client=TWO).value
    assert found.unseen == {"maybe": 3, "soon": 2}
    assert "'soon' (2)" in repr(found)


def test_a_class_that_the_estimator_lacks_is_left_out(trees: dict[str, ct.CoresetTree], folder: Path) -> None:
    """A plain sample may miss a class that the tree knows: the rows are in the data, and have no place in the model."""
    model = fitted(trees, "level")
    core = model.coreset_
    kept = (core.y != "top").to_numpy()
    X = model.estimator_[:-1].transform(core.X)
    final = LogisticRegression(C=0.5, **NEWTON).fit(X[kept], core.y[kept], sample_weight=core.sample_weight[kept])
    model.estimator_ = Pipeline([*model.estimator_.steps[:-1], ("model", final)])
    del model.coreset_
    with pytest.warns(DataWarning, match="that the fitted estimator does not know: 'top'"):
        found = ct.certify(model, data_of(folder, "level"), client=TWO)
    assert found.proven
    assert found.n_rows + found.unseen["top"] == 3000


def test_where_every_label_is_unknown(strange: dict[str, Path], trees: dict[str, ct.CoresetTree]) -> None:
    model = fitted(trees, "sold")
    for call in (ct.certify, ct.polish):
        with pytest.raises(TargetError, match=r"5 of 5 rows .*'maybe' \(3\), 'soon' \(2\).* No row is left"):
            call(model, data_of(strange["only"], "sold"), client=TWO)


def test_a_shuffled_target_or_a_missing_file_is_told(folder: Path, trees: dict[str, ct.CoresetTree]) -> None:
    """Negative control: rows that are not the training rows have another optimum, and the certificate shows it."""
    model = fitted(trees, "sold")
    train, test = data_of(folder, "sold").split(test=0.3)
    polished = ct.polish(model, train, 2, client=TWO)
    assert ct.certify(polished, train, client=TWO).upper < 1e-9 * ct.certify(polished, test, client=TWO).lower * 1e6
    assert ct.certify(polished, test, client=TWO).lower > 0.5


def test_least_squares_of_rows_that_say_the_same_twice(frame: pd.DataFrame) -> None:
    rows = frame[["a", "b", "c", "price"]].assign(again=frame["a"] * 2)
    data = ct.Dataset.from_pandas(rows, target="price")
    model = ct.CoresetRegressor(LinearRegression(), size=300, client=TWO).fit(data)
    found = ct.certify(model, data, client=TWO)
    assert found.proven
    assert found.upper < 1e-9 * found.value
    assert "exact" in found.statement
