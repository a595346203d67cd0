"""Which lines of a sweep's planes, and which curves over them, the store lacks; and what is wrong with the planes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations
from typing import TYPE_CHECKING, TypeVar

from raymc.connectivity.heads import Heads
from raymc.connectivity.pairs import Connections
from raymc.connectivity.records import fit_task
from raymc.connectivity.selection import Selection
from raymc.connectivity.shapes import Bases, Joints
from raymc.connectivity.work import PairTask
from raymc.landscape.grid import even_points
from raymc.specs.connectivity import PlaneSpec
from raymc.specs.errors import CorruptArtefact, RaymcError
from raymc.specs.exactness import Computed
from raymc.specs.fields import nearest
from raymc.specs.fitting import fit_content
from raymc.specs.planes import PlaneLine, PlaneTrace, trace_key
from raymc.specs.results import EvaluationSpec
from raymc.specs.sweep import SweepSpec
from raymc.store import layout

if TYPE_CHECKING:
    from raymc.connectivity.faults import Found, Place  # which may look at planes

TRACE_POINTS = 26  # of a curve drawn over a plane
Record = TypeVar("Record", PlaneLine, PlaneTrace)


@dataclass(frozen=True)
class Grid:
    """A plane of a sweep, its minima by key; `points` and `margin` as in its PlaneSpec."""

    name: str
    through: tuple[str, str, str]
    space: str
    splits: tuple[str, ...]
    points: int
    margin: float


@dataclass(frozen=True)
class LineTask:
    """Score one line of a plane's grid, by its number from the lowest y, on row sets, by name."""

    through: tuple[str, str, str]
    space: str
    splits: tuple[str, ...]
    points: int
    margin: float
    line: int
    precision: Computed = "fp32"


@dataclass(frozen=True)
class TraceTask:
    """Find where curves between a plane's minima lie over it; `split`: a row set that the plane is scored on."""

    through: tuple[str, str, str]
    space: str
    split: str
    curves: tuple[PairTask, ...]  # without row sets


