"""The second half of a run: endpoints, pairs and planes that the store has no record of."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from raymc.connectivity.planes import LineTask, Planes, TraceTask
from raymc.connectivity.work import EndpointTask, PairTask
from raymc.specs.errors import CorruptArtefact
from raymc.sweep.state import State

if TYPE_CHECKING:
    from raymc.runtime.cluster import Shape
    from raymc.runtime.pool import Pool
    from raymc.specs.results import Evaluation

Damaged = dict[str, CorruptArtefact]


def evaluate(state: State, shape: Shape, actors: int) -> bool:
    """Evaluate what is missing; whether a minimum or curve turned out damaged and is to be made again."""
    from raymc.runtime.pool import EvaluatorSettings, Pool

    keys, planes = state.whole(), Planes(state.connections)
    endpoints, _ = state.connections.missing_endpoints(keys)
    pairs, _ = state.connections.missing_pairs(keys)
    lines, _ = planes.missing_lines(keys)
    traces, _ = planes.missing_traces(keys)
    if not endpoints and not pairs and not lines and not traces:
        return False
    evaluator = state.spec.resources.evaluator
    settings = EvaluatorSettings(
        storage=state.store.uri,
        cpus=shape.cpus,
        gpus=shape.gpus,
        cache_bytes=evaluator.cache,
        token_budget=evaluator.token_budget,
    )
    began = time.perf_counter()
    spec_json = state.spec.model_dump_json()
    retries = state.spec.failure.pair_retries
    adapted = state.connections.adapted(keys)
    count = max(1, min(actors, max(len(endpoints), len(pairs), len(lines))))
    with Pool(settings, spec_json, sorted(keys), adapted, count, retries, state.progress) as pool:
        damaged = _endpoints(state, pool, keys, endpoints)
        state.mark("endpoints", began)
        began = time.perf_counter()
        damaged |= _pairs(state, pool, keys, pairs, damaged)
        state.mark("pairs", began)
        if lines or traces:
            began = time.perf_counter()
            damaged |= _planes(state, pool, planes, lines, traces, damaged)
            state.mark("planes", began)
    for error in damaged.values():
        state.set_aside(error)
    return bool(damaged)


def _endpoints(state: State, pool: Pool, keys: set[str], tasks: Sequence[EndpointTask]) -> Damaged:
    if not tasks:
        return {}
    damaged: Damaged = {}
    state.progress.stage("endpoints", len(keys), len(keys) - len(tasks))
    for task, error in pool.run(tasks, lambda _: {}, lambda _, found: _put(state, found), state.stop):
        assert isinstance(task, EndpointTask)
        if isinstance(error, CorruptArtefact):
            damaged[error.key] = error
        else:
            state.failed_minima[task.key] = f"it can't be evaluated: {error}"
            state.progress.say(f"{state.name(task.key)} can't be evaluated: {error}")
    return damaged


def _pairs(state: State, pool: Pool, keys: set[str], pairs: Sequence[PairTask], lost: Damaged) -> Damaged:
    ends: dict[tuple[str, str], Evaluation] = {}
    for key in keys - lost.keys():
        for split in state.connections.endpoint_splits(key):
            found = state.connections.evaluation(key, split)
            if found is not None:
                ends[key, split] = found
    ready = [
        task
        for task in pairs
        if all(end in ends for end in _needed(task)) and (task.a, task.b, task.curve) not in state.failed_pairs
    ]
    if not ready or state.stop.is_set():
        return {}
    damaged: Damaged = {}
    possible = sum(1 for _ in state.connections.pairs(keys)) * len(state.spec.connectivity.curves)
    state.progress.stage("pairs", state.connections.total_pairs(), possible - len(pairs))

    def known(task: PairTask, key: str, split: str) -> Evaluation | None:
        """An end's evaluation, unless it is of another space: merged weights are equal up to rounding only."""
        made_in = state.connections.space(key)
        return ends.get((key, split)) if made_in in (task.space, "weights") else None

    def both(task: PairTask) -> dict[str, tuple[Evaluation | None, Evaluation | None]]:
        return {split: (known(task, task.a, split), known(task, task.b, split)) for split in task.splits}

    def put_pair(task: Any, found: list[Any]) -> None:
        _put(state, found)
        state.computed_pairs.add((task.a, task.b, task.curve))

    for task, error in pool.run(ready, both, put_pair, state.stop):
        assert isinstance(task, PairTask)
        if isinstance(error, CorruptArtefact):
            damaged[error.key] = error
        else:
            state.failed_pairs[task.a, task.b, task.curve] = str(error)
            state.progress.say(f"{state.name(task.a)} - {state.name(task.b)} failed: {error}")
    return damaged


def _planes(
    state: State, pool: Pool, planes: Planes, lines: Sequence[LineTask], traces: Sequence[TraceTask], lost: Damaged
) -> Damaged:
    ready = [task for task in (*lines, *traces) if not lost.keys() & {*task.through}]
    if not ready or state.stop.is_set():
        return {}
    damaged: Damaged = {}
    total = sum(grid.points for grid in planes.grids)
    state.progress.stage("planes", total + len(traces), max(0, total - len(lines)))

    def put(task: Any, found: list[Any]) -> None:
        for one in found:
            planes.put(one, task)

    for task, error in pool.run(ready, lambda _: {}, put, state.stop):
        assert isinstance(task, (LineTask, TraceTask))
        if isinstance(error, CorruptArtefact):
            damaged[error.key] = error
        else:
            name = next(grid.name for grid in planes.grids if grid.through == task.through)
            state.failed_planes[name] = str(error)
            state.progress.say(f"{name} failed: {error}")
    return damaged


def _put(state: State, found: list[Any]) -> None:
    for result in found:
        state.connections.put(result)


def _needed(task: PairTask) -> list[tuple[str, str]]:
    """The evaluations (key, row set) that a path starts from: of the ends that are its minima as they are."""
    known = list(zip(task.splits, task.known, strict=True))
    return [(task.a, s) for s, (first, _) in known if first] + [(task.b, s) for s, (_, last) in known if last]
