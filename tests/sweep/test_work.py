"""What a run leaves to others on the same storage, and what it computes itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from raymc.specs.progress import Silent
from raymc.specs.sweep import SweepSpec
from raymc.store import claims as module
from raymc.store.claims import Claims
from raymc.store.store import Store
from raymc.sweep.sharing import alone, share
from raymc.sweep.state import State
from raymc.sweep.work import Work

PLANE = {"through": ["order=0", "order=1", "order=2"], "points": 5}


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_POLL", 0.0)


@pytest.fixture
def start(state_of: Callable[..., State]) -> Iterator[Callable[..., State]]:
    """start(orders): a run of a sweep whose minima are there, as far as their manifests tell."""
    states = []

    def make(orders: list[int], **connectivity: Any) -> State:
        spec = SweepSpec.model_validate(
            {
                "name": "some",
                "model": {"backbone": {"builtin": "grammar-bert"}},
                "task": {"dataset": {"builtin": "grammar", "validation_rows": 100}, "max_length": 16},
                "train": {"steps": 10},
                "axes": {"seeds.order": orders},
                "connectivity": {"points": 12, "splits": ["validation"], **connectivity},
            }
        )
        states.append(state_of(spec, Silent()))
        return states[-1]

    yield make
    for state in states:
        state.claims.close()


def keys(state: State, *orders: int) -> set[str]:
    return {key for key, point in state.points.items() if point.values["seeds.order"] in orders}


def free(work: Work) -> set[frozenset[str]]:
    """The pairs that are left to this run."""
    return {frozenset(work.state.connections.order[place] for place in pair) for pair in work.pairs}


# A matrix -------------------------------------------------------------------------------------------------------------


def test_alone_all_is_left_to_this_run(start):
    work = Work(start([0, 1, 2], planes=[PLANE]), set())
    assert (len(work.endpoints), work.paths, len(work.lines), len(work.traces)) == (3, 3, 5, 1)
    assert not work.held


def test_endpoints_that_another_scores_and_their_pairs(start):
    one, other = start([0, 1, 2]), start([1, 2, 3])
    theirs = Work(one, set())
    with one.claims.take("endpoints", theirs.groups("endpoints"), keys(one, 0, 1)):
        work = Work(other, set())
        assert {task.key for task in work.endpoints} == keys(other, 2, 3)
        assert free(work) == {frozenset(keys(other, 2, 3))}
        assert [claim.kind for claim in work.held] == ["endpoints"]
    assert len(Work(other, set()).endpoints) == 3


def test_pairs_that_another_scores(start):
    one, other = start([0, 1, 2]), start([1, 2, 3])
    theirs = Work(one, set())
    assert theirs.groups("pairs") == Work(other, set()).groups("pairs")
    with one.claims.take("pairs", theirs.groups("pairs"), theirs.pairs.ends(), pairs=True):
        work = Work(other, set())
        assert free(work) == {frozenset(keys(other, *pair)) for pair in [(1, 3), (2, 3)]}
        assert work.paths == 2
        assert [claim.kind for claim in work.held] == ["pairs"]
        assert work.pairs.ends() == keys(other, 1, 2, 3)


def test_other_rows_are_other_pairs(start):
    one, other = start([0, 1, 2]), start([0, 1, 2], splits=["test"])
    with one.claims.take("pairs", Work(one, set()).groups("pairs"), keys(one, 0, 1, 2), pairs=True):
        work = Work(other, set())
        assert work.paths == 3
        assert not work.held


def test_a_plane_that_another_scores(start):
    one, other = start([0, 1, 2], planes=[PLANE]), start([0, 1, 2], planes=[PLANE])
    theirs = Work(one, set())
    with one.claims.take("planes", theirs.groups("planes"), ["-".join(theirs.lines[0].through)]):
        work = Work(other, set())
        assert not work.lines
        assert not work.traces
        assert len(work.held) == 1


# Runs of training -----------------------------------------------------------------------------------------------------


def test_what_another_finishes_is_not_computed(start):
    """The other holds b and c, finishes b, and fails at c."""
    state, other = start([0]), Claims(Store(start([0]).store.root).objects)
    there: set[str] = set()
    computed: list[list[str]] = []
    holding = other.take("minima", [""], ["b", "c"])
    holding.__enter__()
    polls = 0

    def lacking() -> dict[str, list[str]]:
        nonlocal polls
        polls += 1
        if computed and polls == 6:
            there.add("b")
            holding.__exit__(None, None, None)
        return {key: [key] for key in "abc" if key not in there}

    def compute(runs: dict[str, list[str]]) -> bool:
        computed.append(sorted(runs))
        there.update(runs)
        return False

    share(state, "minima", lacking, compute)
    assert computed == [["a"], ["c"]]


def test_what_is_finished_between_looking_and_claiming_is_not_computed(start):
    state = start([0])
    looks = iter([{"a": ["a"]}, {}, {}])
    share(state, "minima", lambda: next(looks), lambda runs: pytest.fail("it was there"))


def test_a_failure_is_not_tried_again_here(start):
    computed = []
    share(start([0]), "minima", lambda: {"a": ["a"]}, lambda runs: bool(computed.append(runs)))
    assert computed == [{"a": ["a"]}]


def test_one_run_of_a_sweep_at_a_time(start):
    one, other = start([0]), start([0])
    entered = alone(one)
    entered.__enter__()
    said: list[str] = []
    other.claims.say = lambda line: said.append(line) or entered.__exit__(None, None, None)
    with alone(other):
        pass
    assert [line.split(" (")[0] for line in said] == ["waiting for the tables of some that another run"]
