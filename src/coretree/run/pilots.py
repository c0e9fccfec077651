"""Pilots: one model for each objective with a loss, and a boosted one for residual scores, fitted on pass 1's rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from coretree.coreset.residuals import residual_scores
from coretree.coreset.scores import PilotState, pilot_state, robust_scores
from coretree.coreset.thresholds import threshold_for
from coretree.data.encode import design, raw_codes
from coretree.data.profile import Profile, label_order
from coretree.errors import TargetError
from coretree.learn.tree_pilot import fit_tree_pilot
from coretree.tree.node import Survey
from coretree.tree.objectives import loss_of
from coretree.tree.recipe import LEAF_SLACK, Recipe

Array = npt.NDArray[Any]
POSITIVE, NOT_NEGATIVE = ("gamma", "tweedie:2"), ("poisson", "tweedie")


def with_pilots(recipe: Recipe, survey: Survey) -> Recipe:
    """Fit every pilot that the objectives need.

    There is always the pilot of the "robust" objective or of another loss: its totals know the classes.
    """
    X, y, w = pilot_rows(recipe, survey)
    task, n_classes = recipe.schema.task, len(recipe.rows)
    profile = survey.profile
    counts = [profile.weight] if recipe.classes is None else [profile.by_class[c].weight for c in recipe.classes]
    if recipe.classes is None and profile.target.minimum[0] == profile.target.maximum[0]:
        name = recipe.schema.target
        raise TargetError(f"target '{name}' is {y[0]:g} in every training row; there is nothing to learn.")
    losses = {o: loss for o in recipe.objectives if (loss := loss_of(o, task, n_classes)) is not None}
    pilots: dict[str, PilotState] = {}
    for objective, loss in (losses or {"robust": loss_of("robust", task, n_classes) or ""}).items():
        _check_target(loss, profile, recipe)
        pilots[objective] = pilot_state(X, y, w, loss, counts)
    residual = None
    if "residual" in recipe.objectives:
        residual = fit_tree_pilot(X[:, 1:], y, w, counts, seed=recipe.seed)
    ready = replace(recipe, pilots=pilots, residual=residual)
    return replace(ready, reach=reach_of(ready, X, y, w, counts))


def reach_of(recipe: Recipe, X: Array, y: Array, w: Array, counts: Sequence[float]) -> dict[str, tuple[float, ...]]:
    """Keys below which the pilot rows foresee `LEAF_SLACK` times what the root keeps, of each stratum.

    ``counts`` are the base weights of the classes; the rows of a class are taken to weigh the same.
    """
    codes = np.zeros(len(w), np.intp) if recipe.classes is None else y.astype(np.intp)
    held, n = np.bincount(codes, w, minlength=len(recipe.rows)), np.array(recipe.rows)
    rows, base = w * (n / np.where(held > 0, held, 1.0))[codes], (np.array(counts) / np.maximum(n, 1))[codes]
    out = {}
    for name in recipe.objectives:
        if name in recipe.pilots:
            scores = robust_scores(X, y, recipe.pilots[name])
        elif name == "residual" and recipe.residual is not None:
            scores = residual_scores(X[:, 1:], y, recipe.residual)
        else:
            scores = np.ones(len(w))
        limits, strata = np.atleast_1d(recipe.capacity(name)).tolist(), recipe.keeping.strata(name, codes)
        of = [np.full(len(w), True) if strata is None else strata == k for k in range(len(limits))]
        out[name] = tuple(
            threshold_for((scores * base)[own], rows[own], LEAF_SLACK * limit)
            for own, limit in zip(of, limits, strict=True)
        )
    return out


def pilot_rows(recipe: Recipe, survey: Survey) -> tuple[Array, Array, Array]:
    """Design (n, d), target (n,) and weights (n,) of the pilot rows under the frozen preparation."""
    X, y, w = [], [], []
    for label in sorted(survey.pilots, key=label_order):
        sample = survey.pilots[label].finalise()
        X.append(design({**sample.rows, "codes": raw_codes(sample.rows, recipe.preparation)}, recipe.preparation))
        code = None if recipe.classes is None or label is None else float(recipe.classes.index(label))
        y.append(sample.rows["y"] if code is None else np.full(len(sample.weights), code))
        w.append(sample.weights)
    return np.asfortranarray(np.vstack(X)), np.concatenate(y), np.concatenate(w)


def _check_target(loss: str, profile: Profile, recipe: Recipe) -> None:
    """Refuse a target that the loss is not defined for."""
    if recipe.classes is not None:
        return
    least = float(profile.target.minimum[0])
    if (loss in POSITIVE and least <= 0) or (loss.startswith(NOT_NEGATIVE) and least < 0):
        wanted = "positive" if loss in POSITIVE else "not negative"
        raise TargetError(
            f"target '{recipe.schema.target}' must be {wanted} for the objective '{loss}', but its least value is "
            f"{least:g}. Leave the objective out, or clean the target."
        )
