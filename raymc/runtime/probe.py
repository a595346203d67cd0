"""Measures a precision where evaluators run: one Ray task with an evaluator's resources."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import ray
from ray.exceptions import RayError, RayTaskError

from raymc.runtime.cluster import Shape
from raymc.runtime.losses import LOSSES, loss_of
from raymc.specs.errors import RaymcError
from raymc.specs.trial import TrialSpec

if TYPE_CHECKING:
    from raymc.connectivity.precision import Part
    from raymc.specs.precision import Decision


@dataclass(frozen=True)
class Probe:
    """What is measured, and how; see raymc.connectivity.precision.measure."""

    storage: str
    spec_json: str
    trials: Mapping[str, TrialSpec]  # of minima that stand on a backbone outside their folder
    parts: Sequence[Part]
    tolerance: float
    on_any_machine: bool
    cache_bytes: int
    token_budget: int | None


def probe(what: Probe, shape: Shape, stop: threading.Event) -> dict[str, Decision] | None:
    """Decisions by the keys of the parts, or None where `stop` was set before they were there.

    It is started again a few times where its worker dies. Raises RaymcError, CorruptArtefact for what is damaged.
    """
    task: Any = ray.remote(_measured).options(num_cpus=shape.cpus, num_gpus=shape.gpus, max_retries=LOSSES)
    call = task.remote(what, max(1, int(shape.cpus)), "cuda" if shape.gpus else "cpu")
    while not ray.wait([call], timeout=0.5)[0]:
        if stop.is_set():
            ray.cancel(call, force=True)
            return None
    try:
        found: Any = ray.get(call)
    except RayTaskError as error:
        raise error.cause if isinstance(error.cause, RaymcError) else error from error
    except RayError as error:
        raise RaymcError(f"the precision can't be measured: {loss_of(error).reason}") from error
    if isinstance(found, RaymcError):
        raise found
    return found


def _measured(what: Probe, threads: int, device: str) -> dict[str, Decision] | RaymcError:
    """In a worker. Faults are returned by class, so that none is taken for a crash."""
    import torch

    from raymc.connectivity.evaluator import Evaluator
    from raymc.connectivity.precision import measure
    from raymc.connectivity.token_sets import token_sets
    from raymc.specs.sweep import SweepSpec
    from raymc.store.store import Store
    from raymc.tasks import backbones

    backbones.quiet()
    torch.set_num_threads(threads)
    minima = sorted({key for part in what.parts for task, _ in part.points for key in (task.a, task.b)})
    try:
        sets = token_sets(SweepSpec.model_validate_json(what.spec_json), what.storage, minima, what.trials)
        evaluator = Evaluator(
            Store(what.storage), sets, device=device, cache_bytes=what.cache_bytes, token_budget=what.token_budget
        )
        read = next(iter(sets.tokens.values()))
        rows = {split: len(tokens) for split, tokens in read.items()}
        return measure(evaluator, what.parts, rows, what.tolerance, device=device, on_any_machine=what.on_any_machine)
    except RaymcError as error:
        return error
