"""A pool of evaluator actors: one call in flight each, dead actors replaced, tries of a task capped.

An actor gets work once it runs: where others hold the cluster, what has room does all the work.
raymc.runtime.losses says what counts as a try.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import ray
from ray.exceptions import RayError, RayTaskError

from raymc.connectivity.missing import Missing
from raymc.connectivity.planes import LineTask, TraceTask
from raymc.connectivity.scheduler import Batch, Scheduler
from raymc.connectivity.tiles import arrange
from raymc.connectivity.work import EndpointTask, PairTask
from raymc.runtime.actor import Ends, EvaluatorSettings, Report, Work
from raymc.runtime.crew import Crew
from raymc.runtime.losses import LOSSES, Loss, Tries, loss_of
from raymc.specs.errors import CorruptArtefact, RaymcError, StorageFault, final_line
from raymc.specs.progress import Progress
from raymc.specs.trial import TrialSpec

__all__ = ["Ends", "EvaluatorSettings", "Pairs", "Pool"]

Single = EndpointTask | LineTask | TraceTask
_ASK_AGAIN = 1.0  # seconds after which the scheduler is asked again for an actor without work


class Pairs(Protocol):
    """The paths to score. Minima go by their number."""

    @property
    def missing(self) -> Missing: ...

    def tasks(self, i: int, j: int) -> list[PairTask]:
        """Of a pair that is missing."""
        ...

    def ends(self, task: PairTask) -> Ends:
        """What is known of a path's ends, by row set."""
        ...

    def done(self, task: PairTask, error: RaymcError | None) -> None:
        """A path has its profiles in the store, or failed for good."""
        ...


