"""What a pool makes of what its actors say: the pool's own loop and scheduler, with calls that are answered here."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
from ray.exceptions import RayTaskError

from raymc.connectivity.missing import AllPairs
from raymc.connectivity.work import EndpointTask, PairTask
from raymc.runtime import pool as rooms
from raymc.runtime.actor import Report, Work
from raymc.runtime.losses import Loss
from raymc.runtime.pool import Pool
from raymc.specs.errors import RaymcError, StorageFault
from raymc.specs.progress import Silent

FULL = StorageFault("machine one: mirror: No space left on device")


class Call:
    """A method of an actor: `remote` answers at once, by a number for which `ray.get` gives the answer."""

    answers: ClassVar[list[Any]] = []

    def __init__(self, answer: Any):
        self._answer = answer

    def remote(self, *given: Any) -> int:
        self.answers.append(self._answer(*given))
        return len(self.answers) - 1


class Machine:
    """An actor. `broken`: what it says of all that it is given."""

    def __init__(self, broken: RaymcError | None = None):
        self.given = 0

        def pairs(work: Work) -> Any:
            self.given += len(work.tasks)
            return broken or Report([None] * len(work.tasks), 0, 1e-3, 0.0)

        def evaluate(task: EndpointTask) -> Any:
            self.given += 1
            return broken or [task.key]

        self.pairs, self.evaluate, self.room = Call(pairs), Call(evaluate), Call(lambda task: 100)


class Crew:
    """Its machines are all there from the start; calls end in the order in which they were made, one a look."""

    def __init__(self, *machines: Machine):
        self.idle, self.count = list(machines), len(machines)

    def tend(self, *given: Any) -> None:
        pass

    def ended(self, flying: dict[Any, Any]) -> list[Any]:
        return list(flying)[:1]

    def drop(self, actor: Any) -> None:
        pass


@pytest.fixture(autouse=True)
def _no_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Call, "answers", [])
    monkeypatch.setattr(rooms, "ray", SimpleNamespace(get=lambda call: Call.answers[call]))


def pool(*machines: Machine) -> Pool:
    made = Pool.__new__(Pool)
    made._retries, made._progress, made._writing = 2, Silent(), {}
    made._crew = Crew(*machines)  # type: ignore[assignment]
    return made


class Pairs:
    missing = AllPairs(40)

    def __init__(self) -> None:
        self.finished: list[RaymcError | None] = []

    def tasks(self, i: int, j: int) -> list[PairTask]:
        return [PairTask(str(i), str(j), "weights", "linear", (), ())]

    def ends(self, task: PairTask) -> dict[str, Any]:
        return {}

    def done(self, task: PairTask, error: RaymcError | None) -> None:
        self.finished.append(error)


FIRST = PairTask("0", "1", "weights", "linear", (), ())
TASKS = [EndpointTask(str(number), "weights", ()) for number in range(9)]


def test_a_machine_that_cannot_write_ends_the_run_not_the_pairs():
    """Of 780 pairs none fails; what others have in hand is finished, and nothing new begins."""
    broken, sound, pairs = Machine(FULL), Machine(), Pairs()
    with pytest.raises(StorageFault, match="machine one"):
        pool(sound, broken).pairs(pairs, FIRST, threading.Event())
    assert broken.given == 1
    assert pairs.finished == [None] * sound.given
    assert sound.given == 1


def test_all_pairs_are_scored_by_sound_machines():
    pairs = Pairs()
    pool(Machine(), Machine()).pairs(pairs, FIRST, threading.Event())
    assert pairs.finished == [None] * (40 * 39 // 2)


def test_it_ends_endpoints_and_planes_too():
    broken, sound, found = Machine(FULL), Machine(), []
    with pytest.raises(StorageFault, match="machine one"):
        pool(sound, broken).run(TASKS, lambda task, results: found.extend(results), threading.Event())
    assert (broken.given, len(found)) == (1, sound.given)
    failed = pool(Machine(RaymcError("of the task"))).run(TASKS, lambda *one: None, threading.Event())
    assert [str(error) for _, error in failed] == ["of the task"] * 9


def test_it_ends_the_run_where_it_is_asked_for_room():
    broken = Machine()
    broken.room = Call(lambda task: FULL)
    with pytest.raises(StorageFault, match="machine one"):
        pool(broken).pairs(Pairs(), FIRST, threading.Event())
    assert broken.given == 0


@pytest.mark.parametrize(
    ("cause", "reason"),
    [(MemoryError(), "MemoryError"), (AssertionError("  \n "), "AssertionError"), (ValueError("one\ntwo"), "two")],
)
def test_an_exception_without_text_goes_by_its_name(monkeypatch, cause, reason):
    error = RayTaskError("score", "a traceback", cause)

    def get(call: Any) -> Any:
        raise error.as_instanceof_cause()

    monkeypatch.setattr(rooms, "ray", SimpleNamespace(get=get))
    assert rooms._result(0) == (None, Loss("error", reason))
