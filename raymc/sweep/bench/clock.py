"""Seconds of work on a device, by the wall and by the processor."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import median
from typing import TypeVar

import torch

T = TypeVar("T")


@dataclass(frozen=True)
class Seconds:
    """`cpu`: of this process, all its threads; others' load on the machine says less in it than in `wall`."""

    wall: float
    cpu: float

    def __add__(self, other: Seconds) -> Seconds:
        return Seconds(self.wall + other.wall, self.cpu + other.cpu)

    def __sub__(self, other: Seconds) -> Seconds:
        return self + other * -1.0

    def __mul__(self, times: float) -> Seconds:
        return Seconds(self.wall * times, self.cpu * times)


class Clock:
    """Of one device: on a GPU what was begun there is waited for, before and after."""

    def __init__(self, device: str):
        self._gpu = torch.device(device).type == "cuda"

    def now(self) -> Seconds:
        if self._gpu:
            torch.cuda.synchronize()
        return Seconds(time.perf_counter(), time.process_time())

    def of(self, call: Callable[[], T]) -> tuple[Seconds, T]:
        began = self.now()
        found = call()
        return self.now() - began, found


class Stages:
    """Seconds by stage; 0 where there was none of a name."""

    def __init__(self, clock: Clock):
        self._clock = clock
        self._seconds: dict[str, Seconds] = {}

    def __getitem__(self, name: str) -> Seconds:
        return self._seconds.get(name, Seconds(0.0, 0.0))

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        began = self.begin()
        yield
        self.end(name, began)

    def begin(self) -> Seconds:
        return self._clock.now()

    def end(self, name: str, began: Seconds) -> None:
        self._seconds[name] = self[name] + (self._clock.now() - began)


def ratio(over: list[Seconds], under: list[Seconds], by: str = "wall") -> float:
    """The median over the rounds of `over` / `under`, each round's own."""
    return median(getattr(o, by) / max(getattr(u, by), 1e-9) for o, u in zip(over, under, strict=True))
