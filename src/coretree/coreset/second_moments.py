"""What all second moments share: one interface, and one walk over the rows in centred blocks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any, NoReturn, Self, TypeVar

import numpy as np
import numpy.typing as npt

from coretree.coreset.rows import Float
from coretree.errors import DataError

# values in one row block: 4 MiB of float64, small enough for the cache, large enough for a matrix product to be fast
_BLOCK_VALUES = 524_288
_LARGEST = 1e150  # the square of anything larger overflows


@dataclass(frozen=True, eq=False)
class Summary(ABC):
    """Count, mean and number of targets: what both kinds of second moments share."""

    n_rows: int
    weight: float
    mean: Float
    n_targets: int

    @property
    def n_columns(self) -> int:
        """Number of columns p, with targets."""
        return len(self.mean)

    @property
    def n_features(self) -> int:
        """Number of columns before the targets."""
        return self.n_columns - self.n_targets

    def state(self) -> dict[str, npt.NDArray[Any]]:
        """Return everything as arrays, to be stored; ``from_state`` restores it exactly."""
        return {field.name: np.asarray(getattr(self, field.name)) for field in fields(self)}

    @property
    def finite(self) -> bool:
        """Whether every moment is a finite number."""
        with np.errstate(over="ignore", invalid="ignore"):
            return bool(np.isfinite(self.mean).all() and np.isfinite(self.scatter).all())

    @property
    @abstractmethod
    def scatter(self) -> Float:
        """Sum of ``w (x - mean)(x - mean)'``, shape (p, p), symmetric."""

    def constant(self, spread: Float) -> npt.NDArray[np.bool_]:
        """Which columns have a spread (root of their scatter) made of nothing but the rounding of their mean."""
        rounding = 16.0 * np.finfo(np.float64).eps * np.abs(self.mean)
        return np.asarray(spread <= rounding * np.sqrt(self.weight))

    @abstractmethod
    def root(self) -> Float:
        """Return R, shape (p, p), with R'R = the scatter."""

    @abstractmethod
    def scaled(self, factor: float) -> Self:
        """Return the moments with every weight multiplied by ``factor``."""

    @abstractmethod
    def with_targets(self, values: npt.ArrayLike) -> Self:
        """Return the moments with constant target columns appended."""

    @abstractmethod
    def __add__(self, other: object) -> Self: ...

    def __radd__(self, zero: object) -> Self:
        """Accept the 0 that ``sum()`` starts from."""
        return self if zero == 0 else NotImplemented

    def _check(self, other: Summary) -> None:
        mine, theirs = (self.n_features, self.n_targets), (other.n_features, other.n_targets)
        if mine != theirs:
            raise ValueError(f"moments of {mine} and of {theirs} (features, targets) cannot be added")


_S = TypeVar("_S", bound=Summary)


def gather(
    X: npt.ArrayLike,
    y: npt.ArrayLike | None,
    weights: npt.ArrayLike | None,
    names: Sequence[str] | None,
    empty: Callable[[int, int], _S],
    block: Callable[[Float, Float | None, int], _S],
) -> _S:
    """Add up ``block`` of every block of rows, from ``empty``; the rest is checked here for every kind of moments."""
    A, T = np.asarray(X), _targets(y)
    if A.ndim != 2 or (T is not None and len(T) != len(A)):
        raise ValueError(f"X must be (n, d) and y (n,) or (n, t), found {A.shape} and {None if T is None else T.shape}")
    w, t = _checked(weights, len(A)), 0 if T is None else T.shape[1]
    total, step = empty(A.shape[1], t), max(4 * (A.shape[1] + t), _BLOCK_VALUES // max(1, A.shape[1] + t))
    for start in range(0, len(A), step):
        rows = slice(start, start + step)
        v = None if w is None else w[rows]
        Z = _block(A[rows], None if T is None else T[rows], None if v is None else v > 0)
        if len(Z):
            total = total + block(Z, None if v is None else v[v > 0], t)
    if not total.finite:
        _raise_for_gaps(A, T, w, names)
    return total


def _block(A: npt.NDArray[Any], T: npt.NDArray[Any] | None, seen: npt.NDArray[np.bool_] | None) -> Float:
    """Rows of positive weight, features and targets side by side, as a fresh float64 array."""
    Z = np.empty((len(A), A.shape[1] + (0 if T is None else T.shape[1])))
    Z[:, : A.shape[1]] = A
    if T is not None:
        Z[:, A.shape[1] :] = T
    return Z if seen is None else Z[seen]


def centred(Z: Float, w: Float | None) -> tuple[float, Float]:
    """Return weight and mean of a block, which is centred in place and scaled by sqrt(w)."""
    weight = float(len(Z)) if w is None else float(w.sum())
    with np.errstate(invalid="ignore", over="ignore"):
        mean = Z.sum(axis=0) / weight if w is None else w @ Z / weight
        Z -= mean
        # the rounding of a mean of 1e6 is 1e-10; what is left of it is taken out of the small numbers
        rest = Z.sum(axis=0) / weight if w is None else w @ Z / weight
        Z -= rest
        if w is not None:
            Z *= np.sqrt(w)[:, None]
    return weight, mean + rest


def _targets(y: npt.ArrayLike | None) -> npt.NDArray[Any] | None:
    if y is None:
        return None
    T = np.asarray(y)
    return T[:, None] if T.ndim == 1 else T


def _checked(weights: npt.ArrayLike | None, n: int) -> Float | None:
    if weights is None:
        return None
    w = np.asarray(weights, np.float64)
    if w.shape == (n,) and (np.isfinite(w) & (w >= 0)).all():
        return w
    raise ValueError(f"weights must be {n} finite numbers >= 0, found shape {w.shape} or a bad value")


def _raise_for_gaps(
    A: npt.NDArray[Any], T: npt.NDArray[Any] | None, w: Float | None, names: Sequence[str] | None
) -> NoReturn:
    Z = A if T is None else np.column_stack([A, T])
    if w is not None:
        Z = np.where((w > 0)[:, None], Z, 0.0)
    bad = ~(np.abs(Z) < _LARGEST)
    column = int(bad.any(axis=0).argmax())
    name, row = repr(names[column]) if names is not None else str(column), int(bad[:, column].argmax())
    raise DataError(
        f"column {name} of the prepared design must hold finite numbers below {_LARGEST:g}, but {bad[:, column].sum()} "
        f"are not; first: {Z[row, column]} at row {row}. Impute or clip them in the preparation."
    )
