"""Whatever happens to files and tree, and wherever it breaks off: the tree is the one that a new build would give."""

from __future__ import annotations

import os
import shutil
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from coretree import CoresetTree, Dataset, ThreadExecutor
from coretree.errors import CoretreeError, DataWarning, EmptyDataError
from coretree.tree.manifest import MANIFEST_KEY
from coretree.tree.store import MemoryStore
from days import FAILURES, Failing, day, numbers_in, opened, tags, write_day

ONE = ThreadExecutor(1)
SIZE = 60
breaks = st.none() | st.tuples(st.integers(1, 12), st.sampled_from(FAILURES), st.booleans())
STEPS = {"done": 0, "broken": 0}
SLOW = partial(pytest.param, marks=pytest.mark.slow)


class Days(RuleBasedStateMachine):
    """A folder of daily files, a tree, and what both should hold."""

    passes: ClassVar[int] = 2
    by_id: ClassVar[bool] = True
    template: ClassVar[Path]
    oracle: ClassVar[MemoryStore]

    def __init__(self) -> None:
        super().__init__()
        self.home = Path(tempfile.mkdtemp(prefix="days-"))
        self.files: dict[str, pd.DataFrame] = {}
        self.erased: dict[str, set[int]] = {}  # keys by file; with an id column all of them under ""
        self.leaf_bytes, self.next = 100, 10

    def teardown(self) -> None:
        shutil.rmtree(self.home)

    @initialize()
    def copy_the_template(self) -> None:
        shutil.copytree(self.template, self.home, dirs_exist_ok=True)  # with times of change: they are fingerprints
        self.files = {f"d{i:03d}": day(i) for i in range(3)}

    # ---- what the machine does ---------------------------------------------------------------------------------

    @property
    def folder(self) -> Path:
        return self.home / "data"

    def data(self, names: list[str] | None = None) -> Dataset:
        options: dict[str, Any] = {"id": "key"} if self.by_id else {}
        where: Any = self.folder if names is None else [self.folder / f"{name}.parquet" for name in names]
        return opened(where, leaf_bytes=self.leaf_bytes, **options)

    def tree(self, store: Any = None) -> CoresetTree:
        return CoresetTree.open(self.home / "tree" if store is None else store)

    def carried_out(self, call: Callable[[CoresetTree], Any], broken: Any) -> Any:
        """Make a call; where it is to break, see that the tree is whole, and make it again."""
        STEPS["done"] += 1
        if broken is None:
            return call(self.tree())
        at, error, done = broken
        before = self.tree().name_
        try:
            call(self.tree(Failing(self.tree().store, at, error, done=done)))
        except FAILURES:
            STEPS["broken"] += 1
        between = self.tree()
        assert between.verify()
        found = call(self.tree())
        assert between.name_ in (before, self.tree().name_)  # the old one or the new one, and nothing else
        return found

    def update(self, broken: Any, **options: Any) -> Any:
        lost = [name for name in self.erased if name in self.rewritten] if not self.by_id else []
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always", DataWarning)
            change = self.carried_out(lambda tree: tree.update(self.data(), client=ONE, **options), broken)
        back = {w.message.args[0].split(".parquet")[0] for w in said if "erased by their position" in str(w.message)}
        assert back <= set(lost)
        for name in lost:
            self.erased.pop(name)
        self.rewritten.clear()
        return change

    rewritten: ClassVar[set[str]] = set()

    def write(self, name: str, frame: pd.DataFrame, group_rows: int) -> None:
        write_day(self.folder, name, frame, group_rows)
        self.files[name] = frame

    def fresh(self, undated: float = 0.0, n: int = 120) -> tuple[str, pd.DataFrame]:
        self.next += 1
        return f"d{self.next:03d}", day(self.next % 20, n, seed=self.next, first_key=self.next * 1000, undated=undated)

    def pick(self, data: Any) -> str:
        return str(data.draw(st.sampled_from(sorted(self.files))))

    # ---- rules ---------------------------------------------------------------------------------------------------

    @precondition(lambda self: len(self.files) < 7)
    @rule(n=st.integers(50, 200), undated=st.sampled_from([0.0, 0.0, 0.3]), broken=breaks)
    def append(self, n: int, undated: float, broken: Any) -> None:
        name, frame = self.fresh(undated, n)
        self.write(name, frame, 60)
        assert self.update(broken).removed == 0

    @rule(data=st.data(), n=st.integers(50, 200), group_rows=st.sampled_from([30, 60, 500]), broken=breaks)
    def rewrite(self, data: Any, n: int, group_rows: int, broken: Any) -> None:
        """Half of the keys stay, so that erased rows come back."""
        name = self.pick(data)
        old = self.files[name]
        _, frame = self.fresh(0.0, n)
        half = min(n, len(old)) // 2
        frame.loc[: half - 1, "key"] = old.loc[: half - 1, "key"].to_numpy()
        self.write(name, frame.assign(tag=tags(frame["key"])), group_rows)
        self.rewritten.add(name)
        self.update(broken)

    @precondition(lambda self: len(self.files) > 2)
    @rule(data=st.data(), by_source=st.booleans(), broken=breaks)
    def delete(self, data: Any, by_source: bool, broken: Any) -> None:
        name = self.pick(data)
        self.files.pop(name)
        if not self.by_id:
            self.erased.pop(name, None)
        os.unlink(self.folder / f"{name}.parquet")
        if by_source:
            self.carried_out(lambda tree: tree.remove(source=f"{name}.*", client=ONE), broken)
        else:
            self.update(broken)

    @rule(data=st.data(), n=st.integers(1, 5), broken=breaks)
    def erase(self, data: Any, n: int, broken: Any) -> None:
        name = self.pick(data)
        gone = self.gone()
        left = [key for key in self.files[name]["key"] if key not in gone]
        keys = data.draw(st.lists(st.sampled_from(left), min_size=1, max_size=n, unique=True))
        source = self.data()
        change = self.carried_out(lambda tree: tree.remove(where={"key": keys}, data=source, client=ONE), broken)
        assert change.n_erased == len(keys) or broken is not None
        self.erased.setdefault("" if self.by_id else name, set()).update(keys)

    @rule(leaf_bytes=st.sampled_from([100, 6_000]), broken=breaks)
    def cut_otherwise(self, leaf_bytes: int, broken: Any) -> None:
        self.leaf_bytes = leaf_bytes
        self.update(broken)

    @precondition(lambda self: len(self.files) < 7)
    @rule(broken=breaks)
    def absorb(self, broken: Any) -> None:
        name, frame = self.fresh()
        self.write(name, frame, 60)
        site = CoresetTree(MemoryStore()).build(self.data([name]), client=ONE, like=self.tree())
        if broken is None or broken[0] < 3:
            self.carried_out(lambda tree: tree.absorb(site, client=ONE), None)
        else:  # abandoned on the way, and taken up from the files
            try:
                self.tree(Failing(self.tree().store, 2, broken[1])).absorb(site, client=ONE)
            except FAILURES:
                STEPS["broken"] += 1
            self.update(None)

    @rule(at=st.integers(1, 6), error=st.sampled_from(FAILURES))
    def begin_and_give_up(self, at: int, error: type[BaseException]) -> None:
        """What an abandoned update leaves behind is unreachable, and goes with the next erasure at the latest."""
        name, frame = self.fresh()
        write_day(self.folder, name, frame)
        try:
            self.tree(Failing(self.tree().store, at, error)).update(self.data(), client=ONE)
        except FAILURES:
            STEPS["broken"] += 1
        os.unlink(self.folder / f"{name}.parquet")
        self.update(None)

    @rule(data=st.data())
    def keep_what_vanished(self, data: Any) -> None:
        names = data.draw(st.lists(st.sampled_from(sorted(self.files)), min_size=1, unique=True))
        STEPS["done"] += 1
        change = self.tree().update(self.data(names), vanished="keep", client=ONE)
        assert (change.added, change.changed, change.removed, change.n_made) == (0, 0, 0, 0)

    @rule()
    def again(self) -> None:
        before = (self.home / "tree" / MANIFEST_KEY).read_bytes()
        assert self.update(None).n_made == 0
        assert (self.home / "tree" / MANIFEST_KEY).read_bytes() == before

    @rule(broken=breaks)
    def gc(self, broken: Any) -> None:
        self.carried_out(lambda tree: tree.gc(), broken)
        tree = self.tree()
        assert tree.verify().unreachable == 0
        assert tree.gc(dry_run=True) == ()

    @rule(start=st.integers(0, 20 * 24), hours=st.integers(1, 20 * 24))
    def window(self, start: int, hours: int) -> None:
        STEPS["done"] += 1
        low, high = start * 3600.0, (start + hours) * 3600.0
        tree, gone = self.tree(), self.gone()
        rows = pd.concat(self.files.values())
        seconds = (rows["when"] - pd.Timestamp(0)).dt.total_seconds()
        inside = rows[(seconds >= low) & (seconds < high) & ~rows["key"].isin(gone)]
        try:
            core = tree.coreset(start=low, end=high, objective="uniform")
        except EmptyDataError:
            assert len(inside) < 60  # nothing there, or in no kept row of a leaf on the border
            return
        dated = core.seconds[~np.isnan(core.seconds)]
        assert ((dated >= low) & (dated < high)).all()
        assert not set(core.X["tag"]) & set(tags(sorted(gone)))
        assert core.sample_weight.sum() == pytest.approx(sum(core.class_counts.values()))
        window = tree.window(low, high)
        if not window.estimated_share:
            undated = round(window.undated_share * core.n_rows)
            assert core.n_rows == len(inside) + undated

    # ---- what must hold ------------------------------------------------------------------------------------------

    def gone(self) -> set[int]:
        return {key for keys in self.erased.values() for key in keys}

    @invariant()
    def it_is_the_tree_of_a_new_build(self) -> None:
        if not self.files:
            return
        tree, gone, data = self.tree(), self.gone(), self.data()
        self.oracle.delete(MANIFEST_KEY)
        new = CoresetTree(self.oracle).build(data, client=ONE, like=tree)
        if gone:
            new.remove(where={"key": sorted(gone)}, data=data, client=ONE)
        assert tree.name_ == new.name_
        assert tree.manifest_.nodes == new.manifest_.nodes  # checksums: every sketch, sum and profile, to the last bit
        mine, theirs = tree.coreset(), new.coreset()
        assert mine.ids.tobytes() == theirs.ids.tobytes()
        np.testing.assert_allclose(mine.sample_weight, theirs.sample_weight, rtol=1e-9)
        n_rows = sum((~frame["key"].isin(gone)).sum() for frame in self.files.values())
        assert tree.n_rows_ == n_rows
        found = tree.verify()
        assert found, found.problems

    @invariant()
    def erased_rows_are_nowhere(self) -> None:
        gone = self.gone()
        if gone:
            lost = tags(sorted(gone))
            for key, numbers in numbers_in(self.tree().store).items():
                assert not np.isin(lost, numbers).any(), key
            assert not list((self.home / "tree").rglob(".part-*"))


