"""How a tree is built: plans carried out one after the other, and everything that is frozen between them."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

import coretree
from coretree.coreset.calibrate import calibrate
from coretree.coreset.pilot import fit_pilot
from coretree.coreset.scores import pilot_state
from coretree.data.columns import Level
from coretree.data.dataset import Dataset
from coretree.data.encode import design
from coretree.data.finite import check_scalable
from coretree.data.prepare import freeze
from coretree.data.profile import Profile
from coretree.data.scan import Leaf
from coretree.errors import ConfigError, DataWarning, EmptyDataError, TargetError
from coretree.run.executor import Executor
from coretree.run.frontier import Job
from coretree.run.memory import demand, preflight
from coretree.run.pilots import reach_of, with_pilots
from coretree.run.publish import Refinement, publish
from coretree.run.settings import Settings
from coretree.run.tasks import NodeWork, Reading, SurveyWork, leaf_name, read_node, read_survey
from coretree.tree.coresets import draw
from coretree.tree.local_store import together
from coretree.tree.manifest import Manifest, StoredObject
from coretree.tree.node import Node, Survey
from coretree.tree.plan import Plan, digest, every_node, plan
from coretree.tree.recipe import LEAF_SLACK, Recipe
from coretree.tree.store import SharedStore, Store, node_key, stored_nodes

Progress = Callable[[str, int, int], None]
PILOT_ROWS, PILOT_ROWS_A_COLUMN, MOST_PILOT_ROWS = 4_000, 50, 20_000
PILOT_SLACK = 3  # a leaf keeps so many times its even share of them
TYPICAL_LEVELS = 10  # of a categorical column, before anyone has seen it
LEAST_LEAF_ROWS = 1_000
LEAF_ROWS_PER_KEPT = 256


@dataclass(frozen=True)
class BuildSummary:
    """What a build did: numbers for a report. ``n_made`` counts the nodes that were not in the store already."""

    n_leaves: int
    n_nodes: int
    n_made: int
    n_bytes: int


def source_name(data: Dataset, settings: Settings) -> str:
    """Name of everything that a build depends on: leaves, schema, rules, settings."""
    return digest(
        [[leaf.identity, list(leaf.row_groups), leaf.fingerprint] for leaf in data.scan.leaves],
        data.schema.to_dict(),
        data.clean.to_dict(),
        None if data.selection is None else data.selection.to_dict(),
        settings.to_dict(),
    )


def build_tree(
    data: Dataset, settings: Settings, store: Store, executor: Executor, progress: Progress | None
) -> BuildSummary:
    """Carry out the passes and publish the manifest; every node that the store holds already is left alone."""
    work, source = survey_work(data, settings, store), source_name(data, settings)
    first = plan_leaves(data.scan.leaves, work.name, settings.fan_in, store)
    made = carry_out(executor, first, data.scan.leaves, data, work, "profile", progress)
    survey = read_survey(store, first.root)
    recipe = freeze_recipe(data, survey, settings)
    store.put(recipe.key, recipe.to_bytes())
    if settings.passes == 1:
        manifest = publish(data, settings, source, recipe, first, None, made, store, under=work.name)
        return BuildSummary(len(data.scan.leaves), len(manifest.nodes), len(made), total_bytes(manifest))
    second, nodes = node_pass(data, recipe, settings.fan_in, store, executor, "sketch", progress, work.name)
    third = None
    if settings.passes == 3 and set(recipe.pilots) & set(recipe.objectives):
        refined = refine_recipe(recipe, read_node(store, second.root))
        store.put(refined.key, refined.to_bytes())
        shape, more = node_pass(data, refined, settings.fan_in, store, executor, "refine", progress)
        third, nodes = Refinement(refined, shape), {**nodes, **more}
    manifest = publish(data, settings, source, recipe, second, third, nodes, store, under=recipe.name)
    with together():
        for name in first.nodes:
            store.delete(node_key(name))
    return BuildSummary(len(data.scan.leaves), len(manifest.nodes), len(made) + len(nodes), total_bytes(manifest))


def node_pass(
    data: Dataset,
    recipe: Recipe,
    fan_in: int,
    store: Store,
    executor: Executor,
    stage: str,
    progress: Progress | None,
    survey: str | None = None,
) -> tuple[Plan, dict[str, StoredObject]]:
    """One pass that leaves nodes under a stored recipe; ``survey`` is the name under which pass 1 left profiles."""
    shape = plan_leaves(data.scan.leaves, recipe.name, fan_in, store)
    work = NodeWork(Reading.of(data), recipe.name, store, survey)
    return shape, carry_out(executor, shape, data.scan.leaves, data, work, stage, progress)


def refine_recipe(recipe: Recipe, root: Node) -> Recipe:
    """Recipe of pass 3: totals alone, at the models that the coresets of pass 2 give.

    The same rows are calibrated again, to the gradient and Hessian at a model so near the optimum that what
    calibration leaves out is of third order.
    """
    better = {}
    for name, pilot in recipe.pilots.items():
        if name not in recipe.objectives:
            continue
        sample = draw(root, recipe, objective=name)
        X, y = design(sample.rows, recipe.preparation), sample.rows["y"]
        w = calibrate(sample.weights, sample.base, X, y, pilot, root.totals[name]).weights
        n_classes = pilot.n_classes if pilot.theta.ndim == 2 else None
        theta = fit_pilot(X, y, w, pilot.loss, lam=pilot.lam, n_classes=n_classes)
        better[name] = pilot_state(X, y, w, pilot.loss, pilot.counts, lam=pilot.lam, theta=theta)
    return replace(recipe, objectives=(), exact="no", cells=0, pilots=better, residual=None)


def total_bytes(manifest: Manifest) -> int:
    """Bytes of all nodes."""
    return sum(item.n_bytes for item in manifest.nodes.values())


def plan_leaves(leaves: Sequence[Leaf], recipe: str, fan_in: int, store: Store) -> Plan:
    """Plan a pass under a recipe's name: every node that is not stored."""
    names = [leaf_name(leaf, recipe) for leaf in leaves]
    identities = [leaf.identity for leaf in leaves]
    return every_node(plan(names, recipe=recipe, fan_in=fan_in, identities=identities), stored_nodes(store))


