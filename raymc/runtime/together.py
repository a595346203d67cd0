"""Evaluator actors that do the same work at the same time: how much faster several are than one."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import RayError

from raymc.runtime.actor import EvaluatorActor, EvaluatorSettings, Work
from raymc.runtime.losses import loss_of
from raymc.specs.errors import RaymcError


@dataclass(frozen=True)
class Together:
    """`seconds`: by how many actors worked at once, the wall time of each round. `peak`: bytes each actor held."""

    seconds: dict[int, list[float]]
    peak: list[int]


class WatchedActor(EvaluatorActor):
    """An actor of the pool that tells what memory it took."""

    def peak(self) -> int:
        """Bytes at most: on a GPU of tensors there, else of its main memory."""
        import torch

        return torch.cuda.max_memory_allocated() if torch.cuda.is_initialized() else most_held()


def together(
    settings: EvaluatorSettings, sets: Any, warm: Work, works: Sequence[Work], counts: Sequence[int], rounds: int
) -> Together:
    """Start an actor for each of `works` on a joined Ray cluster, and have the first 1, ... of them work at once.

    `sets`: the rows as token ids. `warm`: what each does before. `counts`: how many at once, in turn; in the other
    order in every second round. Raises RaymcError where an actor fails.
    """
    shared = ray.put(sets)
    options: dict[str, Any] = {"num_cpus": settings.cpus, "num_gpus": settings.gpus, "max_restarts": 0}
    make = ray.remote(WatchedActor).options(**options)
    actors: list[Any] = [make.remote(settings, shared) for _ in works]
    try:
        _done([actor.pairs.remote(warm) for actor in actors])
        seconds: dict[int, list[float]] = {count: [] for count in counts}
        for number in range(rounds):
            for count in counts if number % 2 == 0 else reversed(counts):
                began = time.perf_counter()
                _done([actor.pairs.remote(work) for actor, work in list(zip(actors, works, strict=True))[:count]])
                seconds[count].append(time.perf_counter() - began)
        return Together(seconds, ray.get([actor.peak.remote() for actor in actors]))
    finally:
        for actor in actors:
            ray.kill(actor)


def most_held() -> int:
    """Bytes of main memory that this process has held at most."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def _done(calls: list[Any]) -> None:
    """Raises RaymcError where one of them failed."""
    try:
        reports = ray.get(calls)
    except RayError as error:
        raise RaymcError(f"an evaluator failed: {loss_of(error).reason}") from error
    for report in reports:
        for fault in [report] if isinstance(report, RaymcError) else [one for one in report.errors if one]:
            raise fault
