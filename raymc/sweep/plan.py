"""What a sweep would compute, what the store has of it, and about what it costs. Runs nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from raymc.connectivity.counts import EXPECTED, Counts
from raymc.connectivity.pairs import Connections
from raymc.connectivity.planes import Planes
from raymc.specs.precision import Decision
from raymc.specs.sweep import Point, SweepSpec
from raymc.store import layout
from raymc.sweep.calibration import Calibration, read
from raymc.sweep.check import Locate, backbones_of, check, open_store, trials_by_key, unlocated, whole_minima
from raymc.sweep.estimate import AS_IT_IS, Hardware, Work, estimate


@dataclass(frozen=True)
class Plan:
    """Counts of a sweep. `forward_passes`: passes of a model over one whole split that are still to do."""

    spec: SweepSpec
    storage: str
    points: dict[str, Point]
    minima_done: int
    backbones_total: int
    backbones_done: int
    curves_total: int
    curves_done: int
    pairs_total: int
    pairs_done: int
    forward_passes: int
    forward_passes_total: int
    precision: Decision
    estimate: dict[str, Any]

    def as_dict(self) -> dict[str, Any]:
        return {
            "name": self.spec.name,
            "storage": self.storage,
            "minima": {"total": len(self.points), "done": self.minima_done},
            "backbones": {"total": self.backbones_total, "done": self.backbones_done},
            "curves": {"total": self.curves_total, "done": self.curves_done},
            "pairs": {"total": self.pairs_total, "done": self.pairs_done},
            "forward_passes": self.forward_passes,
            "forward_passes_total": self.forward_passes_total,
            "precision": self.precision.model_dump(mode="json") | {"told": self.precision.told},
            "estimate": self.estimate,
            "trials": [{"key": key, "axes": point.values} for key, point in self.points.items()],
            "spec": self.spec.model_dump(mode="json"),
        }


def plan(
    spec: SweepSpec,
    *,
    storage: str | None = None,
    checked: bool = False,
    locate: Locate = unlocated,
    hardware: Hardware = AS_IT_IS,
) -> Plan:
    """Raises SpecError for faults in the spec's files and data; `checked` skips looking at them again."""
    if not checked:
        check(spec)
    store = open_store(spec, storage, write=False)
    points = trials_by_key(spec, locate)
    there = whole_minima(store, set(points))
    backbones = backbones_of(points, set(points))
    from raymc.tasks.rows import labels_of

    connections = Connections(spec, store, points, labels_of)
    counts, calibration = connections.counts, read(store, spec)
    interior, passes_basis = _interior(connections, counts, there, calibration)
    passes, passes_total = counts.forward_passes(there, interior)
    of_planes = Planes(connections).forward_passes(there)
    passes, passes_total = passes + of_planes[0], passes_total + of_planes[1]
    fits = counts.fits()
    work = Work(
        passes=passes,
        pairs=connections.selected.count() - counts.finished(there),
        minima=len(points),
        fits={curve: total - done for curve, (total, done) in fits.items()},
    )
    costs = estimate(spec, store, points, there, work, hardware, calibration)
    return Plan(
        spec=spec,
        storage=store.uri,
        points=points,
        minima_done=len(there),
        backbones_total=len(backbones),
        backbones_done=sum(store.has(layout.BACKBONES, key) for key in backbones),
        curves_total=sum(total for total, _ in fits.values()),
        curves_done=sum(done for _, done in fits.values()),
        pairs_total=counts.pairs(),
        pairs_done=counts.done_pairs(there),
        forward_passes=passes,
        forward_passes_total=passes_total,
        precision=connections.decisions.decision,
        estimate={**costs, "passes_per_path": interior, "passes_basis": passes_basis},
    )


def _interior(
    connections: Connections, counts: Counts, there: set[str], calibration: Calibration | None
) -> tuple[float, str]:
    """(passes over a row set that a path takes between its ends, on what that rests)."""
    every = float(len(connections.t) - 2)
    if connections.spec.connectivity.tolerance is None:
        return every, "every point is evaluated"
    measured = counts.measured_passes(there)
    if measured is not None:
        return min(every, measured[0]), f"adaptive, the mean of {measured[1]} profiles of this sweep"
    if calibration is not None:
        return min(every, calibration.passes_per_path), f"adaptive, as measured on {calibration.device}"
    return min(every, EXPECTED), "adaptive, as many as are expected of smooth profiles"
