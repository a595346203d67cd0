"""A tracker kept out of a sweep's way: its calls run on a thread of their own, and none is waited for without limit.

A tracker that is away is tried again, while the sweep goes on; only at its end is it waited for, up to a limit.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from typing import Any

from raymc.tracking import KEPT
from raymc.tracking.tracker import Away, MinimumView, SweepView, SystemSample, Tracker, TrackingError

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 15.0  # seconds between tries, doubled from one to the next


class BackgroundTracker:
    """`prepare`, `beside`, `minimum` and `system` return at once; where the tracker is away they wait and try again.

    After another failure, told once, they do nothing until `sync`, which shows all that they would have. `tell` gets
    lines for a person, on the tracker's thread or the caller's. Limits in seconds: `patience`, how long a tracker may
    be away at a stretch before `sync` gives up; `sync_limit`, how long nothing may come of a call; `close_limit`.
    """

    def __init__(
        self,
        tracker: Tracker,
        tell: Callable[[str], None],
        sync_limit: float = 120.0,
        close_limit: float = 10.0,
        patience: float = 300.0,
    ):
        self._tracker, self._tell = tracker, tell
        self._sync_limit, self._close_limit, self._patience = sync_limit, close_limit, patience
        self._queue: queue.SimpleQueue[_Call | None] = queue.SimpleQueue()
        self._troubled = threading.Event()
        self._summoned = threading.Event()  # a sync or the end: nothing live is waited for any more
        self._away_since: float | None = None
        self._samples: list[SystemSample] = []  # that were waiting when a sync came: the store doesn't have them
        self._thread = threading.Thread(target=self._work, name="raymc-tracking", daemon=True)
        self._thread.start()

    @property
    def troubled(self) -> bool:
        """Whether a call has failed for good since the last good `sync`."""
        return self._troubled.is_set()

    def prepare(self) -> None:
        self._live(self._tracker.prepare)

    def beside(self, work: Callable[[], None]) -> None:
        """Do something else on the tracker's thread, after what waits there now."""
        self._live(work)

    def minimum(self, sweep: str, view: MinimumView) -> None:
        self._live(self._tracker.minimum, sweep, view)

    def system(self, sweep: str, sample: SystemSample) -> None:
        self._live(self._sample, sweep, sample)

    def sync(self, view: SweepView) -> str:
        """Raises TrackingError where it fails, or where the tracker stays away or silent for longer than the limits.

        Live calls that still wait are dropped: the view holds what they would show.
        """
        self._summoned.set()
        try:
            self._drop_waiting()
            address = self._persistently(self._whole, view)
        except TrackingError:
            self._troubled.set()
            raise
        finally:
            self._summoned.clear()
        self._troubled.clear()
        return address

    def close(self) -> None:
        """Let calls that wait finish and the tracker close, for as long as the limit; then leave them."""
        if not self._thread.is_alive():
            return
        if self._troubled.is_set() or self._away_since is not None:
            self._drop_waiting()
            self._summoned.set()
        call = self._put(self._tracker.close)
        self._queue.put(None)
        try:
            call.result(self._close_limit, "it could not be closed")
        except TrackingError as error:
            self._trouble(str(error))

    def _sample(self, sweep: str, sample: SystemSample) -> None:
        self._tracker.system(sweep, sample)

    def _whole(self, view: SweepView) -> str:
        self._samples.sort(key=lambda sample: sample.at)
        while self._samples:
            self._tracker.system(view.name, self._samples[0])
            self._samples.pop(0)
        return self._tracker.sync(view)

    def _keep(self, call: _Call | None) -> None:
        if call is not None and call.function == self._sample:
            self._samples.append(call.arguments[1])

    def _live(self, function: Callable[..., Any], *arguments: Any) -> None:
        if not self._troubled.is_set():
            self._queue.put(_Call(function, arguments, live=True))

    def _put(self, function: Callable[..., Any], *arguments: Any) -> _Call:
        call = _Call(function, arguments)
        if not self._thread.is_alive():
            raise TrackingError("the tracker is closed")
        self._queue.put(call)
        return call

    def _drop_waiting(self) -> None:
        try:
            while True:
                self._keep(self._queue.get_nowait())
        except queue.Empty:
            return

    def _persistently(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """A call's result, however often the tracker is away meanwhile, but not for longer than the limit."""
        pause, told = FIRST_PAUSE, False
        consequence = "what it shows of the sweep is not complete; a re-run completes it"
        while True:
            try:
                call = self._put(function, *arguments)
                value = call.result(self._sync_limit, consequence, lambda: self._tracker.beats)
                self._is_back()
                return value
            except Away as error:
                left = self._is_away() + self._patience - time.monotonic()
                if left <= 0:
                    raise Away(f"{error}, for {self._patience:g} s now") from error
                if not told:
                    told = True
                    self._tell(f"{error}; waiting for it, up to {left:.0f} s more")
                time.sleep(min(pause, left))
                pause = min(2 * pause, LONGEST_PAUSE)

    def _work(self) -> None:
        while (call := self._queue.get()) is not None:
            if call.live:
                self._attend(call)
            else:
                call.run()

    def _attend(self, call: _Call) -> None:
        """A live call: tried until it gets through, is of no use any more, or fails for another reason."""
        pause = FIRST_PAUSE
        while not self._troubled.is_set():
            call.run()
            if call.error is None:
                self._is_back()
                return
            if not isinstance(call.error, Away):
                self._trouble(str(call.error) or type(call.error).__name__)
                return
            if self._away_since is None:
                self._tell(f"{call.error}; the sweep goes on, and it is tried again every few seconds")
            self._is_away()
            if self._summoned.wait(pause):
                self._keep(call)
                return
            pause = min(2 * pause, LONGEST_PAUSE)

    def _is_away(self) -> float:
        """Since when, by the monotonic clock."""
        if self._away_since is None:
            self._away_since = time.monotonic()
        return self._away_since

    def _is_back(self) -> None:
        if self._away_since is not None:
            self._tell(f"MLflow answers again, after {time.monotonic() - self._away_since:.0f} s")
            self._away_since = None

    def _trouble(self, line: str) -> None:
        if not self._troubled.is_set():
            self._troubled.set()
            self._tell(f"{line}; {KEPT}")


class _Call:
    """One call, its outcome, and a way to wait for it."""

    def __init__(self, function: Callable[..., Any], arguments: tuple[Any, ...], live: bool = False):
        self.function, self.arguments, self.live = function, arguments, live
        self.value: Any = None
        self.error: BaseException | None = None
        self.done = threading.Event()

    def run(self) -> None:
        self.error = None
        try:
            self.value = self.function(*self.arguments)
        except BaseException as error:  # noqa: BLE001  the thread must go on; a waiting caller gets it
            self.error = error
        self.done.set()

    def result(self, limit: float, consequence: str, beats: Callable[[], int] = lambda: 0) -> Any:
        """What the call returned. Raises what it raised, or TrackingError after `limit` seconds without a beat."""
        seen = beats()
        while not self.done.wait(limit):
            if beats() == seen:
                raise TrackingError(f"the tracker did not answer within {limit:g} s: {consequence}")
            seen = beats()
        if self.error is not None:
            raise self.error
        return self.value
