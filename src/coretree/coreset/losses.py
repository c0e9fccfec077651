"""A loss is a convex function of the margin z = x'theta and the target, with its first two derivatives.

Every method takes ``z`` of any floating type and answers in that type; sums belong to the caller.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr

from coretree.errors import ConfigError

Margins: TypeAlias = npt.NDArray[Any]
Kind: TypeAlias = Literal["binary", "multiclass", "real"]

_LIMIT = 30.0  # the exponential of a log-link margin beyond this is a straight line
_FLOOR = 1e-12  # curvature: the square root of its inverse enters scores
_BANDWIDTH = 0.3  # width of the kernel that gives the hinge a curvature


class Loss(Protocol):
    """What pilot, scores and totals need to know of a loss."""

    @property
    def name(self) -> str:
        """Name that :func:`loss_named` understands."""

    @property
    def kind(self) -> Kind:
        """What the target is: 0/1, class codes, or a number."""

    def value(self, z: Margins, y: npt.NDArray[Any]) -> Margins:
        """Loss of each row, shape (n,)."""

    def slope(self, z: Margins, y: npt.NDArray[Any]) -> Margins:
        """Derivative in z, same shape as z."""

    def curvature(self, z: Margins, y: npt.NDArray[Any]) -> Margins:
        """Second derivative in z (softmax: its diagonal), same shape as z."""


@dataclass(frozen=True)
class Logistic:
    """log(1 + exp(z)) - y z for y in {0, 1}."""

    name: str = "logistic"
    kind: Kind = "binary"

    def value(self, z: Margins, y: npt.NDArray[Any]) -> Margins:
        """Loss of each row."""
        s = z * (1 - 2 * y.astype(z.dtype))
        return np.log1p(np.exp(-np.abs(s))) + np.maximum(s, 0)

    def slope(self, z: Margins, y: npt.NDArray[Any]) -> Margins:
        """Return p - y, from the side that does not cancel."""
        sign = 1 - 2 * y.astype(z.dtype)
        s = sign * z
        small = np.exp(-np.abs(s))  # numpy's exp runs in vector registers, scipy's expit does not
        return sign * np.where(s < 0, small, 1) / (1 + small)

    def curvature(self, z: Margins, y: npt.NDArray[Any]) -> Margins:  # noqa: ARG002
        """Return p (1 - p), at least 1e-12."""
        small = np.exp(-np.abs(z))
        return np.maximum(small / np.square(1 + small), z.dtype.type(_FLOOR))


@dataclass(frozen=True)
class Softmax:
    """log sum exp(z) - z[y] for class codes y; z has shape (n, K)."""

    name: str = "softmax"
    kind: Kind = "multiclass"

    def probabilities(self, z: Margins) -> Margins:
        """Class probabilities, shape (n, K)."""
        p = np.exp(z - z.max(axis=1, keepdims=True))
        p /= p.sum(axis=1, keepdims=True)
        return p

    def value(self, z: Margins, y: npt.NDArray[Any]) -> Margins:
        """Loss of each row, shape (n,)."""
        top = z.max(axis=1)
        return np.log(np.exp(z - top[:, None]).sum(axis=1)) + (top - z[np.arange(len(z)), y])

    def slope(self, z: Margins, y: npt.NDArray[Any]) -> Margins:
        """Return p - e_y."""
        p = self.probabilities(z)
        p[np.arange(len(z)), y] -= 1
        return p

    def curvature(self, z: Margins, y: npt.NDArray[Any]) -> Margins:  # noqa: ARG002
        """Diagonal p (1 - p), at least 1e-12."""
        p = self.probabilities(z)
        return np.maximum(p * (1 - p), z.dtype.type(_FLOOR))


@dataclass(frozen=True)
class Squared:
    """(z - y)^2 / 2."""

    name: str = "squared"
    kind: Kind = "real"

    def value(self, z: Margins, y: npt.NDArray[Any]) -> Margins:
        """Loss of each row."""
        return 0.5 * np.square(z - y.astype(z.dtype))

    def slope(self, z: Margins, y: npt.NDArray[Any]) -> Margins:
        """Return z - y."""
        return z - y.astype(z.dtype)

    def curvature(self, z: Margins, y: npt.NDArray[Any]) -> Margins:  # noqa: ARG002
        """One."""
        return np.ones_like(z)


@dataclass(frozen=True)
class SquaredHinge:
    """max(0, 1 - s z)^2 with s = 2 y - 1 for y in {0, 1}."""

    name: str = "squared_hinge"
    kind: Kind = "binary"

    def value(self, z: Margins, y: npt.NDArray[Any]) -> Margins:
        """Loss of each row."""
        return np.square(np.maximum(1 - _sign(z, y) * z, 0))

    def slope(self, z: Margins, y: npt.NDArray[Any]) -> Margins:
        """-2 s (1 - s z)+."""
        s = _sign(z, y)
        return -2 * s * np.maximum(1 - s * z, 0)

    def curvature(self, z: Margins, y: npt.NDArray[Any]) -> Margins:
        """2 inside the margin, 0 outside."""
        return 2 * (_sign(z, y) * z < 1).astype(z.dtype)


@dataclass(frozen=True)
class Hinge:
    """max(0, 1 - s z) with s = 2 y - 1 for y in {0, 1}; ``smooth`` convolves it with a Gaussian of width 0.3."""

    smooth: bool = False
    kind: Kind = "binary"

    @property
    def name(self) -> str:
        """``hinge`` or ``smooth_hinge``."""
        return "smooth_hinge" if self.smooth else "hinge"

    def value(self, z: Margins, y: npt.NDArray[Any]) -> Margins:
        """Loss of each row."""
        gap = 1 - _sign(z, y) * z
        if not self.smooth:
            return np.maximum(gap, 0)
        return gap * ndtr(gap / _BANDWIDTH) + _BANDWIDTH**2 * _kernel(gap)

    def slope(self, z: Margins, y: npt.NDArray[Any]) -> Margins:
        """-s inside the margin, 0 outside (smooth: -s times the Gaussian distribution function)."""
        s = _sign(z, y)
        gap = 1 - s * z
        return -s * (ndtr(gap / _BANDWIDTH) if self.smooth else (gap > 0).astype(z.dtype))

    def curvature(self, z: Margins, y: npt.NDArray[Any]) -> Margins:
        """Gaussian kernel of 1 - s z: the curvature of the smoothed loss, for scores and the pilot only."""
        return _kernel(1 - _sign(z, y) * z)


@dataclass(frozen=True)
class Tweedie:
    """Half the Tweedie deviance with log link, mean exp(z), power p in [1, 2] (1 is Poisson, 2 is gamma).

    Beyond |z| = 30 the loss goes on as a straight line, so it stays convex and finite.
    """

    power: float
    name: str
    kind: Kind = "real"

    def value(self, z: Margins, y: npt.NDArray[Any]) -> Margins:
        """Loss of each row; zero where exp(z) = y."""
        c, t = np.clip(z, -_LIMIT, _LIMIT), y.astype(z.dtype)
        safe = np.where(t > 0, t, 1)
        if self.power == 1:
            loss = np.exp(c) - t * c + np.where(t > 0, t * np.log(safe) - t, 0)
        elif self.power == 2:
            loss = c - np.log(safe) + t * np.exp(-c) - 1
        else:
            a, b = 1 - self.power, 2 - self.power
            loss = np.where(t > 0, safe**b, 0) / (a * b) - t * np.exp(a * c) / a + np.exp(b * c) / b
        return loss + self.slope(c, y) * (z - c)

    def slope(self, z: Margins, y: npt.NDArray[Any]) -> Margins:
        """exp((2 - p) z) - y exp((1 - p) z)."""
        c = np.clip(z, -_LIMIT, _LIMIT)
        return np.exp((2 - self.power) * c) - y.astype(z.dtype) * np.exp((1 - self.power) * c)

    def curvature(self, z: Margins, y: npt.NDArray[Any]) -> Margins:
        """(2 - p) exp((2 - p) z) + (p - 1) y exp((1 - p) z), at least 1e-12."""
        c, p = np.clip(z, -_LIMIT, _LIMIT), self.power
        h = (2 - p) * np.exp((2 - p) * c) + (p - 1) * y.astype(z.dtype) * np.exp((1 - p) * c)
        return np.maximum(h, z.dtype.type(_FLOOR))


def _sign(z: Margins, y: npt.NDArray[Any]) -> Margins:
    """Labels 0/1 as -1/+1."""
    return 2 * y.astype(z.dtype) - 1


def _kernel(gap: Margins) -> Margins:
    """Gaussian density of width 0.3."""
    return np.exp(-0.5 * np.square(gap / _BANDWIDTH)) / (_BANDWIDTH * np.sqrt(2 * np.pi)).astype(gap.dtype)


_NAMED: dict[str, Loss] = {
    "logistic": Logistic(),
    "softmax": Softmax(),
    "squared": Squared(),
    "squared_hinge": SquaredHinge(),
    "hinge": Hinge(),
    "smooth_hinge": Hinge(smooth=True),
    "poisson": Tweedie(1.0, "poisson"),
    "gamma": Tweedie(2.0, "gamma"),
}


def loss_named(name: str | Loss) -> Loss:
    """Return the loss of that name; ``tweedie:1.5`` gives the power after the colon. A loss is returned as it is.

    Raises
    ------
    ConfigError
        If there is no such loss, or if the power is outside [1, 2].

    Examples
    --------
    >>> loss = loss_named("tweedie:1.5")
    >>> float(loss.value(np.zeros(1), np.ones(1))[0])
    0.0
    """
    if not isinstance(name, str):
        return name
    if name in _NAMED:
        return _NAMED[name]
    head, _, power = name.partition(":")
    try:
        p = float(power) if head == "tweedie" else np.nan
    except ValueError:
        p = np.nan
    if not 1 <= p <= 2:
        raise ConfigError(f"loss: must be one of {', '.join(_NAMED)} or tweedie:p with p in [1, 2]; found {name!r}")
    return Tweedie(p, name)
