"""Forward passes over row sets at points of one path."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeVar

from raymc.connectivity.traces import Seen, seen
from raymc.landscape.curves import Curve
from raymc.specs.errors import RaymcError
from raymc.tasks.points import PointModel
from raymc.tasks.running import AT_ONCE, RowScorer, Running
from raymc.tasks.scoring import Parts

Launched = tuple[float, dict[str, list[Parts]]]
_Found = TypeVar("_Found")


class Passes:
    """Scores row sets at any t of one path, through a model whose weights are written for it.

    `scorers`: by row set (whole ones, or some of their rows). `running`: how batches go through the model; left out: as
    it is. `seconds` and `count`: of the passes made so far, by row set; what writes a point is not among the seconds.
    """

    def __init__(
        self, model: PointModel, curve: Curve, scorers: Mapping[str, RowScorer], running: Running | None = None
    ):
        self.model, self.curve, self.scorers = model, curve, dict(scorers)
        self.seconds, self.count = dict.fromkeys(scorers, 0.0), dict.fromkeys(scorers, 0)
        self._running = running or Running(compile="off", stack="off")
        self._at: float | None = None  # the t that the model's weights are of, as far as this object wrote them

    def at(self, t: float, splits: Sequence[str] | None = None) -> dict[str, Seen]:
        """What is seen at t on row sets (None: on all), their rows in the order of the split.

        The point is written once for all of them, and not again while the same t is asked for. Nothing else may write
        to the model between calls. Raises RaymcError where a loss isn't finite.
        """
        return self._collect(self._launch(t, tuple(self.scorers if splits is None else splits)))

    def each(self, t: Sequence[float], splits: Sequence[str] | None = None) -> Iterator[tuple[float, dict[str, Seen]]]:
        """As `at` for all these t, in order, and faster where the next pass can run while one is made sense of."""
        names = tuple(self.scorers if splits is None else splits)
        waiting: list[Launched] = []
        for start in range(0, len(t), AT_ONCE):
            group = t[start : start + AT_ONCE]
            several = self._several(group, names)
            for number, one in enumerate(group):
                launched = several[number] if several else self._launch(one, names)
                if self._running.waits:
                    yield one, self._collect(launched)
                    continue
                if waiting:
                    yield waiting[0][0], self._collect(waiting.pop())
                waiting.append(launched)
        for launched in waiting:
            yield launched[0], self._collect(launched)

    def _launch(self, t: float, splits: tuple[str, ...]) -> Launched:
        if t != self._at:
            self._at = None
            self.curve.point(t, self.model.flat)
            self.model.refresh()
            self._at = t
        found = {}
        for split in splits:
            found[split] = self._clocked(split, lambda s=split: self._running.launch(self.model, self.scorers[s]))
            self.count[split] += 1
        return t, found

    def _several(self, t: Sequence[float], splits: tuple[str, ...]) -> list[Launched] | None:
        found: list[Launched] = [(one, {}) for one in t]
        for split in splits:
            passes = self._clocked(
                split, lambda s=split: self._running.several(self.model, self.scorers[s], self.curve.point, t)
            )
            self._at = None  # measuring may have written other points
            if passes is None:
                return None
            self.count[split] += len(t)
            for (_, of_split), steps in zip(found, passes, strict=True):
                of_split[split] = steps
        return found

    def _collect(self, launched: Launched) -> dict[str, Seen]:
        t, passes = launched
        found = {}
        for split, steps in passes.items():
            try:
                found[split] = self._clocked(split, lambda s=split, parts=steps: seen(self.scorers[s].collect(parts)))
            except RaymcError as error:
                raise RaymcError(f"split {split}, t = {t:g}: {error}") from error
        return found

    def _clocked(self, split: str, run: Callable[[], _Found]) -> _Found:
        started = time.perf_counter()
        found = run()
        self.seconds[split] += time.perf_counter() - started
        return found
