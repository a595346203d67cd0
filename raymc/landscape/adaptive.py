"""Profiles from few points: where to evaluate next, what lies between, and how far that may be off.

What is interpolated is each row's margin, the log-odds m of the loss it has, m = log p - log(1 - p) with
p = exp(-loss): along a path margins bend gently where the mean of the losses has a hump or a plateau. The margins are
kriged in t (Gaussian process with a squared-exponential kernel, tied to the chord between the ends; its length scale is
the one whose misses are least), and the mean loss follows from them. The error is estimated by leaving out one point at
a time: the misses, in units of the deviation that a rougher process (Matern 5/2) would have there, give that process
its scale (Rasmussen and Williams 2006, sections 2.2 and 5.4.2). A profile is settled once its deviation between the
points, times a safety factor, is within the tolerance, and the latest point lay where it was expected. A few rows are
then looked at everywhere, so that a narrow peak between the points isn't missed.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable, Sequence

import numpy as np

FIRST = (0.16, 0.5, 0.84)
MOST = 12  # interior evaluations; a profile that hasn't settled by then is taken whole
_SMOOTH = (0.35, 0.5, 0.8, 1.2)  # length scales of margins; each path has the one that misses least
_ROUGH = 0.3  # of errors
_SAFETY = 2.0  # chosen with the scales on 80 profiles of BERT-like models, smooth and sharp, against exhaustive ones
_JITTER = 1e-8
_LEAST_LOSS = 1e-10  # nats: below it a row is certain, and its margin says nothing
_ALARM = 6.0  # standard errors of a typical point
_SHARE, _FEWEST = 32, 8
_DOUBTED = 4  # points evaluated at once where rows don't lie as interpolated


Kernel = Callable[[np.ndarray, float], np.ndarray]


def margins(losses: np.ndarray) -> np.ndarray:
    """The log-odds of exp(-loss), for losses in nats of 0 or more; any shape."""
    held = np.maximum(losses, _LEAST_LOSS)
    return -held - np.log(-np.expm1(-held))


def losses_of(found: np.ndarray) -> np.ndarray:
    """The losses in nats that have these margins."""
    return np.logaddexp(0.0, -found)


def weights(known: Sequence[float], at: Sequence[float], scale: float) -> np.ndarray:
    """What each value at `known` (rising, 0 first and 1 last) weighs in the one at each of `at`: (at, known).

    `scale`: the length in t over which margins are alike.
    """
    x, t = np.asarray(known, dtype=np.float64), np.asarray(at, dtype=np.float64)
    inner = x[1:-1]
    found = np.zeros((len(t), len(x)))
    found[:, 0], found[:, -1] = 1.0 - t, t
    if len(inner):
        gram = _bridge(_squared, scale, inner, inner) + _JITTER * np.eye(len(inner))
        pull = np.linalg.solve(gram, _bridge(_squared, scale, inner, t)).T
        found[:, 1:-1] = pull
        found[:, 0] -= pull @ (1.0 - inner)
        found[:, -1] -= pull @ inner
    return found


class Settling:
    """One profile on its way: the points that are evaluated, and whether they are enough.

    `t`: the points of the profile, rising from 0 to 1. `terms`: of each row's loss; the mean loss is
    sum(losses) / sum(terms). `tolerance`: nats.
    """

    def __init__(self, t: Sequence[float], terms: np.ndarray, tolerance: float):
        self.t, self.tolerance = [float(one) for one in t], tolerance
        self.known: list[float] = []  # rising
        self._terms = float(np.sum(terms))
        self._losses: dict[float, np.ndarray] = {}
        self._margins: dict[float, np.ndarray] = {}
        self._doubted: list[float] = []
        self._smooth = _SMOOTH[0]
        self._surprise = float("inf")  # nats: by how much the latest point missed what was interpolated there

    @property
    def bound(self) -> float:
        """Nats: how far the mean loss may be off at any of `t`; 0 where all are evaluated."""
        return self.tolerance if self.missing() else 0.0

    def add(self, t: float, losses: np.ndarray) -> None:
        """A point that was evaluated: (rows,), each row's loss summed over its terms, in nats."""
        if len(self.known) - 2 >= len(FIRST):
            self._surprise = abs(float((self._guess([*self.known], t, self._smooth) - losses).sum()) / self._terms)
        self._losses[t], self._margins[t] = losses, margins(losses)
        insort(self.known, t)

    def next(self) -> float | None:
        """Where to evaluate next; None where the profile is settled or whole. The ends come first."""
        for t in (0.0, 1.0, *self._first()):
            if t not in self._losses:
                return t
        rest = self.missing()
        if not rest:
            return None
        while self._doubted:
            if (doubted := self._doubted.pop(0)) not in self._losses:
                return doubted
        if len(self.known) - 2 >= MOST:
            return rest[0]  # and so on, to the last
        shape = _deviations(self.known, rest)
        scales = {smooth: self._scale(smooth) for smooth in _SMOOTH}
        self._smooth = min(scales, key=lambda smooth: scales[smooth])
        settled = max(self._surprise, scales[self._smooth] * shape.max()) <= self.tolerance
        return None if settled else rest[int(shape.argmax())]

    def _first(self) -> list[float]:
        """The profile's own points that lie nearest to FIRST."""
        inner = self.t[1:-1]
        return list(dict.fromkeys(min(inner, key=lambda t: abs(t - wanted)) for wanted in FIRST))

    def _scale(self, smooth: float) -> float:
        """Of the error's process, with a safety factor: the root mean square of what is missed if a point is left out.

        Rows' misses cancel in their mean, by luck at times: each miss counts with its standard error over the rows.
        """
        total = 0.0
        for left in self.known[1:-1]:
            others = [t for t in self.known if t != left]
            off = (self._guess(others, left, smooth) - self._losses[left]) / self._terms
            square = off.sum() ** 2 + off.var() * len(off)
            total += square / _deviations(others, [left])[0] ** 2
        return _SAFETY * float(np.sqrt(total / (len(self.known) - 2)))

    def _guess(self, known: list[float], t: float, smooth: float) -> np.ndarray:
        """Each row's loss at t from those at `known`."""
        stacked = np.stack([self._margins[one] for one in known])
        return losses_of(weights(known, [t], smooth)[0] @ stacked)

    def weights(self) -> np.ndarray:
        """What each evaluated point weighs in each of `t`, (len(t), evaluated); a single 1 where it was evaluated."""
        found = weights(self.known, self.t, self._smooth)
        for i, t in enumerate(self.t):
            if t in self._losses:
                found[i] = 0.0
                found[i, self.known.index(t)] = 1.0
        return found

    def losses(self) -> np.ndarray:
        """Each row's loss at each of `t`, (len(t), rows): evaluated, or interpolated by its margin."""
        found = losses_of(self.weights() @ np.stack([self._margins[t] for t in self.known]))
        for i, t in enumerate(self.t):
            if t in self._losses:
                found[i] = self._losses[t]
        return found

    def missing(self) -> list[float]:
        """The points of the profile that aren't evaluated."""
        return [t for t in self.t if t not in self._losses]

    def check(self, rows: np.ndarray, seen: np.ndarray) -> bool:
        """Whether some rows, (missing, rows) losses at every missing point, lie where they are interpolated.

        Where their mean doesn't, those points are evaluated next. What counts as off is told by how much rows are off
        at a typical point: a peak that only few rows have widens the spread at its own.
        """
        place = [i for i, t in enumerate(self.t) if t not in self._losses]
        share = self._terms / len(self._losses[0.0])  # terms a row
        off = (seen - self.losses()[place][:, rows]) / share
        mean, spread = np.abs(off.mean(axis=1)), float(np.median(off.std(axis=1, ddof=1)))
        alarm = mean > max(self.tolerance, _ALARM * spread / np.sqrt(len(rows)))
        worst = [i for i in np.argsort(-mean) if alarm[i]]
        self._doubted = [self.t[place[i]] for i in worst[:_DOUBTED]]
        return not worst


