"""Claims: no two living runs own the same at any time, however their steps interleave, and all gets computed."""

from __future__ import annotations

import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from raymc.specs.errors import StorageFault
from raymc.store import claims as module
from raymc.store.claims import Claims
from raymc.store.drivers import Process, this_process
from raymc.store.objects import Entry, Objects


@pytest.fixture
def objects(tmp_path: Path) -> Objects:
    return Objects(tmp_path)


def files(objects: Objects) -> list[str]:
    return [name.removeprefix("claims/") for name in objects.list("claims")]


# By itself ------------------------------------------------------------------------------------------------------------


def test_one_run_alone_gets_all_and_leaves_one_file(objects):
    claims = Claims(objects)
    for _ in range(20):
        since = claims.look()
        with claims.take("minima", [""], ["a", "b"], since) as taken:
            assert taken.keys == {"a", "b"}
            assert not taken.held
            assert not taken.again
        assert len(files(objects)) < 12
    claims.close()
    assert files(objects) == ["log/000000000020.floor"]


def test_what_another_holds_is_left_out_until_it_gives_it_back(objects):
    one, other = Claims(objects), Claims(objects)
    since = other.look()
    with one.take("minima", [""], ["a", "b"]) as mine:
        with other.take("minima", [""], ["b", "c"], since) as taken:
            assert mine.keys == {"a", "b"}
            assert taken.keys == {"c"}
            assert [claim.keys for claim in taken.held] == [{"a", "b"}]
            assert taken.again
        with other.take("curves", [""], ["b"]) as taken:  # of another kind
            assert taken.keys == {"b"}
        with other.take("minima", ["elsewhere"], ["b"]) as taken:  # in another group
            assert taken.keys == {"b"}
    with other.take("minima", [""], ["b"]) as taken:
        assert taken.keys == {"b"}


def test_a_later_claim_holds_only_what_it_got(objects):
    one, two, three = (Claims(objects) for _ in range(3))
    with (
        one.take("minima", [""], ["a", "b"]),
        two.take("minima", [""], ["b", "c"]),
        three.take("minima", [""], ["a", "b", "c", "d"]) as taken,
    ):
        assert taken.keys == {"d"}
        assert sorted(sorted(claim.keys) for claim in taken.held) == [["a", "b"], ["c"]]


def test_pairs_overlap_where_two_ends_are_shared(objects):
    one, other = Claims(objects), Claims(objects)
    with one.take("pairs", ["g"], ["a", "b", "c"], pairs=True):
        with other.take("pairs", ["g", "h"], ["c", "d"], pairs=True) as taken:
            assert not taken.held
        with other.take("pairs", ["g", "h"], ["b", "c", "d"], pairs=True) as taken:
            assert taken.keys == {"b", "c", "d"}
            assert [claim.keys for claim in taken.held] == [{"a", "b", "c"}]


def test_whether_to_look_again(objects):
    one, other = Claims(objects), Claims(objects)
    since = one.look()
    with one.take("minima", [""], ["a"], since) as taken:
        assert not taken.again
    with one.take("minima", [""], ["b"], since) as taken:
        assert not taken.again  # its own claims in between don't count
    with other.take("minima", [""], ["c"]):
        pass
    with one.take("minima", [""], ["c"], since) as taken:
        assert taken.again  # it may be there by now
    with one.take("minima", [""], ["c"]) as taken:
        assert taken.again  # nobody knows


def test_a_number_that_existed_before_is_not_taken(objects, monkeypatch):
    monkeypatch.setattr(module, "_TIDY", 1)
    one, other = Claims(objects), Claims(objects)
    with one.take("minima", [""], ["a"]):
        pass
    with other.take("minima", [""], ["b"]):  # number 2, whose file is taken away
        pass
    with other.take("minima", [""], ["c"]), one.take("minima", [""], ["c", "d"]) as taken:  # knows of number 1 alone
        assert taken.keys == {"d"}
        assert files(objects)[-3:] == ["log/000000000002.floor", *(f"log/{n:012d}.json" for n in (3, 4))]


def test_a_number_that_existed_before_was_anothers(objects, monkeypatch):
    monkeypatch.setattr(module, "_TIDY", 1)
    one, other = Claims(objects), Claims(objects)
    since = one.look()
    with one.take("minima", [""], ["a"]):
        pass
    with other.take("minima", [""], ["b"]):  # number 2, whose file is taken away
        pass
    with one.take("minima", [""], ["b"], since) as taken:
        assert taken.again


