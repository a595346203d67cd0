"""Progress of a run for people: live bars on a terminal, plain lines elsewhere. Writes to stderr only."""

from __future__ import annotations

import sys
import threading
import time
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn


class TerminalProgress:
    """Live bars: things finished, rate, time left, and the trials under way."""

    def __init__(self) -> None:
        self._console = Console(stderr=True)
        self._bars = Progress(
            TextColumn("{task.description:<22}"),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[note]}"),
            console=self._console,
        )
        self._state = _Stage("", 0, 0)
        self._stage: Any = None
        self._trials: dict[str, Any] = {}
        self._lock = threading.Lock()

    def __enter__(self) -> TerminalProgress:
        self._bars.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._clear()
        self._bars.stop()

    def stage(self, name: str, total: int, done: int = 0) -> None:
        with self._lock:
            self._clear()
            self._state = _Stage(name, total, done)
            note = "" if done < total else "all in the store"
            self._stage = self._bars.add_task(name, total=total, completed=done, note=note)

    def advance(self, ok: bool = True) -> None:
        with self._lock:
            self._state.advance(ok)
            self._bars.update(self._stage, completed=self._state.done + self._state.failed, note=self._state.note())

    def step(self, name: str, step: int, steps: int, loss: float) -> None:
        with self._lock:
            if name not in self._trials:
                self._trials[name] = self._bars.add_task(f"  {name}"[:40], total=steps, note="")
            self._bars.update(self._trials[name], completed=step, note=f"loss {loss:.4f}")
            if step >= steps:
                self._bars.remove_task(self._trials.pop(name))

    def say(self, message: str) -> None:
        self._console.print(message, markup=False, highlight=False, soft_wrap=True)

    def _clear(self) -> None:
        for task in self._trials.values():
            self._bars.remove_task(task)
        self._trials.clear()


class LineProgress:
    """One line when a stage begins or ends, and at most one every few seconds between."""

    def __init__(self, every: float = 10.0) -> None:
        self._every, self._state, self._last = every, _Stage("", 0, 0), 0.0
        self._lock = threading.Lock()

    def __enter__(self) -> LineProgress:
        return self

    def __exit__(self, *exc: object) -> None: ...

    def stage(self, name: str, total: int, done: int = 0) -> None:
        with self._lock:
            self._state, self._last = _Stage(name, total, done), time.monotonic()
            self._print(f"{name}: {done} of {total} in the store")

    def advance(self, ok: bool = True) -> None:
        with self._lock:
            state = self._state
            state.advance(ok)
            if time.monotonic() - self._last >= self._every or state.done + state.failed == state.total:
                self._last = time.monotonic()
                self._print(f"{state.name}: {state.done} of {state.total}{state.note(', ')}")

    def step(self, name: str, step: int, steps: int, loss: float) -> None:
        with self._lock:
            if time.monotonic() - self._last >= self._every:
                self._last = time.monotonic()
                self._print(f"{self._state.name}: {name}: step {step} of {steps}, loss {loss:.4f}")

    def say(self, message: str) -> None:
        with self._lock:
            self._print(message)

    @staticmethod
    def _print(message: str) -> None:
        sys.stderr.write(message + "\n")
        sys.stderr.flush()


class _Stage:
    """Counts of one stage, and its rate over the time since it began."""

    def __init__(self, name: str, total: int, done: int):
        self.name, self.total, self.done, self.failed = name, total, done, 0
        self._began, self._fresh = time.monotonic(), 0

    def advance(self, ok: bool) -> None:
        self.done += ok
        self.failed += not ok
        self._fresh += 1

    def note(self, lead: str = "") -> str:
        seconds = time.monotonic() - self._began
        parts = []
        if self._fresh and seconds > 0:
            rate = self._fresh / seconds
            left = (self.total - self.done - self.failed) / rate
            parts.append(f"{rate:.2f}/s" if rate >= 0.1 else f"{rate * 60:.2f}/min")
            if left:
                parts.append(f"{int(left // 60)}:{int(left % 60):02d} left")
        if self.failed:
            parts.append(f"{self.failed} failed")
        return lead + ", ".join(parts) if parts else ""


def progress_for_stderr() -> TerminalProgress | LineProgress:
    return TerminalProgress() if sys.stderr.isatty() else LineProgress()
