"""Choosing by weighted cross-validation on coresets."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.svm import LinearSVC
from sklearn.tree import DecisionTreeClassifier
from threadpoolctl import threadpool_limits

from coretree.errors import ConfigError
from coretree.learn.choose import Candidate, Validation, choose
from coretree.learn.fit import fit_weighted
from coretree.learn.folds import common_folds, folds_by_hash, make_folds
from coretree.learn.scoring import weighted_score


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Small fits: more threads would only wait for one another."""
    with threadpool_limits(1):
        yield


def candidate(estimator: Any, n: int = 400, seed: int = 0, **changes: Any) -> Candidate:
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 3))
    y = (X[:, 0] + rng.normal(size=n) > 0.5).astype(int)
    values = {"X": X, "y": y, "weights": rng.exponential(size=n) + 0.1, "ids": np.arange(n, dtype=np.uint64)}
    return Candidate(**{"estimator": estimator, **values, **changes})


def test_better_model_wins_and_rows_keep_their_order() -> None:
    board = choose({"dummy": candidate(DummyClassifier()), "lr": candidate(LogisticRegression())}, cv=4)
    assert board.best == "lr"
    assert [row.name for row in board.rows] == ["dummy", "lr"]
    assert board.row("dummy").mean == pytest.approx(0.5)
    assert board.row("lr").mean > 0.7


def test_scores_are_those_of_hand_made_folds() -> None:
    """Weights reach the fit, the score, and the mean over folds."""
    one = candidate(LogisticRegression(tol=1e-9, max_iter=1000))
    row = choose({"lr": one}, cv=3, scoring="neg_log_loss", seed=5).rows[0]
    folds, w = folds_by_hash(one.ids, 3, 5), np.asarray(one.weights)
    scores, masses = [], []
    for k in range(3):
        out = folds == k
        model = clone(one.estimator).fit(one.X[~out], one.y[~out], sample_weight=w[~out])
        scores.append(weighted_score(model, one.X[out], one.y[out], weights=w[out], scoring="neg_log_loss"))
        masses.append(w[out].sum())
    assert row.scores == pytest.approx(tuple(scores), rel=1e-7)  # of the same optimum, reached on another way
    assert row.fold_weights == pytest.approx(masses)
    assert row.mean == pytest.approx(np.average(scores, weights=masses))
    assert row.sd == pytest.approx(np.sqrt(np.average((np.array(scores) - row.mean) ** 2, weights=masses)))
    unweighted = choose({"lr": candidate(LogisticRegression(), weights=None)}, cv=3, scoring="neg_log_loss", seed=5)
    assert unweighted.rows[0].mean != pytest.approx(row.mean, abs=1e-4)  # negative control: the weights matter


def test_folds_follow_rows_between_sketches() -> None:
    ids = np.random.default_rng(0).integers(0, 2**63, 1000).astype(np.uint64)
    folds = folds_by_hash(ids, 5, 0)
    np.testing.assert_array_equal(folds_by_hash(ids[::-3], 5, 0), folds[::-3])
    assert np.bincount(folds).min() > 150
    assert not np.array_equal(folds_by_hash(ids, 5, 1), folds)


@settings(max_examples=30, deadline=None)
@given(sizes=st.lists(st.integers(1, 40), min_size=1, max_size=4), cv=st.integers(2, 6), seed=st.integers(0, 5))
def test_dealt_folds_spread_every_class(sizes: list[int], cv: int, seed: int) -> None:
    codes = np.repeat(np.arange(len(sizes)), sizes)
    ids = np.random.default_rng(seed).permutation(codes.size).astype(np.uint64)
    folds, note = make_folds(ids, codes, cv, seed)
    table = np.zeros((len(sizes), cv), dtype=int)
    np.add.at(table, (codes, folds), 1)
    for size, line in zip(sizes, table, strict=True):
        assert line.sum() == size
        if note:
            assert line.max() - line.min() <= 1
            assert np.count_nonzero(line) == min(size, cv)
        else:
            assert line.min() >= 1
    order = np.random.default_rng(seed + 1).permutation(codes.size)
    np.testing.assert_array_equal(make_folds(ids[order], codes[order], cv, seed)[0], folds[order])


