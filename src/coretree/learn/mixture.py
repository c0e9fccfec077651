"""Gaussian mixtures from kd cells: weighted EM that knows the scatter within each cell."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.linalg import solve_triangular
from scipy.special import logsumexp
from sklearn.base import clone
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture

from coretree.coreset.cells import Cells
from coretree.errors import ConfigError, EmptyDataError

FloatArray = npt.NDArray[np.float64]
_LOG_2PI = float(np.log(2.0 * np.pi))


@dataclass(frozen=True, eq=False)
class MixtureFit:
    """A fitted mixture and what is known of its likelihood.

    Attributes
    ----------
    model : GaussianMixture
        Genuine and fitted; ``lower_bound_`` is `bound`.
    bound : float
        Nats for each unit of weight: the mean log-likelihood of all rows under the model is at least this.
    bounds : tuple of float
        The same for every start; their spread shows how much local optima matter.
    """

    model: GaussianMixture
    bound: float
    bounds: tuple[float, ...]


@dataclass(frozen=True, eq=False)
class _Parameters:
    """Shares (k,), means (k, d), and of the covariances Cholesky factors (k, d, d) or, if diagonal, roots (k, d)."""

    share: FloatArray
    mean: FloatArray
    root: FloatArray


@dataclass(frozen=True, eq=False)
class _Table:
    """Cells as EM reads them: weight (m,), mean (m, d), and within each the scatter (m, d, d) or (m, d)."""

    weight: FloatArray
    mean: FloatArray
    within: FloatArray
    diagonal: bool
    kind: str
    reg: float


def fit_mixture(estimator: GaussianMixture, cells: Cells, *, seed: int, n_starts: int = 8) -> MixtureFit:
    """Fit a Gaussian mixture to all rows from their cells.

    A cell has one responsibility for all its rows, so what EM climbs is a lower bound of their log-likelihood, equal
    to it where every cell is one point. With m_j, S_j a component and mu_i, T_i, w_i a cell:
    ``log r_ij = log p_j + log N(mu_i | m_j, S_j) - tr(S_j^-1 T_i) / (2 w_i) - norm_i``;
    ``S_j = sum_i r_ij (w_i (mu_i - m_j)(mu_i - m_j)' + T_i) / N_j + reg I``.

    Parameters
    ----------
    estimator : GaussianMixture
        ``n_components``, ``covariance_type``, ``tol``, ``max_iter`` and ``reg_covar`` are honoured, the last one at
        least as 1e-6 of the mean variance; ``n_init`` where it exceeds ``n_starts``. ``random_state`` replaces ``seed``
        where it is an integer. Initial parameters of the user's own are not.
    cells : Cells
        At least 200 a component. For "full" and "tied" covariances built with ``scatter=True``.
    seed : int
    n_starts : int
        Weighted k-means starts, of which the best bound is kept. Local optima differ by more than cells lose: one
        start costs about 0.1 nat, on the full data as well.

    Returns
    -------
    MixtureFit

    Warns
    -----
    ConvergenceWarning
        If the best start did not settle, as scikit-learn does.

    Raises
    ------
    ConfigError
        If the estimator is of another kind or starts from given parameters, there are fewer cells than components, or
        the cells lack the scatter that the covariances need.
    EmptyDataError
        If the cells stand for no rows.

    Notes
    -----
    Integer weights are repeated rows. Cost: n_starts * iterations * m k d^2. Far outliers take a component each.

    Examples
    --------
    >>> from coretree.coreset.cells import build
    >>> X = np.random.default_rng(0).standard_normal((2000, 2))
    >>> fit = fit_mixture(GaussianMixture(2), build(X, 200, scatter=True), seed=0, n_starts=2)
    >>> fit.bound <= fit.model.score(X)
    True
    """
    _check(estimator, cells)
    table = _table(estimator, cells)
    first = estimator.random_state if isinstance(estimator.random_state, (int, np.integer)) else seed
    best: tuple[_Parameters, list[float], bool] | None = None
    bounds = []
    for start in range(max(n_starts, estimator.n_init, 1)):
        # consecutive seeds of users must not share starts
        state = np.random.RandomState([int(first) % 2**32, start])
        km = KMeans(estimator.n_components, n_init=1, random_state=state).fit(table.mean, sample_weight=table.weight)
        run = _climb(table, np.eye(estimator.n_components)[km.labels_], estimator.tol, estimator.max_iter)
        bounds.append(run[1][-1])
        if best is None or run[1][-1] > best[1][-1]:
            best = run
    assert best is not None
    if not best[2]:
        warnings.warn(
            f"the best of {len(bounds)} starts has not converged in {estimator.max_iter} iterations: raise max_iter",
            ConvergenceWarning,
            stacklevel=2,
        )
    model = _export(clone(estimator), table, *best)
    return MixtureFit(model, best[1][-1], tuple(bounds))


def _check(estimator: Any, cells: Cells) -> None:
    if type(estimator) is not GaussianMixture:
        raise ConfigError(f"fit_mixture needs a GaussianMixture, found {type(estimator).__name__}.")
    given = [name for name in ("weights_init", "means_init", "precisions_init") if getattr(estimator, name) is not None]
    if given:
        raise ConfigError(f"fit_mixture starts from k-means on cells; leave out {', '.join(given)}.")
    if not len(cells):
        raise EmptyDataError("a mixture needs at least one row, found none.")
    if estimator.n_components > len(cells):
        raise ConfigError(f"n_components={estimator.n_components} needs as many cells, but there are {len(cells)}.")
    if estimator.covariance_type in ("full", "tied") and cells.scatter is None and cells.delta > 0:
        raise ConfigError(
            f"covariance_type={estimator.covariance_type!r} needs cells with their scatter: build them with "
            "scatter=True, or use covariance_type='diag'."
        )


def _table(estimator: GaussianMixture, cells: Cells) -> _Table:
    diagonal = estimator.covariance_type in ("diag", "spherical")
    d = cells.mean.shape[1]
    full = np.zeros((len(cells), d, d)) if cells.scatter is None else cells.scatter
    within = cells.error if diagonal else full
    reg = max(float(estimator.reg_covar), 1e-6 * cells.inertia / (d * cells.weight.sum()))
    return _Table(cells.weight, cells.mean, within, diagonal, estimator.covariance_type, reg)


def _climb(table: _Table, R: FloatArray, tol: float, max_iter: int) -> tuple[_Parameters, list[float], bool]:
    """EM from given responsibilities: the parameters, the bound after each step, and whether it settled.

    The bound that is returned last belongs to the parameters that are returned.
    """
    parameters = _maximise(table, R)
    bounds: list[float] = []
    for _ in range(max(1, max_iter)):
        R, bound = _expect(table, parameters)
        bounds.append(bound)
        if len(bounds) > 1 and abs(bound - bounds[-2]) < tol:
            return parameters, bounds, True
        if len(bounds) < max_iter:
            parameters = _maximise(table, R)
    return parameters, bounds, False


def _expect(table: _Table, at: _Parameters) -> tuple[FloatArray, float]:
    """Responsibilities (m, k), and the lower bound of the log-likelihood for each unit of weight."""
    m, d = table.mean.shape
    joint = np.empty((m, len(at.share)))
    for j, (share, centre, root) in enumerate(zip(at.share, at.mean, at.root, strict=True)):
        D = table.mean - centre
        if table.diagonal:
            squares = (D * D + table.within / table.weight[:, None]) @ (1.0 / root**2)
            log_root = np.log(root).sum()
        else:
            half = solve_triangular(root, np.eye(d), lower=True)
            trace = table.within.reshape(m, -1) @ (half.T @ half).ravel() / table.weight
            squares = ((D @ half.T) ** 2).sum(axis=1) + trace
            log_root = np.log(np.diag(root)).sum()
        joint[:, j] = np.log(share) - 0.5 * (squares + d * _LOG_2PI) - log_root
    total = logsumexp(joint, axis=1)
    return np.exp(joint - total[:, None]), float(table.weight @ total / table.weight.sum())


def _maximise(table: _Table, R: FloatArray) -> _Parameters:
    """Shares, means and covariances that the responsibilities ask for."""
    m, d = table.mean.shape
    W = R * table.weight[:, None]
    N = W.sum(axis=0) + 10.0 * np.finfo(np.float64).eps
    mean = (W.T @ table.mean) / N[:, None]
    within = (R.T @ table.within.reshape(m, -1)).reshape(-1, *table.within.shape[1:])
    covariance = np.empty_like(within)
    for j in range(R.shape[1]):
        D = table.mean - mean[j]
        between = W[:, j] @ (D * D) if table.diagonal else (W[:, [j]] * D).T @ D
        covariance[j] = (between + within[j]) / N[j]
    if table.kind == "tied":
        covariance[:] = np.tensordot(N / N.sum(), covariance, axes=1)
    elif table.kind == "spherical":
        covariance[:] = covariance.mean(axis=1, keepdims=True)
    covariance += table.reg if table.diagonal else table.reg * np.eye(d)
    root = np.sqrt(covariance) if table.diagonal else np.asarray(np.linalg.cholesky(covariance), np.float64)
    return _Parameters(N / N.sum(), mean, root)


def _export(model: Any, table: _Table, at: _Parameters, bounds: list[float], converged: bool) -> Any:
    """Set every attribute that `GaussianMixture.fit` learns."""
    model.weights_, model.means_ = at.share, at.mean
    if table.diagonal:
        root = at.root[:, 0] if table.kind == "spherical" else at.root
        model.covariances_, model.precisions_cholesky_, model.precisions_ = root**2, 1.0 / root, 1.0 / root**2
    else:
        inverse = np.stack([solve_triangular(root, np.eye(len(root)), lower=True).T for root in at.root])
        covariances, precisions = at.root @ at.root.transpose(0, 2, 1), inverse @ inverse.transpose(0, 2, 1)
        kept = 0 if table.kind == "tied" else slice(None)
        model.covariances_, model.precisions_cholesky_ = covariances[kept], inverse[kept]
        model.precisions_ = precisions[kept]
    model.converged_, model.n_iter_ = converged, len(bounds)
    model.lower_bound_, model.lower_bounds_ = bounds[-1], list(bounds)
    model.n_features_in_ = table.mean.shape[1]
    return model
