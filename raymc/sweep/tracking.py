"""The tracker of a run: opened when there is something to show, never in the way of the results."""

from __future__ import annotations

import contextlib
import importlib
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING

from raymc.specs.errors import RaymcError
from raymc.specs.progress import Progress
from raymc.specs.sweep import Point, SweepSpec
from raymc.store.store import Store
from raymc.sweep.results import Sweep

if TYPE_CHECKING:
    from raymc.tracking.background import BackgroundTracker


class Tracking:
    """Shows one sweep in MLflow. Trouble is told once, in a line; nothing raises."""

    def __init__(self, spec: SweepSpec, store: Store, tracking: str | None, progress: Progress):
        self._spec, self._store, self._asked, self._progress = spec, store, tracking, progress
        self._tracker: BackgroundTracker | None = None
        self._uri = ""

    def open(self) -> BackgroundTracker:
        """Make the tracker, and let it prepare its place beside other work."""
        if self._tracker is None:
            from raymc.sweep.view import make_tracker
            from raymc.tracking.background import BackgroundTracker

            inner = make_tracker(self._spec, self._store, self._asked)
            self._uri = inner.uri
            self._tracker = BackgroundTracker(inner, self._trouble)
            self._tracker.prepare()
            self._tracker.beside(_import_ahead)
        return self._tracker

    def minimum(self, key: str, point: Point) -> None:
        """Show a minimum as soon as it is trained."""
        from raymc.sweep.view import minimum_view

        self.open().minimum(self._spec.name, minimum_view(self._spec, self._store, key, point, {}))

    def sync(self, sweep: Sweep, points: Mapping[str, Point]) -> dict[str, str]:
        """Bring the view up to the store, unless a receipt says that it is there; where it is shown, {} if nowhere."""
        from raymc.sweep.view import receipt_path, state_digest, sweep_view

        where = self._asked or self._spec.tracking.uri or "storage"
        digest, receipt = state_digest(sweep, where), receipt_path(self._store, self._spec.name)
        with contextlib.suppress(OSError, ValueError, KeyError):
            kept = json.loads(receipt.read_text())
            if kept["digest"] == digest:
                return kept["shown"]
        try:
            address = self.open().sync(sweep_view(sweep, points))
        except RaymcError as error:
            self._trouble(str(error))
            return {}
        shown = {"tracking": self._uri, "tracking_run": address}
        self._store.write_file(receipt, json.dumps({"digest": digest, "shown": shown}).encode())
        return shown

    def close(self) -> None:
        if self._tracker is not None:
            self._tracker.close()

    def _trouble(self, message: str) -> None:
        self._progress.say(f"tracking: {message}; results are in the store, and another run completes the view")


def _import_ahead() -> None:
    """What a run needs at its end takes two seconds to import: meanwhile, the workers work."""
    for name in ("report.frames", "report.heatmap", "analysis.clusters", "analysis.trees", "analysis.knowledge"):
        importlib.import_module(f"raymc.{name}")
