"""How fast a machine scores pairs of a sweep's network: what a short measured run left in the store, for plans.

A record of layout kind `calibrations`: grouped by what computes (the sizes of the network and the tuning method of the
sweep's first minimum), named by the machine, the precision and the threads, so that measuring again replaces it.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, fields
from typing import Any

from raymc.specs.errors import CorruptArtefact
from raymc.specs.keys import key_of
from raymc.specs.precision import network_of
from raymc.specs.sweep import SweepSpec
from raymc.store import layout
from raymc.store.store import Store

_VERSION = 1  # of what the figures mean


@dataclass(frozen=True)
class Calibration:
    """Figures of one worker."""

    device: str  # its name, as people know it
    model: str
    kind: str  # of the model: classifier, seq2seq or causal
    precision: str  # that the passes computed in
    tokens_per_second: float  # forward, within passes alone; padding is not counted
    seconds_per_load: float  # of one endpoint
    bytes_per_endpoint: int
    passes_per_path: float  # on the mean: interior points of a path that a row set was scored at
    seconds_per_pair_overhead: float  # beyond passes and loads
    threads: int

    @property
    def on_gpu(self) -> bool:
        return self.device.lower().startswith("cuda") or "nvidia" in self.device.lower()


def write(store: Store, spec: SweepSpec, found: Calibration) -> None:
    """Keep what was measured for a sweep's network. Raises RaymcError where the store can't be written."""
    name = key_of({"device": found.device, "precision": found.precision, "threads": found.threads})
    store.put(layout.CALIBRATIONS, _group(spec), name, {**asdict(found), "at": time.time()})


def read(store: Store, spec: SweepSpec) -> Calibration | None:
    """The newest of a sweep's network, in the precision that the spec asks for; None where there is none.

    Records that were damaged are as if they weren't there. Raises RaymcError for a backbone that isn't there.
    """
    group, asked = _group(spec), spec.connectivity.precision
    bodies: list[dict[str, Any]] = []
    for name in store.records(layout.CALIBRATIONS, group):
        try:
            body = store.get(layout.CALIBRATIONS, group, name)
        except (KeyError, CorruptArtefact):
            continue
        if asked not in ("fp32", "bf16") or body["precision"] == asked:
            bodies.append(body)
    if not bodies:
        return None
    newest = max(bodies, key=lambda body: body["at"])
    return Calibration(**{field.name: newest[field.name] for field in fields(Calibration)})


def _group(spec: SweepSpec) -> str:
    return key_of({"kind": "calibration", "version": _VERSION, "network": network_of(spec.points[0].trial)})
