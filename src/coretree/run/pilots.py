"""Pilots: one model for each objective with a loss, and a boosted one for residual scores, fitted on pass 1's rows."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from coretree.coreset.scores import PilotState, pilot_state
from coretree.data.encode import design, raw_codes
from coretree.data.profile import Profile, label_order
from coretree.errors import TargetError
from coretree.learn.tree_pilot import fit_tree_pilot
from coretree.tree.node import Survey
from coretree.tree.objectives import loss_of
from coretree.tree.recipe import Recipe

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
    return replace(recipe, pilots=pilots, residual=residual)


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
