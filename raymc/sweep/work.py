"""What is missing of a matrix, and which of it other runs on the storage are at."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

from raymc.connectivity.pairs import Connections
from raymc.connectivity.planes import LineTask, Planes, TraceTask
from raymc.connectivity.work import EndpointTask
from raymc.specs.spaces import SPACES
from raymc.store.claims import Claim
from raymc.sweep.state import State

Task = TypeVar("Task", EndpointTask, LineTask, TraceTask)


class Work:
    """What is missing and no other run is at: endpoints, pairs, lines and traces of planes. `held`: who is at others.

    `tried`: endpoints that were evaluated in vain.
    """

    def __init__(self, state: State, tried: set[str]):
        self.state, self.tried, self.keys = state, tried, state.whole()
        self.planes = Planes(state.connections)
        self.held: set[Claim] = set()
        self._groups: dict[str, frozenset[str]] = {}
        self.since = state.claims.look()
        unscored = state.connections.missing_endpoints(self.keys)[0]
        self.endpoints = [task for task in unscored if task.key not in tried]
        self.pairs = state.connections.missing(self.keys)
        self.pairs.drop(self._failed_pairs())
        self.lines, self.traces = self.missing_planes()
        self.paths = self.pairs.count()
        self._any = bool(self.endpoints or self.paths or self.lines or self.traces)
        if self._any:
            others = self.since.claims
            self.endpoints = self.without(self.endpoints, others)
            self.pairs.without({task.key for task in unscored} - {task.key for task in self.endpoints})
            self.leave(others)
            self.lines, self.traces = self.without(self.lines, others), self.without(self.traces, others)

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

    def _failed_pairs(self) -> Iterator[tuple[int, int]]:
        """Of which nothing but what failed is missing."""
        place, failed = {key: i for i, key in enumerate(self.state.connections.order)}, self.state.failed_pairs
        for a, b in {(a, b) for a, b, _ in failed}:
            if all((a, b, task.curve) in failed for task in self.pairs.tasks(place[a], place[b])):
                yield place[a], place[b]

    # What others are at -----------------------------------------------------------------------------------------

    def without(self, tasks: Sequence[Task], claims: Iterable[Claim]) -> list[Task]:
        """The endpoints, lines or traces that none of these claims has."""
        kept = list(tasks)
        for claim in claims:
            free = [task for task in kept if not claim.overlaps(_kind(task), self.groups(_kind(task)), [unit(task)])]
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

    def wait(self) -> None:
        """Until another run has done something that is missing here, or has ended; nothing may be claimed."""
        before = self._left()
        for what in ("endpoints", "pairs", "planes"):
            held = [claim for claim in self.held if claim.kind == what]
            if held:
                self.state.claims.wait(held, what, over=lambda: self._left() < before, stop=self.state.stop)
                return

    def _left(self) -> int:
        """How many endpoints and pairs are missing now."""
        self.state.store.again()
        tasks, _ = self.state.connections.missing_endpoints(self.keys)
        return len(tasks) + self.state.connections.missing(self.keys).count()


def _kind(task: EndpointTask | LineTask | TraceTask) -> str:
    return "endpoints" if isinstance(task, EndpointTask) else "planes"


def unit(task: EndpointTask | LineTask | TraceTask) -> str:
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
