"""Newton steps on all rows: each takes one pass, squares the error, and never goes uphill.

A step is the refit of a sample whose slope and curvature were corrected to those of all rows, so that only the third
order comes from the sample; without a sample it is Newton's own. A step whose fall follows from the tally is taken
unseen. Any other is looked at in one more pass, which also sums the loss at halved steps, and the best place is taken.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from coretree.learn.certificate import RESOLUTION, Excess, excess_of, local_lasso, rise
from coretree.learn.curvature import CurvatureTally, Probe, hessian_of
from coretree.learn.margins import Float
from coretree.learn.penalised import Penalised, flattened, unflattened
from coretree.learn.two_points import at_least, from_two, worth_another

HALVINGS = 8
_FAR = 3.0  # Newton steps that a corrected refit may lie away, before it is not believed
_ROUNDS = 60

Look: TypeAlias = Callable[[Float, Float], tuple[Probe, CurvatureTally]]
"""One pass at theta (p, q), which also sums the loss at trials (m, p, q)."""


@dataclass(frozen=True, eq=False)
class SampleRows:
    """Weighted rows of the objective: X (m, p), y (m,), weights (m,)."""

    X: Float
    y: npt.NDArray[np.generic]
    weights: Float


@dataclass(frozen=True)
class PolishStep:
    """One step.

    Attributes
    ----------
    before : Excess
        At the place it started from, in the light of the steps after it.
    share : float
        How much of the proposed step was taken; 0: none, as nothing was lower.
    gate : {"proven", "measured", "converged"}
        Why it was taken: its fall follows from the tally, a further pass saw it, or there is nothing left to gain.
    """

    before: Excess
    share: float
    gate: Literal["proven", "measured", "converged"]

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON: the step, and what was known before it."""
        names = ("objective", "lower", "upper", "bounded", "estimate", "gradient_norm")
        return {"gate": self.gate, "share": self.share, **{name: getattr(self.before, name) for name in names}}


@dataclass(frozen=True, eq=False)
class Polished:
    """Where the steps led, how, and over which rows.

    Attributes
    ----------
    theta : ndarray, shape (p, q)
        The parameters.
    steps : tuple of PolishStep
    n_passes : int
        Passes over all rows that the steps took.
    unseen : mapping of label to rows
        Rows whose label the model does not know; they are not in the objective.
    """

    theta: Float
    steps: tuple[PolishStep, ...]
    n_passes: int
    unseen: Mapping[Any, int] = field(default_factory=dict)

    def __repr__(self) -> str:
        steps = ", ".join(f"{step.gate} at {step.before.objective:.9g}" for step in self.steps)
        unseen = ", ".join(f"{label!r} ({n:,})" for label, n in self.unseen.items())
        left = f"; rows left out, as the model does not know their labels: {unseen}" if unseen else ""
        return f"Polished(passes: {self.n_passes}; steps from objectives: {steps}{left})"

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        unseen = {str(label): n for label, n in self.unseen.items()}
        return {"n_passes": self.n_passes, "steps": [step.to_dict() for step in self.steps], "unseen": unseen}


def descend(look: Look, objective: Penalised, sample: SampleRows | None, passes: int = 1) -> Polished:
    """Polish the parameters of an objective.

    Parameters
    ----------
    look : callable
        Makes one pass over all rows.
    objective : Penalised
        With the place to start from.
    sample : SampleRows, optional
        A weighted sample of the rows.
    passes : int
        Steps wanted. Each costs one pass; one more where its fall is not proven.

    Returns
    -------
    Polished
        F there is never higher than at the start, up to the rounding of F.
    """
    theta, steps, n_passes = objective.theta, list[PolishStep](), 0
    seen: tuple[Probe, CurvatureTally] | None = None
    for _ in range(passes):
        if seen is None:
            seen, n_passes = look(theta, _no_trials(theta)), n_passes + 1
        probe, tally = seen
        found = excess_of(objective, probe, tally)
        # in each turn at most one of these is known beforehand: the tally at the place the step leads to
        seen = None
        if found.estimate <= RESOLUTION * abs(found.objective):
            steps.append(PolishStep(found, 0.0, "converged"))
            break
        new = proposal(objective, probe, tally, found, sample)
        if proven(objective, probe, tally, new):
            theta = new
            steps.append(PolishStep(found, 1.0, "proven"))
            continue
        shares, trials = _trials(theta, new, found)
        after, n_passes = look(new, trials), n_passes + 1
        theta, share = _lowest(objective, found, after, theta, new, shares, trials)
        steps.append(PolishStep(found, share, "measured"))
        if share == 0:
            break
        seen = after if theta is new else None
    return Polished(theta, _looking_back(steps), n_passes)


def certified(look: Look, objective: Penalised, sample: SampleRows | None, passes: int = 2) -> tuple[Excess, Excess]:
    """What one pass says of the objective's own parameters; a second one, where too little, looks where a step leads.

    Parameters
    ----------
    look, objective, sample
        As in :func:`descend`.
    passes : int
        With 1, there is no second one.

    Returns
    -------
    (Excess, Excess)
        From all passes, and from the first one alone.
    """
    theta = objective.theta
    probe, tally = look(theta, _no_trials(theta))
    found = excess_of(objective, probe, tally)
    if passes < 2 or not worth_another(found):
        return found, found
    new = proposal(objective, probe, tally, found, sample)
    # a step that may go too far is looked at in between, too: what is lower there is a bound from below
    trials = _no_trials(theta) if proven(objective, probe, tally, new) else _trials(theta, new, found)[1]
    probe, tally = look(new, trials)
    both = from_two(found, excess_of(objective, probe, tally)) if tally.finite else found
    values = [loss + objective.penalty(at, tally.weight) for loss, at in zip(tally.trials, trials, strict=True)]
    lowest = min(filter(np.isfinite, values), default=np.inf)
    return (at_least(both, float(lowest)) if np.isfinite(lowest) else both), found


