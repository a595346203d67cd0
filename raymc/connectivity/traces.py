"""What is seen along a path on one row set: row by row at every point, and what follows from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from raymc.landscape.bootstrap import Uncertainty, uncertainty
from raymc.landscape.calibration import agreement, jensen_shannon
from raymc.specs.errors import RaymcError
from raymc.store.rows import RowTable
from raymc.tasks.scoring import RowScores, Score


@dataclass(frozen=True)
class Seen:
    """One point: its score, and its rows in the order of the split."""

    score: Score
    row: np.ndarray
    gold: np.ndarray
    terms: np.ndarray
    loss: np.ndarray
    predicted: np.ndarray
    probabilities: np.ndarray


def seen(found: RowScores) -> Seen:
    """A pass's result in the order of the split. Raises RaymcError where the loss isn't finite."""
    score, order = found.total(), np.argsort(found.order, kind="stable")
    first = next(iter(found.predicted.values()))  # by which the first metric goes
    columns = (found.order, found.gold, found.terms, found.loss, first, found.probabilities)
    return Seen(score, *(column[order] for column in columns))


def seen_before(score: Score, rows: RowTable) -> Seen:
    """A stored evaluation as a point of a path. Raises RaymcError where its file has no probabilities."""
    if rows.probabilities is None:
        raise RaymcError("an evaluation's file of rows has no probabilities")
    return Seen(score, rows.row, rows.gold, rows.terms, rows.loss[0], rows.predicted[0], rows.probabilities)


def table_of(points: Sequence[Seen], t: Sequence[float], labels: tuple[str, ...], probabilities: bool) -> RowTable:
    """The points of a path as columns; `probabilities`: those of the one point, too."""
    first = points[0]
    return RowTable(
        t=tuple(t),
        row=first.row.astype(np.int32),
        gold=first.gold.astype(np.int16),
        terms=first.terms.astype(np.int32),
        loss=np.stack([point.loss for point in points]).astype(np.float32),
        predicted=np.stack([point.predicted for point in points]).astype(np.int16),
        probabilities=first.probabilities.astype(np.float32) if probabilities else None,
        labels=labels,
    )


class Trace:
    """A path on one row set: what is seen at each t. Raises RaymcError where the rows aren't the same at all points."""

    def __init__(self, t: Sequence[float], labels: tuple[str, ...], points: Sequence[Seen]):
        if not all(np.array_equal(points[0].row, point.row) for point in points):
            raise RaymcError("an end was scored on other rows")
        self.t, self._labels, self.points = list(t), labels, list(points)

    def _shared(self, point: Seen) -> dict[str, float]:
        """What a point's predictions share with those of the ends."""
        found = {}
        for name, end in (("a", self.points[0]), ("b", self.points[-1])):
            found[f"agreement_{name}"] = agreement(point.probabilities, end.probabilities)
            found[f"jensen_shannon_{name}"] = jensen_shannon(point.probabilities, end.probabilities)
        return found

    def loss(self) -> tuple[float, ...]:
        return tuple(point.score.loss for point in self.points)

    def metrics(self) -> dict[str, tuple[float, ...]]:
        """Metrics and diagnostics by name, at every point."""
        each = [{**point.score.metrics, **self._shared(point)} for point in self.points]
        return {name: tuple(one[name] for one in each) for name in each[0]}

    def uncertainty(self, within: float = 0.0) -> Uncertainty:
        """Intervals of the barriers over the evaluation rows; `within`: nats that the losses may be off (adaptive)."""
        points = self.points
        losses = np.stack([point.loss for point in points])
        errors = np.stack([point.predicted != point.gold for point in points])
        return uncertainty(self.t, losses, points[0].terms, errors, within=within)

    def table(self) -> RowTable:
        return table_of(self.points, self.t, self._labels, probabilities=False)
