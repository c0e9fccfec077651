"""What is known of a fitted model on all rows of a data set, from one pass or two: bounds, and named estimates."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.cluster import BisectingKMeans, KMeans, MiniBatchKMeans

from coretree.data.dataset import Dataset
from coretree.errors import ConfigError, EmptyDataError
from coretree.learn.clustering import LloydTally
from coretree.learn.metrics import ClassificationTally
from coretree.learn.penalised import Penalised, penalised
from coretree.learn.polish import certified
from coretree.learn.prior_shift import PriorShift
from coretree.learn.threads import one_blas_thread
from coretree.run.build import Progress
from coretree.run.evaluate import Evaluation, evaluate_all
from coretree.run.full_pass import ClusterWork, FullPass, reading_for, summed
from coretree.run.unseen import listed

_Z = 1.959963984540054  # of a normal 95 % interval
_FAR = 0.1  # relative excess, beyond which an estimate is not worth a number


@dataclass(frozen=True, eq=False)
class Certificate:
    """What a pass over rows says about a model.

    Attributes
    ----------
    kind : {"objective", "clusters", "held-out"}
        Convex linear models: their objective against the best one on these rows. K-means: the cost of these rows.
        Every other model: its mean loss on these rows.
    measure : str
        What ``value`` is.
    value : float
        Exact on these rows.
    n_rows : int
        Rows that all of this is about.
    lower, upper : float or None
        Proven bounds of ``value`` minus its optimum on these rows, preparation frozen. ``upper`` equal to ``value``
        says only that no loss is negative; None where nothing is known.
    estimate : float or None
        Of the same difference: exact for least squares without L1; never a bound. After two passes it lies between
        the bounds.
    proven : bool
        Whether ``upper`` is a real bound.
    gradient_norm, newton_decrement : float or None
        Of the objective, in prepared features; the decrement is None with an L1 penalty.
    redrawn : float or None
        Estimate, for logistic regression: by how much refitting on as many newly drawn rows would move the objective.
    interval : (float, float) or None
        95 % confidence interval of the mean loss on rows like these; None where it is not known.
    uniform_gap : float or None
        Mean loss of the same estimator on a plain sample of as many rows, minus ``value``: positive where the
        coreset is better.
    unseen : mapping of label to rows
        Rows whose label the model does not know: counted here, and left out of everything else.
    statement : str
        All this in words.
    n_passes : int
        Passes over the rows that it took.
    seconds : float
        Wall time.
    """

    kind: str
    measure: str
    value: float
    n_rows: int
    lower: float | None = None
    upper: float | None = None
    estimate: float | None = None
    proven: bool = False
    gradient_norm: float | None = None
    newton_decrement: float | None = None
    redrawn: float | None = None
    interval: tuple[float, float] | None = None
    uniform_gap: float | None = None
    unseen: Mapping[Any, int] = field(default_factory=dict)
    statement: str = ""
    n_passes: int = 1
    seconds: float = 0.0

    def __repr__(self) -> str:
        return f"Certificate({self.statement})"

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        found = {f.name: getattr(self, f.name) for f in fields(self)}
        return {**found, "unseen": {str(label): n for label, n in self.unseen.items()}}


def certify(
    model: Any,
    data: Dataset,
    *,
    passes: int = 2,
    uniform: bool = True,
    client: Any = None,
    progress: Progress | None = None,
) -> Certificate:
    """Say how far a fitted model is from the best one on all rows of a data set, in one streaming pass or two.

    Logistic regression (any number of classes), the linear SVM with squared hinge (two classes), linear, ridge, lasso
    and elastic-net regression, and Poisson, gamma and Tweedie regression get proven bounds of their excess objective
    over the optimum on these rows; k-means its exact cost; every other model its mean loss with an interval.

    Parameters
    ----------
    model : CoresetClassifier or CoresetRegressor
        Fitted or loaded. A loaded one brings no coreset, and needs one pass more.
    data : Dataset
        Training rows, to learn what the coreset cost; held-out rows work too, with the optimum taken on them.
    passes : int
        1 or 2. A second pass is made only where the first one proves no upper bound, or one of more than four times
        the estimate: it looks where a Newton step leads, and the fall to there and what is left there bound the whole.
    uniform : bool
        For models without a known objective, fit the same estimator on a plain sample of as many rows of the model's
        tree and judge it as well.
    client, progress
        See ``CoresetTree.build``.

    Raises
    ------
    ConfigError
        ``class_weight`` is set, there are too many parameters, or ``passes`` is neither 1 nor 2.
    SchemaError, EmptyDataError, TargetError
        As in ``evaluate``: rows whose label the model does not know are counted (``unseen``), told in a
        ``DataWarning`` and left out; an error only where no other row is there.

    Examples
    --------
    >>> import pandas as pd
    >>> import coretree as ct
    >>> rng = np.random.default_rng(0)
    >>> frame = pd.DataFrame(rng.normal(size=(4000, 2)), columns=["a", "b"])
    >>> data = ct.Dataset.from_pandas(frame.assign(y=(frame["a"] + rng.logistic(size=4000) > 0)), target="y")
    >>> model = ct.CoresetClassifier(size=500).fit(data)
    >>> found = certify(model, data)
    >>> found.proven, found.lower <= found.upper < 1e-3 * found.value
    (True, True)
    """
    if passes not in (1, 2):
        raise ConfigError(f"passes={passes} must be 1 or 2: two places say all that bounds can. For more, ct.polish.")
    started = time.perf_counter()
    final = model.estimator_[-1]
    objective = penalised(final)
    with one_blas_thread():  # the same bits whatever the number of cores
        if objective is not None:
            found = _on_objective(model, objective, data, int(passes), client, progress)
        elif isinstance(final, KMeans | MiniBatchKMeans | BisectingKMeans):
            found = _on_clusters(model, data, client, progress)
        else:
            found = _held_out(model, data, uniform, client, progress)
    return replace(found, seconds=time.perf_counter() - started)


def _on_objective(
    model: Any, objective: Penalised, data: Dataset, passes: int, client: Any, progress: Progress | None
) -> Certificate:
    look = FullPass(model, objective, data, "certify", client, progress)
    found, first = certified(look, objective, look.sample, passes)
    F, l1 = found.objective, bool(objective.l1.any())
    exact = objective.loss.name == "squared" and not l1
    loss = objective.loss.name.replace("_", " ")
    text = f"The training objective ({loss} loss and penalty) on all {look.n_rows:,} rows is "
    if found.bounded:
        text += f"at most {_share(found.upper, F)} above the best that any parameters reach there (proven"
        text += "; " if found.upper == first.upper else ", by a second pass where a Newton step leads; "
        text += "exact" if exact else f"estimate {_share(found.estimate, F)}"
        if found.redrawn is not None and 0 < found.estimate < found.redrawn / 2:
            text += f"; redrawing the rows would move it about {_figures(found.redrawn / found.estimate)} times more"
        text += ")."
    else:
        far = found.estimate > _FAR / (1 + _FAR) * F
        text += "more than 10 %" if far else f"about {_share(found.estimate, F)}"
        text += f" above the best that any parameters reach there (an estimate; at least {_share(found.lower, F)} is "
        text += "proven). Too far for a proof: ct.polish(model, data) once."
    text += " It is about the objective, not about the error on new rows." + _left_out(look.unseen)
    return Certificate(
        "objective",
        f"{loss} loss and penalty, summed over rows",
        F,
        look.n_rows,
        found.lower,
        found.upper,
        found.estimate,
        found.bounded,
        found.gradient_norm,
        None if l1 else float(np.sqrt(2 * first.estimate)),
        found.redrawn,
        unseen=look.unseen,
        statement=text,
        n_passes=look.n_passes,
    )


def _left_out(unseen: Mapping[Any, int]) -> str:
    """Sentence about rows whose label the model does not know."""
    n = sum(unseen.values())
    return f" Left out: {n:,} rows with labels that the model does not know: {listed(unseen)}." if n else ""


def _share(excess: float, objective: float) -> str:
    """Excess relative to the optimum that it implies, in per cent."""
    best = objective - excess
    return _percent(excess / best) if best > 0 else "any amount"


def _on_clusters(model: Any, data: Dataset, client: Any, progress: Progress | None) -> Certificate:
    centers = np.asarray(model.estimator_[-1].cluster_centers_, np.float64)
    work = ClusterWork(reading_for(model, data, target=False), model.estimator_[:-1], centers)
    tally = summed(data, work, LloydTally.empty(*centers.shape), 8 * centers.size, "certify", client, progress)
    if tally.n_rows == 0:
        raise EmptyDataError(f"{data.scan.where}: no row is left after cleaning and splitting.")
    lower = max(tally.cost - tally.cost_after, 0.0)
    text = (
        f"The k-means cost of all {tally.n_rows:,} rows, each at its nearest centre, is {tally.cost:.6g} (exact). The "
        f"best cost is at least {_percent(lower / tally.cost if tally.cost else 0.0)} lower (proven: moving the "
        "centres to the means of their rows gains as much); how much lower is not known."
    )
    return Certificate("clusters", "squared distance to the nearest centre, summed", tally.cost, tally.n_rows,
                       lower, tally.cost, statement=text)  # fmt: skip


def _held_out(model: Any, data: Dataset, uniform: bool, client: Any, progress: Progress | None) -> Certificate:
    twin = _uniform_twin(model, client) if uniform else None
    models = {"model": model} if twin is None else {"model": model, "uniform": twin}
    judged = evaluate_all(models, data, client=client, progress=progress)
    measure, value, interval = _loss(judged["model"])
    final = model.estimator_[-1]
    n, name = judged["model"].n_rows, type(final.estimator if isinstance(final, PriorShift) else final).__name__
    text = f"The mean {measure} on {n:,} rows is {value:.4g}"
    if interval is not None:
        text += f" (95 % interval for rows like these: {interval[0]:.4g} to {interval[1]:.4g})"
    text += f". No bound against the best {name} on all rows is known."
    gap = None
    if twin is not None:
        gap = _loss(judged["uniform"])[1] - value
        text += (
            f" On a plain sample of as many rows ({len(model.coreset_):,}) the same estimator has "
            f"{abs(gap):.2g} {'more' if gap > 0 else 'less'} (one sample; measured, not bounded)."
        )
    unseen = judged["model"].unseen
    text += _left_out(unseen)
    return Certificate(
        "held-out", f"mean {measure}", value, n, interval=interval, uniform_gap=gap, unseen=unseen, statement=text
    )


def _uniform_twin(model: Any, client: Any) -> Any:
    """The same estimator on uniform rows of the same tree; None where there is no tree, or nothing to compare."""
    core, tree = getattr(model, "coreset_", None), getattr(model, "tree_", None)
    if core is None or tree is None or core.objective == "uniform":
        return None
    size = min(len(core), tree.root_.sketches["uniform"].capacity)
    plain = tree.coreset(size, objective="uniform")
    if plain.class_counts is not None and plain.y.nunique() < len(plain.class_counts):
        return None  # a class has no row in it
    seed = int(model.random_state)
    twin = type(model)(clone(model._estimator()), objective="uniform", random_state=seed, tree=tree, size=size)
    return twin.set_params(client=client).fit()


def _loss(found: Evaluation) -> tuple[str, float, tuple[float, float] | None]:
    """Name, mean and interval of the loss that a model is judged by."""
    tally = found.tally
    if not isinstance(tally, ClassificationTally):
        return "squared error", float(found.metrics["mse"]), tally.mse_interval()
    if tally.log_loss is not None:
        return "log loss", float(found.metrics["log_loss"]), tally.log_loss_interval()
    rate = 1 - float(found.metrics["accuracy"])
    return "error rate", rate, _wilson(rate, tally.n_rows) if tally.confusion.sum() == tally.n_rows else None


def _wilson(rate: float, n: int) -> tuple[float, float]:
    """Wilson's interval of a share among n rows of equal weight."""
    centre, spread = rate + _Z**2 / (2 * n), _Z * np.sqrt(rate * (1 - rate) / n + _Z**2 / (4 * n**2))
    return float((centre - spread) / (1 + _Z**2 / n)), float((centre + spread) / (1 + _Z**2 / n))


def _percent(share: float) -> str:
    return f"{_figures(100 * share)} %"


def _figures(value: float) -> str:
    """Two figures, without an exponent."""
    return np.format_float_positional(value, precision=2, fractional=False, trim="-")
