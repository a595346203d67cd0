"""What a run computes in, where its spec leaves the precision open: decided once, and kept in the store."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from raymc.connectivity.decisions import space_asked
from raymc.connectivity.planes import Planes
from raymc.connectivity.work import PairTask
from raymc.specs.errors import CorruptArtefact, RaymcError
from raymc.specs.precision import Decision
from raymc.store import layout
from raymc.sweep.sizes import rows_and_tokens, weights_of
from raymc.sweep.state import State

if TYPE_CHECKING:
    from raymc.connectivity.pairs import Connections
    from raymc.connectivity.precision import Part
    from raymc.runtime.cluster import Shape

SMALL_WORK = 1e13
"""Floating-point operations of forward passes (2 a weight and token) below which nothing is gained by another precision
than fp32: some minutes of one CPU core, a second of a GPU; about what starting the processes takes."""

_T = (0.5, 0.0, 0.25)  # of the points of a sample, in turn
_LEAST, _MOST = 3, 9  # points of each part
_SHARE = 0.03  # of the passes that are left, at most, beyond the least number of points
_ENDS, _ENDS_EACH = 16, 3  # minima of a network whose paths are looked at, and paths of each


def decide(state: State, shape: Shape, small_work: float = SMALL_WORK) -> bool:
    """Decide on what is undecided; whether a minimum or curve turned out damaged and is to be made again.

    Nothing is measured where little is left to do, or most of it was done in fp32 before. A sweep that is in fp32
    stays so; one in bf16 that has grown by new rows or networks has their drift measured. Of several runs at once the
    first decides for all.
    """
    decisions = state.connections.decisions
    while not state.stop.is_set() and (undecided := _undecided(state)):
        with state.claims.take(layout.PRECISIONS, ("",), undecided) as taken:
            if not taken.held:
                decisions.forget()  # another run may have been faster
                return bool(undecided := _undecided(state)) and _decide(state, shape, small_work, undecided)
        state.claims.wait(taken.held, "the precision", stop=state.stop)
        decisions.forget()
    return False


def _undecided(state: State) -> list[str]:
    """The parts to decide on, unless the sweep is in fp32: it stays so then."""
    decisions = state.connections.decisions
    undecided = decisions.undecided()
    for error in decisions.corrupt:
        state.set_aside(error)
    decisions.corrupt.clear()
    return [] if decisions.begun and decisions.precision == "fp32" else undecided


def _decide(state: State, shape: Shape, small_work: float, undecided: Sequence[str]) -> bool:
    began = time.perf_counter()
    decisions, keys = state.connections.decisions, state.whole()
    if not decisions.begun and (reason := _no_need(state, keys, small_work)):
        tolerance = state.spec.connectivity.drift_tolerance
        for part in undecided:
            decisions.put(part, Decision(precision="fp32", reason=reason, tolerance=tolerance))
        state.mark("precision", began)
        return False
    parts = _parts(state, keys, undecided)
    if not parts:
        return False
    state.progress.say("the precision is measured on a sample of the matrix")
    try:
        found = _measured(state, shape, parts)
    except CorruptArtefact as error:
        state.set_aside(error)
        return True
    for part, decision in found.items():
        decisions.put(part, decision)
    if found:
        state.progress.say(f"precision: {decisions.decision.told}")
    state.mark("precision", began)
    return False


def stay(connections: Connections) -> None:
    """Of a sweep with pairs that were all there, in fp32, before anything was decided: it stays in fp32."""
    decisions = connections.decisions
    if not decisions.begun:
        tolerance = connections.spec.connectivity.drift_tolerance
        for part in decisions.undecided():
            reason = "all of it was there in fp32 already"
            decisions.put(part, Decision(precision="fp32", reason=reason, tolerance=tolerance))


def _measured(state: State, shape: Shape, parts: list[Part]) -> dict[str, Decision]:
    """Raises CorruptArtefact. Where it can't be measured, fp32 is kept for what isn't in bf16 already."""
    from raymc.runtime.probe import Probe, probe

    tolerance = state.spec.connectivity.drift_tolerance
    assert tolerance is not None
    keys = {key for part in parts for task, _ in part.points for key in (task.a, task.b)}
    goes_on = state.connections.decisions.begun
    what = Probe(
        storage=state.store.uri,
        spec_json=state.spec.model_dump_json(),
        trials=state.connections.adapted(keys),
        parts=parts,
        tolerance=tolerance,
        on_any_machine=goes_on,
        cache_bytes=state.spec.resources.evaluator.cache,
        token_budget=state.spec.resources.evaluator.token_budget,
    )
    try:
        return probe(what, shape, state.stop) or {}
    except CorruptArtefact:
        raise
    except RaymcError as error:
        state.progress.say(str(error))
        kept = Decision(precision="fp32", reason=str(error), tolerance=tolerance)
        return {} if goes_on else {part.key: kept for part in parts}


def _no_need(state: State, keys: set[str], small_work: float) -> str:
    """Why fp32 will do without a look at bf16; empty where it may not."""
    todo, total = state.connections.forward_passes(keys)
    of_planes = Planes(state.connections).forward_passes(keys)
    todo, total = todo + of_planes[0], total + of_planes[1]
    if todo <= total / 2:
        return f"{total - todo:.0f} of {total:.0f} passes were there in fp32 already"
    operations = work(state, todo)
    if operations is not None and operations < small_work:
        return f"small work: {operations:.1e} floating-point operations, less than {small_work:.0e}"
    return ""


def work(state: State, passes: float) -> float | None:
    """Floating-point operations of so many passes over a row set (the mean one); None where they can't be told."""
    models = {point.trial.model.model_dump_json(): point.trial.model for point in state.points.values()}
    weights = [weights_of(model) for model in models.values()]
    sets = [rows_and_tokens(rows.task, rows.split) for rows in state.spec.row_sets]
    if None in weights or None in sets:
        return None
    tokens = sum(rows * length for rows, length in filter(None, sets)) / len(sets)
    return 2.0 * max(filter(None, weights), default=0.0) * tokens * passes


