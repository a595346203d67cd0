"""Which minima of a sweep are meant: by name or key; and which go into a soup by default."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from raymc.specs.connectivity import ConnectivitySpec
from raymc.specs.curves import LinearCurve
from raymc.specs.errors import RaymcError
from raymc.specs.sweep import Point

if TYPE_CHECKING:
    import pandas as pd

    from raymc.sweep.results import Sweep

_PREFIX = 6  # characters of a key that may stand for it
BARRIER = "barrier_entezari"  # by which clusters are told: 0 where the loss only falls from one end to the other


def find(names: Mapping[str, str], asked: str) -> str:
    """The key of the minimum that is asked for by key, the start of it, or name. `names`: by key. Raises RaymcError."""
    if asked in names:
        return asked
    found = [key for key, name in names.items() if name == asked]
    if not found and re.fullmatch(rf"[0-9a-f]{{{_PREFIX},}}", asked):
        found = [key for key in names if key.startswith(asked)]
    if len(found) == 1:
        return found[0]
    if found:
        raise RaymcError(f"{len(found)} minima are {asked!r}: {', '.join(found[:3])}; name one by its key")
    known = list(dict.fromkeys([*names.values(), *names]))
    near = difflib.get_close_matches(asked, known, 3, cutoff=0.3) or known[:3]
    raise RaymcError(f"no minimum is {asked!r}; the nearest are {', '.join(near)}")


def members_of(sweep: Sweep, points: Mapping[str, Point], asked: Sequence[str] | None) -> tuple[list[str], list[str]]:
    """(keys of what a soup may be made of, in the sweep's order; what was left out, a line each).

    Asked for by name or key, just these; else all but those below the floor and all but the last snapshot of each run.
    Raises RaymcError where one isn't there or none is left.
    """
    names = sweep.names()
    if asked is not None:
        keys = [find(names, one) for one in asked]
        if len(set(keys)) < len(keys):
            raise RaymcError("members names a minimum twice")
        if not keys:
            raise RaymcError("members names no minimum")
        return keys, []
    weak, notes = sweep.weak(), []
    strong = [key for key in names if key not in weak]
    keys = last_of_runs(points, strong)
    if weak:
        notes.append(f"left out as below the floor: {_listed(names, [key for key in names if key in weak])}")
    if earlier := [key for key in strong if key not in keys]:
        notes.append(f"left out as snapshots of a run that goes on: {_listed(names, earlier)}")
    if not keys:
        raise RaymcError(f"sweep {sweep.name} has no minimum for a soup; {'; '.join(notes) or 'it has none at all'}")
    return keys, notes


def last_of_runs(points: Mapping[str, Point], keys: Sequence[str]) -> list[str]:
    """Of the snapshots of each run among some minima the last, in their order.

    One that is no point, as the files that it was made of have changed since, stands for itself.
    """
    runs = {key: points[key].trial.trajectory if key in points else key for key in keys}
    last: dict[str, str] = {}
    for key in keys:
        if (before := last.get(runs[key])) is None or snapshot_of(points[key]) > snapshot_of(points[before]):
            last[runs[key]] = key
    return [key for key in keys if last[runs[key]] == key]


def ranked(table: pd.DataFrame, keys: Sequence[str], split: str, metric: str) -> list[str]:
    """Keys by a metric on a row set, the best first; of equal ones by loss, then by key.

    `table`: as Sweep.minima(). Raises RaymcError where one wasn't scored there.
    """
    rows = table.set_index("key").loc[list(keys)]
    scores, losses = rows[f"{split}_{metric}"], rows[f"{split}_loss"]
    if missing := [key for key in keys if math.isnan(losses[key])]:
        raise RaymcError(f"{rows['name'][missing[0]]} wasn't scored on {split}; choose another row set, or members")
    return sorted(keys, key=lambda key: (-scores[key], losses[key], key))


def linear_title(connectivity: ConnectivitySpec) -> str:
    """The name in tables of the plain straight path, along which a mean of weights lies. Raises RaymcError."""
    for how in connectivity.curves:
        if isinstance(how, LinearCurve) and not how.partial and how.space in (None, "auto", connectivity.space):
            return how.title
    raise RaymcError("a cluster is told by linear barriers, which this sweep hasn't; add linear to connectivity.curves")


def cluster_of(
    sweep: Sweep, order: Sequence[str], split: str, asked: str | int | None, threshold: float | None
) -> tuple[list[str], dict[str, Any], list[str]]:
    """(the keys of one cluster, what it is in words and numbers, notes).

    `order`: the best first. `asked`: a cluster's number (1 is the largest), or a minimum in it; None: that of the best.
    `threshold`: the highest linear barrier (Entezari, nats) between any two; None: clusters as `analyze` finds them.
    Raises RaymcError where there is none such.
    """
    from raymc.analysis.clusters import find_clusters
    from raymc.analysis.soups import connected, of_cluster

    curve, names = linear_title(sweep.spec.connectivity), sweep.names()
    there = [key for key in names if key in order]  # clusters are numbered in the sweep's order
    matrix = sweep.matrix(curve, split, BARRIER).loc[there, there]
    told: dict[str, Any] = {"barrier": BARRIER, "curve": curve, "split": split}
    number = asked if isinstance(asked, int) else int(asked) if asked and re.fullmatch(r"\d{1,5}", asked) else None
    start = order[0]
    if isinstance(asked, str) and number is None:
        start = find(names, asked)
        if start not in order:
            raise RaymcError(f"{names[start]} is not among the soup's members; name it there too")
    if threshold is not None:
        if not math.isfinite(threshold):
            raise RaymcError(f"threshold is {threshold:g}; give a barrier in nats")
        if number is not None:
            raise RaymcError("with a threshold, name a minimum of the cluster: it has no number")

        def height(a: str, b: str) -> float:
            return float(matrix.at[a, b])  # type: ignore[arg-type]

        rest = [start, *(key for key in order if key != start)]
        keys = connected(rest, height, threshold)
        unknown = [key for key in rest if any(math.isnan(height(one, key)) for one in keys if one != key)]
        notes = [f"no barrier is known to all of: {_listed(names, unknown)}"] if unknown else []
        return keys, told | {"threshold": threshold, "around": start}, notes
    if len(order) == 1:
        return list(order), told | {"clusters": 1}, []
    found = find_clusters(matrix)
    label = found.labels[start] if number is None else number
    if label not in found.labels.values():
        raise RaymcError(f"there is no cluster {label}: there are {found.count}, counted from 1")
    p_value = None if math.isnan(found.p_value) else found.p_value  # too few to test
    told |= {"clusters": found.count, "cluster": label, "p_value": p_value, "method": found.method}
    return of_cluster(order, found.labels, label), told, [found.note]


def snapshot_of(point: Point) -> float:
    """The step of its run at which a minimum was taken; infinity: at the end."""
    snapshot = point.trial.train.snapshot
    return float("inf") if snapshot is None else snapshot


def _listed(names: Mapping[str, str], keys: Sequence[str]) -> str:
    return ", ".join(f"{names[key]} ({key[:8]})" for key in keys)