def proposal(
    objective: Penalised, probe: Probe, tally: CurvatureTally, found: Excess, sample: SampleRows | None
) -> Float:
    """Where the next step leads, (p, q)."""
    newton = probe.theta + found.step
    if sample is None:
        return newton
    l2, l1 = objective.penalties(tally.weight)
    root = np.kron(np.eye(probe.theta.shape[1]), probe.metric.root)
    hessian = root @ tally.hessian @ root.T
    g, H = _derivatives(probe, probe.theta, sample)
    whole = hessian + np.diag(l2)
    with np.errstate(over="ignore", invalid="ignore"):  # a correction that is not convex may have no minimum
        refit = _minimum(probe, sample, (l2, l1), root @ tally.gradient - g, hessian - H)
        away, near = (float(u @ whole @ u) for u in (flattened(refit - probe.theta), flattened(found.step)))
    return refit if np.isfinite(away) and away <= _FAR**2 * near else newton


def proven(objective: Penalised, probe: Probe, tally: CurvatureTally, theta: Float) -> bool:
    """Whether the tally alone proves that F is lower at ``theta``."""
    step = flattened(theta - probe.theta)
    with np.errstate(over="ignore", invalid="ignore"):
        bound = rise(probe, tally, *objective.penalties(tally.weight), step, np.ones(1))[0]
    return bool(bound < 0)


def _looking_back(steps: list[PolishStep]) -> tuple[PolishStep, ...]:
    """The steps, where each start knows what was found at the next one."""
    for i in range(len(steps) - 2, -1, -1):
        steps[i] = replace(steps[i], before=from_two(steps[i].before, steps[i + 1].before))
    return tuple(steps)


def _no_trials(theta: Float) -> Float:
    return np.zeros((0, *theta.shape))


def _trials(theta: Float, new: Float, found: Excess) -> tuple[Float, Float]:
    """Shares of the step to look at, and the places; the proven part of the Newton step comes last."""
    shares = 0.5 ** np.arange(1, HALVINGS + 1)
    places = [theta + share * (new - theta) for share in shares]
    return np.append(shares, found.safe), np.stack([*places, theta + found.safe * found.step])


def _lowest(
    objective: Penalised,
    found: Excess,
    after: tuple[Probe, CurvatureTally],
    theta: Float,
    new: Float,
    shares: Float,
    trials: Float,
) -> tuple[Float, float]:
    """The best place that was looked at, and its share of the step; the whole step wherever it goes down at all."""
    tally = after[1]
    floor = found.objective - RESOLUTION * abs(found.objective)
    if tally.value + objective.penalty(new, tally.weight) < floor:
        return new, 1.0
    values = [loss + objective.penalty(at, tally.weight) for loss, at in zip(tally.trials, trials, strict=True)]
    best = int(np.argmin(np.where(np.isfinite(values), values, np.inf)))
    return (trials[best], float(shares[best])) if values[best] < floor else (theta, 0.0)


def _derivatives(probe: Probe, theta: Float, sample: SampleRows) -> tuple[Float, Float]:
    """Gradient and Hessian of the sample's loss, flattened."""
    _, slope, curved = probe.loss.rows(sample.X @ theta, sample.y)
    w = sample.weights
    return (sample.X.T @ (w[:, None] * slope)).T.ravel(), hessian_of(sample.X, w[:, None, None] * curved)


def _minimum(probe: Probe, sample: SampleRows, penalties: tuple[Float, Float], tilt: Float, bend: Float) -> Float:
    """Minimum of the sample's objective + tilt'u + u'bend u/2, u = theta - start, by (proximal) Newton with halving."""
    (l2, l1), shape, start = penalties, probe.theta.shape, flattened(probe.theta)

    def value(flat: Float) -> float:
        u = flat - start
        loss = float(sample.weights @ probe.loss.value(sample.X @ unflattened(flat, shape), sample.y))
        return loss + float(l2 @ flat**2 / 2 + l1 @ np.abs(flat) + (tilt + bend @ u / 2) @ u)

    flat, now = start, value(start)
    for _ in range(_ROUNDS):
        g, H = _derivatives(probe, unflattened(flat, shape), sample)
        g = g + l2 * flat + tilt + bend @ (flat - start)
        step = _downhill(H + np.diag(l2) + bend, g, flat, l1)
        drop = -float(g @ step + l1 @ (np.abs(flat + step) - np.abs(flat)))
        if not np.isfinite(drop):
            break
        for share in 0.5 ** np.arange(31):
            there = value(flat + share * step)
            if there <= now - 1e-4 * share * drop:
                break
        else:
            break
        flat, now = flat + share * step, there
        if drop < 1e-15 * abs(now):
            break
    return unflattened(flat, shape)


def _downhill(H: Float, g: Float, at: Float, l1: Float) -> Float:
    """Newton step; where the corrected objective is not convex, by the size of its curvature."""
    size = np.abs(np.diag(H))
    scale = 1 / np.sqrt(np.maximum(size, 1e-12 * size.max()))
    values, vectors = np.linalg.eigh(H * scale * scale[:, None])
    values = np.maximum(np.abs(values), 1e-12 * np.abs(values).max())
    if l1.any():
        convex = (vectors * values) @ vectors.T / scale / scale[:, None]
        return local_lasso(convex, g, at, l1)[0]
    return np.asarray(-scale * (vectors @ ((vectors.T @ (scale * g)) / values)), np.float64)
