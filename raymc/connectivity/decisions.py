"""In which precision a sweep computes: as its spec says, or as was decided for it, which its store keeps."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

from raymc.specs.connectivity import ConnectivitySpec
from raymc.specs.errors import CorruptArtefact
from raymc.specs.exactness import Computed
from raymc.specs.precision import Decision, network_of, part_key, together
from raymc.specs.sweep import Point, SweepSpec
from raymc.store import layout
from raymc.store.store import Store

_SHARED = "measured"  # name of the record that every sweep of the content goes by


class Decisions:
    """A sweep's decisions on its precision, one for each part of its matrix: a network, a row set and a space.

    What was measured of a part holds for every sweep that has it. What says nothing of the content (that the work was
    small, that a machine had no bfloat16) holds for this sweep alone, by its name. No record is ever replaced, so a
    sweep that is gone on with, or grows, stays with its precision, unless a part that is new needs fp32.
    """

    def __init__(self, spec: SweepSpec, store: Store, points: Mapping[str, Point]):
        self._spec, self._store, self._points = spec, store, points
        self._known: dict[str, Decision] | None = None
        self.corrupt: list[CorruptArtefact] = []  # records that can't be read: as if they weren't there

    @property
    def precision(self) -> Computed:
        """What passes compute in; fp32 until it is decided."""
        return self.decision.precision

    @property
    def decision(self) -> Decision:
        """What is decided, or that nothing is."""
        asked = self._spec.connectivity
        if asked.drift_tolerance is None:
            return Decision(precision="bf16" if asked.precision == "bf16" else "fp32", reason="as the spec says")
        known = self._decided
        if not known:
            return Decision(precision="fp32", reason="auto; nothing decided so far", tolerance=asked.drift_tolerance)
        return self._together

    @property
    def begun(self) -> bool:
        """Whether there is a decision on some part, or none is needed."""
        return self._spec.connectivity.drift_tolerance is None or bool(self._decided)

    def undecided(self) -> list[str]:
        """Keys of the parts without a decision; none where the spec names the precision."""
        if self._spec.connectivity.drift_tolerance is None:
            return []
        return [part for part in self.parts if part not in self._decided]

    def put(self, part: str, decision: Decision) -> None:
        """Keep a decision on a part: for every sweep that has it if it was measured, else for this one."""
        name = _SHARED if decision.of_content else self._own
        try:
            self._store.get(layout.PRECISIONS, part, name)  # another run was faster: its decision stays
        except (KeyError, CorruptArtefact):
            self._store.put(layout.PRECISIONS, part, name, decision.model_dump(mode="json"))
        self.forget()

    def forget(self) -> None:
        """Read anew what is decided: another run may have done so."""
        self._store.again()
        self._known = None
        self.__dict__.pop("_together", None)

    # Parts ------------------------------------------------------------------------------------------------------

    @cached_property
    def parts(self) -> dict[str, tuple[str, str, str]]:
        """Key of each part: (network, name of the row set, space as it is asked for)."""
        asked = self._spec.connectivity
        tolerance = asked.drift_tolerance
        assert tolerance is not None
        return {
            part_key(network, rows.task, rows.split, space, tolerance): (network, rows.name, space)
            for network in sorted(set(self.networks.values()))
            for rows in self._spec.row_sets
            for space in sorted({space_asked(asked, curve) for curve in asked.curve_names})
        }

    @cached_property
    def networks(self) -> dict[str, str]:
        """What computes, of each minimum by key."""
        known: dict[tuple[str, str, str], str] = {}
        found: dict[str, str] = {}
        for key, point in self._points.items():
            model, method = point.trial.model, point.trial.tuning.method
            backbone = model.backbone if isinstance(model.backbone, str) else model.backbone.model_dump_json()
            same = (model.kind, method, backbone)
            if same not in known:  # it may read a file
                known[same] = network_of(point.trial)
            found[key] = known[same]
        return found

    # Records ----------------------------------------------------------------------------------------------------

    @property
    def _decided(self) -> dict[str, Decision]:
        """By part, where there is one; read once, and again after one is put."""
        if self._known is None:
            self._known = {}
            for part in self.parts:
                decision = self._read(part, self._own) or self._read(part, _SHARED)
                if decision is not None:
                    self._known[part] = decision
        return self._known

    @cached_property
    def _together(self) -> Decision:
        return together(list(self._decided.values()))

    @property
    def _own(self) -> str:
        return f"sweep-{self._spec.name}"

    def _read(self, part: str, name: str) -> Decision | None:
        try:
            return Decision.model_validate(self._store.get(layout.PRECISIONS, part, name))
        except KeyError:
            return None
        except CorruptArtefact as error:
            self.corrupt.append(error)
            return None


def space_asked(connectivity: ConnectivitySpec, curve: str) -> str:
    """The space that is asked for for a curve, by its name in tables."""
    return connectivity.curve(curve).space or connectivity.space
