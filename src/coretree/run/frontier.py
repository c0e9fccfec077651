"""Which job may start next: pure bookkeeping shared by every executor."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from coretree.data.scan import Leaf


@dataclass(frozen=True)
class Job:
    """A unit of work: a leaf to read, or children (in the store by then) to merge.

    ``children`` that are not among the jobs count as done already.
    """

    name: str
    leaf: Leaf | None = None
    children: tuple[str, ...] = ()


class Frontier:
    """Jobs not yet started, in an order that merges as early as possible and keeps few leaves in flight.

    Raises
    ------
    ValueError
        Two jobs share a name; and from ``take``, when jobs wait for one another in a circle.

    Examples
    --------
    >>> leaf = Leaf("a", (), 1, 1, "")
    >>> jobs = [Job("a", leaf), Job("b", leaf), Job("ab", None, ("a", "b"))]
    >>> f = Frontier(jobs)
    >>> [j.name for j in f.take(8)]
    ['a', 'b']
    >>> _, _ = f.finish("b"), f.finish("a")
    >>> [j.name for j in f.take(8)]
    ['ab']
    """

    def __init__(self, jobs: Sequence[Job]) -> None:
        names = {job.name for job in jobs}
        self._jobs = {job.name: job for job in jobs}
        if len(names) < len(jobs):
            raise ValueError(f"frontier: {len(jobs)} jobs must have names of their own; found {len(names)} names.")
        self._leaves = deque(job for job in jobs if not job.children)
        self._waiting = {j.name: sum(c in names for c in j.children) for j in jobs if j.children}
        self._ready = deque(self._jobs[name] for name, n in self._waiting.items() if n == 0)
        self._parents: dict[str, list[str]] = {}
        for job in jobs:
            for child in job.children:
                self._parents.setdefault(child, []).append(job.name)
        self.live: set[str] = set()
        self.total = len(jobs)

    @property
    def done(self) -> bool:
        """Whether nothing is left to start or to wait for."""
        return not (self.live or self._ready or self._leaves or any(self._waiting.values()))

    def take(self, cap: int) -> list[Job]:
        """Start every merge that is ready, and leaves while fewer than ``cap`` jobs are in flight."""
        out = []
        while self._ready or (self._leaves and len(self.live) < cap):
            job = (self._ready if self._ready else self._leaves).popleft()
            self.live.add(job.name)
            out.append(job)
        if not self.live and not self.done:  # nobody would ever wake these up
            stuck = sorted(name for name, n in self._waiting.items() if n)
            raise ValueError(f"frontier: {len(stuck)} jobs wait for one another, first {stuck[0]}.")
        return out

    def finish(self, name: str) -> Job:
        """Record a finished job; its parents may become ready."""
        self.live.discard(name)
        for parent in self._parents.get(name, ()):
            self._waiting[parent] -= 1
            if self._waiting[parent] == 0:
                self._ready.append(self._jobs[parent])
        return self._jobs[name]
