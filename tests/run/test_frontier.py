"""Laws of the order in which jobs start."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coretree.data.scan import Leaf
from coretree.run.frontier import Frontier, Job

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


@settings(max_examples=60, deadline=None)
@given(
    n_leaves=st.integers(0, 40),
    fan_in=st.integers(2, 9),
    stored=st.sets(st.integers(0, 39)),
    cap=st.integers(1, 10),
    seed=st.integers(0, 9),
)
def test_every_job_starts_once_after_its_children_and_leaves_stay_within_the_cap(
    n_leaves: int, fan_in: int, stored: set[int], cap: int, seed: int
) -> None:
    jobs = make_jobs(n_leaves, fan_in, stored)
    names = {job.name for job in jobs}
    rng, frontier = random.Random(seed), Frontier(jobs)
    started: list[str] = []
    finished: set[str] = set()
    live: list[Job] = []
    while not frontier.done:
        ready = [j for j in jobs if j.children and j.name not in started and names & set(j.children) <= finished]
        taken = frontier.take(cap)
        assert taken[: len(ready)] == sorted(taken[: len(ready)], key=lambda job: job.leaf is not None)
        assert {job.name for job in ready} <= {job.name for job in taken}  # merges never wait
        assert all(names & set(job.children) <= finished for job in taken)
        leaves = sum(job.leaf is not None for job in taken)
        assert leaves == 0 or len(live) + len(taken) <= max(cap, len(ready) + len(live))
        started += [job.name for job in taken]
        live += taken
        assert len(live) == len(frontier.live)
        done = live.pop(rng.randrange(len(live)))
        assert frontier.finish(done.name) is done
        finished.add(done.name)
    assert sorted(started) == sorted(names)
    assert frontier.total == len(jobs)
    assert frontier.take(cap) == []


def test_jobs_that_wait_for_one_another_are_an_error_and_no_hang() -> None:
    frontier = Frontier([Job("a", None, ("b",)), Job("b", None, ("a",))])
    with pytest.raises(ValueError, match="2 jobs wait for one another, first a"):
        frontier.take(4)


def test_names_are_unique() -> None:
    with pytest.raises(ValueError, match="names of their own"):
        Frontier([Job("a", LEAF), Job("a", LEAF)])
