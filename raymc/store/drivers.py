"""Which runs are at work on a storage: each shows a heartbeat, by which the others tell that it lives.

    claims/drivers/ID.json   who it is, its lease, and a counter that it raises every third of that while it has a claim
    claims/drivers/ID.dead   it was taken for dead; never undone: a run that finds this goes on under another ID

A run is dead when it ran on this very machine and its process is gone: at once. Of a run elsewhere nothing but its
counter is known: it is dead when that hasn't changed for a lease, its own or the observer's, whichever is longer,
measured by the observer's own clock from its own looks. Clocks of two machines are never compared. A gap
between looks counts for a quarter of a lease at most, so that an observer that was asleep, or cut off from the storage
together with the run, doesn't take its own absence for the other's death.
"""

from __future__ import annotations

import json
import math
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path

from raymc.specs.errors import RaymcError, StorageFault
from raymc.store.objects import Entry, Objects

FOLDER = "claims/drivers"
LEASE_SECONDS = 60.0  # after which a run elsewhere that shows no sign of life is taken for dead; RAYMC_LEASE sets it
_AGAIN = 2.0  # seconds after which a heartbeat that couldn't be written is tried again
_FORGOTTEN = timedelta(days=7)  # of a heartbeat without claims, by the storage's clock


def lease_seconds() -> float:
    """The lease. Raises StorageFault for a setting that isn't a number above 0."""
    text = os.environ.get("RAYMC_LEASE", "")
    try:
        found = float(text) if text else LEASE_SECONDS
    except ValueError:
        found = 0.0
    if not 0 < found < float("inf"):
        raise StorageFault(f"RAYMC_LEASE is {text!r}, not a number of seconds above 0")
    return found


@dataclass(frozen=True)
class Process:
    """A process by all that tells it from another. `machine`: one boot and one space of process numbers."""

    host: str
    machine: str
    pid: int
    started: str

    def __str__(self) -> str:
        return f"{self.host}, process {self.pid}"

    @property
    def gone(self) -> bool:
        """Whether it surely is no more; False of one elsewhere."""
        if self.machine != _machine():
            return False
        state, started = _stat(self.pid)
        return state in ("", "Z", "X") or (bool(self.started and started) and self.started != started)


def this_process() -> Process:
    return Process(socket.gethostname(), _machine(), os.getpid(), _stat(os.getpid())[1])


def _machine() -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:  # not Linux: its network address; a reused process number is then left to the counter
        return f"{uuid.getnode():012x}"


def _stat(pid: int) -> tuple[str, str]:
    """(state, start time since boot) of a process here: "" where there is none; the time "" where it isn't told."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return fields[0], fields[19]
    except (OSError, IndexError):
        pass
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return "", ""
    except PermissionError:  # another user's
        pass
    return "R", ""


class Heart:
    """This run's own heartbeat: it beats in a thread for as long as it is entered."""

    def __init__(self, objects: Objects, lease: float, say: Callable[[str], None], process: Process):
        self._objects, self._lease, self._say, self._process = objects, lease, say, process
        self._every = lease / 3
        self.id = uuid.uuid4().hex
        self._counter = 0
        self._said = False
        self._rest = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Heart:
        self.beat()
        self._rest = threading.Event()
        self._thread = threading.Thread(target=self._go_on, args=(self._rest,), name="raymc-heart", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._rest.set()  # not waited for: it may be waiting for a storage that is away

    def beat(self) -> None:
        """Raise the counter; under another ID where this one was taken for dead. Raises StorageFault."""
        if self._counter and self._objects.has(f"{FOLDER}/{self.id}.dead"):
            self.id = uuid.uuid4().hex
            if not self._said:
                self._said = True
                self._say(
                    "this run was taken for dead, as it couldn't be heard of for a while: it goes on; some of its "
                    "work may be done twice, with the same results"
                )
        self._counter += 1
        body = {"process": asdict(self._process), "counter": self._counter, "lease": self._lease}
        self._objects.put(f"{FOLDER}/{self.id}.json", json.dumps(body).encode())

    def stop(self) -> None:
        """Take the heartbeat away. Raises StorageFault."""
        if self._counter:
            self._objects.delete(f"{FOLDER}/{self.id}.json")

    def _go_on(self, rest: threading.Event) -> None:
        pause = self._every
        while not rest.wait(pause):
            try:
                self.beat()
                pause = self._every
            except RaymcError:  # the storage is away; the run's own work says so where it matters
                pause = min(_AGAIN, self._every)


class Others:
    """What this run has seen of others' heartbeats."""

    def __init__(self, objects: Objects, lease: float, clock: Callable[[], float] = time.monotonic):
        self._objects, self._lease, self._clock = objects, lease, clock
        self._seen: dict[str, tuple[int, float, float]] = {}  # counter, seconds of silence, when it was looked at

    def living(self, ids: Iterable[str]) -> dict[str, Process]:
        """Who of these runs lives. One that doesn't is marked as dead. Raises StorageFault."""
        ids = list(ids)
        there = set(self._objects.list(FOLDER)) if ids else set()
        found = {}
        for one in ids:
            if f"{FOLDER}/{one}.json" not in there or f"{FOLDER}/{one}.dead" in there:
                continue
            process, counter, lease = self._read(one)
            if process is None:
                continue
            if process.gone or self._silent(one, counter, max(lease, self._lease)):
                self._objects.put(f"{FOLDER}/{one}.dead", b"{}")
            else:
                found[one] = process
        return found

    def forget(self) -> None:
        """Take away the heartbeats of runs that are dead, or a week old; none of them has a claim. Raises StorageFault.

        A run that beats again after that has lost nothing.
        """
        by_id: dict[str, list[Entry]] = {}
        for entry in self._objects.entries(FOLDER):
            by_id.setdefault(Path(entry.name).stem, []).append(entry)
        latest = max((entry.changed for some in by_id.values() for entry in some), default=None)
        for one, some in by_id.items():
            dead = any(entry.name.endswith(".dead") for entry in some)
            old = latest is not None and all(latest - entry.changed > _FORGOTTEN for entry in some)
            process = None if dead or old else self._read(one)[0]
            if process is None or process.gone:
                for name in sorted((entry.name for entry in some), reverse=True):  # .json before .dead
                    self._objects.delete(name)

    def _read(self, one: str) -> tuple[Process | None, int, float]:
        """(process, counter, lease), the lease 0 of an early version. (None, 0, 0): it is gone, or can't be read."""
        content = self._objects.get(f"{FOLDER}/{one}.json")
        with suppress(ValueError, KeyError, TypeError):
            body = json.loads(content or b"")
            lease = float(body.get("lease", 0))
            return Process(**body["process"]), int(body["counter"]), lease if math.isfinite(lease) else 0.0
        return None, 0, 0.0

    def _silent(self, one: str, counter: int, lease: float) -> bool:
        now = self._clock()
        known, silence, looked = self._seen.get(one, (-1, 0.0, now))
        silence = 0.0 if counter != known else silence + min(now - looked, lease / 4)
        self._seen[one] = counter, silence, now
        return silence > lease
