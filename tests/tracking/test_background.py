"""The background tracker: a slow or dead tracker behind it never holds up a sweep."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from raymc.tracking import KEPT, background
from raymc.tracking.background import BackgroundTracker
from raymc.tracking.memory import MemoryTracker
from raymc.tracking.system import SystemWatch
from raymc.tracking.tracker import Away, MinimumView, SweepView, SystemSample, TrackingError


def minimum(key: str = "a") -> MinimumView:
    return MinimumView(key=key, name=key, params={}, axes={}, metrics={}, curve=[], uri="", seconds=1.0)


class Flaky(MemoryTracker):
    """Fails while `down`; `calls` counts live ones; waits for `gate` in each call where there is one."""

    def __init__(self, down: bool = False, gate: threading.Event | None = None):
        super().__init__()
        self.down, self.gate, self.calls = down, gate, 0

    away = 0  # how many calls find it away, from now on

    def _work(self) -> None:
        if self.away:
            self.away -= 1
            raise Away("nobody there")
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

    def system(self, sweep: str, sample: SystemSample) -> None:
        self._work()
        super().system(sweep, sample)

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
    assert told == [f"connection refused; {KEPT}"]
    assert flaky.calls == 0
    assert tracker.troubled
    flaky.down = False
    assert tracker.sync(SweepView("alpha", [minimum()])) == "memory:alpha"
    assert not tracker.troubled
    tracker.minimum("alpha", minimum("d"))
    tracker.close()
    assert list(flaky.live["alpha"]) == ["d"]


@pytest.fixture
def at_once(monkeypatch):
    monkeypatch.setattr(background, "FIRST_PAUSE", 0.01)


def test_a_tracker_that_is_away_is_tried_again_and_gets_all_in_order(told, at_once):
    flaky = Flaky()
    flaky.away = 4
    tracker = BackgroundTracker(flaky, told.append)
    begin = time.monotonic()
    tracker.prepare()
    for key in "abc":
        tracker.minimum("alpha", minimum(key))
    assert time.monotonic() - begin < 0.1
    wait_until(lambda: "c" in flaky.live.get("alpha", {}))
    tracker.close()
    assert list(flaky.live["alpha"]) == ["a", "b", "c"]
    assert flaky.calls == 3  # the tries of `prepare` came first
    assert [line.split(",")[0].split(";")[0] for line in told] == ["nobody there", "MLflow answers again"]


def test_a_sync_waits_for_a_tracker_that_is_away_as_long_as_it_said(told, at_once):
    flaky = Flaky()
    flaky.away = 3
    tracker = BackgroundTracker(flaky, told.append, patience=30)
    assert tracker.sync(SweepView("alpha", [minimum()])) == "memory:alpha"
    assert told == ["nobody there; waiting for it, up to 30 s more", "MLflow answers again, after 0 s"]
    flaky.away = 10**6
    slow = BackgroundTracker(flaky, told.append, patience=0.2)
    begin = time.monotonic()
    with pytest.raises(Away, match=r"nobody there, for 0\.2 s now"):
        slow.sync(SweepView("alpha", [minimum()]))
    assert 0.2 <= time.monotonic() - begin < 2
    slow.close()
    flaky.away = 0
    tracker.close()


def test_a_time_away_during_the_sweep_counts(told, at_once):
    flaky = Flaky()
    flaky.away = 10**6
    tracker = BackgroundTracker(flaky, told.append, patience=0.3)
    tracker.minimum("alpha", minimum())
    time.sleep(0.4)
    begin = time.monotonic()
    with pytest.raises(Away):
        tracker.sync(SweepView("alpha", [minimum()]))
    assert time.monotonic() - begin < 0.2
    tracker.close()


def test_samples_that_waited_while_it_was_away_are_not_lost(told, at_once):
    flaky = Flaky()
    flaky.away = 10**6
    tracker = BackgroundTracker(flaky, told.append, patience=30)
    for step in range(4):
        tracker.system("alpha", SystemSample({"x": 1.0}, 1000 * step, step))
        tracker.minimum("alpha", minimum())
    wait_until(lambda: bool(told))
    threading.Timer(0.2, lambda: setattr(flaky, "away", 2)).start()
    tracker.sync(SweepView("alpha", [minimum()]))
    tracker.close()
    assert [sample.step for sample in flaky.samples] == [0, 1, 2, 3]


def test_the_machine_is_sampled_by_mlflows_names():
    found: list[SystemSample] = []
    watch = SystemWatch(found.append, first=0.0, every=0.05)
    wait_until(lambda: len(found) > 1)
    watch.stop()
    assert [sample.step for sample in found[:2]] == [0, 1]
    assert {"cpu_utilization_percentage", "system_memory_usage_megabytes"} <= set(found[0].values)
    assert 0 < found[0].values["system_memory_usage_percentage"] <= 100


def test_a_long_sync_that_makes_headway_is_waited_for(told):
    class Long(MemoryTracker):
        def sync(self, view):
            for _ in range(8):
                time.sleep(0.1)
                self.beats += 1
            return super().sync(view)

    tracker = BackgroundTracker(Long(), told.append, sync_limit=0.3)
    assert tracker.sync(SweepView("alpha", [])) == "memory:alpha"
    tracker.close()


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
    assert told == []  # that it is stuck was raised already
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
    assert told in ([f"'x'; {KEPT}"], [])  # dropped, where the sync came first


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
