"""The tracker of a run: opened when there is something to show, never in the way of the results.

While it is away the sweep goes on; at its end it is waited for, up to RAYMC_TRACKING_WAIT seconds at a stretch (300
where that isn't set). What isn't shown then is shown by the next run of the sweep.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

from raymc.specs.errors import RaymcError
from raymc.specs.progress import Progress
from raymc.specs.sweep import Point, SweepSpec
from raymc.store.store import Store
from raymc.sweep.results import Sweep
from raymc.tracking import KEPT

if TYPE_CHECKING:
    from raymc.tracking.background import BackgroundTracker
    from raymc.tracking.system import SystemWatch

PATIENCE = "RAYMC_TRACKING_WAIT"
PATIENCE_SECONDS = 300.0


class Tracking:
    """Shows one sweep in MLflow. Trouble is told once, in a line; nothing raises."""

    def __init__(self, spec: SweepSpec, store: Store, tracking: str | None, progress: Progress):
        self._spec, self._store, self._asked, self._progress = spec, store, tracking, progress
        self._tracker: BackgroundTracker | None = None
        self._watch: SystemWatch | None = None
        self._uri = ""
        self._troubled = False  # whether a tracker couldn't be made
        self._patience = patience()

    def open(self) -> BackgroundTracker:
        """Make the tracker, and let it prepare its place beside other work."""
        if self._tracker is None:
            from raymc.specs.secrets import without_secrets
            from raymc.sweep.view import make_tracker
            from raymc.tracking.background import BackgroundTracker

            inner = make_tracker(self._spec, self._store, self._asked)
            self._uri = without_secrets(inner.uri)
            self._tracker = BackgroundTracker(inner, self._say, patience=self._patience)
            self._tracker.prepare()
            self._tracker.beside(_import_ahead)
        return self._tracker

    def _live(self) -> BackgroundTracker | None:
        """As open; None, told once, where no tracker can be made."""
        if not self._troubled:
            try:
                return self.open()
            except RaymcError as error:
                self._troubled = True
                self._say(f"{error}; {KEPT}")
        return None

    def watch(self) -> None:
        """From now on, until the sync, show how busy this machine is."""
        from raymc.tracking.system import SystemWatch

        tracker, name = self._live(), self._spec.name
        if tracker is not None and self._watch is None:
            self._watch = SystemWatch(lambda sample: tracker.system(name, sample))

    def _stop_watching(self) -> None:
        if self._watch is not None:
            self._watch.stop()

    def minimum(self, key: str, point: Point) -> None:
        """Show a minimum as soon as it is trained."""
        from raymc.sweep.view import minimum_view

        tracker = self._live()
        if tracker is not None:
            tracker.minimum(self._spec.name, minimum_view(self._spec, self._store, key, point, {}))

    def sync(self, sweep: Sweep, points: Mapping[str, Point]) -> dict[str, str]:
        """Bring the view up to the store, unless a receipt says that it is there; where it is shown, {} if nowhere."""
        from raymc.sweep.view import receipt_path, state_digest, sweep_view

        where = self._asked or self._spec.tracking.uri or "storage"
        digest, receipt = state_digest(sweep, where), receipt_path(self._store, self._spec.name)
        with contextlib.suppress(OSError, RaymcError, ValueError, KeyError):
            kept = json.loads(self._store.read_file(receipt))
            if kept["digest"] == digest and _is_here(kept["shown"]["tracking"]):
                return kept["shown"]
        self._stop_watching()
        try:
            address = self.open().sync(sweep_view(sweep, points))
        except RaymcError as error:
            self._say(f"{error}; {KEPT}")
            return {"tracking_trouble": str(error)}
        shown = {"tracking": self._uri, "tracking_run": address}
        self._store.write_file(receipt, json.dumps({"digest": digest, "shown": shown}).encode())
        return shown

    def close(self) -> None:
        self._stop_watching()
        if self._tracker is not None:
            self._tracker.close()

    def _say(self, message: str) -> None:
        self._progress.say(f"tracking: {message}")


def patience() -> float:
    """Seconds for which a tracker may be away. Raises RaymcError for a setting that is no such number."""
    told = os.environ.get(PATIENCE, "")
    try:
        seconds = float(told) if told else PATIENCE_SECONDS
    except ValueError:
        seconds = -1.0
    if not 0.0 <= seconds < float("inf"):
        raise RaymcError(f"{PATIENCE}: a number of seconds from 0 on, not {told!r}")
    return seconds


def _is_here(uri: str) -> bool:
    """Whether a place can have what was shown there: a sqlite file may have been another machine's, or be gone."""
    from raymc.tracking.database import sqlite_path

    path = sqlite_path(uri)
    return path is None or path.is_file()


def _import_ahead() -> None:
    """What a run needs at its end takes two seconds to import: meanwhile, the workers work."""
    for name in ("report.frames", "report.heatmap", "analysis.clusters", "analysis.trees", "analysis.knowledge"):
        importlib.import_module(f"raymc.{name}")
