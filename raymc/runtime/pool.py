"""A pool of evaluator actors: one call in flight each, dead actors replaced, tries of a task capped."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import RayActorError, RayTaskError

from raymc.connectivity.planes import LineTask, TraceTask
from raymc.connectivity.work import EndpointTask, PairTask
from raymc.specs.errors import CorruptArtefact, RaymcError
from raymc.specs.progress import Progress
from raymc.specs.results import Evaluation
from raymc.specs.trial import TrialSpec

Task = EndpointTask | PairTask | LineTask | TraceTask
Ends = Mapping[str, tuple[Evaluation | None, Evaluation | None]]


@dataclass(frozen=True)
class EvaluatorSettings:
    """What every actor of the pool is made of."""

    storage: str
    cpus: float
    gpus: float
    cache_bytes: int
    token_budget: int


def _token_sets(
    spec_json: str, storage: str, minima: Sequence[str], trials: Mapping[str, TrialSpec]
) -> tuple[Any, bool]:
    """Run as a Ray task: the row sets as token ids; and True, for which the driver waits without fetching the first."""
    from raymc.connectivity.token_sets import token_sets
    from raymc.specs.sweep import SweepSpec

    return token_sets(SweepSpec.model_validate_json(spec_json), storage, minima, trials), True


class EvaluatorActor:
    """One evaluator in its own process. Faults of a task are returned by class, so that none is taken for a crash."""

    def __init__(self, settings: EvaluatorSettings, sets: Any):
        import torch

        from raymc.connectivity.evaluator import Evaluator
        from raymc.store.store import Store
        from raymc.tasks import backbones

        backbones.quiet()
        torch.set_num_threads(max(1, int(settings.cpus)))
        self._store = Store(settings.storage)
        self._evaluator = Evaluator(
            self._store,
            sets,
            device="cuda" if settings.gpus else "cpu",
            cache_bytes=settings.cache_bytes,
            token_budget=settings.token_budget,
        )

    def evaluate(self, task: Task, ends: Ends) -> list[Any] | RaymcError:
        from raymc.connectivity.plane_scores import find_traces, score_line

        try:
            if isinstance(task, EndpointTask):
                return list(self._evaluator.endpoint(task))
            if isinstance(task, LineTask):
                return list(score_line(self._evaluator, task))
            if isinstance(task, TraceTask):
                return list(find_traces(self._evaluator, self._store, task))
            return list(self._evaluator.pair(task, ends))
        except RaymcError as error:
            return error


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

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *exc: object) -> None:
        for actor in self._actors:
            ray.kill(actor)
        self._actors.clear()

    def run(
        self,
        tasks: Sequence[Task],
        ends: Callable[[PairTask], Ends],
        done: Callable[[Any, list[Any]], None],
        stop: threading.Event,
    ) -> list[tuple[Task, RaymcError]]:
        """Evaluate all tasks; the failed ones with their reasons. `done` is called in the driver as results come.

        A task whose actor dies is tried again, `retries` times at most. Once `stop` is set, what is in flight is
        finished and nothing new begins.
        """
        waiting = deque((task, 0) for task in tasks)
        failed: list[tuple[Task, RaymcError]] = []
        flying: dict[Any, tuple[Any, Task, int]] = {}
        idle = list(self._actors)
        while flying or (waiting and not stop.is_set()):
            while waiting and not stop.is_set() and len(flying) < self._count:
                task, tries = waiting.popleft()
                actor = idle.pop() if idle else self._new()
                call = actor.evaluate.remote(task, ends(task) if isinstance(task, PairTask) else {})
                flying[call] = (actor, task, tries)
            ready, _ = ray.wait(list(flying), num_returns=1, timeout=0.5)
            for call in ready:
                actor, task, tries = flying.pop(call)
                try:
                    result = ray.get(call)
                except (RayActorError, RayTaskError) as error:
                    self._drop(actor)
                    died = isinstance(error, RayActorError)
                    reason = "its worker died" if died else str(getattr(error, "cause", error)).strip().splitlines()[-1]
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

    def _new(self) -> Any:
        actor = self._actor.remote(self._settings, self._sets)
        self._actors.append(actor)
        return actor

    def _drop(self, actor: Any) -> None:
        self._actors.remove(actor)
        ray.kill(actor)


def _name(task: Task) -> str:
    if isinstance(task, EndpointTask):
        return task.key
    return f"{task.a} - {task.b}" if isinstance(task, PairTask) else f"plane {' - '.join(task.through)}"
