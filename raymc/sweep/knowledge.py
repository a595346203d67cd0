"""Knowledge along a sweep's paths between two tasks, from the rows that its store keeps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from raymc.connectivity.kept import path_rows, rows_of
from raymc.connectivity.pairs import Connections
from raymc.specs.sweep import Point, RowSet
from raymc.store import layout
from raymc.store.rows import RowTable
from raymc.sweep.ingredients import snapshot_of

if TYPE_CHECKING:
    import pandas as pd

    from raymc.analysis.knowledge import Crossing


@dataclass(frozen=True)
class Knowledge:
    """From one task's minima to another's along a curve: `table` and `trends` as in raymc.analysis.knowledge.

    `source`, `target`: names of the row sets, which are the training rows of the two. `snapshots`: of each run.
    """

    source: str
    target: str
    curve: str
    space: str
    snapshots: int
    table: pd.DataFrame
    trends: pd.DataFrame


def knowledge_of(connections: Connections, curve: str, below: set[str]) -> list[Knowledge]:
    """One for each two tasks that paths of a curve lead between, where the training rows of both are scored and kept.

    Runs need two snapshots or more in the sweep. Pairs with an end of `below` don't count; of several pairs that join
    snapshots of the same two runs, which are no independent paths, the one of the latest ends does. Raises RaymcError
    where what is there can't be pooled, CorruptArtefact for files of rows that aren't what was written.
    """
    from raymc.analysis.knowledge import knowledge, trends

    found: dict[tuple[str, str, str], list[Crossing]] = {}
    maps: dict[str, pd.DataFrame] = {}
    snapshots: dict[str, int] = {}
    own = {key: _own_rows(connections, key) for key in connections.points}
    joined: set[tuple[str, ...]] = set()
    for a, b in sorted(connections.pairs(), key=lambda pair: _trained(connections, pair), reverse=True):
        ends = {key: own[key] for key in (a, b)}
        runs = tuple(sorted(connections.points[key].trial.trajectory for key in (a, b)))
        if ends[a] == ends[b] or None in ends.values() or below & {a, b} or runs in joined:
            continue
        order = list(connections.row_sets)
        source, target = sorted((a, b), key=lambda key: order.index(str(ends[key])))
        crossing = _crossing(connections, curve, source, target, str(ends[source]), str(ends[target]))
        if crossing is None:
            continue
        for key in (source, target):
            if key not in maps:
                tables = _snapshots(connections, key, str(ends[key]))
                if len(tables) > 1:
                    maps[key], snapshots[key] = _map(connections, key, tables), len(tables)
        if source in maps and target in maps:
            joined.add(runs)
            space = connections.space(a, b, curve=curve)
            found.setdefault((str(ends[source]), str(ends[target]), space), []).append(crossing)
    return [
        Knowledge(
            source=source,
            target=target,
            curve=curve,
            space=space,
            snapshots=min(snapshots[key] for one in crossings for key in (one.source, one.target)),
            table=knowledge(crossings, maps),
            trends=trends(crossings, maps),
        )
        for (source, target, space), crossings in found.items()
    ]


def _trained(connections: Connections, pair: tuple[str, str]) -> list[float]:
    """How far a pair's ends were trained: the steps of the less trained first."""
    return sorted(snapshot_of(connections.points[key]) for key in pair)


def _own_rows(connections: Connections, key: str) -> str | None:
    """The row set that a minimum was trained on; None where that isn't scored."""
    point = connections.points[key]
    if point.existing is not None:
        return None
    return next((name for name, rows in connections.row_sets.items() if _trained_on(point, rows)), None)


def _trained_on(point: Point, rows: RowSet) -> bool:
    task = point.trial.task
    read = ("dataset", "text", "text_pair", "label", "rename")  # what a row is
    return rows.split == task.train_split and all(getattr(rows.task, name) == getattr(task, name) for name in read)


def _crossing(
    connections: Connections, curve: str, source: str, target: str, on_source: str, on_target: str
) -> Crossing | None:
    from raymc.analysis.knowledge import Crossing

    a, b = sorted((source, target))
    tables: list[RowTable] = []
    for split in (on_source, on_target):
        if (rows := path_rows(connections, a, b, curve, split)) is None:
            return None
        tables.append(rows)
    return Crossing(source, target, tables[0], tables[1], reverse=source == b)


def _snapshots(connections: Connections, key: str, split: str) -> list[RowTable]:
    """The rows at each snapshot of a minimum's run that is in the sweep and scored there, in order of training."""
    run = connections.points[key].trial.trajectory
    keys = [one for one, point in connections.points.items() if point.trial.trajectory == run]
    tables = []
    for one in sorted(keys, key=lambda one: snapshot_of(connections.points[one])):
        found = connections.evaluation(one, split) if connections.store.has(layout.MINIMA, one) else None
        if found is not None:
            tables.append(rows_of(connections, found))
    return tables


def _map(connections: Connections, key: str, tables: list[RowTable]) -> pd.DataFrame:
    """The cartography of a run on the rows that it saw."""
    from raymc.analysis.knowledge import cartography
    from raymc.tasks.rows import training_rows

    whole, task = cartography(tables), connections.points[key].trial.task
    return whole if task.subset is None else whole.loc[whole.index.isin(training_rows(task)[1])]
