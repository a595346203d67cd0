"""The background tracker: a slow or dead tracker behind it never holds up a sweep."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from raymc.tracking.background import BackgroundTracker
from raymc.tracking.memory import MemoryTracker
from raymc.tracking.tracker import MinimumView, SweepView, TrackingError


def minimum(key: str = "a") -> MinimumView:
    return MinimumView(key=key, name=key, params={}, axes={}, metrics={}, curve=[], uri="", seconds=1.0)


class Flaky(MemoryTracker):
    """Fails while `down`; `calls` counts live ones; waits for `gate` in each call where there is one."""

    def __init__(self, down: bool = False, gate: threading.Event | None = None):
        super().__init__()
        self.down, self.gate, self.calls = down, gate, 0

    def _work(self) -> None:
        if self.gate is not None:
            self.gate.wait(30)
        if self.down:
            raise TrackingError("connection refused")

    def prepare(self) -> None:
        self._work()
        super().prepare()

    def minimum(self, sweep: str, view: MinimumView) -> None:
        self.calls += 1
        self._work()
        super().minimum(sweep, view)

    def sync(self, view: SweepView) -> str:
        self._work()
        return super().sync(view)


def wait_until(done: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not done() and time.monotonic() < end:
        time.sleep(0.01)


@pytest.fixture
def told() -> list[str]:
    return []


def test_calls_arrive_in_order_and_off_the_callers_thread(told):
    memory = MemoryTracker()
    tracker = BackgroundTracker(memory, told.append)
    tracker.prepare()
    for key in "abc":
        tracker.minimum("alpha", minimum(key))
    tracker.close()
    assert memory.prepared
    assert list(memory.live["alpha"]) == ["a", "b", "c"]
    assert memory.closed
    assert told == []


def test_other_work_is_done_in_its_turn_on_the_trackers_thread(told):
    memory, threads = MemoryTracker(), []
    tracker = BackgroundTracker(memory, told.append)
    tracker.prepare()
    tracker.beside(lambda: threads.append((threading.current_thread().name, memory.prepared)))
    tracker.close()
    assert threads == [("raymc-tracking", True)]
    assert told == []


def test_a_first_failure_is_told_once_and_live_calls_are_skipped_until_a_sync(told):
    flaky = Flaky(down=True)
    tracker = BackgroundTracker(flaky, told.append)
    tracker.prepare()
    for key in "abc":
        tracker.minimum("alpha", minimum(key))
    wait_until(lambda: bool(told))
    with pytest.raises(TrackingError, match="connection refused"):
        tracker.sync(SweepView("alpha", [minimum()]))
    assert told == ["connection refused"]
    assert flaky.calls == 0
    assert tracker.troubled
    flaky.down = False
    assert tracker.sync(SweepView("alpha", [minimum()])) == "memory:alpha"
    assert not tracker.troubled
    tracker.minimum("alpha", minimum("d"))
    tracker.close()
    assert list(flaky.live["alpha"]) == ["d"]


def test_a_stuck_tracker_delays_nobody(told):
    gate = threading.Event()
    tracker = BackgroundTracker(Flaky(gate=gate), told.append, sync_limit=0.3, close_limit=0.3)
    begin = time.monotonic()
    tracker.prepare()
    for key in "abc":
        tracker.minimum("alpha", minimum(key))
    assert time.monotonic() - begin < 0.2
    with pytest.raises(TrackingError, match=r"did not answer within 0\.3 s: .* a re-run completes it"):
        tracker.sync(SweepView("alpha", [minimum()]))
    tracker.close()
    assert time.monotonic() - begin < 2
    assert told == ["the tracker did not answer within 0.3 s: it could not be closed"]
    gate.set()


def test_a_sync_drops_live_calls_that_wait(told):
    gate = threading.Event()
    flaky = Flaky(gate=gate)
    tracker = BackgroundTracker(flaky, told.append)
    for key in "abc":
        tracker.minimum("alpha", minimum(key))
    threading.Timer(0.2, gate.set).start()
    tracker.sync(SweepView("alpha", [minimum()]))
    tracker.close()
    assert flaky.calls <= 1
    assert list(flaky.sweeps) == ["alpha"]


def test_a_bug_behind_it_does_not_stop_the_sweep_but_shows_in_sync(told):
    class Broken(MemoryTracker):
        def minimum(self, sweep, view):
            raise KeyError("x")

        def sync(self, view):
            raise KeyError("y")

    tracker = BackgroundTracker(Broken(), told.append)
    tracker.minimum("alpha", minimum())
    with pytest.raises(KeyError, match="y"):
        tracker.sync(SweepView("alpha", []))
    tracker.close()
    assert told in (["'x'"], [])  # dropped, where the sync came first


def test_closed_is_closed(told):
    tracker = BackgroundTracker(MemoryTracker(), told.append)
    tracker.close()
    tracker.close()
    with pytest.raises(TrackingError, match="closed"):
        tracker.sync(SweepView("alpha", []))
    assert told == []


def test_a_digest_stands_for_a_whole_view():
    view = SweepView("alpha", [minimum()], metrics={"a": float("nan")})
    same = SweepView("alpha", [minimum()], metrics={"a": float("nan")})
    assert view.digest == same.digest
    others = [
        SweepView("beta", [minimum()]),
        SweepView("alpha", [minimum("b")]),
        SweepView("alpha", [], texts={"a": ""}),
    ]
    assert len({view.digest, *(other.digest for other in others)}) == 4
