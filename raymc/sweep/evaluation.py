"""The second half of a run: endpoints, pairs and planes that the store has no record of."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from raymc.connectivity.planes import LineTask, Planes, TraceTask
from raymc.connectivity.work import EndpointTask, PairTask
from raymc.specs.errors import CorruptArtefact, RaymcError
from raymc.sweep.state import State

if TYPE_CHECKING:
    from raymc.connectivity.todo import MissingPairs
    from raymc.runtime.cluster import Shape
    from raymc.runtime.pool import Pool
    from raymc.specs.results import Evaluation

Damaged = dict[str, CorruptArtefact]


def evaluate(state: State, shape: Shape, actors: int) -> bool:
    """Evaluate what is missing; whether a minimum or curve turned out damaged and is to be made again."""
    from raymc.runtime.pool import EvaluatorSettings, Pool

    keys, planes = state.whole(), Planes(state.connections)
    endpoints, _ = state.connections.missing_endpoints(keys)
    pairs = state.connections.missing(keys)
    paths = pairs.count()
    lines, _ = planes.missing_lines(keys)
    traces, _ = planes.missing_traces(keys)
    if not endpoints and not paths and not lines and not traces:
        return False
    evaluator = state.spec.resources.evaluator
    settings = EvaluatorSettings(
        storage=state.store.uri,
        cpus=shape.cpus,
        gpus=shape.gpus,
        cache_bytes=evaluator.cache,
        token_budget=evaluator.token_budget,
        compile=evaluator.compile,
    )
    began, wrote = time.perf_counter(), state.store.seconds
    spec_json = state.spec.model_dump_json()
    retries = state.spec.failure.pair_retries
    adapted = state.connections.adapted(keys)
    count = max(1, min(actors, max(len(endpoints), paths, len(lines))))
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
        state.add("write", pool.writing + state.store.seconds - wrote)
    for error in damaged.values():
        state.set_aside(error)
    return bool(damaged)


def _endpoints(state: State, pool: Pool, keys: set[str], tasks: Sequence[EndpointTask]) -> Damaged:
    if not tasks:
        return {}
    damaged: Damaged = {}
    state.progress.stage("endpoints", len(keys), len(keys) - len(tasks))
    for task, error in pool.run(tasks, lambda _, found: state.connections.put(*found), state.stop):
        assert isinstance(task, EndpointTask)
        if isinstance(error, CorruptArtefact):
            damaged[error.key] = error
        else:
            state.failed_minima[task.key] = f"it can't be evaluated: {error}"
            state.progress.say(f"{state.name(task.key)} can't be evaluated: {error}")
    return damaged


def _pairs(state: State, pool: Pool, keys: set[str], missing: MissingPairs, lost: Damaged) -> Damaged:
    todo = _Paths(state, keys - lost.keys(), missing)
    first = next((task for pair in missing for task in todo.tasks(*pair)), None)
    if first is None or state.stop.is_set():
        return {}
    state.progress.stage("pairs", state.connections.total_pairs(), state.connections.done_pairs(keys))
    pool.pairs(todo, first, state.stop)
    return todo.damaged


class _Paths:
    """The missing paths whose ends are evaluated, and what comes of them: see raymc.runtime.pool.Pairs."""

    def __init__(self, state: State, keys: set[str], missing: MissingPairs):
        self.missing, self.damaged, self._state = missing, Damaged(), state
        self._ends: dict[tuple[str, str], Evaluation] = {}
        lacking = set(state.points) - keys
        for key in keys:
            for split in state.connections.endpoint_splits(key):
                found = state.connections.evaluation(key, split)
                if found is not None:
                    self._ends[key, split] = found
                else:
                    lacking.add(key)
        order = state.connections.order
        place = {key: number for number, key in enumerate(order)}
        doubtful = {*missing.of_minima(lacking), *((place[a], place[b]) for a, b, _ in state.failed_pairs)}
        missing.drop(pair for pair in doubtful if not self.tasks(*pair))

    def tasks(self, i: int, j: int) -> list[PairTask]:
        failed = self._state.failed_pairs
        return [
            task
            for task in self.missing.tasks(i, j)
            if (task.a, task.b, task.curve) not in failed and all(end in self._ends for end in _needed(task))
        ]

    def ends(self, task: PairTask) -> dict[str, tuple[Evaluation | None, Evaluation | None]]:
        return {split: (self._known(task, task.a, split), self._known(task, task.b, split)) for split in task.splits}

    def _known(self, task: PairTask, key: str, split: str) -> Evaluation | None:
        """An end's evaluation, unless it is of another space: merged weights are equal up to rounding only."""
        made_in = self._state.connections.space(key)
        return self._ends.get((key, split)) if made_in in (task.space, "weights") else None

    def done(self, task: PairTask, error: RaymcError | None) -> None:
        state = self._state
        if error is None:
            state.computed_pairs += 1
        elif isinstance(error, CorruptArtefact):
            self.damaged[error.key] = error
        else:
            state.failed_pairs[task.a, task.b, task.curve] = str(error)
            state.progress.say(f"{state.name(task.a)} - {state.name(task.b)} failed: {error}")


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

    for task, error in pool.run(ready, put, state.stop):
        assert isinstance(task, (LineTask, TraceTask))
        if isinstance(error, CorruptArtefact):
            damaged[error.key] = error
        else:
            name = next(grid.name for grid in planes.grids if grid.through == task.through)
            state.failed_planes[name] = str(error)
            state.progress.say(f"{name} failed: {error}")
    return damaged


def _needed(task: PairTask) -> list[tuple[str, str]]:
    """The evaluations (key, row set) that a path starts from: of the ends that are its minima as they are."""
    known = list(zip(task.splits, task.known, strict=True))
    return [(task.a, s) for s, (first, _) in known if first] + [(task.b, s) for s, (_, last) in known if last]
