"""Laws of the order in which jobs start."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coretree.data.scan import Leaf
from coretree.run.frontier import BATCHES_A_SLOT, MOST_BYTES, MOST_LEAVES, Batch, Frontier, Job, batched
from coretree.tree.plan import plan

LEAF = Leaf("a.parquet", (0,), 1, 1, "")


def make_jobs(n_leaves: int, fan_in: int, stored: set[int]) -> list[Job]:
    """A tree over leaves of which some are stored already; a merge is always missing."""
    level = [f"l{i}" for i in range(n_leaves)]
    jobs = [Job(name, LEAF) for i, name in enumerate(level) if i not in stored]
    depth = 0
    while len(level) > 1:
        groups = [level[i : i + fan_in] for i in range(0, len(level), fan_in)]
        depth, level = depth + 1, [f"m{depth}.{i}" for i in range(len(groups))]
        jobs += [Job(name, None, tuple(group)) for name, group in zip(level, groups, strict=True)]
    return jobs


@settings(max_examples=100, deadline=None)
@given(
    n_leaves=st.integers(0, 40),
    fan_in=st.integers(2, 9),
    stored=st.sets(st.integers(0, 39)),
    cap=st.integers(1, 10),
    n_slots=st.integers(1, 4),
    seed=st.integers(0, 9),
)
def test_every_job_starts_once_after_its_children_and_leaves_stay_within_the_cap(
    n_leaves: int, fan_in: int, stored: set[int], cap: int, n_slots: int, seed: int
) -> None:
    """Also when batches are given up again and again, and split."""
    jobs = make_jobs(n_leaves, fan_in, stored)
    names = {job.name for job in jobs}
    rng, frontier = random.Random(seed), Frontier(batched(jobs, n_slots))
    started: list[str] = []
    finished: set[str] = set()
    live: list[Batch] = []
    while not frontier.done:
        running = {job.name for batch in live for job in batch}
        ready = [
            j.name
            for j in jobs
            if j.children and j.name not in running | finished and names & set(j.children) <= finished
        ]
        taken = frontier.take(cap)
        first = [batch[0] for batch in taken]
        assert all(job.leaf is None for job in first[: len(ready)])
        assert set(ready) <= {job.name for job in first}  # merges never wait
        assert len(taken) == len(ready) or len(live) + len(taken) <= cap
        for batch in taken:
            done = set(finished)
            for job in batch:
                assert names & set(job.children) <= done
                done.add(job.name)
        live += taken
        assert len(live) == len(frontier.live)
        batch = live.pop(rng.randrange(len(live)))
        if len(batch) > 1 and rng.random() < 0.5:
            frontier.split(batch)
            continue
        frontier.finish(batch)
        started += [job.name for job in batch]
        finished |= {job.name for job in batch}
    assert sorted(started) == sorted(names)
    assert frontier.total == len(jobs)
    assert frontier.take(cap) == []


def test_jobs_that_wait_for_one_another_are_an_error_and_no_hang() -> None:
    frontier = Frontier([(Job("a", None, ("b",)),), (Job("b", None, ("a",)),)])
    with pytest.raises(ValueError, match="2 jobs wait for one another, first a"):
        frontier.take(4)


def test_names_are_unique() -> None:
    with pytest.raises(ValueError, match="names of their own"):
        Frontier([(Job("a", LEAF),), (Job("a", LEAF),)])


@settings(max_examples=100, deadline=None)
@given(
    sizes=st.lists(st.sampled_from([1, 1000, MOST_BYTES // 3, MOST_BYTES, MOST_BYTES + 1]), max_size=300),
    fan_in=st.integers(2, 40),
    n_slots=st.integers(1, 4),
)
def test_batches_hold_every_job_once_and_stay_small(sizes: list[int], fan_in: int, n_slots: int) -> None:
    jobs = make_jobs(len(sizes), fan_in, set())
    for i, n_bytes in enumerate(sizes):
        jobs[i] = replace(jobs[i], leaf=replace(LEAF, n_bytes=n_bytes))
    batches = batched(jobs, n_slots)
    assert sorted(job.name for batch in batches for job in batch) == sorted(job.name for job in jobs)
    tiny = sum(n_bytes <= MOST_BYTES for n_bytes in sizes)
    for batch in batches:
        leaves = [job.leaf for job in batch if job.leaf is not None]
        if len(batch) > 1:
            assert 1 <= len(leaves) <= min(MOST_LEAVES, tiny / (BATCHES_A_SLOT * n_slots))
            assert sum(leaf.n_bytes for leaf in leaves) <= MOST_BYTES
    names = {job.name for job in jobs}
    home = {job.name: i for i, batch in enumerate(batches) for job in batch}
    for i, batch in enumerate(batches):  # a merge is never sent away from children that are all in one batch
        for job in batch:
            homes = {home[child] for child in job.children if child in names}
            assert len(homes) != 1 or homes == {i} or len(batches[homes.copy().pop()]) == 1


def test_ten_thousand_tiny_leaves_are_few_batches_with_most_of_their_merges() -> None:
    shape = plan([f"{i}" for i in range(10_000)], recipe="r")
    jobs = [Job(step.name, None if step.leaf is None else LEAF, step.children) for step in shape.steps]
    batches = batched(jobs, 2)
    together = [batch for batch in batches if len(batch) > 1]
    assert len(together) < 400  # families stay together, so they hold fewer than 32 leaves
    assert sum(map(len, together)) > 0.98 * len(jobs)
    assert all(len(batch) == 1 for batch in batched(jobs, 2_000))  # a leaf for each of so many threads


def test_partitions_and_single_tasks_are_never_batched() -> None:
    jobs = [Job(f"{i}", Leaf(f"partition-{i}", (), 0, 0, "")) for i in range(99)] + [Job(f"fit{i}") for i in range(99)]
    assert batched(jobs, 1) == [(job,) for job in jobs]
