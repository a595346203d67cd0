"""Forward passes over row sets at points of one path."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from raymc.connectivity.traces import Seen, seen
from raymc.landscape.curves import Curve
from raymc.specs.errors import RaymcError
from raymc.tasks.points import PointModel
from raymc.tasks.scoring import Scorer, TextScorer

RowScorer = Scorer | TextScorer


class Passes:
    """Scores row sets at any t of one path, through a model whose weights are written for it.

    `scorers`: by row set (whole ones, or some of their rows). `seconds` and `count`: of the passes made so far, by row
    set; what writes the point is not among the seconds.
    """

    def __init__(self, model: PointModel, curve: Curve, scorers: Mapping[str, RowScorer]):
        self.model, self.curve, self.scorers = model, curve, dict(scorers)
        self.seconds, self.count = dict.fromkeys(scorers, 0.0), dict.fromkeys(scorers, 0)
        self._at: float | None = None  # the t that the model's weights are of, as far as this object wrote them

    def at(self, t: float, splits: Sequence[str] | None = None) -> dict[str, Seen]:
        """What is seen at t on row sets (None: on all), their rows in the order of the split.

        The point is written once for all of them, and not again while the same t is asked for. Nothing else may write
        to the model between calls. Raises RaymcError where a loss isn't finite.
        """
        if t != self._at:
            self.curve.point(t, self.model.flat)
            self.model.refresh()
            self._at = t
        found = {}
        for split in self.scorers if splits is None else splits:
            started = time.perf_counter()
            try:
                found[split] = seen(self.scorers[split].by_row(self.model.model))
            except RaymcError as error:
                raise RaymcError(f"split {split}, t = {t:g}: {error}") from error
            self.seconds[split] += time.perf_counter() - started
            self.count[split] += 1
        return found
