"""The second half of a run: endpoints and pairs that the store has no record of."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from raymc.connectivity.work import PairTask
from raymc.specs.errors import CorruptArtefact
from raymc.specs.methods import peft_type
from raymc.sweep.state import State

if TYPE_CHECKING:
    from raymc.runtime.cluster import Shape
    from raymc.specs.results import Evaluation


def evaluate(state: State, shape: Shape, actors: int) -> bool:
    """Evaluate what is missing; whether a minimum turned out damaged and is to be trained again."""
    from raymc.runtime.pool import EvaluatorSettings, Pool

    keys = state.whole()
    endpoints, _ = state.connections.missing_endpoints(keys)
    pairs, _ = state.connections.missing_pairs(keys)
    if not endpoints and not pairs:
        return False
    began = time.perf_counter()
    connectivity, evaluator = state.spec.connectivity, state.spec.resources.evaluator
    settings = EvaluatorSettings(
        storage=state.store.uri,
        points=connectivity.points,
        precision=connectivity.precision,
        cpus=shape.cpus,
        gpus=shape.gpus,
        cache_bytes=evaluator.cache,
        token_budget=evaluator.token_budget,
    )
    ends: dict[tuple[str, str], Evaluation] = {}
    damaged: dict[str, CorruptArtefact] = {}
    spec_json = state.spec.model_dump_json()
    retries = state.spec.failure.pair_retries
    made = {key: point.trial for key, point in state.points.items() if key in keys}
    adapted = {key: trial for key, trial in made.items() if peft_type(trial) is not None}
    count = max(1, min(actors, max(len(endpoints), len(pairs))))
    with Pool(settings, spec_json, sorted(keys), adapted, count, retries, state.progress) as pool:
        if endpoints:
            total = len(keys)
            state.progress.stage("endpoints", total, total - len(endpoints))
            for task, error in pool.run(endpoints, lambda _: {}, lambda _, found: _put(state, found), state.stop):
                if isinstance(error, CorruptArtefact):
                    damaged[error.key] = error
                else:
                    state.failed_minima[task.key] = f"it can't be evaluated: {error}"  # type: ignore[union-attr]
                    state.progress.say(f"{state.name(task.key)} can't be evaluated: {error}")  # type: ignore[union-attr]
        state.mark("endpoints", began)
        began = time.perf_counter()
        for key in keys - damaged.keys():
            for split in state.connections.endpoint_splits(key):
                found = state.connections.evaluation(key, split)
                if found is not None:
                    ends[key, split] = found
        ready = [
            task
            for task in pairs
            if all(end in ends for end in _needed(task)) and (task.a, task.b, task.curve) not in state.failed_pairs
        ]

        def known(task: PairTask, key: str, split: str) -> Evaluation | None:
            """An end's evaluation, unless it is of another space: merged weights are equal up to rounding only."""
            made_in = state.connections.space(key)
            return ends.get((key, split)) if made_in in (task.space, "weights") else None

        if ready and not state.stop.is_set():
            total = state.connections.total_pairs()
            possible = sum(1 for _ in state.connections.pairs(keys)) * len(connectivity.curves)
            state.progress.stage("pairs", total, possible - len(pairs))

            def both(task: Any) -> dict[str, tuple[Evaluation | None, Evaluation | None]]:
                return {split: (known(task, task.a, split), known(task, task.b, split)) for split in task.splits}

            def put_pair(task: Any, found: list[Any]) -> None:
                _put(state, found)
                state.computed_pairs.add((task.a, task.b, task.curve))

            for task, error in pool.run(ready, both, put_pair, state.stop):
                if isinstance(error, CorruptArtefact):
                    damaged[error.key] = error
                else:
                    state.failed_pairs[task.a, task.b, task.curve] = str(error)  # type: ignore[union-attr]
                    state.progress.say(f"{state.name(task.a)} - {state.name(task.b)} failed: {error}")  # type: ignore[union-attr]
        state.mark("pairs", began)
    for error in damaged.values():
        state.set_aside(error)
    return bool(damaged)


def _put(state: State, found: list[Any]) -> None:
    for result in found:
        state.connections.put(result)


def _needed(task: PairTask) -> list[tuple[str, str]]:
    """The evaluations (key, row set) that a path starts from: of the ends that are its minima as they are."""
    known = list(zip(task.splits, task.known, strict=True))
    return [(task.a, s) for s, (first, _) in known if first] + [(task.b, s) for s, (_, last) in known if last]