class Pool:
    """Actors on a joined Ray cluster. Use as a context: they are gone at its end."""

    def __init__(
        self,
        settings: EvaluatorSettings,
        spec_json: str,
        minima: Sequence[str],
        trials: Mapping[str, TrialSpec],
        actors: int,
        retries: int,
        progress: Progress,
        most: int | None = None,
    ):
        """`most`: as many actors as there may be once nodes join; left out: `actors`."""
        self._retries, self._progress = retries, progress
        self._crew = Crew(settings, spec_json, minima, trials, actors, most or actors, progress)
        self._writing: dict[Any, float] = {}  # by actor, those that are gone too

    @property
    def writing(self) -> float:
        """Seconds that rows and records took to write, over all actors that scored pairs."""
        return sum(self._writing.values())

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *exc: object) -> None:
        self._crew.close()

    # One by one -------------------------------------------------------------------------------------------------------

    def run(
        self, tasks: Sequence[Single], done: Callable[[Any, list[Any]], None], stop: threading.Event
    ) -> list[tuple[Single, RaymcError]]:
        """Evaluate all tasks; the failed ones with their reasons. `done` is called in the driver as results come.

        A task whose actor dies is tried again, `retries` times at most. Once `stop` is set, what is in flight is
        finished and nothing new begins; so too where a machine can't use the storage, for which StorageFault is raised
        then. Raises RaymcError where no actor can be started.
        """
        halted: StorageFault | None = None
        waiting = deque((task, Tries(self._retries)) for task in tasks)
        failed: list[tuple[Single, RaymcError]] = []
        flying: dict[Any, tuple[Any, Single, Tries]] = {}
        while flying or (waiting and not stop.is_set() and halted is None):
            if halted is None:
                self._crew.tend(len(waiting) + len(flying), stop)
            while waiting and self._crew.idle and not stop.is_set() and halted is None:
                task, tries = waiting.popleft()
                actor = self._crew.idle.pop()
                flying[actor.evaluate.remote(task)] = (actor, task, tries)
            for call in self._crew.ended(flying):
                actor, task, tries = flying.pop(call)
                result, loss = _result(call)
                if loss is not None:
                    self._crew.drop(actor)
                    why = tries.again(loss)
                    if why is None:
                        self._progress.say(f"{_name(task)} is tried again: {loss.reason}")
                        waiting.append((task, tries))
                    else:
                        failed.append((task, RaymcError(why)))
                        self._progress.advance(False)
                    continue
                self._crew.idle.append(actor)
                if isinstance(result, StorageFault):
                    halted = halted or result
                elif isinstance(result, RaymcError):
                    failed.append((task, result))
                    self._progress.advance(isinstance(result, CorruptArtefact))
                else:
                    done(task, result)
                    self._progress.advance()
        if halted is not None:
            raise halted
        return failed

    # Pairs, in batches ------------------------------------------------------------------------------------------------

    def pairs(self, pairs: Pairs, first: PairTask, stop: threading.Event) -> None:
        """Score all that is missing; actors write profiles to the store themselves. `first`: any of the tasks.

        The pairs of a batch whose actor dies are tried again one by one, each `retries` times at most; once `stop` is
        set, the batches in flight are finished; so too where a machine can't use the storage, for which StorageFault is
        raised then. Raises RaymcError where no actor can be started.
        """
        halted: RaymcError | None = None
        order = arrange(pairs.missing, self._room(first, stop), self._crew.count)
        scheduler = Scheduler(order, self._crew.count, retries=self._retries, losses=LOSSES)
        flying: dict[Any, tuple[Any, list[PairTask]]] = {}
        asked = 0.0  # when an actor last got nothing to do
        coming: dict[Any, dict[tuple[int, int], list[PairTask]]] = {}
        while scheduler.left and (flying or not (stop.is_set() or halted)):
            if halted is None:
                self._crew.tend(scheduler.left, stop)
            now = time.monotonic()
            while self._crew.idle and not stop.is_set() and halted is None and now - asked > _ASK_AGAIN:
                actor = self._crew.idle.pop()
                batch = scheduler.next(actor, now)
                if batch is None:
                    self._crew.idle.append(actor)
                    asked = now
                    break
                work = _work(pairs, batch, coming.setdefault(actor, {}))
                flying[actor.pairs.remote(work)] = (actor, [task for task, _ in work.tasks])
            for call in self._crew.ended(flying):
                actor, tasks = flying.pop(call)
                report, loss = _result(call)
                now = time.monotonic()
                if loss is not None:
                    self._crew.drop(actor)
                    coming.pop(actor, None)
                    again, given_up = scheduler.lost(actor, now, blame=loss.cause != "node")
                    asked = 0.0
                    if again is not None:
                        more = f" and {len(tasks) - 1} more" if len(tasks) > 1 else ""
                        self._progress.say(f"{_name(tasks[0])}{more} is tried again: {loss.reason}")
                    for task in tasks if given_up is not None else ():
                        self._finish(pairs, task, RaymcError(f"{loss.reason} ({self._retries + 1} tries)"))
                    continue
                self._crew.idle.append(actor)
                if isinstance(report, RaymcError):
                    halted = halted or report
                    continue
                assert isinstance(report, Report)
                self._writing[actor] = report.writing
                if scheduler.done(actor, now, report.loads, report.seconds) is not None:
                    for task, error in zip(tasks, report.errors, strict=True):
                        self._finish(pairs, task, error)
        for actor, _ in flying.values():  # what they repeat is done
            self._crew.drop(actor)
        if halted is not None:
            raise halted

    def _finish(self, pairs: Pairs, task: PairTask, error: RaymcError | None) -> None:
        pairs.done(task, error)
        self._progress.advance(error is None or isinstance(error, CorruptArtefact))

    def _room(self, task: PairTask, stop: threading.Event) -> int:
        """How many endpoints an actor keeps; two where that can't be told, as with a damaged minimum."""
        while not self._crew.idle:
            if stop.is_set():
                return 2
            self._crew.tend(1, stop)
            self._crew.ended({})
        actor = self._crew.idle[-1]
        room, loss = _result(actor.room.remote(task))
        if loss is not None:
            self._crew.drop(actor)
        if isinstance(room, StorageFault):
            raise room
        return room if isinstance(room, int) else 2


def _result(call: Any) -> tuple[Any, Loss | None]:
    """(what a call gave, why it gave nothing)."""
    try:
        return ray.get(call), None
    except RayTaskError as error:
        return None, Loss("error", final_line(getattr(error, "cause", error)))
    except RayError as error:
        return None, loss_of(error)


def _work(pairs: Pairs, batch: Batch, coming: dict[tuple[int, int], list[PairTask]]) -> Work:
    """A batch as tasks. `coming`: those that went along with the batch before, which are of this one now."""
    tasks = [task for i, j in batch.pairs.tolist() for task in coming.get((i, j)) or pairs.tasks(i, j)]
    later = {(i, j): coming.get((i, j)) or pairs.tasks(i, j) for i, j in batch.coming}
    coming.clear()
    coming.update(later)
    return Work([(task, pairs.ends(task)) for task in tasks], [some[0] for some in later.values() if some])


def _name(task: Single | PairTask) -> str:
    if isinstance(task, EndpointTask):
        return task.key
    return f"{task.a} - {task.b}" if isinstance(task, PairTask) else f"plane {' - '.join(task.through)}"
