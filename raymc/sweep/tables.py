"""The tables of a sweep, assembled from the records that the store holds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from raymc.connectivity.pairs import Connections
from raymc.specs.results import METRICS, Profile
from raymc.specs.sweep import Point
from raymc.store import layout

if TYPE_CHECKING:
    import pandas as pd


def assemble(connections: Connections, points: Mapping[str, Point]) -> tuple[dict[str, pd.DataFrame], int]:
    """(the minima, profiles and barriers tables, the number of pairs that are whole on every split and curve).

    Only finished minima and pairs are in them. Raises CorruptArtefact for a record that isn't what was written.
    """
    from raymc.report.frames import barriers_frame, minima_frame, profiles_frame

    spec, store = connections.spec, connections.store
    there = [key for key in points if store.has(layout.MINIMA, key)]
    evaluations = {
        (key, split): found
        for key in there
        for split in spec.connectivity.splits
        if (found := connections.evaluation(key, split)) is not None
    }
    profiles: list[Profile] = []
    whole_pairs = 0
    for curve in spec.connectivity.curves:
        for a, b in connections.pairs(set(there)):
            found = [connections.profile(a, b, curve, split) for split in spec.connectivity.splits]
            whole = [profile for profile in found if profile is not None]
            whole_pairs += len(whole) == len(found)
            profiles += whole
    tables = {
        "minima": minima_frame(
            there,
            {key: str(store.folder(layout.MINIMA, key)) for key in there},
            {key: points[key].values for key in there},
            evaluations,
            spec.connectivity.splits,
            METRICS,
        ),
        "profiles": profiles_frame(profiles, METRICS),
        "barriers": barriers_frame(profiles),
    }
    return tables, whole_pairs
