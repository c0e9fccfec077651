"""Which jobs may start next, and which start together: pure bookkeeping shared by every executor."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from coretree.data.scan import Leaf

MOST_LEAVES = 32  # of a batch
MOST_BYTES = 4 << 20  # of its leaves together, decoded
BATCHES_A_SLOT = 4  # at least, so that every worker has something to do until the end


@dataclass(frozen=True)
class Job:
    """A unit of work: a leaf to read, or children (in the store by then) to merge.

    ``children`` that are not among the jobs count as done already.
    """

    name: str
    leaf: Leaf | None = None
    children: tuple[str, ...] = ()


Batch: TypeAlias = tuple[Job, ...]
"""Jobs that one worker carries out one after the other, children first; most often a single one."""


def batched(jobs: Sequence[Job], n_slots: int) -> list[Batch]:
    """Tiny leaves of files that lie next to one another, with what is merged of them alone, as one batch each.

    What it costs to send a job somewhere and to hear of its end is a hundred times what a leaf of a few rows costs.
    Siblings stay together where they fit, since then their merge can, too. Every other job is a batch of its own.

    Parameters
    ----------
    jobs : sequence of Job
        Leaves in leaf order; merges that stand before one of their children stay alone.
    n_slots : int
        Jobs that can run at the same time: each of them is left with several batches.

    Examples
    --------
    >>> leaves = [Job(f"{i}", Leaf("a", (i,), 9, 99, "")) for i in range(8)]
    >>> jobs = [*leaves, Job("m", None, ("0", "1")), Job("n", None, ("3", "4")), Job("o", None, ("m", "n"))]
    >>> [[job.name for job in batch] for batch in batched(jobs, 1)]
    [['0', '1', 'm'], ['2'], ['3', '4', 'n'], ['5', '6'], ['7'], ['o']]
    """
    tiny = [job for job in jobs if job.leaf is not None and job.leaf.row_groups and job.leaf.n_bytes <= MOST_BYTES]
    most = min(MOST_LEAVES, len(tiny) // (BATCHES_A_SLOT * n_slots))
    if most < 2:
        return [(job,) for job in jobs]
    of_leaves = _runs(tiny, {child: job.name for job in jobs for child in job.children}, most)
    at = {job.name: i for i, run in enumerate(of_leaves) for job in run}
    names, alone = {job.name for job in jobs}, []
    for job in jobs:
        if job.name in at:
            continue
        homes = {at.get(child) for child in job.children if child in names}
        home = homes.pop() if len(homes) == 1 else None
        if home is None:
            alone.append((job,))
        else:
            at[job.name] = home
            of_leaves[home].append(job)
    return [*map(tuple, of_leaves), *alone]


def _runs(tiny: Sequence[Job], parents: dict[str, str], most: int) -> list[list[Job]]:
    """Cut leaves into runs, best between families; a family that is too large for one run is cut, too."""
    family = Counter(parents.get(job.name) for job in tiny)
    runs: list[list[Job]] = []
    room = left = 0
    before: str | None = None
    for job in tiny:
        assert job.leaf is not None
        parent = parents.get(job.name)
        full = room < (1 if parent == before else min(family[parent], most)) or left < job.leaf.n_bytes
        if not runs or full:
            runs.append([])
            room, left = most, MOST_BYTES
        runs[-1].append(job)
        room, left, before = room - 1, left - job.leaf.n_bytes, parent
    return runs


class Frontier:
    """Batches not yet started, in an order that merges as early as possible and keeps few leaves in flight.

    Raises
    ------
    ValueError
        Two jobs share a name; and from ``take``, when jobs wait for one another in a circle.

    Examples
    --------
    >>> leaf = Leaf("a", (), 1, 1, "")
    >>> a, b, both = Job("a", leaf), Job("b", leaf), Job("ab", None, ("a", "b"))
    >>> f = Frontier([(a,), (b,), (both,)])
    >>> [job.name for job, in f.take(8)]
    ['a', 'b']
    >>> f.finish((b,)), f.finish((a,))
    (None, None)
    >>> [job.name for job, in f.take(8)]
    ['ab']
    """

    def __init__(self, batches: Sequence[Batch]) -> None:
        jobs = [job for batch in batches for job in batch]
        self._jobs = {job.name: job for job in jobs}
        self.total = self._left = len(jobs)
        if len(self._jobs) < self.total:
            raise ValueError(
                f"frontier: {self.total} jobs must have names of their own; found {len(self._jobs)} names."
            )
        self._leaves = deque(batch for batch in batches if not batch[0].children)
        self._waiting = {j.name: sum(c in self._jobs for c in j.children) for j in jobs if j.children}
        self._ready = deque((self._jobs[name],) for name, n in self._waiting.items() if n == 0)
        self._parents: dict[str, list[str]] = {}
        for job in jobs:
            for child in job.children:
                self._parents.setdefault(child, []).append(job.name)
        self.live: dict[str, Batch] = {}

    @property
    def done(self) -> bool:
        """Whether nothing is left to start or to wait for."""
        return self._left == 0

    def take(self, cap: int) -> list[Batch]:
        """Start every merge that is ready, and leaves while fewer than ``cap`` batches are in flight."""
        out = []
        while self._ready or (self._leaves and len(self.live) < cap):
            batch = (self._ready if self._ready else self._leaves).popleft()
            self.live[batch[0].name] = batch
            out.append(batch)
        if not self.live and not self.done:  # nobody would ever wake these up
            stuck = sorted(name for name, n in self._waiting.items() if n)
            raise ValueError(f"frontier: {len(stuck)} jobs wait for one another, first {stuck[0]}.")
        return out

    def finish(self, batch: Batch) -> None:
        """Record that all jobs of a batch are finished; their parents may become ready."""
        del self.live[batch[0].name]
        self._left -= len(batch)
        own = {job.name for job in batch}
        for job in batch:
            for parent in self._parents.get(job.name, ()):
                self._waiting[parent] -= 1
                if self._waiting[parent] == 0 and parent not in own:
                    self._ready.append((self._jobs[parent],))

    def split(self, batch: Batch) -> None:
        """Give up on a batch in flight: its leaves are next, one by one, and its merges wait for them."""
        del self.live[batch[0].name]
        self._leaves.extendleft((job,) for job in reversed(batch) if not job.children)
