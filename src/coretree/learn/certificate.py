"""How far parameters are from the best ones: a lower and an upper bound, both proven, and a sharp estimate.

F(theta) = sum w loss(x'theta, y) + 1/2 theta'P theta + l1 |theta|, with the tally of one pass at theta. In a ball of
radius rho (in the metric) a row whose rate is c keeps at least the share k1 of its curvature in the slope and k0 in the
value; A1 and A0 are the Hessians made of these shares. If the ball that A1 implies lies inside the assumed one, then a
minimiser is in it, and F(theta) - min F <= g'A0^-1 g / 4 + e, where e is what an L1 multiplier leaves over (own
derivation; control of the curvature as in Bach 2010, Electronic Journal of Statistics 4:384). Growth bounds the other
way: along the Newton step F provably falls by ``lower``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.linalg import eigh

from coretree.learn.curvature import CurvatureTally, Probe
from coretree.learn.margins import Float
from coretree.learn.penalised import Penalised, flattened, unflattened

RESOLUTION = 1e-12  # of the objective: differences below this share are rounding
_SINGULAR = 1e-12  # eigenvalues below this share (times their number) of the largest: no row and no penalty is felt
_HELD = 1e-10  # least share of curvature, smallest over largest, that may hold a ball
_ROUNDING = 1e-15  # of a sum's terms
_GRID = 200


@dataclass(frozen=True, eq=False)
class Excess:
    """How much higher the objective is than at its best parameters, all in units of the objective.

    Attributes
    ----------
    objective : float
        F at the model, exact.
    lower, upper : float
        Proven bounds of the excess F - min F.
    estimate : float
        Half the squared Newton decrement: exact for least squares without L1, sharp near the optimum for the others.
        Where a second place is known (`two_points.from_two`), the fall to it and the estimate there.
    bounded : bool
        Whether ``upper`` says more than that F is not negative.
    gradient_norm : float
        Length of the gradient in prepared features, the L1 penalty's best subgradient included; 0 at the optimum.
    redrawn : float or None
        Yardstick for logistic and softmax: by how much refitting on as many new rows would move the objective, an
        estimate that takes the model for true. Other losses do not carry their own noise level.
    step : ndarray, shape (p, q)
        Newton step (with L1: the proximal one).
    safe : float
        Share of the step along which F provably falls the most; 0 where nothing is proven.
    """

    objective: float
    lower: float
    upper: float
    estimate: float
    bounded: bool
    gradient_norm: float
    redrawn: float | None
    step: Float
    safe: float


@dataclass(frozen=True, eq=False)
class _Local:
    """The objective around theta: penalties, gradient and Hessian in whitened coordinates."""

    root: Float
    inverse: Float
    flat: Float
    l2: Float
    l1: Float
    P: Float
    g: Float
    H: Float
    values: Float
    vectors: Float
    seen: npt.NDArray[np.bool_]


def excess_of(objective: Penalised, probe: Probe, tally: CurvatureTally) -> Excess:
    """Bounds and estimate from one pass.

    Parameters
    ----------
    objective : Penalised
    probe, tally
        The pass at ``probe.theta``; where that is the estimator's own place, what lies outside is counted too.

    Returns
    -------
    Excess

    Examples
    --------
    >>> from sklearn.linear_model import Ridge
    >>> from coretree.learn.curvature import curvature_tally, no_metric, probe_at
    >>> from coretree.learn.penalised import penalised
    >>> X, y = np.array([[0.0], [1.0], [2.0]]), np.array([0.0, 1.0, 1.0])
    >>> objective = penalised(Ridge(alpha=1.0).fit(X, y))
    >>> probe = probe_at(objective.loss, 0 * objective.theta, no_metric(2))  # how far is the zero model?
    >>> found = excess_of(objective, probe, curvature_tally(probe, objective.design(X), y))
    >>> round(found.lower, 9) == round(found.upper, 9) == round(found.estimate, 9)
    True
    """
    l2, l1 = objective.penalties(tally.weight)
    outside = objective.outside if probe.theta is objective.theta else 0.0
    value = tally.value + objective.penalty(probe.theta, tally.weight) + outside
    at = _local(probe, tally, l2, l1)
    step, multiplier, left = _newton(at, probe.loss.name == "squared")
    white = at.root.T @ step
    falls = -(at.g @ white + white @ at.H @ white / 2 + l1 @ (np.abs(at.flat + step) - np.abs(at.flat)))
    lower, safe = _growth(probe, tally, at, step)
    g = at.g + at.inverse @ multiplier
    upper = _ball(probe, tally, at, g, left)
    # the bounds meet where they are exact: one rounding must not part them the wrong way
    upper = value if upper is None else min(value, max(upper, lower) + outside)
    floor = RESOLUTION * abs(value)
    return Excess(
        value,
        _above(floor, lower + outside),
        max(upper, floor),
        _above(floor, float(falls) + outside),
        bool(upper < value),
        _gradient_norm(at),
        _redrawn(at, tally) if probe.loss.name in ("logistic", "softmax") else None,
        unflattened(step, probe.theta.shape),
        safe,
    )


def rise(probe: Probe, tally: CurvatureTally, l2: Float, l1: Float, step: Float, shares: Float) -> Float:
    """Proven upper bound of F(theta + s step) - F(theta) for shares s; infinite for the squared hinge.

    ``step`` is flattened. Rows outside the hinge's margin may wake up, so that no curvature here bounds its growth.
    """
    if probe.loss.kink:
        return np.full(len(shares), np.inf)
    flat, q = flattened(probe.theta), probe.theta.shape[1]
    white = _by_margin(probe.metric.root, q).T @ step
    length = white @ white
    held = np.maximum(np.einsum("i,jik,k->j", white, tally.curvature, white), 0.0)
    held += 1e-15 * tally.rows * tally.rate**2 * length  # rounding can grow as fast as curvature does
    curve = kept_in_value(np.outer(shares, -np.sqrt(length) * tally.rate)) @ held + l2 @ step**2 / 2
    slope = tally.gradient @ white + (l2 * flat) @ step
    return np.asarray(
        shares * slope + shares**2 * curve + (np.abs(flat + np.outer(shares, step)) - np.abs(flat)) @ l1, np.float64
    )


def kept_in_value(x: Float) -> Float:
    """Integral of (1 - t) exp(-t x) over [0, 1]: rounded down for x > 0 (what is kept), up for x < 0 (what may grow).

    Examples
    --------
    >>> kept_in_value(np.array([0.0, 1.0, -1.0])).round(6).tolist()
    [0.5, 0.367879, 0.718282]
    """
    near, x = np.abs(x) < 1e-3, np.maximum(x, -700.0)
    v = np.where(near, 1.0, x)
    return np.where(near, 0.5 - x / 6 + 5e-8 * (x < 0), (np.expm1(-v) + v) / v / v)


def kept(x: Float, kink: bool) -> tuple[Float, Float]:
    """Shares (k1, k0) of curvature that are sure to stay in the slope and in the value; x = radius times rate."""
    if kink:  # all of it until the slack is used up
        f = 1 / np.maximum(x, 1.0)
        return f, f - f * f / 2
    return np.where(x < 1e-3, 1 - x / 2, -np.expm1(-x) / np.maximum(x, 1e-3)), kept_in_value(x)


def local_lasso(H: Float, g: Float, at: Float, l1: Float, sweeps: int = 500) -> tuple[Float, Float]:
    """Minimise g'u + u'Hu/2 + sum l1 |at + u| by coordinate descent; returns u, and a multiplier |s| <= l1.

    Examples
    --------
    >>> u, s = local_lasso(np.eye(2), np.array([-3.0, 0.5]), np.zeros(2), np.ones(2))
    >>> u.tolist(), s.tolist()
    ([2.0, 0.0], [1.0, -0.5])
    """
    u, slope, diagonal = np.zeros_like(g), g.copy(), np.diag(H)
    coordinates = np.flatnonzero(diagonal > 0)
    for _ in range(sweeps):
        largest = 0.0
        for j in coordinates:
            v = at[j] + u[j] - slope[j] / diagonal[j]
            new = math.copysign(max(abs(v) - l1[j] / diagonal[j], 0.0), v) - at[j]
            move = new - u[j]
            if move:
                slope, u[j] = slope + H[:, j] * move, new
                largest = max(largest, abs(move) * math.sqrt(diagonal[j]))
        if largest <= 1e-13 * math.sqrt(max(float(u @ H @ u), np.finfo(np.float64).tiny)):
            break
    return u, np.clip(-slope, -l1, l1)


def _local(probe: Probe, tally: CurvatureTally, l2: Float, l1: Float) -> _Local:
    q, flat = probe.theta.shape[1], flattened(probe.theta)
    root, inverse = _by_margin(probe.metric.root, q), _by_margin(probe.metric.inverse, q)
    P = (inverse * l2) @ inverse.T
    g, H = tally.gradient + inverse @ (l2 * flat), tally.hessian + P
    values, vectors = eigh(H)
    seen = values > _SINGULAR * len(values) * values[-1]  # along the others F is constant
    return _Local(root, inverse, flat, l2, l1, P, g, H, values, vectors, seen)


def _newton(at: _Local, exact: bool) -> tuple[Float, Float, float]:
    """Step (raw, flattened), L1 multiplier, and what the multiplier leaves over."""
    if at.l1.any():
        step, s = local_lasso(at.root @ at.H @ at.root.T, at.root @ at.g, at.flat, at.l1, 2000 if exact else 500)
        return step, s, max(float(at.l1 @ np.abs(at.flat) - s @ at.flat), 0.0)
    E = at.vectors[:, at.seen]
    white = -E @ ((E.T @ at.g) / at.values[at.seen])
    return at.inverse.T @ white, np.zeros_like(at.flat), 0.0


def _growth(probe: Probe, tally: CurvatureTally, at: _Local, step: Float) -> tuple[float, float]:
    """Fall of F that is proven along the Newton step, and the share of the step that attains it."""
    if probe.loss.kink:
        return 0.0, 0.0
    shares = np.geomspace(1e-5, 1, 120)
    found = rise(probe, tally, at.l2, at.l1, step, shares)
    best = float(found.min())
    if best >= 0:
        return 0.0, 0.0
    # the whole step wherever it is nearly as safe: it squares the error
    return -best, 1.0 if found[-1] < best / 2 else float(shares[found.argmin()])


def _ball(probe: Probe, tally: CurvatureTally, at: _Local, g: Float, left: float) -> float | None:
    """Upper bound from the least ball that is sure to hold a minimiser; None where there is none."""
    E, blind = at.vectors[:, at.seen], at.vectors[:, ~at.seen]
    if not at.seen.any():
        return None
    rounding = _ROUNDING * len(g) * (np.abs(blind).T @ (np.abs(at.inverse) @ tally.size))
    if (np.abs(blind.T @ g) > 1e-7 * np.linalg.norm(g) + rounding).any():
        return None  # F falls for ever along a direction without curvature
    h, P, rho = E.T @ g, E.T @ at.P @ E, 0.0
    stack = np.einsum("ia,jik,kb->jab", E, tally.curvature, E, optimize=True)
    grid = 1 + np.geomspace(1e-9, 1e4, _GRID)
    for _ in range(120):
        in_slope, in_value = kept(rho * tally.rate, probe.loss.kink)
        a1, U1 = eigh(np.tensordot(in_slope, stack, 1) + P)
        a0, U0 = eigh(np.tensordot(in_value, stack, 1) + P / 2)
        if min(a1[0] / a1[-1], a0[0] / a0[-1]) <= _HELD or not rho < 1e50:
            return None  # no curvature is left to hold the ball
        tau = grid / a1[0]  # each gives a valid radius
        pull = ((U1.T @ h) ** 2 / (np.outer(tau, a1) - 1)).sum(axis=1)
        radius = float(np.sqrt((tau * left + tau**2 / 4 * pull).min()))
        if radius <= rho:
            return float(((U0.T @ h) ** 2 / a0).sum() / 4 + left)
        rho = 1.02 * radius
    return None


def _gradient_norm(at: _Local) -> float:
    g = at.root @ at.g
    push = np.where(at.flat != 0, g + at.l1 * np.sign(at.flat), np.sign(g) * np.maximum(np.abs(g) - at.l1, 0.0))
    return float(np.linalg.norm(push))


def _redrawn(at: _Local, tally: CurvatureTally) -> float:
    E = at.vectors[:, at.seen]
    return float(np.einsum("ia,ik,ka->a", E, tally.hessian, E, optimize=True) @ (1 / at.values[at.seen]) / 2)


def _by_margin(block: Float, q: int) -> Float:
    """The same block for each of the q margins."""
    return np.asarray(np.kron(np.eye(q), block), np.float64)


def _above(floor: float, value: float) -> float:
    """Zero for what is below the resolution of the objective."""
    return value if value > floor else 0.0
