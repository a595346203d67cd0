"""The second half of a run: endpoints, pairs and planes that the store has no record of."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from raymc.connectivity.planes import LineTask, TraceTask
from raymc.connectivity.work import EndpointTask, PairTask
from raymc.specs.errors import CorruptArtefact, RaymcError
from raymc.sweep.state import State
from raymc.sweep.work import Work, unit

if TYPE_CHECKING:
    from raymc.connectivity.todo import MissingPairs
    from raymc.runtime.cluster import Shape
    from raymc.runtime.pool import Pool
    from raymc.specs.results import Evaluation

Damaged = dict[str, CorruptArtefact]


def evaluate(state: State, shape: Shape, actors: int) -> bool:
    """Evaluate what is missing; whether a minimum or curve turned out damaged and is to be made again."""
    tried: set[str] = set()  # endpoints
    while not state.stop.is_set():
        work = Work(state, tried)
        if not work:
            return False
        if work.endpoints or work.paths or work.lines or work.traces:
            damaged = _round(work, shape, actors)
            for error in damaged.values():
                state.set_aside(error)
            if damaged:
                return True
        if not work.held:
            return False
        work.wait()
    return False


def _round(work: Work, shape: Shape, actors: int) -> Damaged:
    from raymc.runtime.pool import EvaluatorSettings, Pool

    state, keys = work.state, work.keys
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
    most = max(len(work.endpoints), work.paths, len(work.lines))
    count = max(1, min(actors, most))
    most = count if evaluator.actors else most  # left open: more where nodes join
    with Pool(settings, spec_json, sorted(keys), adapted, count, retries, state.progress, most) as pool:
        damaged = _endpoints(work, pool)
        state.mark("endpoints", began)
        began = time.perf_counter()
        damaged |= _pairs(work, pool, damaged)
        state.mark("pairs", began)
        if work.lines or work.traces:
            began = time.perf_counter()
            damaged |= _planes(work, pool, damaged)
            state.mark("planes", began)
        state.add("write", pool.writing + state.store.seconds - wrote)
    return damaged


def _endpoints(work: Work, pool: Pool) -> Damaged:
    state, units = work.state, {task.key for task in work.endpoints}
    damaged: Damaged = {}
    with state.claims.take("endpoints", work.groups("endpoints"), units, work.since) as taken:
        work.held |= {*taken.held}
        if taken.again:
            state.store.again()
        tasks = work.missing_endpoints({*taken.keys}) if taken.again else work.endpoints
        if not tasks:
            return {}
        work.tried |= {task.key for task in tasks}
        state.progress.stage("endpoints", len(work.keys), len(work.keys) - len(tasks))
        for task, error in pool.run(tasks, lambda _, found: state.connections.put(*found), state.stop):
            assert isinstance(task, EndpointTask)
            if isinstance(error, CorruptArtefact):
                damaged[error.key] = error
            else:
                state.failed_minima[task.key] = f"it can't be evaluated: {error}"
                state.progress.say(f"{state.name(task.key)} can't be evaluated: {error}")
    return damaged


def _pairs(work: Work, pool: Pool, lost: Damaged) -> Damaged:
    state = work.state
    if state.stop.is_set():
        return {}
    with state.claims.take("pairs", work.groups("pairs"), work.pairs.ends(), work.since, pairs=True) as taken:
        if taken.again:
            state.store.again()
            work.pairs = state.connections.missing(work.keys)
            work.leave(taken.held)
        todo = _Paths(state, work.keys - lost.keys(), work.pairs)
        first = next((task for pair in work.pairs for task in todo.tasks(*pair)), None)
        if first is not None:
            state.progress.stage("pairs", state.connections.total_pairs(), state.connections.done_pairs(work.keys))
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


def _planes(work: Work, pool: Pool, lost: Damaged) -> Damaged:
    state, planes, units = work.state, work.planes, {unit(task) for task in (*work.lines, *work.traces)}
    damaged: Damaged = {}
    with state.claims.take("planes", work.groups("planes"), units, work.since) as taken:
        work.held |= {*taken.held}
        if taken.again:
            state.store.again()
            work.lines, work.traces = work.missing_planes()
        ready = [
            task
            for task in (*work.lines, *work.traces)
            if unit(task) in taken.keys and not lost.keys() & {*task.through}
        ]
        if not ready or state.stop.is_set():
            return {}
        total = sum(grid.points for grid in planes.grids)
        state.progress.stage("planes", total + len(work.traces), max(0, total - len(work.lines)))

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
