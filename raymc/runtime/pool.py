"""A pool of evaluator actors: one call in flight each, dead actors replaced, tries of a task capped."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import ray
from ray.exceptions import RayActorError, RayTaskError

from raymc.connectivity.missing import Missing
from raymc.connectivity.planes import LineTask, TraceTask
from raymc.connectivity.scheduler import Batch, Scheduler
from raymc.connectivity.tiles import arrange
from raymc.connectivity.work import EndpointTask, PairTask
from raymc.runtime.actor import Ends, EvaluatorActor, EvaluatorSettings, Report, Work
from raymc.specs.errors import CorruptArtefact, RaymcError
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


def _token_sets(
    spec_json: str, storage: str, minima: Sequence[str], trials: Mapping[str, TrialSpec]
) -> tuple[Any, bool]:
    """Run as a Ray task: the row sets as token ids; and True, for which the driver waits without fetching the first."""
    from raymc.connectivity.token_sets import token_sets
    from raymc.specs.sweep import SweepSpec

    return token_sets(SweepSpec.model_validate_json(spec_json), storage, minima, trials), True


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
    ):
        self._retries, self._progress, self._count = retries, progress, actors
        make: Any = ray.remote(_token_sets).options(num_cpus=settings.cpus, num_returns=2, max_retries=2)
        self._sets, made = make.remote(spec_json, settings.storage, list(minima), dict(trials))  # nodes share one copy
        try:
            ray.get(made)
        except RayTaskError as error:
            raise error.cause if isinstance(error.cause, RaymcError) else error from error
        self._settings = settings
        options: dict[str, Any] = {"num_cpus": settings.cpus, "num_gpus": settings.gpus, "max_restarts": 0}
        self._actor = ray.remote(EvaluatorActor).options(**options)
        self._actors: list[Any] = []
        self._writing: dict[Any, float] = {}  # by actor, those that are gone too

    @property
    def writing(self) -> float:
        """Seconds that rows and records took to write, over all actors that scored pairs."""
        return sum(self._writing.values())

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *exc: object) -> None:
        for actor in self._actors:
            ray.kill(actor)
        self._actors.clear()

    # One by one -------------------------------------------------------------------------------------------------------

    def run(
        self, tasks: Sequence[Single], done: Callable[[Any, list[Any]], None], stop: threading.Event
    ) -> list[tuple[Single, RaymcError]]:
        """Evaluate all tasks; the failed ones with their reasons. `done` is called in the driver as results come.

        A task whose actor dies is tried again, `retries` times at most. Once `stop` is set, what is in flight is
        finished and nothing new begins.
        """
        waiting = deque((task, 0) for task in tasks)
        failed: list[tuple[Single, RaymcError]] = []
        flying: dict[Any, tuple[Any, Single, int]] = {}
        idle = list(self._actors)
        while flying or (waiting and not stop.is_set()):
            while waiting and not stop.is_set() and len(flying) < self._count:
                task, tries = waiting.popleft()
                actor = idle.pop() if idle else self._new()
                flying[actor.evaluate.remote(task)] = (actor, task, tries)
            for call in _ready(flying):
                actor, task, tries = flying.pop(call)
                result, reason = _result(call)
                if reason:
                    self._drop(actor)
                    if tries < self._retries:
                        self._progress.say(f"{_name(task)} is tried again: {reason}")
                        waiting.append((task, tries + 1))
                    else:
                        failed.append((task, RaymcError(f"{reason} ({tries + 1} tries)")))
                        self._progress.advance(False)
                    continue
                idle.append(actor)
                if isinstance(result, RaymcError):
                    failed.append((task, result))
                    self._progress.advance(isinstance(result, CorruptArtefact))
                else:
                    done(task, result)
                    self._progress.advance()
        return failed

    # Pairs, in batches ------------------------------------------------------------------------------------------------

    def pairs(self, pairs: Pairs, first: PairTask, stop: threading.Event) -> None:
        """Score all that is missing; actors write profiles to the store themselves. `first`: any of the tasks.

        The pairs of a batch whose actor dies are tried again one by one, each `retries` times at most; once `stop` is
        set, the batches in flight are finished. Raises RaymcError where the store can't be written.
        """
        order = arrange(pairs.missing, self._room(first), self._count)
        scheduler = Scheduler(order, self._count, retries=self._retries)
        flying: dict[Any, tuple[Any, list[PairTask]]] = {}
        idle = list(self._actors)
        asked = 0.0  # when an actor last got nothing to do
        coming: dict[Any, dict[tuple[int, int], list[PairTask]]] = {}
        while scheduler.left and (flying or not stop.is_set()):
            now = time.monotonic()
            while not stop.is_set() and len(flying) < self._count and now - asked > _ASK_AGAIN:
                actor = idle.pop() if idle else self._new()
                batch = scheduler.next(actor, now)
                if batch is None:
                    idle.append(actor)
                    asked = now
                    break
                work = _work(pairs, batch, coming.setdefault(actor, {}))
                flying[actor.pairs.remote(work)] = (actor, [task for task, _ in work.tasks])
            for call in _ready(flying):
                actor, tasks = flying.pop(call)
                report, reason = _result(call)
                now = time.monotonic()
                if reason:
                    self._drop(actor)
                    coming.pop(actor, None)
                    again, given_up = scheduler.lost(actor, now)
                    asked = 0.0
                    if again is not None:
                        more = f" and {len(tasks) - 1} more" if len(tasks) > 1 else ""
                        self._progress.say(f"{_name(tasks[0])}{more} is tried again: {reason}")
                    for task in tasks if given_up is not None else ():
                        self._finish(pairs, task, RaymcError(f"{reason} ({self._retries + 1} tries)"))
                    continue
                idle.append(actor)
                if isinstance(report, RaymcError):
                    raise report
                assert isinstance(report, Report)
                self._writing[actor] = report.writing
                if scheduler.done(actor, now, report.loads, report.seconds) is not None:
                    for task, error in zip(tasks, report.errors, strict=True):
                        self._finish(pairs, task, error)
        for actor, _ in flying.values():  # what they repeat is done
            self._drop(actor)

    def _finish(self, pairs: Pairs, task: PairTask, error: RaymcError | None) -> None:
        pairs.done(task, error)
        self._progress.advance(error is None or isinstance(error, CorruptArtefact))

    def _room(self, task: PairTask) -> int:
        """How many endpoints an actor keeps; two where that can't be told, as with a damaged minimum."""
        actor = self._actors[0] if self._actors else self._new()
        room, reason = _result(actor.room.remote(task))
        if reason:
            self._drop(actor)
        return room if isinstance(room, int) else 2

    def _new(self) -> Any:
        actor = self._actor.remote(self._settings, self._sets)
        self._actors.append(actor)
        return actor

    def _drop(self, actor: Any) -> None:
        self._actors.remove(actor)
        ray.kill(actor)


def _ready(flying: Mapping[Any, Any]) -> list[Any]:
    """Calls that have ended, after half a second at most."""
    if not flying:
        return []
    calls = list(flying)
    ready, _ = ray.wait(calls, num_returns=1, timeout=0.5)
    return ray.wait(calls, num_returns=len(calls), timeout=0)[0] if len(ready) < len(calls) and ready else ready


def _result(call: Any) -> tuple[Any, str]:
    """(what a call gave, why it gave nothing)."""
    try:
        return ray.get(call), ""
    except RayActorError:
        return None, "its worker died"
    except RayTaskError as error:
        return None, str(getattr(error, "cause", error)).strip().splitlines()[-1]


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
