"""An evaluator in its own process: what it is given and what it says."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from raymc.connectivity.planes import LineTask, TraceTask
from raymc.connectivity.work import EndpointTask, PairTask
from raymc.runtime.losses import halted
from raymc.specs.errors import RaymcError, StorageFault
from raymc.specs.results import Evaluation

if TYPE_CHECKING:
    from raymc.connectivity.evaluator import Evaluator

Found = TypeVar("Found")
Task = EndpointTask | PairTask | LineTask | TraceTask
_FAULTS = (RaymcError, OSError, RuntimeError)  # that a task, or a machine's disk, may be at fault for
Ends = Mapping[str, tuple[Evaluation | None, Evaluation | None]]


@dataclass(frozen=True)
class EvaluatorSettings:
    """What every actor of the pool is made of."""

    storage: str
    cpus: float
    gpus: float
    cache_bytes: int
    token_budget: int | None
    compile: Literal["auto", "on", "off"] = "auto"


@dataclass(frozen=True)
class Work:
    """Paths to score, with what is known of their ends, and some that follow, whose endpoints are kept or read."""

    tasks: Sequence[tuple[PairTask, Ends]]
    coming: Sequence[PairTask] = ()


@dataclass(frozen=True)
class Report:
    """What came of a batch: an error or None for each task. What is None is in the store."""

    errors: Sequence[RaymcError | None]
    loads: int  # endpoints read
    seconds: float
    writing: float  # seconds of the actor's life so far that rows and records took to write


class EvaluatorActor:
    """Faults of a task are returned by class, so that none is taken for a crash.

    A StorageFault is none of a task: this machine can't write, or reach the storage, and tasks given to it would all
    fail. It names the machine, and the run ends with it.
    """

    _loads = 0  # of evaluators before the present one

    def __init__(self, settings: EvaluatorSettings, sets: Any):
        import torch

        from raymc.store.store import Store
        from raymc.tasks import backbones

        backbones.quiet()
        torch.set_num_threads(max(1, int(settings.cpus)))
        self._settings, self._sets = settings, sets
        self._fault: StorageFault | None = None
        try:
            self._store = Store(settings.storage)
            self._evaluator = self._make()
        except _FAULTS as error:
            self._fault = halted(error, settings.storage)
            if self._fault is None:
                raise

    def _make(self) -> Evaluator:
        from raymc.connectivity.evaluator import Evaluator

        settings = self._settings
        return Evaluator(
            self._store,
            self._sets,
            device="cuda" if settings.gpus else "cpu",
            cache_bytes=settings.cache_bytes,
            token_budget=settings.token_budget,
            compile=settings.compile,
        )

    def ready(self) -> None:
        """Comes back once the actor can work. Raises StorageFault where its machine can't use the storage.

        Raised as the actor is made it would come as text alone.
        """
        if self._fault is not None:
            raise self._fault

    def evaluate(self, task: EndpointTask | LineTask | TraceTask) -> list[Any] | RaymcError:
        from raymc.connectivity.plane_scores import find_traces, score_line

        def attempt() -> list[Any]:
            if isinstance(task, EndpointTask):
                return list(self._evaluator.endpoint(task))
            if isinstance(task, LineTask):
                return list(score_line(self._evaluator, task))
            return list(find_traces(self._evaluator, self._store, task))

        try:
            return self._fitted(attempt)
        except _FAULTS as error:
            return self._told(error)

    def room(self, task: PairTask) -> int | RaymcError:
        """How many endpoints of such a path's space are kept at once."""
        try:
            labels = self._evaluator.labels(task.splits[0])
            _, model = self._evaluator.opened(task.a, task.space, labels, task.precision)
            return self._evaluator.fits(model)
        except _FAULTS as error:
            return self._told(error)

    def pairs(self, work: Work) -> Report | RaymcError:
        """Score paths and keep their profiles, all at once at the end. RaymcError: the run can't go on.

        What was scored before a StorageFault is kept as far as that can still be done.
        """
        from raymc.connectivity.records import keep

        began, loads = time.perf_counter(), self.loads
        self._evaluator.expect([*(task for task, _ in work.tasks), *work.coming])
        errors: list[RaymcError | None] = []
        done = []
        stop: RaymcError | None = None
        for task, ends in work.tasks:
            try:
                done.append((task, self._fitted(lambda task=task, ends=ends: self._evaluator.pair(task, ends))))
                errors.append(None)
            except _FAULTS as error:
                fault = self._told(error)
                if isinstance(fault, StorageFault):
                    stop = fault
                    break
                errors.append(fault)
        try:
            keep(self._store, done)
        except _FAULTS as error:
            stop = stop or self._told(error)
        return stop or Report(errors, self.loads - loads, time.perf_counter() - began, self._store.seconds)

    @property
    def loads(self) -> int:
        """Endpoints that this actor has read."""
        return self._loads + self._evaluator.loads

    def _fitted(self, attempt: Callable[[], Found]) -> Found:
        """What an attempt gives; where memory runs out, what it gives once nothing else is held.

        Raises RaymcError where it doesn't fit then either: no other try can mend that.
        """
        from raymc.training.memory import is_exhaustion, release, shortage

        lacking = ""
        for _ in range(2):
            try:
                return attempt()
            except Exception as error:
                if not is_exhaustion(error):
                    raise
                lacking = shortage(error)
            # Out here the error is gone, and its frames no longer hold what they had in memory.
            self._loads, budget = self.loads, self._evaluator.token_budget
            del self._evaluator
            release()
            self._evaluator = self._make()
        raise RaymcError(
            f"it doesn't fit the memory ({lacking}) with {budget} tokens a pass: a smaller "
            "resources.evaluator.token_budget, or resources.evaluator.cache, leaves more room"
        )

    def _told(self, error: Exception) -> RaymcError:
        """An error as what it is to a person: the machine's (StorageFault) or the task's own. Others are raised."""
        stop = halted(error, self._store.uri)
        if stop is not None:
            return stop
        if isinstance(error, RaymcError):
            return error
        raise error