def run(tmp_path: Path, *, passes: int, by_id: bool, examples: int, steps: int, derandomize: bool) -> None:
    """Build once, and let every example start from a copy."""
    for i in range(3):
        write_day(tmp_path / "data", f"d{i:03d}", day(i))
    options: dict[str, Any] = {"id": "key"} if by_id else {}
    tree = CoresetTree(tmp_path / "tree", size=SIZE, fan_in=2, passes=passes)
    tree.build(opened(tmp_path / "data", **options), client=ONE)
    members = {"passes": passes, "by_id": by_id, "template": tmp_path, "oracle": MemoryStore(), "rewritten": set()}
    machine = type("DaysHere", (Days,), members)
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            derandomize=derandomize,
            suppress_health_check=list(HealthCheck),
        ),
    )


pytestmark = pytest.mark.filterwarnings("ignore::coretree.errors.CoretreeWarning")


@pytest.mark.parametrize(("passes", "by_id", "steps"), [(2, True, 10), (2, False, 5), (1, True, 4), (3, False, 4)])
def test_a_few_steps(tmp_path: Path, passes: int, by_id: bool, steps: int) -> None:
    run(tmp_path, passes=passes, by_id=by_id, examples=1, steps=steps, derandomize=True)


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize(
    ("passes", "by_id", "examples"), [(2, True, 30), (2, False, 30), (1, True, 8), (3, True, 8), (3, False, 8)]
)
def test_thousands_of_steps(tmp_path: Path, passes: int, by_id: bool, examples: int) -> None:
    STEPS.update(done=0, broken=0)
    run(tmp_path, passes=passes, by_id=by_id, examples=examples, steps=50, derandomize=False)
    print(f"passes={passes}, by id: {by_id}: {STEPS['done']} steps, {STEPS['broken']} broken off")


