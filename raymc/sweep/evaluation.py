"""The second half of a run: endpoints, pairs and planes that the store has no record of."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from raymc.connectivity.planes import LineTask, Planes, TraceTask
from raymc.connectivity.work import EndpointTask, PairTask
from raymc.specs.errors import CorruptArtefact, RaymcError
from raymc.specs.spaces import SPACES
from raymc.store.claims import Claim
from raymc.sweep.state import State

if TYPE_CHECKING:
    from raymc.connectivity.pairs import Connections
    from raymc.connectivity.todo import MissingPairs
    from raymc.runtime.cluster import Shape
    from raymc.runtime.pool import Pool
    from raymc.specs.results import Evaluation

Damaged = dict[str, CorruptArtefact]
Task = TypeVar("Task", EndpointTask, LineTask, TraceTask)


def evaluate(state: State, shape: Shape, actors: int) -> bool:
    """Evaluate what is missing; whether a minimum or curve turned out damaged and is to be made again."""
    tried: set[str] = set()  # endpoints
    while not state.stop.is_set():
        work = _Work(state, tried)
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
        for what in ("endpoints", "pairs", "planes"):  # nothing of Ray is held meanwhile
            held = [claim for claim in work.held if claim.kind == what]
            if held:
                state.claims.wait(held, what, stop=state.stop)
                break
    return False


class _Work:
    """What is missing and no other run is at: endpoints, pairs, lines and traces of planes. `held`: who is at others.

    `tried`: endpoints that were evaluated in vain.
    """

    def __init__(self, state: State, tried: set[str]):
        self.state, self.tried, self.keys = state, tried, state.whole()
        self.planes = Planes(state.connections)
        self.held: set[Claim] = set()
        self._groups: dict[str, frozenset[str]] = {}
        self.since = state.claims.look()
        self.endpoints = self.missing_endpoints(self.keys)
        self.pairs = state.connections.missing(self.keys)
        self.paths = self.pairs.count()
        self.lines, self.traces = self.missing_planes()
        self._any = bool(self.endpoints or self.paths or self.lines or self.traces)
        if not self._any or not self.since.claims:
            return
        self.endpoints = self.without(self.endpoints, self.since.claims)
        self.leave(self.since.claims)
        self.lines, self.traces = (
            self.without(self.lines, self.since.claims),
            self.without(self.traces, self.since.claims),
        )

    def __bool__(self) -> bool:
        return self._any

    def missing_endpoints(self, keys: set[str]) -> list[EndpointTask]:
        tasks, _ = self.state.connections.missing_endpoints(keys - self.tried)
        return tasks

    def missing_planes(self) -> tuple[list[LineTask], list[TraceTask]]:
        failed = {grid.through for grid in self.planes.grids if grid.name in self.state.failed_planes}
        (lines, _), (traces, _) = self.planes.missing_lines(self.keys), self.planes.missing_traces(self.keys)
        return (
            [one for one in lines if one.through not in failed],
            [one for one in traces if one.through not in failed],
        )

    # What others are at -----------------------------------------------------------------------------------------

    def without(self, tasks: Sequence[Task], claims: Iterable[Claim]) -> list[Task]:
        """The endpoints, lines or traces that none of these claims has."""
        kept = list(tasks)
        for claim in claims:
            free = [task for task in kept if not claim.overlaps(_kind(task), self.groups(_kind(task)), [_unit(task)])]
            if len(free) < len(kept):
                kept = free
                self.held.add(claim)
        return kept

    def leave(self, claims: Iterable[Claim]) -> None:
        """Take out the pairs that these claims have."""
        for claim in claims:
            if claim.overlaps("pairs", self.groups("pairs"), self.keys, 2) and self.pairs.leave(claim.keys):
                self.held.add(claim)
        self.paths = self.pairs.count()

    def groups(self, kind: str) -> frozenset[str]:
        """Keys of all groups of records that this sweep may write of a kind."""
        if kind not in self._groups:
            self._groups[kind] = _groups(self.state.connections, self.planes, kind)
        return self._groups[kind]


def _round(work: _Work, shape: Shape, actors: int) -> Damaged:
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
    count = max(1, min(actors, max(len(work.endpoints), work.paths, len(work.lines))))
    with Pool(settings, spec_json, sorted(keys), adapted, count, retries, state.progress) as pool:
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


def _endpoints(work: _Work, pool: Pool) -> Damaged:
    state, units = work.state, {task.key for task in work.endpoints}
    damaged: Damaged = {}
    with state.claims.take("endpoints", work.groups("endpoints"), units, work.since) as taken:
        work.held |= {*taken.held}
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


def _pairs(work: _Work, pool: Pool, lost: Damaged) -> Damaged:
    state = work.state
    if state.stop.is_set():
        return {}
    with state.claims.take("pairs", work.groups("pairs"), work.pairs.ends(), work.since, pairs=True) as taken:
        if taken.again:
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


def _planes(work: _Work, pool: Pool, lost: Damaged) -> Damaged:
    state, planes, units = work.state, work.planes, {_unit(task) for task in (*work.lines, *work.traces)}
    damaged: Damaged = {}
    with state.claims.take("planes", work.groups("planes"), units, work.since) as taken:
        work.held |= {*taken.held}
        if taken.again:
            work.lines, work.traces = work.missing_planes()
        ready = [
            task
            for task in (*work.lines, *work.traces)
            if _unit(task) in taken.keys and not lost.keys() & {*task.through}
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


def _kind(task: EndpointTask | LineTask | TraceTask) -> str:
    return "endpoints" if isinstance(task, EndpointTask) else "planes"


def _unit(task: EndpointTask | LineTask | TraceTask) -> str:
    """Under which key a task is claimed: a plane with all that is in it."""
    return task.key if isinstance(task, EndpointTask) else "-".join(task.through)


def _groups(connections: Connections, planes: Planes, kind: str) -> frozenset[str]:
    """Keys of all groups of records that a sweep may write of a kind."""
    curves, splits = connections.spec.connectivity.curve_names, connections.row_sets
    spaces = sorted({space for some in SPACES.values() for space in some})
    if kind == "endpoints":
        return frozenset(connections.evaluation_key(split, space) for split in splits for space in spaces)
    if kind == "planes":
        lines = {planes.line_key(grid, split) for grid in planes.grids for split in grid.splits}
        return frozenset(lines | {planes.trace_key(grid, curve) for grid in planes.grids for curve in curves})
    return frozenset(
        connections.profile_key(split, space, curve, head)
        for split in splits
        for space in spaces
        for curve in curves
        for head in ("path", "own")
    )


def _needed(task: PairTask) -> list[tuple[str, str]]:
    """The evaluations (key, row set) that a path starts from: of the ends that are its minima as they are."""
    known = list(zip(task.splits, task.known, strict=True))
    return [(task.a, s) for s, (first, _) in known if first] + [(task.b, s) for s, (_, last) in known if last]
