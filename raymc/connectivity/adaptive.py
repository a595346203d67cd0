"""A profile from few passes: points are evaluated until the rest is known within a tolerance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from raymc.connectivity.passes import Passes
from raymc.connectivity.traces import Seen
from raymc.landscape.adaptive import Settling, some_rows
from raymc.landscape.calibration import calibration_error
from raymc.tasks.scoring import Score, classification_metrics

_LEAST = 1e-12  # probabilities below are taken as this


@dataclass(frozen=True)
class Filled:
    """One row set along a path. `points`: in the order of t. `evaluated`, `bound`, `passes`: as in results.Profile."""

    points: tuple[Seen, ...]
    evaluated: tuple[float, ...]
    bound: float
    passes: float


def some(split: str) -> str:
    """What the scorer of a few rows of a row set is called among those of `fill`."""
    return f"{split} (some rows)"


def fill(
    passes: Passes, ends: Mapping[str, tuple[Seen, Seen]], t: Sequence[float], tolerance: float
) -> dict[str, Filled]:
    """What is seen on each row set at each of `t`, given its two ends.

    `passes` has a scorer for each row set, and one of `landscape.adaptive.some_rows` of it under the name `some` gives.
    Raises RaymcError where a loss isn't finite.
    """
    going = {split: _Going(both, t, tolerance) for split, both in ends.items()}
    while wanted := {split: at for split, one in going.items() if (at := one.next(passes, split)) is not None}:
        for at in sorted(set(wanted.values())):  # a point is written once for all that want it
            splits = [split for split in wanted if wanted[split] == at]
            for split, found in passes.at(at, splits).items():
                going[split].add(at, found)
    return {split: one.filled(passes, split) for split, one in going.items()}


def every(passes: Passes, ends: Mapping[str, tuple[Seen, Seen]], t: Sequence[float]) -> dict[str, Filled]:
    """As `fill`, every point evaluated."""
    inner = [found for _, found in passes.each(t[1:-1], list(ends))]
    return {
        split: Filled((first, *(found[split] for found in inner), last), (), 0.0, passes.count[split])
        for split, (first, last) in ends.items()
    }


class _Going:
    """One row set on its way to a profile."""

    def __init__(self, ends: tuple[Seen, Seen], t: Sequence[float], tolerance: float):
        self._settling = Settling(t, ends[0].terms, tolerance)
        self._known: dict[float, Seen] = {}
        for at, end in zip((0.0, 1.0), ends, strict=True):
            self.add(at, end)
        self._rows = some_rows(len(ends[0].row))
        self._looked: tuple[float, ...] = ()  # at which t some rows were looked at

    def add(self, t: float, found: Seen) -> None:
        self._known[t] = found
        self._settling.add(t, found.loss)

    def next(self, passes: Passes, split: str) -> float | None:
        """Where to evaluate next, once some rows have been looked at everywhere; None: it is settled."""
        missing = self._settling.missing()
        if 2 * len(self._rows) > len(self._known[0.0].row):  # a look would be most of an evaluation
            return missing[0] if missing else None
        if not self._looked and missing:
            self._looked = tuple(missing)
            inner = [passes.at(t, (some(split),))[some(split)].loss for t in missing]
            ends = [self._known[t].loss[self._rows] for t in (0.0, 1.0)]
            self._settling.look(self._rows, np.stack([ends[0], *inner, ends[1]]))
        while (at := self._settling.next()) is None:
            if self._settling.check():
                return None
        return at

    def filled(self, passes: Passes, split: str) -> Filled:
        settling = self._settling
        losses, pulls = settling.losses(), settling.weights()
        logs = np.log(np.maximum(np.stack([self._known[t].probabilities for t in settling.known]), _LEAST))
        points = tuple(
            self._known[t] if t in self._known else self._between(t, losses[i], np.tensordot(pulls[i], logs, 1))
            for i, t in enumerate(settling.t)
        )
        whole = not settling.missing()
        share = len(self._rows) / len(self._known[0.0].row)
        return Filled(
            points,
            () if whole else tuple(settling.known),
            settling.bound,
            passes.count[split] + share * len(self._looked),
        )

    def _between(self, t: float, loss: np.ndarray, logs: np.ndarray) -> Seen:
        """A point that isn't evaluated. `loss`: (rows,) interpolated; `logs`: of labels' probabilities, likewise."""
        shares = np.exp(logs - logs.max(axis=1, keepdims=True))
        probabilities = (shares / shares.sum(axis=1, keepdims=True)).astype(np.float32)
        first = self._known[0.0]
        predicted = probabilities.argmax(axis=1)
        metrics = self._metrics_between(t)
        prefix = next(iter(metrics)).removesuffix("accuracy")
        found = classification_metrics(first.gold, predicted)
        metrics |= {prefix + name: value for name, value in found.items()}
        metrics["calibration_error"] = calibration_error(probabilities, first.gold)
        score = Score(float(loss.sum()) / int(first.terms.sum()), metrics)
        return Seen(score, first.row, first.gold, first.terms, loss, predicted, probabilities)

    def _metrics_between(self, t: float) -> dict[str, float]:
        """Straight between the neighbours: what stays of it are metrics of texts that are generated."""
        known = self._settling.known
        after = next(at for at in known if at > t)
        before = known[known.index(after) - 1]
        share = (t - before) / (after - before)
        low, high = self._known[before].score.metrics, self._known[after].score.metrics
        return {name: (1 - share) * low[name] + share * high[name] for name in low}
