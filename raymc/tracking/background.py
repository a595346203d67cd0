"""A tracker kept out of a sweep's way: its calls run on a thread of their own, and none is waited for without limit."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Any

from raymc.tracking.tracker import MinimumView, SweepView, Tracker, TrackingError


class BackgroundTracker:
    """`prepare`, `beside` and `minimum` return at once; after a first failure, told once, they do nothing until `sync`.

    `on_trouble` gets that failure's one line, on the tracker's thread. `sync_limit` and `close_limit`: seconds.
    """

    def __init__(
        self, tracker: Tracker, on_trouble: Callable[[str], None], sync_limit: float = 120.0, close_limit: float = 10.0
    ):
        self._tracker, self._on_trouble = tracker, on_trouble
        self._sync_limit, self._close_limit = sync_limit, close_limit
        self._queue: queue.SimpleQueue[_Call | None] = queue.SimpleQueue()
        self._troubled = threading.Event()
        self._thread = threading.Thread(target=self._work, name="raymc-tracking", daemon=True)
        self._thread.start()

    @property
    def troubled(self) -> bool:
        """Whether a live call has failed since the last good `sync`."""
        return self._troubled.is_set()

    def prepare(self) -> None:
        self._live(self._tracker.prepare)

    def beside(self, work: Callable[[], None]) -> None:
        """Do something else on the tracker's thread, after what waits there now."""
        self._live(work)

    def minimum(self, sweep: str, view: MinimumView) -> None:
        self._live(self._tracker.minimum, sweep, view)

    def sync(self, view: SweepView) -> str:
        """Raises TrackingError where it fails or isn't done within the limit.

        Live calls that still wait are dropped: the view holds what they would show.
        """
        self._drop_waiting()
        call = self._put(self._tracker.sync, view)
        address = call.result(self._sync_limit, "what it shows of the sweep is not complete; a re-run completes it")
        self._troubled.clear()
        return address

    def close(self) -> None:
        """Let calls that wait finish and the tracker close, for as long as the limit; then leave them."""
        if not self._thread.is_alive():
            return
        if self._troubled.is_set():
            self._drop_waiting()
        call = self._put(self._tracker.close)
        self._queue.put(None)
        try:
            call.result(self._close_limit, "it could not be closed")
        except TrackingError as error:
            self._tell(str(error))

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
                self._queue.get_nowait()
        except queue.Empty:
            return

    def _work(self) -> None:
        while (call := self._queue.get()) is not None:
            if call.live and self._troubled.is_set():
                continue
            call.run()
            if call.live and call.error is not None:
                self._tell(str(call.error) or type(call.error).__name__)

    def _tell(self, line: str) -> None:
        if not self._troubled.is_set():
            self._troubled.set()
            self._on_trouble(line)


class _Call:
    """One call, its outcome, and a way to wait for it."""

    def __init__(self, function: Callable[..., Any], arguments: tuple[Any, ...], live: bool = False):
        self.function, self.arguments, self.live = function, arguments, live
        self.value: Any = None
        self.error: BaseException | None = None
        self.done = threading.Event()

    def run(self) -> None:
        try:
            self.value = self.function(*self.arguments)
        except BaseException as error:  # noqa: BLE001  the thread must go on; a waiting caller gets it
            self.error = error
        self.done.set()

    def result(self, limit: float, consequence: str) -> Any:
        """What the call returned. Raises what it raised, or TrackingError after `limit` seconds."""
        if not self.done.wait(limit):
            raise TrackingError(f"the tracker did not answer within {limit:g} s: {consequence}")
        if self.error is not None:
            raise self.error
        return self.value