def survey_work(data: Dataset, settings: Settings, store: Store) -> SurveyWork:
    """The work of pass 1."""
    if settings.passes == 1 and data.schema.target is None:
        raise ConfigError(
            f"{data.scan.where}: passes=1 is for data with a target; cells and samples of other data take two. Leave "
            "passes out, or name the target."
        )
    columns = len(data.schema.numbers) + 3 * len(data.schema.times) + TYPICAL_LEVELS * len(data.schema.categories)
    rows = min(MOST_PILOT_ROWS, max(PILOT_ROWS, PILOT_ROWS_A_COLUMN * columns))
    if settings.passes == 1:
        kept, share = leaf_size(data, settings), leaf_share(data, LEAF_SLACK * settings.size)
    else:
        kept = min(rows, max(LEAST_LEAF_ROWS, PILOT_SLACK * rows // max(1, len(data.scan.leaves))))
        share = leaf_share(data, PILOT_SLACK * rows)
    return SurveyWork(Reading.of(data), settings, rows, kept, store, share)


def leaf_size(data: Dataset, settings: Settings) -> int:
    """Rows that a leaf keeps: several times its share of the root, so that its threshold hardly ever decides."""
    leaves = data.scan.leaves
    even_share = -(-settings.size // max(1, len(leaves)))
    rows = sum(leaf.n_rows for leaf in leaves) // max(1, len(leaves))
    return min(settings.size, max(LEAST_LEAF_ROWS, int(LEAF_SLACK * even_share), rows // LEAF_ROWS_PER_KEPT))


def leaf_share(data: Dataset, rows: float) -> float:
    """Share of its rows that a leaf keeps at least, of so many in all; a power of two, which a few more files leave."""
    total = sum(leaf.n_rows for leaf in data.scan.leaves)
    return min(1.0, 2.0 ** math.ceil(math.log2(rows / total))) if total else 0.0


def carry_out(
    executor: Executor,
    shape: Plan,
    leaves: Sequence[Leaf | None],
    data: Dataset,
    work: Any,
    stage: str,
    progress: Progress | None,
) -> dict[str, StoredObject]:
    """Carry out what is missing of a plan."""
    jobs = [Job(s.name, None if s.leaf is None else leaves[s.leaf], s.children) for s in shape.steps]
    if progress is None:
        return executor.run(jobs, work, data)
    progress(stage, 0, len(jobs))
    return executor.run(jobs, work, data, lambda _, done, total: progress(stage, done, total))


def freeze_recipe(data: Dataset, survey: Survey, settings: Settings) -> Recipe:
    """Everything between the passes: preparation, classes, objectives, pilots, how much a leaf keeps."""
    profile, where, task = survey.profile, data.scan.where, data.schema.task
    if profile.n_rows == 0:
        raise EmptyDataError(
            f"{where}: no training row is left after cleaning and splitting. Check the target column and the split."
        )
    classes = _classes(profile, data) if task == "classification" else None
    _warn_of_oddities(profile, data)
    rows = tuple(profile.by_class[label].n_rows for label in (classes or (None,)))
    draft = Recipe(
        preparation=freeze(profile, data.schema, settings.prepare),
        clean=data.clean,
        split=data.selection,
        classes=classes,
        rows=rows,
        budgets=settings.budgets(classes, where),
        objectives=settings.names_of_objectives(task, rows),
        size=settings.size,
        leaf_size=leaf_size(data, settings),
        leaf_share=leaf_share(data, LEAF_SLACK * settings.size) if settings.passes == 1 else 0.0,
        seed=settings.seed,
        exact=settings.form_of_moments(task),
        cells=settings.n_cells(task),
        scatter=settings.scatter,
        pilots={},
    )
    check_scalable(draft.preparation, where)
    recipe = draft
    if task is None:
        nothing = np.zeros((1, 1))
        recipe = replace(draft, reach=reach_of(draft, nothing, nothing[0], np.ones(1), [profile.weight]))
    elif settings.passes > 1:
        recipe = with_pilots(draft, survey)
    for name in recipe.objectives:
        recipe.capacity(name)  # budgets that do not fit are an error now, not at the end of a pass
    return recipe


def _classes(profile: Profile, data: Dataset) -> tuple[Level, ...]:
    labels = tuple(k for k in profile.labels if k is not None)
    if len(labels) < 2:
        found = f"only the class {labels[0]!r}" if labels else "no class"
        raise TargetError(
            f"{data.scan.where}: target '{data.schema.target}' holds {found} in {profile.n_rows:,} training rows; "
            "a classifier needs at least two. Check the target column, the rows that were read, and the split."
        )
    return labels


def odd_columns(profile: Profile, data: Dataset) -> tuple[list[str], list[str]]:
    """Names of constant columns, and of text columns in which nearly every row has its own value."""
    moments, schema = profile.moments, data.schema
    constant = [name for j, name in enumerate(schema.numbers) if moments.minimum[j] >= moments.maximum[j]]
    idlike = []
    for j, name in enumerate(schema.categories):
        counter = profile.frequent[j]
        if counter.exact and len(counter.values) <= 1:
            constant.append(name)
        share = counter.n_rows / max(1, counter.n_rows + counter.n_missing)
        if profile.n_thin * share > 100 and profile.distinct[j].estimate > 0.9 * profile.n_thin * share:
            idlike.append(name)
    return constant, idlike


def _warn_of_oddities(profile: Profile, data: Dataset) -> None:
    constant, idlike = odd_columns(profile, data)
    where = data.scan.where
    if constant:
        message = f"{where}: constant columns teach nothing: {', '.join(constant)}. Leave them out with drop=[...]."
        warnings.warn(message, DataWarning, stacklevel=6)
    if idlike:
        message = (
            f"{where}: nearly every row has its own value in {', '.join(idlike)}; an identifier is no feature. "
            "Leave it out with drop=[...]."
        )
        warnings.warn(message, DataWarning, stacklevel=6)


def check_executor(executor: Executor, store: Store, data: Dataset, settings: Settings) -> None:
    """Make sure, before any work on a cluster, that it fits and that all workers see the store.

    Raises
    ------
    MemoryPlanError, ClusterError, StoreError
    """
    client = getattr(executor, "client", None)
    if client is None:
        return
    from coretree.run.cluster import check_shared

    need = demand(data.scan, settings, leaf_size(data, settings))
    preflight(client.scheduler_info(n_workers=-1)["workers"], need)
    if isinstance(store, SharedStore):
        check_shared(client, store, coretree.__version__)