class Planes:
    """The planes of a sweep, against what its store holds. Reads no weights and needs no torch.

    Raises RaymcError where the spec's planes have no such three minima or space (`plane_faults` says so before).
    """

    def __init__(self, connections: Connections):
        self._connections, self._store = connections, connections.store
        self._groups: dict[tuple[object, ...], str] = {}
        self.grids = tuple(self._grid(plane) for plane in connections.spec.connectivity.planes)

    def _grid(self, plane: PlaneSpec) -> Grid:
        selection = self._connections.selection
        a, b, c = (selection.points[selection.end(end)].trial.key for end in plane.through)
        space = shared_space(self._connections.space(*pair) for pair in combinations((a, b, c), 2))
        splits = plane.splits or tuple(self._connections.row_sets)[:1]
        return Grid(plane.name or "", (a, b, c), space, splits, plane.points, plane.margin)

    # Where the records lie --------------------------------------------------------------------------------------

    def line_key(self, grid: Grid, split: str) -> str:
        known = (split, grid.space, grid.points, grid.margin)
        if known not in self._groups:
            rows, precision = self._connections.row_sets[split], self._connections.precision
            how = EvaluationSpec(task=rows.task, split=rows.split, space=grid.space, precision=precision)
            self._groups[known] = how.plane_key(grid.points, grid.margin)
        return self._groups[known]

    def trace_key(self, grid: Grid, curve: str) -> str:
        known = (grid.space, curve)
        if known not in self._groups:
            spec = self._connections.spec
            how = spec.connectivity.curve(curve)
            self._groups[known] = trace_key(grid.space, fit_content(how, fit_task(spec, how)), TRACE_POINTS)
        return self._groups[known]

    def put(self, found: PlaneLine | PlaneTrace, task: LineTask | TraceTask) -> None:
        """Keep what a task found; names of row sets and curves are those of this sweep."""
        name = "-".join(found.through)
        if isinstance(found, PlaneTrace):
            grid = Grid("", task.through, task.space, (), 0, 0.0)
            group, name = self.trace_key(grid, found.curve), f"{name}-{found.start}-{found.end}"
        else:
            assert isinstance(task, LineTask)
            grid = Grid("", task.through, task.space, (), task.points, task.margin)
            group, name = self.line_key(grid, found.split), f"{name}-{found.line}"
        self._store.put(layout.PLANES, group, name, found.model_dump(mode="json"))

    # What there is ----------------------------------------------------------------------------------------------

    def line(self, grid: Grid, split: str, number: int) -> PlaneLine | None:
        """The stored line through the minima's present weights. Raises CorruptArtefact."""
        found = self._stored(PlaneLine, grid, self.line_key(grid, split), str(number))
        return found and found.model_copy(update={"split": split})  # its name may be another sweep's

    def lines(self, grid: Grid, split: str) -> list[PlaneLine]:
        """All stored lines, from the lowest y. Raises CorruptArtefact."""
        found = (self.line(grid, split, number) for number in range(grid.points))
        return [line for line in found if line is not None]

    def trace(self, grid: Grid, start: str, end: str, curve: str) -> PlaneTrace | None:
        """Where a curve lies over a plane; None unless it is known for the present curve. Raises CorruptArtefact."""
        found = self._stored(PlaneTrace, grid, self.trace_key(grid, curve), f"{start}-{end}")
        if found is None or found.fit != self._fit(start, end, curve):
            return None
        return found.model_copy(update={"curve": curve})

    def traces(self, grid: Grid) -> list[PlaneTrace]:
        """Of all curves between its minima. Raises CorruptArtefact."""
        found = (self.trace(grid, *one) for one in self.curves(grid))
        return [trace for trace in found if trace is not None]

    def _stored(self, kind: type[Record], grid: Grid, group: str, last: str) -> Record | None:
        try:
            body = self._store.get(layout.PLANES, group, "-".join((*grid.through, last)))
        except KeyError:
            return None
        found = kind.model_validate(body)
        present = tuple(self._store.weights_digest(layout.MINIMA, key) for key in grid.through)
        return found if found.weights == present else None

    def curves(self, grid: Grid) -> Iterator[tuple[str, str, str]]:
        """(start, end, curve) of the sweep's curves between two of a plane's minima that there are, in its space."""
        connections = self._connections
        pairs = [pair for pair in self._pairs if set(pair) <= set(grid.through)]
        for curve in connections.spec.connectivity.curve_names:
            for a, b in pairs:
                if connections.space(a, b, curve=curve) == grid.space and self._fit(a, b, curve) is not None:
                    yield a, b, curve

    @cached_property
    def _pairs(self) -> list[tuple[str, str]]:
        """The selected pairs among all planes' minima."""
        return list(self._connections.pairs({key for grid in self.grids for key in grid.through}))

    def _fit(self, a: str, b: str, curve: str) -> str | None:
        """Digest of the fitted curve's weights, empty where its ends alone decide it, None where it isn't fitted."""
        fit = self._connections.fit_key(a, b, curve)
        if not fit:
            return ""
        return self._store.weights_digest(layout.CURVES, fit) if self._store.has(layout.CURVES, fit) else None

    # What is missing --------------------------------------------------------------------------------------------

    def missing_lines(self, keys: set[str]) -> tuple[list[LineTask], list[CorruptArtefact]]:
        """What to score of planes through minima that are there, and the records that were corrupt (set aside)."""
        tasks: list[LineTask] = []
        corrupt: list[CorruptArtefact] = []
        for grid in self._through(keys):
            for number in range(grid.points):
                splits = tuple(
                    split for split in grid.splits if not self._whole(corrupt, self.line, grid, split, number)
                )
                if splits:
                    task = LineTask(grid.through, grid.space, splits, grid.points, grid.margin, number)
                    tasks.append(replace(task, precision=self._connections.precision))
        return list(dict.fromkeys(tasks)), corrupt  # two names may be of one plane

    def missing_traces(self, keys: set[str]) -> tuple[list[TraceTask], list[CorruptArtefact]]:
        """As missing_lines, one task a plane: curves that are there, to be looked for once they are fitted."""
        tasks: list[TraceTask] = []
        corrupt: list[CorruptArtefact] = []
        for grid in self._through(keys):
            missing = [one for one in self.curves(grid) if not self._whole(corrupt, self.trace, grid, *one)]
            if missing:
                curves = tuple(self._curve_task(grid, *one) for one in missing)
                tasks.append(TraceTask(grid.through, grid.space, grid.splits[0], curves))
        return list(dict.fromkeys(tasks)), corrupt

    def forward_passes(self, keys: set[str]) -> tuple[int, int]:
        """(passes over one row set still to do, all of them), given the minima that are there; by names alone."""
        todo = total = 0
        there = {id(grid) for grid in self._through(keys)}
        for grid in self.grids:
            for split in grid.splits:
                total += grid.points**2
                known = self._store.records(layout.PLANES, self.line_key(grid, split)) if id(grid) in there else set()
                name = "-".join(grid.through)
                todo += grid.points * sum(f"{name}-{number}" not in known for number in range(grid.points))
        return todo, total

    def _through(self, keys: set[str]) -> Iterator[Grid]:
        return (grid for grid in self.grids if keys.issuperset(grid.through))

    def _curve_task(self, grid: Grid, a: str, b: str, curve: str) -> PairTask:
        how = self._connections.spec.connectivity.curve(curve)
        return PairTask(a, b, grid.space, curve, (), (), how, self._connections.fit_key(a, b, curve))

    def _whole(self, corrupt: list[CorruptArtefact], look: object, *what: object) -> bool:
        try:
            return look(*what) is not None  # type: ignore[operator]
        except CorruptArtefact as error:
            if error.kind != layout.PLANES:
                raise
            self._store.set_aside(error.kind, error.key)
            corrupt.append(error)
            return False


