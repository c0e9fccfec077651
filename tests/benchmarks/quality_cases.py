"""Every data set and family of the quality benchmark, with the bars it is held against."""

from __future__ import annotations

from benchmarks import quality_data as data
from benchmarks.quality_bars import BALANCED, LEVERAGE, ONE, OURS, THREE, UNIFORM, Bar, Case
from benchmarks.quality_boosting import Boosting
from benchmarks.quality_clusters import Clusters, Mixtures
from benchmarks.quality_cost import Cost
from benchmarks.quality_exact import MODELS, LeastSquares
from benchmarks.quality_linear import HINGE, POISSON, SQUARED_HINGE, Linear

REAL_CLASSES = ("shuttle", "covtype_20k", "letter")
SWEEP = (0.5, 1, 2.5, 5)
ALL = (OURS, THREE, ONE, UNIFORM, BALANCED, LEVERAGE)
PLAIN = (OURS, UNIFORM, BALANCED, LEVERAGE)
WITHOUT_ONE = (OURS, THREE, UNIFORM, BALANCED, LEVERAGE)


def at_most(limit: float, method: str = OURS, metric: str = "excess", statistic: str = "median", **more: object) -> Bar:
    """A statistic over seeds of a method's numbers has a limit."""
    return Bar(f"{method}: {statistic} {metric}", "<=", limit, method, metric, statistic=statistic, **more)  # type: ignore[arg-type]


def times_below_uniform(factor: float, method: str = OURS, metric: str = "excess") -> Bar:
    """Uniform's median is so many times as large."""
    return Bar(f"{UNIFORM}'s {metric} / that of {method}", ">=", factor, UNIFORM, metric, over=method)


def times_shuffled(case: str) -> tuple[Bar, ...]:
    """At most ten times the excess of the same rows in random order, and no failure."""
    line = "excess / that of the same rows shuffled"
    return Bar(line, "<=", 10, over=OURS, base=case), at_most(1e-2, statistic="worst")


GATE_FIRES = Bar("the report warns or gives something up", ">=", 1, metric="gate", statistic="worst")
NO_GATE = at_most(0, metric="gate")
# S + delta bounds the cost in exact arithmetic; sums of squares round
CERTIFICATE = at_most(1e-9, metric="cost / certificate - 1", statistic="worst")
KMEANS = (
    at_most(0.05, metric="excess cost"),
    at_most(0.08, metric="excess cost", statistic="worst"),
    CERTIFICATE,
)
HARD = (
    at_most(1e-3, metric="excess cost"),
    CERTIFICATE,
    Bar("negative control: uniform's excess cost", ">=", 100, UNIFORM, "excess cost"),
)
GAP = (Bar("MSE gap / uniform's", "<=", 0.75, metric="MSE gap", over=UNIFORM),)
RARE = (at_most(0.02, metric="AUC lost"), at_most(1.05, metric="log loss / full"))
LOG_LOSS = (Bar("log loss / uniform's", "<=", 1.05, metric="log loss", over=UNIFORM),)