# ---- negative controls: what the machine would see -------------------------------------------------------------------


def machine(tmp_path: Path, *, by_id: bool = True) -> Days:
    """A machine that is driven by hand."""
    for i in range(3):
        write_day(tmp_path / "data", f"d{i:03d}", day(i))
    options: dict[str, Any] = {"id": "key"} if by_id else {}
    CoresetTree(tmp_path / "tree", size=SIZE, fan_in=2).build(opened(tmp_path / "data", **options), client=ONE)
    members = {"by_id": by_id, "template": tmp_path, "oracle": MemoryStore(), "rewritten": set()}
    found: Days = type("DaysHere", (Days,), members)()
    found.copy_the_template()
    return found


def drive(days: Days) -> None:
    """A row is erased, its file is cut otherwise, another one comes."""
    days.it_is_the_tree_of_a_new_build()
    days.tree().remove(where={"key": [7]}, data=days.data(), client=ONE)
    days.erased["" if days.by_id else "d000"] = {7}
    days.erased_rows_are_nowhere()
    days.cut_otherwise(leaf_bytes=6_000, broken=None)
    days.append(n=60, undated=0.0, broken=None)
    days.it_is_the_tree_of_a_new_build()
    days.erased_rows_are_nowhere()


@pytest.mark.parametrize("by_id", [pytest.param(True, marks=pytest.mark.slow), False])
def test_a_drive_by_hand_is_fine(tmp_path: Path, by_id: bool) -> None:
    days = machine(tmp_path, by_id=by_id)
    drive(days)
    days.teardown()


@pytest.mark.parametrize(
    ("where", "fault"),
    [
        ("coretree.run.removal.sweep", lambda store: ()),
        ("coretree.run.tasks.by_class", lambda columns, ids: (columns, ids)),
        SLOW("coretree.run.membership.carried_over", lambda leaves, *_: list(leaves)),
        SLOW("coretree.run.settle.every_node", lambda shape, stored: replace(shape, steps=shape.steps[-1:])),
    ],
)
def test_a_fault_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str, fault: Any) -> None:
    days = machine(tmp_path, by_id=False)
    monkeypatch.setattr(where, fault)
    with pytest.raises((AssertionError, CoretreeError)):
        drive(days)
    days.teardown()
