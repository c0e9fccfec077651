"""ClassificationTally against scikit-learn, and the laws of merging."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from coretree.learn.metrics import ClassificationTally, classification_tally

Floats = npt.NDArray[np.float64]
Rows = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], Floats, Floats]
FEW = settings(max_examples=25, deadline=None)


def drawn(n_rows: int, n_classes: int, seed: int) -> Rows:
    """Draw codes, predicted codes, probabilities and weights of a calibrated model, every class present if it can."""
    rng = np.random.default_rng(seed)
    proba = rng.dirichlet(np.full(n_classes, 0.8), size=n_rows)
    y = (proba.cumsum(axis=1) > rng.random((n_rows, 1))).argmax(axis=1)
    y[: min(n_classes, n_rows)] = np.arange(min(n_classes, n_rows))
    return y, proba.argmax(axis=1), proba, rng.gamma(2.0, size=n_rows)


def close(first: Any, second: Any, tolerance: float = 1e-11) -> bool:
    if first is None or second is None:
        return first is second
    return bool(np.allclose(first, second, rtol=tolerance, atol=tolerance))


def assert_same_metrics(first: ClassificationTally, second: ClassificationTally) -> None:
    expected = second.metrics()
    for name, value in first.metrics().items():
        assert close(value, expected[name]), (name, value, expected[name])


@pytest.mark.parametrize("n_classes", [2, 3, 7])
@pytest.mark.parametrize("weighted", [False, True])
def test_exact_metrics_are_those_of_scikit_learn(n_classes: int, weighted: bool) -> None:
    y, predicted, proba, weights = drawn(3_000, n_classes, seed=n_classes)
    w = weights if weighted else None
    found = classification_tally(y, predicted, proba=proba, weights=w, n_classes=n_classes).metrics()
    expected: dict[str, Any] = {
        "accuracy": sk.accuracy_score(y, predicted, sample_weight=w),
        "balanced_accuracy": sk.balanced_accuracy_score(y, predicted, sample_weight=w),
        "log_loss": sk.log_loss(y, proba, sample_weight=w),
        "brier": sk.brier_score_loss(y, proba[:, 1] if n_classes == 2 else proba, sample_weight=w),
        "confusion": sk.confusion_matrix(y, predicted, sample_weight=w),
        "n_rows": 3_000,
    }
    for average in (None, "macro", "weighted"):
        three = sk.precision_recall_fscore_support(y, predicted, average=average, sample_weight=w, zero_division=0)
        for name, value in zip(("precision", "recall", "f1"), three, strict=False):
            expected[f"{name}_{average or 'per_class'}"] = value
    for name, value in expected.items():
        assert close(found[name], value, 1e-12), name


@pytest.mark.parametrize("n_classes", [2, 4])
@pytest.mark.parametrize("weighted", [False, True])
def test_areas_lie_within_their_stated_error_and_the_error_is_small(n_classes: int, weighted: bool) -> None:
    y, predicted, proba, weights = drawn(40_000, n_classes, seed=11)
    w = weights if weighted else None
    found = classification_tally(y, predicted, proba=proba, weights=w, n_classes=n_classes).metrics()
    if n_classes == 2:
        auc = sk.roc_auc_score(y, proba[:, 1], sample_weight=w)
        precision = sk.average_precision_score(y, proba[:, 1], sample_weight=w)
    else:
        auc = sk.roc_auc_score(y, proba, multi_class="ovr", sample_weight=w)
        precision = sk.average_precision_score(np.eye(n_classes)[y], proba, sample_weight=w)
    assert abs(found["roc_auc"] - auc) <= found["roc_auc_error"] + 1e-12
    assert abs(found["average_precision"] - precision) <= found["average_precision_error"] + 1e-12
    assert found["roc_auc_error"] < 1e-3
    assert found["average_precision_error"] < 1e-3


def test_decision_values_give_the_curves_where_there_are_no_probabilities() -> None:
    rng = np.random.default_rng(5)
    y = rng.integers(0, 2, 20_000)
    decision = rng.normal(y * 1.5, 1.0)
    found = classification_tally(y, (decision > 0).astype(int), decision=decision, n_classes=2).metrics()
    assert abs(found["roc_auc"] - sk.roc_auc_score(y, decision)) <= found["roc_auc_error"] + 1e-12
    assert found["roc_auc_error"] < 1e-3
    assert found["log_loss"] is None
    assert found["brier"] is None
    two = classification_tally(
        y, (decision > 0).astype(int), decision=np.column_stack([-decision, decision]), n_classes=2
    )
    assert two.metrics()["roc_auc"] == found["roc_auc"]


def test_probabilities_win_over_decision_values() -> None:
    y, predicted, proba, _ = drawn(500, 3, seed=1)
    both = classification_tally(y, predicted, proba=proba, decision=np.log(proba + 1.0), n_classes=3)
    assert_same_metrics(both, classification_tally(y, predicted, proba=proba, n_classes=3))


@FEW
@given(st.integers(2, 4), st.integers(0, 40), st.lists(st.integers(0, 40), max_size=5), st.integers(0, 10_000))
def test_any_sharding_merges_to_one_pass(n_classes: int, n_rows: int, cuts: list[int], seed: int) -> None:
    y, predicted, proba, weights = drawn(n_rows, n_classes, seed)
    whole = classification_tally(y, predicted, proba=proba, weights=weights, n_classes=n_classes)
    shards = [
        classification_tally(y[s], predicted[s], proba=proba[s], weights=weights[s], n_classes=n_classes)
        for s in np.split(np.arange(n_rows), sorted(min(cut, n_rows) for cut in cuts))
    ]
    merged = sum(shards)
    assert isinstance(merged, ClassificationTally)
    assert merged.n_rows == n_rows
    assert_same_metrics(merged, whole)
    assert close(merged.log_loss_interval(), whole.log_loss_interval(), 1e-8)


@FEW
@given(st.integers(2, 4), st.integers(0, 30), st.integers(0, 10_000), st.booleans())
def test_empty_is_neutral_and_the_state_round_trips_bit_for_bit(k: int, n_rows: int, seed: int, proba: bool) -> None:
    y, predicted, shares, weights = drawn(n_rows, k, seed)
    scores: dict[str, Any] = {"proba": shares} if proba else {"decision": shares * 3.0 - 1.0}
    tally = classification_tally(y, predicted, weights=weights, n_classes=k, **scores)
    empty = ClassificationTally.empty(k, has_proba=proba, has_decision=not proba)
    state = tally.state()
    for other in (empty + tally, tally + empty, 0 + tally, ClassificationTally.from_state(state)):
        again = other.state()
        assert list(again) == list(state)
        assert all(np.array_equal(again[name], state[name]) for name in state)
        assert all(again[name].dtype == state[name].dtype for name in state)


@FEW
@given(st.integers(2, 4), st.integers(1, 30), st.integers(0, 10_000))
def test_a_weight_is_a_repeat(n_classes: int, n_rows: int, seed: int) -> None:
    y, predicted, proba, _ = drawn(n_rows, n_classes, seed)
    times = np.random.default_rng(seed).integers(0, 4, n_rows)
    weighted = classification_tally(y, predicted, proba=proba, weights=times, n_classes=n_classes).metrics()
    r = np.repeat(np.arange(n_rows), times)
    repeated = classification_tally(y[r], predicted[r], proba=proba[r], n_classes=n_classes).metrics()
    assert weighted.pop("n_rows") == n_rows
    assert repeated.pop("n_rows") == times.sum()
    for name, value in weighted.items():
        assert close(value, repeated[name]), name


@FEW
@given(st.permutations(range(4)), st.integers(0, 10_000))
def test_renaming_the_classes_changes_no_average(order: list[int], seed: int) -> None:
    y, predicted, proba, weights = drawn(200, 4, seed)
    to = np.array(order)
    found = classification_tally(y, predicted, proba=proba, weights=weights, n_classes=4).metrics()
    renamed = classification_tally(
        to[y], to[predicted], proba=proba[:, np.argsort(to)], weights=weights, n_classes=4
    ).metrics()
    for name in (name for name in found if not name.endswith("per_class") and name != "confusion"):
        assert close(found[name], renamed[name]), name
    assert close(np.array(renamed["f1_per_class"])[to], found["f1_per_class"])


def test_all_scores_equal_say_that_nothing_is_known() -> None:
    y = np.array([0, 1] * 50)
    found = classification_tally(y, np.zeros(100, int), proba=np.full((100, 2), 0.5), n_classes=2).metrics()
    assert found["roc_auc"] == 0.5
    assert found["roc_auc_error"] == 0.5
    assert found["average_precision"] == sk.average_precision_score(y, np.full(100, 0.5)) == 0.5
    assert found["average_precision_error"] >= 0.4


def test_undefined_values_are_none_and_never_nan() -> None:
    nothing = ClassificationTally.empty(3, has_proba=True).metrics()
    assert {name for name, value in nothing.items() if value is None} == {
        *("accuracy", "balanced_accuracy", "log_loss", "brier", "roc_auc", "roc_auc_error"),
        *("average_precision", "average_precision_error"),
        *(f"{name}_{average}" for name in ("precision", "recall", "f1") for average in ("macro", "weighted")),
    }
    one_class = classification_tally([0, 0], [0, 1], proba=[[0.9, 0.1], [0.3, 0.7]], n_classes=2).metrics()
    assert one_class["roc_auc"] is None
    assert one_class["average_precision"] is None
    assert one_class["precision_per_class"] == [1.0, 0.0]
    assert one_class["recall_per_class"] == [0.5, 0.0]
    assert classification_tally([0, 1], [0, 1], n_classes=2).metrics()["roc_auc"] is None


def test_certain_and_wrong_probabilities_are_cut_as_scikit_learn_cuts_them() -> None:
    y, proba = np.array([0, 1, 1]), np.array([[0.0, 1.0], [0.0, 1.0], [0.5, 0.5]])
    found = classification_tally(y, [1, 1, 1], proba=proba, n_classes=2).metrics()
    assert close(found["log_loss"], sk.log_loss(y, proba), 1e-12)
    single = classification_tally(y, [1, 1, 1], proba=proba.astype(np.float32), n_classes=2).metrics()
    assert close(single["log_loss"], found["log_loss"], 1e-12)


def test_classes_that_never_occur_are_left_out_of_averages_as_scikit_learn_does() -> None:
    y, predicted = [0, 0, 2, 2], [0, 2, 2, 4]
    found = classification_tally(y, predicted, n_classes=6).metrics()
    for name, score in (("precision", sk.precision_score), ("recall", sk.recall_score), ("f1", sk.f1_score)):
        assert close(found[f"{name}_macro"], score(y, predicted, average="macro", zero_division=0)), name


def test_per_class_rows() -> None:
    rows = classification_tally([0, 1, 1], [0, 1, 0], weights=[1.0, 2.0, 2.0], n_classes=2).per_class(["no", "yes"])
    assert rows[1] == {"label": "yes", "support": 4.0, "precision": 1.0, "recall": 0.5, "f1": 2.0 / 3.0}
    assert [row["label"] for row in rows] == ["no", "yes"]
    with pytest.raises(ValueError, match="2 classes; found 1"):
        classification_tally([0], [0], n_classes=2).per_class(["no"])


def test_the_log_loss_interval_holds_the_truth_as_often_as_it_says() -> None:
    # 400 intervals at 90 %: 360 +- 6 expected; leaving [335, 385] has probability < 1e-4. Half the width gives 59 %
    truth, hits = -(0.7 * np.log(0.7) + 0.3 * np.log(0.3)), 0
    rng = np.random.default_rng(8)
    for _ in range(400):
        p = np.where(rng.random(300) < 0.5, 0.7, 0.3)
        y = (rng.random(300) < p).astype(int)
        tally = classification_tally(y, y, proba=np.column_stack([1.0 - p, p]), n_classes=2)
        low, high = tally.log_loss_interval(0.9) or (np.inf, -np.inf)
        hits += low <= truth <= high
    assert 335 <= hits <= 385


def test_points_come_from_the_class_asked_for() -> None:
    y, predicted, proba, _ = drawn(2_000, 3, seed=4)
    tally = classification_tally(y, predicted, proba=proba, n_classes=3)
    fpr, tpr, threshold = tally.roc_points(2)
    middle = len(fpr) // 2
    assert close(tpr[middle], (proba[y == 2, 2] >= threshold[middle]).mean(), 1e-3)
    assert close(fpr[middle], (proba[y != 2, 2] >= threshold[middle]).mean(), 1e-3)
    assert tally.pr_points(0)[0][-1] == 1.0
    with pytest.raises(ValueError, match=r"one of \[0, 1, 2\].*found 3"):
        tally.roc_points(3)
    with pytest.raises(ValueError, match="holds no scores"):
        classification_tally(y, predicted, n_classes=3).pr_points()


def test_inputs_are_left_alone_and_small_code_types_do_not_overflow() -> None:
    y = np.arange(100, dtype=np.int8)
    proba = np.eye(100)
    proba.setflags(write=False)
    y.setflags(write=False)
    found = classification_tally(y, y, proba=proba, n_classes=100).metrics()
    assert found["accuracy"] == found["roc_auc"] == 1.0


def test_tallies_of_different_kinds_refuse_to_merge() -> None:
    two, three = ClassificationTally.empty(2), ClassificationTally.empty(3)
    with pytest.raises(ValueError, match="2 classes with no scores and 3 classes"):
        _ = two + three
    with pytest.raises(ValueError, match="probability scores and 2 classes with decision scores"):
        _ = ClassificationTally.empty(2, has_proba=True) + ClassificationTally.empty(2, has_decision=True)
    with pytest.raises(TypeError):
        _ = two + 1  # type: ignore[operator]


def test_rows_that_do_not_match_are_refused() -> None:
    with pytest.raises(ValueError, match="found 2 and 1 rows"):
        classification_tally([0, 1], [0], n_classes=2)


@pytest.mark.slow
def test_a_million_rows_take_a_fraction_of_a_second() -> None:
    import time

    for n_classes, limit in ((2, 0.4), (10, 2.0)):
        y, predicted, proba, _ = drawn(1_000_000, n_classes, seed=0)
        taken = []
        for _ in range(3):
            start = time.perf_counter()
            classification_tally(y, predicted, proba=proba, n_classes=n_classes)
            taken.append(time.perf_counter() - start)
        assert min(taken) < limit