_LINEAR: tuple[Case, ...] = (
    Linear(
        "normal features", "Logistic, benign", data.gauss,
        (at_most(1e-5), times_below_uniform(500), at_most(1e-6, THREE), times_below_uniform(1.3, ONE), NO_GATE),
        rows=200_000, methods=ALL, sweep=SWEEP,
    ),
    Linear(
        "make_classification", "Logistic, benign", data.clusters_of_classes,
        (at_most(1e-5), times_below_uniform(500), at_most(1e-6, THREE), times_below_uniform(1.3, ONE)),
        rows=200_000, methods=ALL,
    ),
    Linear(
        "heavy tails, 1 %", "Logistic, rare positives", data.heavy(0.01),
        (at_most(1e-3), times_below_uniform(200), at_most(1e-6, THREE), times_below_uniform(8, ONE)),
        methods=ALL, sweep=SWEEP,
    ),
    Linear(
        "heavy tails, 0.1 %", "Logistic, rare positives", data.heavy(0.001),
        (at_most(1e-3), times_below_uniform(200), at_most(1e-6, THREE), times_below_uniform(8, ONE)),
        methods=ALL, sweep=SWEEP,
    ),
    Linear(
        "near-separable, 0.9 %", "Logistic, rare positives", data.near_separable,
        (at_most(5e-3), at_most(1e-4, THREE)), methods=WITHOUT_ONE, sweep=SWEEP,
    ),
    Linear(
        "one-hot, 6 %", "Logistic, wide", data.one_hot, (at_most(1e-3), times_below_uniform(100)),
        rows_a_parameter=30, methods=WITHOUT_ONE, sweep=SWEEP,
    ),
    Linear(
        "rare dummies", "Logistic, quasi-separated", data.rare_dummies,
        (at_most(10, metric="excess / pilot's", statistic="worst"), GATE_FIRES), rows=60_000, rows_a_parameter=30,
    ),
    *(
        Linear(
            name, "Multinomial", make, (at_most(5e-4), times_below_uniform(50)), rows_a_parameter=8,
            methods=WITHOUT_ONE if name == "covtype_20k" else PLAIN, sweep=SWEEP,
        )
        for name, make in (("ten classes", data.ten_classes), ("letter", "letter"), ("covtype_20k", "covtype_20k"))
    ),
    Linear("counts", "Poisson", data.counts, (at_most(1e-3), times_below_uniform(50)), POISSON, sweep=SWEEP),
    Linear(
        "squared hinge", "Linear SVM", data.clusters_of_classes, (at_most(1e-3), times_below_uniform(50)),
        SQUARED_HINGE, sweep=SWEEP,
    ),
    Linear(
        "hinge", "Linear SVM", data.clusters_of_classes, (at_most(5e-3), times_below_uniform(8)), HINGE, sweep=SWEEP
    ),
    *(
        Linear(f"{base}, by {what}", "Sorted rows", data.sorted_by(make, column), times_shuffled(base),
               rows=rows, methods=(OURS, UNIFORM))
        for base, make, rows in (
            ("normal features", data.gauss, 200_000), ("heavy tails, 1 %", data.heavy(0.01), 100_000)
        )
        for what, column in (("label", "y"), ("a feature", "x0"))
    ),
)  # fmt: skip

_OTHERS: tuple[Case, ...] = (
    Clusters("imbalanced, k = 50", "k-means", data.imbalanced, 50, KMEANS),
    Clusters("letter, k = 26", "k-means", "letter", 26, KMEANS, scale="standard"),
    Clusters("far outliers, k = 50", "k-means", data.far_outliers, 50, HARD),
    Clusters("geometric, k = 17", "k-means", data.geometric, 17, HARD),
    Mixtures("ten components", "Gaussian mixture", data.mixture, 10, (at_most(0.1, metric="nats lost"),)),
    *(
        Boosting(name, "Boosting, rare class", data.nonlinear_rare(strength), RARE, 2000, rows=160_000)
        for name, strength in (("nonlinear, 1 %, noisy", 0.5), ("nonlinear, 1 %, clear", 1.3))
    ),
    *(
        Boosting(name, "Boosted regression", make, GAP, 0.2, "regression", rows, iterations=100)
        for name, make, rows in (
            ("diamonds", "diamonds", 60_000), ("california_housing", "california_housing", 60_000),
            ("flights delay", data.flights_delay, 66_000), ("waves", data.waves, 40_000),
        )
    ),
    *(
        Boosting(f"{name}, {share:.0%}", "Boosting, many classes", make, LOG_LOSS, share, iterations=30)
        for name, make in (("seven classes", data.seven_classes), *((name, name) for name in REAL_CLASSES))
        for share in (0.05, 0.2)
    ),
    *(
        Cost(f"ten classes, d = 20, {what}", "Cost", data.ten_classes,
             (at_most(2, metric="pass 2 beyond reading / reading"),), objectives=objectives)
        for what, objectives in (("the usual sketches", "auto"), ("robust alone", "robust"))
    ),
)  # fmt: skip

_EXACT: tuple[Case, ...] = (
    LeastSquares(
        "collinear, means of 1e6", "Least squares", data.collinear,
        tuple(at_most(1e-7, metric=f"coefficient error, {name}", statistic="worst") for name in MODELS),
    ),
)  # fmt: skip

CASES: dict[str, Case] = {case.name: case for case in (*_EXACT, *_LINEAR, *_OTHERS)}
