"""Least squares and decompositions from moments: what squared loss and singular vectors need of the rows."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.linear_model import LinearRegression

from coretree.coreset.exact import pseudo_rows
from coretree.coreset.rows import Float
from coretree.coreset.second_moments import Summary
from coretree.errors import ConfigError, EmptyDataError


def fit_linear(model: Any, moments: Summary) -> Any:
    """Fit a least-squares estimator on pseudo-rows; the model itself is fitted and returned.

    With an intercept the means are left out of the rows and put back into the intercept, so that a mean of 1e6 costs
    no digits.
    """
    if moments.n_targets == 0:
        raise ConfigError(f"{type(model).__name__} needs moments with a target: gather them with y.")
    d, centred = moments.n_features, bool(model.fit_intercept)
    rows = pseudo_rows(moments, centred=centred)
    model.fit(rows.X, rows.y, sample_weight=rows.weights)
    if isinstance(model, LinearRegression) and not model.positive:
        model.coef_ = _least_norm(rows.X, rows.y, moments)
        model.intercept_ = 0.0 if moments.n_targets == 1 or not centred else np.zeros(moments.n_targets)
    if centred:
        mean_x = moments.mean[:d]
        mean_y = moments.mean[d:] if np.ndim(model.coef_) == 2 else moments.mean[d]
        model.intercept_ = model.intercept_ + mean_y - model.coef_ @ mean_x
        if hasattr(model, "X_offset_"):  # where BayesianRidge measures its predictive variance from
            model.X_offset_ = model.X_offset_ + mean_x
    return model


def _least_norm(X: Float, y: Float | None, moments: Summary) -> Float:
    """Coefficients of least norm, with the rank judged at the rounding of the summary and not of k rows.

    On all n rows scikit-learn drops singular values below n eps of the largest; the same collinear direction must not
    come alive because there are fewer rows now.
    """
    tolerance = max(moments.n_rows, len(X)) * np.finfo(np.float64).eps
    coef: Float = np.linalg.lstsq(X, y, rcond=min(tolerance, 1e-8))[0].T  # type: ignore[arg-type]
    return coef


def fit_pca(model: Any, moments: Summary) -> Any:
    """Set what `PCA.fit` learns from all rows, by a singular value decomposition of the scatter's root."""
    d, n = moments.n_features, round(moments.weight)
    if n < 2:
        raise EmptyDataError(f"PCA needs the moments of at least two rows, found {n}.")
    S, V = _singular(moments.root()[:, :d])
    kept = min(n, d)
    S, V = S[:kept], V[:kept]
    variance = S**2 / (moments.weight - 1.0)
    count = _components(model.n_components, variance, d)
    model.mean_, model.components_ = moments.mean[:d].copy(), V[:count].copy()
    model.explained_variance_ = variance[:count].copy()
    model.explained_variance_ratio_ = variance[:count] / variance.sum()
    model.singular_values_ = S[:count].copy()
    model.noise_variance_ = float(variance[count:].mean()) if count < kept else 0.0
    model.n_samples_, model.n_components_, model.n_features_in_ = n, count, d
    return model


def _components(wanted: Any, variance: Float, n_features: int) -> int:
    """Number of components that scikit-learn's rules choose for a spectrum."""
    kept = len(variance)
    if wanted is None:
        return kept
    if isinstance(wanted, float) and 0 < wanted < 1:
        shares = np.cumsum(variance / variance.sum())
        return min(int(np.searchsorted(shares, wanted, side="right")) + 1, kept)
    if not 0 <= int(wanted) <= kept:
        raise ConfigError(
            f"PCA: n_components must be between 0 and {kept} (n_features = {n_features}), found {wanted}."
        )
    return int(wanted)


def fit_truncated_svd(model: Any, moments: Summary) -> Any:
    """Set what `TruncatedSVD.fit` learns from all rows; it leaves the means in."""
    d = moments.n_features
    if not moments.weight > 0:
        raise EmptyDataError("TruncatedSVD needs the moments of at least one row, found none.")
    if not 1 <= model.n_components <= d:
        raise ConfigError(
            f"TruncatedSVD: n_components must be between 1 and n_features = {d}, found {model.n_components}."
        )
    R, mean = moments.root()[:, :d], moments.mean[:d]
    S, V = _singular(np.vstack([R, np.sqrt(moments.weight) * mean]))
    V = V[: model.n_components]
    model.components_, model.singular_values_, model.n_features_in_ = V, S[: model.n_components], d
    # of the transformed rows: about their mean, which the singular values do not know
    model.explained_variance_ = ((R @ V.T) ** 2).sum(axis=0) / moments.weight
    model.explained_variance_ratio_ = model.explained_variance_ * (moments.weight / (R * R).sum())
    return model


def _singular(A: Float) -> tuple[Float, Float]:
    """Singular values and right singular vectors (rows), signed as scikit-learn signs them: largest entry positive."""
    _, S, V = np.linalg.svd(A, full_matrices=False)
    largest = V[np.arange(len(V)), np.abs(V).argmax(axis=1)]
    return S, V * np.where(largest < 0, -1.0, 1.0)[:, None]