def test_rare_class_is_dealt_out_and_said() -> None:
    y = np.zeros(300, dtype=int)
    y[[3, 90, 200]] = 1
    row = choose({"lr": candidate(LogisticRegression(), n=300, y=y)}, cv=3).rows[0]
    assert "a fold lacked a class (the rarest has 3 rows)" in row.note
    assert not np.isnan(row.scores).any()


def test_class_of_one_row_still_gives_a_score() -> None:
    y = np.arange(300) % 2
    y[7] = 2
    for scoring in ("roc_auc", "neg_log_loss", "accuracy"):
        row = choose({"tree": candidate(DecisionTreeClassifier(max_depth=2), n=300, y=y)}, cv=3, scoring=scoring).rows[
            0
        ]
        assert np.isfinite(row.mean)


def test_each_candidate_brings_its_own_sketch() -> None:
    board = choose(
        {"lr": candidate(LogisticRegression(), n=300), "dt": candidate(DecisionTreeClassifier(), n=200, seed=1)}, cv=3
    )
    assert [row.rows for row in board.rows] == [300, 200]
    assert sum(board.row("dt").fold_weights) == pytest.approx(
        np.sum(np.asarray(candidate(None, n=200, seed=1).weights))
    )


def test_model_that_cannot_be_scored_says_why() -> None:
    board = choose({"svm": candidate(LinearSVC()), "lr": candidate(LogisticRegression())}, scoring="neg_log_loss")
    assert board.best == "lr"
    assert "no probabilities" in board.row("svm").note
    assert board.to_dict()["rows"][0]["mean"] is None
    with pytest.raises(ConfigError, match="No model could be scored by neg_log_loss"):
        choose({"svm": candidate(LinearSVC())}, scoring="neg_log_loss")


def test_ties_go_to_the_first() -> None:
    board = choose({"b": candidate(LogisticRegression()), "a": candidate(LogisticRegression())})
    assert board.best == "b"


def test_regression() -> None:
    rng = np.random.default_rng(0)
    y = rng.normal(size=200)
    X = np.column_stack([y + rng.normal(size=200), rng.normal(size=200)])
    pair = {name: candidate(model, n=200, X=X, y=y) for name, model in [("mean", DummyRegressor()), ("ridge", Ridge())]}
    assert choose(pair, scoring="r2").best == "ridge"


def test_same_inputs_same_leaderboard_as_json() -> None:
    def run() -> str:
        ticks = itertools.count()
        pair = {"lr": candidate(LogisticRegression()), "dt": candidate(DecisionTreeClassifier())}
        return json.dumps(choose(pair, clock=lambda: float(next(ticks))).to_dict(), allow_nan=False)

    assert run() == run()
    assert json.loads(run())["rows"][0]["seconds"] == 1.0


@pytest.mark.parametrize(
    ("options", "part"),
    [({"cv": 1}, "cv must lie between 2 and"), ({"cv": 401}, "cv must lie"), ({"scoring": "auc"}, "No score is named")],
)
def test_mistakes_are_named(options: dict[str, Any], part: str) -> None:
    with pytest.raises(ConfigError, match=part):
        choose({"lr": candidate(LogisticRegression())}, **options)


def test_nothing_to_choose_from() -> None:
    with pytest.raises(ConfigError, match="name at least one"):
        choose({})
    board = choose({"lr": candidate(LogisticRegression())})
    with pytest.raises(ValueError, match="no candidate is named 'x'"):
        board.row("x")


def everyone(n: int = 3000, seed: int = 0) -> Candidate:
    """All the rows, to draw sketches and a validation sample from."""
    return candidate(None, n=n, seed=seed, weights=np.ones(n))


def drawn(full: Candidate, index: Any, estimator: Any, **changes: Any) -> Candidate:
    values = {"X": full.X[index], "y": full.y[index], "weights": np.full(len(index), 2.0), "ids": full.ids[index]}
    return Candidate(**{"estimator": estimator, **values, **changes})


def as_validation(one: Candidate) -> Validation:
    return Validation(one.X, one.y, one.weights, one.ids)