def _deviations(known: Sequence[float], at: Sequence[float]) -> np.ndarray:
    """The standard deviation of a rough process of scale 1 at each of `at`, given its values at `known`."""
    inner, t = np.asarray(known[1:-1], dtype=np.float64), np.asarray(at, dtype=np.float64)
    prior = np.array([_bridge(_matern, _ROUGH, one, one)[0, 0] for one in t[:, None]])
    if len(inner):
        cross = _bridge(_matern, _ROUGH, inner, t)
        gram = _bridge(_matern, _ROUGH, inner, inner) + _JITTER * np.eye(len(inner))
        prior = prior - (cross * np.linalg.solve(gram, cross)).sum(axis=0)
    return np.sqrt(np.maximum(prior, _JITTER))


def some_rows(count: int) -> np.ndarray:
    """The rows of a set of `count` that are looked at everywhere: 1 in 32, 8 at least, the same for every path."""
    some = min(count, max(_FEWEST, count // _SHARE))
    return np.sort(np.random.default_rng([0, count]).choice(count, some, replace=False))


def _squared(distance: np.ndarray, scale: float) -> np.ndarray:
    return np.exp(-((distance / scale) ** 2) / 2)


def _matern(distance: np.ndarray, scale: float) -> np.ndarray:
    reach = np.sqrt(5.0) * distance / scale
    return (1.0 + reach + reach**2 / 3) * np.exp(-reach)


def _bridge(kernel: Kernel, scale: float, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The covariance of a process that is known at 0 and 1, (x, y)."""

    def covariance(one: np.ndarray, other: np.ndarray) -> np.ndarray:
        return kernel(np.abs(one[:, None] - other[None, :]), scale)

    ends = np.array([0.0, 1.0])
    return covariance(x, y) - covariance(x, ends) @ np.linalg.solve(covariance(ends, ends), covariance(ends, y))
