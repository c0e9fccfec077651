"""Losses of linear margins as a proof needs them: exact curvature, and the rate at which that curvature can fade."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from scipy.special import expit

from coretree.coreset.losses import Softmax, Tweedie, loss_named
from coretree.errors import TargetError

Float: TypeAlias = npt.NDArray[np.float64]
Rows: TypeAlias = tuple[Float, Float, Float]
"""Loss (n,), slope (n, q) and curvature (n, q, q) of each row."""


@dataclass(frozen=True, eq=False)
class MarginLoss:
    """A convex, non-negative loss of q margins.

    Attributes
    ----------
    name : str
        As in `coretree.coreset.losses.loss_named`.
    basis : ndarray, shape (K, q), optional
        Softmax only: scores of the K classes are ``basis @ margins``. Orthonormal columns that sum to zero leave out
        the common shift of all scores, which changes nothing.
    """

    name: str
    basis: Float | None = None

    @property
    def kink(self) -> bool:
        """Whether rows have curvature only while their margin is short (squared hinge)."""
        return self.name == "squared_hinge"

    def rows(self, Z: Float, y: npt.NDArray[np.generic]) -> Rows:
        """Value, slope and curvature of each row at margins Z (n, q); the curvature has no floor."""
        loss = loss_named(self.name)
        if self.basis is not None:
            return _softmax(Z, y.astype(np.intp), self.basis)
        z = Z[:, 0]
        if isinstance(loss, Tweedie):
            value, slope, curvature = _tweedie(z, y.astype(np.float64), loss.power)
        else:
            value, slope = loss.value(z, y), loss.slope(z, y)
            curvature = expit(z) * expit(-z) if self.name == "logistic" else loss.curvature(z, y)
        return value, slope[:, None], curvature[:, None, None]

    def value(self, Z: Float, y: npt.NDArray[np.generic]) -> Float:
        """Loss of each row alone."""
        if self.basis is not None:
            return np.asarray(Softmax().value(Z @ self.basis.T, y.astype(np.intp)), np.float64)
        loss = loss_named(self.name)
        if isinstance(loss, Tweedie):
            return self.rows(Z, y)[0]
        return np.asarray(loss.value(Z[:, 0], y), np.float64)

    def rates(self, reach: Float, slope: Float, curvature: Float) -> Float:
        """How fast the curvature of each row can fade when theta moves by one unit of the metric.

        ``reach`` (n,) is the most by which a margin moves then. Where |l'''| <= l'' it is the rate itself; scores of
        a softmax differ by up to root 2 as much; a row inside the hinge's margin keeps its curvature until its slack is
        used up; a square never loses any.
        """
        if self.name == "squared":
            return np.zeros_like(reach)
        if self.basis is not None:
            return np.asarray(np.sqrt(2.0) * reach, np.float64)
        if self.kink:
            slack = np.maximum(np.abs(slope[:, 0]) / 2, 1e-300)  # the slope is minus or plus twice the slack
            return np.where(curvature[:, 0, 0] > 0, reach / slack, 0.0)
        return reach

    def check(self, y: npt.NDArray[np.generic]) -> None:
        """Refuse targets for which the loss is not defined.

        Raises
        ------
        TargetError
            A negative target, or for gamma one that is not positive.
        """
        loss = loss_named(self.name)
        if not isinstance(loss, Tweedie) or not len(y):
            return
        least = float(np.min(y.astype(np.float64)))
        if least < 0 or (least == 0 and loss.power == 2):
            raise TargetError(
                f"the {self.name} loss needs targets that are {'positive' if loss.power == 2 else 'not negative'}, "
                f"but one of these rows has {least:g}. Drop such rows, or choose another model."
            )


def zero_sum_basis(n_classes: int) -> Float:
    """Orthonormal basis of the vectors of K entries that sum to zero, shape (K, K - 1).

    Examples
    --------
    >>> Q = zero_sum_basis(3)
    >>> bool(abs(Q.sum(axis=0)).max() < 1e-15), (Q.T @ Q).round(12).tolist()
    (True, [[1.0, 0.0], [0.0, 1.0]])
    """
    k = np.arange(1, n_classes, dtype=np.float64)  # Helmert contrasts: the first k entries against the next one
    table = np.triu(np.ones((n_classes, n_classes - 1))) - np.diag(k, -1)[:, : n_classes - 1]
    return np.asarray(table / np.sqrt(k * (k + 1)), np.float64)


def _softmax(Z: Float, y: npt.NDArray[np.intp], basis: Float) -> Rows:
    scores = Z @ basis.T
    p = Softmax().probabilities(scores)
    within = p @ basis
    curvature = np.einsum("ic,ck,cl->ikl", p, basis, basis) - within[:, :, None] * within[:, None, :]
    return Softmax().value(scores, y), within - basis[y], curvature


def _tweedie(z: Float, y: Float, power: float) -> tuple[Float, Float, Float]:
    """Half the deviance with log link, as scikit-learn defines it: no straight line beyond large margins."""
    a, b = 1 - power, 2 - power
    fall, rise = y * np.exp(a * z), np.exp(b * z)
    safe = np.where(y > 0, y, 1.0)
    if power == 1:
        value = rise - y * z + np.where(y > 0, y * np.log(safe) - y, 0.0)
    elif power == 2:
        value = z - np.log(safe) + fall - 1
    else:
        value = np.where(y > 0, safe**b, 0.0) / (a * b) - fall / a + rise / b
    return np.maximum(value, 0.0), rise - fall, b * rise - a * fall