def test_common_validation_by_hand() -> None:
    """Fitted on the own rows outside a fold, scored on the common rows inside: never on a row it was fitted on."""
    full = everyone()
    own, common = drawn(full, np.arange(0, 900), LogisticRegression()), drawn(full, np.arange(600, 1400), None)
    board = choose({"lr": own}, validation=as_validation(common), cv=3, scoring="neg_log_loss", seed=5)
    scores = []
    for k in range(3):
        out, inside = folds_by_hash(own.ids, 3, 5) != k, folds_by_hash(common.ids, 3, 5) == k
        model = fit_weighted(LogisticRegression(), own.X[out], own.y[out], weights=np.full(out.sum(), 2.0), seed=5)
        scores.append(
            weighted_score(
                model, common.X[inside], common.y[inside], weights=np.ones(inside.sum()), scoring="neg_log_loss"
            )
        )
        assert not set(own.ids[out].tolist()) & set(common.ids[inside].tolist())
    assert board.rows[0].scores == pytest.approx(scores)
    assert board.rows[0].rows == 900
    assert board.to_dict()["validation_rows"] == 800
    assert choose({"lr": own}, cv=3).validation_rows == 0


def test_own_rows_as_validation_change_nothing() -> None:
    one = candidate(LogisticRegression())
    expected = choose({"lr": one}, cv=3, seed=2).rows[0]
    found = choose({"lr": one}, validation=as_validation(one), cv=3, seed=2).rows[0]
    assert (found.scores, found.fold_weights) == (expected.scores, expected.fold_weights)


def test_memorising_rows_does_not_pay() -> None:
    """A tree that knows its rows by heart would win if validation rows were among them."""
    full = everyone()
    noise = drawn(full, np.arange(800), DecisionTreeClassifier(), y=np.arange(800) % 2)
    board = choose({"tree": noise}, validation=as_validation(noise), scoring="accuracy")
    assert board.rows[0].mean == pytest.approx(0.5, abs=0.08)


def test_same_rows_make_differences_between_models_less_noisy() -> None:
    def differences(*, common: bool) -> list[float]:
        found = []
        for seed in range(10):
            rng = np.random.default_rng(seed)
            full = everyone()
            index = [rng.permutation(3000)[:500] for _ in range(3)]
            pair = {
                "good": drawn(full, index[0], LogisticRegression()),
                "same": drawn(full, index[1], LogisticRegression(C=0.3)),
            }
            validation = as_validation(drawn(full, index[2], None)) if common else None
            board = choose(pair, validation=validation, cv=2, scoring="neg_log_loss")
            found.append(board.row("good").mean - board.row("same").mean)
        return found

    assert np.std(differences(common=True)) < 0.7 * np.std(differences(common=False))


def test_rare_class_is_dealt_out_over_the_union() -> None:
    full = everyone(600)
    y = np.zeros(600, dtype=int)
    y[[5, 305, 405]] = 1
    pair = {
        "lr": drawn(full, np.arange(0, 400), LogisticRegression(), y=y[:400]),
        "dt": drawn(full, np.arange(300, 600), DecisionTreeClassifier(max_depth=2), y=y[300:]),
    }
    validation = Validation(full.X[::2], y[::2], None, full.ids[::2])
    board = choose(pair, validation=validation, cv=3, scoring="neg_log_loss")
    assert all(np.isfinite(row.mean) for row in board.rows)
    assert all("the rarest has 3 rows" in row.note for row in board.rows)
    folds, _ = common_folds([full.ids, full.ids[::2]], [y, y[::2]], 3, 0)
    assert sorted(folds[0][y == 1].tolist()) == [0, 1, 2]
    np.testing.assert_array_equal(folds[1], folds[0][::2])


def test_validation_serves_regression_and_class_masses() -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(300, 2))
    t, ids = X[:, 0] + 0.1 * rng.normal(size=300), np.arange(300, dtype=np.uint64)
    validation = Validation(X[:100], t[:100], None, ids[:100])
    assert choose({"r": Candidate(Ridge(), X, t, None, ids)}, validation=validation, scoring="r2").rows[0].mean > 0.9
    y, w = (t > 0.5).astype(int), np.where(t > 0.5, 1.0, 20.0)
    tree = DecisionTreeClassifier(max_depth=3)
    by_mass = [
        choose({"t": Candidate(tree, X, y, w, ids, class_mass=mass)}, scoring="neg_log_loss").rows[0].mean
        for mass in ("rows", "root")
    ]
    assert by_mass[0] != by_mass[1]
    with pytest.raises(ConfigError, match="the 1 rows of the smallest sketch"):
        choose({"r": Candidate(Ridge(), X, t, None, ids)}, validation=Validation(X[:1], t[:1], None, ids[:1]))
