"""Bounds at one place from those at another: F(theta) - min F is the fall between the two, and what is left there.

A Newton step squares the error, so that the certificate where it leads is sharp even where the one at its start proves
nothing: the start was too far for the curvature seen there to hold a minimiser, its end is not. Both values of F are
exact, hence the fall is, and no assumption is added. Softmax gains the most: margins of all classes may fade at once.
"""

from __future__ import annotations

from dataclasses import replace

from coretree.learn.certificate import RESOLUTION, Excess

LOOSE = 4.0  # times the estimate, beyond which an upper bound is worth a second look
_SMALL = 1e-6  # of the objective: nobody asks how loose the bound of a smaller excess is


def worth_another(found: Excess) -> bool:
    """Whether a second place is likely to say more than the first one did."""
    return not found.bounded or found.upper > max(LOOSE * found.estimate, _SMALL * abs(found.objective))


def from_two(found: Excess, after: Excess) -> Excess:
    """Excess at one place, with what is known at another one.

    Parameters
    ----------
    found, after : Excess
        Of the same objective on the same rows. It does not matter which is lower.

    Returns
    -------
    Excess
        ``found`` with bounds that are never wider. The estimate is that of the place which is nearer the optimum.

    Notes
    -----
    Both sums of F are rounded; the resolution of the objective is added to either side of the fall.

    Examples
    --------
    >>> import numpy as np
    >>> far = Excess(12.0, 0.5, 12.0, 1.4, False, 3.0, None, np.zeros((1, 1)), 0.2)
    >>> near = Excess(10.1, 0.09, 0.11, 0.1, True, 0.1, None, np.zeros((1, 1)), 1.0)
    >>> both = from_two(far, near)
    >>> round(both.lower, 6), round(both.estimate, 6), round(both.upper, 6), both.bounded
    (1.99, 2.0, 2.01, True)
    """
    floor = RESOLUTION * max(abs(found.objective), abs(after.objective))
    fall = found.objective - after.objective
    lower = max(found.lower, fall + after.lower - floor)
    upper = min(found.upper, fall + after.upper + floor) if after.bounded else found.upper
    upper = max(upper, lower)  # they may meet, and part by a rounding
    estimate = fall + after.estimate if after.estimate < found.estimate else found.estimate
    return replace(
        found,
        lower=lower,
        upper=upper,
        bounded=found.bounded or after.bounded,
        estimate=min(max(estimate, lower), upper),
    )


def at_least(found: Excess, objective: float) -> Excess:
    """Excess at one place, with the objective at another one, of which no more is known."""
    lower = found.objective - objective - RESOLUTION * abs(found.objective)
    low = min(max(found.lower, lower), found.upper)
    return replace(found, lower=low, estimate=max(found.estimate, low))
