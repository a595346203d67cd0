"""An evaluator in its own process: what it is given and what it says."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from raymc.connectivity.planes import LineTask, TraceTask
from raymc.connectivity.work import EndpointTask, PairTask
from raymc.runtime.losses import disk_full
from raymc.specs.errors import RaymcError
from raymc.specs.results import Evaluation

Task = EndpointTask | PairTask | LineTask | TraceTask
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
    """Faults of a task are returned by class, so that none is taken for a crash."""

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
            compile=settings.compile,
        )

    def ready(self) -> None:
        """Comes back once the actor can work."""

    def evaluate(self, task: EndpointTask | LineTask | TraceTask) -> list[Any] | RaymcError:
        from raymc.connectivity.plane_scores import find_traces, score_line

        try:
            if isinstance(task, EndpointTask):
                return list(self._evaluator.endpoint(task))
            if isinstance(task, LineTask):
                return list(score_line(self._evaluator, task))
            return list(find_traces(self._evaluator, self._store, task))
        except RaymcError as error:
            return error

    def room(self, task: PairTask) -> int | RaymcError:
        """How many endpoints of such a path's space are kept at once."""
        try:
            labels = self._evaluator.labels(task.splits[0])
            _, model = self._evaluator.opened(task.a, task.space, labels, task.precision)
            return self._evaluator.fits(model)
        except RaymcError as error:
            return error

    def pairs(self, work: Work) -> Report | RaymcError:
        """Score paths and keep their profiles, all at once at the end. RaymcError: the store can't be written."""
        from raymc.connectivity.records import keep

        began, loads = time.perf_counter(), self._evaluator.loads
        self._evaluator.expect([*(task for task, _ in work.tasks), *work.coming])
        errors: list[RaymcError | None] = []
        done = []
        try:
            for task, ends in work.tasks:
                try:
                    done.append((task, self._evaluator.pair(task, ends)))
                    errors.append(None)
                except RaymcError as error:
                    errors.append(error)
            keep(self._store, done)
        except RaymcError as error:
            return error
        except OSError as error:
            full = disk_full(error, self._store.uri)
            if full is None:
                raise
            return full
        return Report(errors, self._evaluator.loads - loads, time.perf_counter() - began, self._store.seconds)
