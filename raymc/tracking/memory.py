"""A tracker that only remembers: for tests, and for looking at what a sweep would show."""

from __future__ import annotations

from raymc.tracking.tracker import MinimumView, SweepView, SystemSample


class MemoryTracker:
    """`live`: sweep to key to the minimum shown while it ran; `sweeps`: name to the last view synced."""

    def __init__(self) -> None:
        self.live: dict[str, dict[str, MinimumView]] = {}
        self.sweeps: dict[str, SweepView] = {}
        self.prepared = False
        self.closed = False
        self.samples: list[SystemSample] = []
        self.beats = 0

    def prepare(self) -> None:
        self.prepared = True

    def minimum(self, sweep: str, view: MinimumView) -> None:
        self.live.setdefault(sweep, {})[view.key] = view

    def system(self, sweep: str, sample: SystemSample) -> None:
        self.samples.append(sample)

    def sync(self, view: SweepView) -> str:
        self.sweeps[view.name] = view
        return f"memory:{view.name}"

    def close(self) -> None:
        self.closed = True
