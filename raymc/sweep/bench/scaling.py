"""One evaluator process against several at the same time, each on one thread, as the actors of a run are."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Any

from raymc.connectivity.work import PairTask
from raymc.specs.errors import RaymcError
from raymc.sweep.bench.exhaustive import task_of
from raymc.sweep.bench.place import Place

if TYPE_CHECKING:
    from raymc.runtime.actor import Work
    from raymc.runtime.together import Together

_MOST = 4  # actors that are started where nothing else is asked for
_LEAST = 1.0  # seconds of work of each, at least


def counts_of(actors: int | None) -> list[int]:
    """How many at once are compared: 1, 2, 4, ... and as many as asked for (default: processors, 4 at most)."""
    most = actors or min(_MOST, os.cpu_count() or 1)
    return sorted({most, *(2**i for i in range(most.bit_length()) if 2**i <= most)})


@dataclass(frozen=True)
class Scaled:
    """`passes`: of one row set after another, that each actor did in a round."""

    found: Together
    passes: int

    def over_one(self, count: int) -> float:
        """How many times the passes a second of one actor; the median over the rounds."""
        one, several = self.found.seconds[1], self.found.seconds[count]
        return median(count * first / both for first, both in zip(one, several, strict=True))

    def as_dict(self) -> dict[str, Any]:
        return {"seconds": self.found.seconds, "passes_each": self.passes, "peak_bytes": self.found.peak}


def scaled(
    place: Place, tasks: Sequence[PairTask], ends: Any, counts: list[int], seconds: float, rounds: int
) -> Scaled:
    """`ends`: of each task, as Place.ends gives them. `seconds`: about what a pass over all row sets takes.

    Raises RaymcError where so many actors can't be placed.
    """
    from raymc.runtime.actor import EvaluatorSettings, Work
    from raymc.runtime.cluster import Shape, Unplaceable, connect
    from raymc.runtime.together import together

    inner = max(1, min(math.ceil(_LEAST / seconds), tasks[0].points - 2))
    repeated = max(1, math.ceil(_LEAST / (seconds * inner)))
    most = max(counts)
    gpus = 1.0 / most if place.device.startswith("cuda") else 0.0
    resources = place.spec.resources.evaluator
    settings = EvaluatorSettings(place.store.uri, 1.0, gpus, resources.cache, resources.token_budget, resources.compile)

    def work(number: int) -> Work:
        task, known = tasks[number % len(tasks)], ends[number % len(tasks)]
        return Work([(task_of(task, inner + 2), known)] * repeated)

    warm = [(task_of(task, 3), known) for task, known in zip(tasks, ends, strict=True)]
    with connect(None, verbose=False) as cluster:
        try:
            cluster.require(Shape(1.0, gpus), most, "--actors", "actors")
        except Unplaceable as error:
            raise RaymcError(str(error)) from error
        works = [work(number) for number in range(most)]
        found = together(settings, place.sets, Work(warm), works, counts, rounds)
    return Scaled(found, inner * repeated * len(tasks[0].splits))
