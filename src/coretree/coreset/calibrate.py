"""Calibration: tilt a sample's weights until it reproduces the exact totals of all the rows.

Constraints, in order: class counts (always); z = [g + h x'delta] x, to first order the coreset's gradient one Newton
step ahead of the pilot; class feature sums. Matching z leaves a third-order error, which is what buys the factor 100
to 100 000 over sampling alone. Directions of next to no variance are cut where positive weights cannot meet all.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from coretree.coreset.calibrated import Calibrated, Report, Solution, absent_classes, notes_on, report_on
from coretree.coreset.derivatives import Matrix, margins
from coretree.coreset.losses import loss_named
from coretree.coreset.quality import expected_excess, newton_direction
from coretree.coreset.rows import Float
from coretree.coreset.scores import PilotState
from coretree.coreset.tilt import Constraints, Spectrum, class_constraints, residual, spectrum, tilt
from coretree.coreset.totals import Totals

__all__ = ["Calibrated", "Report", "calibrate", "counts_only", "match_sums"]

_TRUNCATIONS = (1e-9, 1e-6, 1e-4, 1e-3, 1e-2, 0.05, 0.2, 0.5)
_SUM_TRUNCATIONS = (1e-9, 1e-3, 0.05)
_TRUNCATED_HARD = 1e-2  # beyond this the step is doubted: a thinned Hessian may have sent it astray


def calibrate(
    weights: npt.NDArray[np.float64],
    base: npt.NDArray[np.float64],
    X: Matrix,
    y: npt.NDArray[Any],
    state: PilotState,
    totals: Totals,
) -> Calibrated:
    """Calibrate a finished robust sample to the totals of the rows it stands for.

    Parameters
    ----------
    weights, base : ndarray, shape (m,)
        Design and base weights of a :class:`~coretree.coreset.priority.Sample`.
    X : ndarray, shape (m, d)
        The sample's rows, prepared as for ``totals``, the constant first.
    y : ndarray, shape (m,)
    state : PilotState
    totals : Totals
        Over exactly the rows that the sketch has seen: any node or window has its own.

    Returns
    -------
    Calibrated
        Weights that sum to ``totals.weight``; equal to ``base`` where every row was kept.

    Raises
    ------
    ValueError
        If there are no rows, or a weight is not positive and finite.

    Notes
    -----
    Cost m p^2 + p^3 for p constraints, times a few steps: 0.2 s at p = 160, m = 9600.
    """
    d, a = np.asarray(weights, np.float64), np.asarray(base, np.float64)
    _check(d)
    if not totals.finite:
        done = counts_only(d, a, y, totals)
        lost = "the totals are not finite numbers: a feature or the pilot is far too large; only class counts were met"
        return Calibrated(done.weights, replace(done.report, warnings=(*done.report.warnings, lost)))
    A, codes = np.asarray(X, np.float64), state.codes(y)
    delta, decrement = newton_direction(d, A, y, state, totals)
    if state.loss == "hinge":  # its h is a kernel, not the curvature that a decrement needs
        decrement = 0.0
    excess = expected_excess(d, a, A, y, state, totals)
    all_kept = not (d > a).any()
    notes = notes_on(codes, totals, state, decrement, all_kept)
    if all_kept:
        return Calibrated(a.copy(), report_on(a, a, Solution(a, ("all rows",), "none", 0, 0, 0), 0, decrement, notes))
    found = _best(d, a, A, y, state, totals, delta)
    if found is None:
        found = Solution(_by_class(d, codes, totals), ("counts",), "flat", 1.0, state.n_classes, 0.0)
    if len(found.groups) == 1:
        notes += ("only class counts could be met: the fit is no better than the plain sample; use more rows",)
    elif found.truncation > 1e-4:
        notes += (f"{found.truncation:.1%} of the gradient's variance could not be met; more rows would help",)
    w = _to_total(found.weights, totals.weight)
    return Calibrated(w, report_on(w, d, found, max(excess, decrement**2), decrement, notes))


def counts_only(
    weights: npt.NDArray[np.float64], base: npt.NDArray[np.float64], y: npt.NDArray[Any], totals: Totals
) -> Calibrated:
    """Rescale each class of a balanced or uniform sample to its exact total.

    Parameters
    ----------
    weights, base : ndarray, shape (m,)
    y : ndarray, shape (m,)
        Class codes; ignored where ``totals`` has a single count (regression).
    totals : Totals

    Returns
    -------
    Calibrated

    Examples
    --------
    >>> t = Totals(6, 6.0, np.array([4.0, 2.0]), np.zeros((2, 1)), 0.0, np.zeros(1), None)
    >>> counts_only(np.array([3.0, 3.0, 1.0]), np.ones(3), np.array([0, 0, 1]), t).weights
    array([2., 2., 2.])
    """
    d, a = np.asarray(weights, np.float64), np.asarray(base, np.float64)
    _check(d)
    K = len(totals.counts)
    codes = np.zeros(len(d), np.intp) if K == 1 else np.asarray(y).astype(np.intp)
    notes = absent_classes(codes, totals)
    if not (d > a).any():
        return Calibrated(a.copy(), report_on(a, a, Solution(a, ("all rows",), "none", 0, 0, 0), 0, 0, notes))
    w = _to_total(_by_class(d, codes, totals), totals.weight)
    return Calibrated(w, report_on(w, d, Solution(w, ("counts",), "flat", 0, K, 0), None, 0, notes))


def match_sums(
    weights: npt.NDArray[np.float64],
    base: npt.NDArray[np.float64],
    X: Matrix,
    y: npt.NDArray[Any],
    totals: Totals,
) -> Calibrated:
    """Calibrate a sample to class counts and class feature sums alone: what a single pass without a pilot knows.

    Parameters
    ----------
    weights, base : ndarray, shape (m,)
    X : ndarray, shape (m, d)
        The columns that ``totals.sums`` sums, the constant first.
    y : ndarray, shape (m,)
        Class codes; ignored where ``totals`` has a single count (regression).
    totals : Totals
        Of which the counts and the sums are used.
    """
    done = counts_only(weights, base, y, totals)
    d, a = done.weights, np.asarray(base, np.float64)
    if done.report.groups == ("all rows",) or not np.isfinite(totals.sums).all():
        return done
    K = len(totals.counts)
    codes = np.zeros(len(d), np.intp) if K == 1 else np.asarray(y).astype(np.intp)
    free = np.maximum(d - a, 0.0)
    q = free + 0.1 * free.mean() if free.any() else np.ones(len(d))
    q = q * (d.sum() / (d @ q))
    first = class_constraints(codes, totals.counts, d * q)
    found = Solution(d, ("counts",), "flat", 0.0, K, 0.0)
    found = _with_sums(d, q, first, np.asarray(X, np.float64), codes, totals, found)
    w = _to_total(found.weights, totals.weight)
    return Calibrated(w, report_on(w, np.asarray(weights, np.float64), found, None, 0, done.report.warnings))


def _best(
    d: Float, a: Float, A: Float, y: npt.NDArray[Any], state: PilotState, totals: Totals, delta: Float
) -> Solution | None:
    """Meet the gradient one step ahead; where that cannot be met or hardly, the gradient alone if it does better."""
    codes = state.codes(y)
    hinge = state.loss in ("hinge", "smooth_hinge")
    still = np.zeros_like(delta)
    steps = [still] if hinge or totals.hessian is None or not delta.any() else [delta, still]
    best: Solution | None = None
    for step in steps:
        met = _ladder(d, a, codes, totals.counts, _gradient_columns(A, y, state, totals, step))
        if met is None:
            continue
        found, q, constraints = met
        if not hinge and len(found.groups) > 1:  # by now the columns of the gradient are given back
            found = _with_sums(d, q, constraints, A, codes, totals, found)
        if best is None or found.truncation < best.truncation:
            best = found
        if best.truncation <= _TRUNCATED_HARD:
            break
    return best


def _ladder(
    d: Float,
    a: Float,
    codes: npt.NDArray[np.intp],
    counts: Float,
    ahead: tuple[str, Float, Float],
) -> tuple[Solution, Float, Constraints] | None:
    """Meet counts and as much of the gradient as can be met; also the metric and the constraints met."""
    design = np.maximum(d - a, 0.0)
    metrics = {"design": design + 0.1 * design.mean(), "flat": np.ones(len(d))}
    rungs: dict[str, tuple[Float, Constraints, Spectrum]] = {}
    tried: set[tuple[str, int]] = set()
    for truncation in (*_TRUNCATIONS, 1.0):
        for metric, free in metrics.items():
            if metric not in rungs:  # most often the first one will do
                rungs[metric] = _rung(d, free * (d.sum() / (d @ free)), codes, counts, ahead)
            q, first, rest = rungs[metric]
            r = rest.kept(truncation, len(d) // 2 - len(first.target)) if truncation < 1 else 0
            if (metric, r) in tried:
                continue
            tried.add((metric, r))
            constraints = rest.extend(first, r)
            w = tilt(d, q, constraints)
            if w is None:
                continue
            groups = ("counts", ahead[0]) if r else ("counts",)
            left = 1.0 - float(rest.variances[:r].sum()) / max(float(rest.variances.sum()), 1e-300)
            miss = residual(w, q, d, constraints)
            # round-off below the first rung is no truncation
            found = Solution(w, groups, metric, left if left > _TRUNCATIONS[0] else 0.0, len(constraints.target), miss)
            return found, q, constraints
    return None


def _rung(
    d: Float, q: Float, codes: npt.NDArray[np.intp], counts: Float, ahead: tuple[str, Float, Float]
) -> tuple[Float, Constraints, Spectrum]:
    """Metric, class constraints, and the principal directions of the gradient columns beyond them."""
    first = class_constraints(codes, counts, d * q)
    return q, first, spectrum(ahead[1], ahead[2], first, d * q)


def _with_sums(
    d: Float, q: Float, earlier: Constraints, A: Float, codes: npt.NDArray[np.intp], totals: Totals, found: Solution
) -> Solution:
    """Add the class feature sums while there are four rows a constraint; they halve the error at another penalty."""
    room, present = len(d) // 4 - len(earlier.target), np.unique(codes)
    if room <= 0 or min(len(present) * (A.shape[1] - 1), len(d)) > room:
        return found
    more = spectrum(*_sum_columns(A, codes, present, totals), earlier, d * q)
    tried = 0
    for truncation in _SUM_TRUNCATIONS:
        r = more.kept(truncation, room)
        if r in (0, tried):
            continue
        tried = r
        constraints = more.extend(earlier, r)
        w = tilt(d, q, constraints)
        if w is not None:
            groups = (*found.groups, "class sums")
            miss = residual(w, q, d, constraints)
            return Solution(w, groups, found.metric, found.truncation, len(constraints.target), miss)
    return found


def _gradient_columns(
    A: Float, y: npt.NDArray[Any], state: PilotState, totals: Totals, delta: Float
) -> tuple[str, Float, Float]:
    """Name, columns (m, p) and target (p,) of the gradient ahead; of the gradient where no step can be trusted."""
    kind, z = loss_named(state.loss), margins(A, state.theta)
    moved = margins(A, delta)
    softmax = kind.kind == "multiclass"
    target = totals.gradient.copy()
    if totals.hessian is not None:
        target += totals.hessian @ delta.ravel()
    name = "gradient ahead" if delta.any() else "gradient"
    if not softmax:
        return name, A * (kind.slope(z, y) + kind.curvature(z, y) * moved)[:, None], target
    codes = state.codes(y)
    r = kind.slope(z, codes)
    p = r.copy()
    p[np.arange(len(p)), codes] += 1
    r += p * (moved - (p * moved).sum(axis=1, keepdims=True))
    return name, (r[:, :, None] * A[:, None, :]).reshape(len(A), -1), target


def _sum_columns(
    A: Float, codes: npt.NDArray[np.intp], present: npt.NDArray[np.intp], totals: Totals
) -> tuple[Float, Float]:
    """Columns and targets of the feature sums of the classes that the sample holds."""
    m, p = len(A), A.shape[1] - 1
    columns = np.empty((len(present) * p, m)).T  # column-major, as the features are
    for k, c in enumerate(present.tolist()):
        np.multiply(A[:, 1:], (codes == c)[:, None], out=columns[:, k * p : (k + 1) * p])
    return columns, totals.sums[present, 1:].ravel()


def _by_class(d: Float, codes: npt.NDArray[np.intp], totals: Totals) -> Float:
    """Rescale each class to its total; a class that the totals lack keeps its weights."""
    held = np.bincount(codes, d, minlength=len(totals.counts))
    factor = np.where((held > 0) & (totals.counts > 0), totals.counts / np.where(held > 0, held, 1.0), 1.0)
    return np.asarray(d * factor[codes], np.float64)


def _to_total(w: Float, total: float) -> Float:
    """Rescale to the total; where that is round-off only, no bit is touched, so that calibrating twice changes none."""
    factor = total / float(w.sum()) if total > 0 else 1.0
    return w if abs(factor - 1.0) < 1e-12 else w * factor


def _check(d: Float) -> None:
    """Refuse weights that nothing can be made of."""
    bad = ~(np.isfinite(d) & (d > 0))
    if not len(d) or bad.any():
        what = f"row {int(np.argmax(bad))} has {d[np.argmax(bad)]}" if len(d) else "there are no rows"
        raise ValueError(f"calibrate: at least one row and positive, finite weights are needed; {what}")