def test_an_error_gives_the_claim_back(objects):
    one, other = Claims(objects), Claims(objects)
    with pytest.raises(ZeroDivisionError), one.take("minima", [""], ["a"]):
        raise ZeroDivisionError
    with other.take("minima", [""], ["a"]) as taken:
        assert taken.keys == {"a"}


def test_of_two_errors_the_first_tells(objects, monkeypatch):
    def full(*arguments: Any) -> None:
        raise StorageFault("No space left on device")

    with pytest.raises(ZeroDivisionError), Claims(objects).take("minima", [""], ["a"]):  # noqa: PT012
        monkeypatch.setattr(objects, "put", full)
        raise ZeroDivisionError
    with pytest.raises(StorageFault, match="No space left"), Claims(objects).take("minima", [""], ["a"]):
        pass


def test_waiting_ends_with_the_claim_and_is_said_once(objects):
    said: list[str] = []
    one, other = Claims(objects), Claims(objects, said.append)
    with one.take("minima", [""], ["a"]):
        (claim,) = other.look().claims
        stop = threading.Event()
        stop.set()
        other.wait([claim], "minima", 3, stop=stop)
        other.wait([claim], "minima", 3, over=lambda: True)
    other.wait([claim], "minima", 2)
    other.wait([claim], "curves", 1)
    run = f"another run ({this_process().host}, process {this_process().pid})"
    assert said == [f"waiting for {what} that {run} is computing" for what in ("3 minima", "1 curve")]


def test_a_long_wait_is_said_again_every_five_minutes(objects, monkeypatch):
    monkeypatch.setattr(module, "_POLL", 0.0)
    monkeypatch.setattr(module, "_SPARING", 0)
    said: list[tuple[float, str]] = []
    minutes = iter(range(1000))
    now = [0.0]
    one = Claims(objects)
    other = Claims(objects, lambda line: said.append((now[0], line.split(" minima")[0])), clock=lambda: now[0])

    def over() -> bool:
        now[0] = 60.0 * next(minutes)
        return now[0] > 14 * 60

    with one.take("minima", [""], ["a"]):
        look = other.look()
        monkeypatch.setattr(other, "look", lambda: look)
        other.wait(look.claims, "minima", 3, over)
    assert said == [(0.0, "waiting for 3"), (300.0, "still waiting for 3"), (600.0, "still waiting for 3")]


@pytest.mark.parametrize("where", ["a folder", "S3"])
def test_runs_at_the_same_time(where, tmp_path, request):
    """Each of some units is computed once, and by one run at a time, whatever the storage's own timing."""
    uri = tmp_path if where == "a folder" else request.getfixturevalue("uri")
    done: list[str] = []
    errors: list[BaseException] = []

    def run(units: str) -> None:
        claims = Claims(Objects(uri))
        try:
            while left := set(units) - set(done):
                with claims.take("minima", [""], left) as taken:
                    done.extend(taken.keys - set(done))
        except Exception as error:  # noqa: BLE001 - the test tells
            errors.append(error)
        claims.close()

    runs = [threading.Thread(target=run, args=(units,)) for units in ("abc", "bcd", "cdef", "a")]
    for one in runs:
        one.start()
    for one in runs:
        one.join()
    assert not errors
    assert sorted(done) == list("abcdef")
    assert all(name.endswith(".floor") for name in files(Objects(uri)))


# However steps interleave ---------------------------------------------------------------------------------------------


class Died(BaseException):
    pass


class World:
    """A storage in memory, on which runs take steps when they are told to, and die in between."""

    def __init__(self) -> None:
        self.there: dict[str, bytes] = {}
        self.done: Counter[str] = Counter()
        self.dead: set[int] = set()
        self.runs: list[Run] = []

    def unfinished(self) -> list[Run]:
        return [run for run in self.runs if not run.over]

    def advance(self, run: Run) -> None:
        """Let a run take one step."""
        run.go.release()
        run.ready.acquire()

    def check(self) -> None:
        owned = Counter(key for run in self.runs if run.pid not in self.dead for key in run.owned)
        assert all(count == 1 for count in owned.values()), owned