# The sample ---------------------------------------------------------------------------------------------------------


def _parts(state: State, keys: set[str], undecided: Sequence[str]) -> list[Part]:
    """The undecided parts that there are paths of, with points spread over some of those."""
    from raymc.connectivity.precision import Part

    connections, asked = state.connections, state.spec.connectivity
    networks, parts = connections.decisions.networks, connections.decisions.parts
    key_of = {parts[key]: key for key in undecided}
    of_part: dict[str, list[PairTask]] = {}
    for task in _some_tasks(state, keys):
        fitted = not task.fit or state.store.has(layout.CURVES, task.fit)
        if fitted and (task.a, task.b, task.curve) not in state.failed_pairs:
            for split in task.splits:
                part = key_of.get((networks[task.a], split, space_asked(asked, task.curve)))
                if part is not None:
                    of_part.setdefault(part, []).append(task)
    room = int(_SHARE * connections.forward_passes(keys)[0] / max(1, len(of_part)))
    return [Part(key, parts[key][1], spread(some, max(_LEAST, min(room, _MOST)))) for key, some in of_part.items()]


def _some_tasks(state: State, keys: set[str]) -> Iterator[PairTask]:
    """What is missing of some pairs of each network, spread over its minima."""
    missing, networks = state.connections.missing(keys), state.connections.decisions.networks
    places: dict[str, list[int]] = {}
    for place, key in enumerate(state.connections.order):
        if key in keys:
            places.setdefault(networks[key], []).append(place)
    for own in places.values():
        for i in _evenly(own, _ENDS):
            (others,) = missing.block(np.array([i]))[0].nonzero()
            for j in _evenly(others.tolist(), _ENDS_EACH):
                yield from missing.tasks(i, j)


def _evenly(some: Sequence[int], most: int) -> list[int]:
    """At most so many, from all over."""
    count = min(most, len(some))
    return [some[i * len(some) // count] for i in range(count)]


def spread(tasks: Sequence[PairTask], points: int) -> tuple[tuple[PairTask, float], ...]:
    """So many points (fewer where there are few paths), evenly over the paths, at several t."""
    count = min(points, len(_T) * len(tasks))
    return tuple((tasks[i * len(tasks) // count], _T[i % len(_T)]) for i in range(count))
