"""A storage that is away: for how long it is waited for, and what is said meanwhile."""

from __future__ import annotations

import logging
import math
import os
import threading
import time

from raymc.specs.errors import StorageFault
from raymc.store.remote import in_a_line

WAIT_SECONDS = 300.0  # how long an outage may last; RAYMC_STORAGE_WAIT sets it
_SAID_FIRST, _SAID_EVERY = 3.0, 60.0  # seconds of an outage after which it is said, and said again
_ONE_OUTAGE = 120.0  # failures further apart, in seconds, are two outages; a silent server fails once a minute
_LOG = logging.getLogger("raymc.store")


class Outage:
    """One outage, shared by all threads: the limit counts from its first failure, or from a call's own."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._since = self._latest = 0.0
        self._said = -math.inf
        self._open = self._told = False

    @property
    def seconds(self) -> float:
        """How long it lasted up to the last failure."""
        return self._latest - self._since

    def wait(self, uri: str, pause: float, text: str, limit: float, first: float) -> bool:
        """Sleep before another try; False, at once, where the limit is used up.

        Times in seconds; `first`: when the call failed first. `text`: the error of its last try.
        """
        with self._lock:
            now = time.monotonic()
            if not self._open or now - self._latest > _ONE_OUTAGE:
                self._open, self._since = True, now
            self._latest = now
            gone = now - min(self._since, first)
            left = limit - gone
            if left > 0 and gone >= _SAID_FIRST and now - self._said >= _SAID_EVERY:
                self._said, self._told = now, True
                _LOG.warning("storage %s can't be reached (%s); tried for %.0f s more", uri, in_a_line(text, uri), left)
        if left <= 0:
            return False
        time.sleep(min(pause, left))
        return True

    def over(self, uri: str) -> None:
        """A call got through."""
        if self._open:
            with self._lock:
                if self._told:
                    _LOG.warning("storage %s is back after %.0f s", uri, time.monotonic() - self._since)
                self._open = self._told = False


def wait_seconds() -> float:
    """How long an outage may last. Raises StorageFault for a setting that isn't a number."""
    text = os.environ.get("RAYMC_STORAGE_WAIT", "")
    try:
        return float(text) if text else WAIT_SECONDS
    except ValueError:
        raise StorageFault(f"RAYMC_STORAGE_WAIT is {text!r}, not a number of seconds") from None
