"""A third pass: the same rows, calibrated at a model next to the optimum."""

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

import coretree as ct
from coretree.errors import ConfigError

N = 40_000
pytestmark = pytest.mark.filterwarnings("ignore::coretree.errors.CoretreeWarning")


@pytest.fixture(scope="module")
def rare():
    """Heavy tails and 1 % positives that a linear model nearly separates."""
    rng = np.random.default_rng(0)
    X = rng.standard_t(3, (N, 12)) * 10 ** rng.uniform(-1, 1, 12)
    z = (X / X.std(0)) @ rng.normal(size=12) * 2
    frame = pd.DataFrame(X, columns=[f"x{j}" for j in range(12)])
    return frame.assign(y=(rng.random(N) < expit(z - np.quantile(z, 0.99))).astype(int))


def excess(tree, frame, size):
    model = ct.CoresetClassifier(LogisticRegression(solver="newton-cholesky", tol=1e-10), tree=tree, size=size).fit()
    X, y = model.estimator_[:-1].transform(frame), frame["y"].to_numpy()
    full = LogisticRegression(solver="newton-cholesky", tol=1e-10).fit(X, y)

    def objective(m):
        z = m.decision_function(X)
        return (np.logaddexp(0, z) - y * z).sum() + 0.5 * np.square(m.coef_).sum()

    return objective(model.estimator_[-1]) / objective(full) - 1


def test_a_third_pass_takes_the_same_rows_much_closer(rare, tmp_path):
    data = ct.Dataset.from_pandas(rare, target="y", leaf_bytes=1 << 20)
    two = ct.CoresetTree(tmp_path / "two", size=1000).build(data, client=ct.ThreadExecutor(2))
    stages: list[str] = []
    three = ct.CoresetTree(tmp_path / "three", size=1000, passes=3)
    three.build(data, client=ct.ThreadExecutor(2), progress=lambda stage, done, total: stages.append(stage))
    assert three.name_ == two.name_
    assert list(dict.fromkeys(stages)) == ["profile", "sketch", "refine"]
    a, b = two.coreset(), three.coreset()
    assert (a.ids == b.ids).all()
    assert b.report.newton_decrement < 0.01 * a.report.newton_decrement
    assert excess(three, rare, 1000) < 1e-6
    assert excess(three, rare, 1000) < 0.1 * excess(two, rare, 1000)


def test_a_tree_of_three_passes_is_found_again_and_is_the_same_on_one_thread(rare, tmp_path):
    data = ct.Dataset.from_pandas(rare.head(6000), target="y", leaf_bytes=1 << 18)
    tree = ct.CoresetTree(tmp_path / "a", size=400, passes=3).build(data, client=ct.ThreadExecutor(2))
    again = ct.CoresetTree.open(tmp_path / "a").build(data)
    assert again.summary_.n_made == 0
    other = ct.CoresetTree(tmp_path / "b", size=400, passes=3).build(data, client=ct.ThreadExecutor(1))
    assert (other.coreset().sample_weight == tree.coreset().sample_weight).all()
    assert (again.coreset().sample_weight == tree.coreset().sample_weight).all()


def test_three_classes_and_an_interrupt_before_the_last_pass(rare, tmp_path):
    frame = rare.head(6000).assign(y=np.digitize(rare["x0"].head(6000), [-1, 1]))
    data = ct.Dataset.from_pandas(frame, target="y", leaf_bytes=1 << 18)

    def stop(stage, done, total):
        if stage == "refine" and done == 1:
            raise KeyboardInterrupt

    tree = ct.CoresetTree(tmp_path / "a", size=400, passes=3)
    with pytest.raises(KeyboardInterrupt):
        tree.build(data, client=ct.ThreadExecutor(1), progress=stop)
    assert not tree.is_built
    tree.build(data, client=ct.ThreadExecutor(1))
    whole = ct.CoresetTree(tmp_path / "b", size=400, passes=3).build(data, client=ct.ThreadExecutor(1))
    assert 0 < tree.summary_.n_made < whole.summary_.n_made
    assert (tree.coreset().sample_weight == whole.coreset().sample_weight).all()


@pytest.mark.parametrize("passes", [2, 3])
def test_the_number_of_blas_threads_changes_no_bit(rare, passes):
    data = ct.Dataset.from_pandas(rare.head(6000), target="y", leaf_bytes=1 << 18)
    found = []
    for limit in (1, 2):
        with threadpool_limits(limits=limit, user_api="blas"):
            tree = ct.CoresetTree(size=400, passes=passes).build(data, client=ct.ThreadExecutor(1))
            found.append((tree.name_, tree.coreset().sample_weight.tobytes()))
    assert found[0] == found[1]


def test_other_numbers_of_passes_are_refused():
    with pytest.raises(ConfigError, match="2 or 3"):
        ct.CoresetTree(passes=4)
