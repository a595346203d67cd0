"""What it takes to write results, and to show them in MLflow: of as many pairs as the sweep has, up to a number."""

from __future__ import annotations

import importlib
import itertools
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from raymc.connectivity.pairs import Connections
from raymc.connectivity.work import PairTask
from raymc.specs.results import Evaluation, Profile
from raymc.specs.sweep import SweepSpec
from raymc.store import layout
from raymc.store.rows import read_rows, write_rows
from raymc.store.store import Store
from raymc.sweep.bench.place import Place
from raymc.sweep.bench.source import linked
from raymc.sweep.results import Sweep, write_sweep
from raymc.sweep.tables import assemble
from raymc.sweep.view import make_tracker, sweep_view
from raymc.tasks.rows import labels_of

_MINIMA = 20  # at most: 190 pairs
_IMPORTED = ("raymc.report.heatmap", "raymc.analysis.clusters", "raymc.analysis.trees", "raymc.analysis.knowledge")
"""For the view; a run imports them beside its work."""
_BATCH = 16  # pairs whose records an actor writes at a time


@dataclass(frozen=True)
class Written:
    """Wall seconds. `write`: rows and records of all pairs; `tables`: the sweep's files; `log`: one sync of its view.

    `schema`: to make a new MLflow database, beside other work in a run.
    """

    pairs: int
    write: float
    tables: float
    schema: float
    log: float


def written(place: Place, home: Path, task: PairTask, profiles: list[Profile]) -> Written:
    """Write one pair's profiles as those of every pair among the sweep's first minima, in a store of their own."""
    keys = place.whole[:_MINIMA]
    store = linked(place.real, home, {*keys, *place.keys})
    rows = place.connections(task.points, None, task.precision).spec
    tracking = rows.tracking.model_copy(update={"uri": None})
    first = [rows.connectivity.curve(place.curve)]
    connectivity = rows.connectivity.model_copy(update={"curves": tuple(first)})
    spec = rows.model_copy(update={"tracking": tracking, "connectivity": connectivity})
    connections = Connections(spec, store, place.points, labels_of)
    _ends(place, connections, store, keys, task)
    wrote, count = store.seconds, 0
    for some in _chunks(_copies(place, connections, store, set(keys), task, profiles)):
        connections.put(*(one for found in some for one in found))
        count += len(some)
    write, began = store.seconds - wrote, time.perf_counter()
    tables, whole, _ = assemble(connections, place.points)
    sweep = write_sweep(store, spec, tables, {"pairs": {"total": whole}}, [])
    sweep.connections = connections
    of_tables = time.perf_counter() - began
    return Written(count, write, of_tables, *_logged(place, spec, store, sweep))


def _ends(place: Place, connections: Connections, store: Store, keys: list[str], task: PairTask) -> None:
    """Evaluations of all, each as that of an end that was scored."""
    known = place.evaluations(task.precision)
    for key in keys:
        space = connections.space(key)
        for split in connections.endpoint_splits(key):
            like = next((one for (_, name), one in known.items() if name == split), None)
            if like is None:
                continue
            group = connections.evaluation_key(split, space)
            of = place.connections(3, None, task.precision).evaluation_key(split, connections.space(like.minimum))
            table = read_rows(place.store, of, like.minimum, like.row_file)
            digest = store.weights_digest(layout.MINIMA, key)
            file = write_rows(store, group, key, table)
            copy: Evaluation = like.model_copy(update={"minimum": key, "weights": digest, "row_file": file})
            connections.put(copy)


def _copies(
    place: Place, connections: Connections, store: Store, keys: set[str], task: PairTask, profiles: list[Profile]
) -> Iterator[list[Profile]]:
    tables = {
        profile.split: read_rows(place.store, group, f"{task.a}-{task.b}", profile.row_file)
        for profile, group in zip(profiles, task.groups, strict=False)
    }
    how = connections.spec.connectivity.curve(place.curve)
    for a, b in connections.pairs(keys):
        one = connections.pair_task(a, b, how, connections.heads(a, b))
        digests = {f"{end}_weights": store.weights_digest(layout.MINIMA, key) for end, key in (("a", a), ("b", b))}
        fit = store.weights_digest(layout.CURVES, one.fit) if one.fit and store.has(layout.CURVES, one.fit) else ""
        found = []
        for number, split in enumerate(one.splits):
            like = next((profile for profile in profiles if profile.split == split), None)
            if like is not None:
                head = {"path": "path", "a": a, "b": b}[one.heads[number]]
                changed = {"a": a, "b": b, **digests, "space": one.space, "fit": fit, "head": head}
                if one.groups:
                    changed["row_file"] = write_rows(store, one.groups[number], f"{a}-{b}", tables[split])
                found.append(like.model_copy(update=changed))
        yield found


def _chunks(found: Iterator[list[Profile]]) -> Iterator[list[list[Profile]]]:
    while some := list(itertools.islice(found, _BATCH)):
        yield some


def _logged(place: Place, spec: SweepSpec, store: Store, sweep: Sweep) -> tuple[float, float]:
    """(seconds to make the schema, seconds of one sync), in a sqlite file of the store."""
    tracker = make_tracker(spec, store, None)
    for name in _IMPORTED:
        importlib.import_module(name)
    began = time.perf_counter()
    tracker.prepare()
    schema, began = time.perf_counter() - began, time.perf_counter()
    points = {key: place.points[key] for key in place.whole if store.has(layout.MINIMA, key)}
    tracker.sync(sweep_view(sweep, points))
    tracker.close()
    return schema, time.perf_counter() - began
