"""What a run knows while it goes on: its sweep, what failed, what was computed, and how long each stage took."""

from __future__ import annotations

import threading
import time
from collections import Counter
from dataclasses import dataclass, field

from raymc.connectivity.pairs import Connections
from raymc.specs.errors import CorruptArtefact, RaymcError
from raymc.specs.naming import name_of
from raymc.specs.progress import Progress
from raymc.specs.sweep import Point, SweepSpec
from raymc.store.claims import Claims
from raymc.store.store import Store
from raymc.sweep.check import whole_minima
from raymc.sweep.tracking import Tracking

_OFTEN = 3


@dataclass
class State:
    """One run. `points`: the sweep's minima by key. Failures are by key, or by pair and curve, with their reasons.

    What `claims` another run on the same storage has is left to that run.
    """

    spec: SweepSpec
    points: dict[str, Point]
    store: Store
    connections: Connections
    progress: Progress
    tracking: Tracking | None
    verbose: bool
    stop: threading.Event = field(default_factory=threading.Event)
    failed_minima: dict[str, str] = field(default_factory=dict)
    failed_pairs: dict[tuple[str, str, str], str] = field(default_factory=dict)
    failed_planes: dict[str, str] = field(default_factory=dict)
    computed_curves: set[str] = field(default_factory=set)
    computed_minima: set[str] = field(default_factory=set)
    computed_pairs: int = 0  # each counted once a curve
    seconds: dict[str, float] = field(default_factory=dict)  # by stage; write: of all workers, within other stages
    found_whole: Counter[tuple[str, str]] = field(default_factory=Counter)  # times that what was damaged was whole
    claims: Claims = field(init=False)

    def __post_init__(self) -> None:
        self.claims = Claims(self.store.objects, self.progress.say)

    def whole(self) -> set[str]:
        return whole_minima(self.store, set(self.points))

    def missing(self) -> list[str]:
        there = self.whole()
        return [key for key in self.points if key not in there and key not in self.failed_minima]

    def name(self, key: str) -> str:
        return name_of(self.points[key])

    def set_aside(self, error: CorruptArtefact) -> None:
        """Set aside what is damaged; what is whole stays: another run, or machine, may have mended it since.

        Raises RaymcError where the same thing is found damaged again and again while it is whole.
        """
        if self.store.is_damaged(error):
            place = self.store.set_aside(error.kind, error.key)
            self.progress.say(f"corrupt, set aside and computed again: {error}" + (f" (now {place})" if place else ""))
            return
        self.progress.say(f"found corrupt, but whole by now, so it is looked at again: {error}")
        self.found_whole[error.kind, error.key] += 1
        if self.found_whole[error.kind, error.key] >= _OFTEN:
            raise RaymcError(
                f"{error} ({_OFTEN} times, and each time the storage's was whole): look at the disk and memory of the "
                "machine that reads it; what is finished is kept, the same command goes on"
            )

    def mark(self, stage: str, began: float) -> None:
        self.add(stage, time.perf_counter() - began)

    def add(self, stage: str, seconds: float) -> None:
        self.seconds[stage] = self.seconds.get(stage, 0.0) + seconds
