"""What a run didn't bring about, and why: each with a kind, a key, a name and a reason."""

from __future__ import annotations

from collections.abc import Iterable

from raymc.connectivity.planes import Planes
from raymc.sweep.state import State

Failure = dict[str, str]
_UNTOLD = "it isn't there: it was found damaged again and again, or another run set it aside; run the sweep again"


def failures(state: State, there: Iterable[str], lacking: Iterable[tuple[str, str, str]]) -> list[Failure]:
    """All that failed, and all that is missing without a reason: no run counts as whole that isn't.

    `there`: keys of the minima in the tables. `lacking`: paths (a, b, curve) among those that the tables lack.
    """
    whole = {*there}
    minima = {key: _UNTOLD for key in state.points if key not in whole} | state.failed_minima
    pairs = {one: _UNTOLD for one in lacking if not {*one[:2]} & minima.keys()} | state.failed_pairs
    several = len(state.spec.connectivity.curves) > 1
    found = [_one("minimum", key, state.name(key), reason) for key, reason in minima.items()]
    for (a, b, curve), reason in pairs.items():
        named = f"{state.name(a)} - {state.name(b)}" + (f" ({curve})" if several else "")
        found.append(_one("pair", f"{a}-{b}", named, reason))
    return found + [_one("plane", name, name, reason) for name, reason in _planes(state).items()]


def _planes(state: State) -> dict[str, str]:
    """By a plane's name, of planes through minima that are there."""
    planes = Planes(state.connections)
    if not planes.grids:
        return {}
    keys = state.whole()
    (lines, _), (traces, _) = planes.missing_lines(keys), planes.missing_traces(keys)
    lacking = {task.through for task in (*lines, *traces)}
    return {grid.name: _UNTOLD for grid in planes.grids if grid.through in lacking} | state.failed_planes


def _one(kind: str, key: str, name: str, reason: str) -> Failure:
    return {"kind": kind, "key": key, "name": name, "reason": reason}