class Run(Objects):
    """A run as raymc.sweep.sharing makes it, whose every look at the storage is a step."""

    def __init__(self, world: World, pid: int, jobs: list[set[str]]):
        super().__init__("memory")
        self.world, self.pid, self.jobs = world, pid, jobs
        self.owned: frozenset[str] = frozenset()
        self.error: BaseException | None = None
        self.over = False
        self.go, self.ready = threading.Semaphore(0), threading.Semaphore(0)
        world.runs.append(self)
        threading.Thread(target=self._live, daemon=True).start()
        self.ready.acquire()

    def step(self, timeout: float | None = None) -> bool:
        self.ready.release()
        self.go.acquire()
        if self.pid in self.world.dead:
            raise Died
        return False

    wait = step  # as an event that nobody sets

    def _live(self) -> None:
        try:
            self.step()
            claims = Claims(self, process=Process("", "", self.pid, ""))
            for job in self.jobs:
                self._share(claims, job)
            claims.close()
        except Died:
            pass
        except BaseException as error:  # noqa: BLE001 - the test tells
            self.error = error
        self.over = True
        self.ready.release()

    def _share(self, claims: Claims, job: set[str]) -> None:
        while wanted := {key for key in job if not self.world.done[key]}:
            with claims.take("minima", [""], wanted) as taken:
                self.owned = taken.keys
                self.world.check()
                for key in sorted(taken.keys):
                    if not self.world.done[key]:
                        self.step()  # while it is computed
                        self.world.done[key] += 1
                self.owned = frozenset()
            if wanted - taken.keys:
                claims.wait(taken.held, "minima", over=lambda: False, stop=self)  # type: ignore[arg-type]

    # The storage, step by step

    def create(self, name: str, content: bytes) -> bool:
        self.step()
        return self.world.there.setdefault(name, content) is content

    def put(self, name: str, content: bytes) -> None:
        self.step()
        self.world.there[name] = content

    def get(self, name: str) -> bytes | None:
        self.step()
        return self.world.there.get(name)

    def has(self, name: str) -> bool:
        return self.get(name) is not None

    def delete(self, name: str) -> None:
        self.step()
        self.world.there.pop(name, None)

    def list(self, prefix: str = "") -> list[str]:
        self.step()
        return sorted(name for name in self.world.there if name.startswith(f"{prefix}/"))

    def quick(self, silence: float) -> Run:
        return self

    def entries(self, prefix: str = "") -> list[Entry]:
        raise Died  # only at the end, after all is done


JOBS = st.lists(st.sets(st.sampled_from("abcd"), min_size=1), min_size=1, max_size=4)
ACTIONS = st.lists(st.tuples(st.integers(0, 3), st.integers(1, 30)), max_size=60)


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(jobs=st.lists(JOBS, min_size=2, max_size=4), actions=ACTIONS, tidy=st.integers(1, 3), data=st.data())
def test_no_two_living_runs_own_the_same_and_all_is_computed(monkeypatch, jobs, actions, tidy, data):
    world = World()
    monkeypatch.setattr(module, "_TIDY", tidy)
    monkeypatch.setattr(Process, "gone", property(lambda self: self.pid in world.dead))
    for pid, some in enumerate(jobs):
        Run(world, pid, some)
    deaths = data.draw(st.dictionaries(st.integers(0, 60), st.integers(0, 3), max_size=len(jobs) - 1))
    for number, (which, steps) in enumerate(actions):
        if number in deaths:
            world.dead.add(deaths[number])
        run = world.runs[which % len(world.runs)]
        for _ in range(steps):
            if not run.over:
                world.advance(run)
    _finish(world)
    living = [run for run in world.runs if run.pid not in world.dead]
    assert not [run.error for run in world.runs if run.error]
    assert all(world.done[key] for run in living for job in run.jobs for key in job)
    assert all(count <= 1 + len(world.dead) for count in world.done.values())
    if not world.dead:
        assert set(world.done.values()) <= {1}


def _finish(world: World, most: int = 20_000) -> None:
    """Each takes a step in turn, until all have ended."""
    for _ in range(most):
        left: list[Any] = world.unfinished()
        if not left:
            return
        for run in left:
            world.advance(run)
    raise AssertionError("they never end")
