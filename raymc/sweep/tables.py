"""The tables of a sweep, assembled from the records that the store holds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from raymc.connectivity.pairs import Connections
from raymc.connectivity.planes import Planes
from raymc.specs.connectivity import Floor
from raymc.specs.naming import name_of
from raymc.specs.results import DIAGNOSTICS, METRICS, PATH_DIAGNOSTICS, Evaluation, Profile
from raymc.specs.sweep import Point
from raymc.store import layout

if TYPE_CHECKING:
    import pandas as pd


def assemble(
    connections: Connections, points: Mapping[str, Point]
) -> tuple[dict[str, pd.DataFrame], int, list[tuple[str, str, str]]]:
    """(the minima, profiles and barriers tables, the number of paths that are whole on every row set, the others).

    A path is a pair along a curve, (a, b, curve); the others are those between minima that are there.

    Only finished minima and pairs are in them. Raises CorruptArtefact for a record that isn't what was written.
    """
    from raymc.report.frames import MinimumRow, PairNote, barriers_frame, minima_frame, profiles_frame

    spec, store = connections.spec, connections.store
    there = [key for key in points if store.has(layout.MINIMA, key)]
    evaluations = {
        (key, split): found
        for key in there
        for split in connections.endpoint_splits(key)
        if (found := connections.evaluation(key, split)) is not None
    }
    weak = {key for key in there if is_below(spec.connectivity.floor, key, evaluations, connections)}
    profiles: list[Profile] = []
    whole_paths, lacking = 0, []
    for curve in spec.connectivity.curve_names:
        for a, b in connections.pairs(set(there)):
            found = [connections.profile(a, b, curve, split) for split in connections.heads(a, b)]
            whole = [profile for profile in found if profile is not None]
            profiles += whole
            if len(whole) == len(found):
                whole_paths += 1
            else:
                lacking.append((a, b, curve))

    def note(a: str, b: str) -> PairNote:
        same = connections.same_trajectory(a, b)
        return PairNote(connections.differs(a, b), same, below_floor=a in weak or b in weak)

    minima = [
        MinimumRow(
            key=key,
            uri=store.where(layout.MINIMA, key),
            name=name_of(points[key]),
            trajectory=points[key].trial.trajectory,
            values=points[key].values,
            below_floor=key in weak,
        )
        for key in there
    ]
    metrics = (*METRICS[spec.points[0].trial.model.kind], *DIAGNOSTICS)
    tables = {
        "minima": minima_frame(minima, spec.axis_names, evaluations, list(connections.row_sets), metrics),
        "profiles": profiles_frame(profiles, (*metrics, *PATH_DIAGNOSTICS)),
        "barriers": barriers_frame(profiles, note, metrics[0]),
    }
    if spec.connectivity.planes:
        from raymc.sweep.planes import marks_frame, planes_frame

        planes = Planes(connections)
        tables |= {"planes": planes_frame(planes, metrics), "plane_marks": marks_frame(planes)}
    return tables, whole_paths, lacking


def is_below(
    floor: Floor | None, key: str, evaluations: Mapping[tuple[str, str], Evaluation], connections: Connections
) -> bool:
    """Whether a minimum is weaker than a floor: on its row set, else on the first that the minimum is scored on.

    One that isn't scored there, as it has other labels, is below no floor.
    """
    if floor is None:
        return False
    splits = (floor.split,) if floor.split else connections.endpoint_splits(key)[:1]
    found = [evaluations[key, split] for split in splits if (key, split) in evaluations]
    if floor.metric == "loss":
        return any(not one.loss <= floor.value for one in found)
    return any(not one.metrics[floor.metric] >= floor.value for one in found)