def shared_space(pairwise: Iterable[str]) -> str:
    """The space of three minima, given those in which each two are joined: their own where they agree.

    Else delta_w: a pair that isn't joined by its factors has merged weights at both ends, and so has the third's pair.
    """
    found = set(pairwise)
    return found.pop() if len(found) == 1 else "delta_w"


# Faults -----------------------------------------------------------------------------------------------------------


def plane_faults(spec: SweepSpec, selection: Selection, heads: Heads) -> Found:
    """(place, what is wrong): ends that there aren't or twice the same, no shared space, row sets, labels."""
    joints, bases = Joints(selection.points, spec.connectivity.space), Bases(selection.points)
    known = {rows.name: rows for rows in spec.row_sets}
    for number, plane in enumerate(spec.connectivity.planes):
        place: Place = ("connectivity", "planes", number)
        ends: list[int] = []
        for side, end in enumerate(plane.through):
            try:
                ends.append(selection.end(end))
            except RaymcError as error:
                yield (*place, "through", side), str(error)
        for i, j in combinations(ends, 2):
            fault = _joint_fault(selection, joints, bases, i, j)
            if fault is not None:
                yield (*place, "through"), fault
                break
        for name in plane.splits or list(known)[:1]:
            where = (*place, "splits") if plane.splits else place
            if name not in known:
                hint = nearest(name, list(known))
                yield where, f"no row set {name!r} (there are {', '.join(known)}){hint}"
            elif missing := [i for i in ends if not heads.scores(i, known[name])]:
                yield (
                    where,
                    (
                        f"{selection.names[missing[0]]} has other labels than {name}, and a plane's head is a "
                        "mixture of all three; take row sets whose labels they all have (splits)"
                    ),
                )


def _joint_fault(selection: Selection, joints: Joints, bases: Bases, i: int, j: int) -> str | None:
    one, other = selection.names[i], selection.names[j]
    if i == j:
        return f"{one} is named twice; a plane takes three minima"
    if not (joints.known(i) and joints.known(j)):
        return None  # on a hub out of reach
    try:
        fault = bases.fault(i, j, joints.space(i, j))
    except RaymcError as error:
        fault = str(error)
    return None if fault is None else f"{one} and {other} can't be joined: {fault}"


def trace_points() -> list[float]:
    """The t at which a curve is drawn over a plane."""
    return even_points(TRACE_POINTS)
