"""Profiles from few points: where to evaluate next, what lies between, and how far that may be off.

What is interpolated is each row's margin, the log-odds m of the loss it has, m = log p - log(1 - p) with
p = exp(-loss): along a path margins bend gently where the mean of the losses has a hump or a plateau. A few rows are
looked at everywhere first, and the margins of all are kriged in t with the covariance of theirs: along one path rows
bend alike, at the same places (Everson and Sirovich 1995 on gappy data). A smooth kernel is added to what so few rows
show, of the length scale whose misses are least; the process is tied to the chord between the ends.

The error is estimated by leaving out one point at a time: the misses, in units of the deviation that a rougher process
(Matern 5/2) would have there, give that process its scale (Rasmussen and Williams 2006, sections 2.2 and 5.4.2), near a
point mostly from the misses near it. A profile is settled once its deviation between the points, times a safety factor,
is within the tolerance, and the latest point lay where it was expected; and once the few rows lie where they are
interpolated, so that a narrow peak between the points isn't missed.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable, Sequence

import numpy as np

FIRST = (0.16, 0.5, 0.84)
MOST = 12  # interior evaluations; a profile that hasn't settled by then is taken whole
_SMOOTH = (0.35, 0.8)  # length scales of margins; each path has the one that misses least
_ADDED = 0.3  # of a smooth kernel's variance to that of the rows that were looked at
_ROUGH = 0.3  # length scale of errors
_NEAR, _FAR = 0.12, 0.1  # in t, and how much a miss far from there counts beside one that is near
_SAFETY = 2.2  # chosen with the above on 86 profiles of BERT-like models, smooth and sharp, against exhaustive ones
_JITTER = 1e-8
_LEAST_LOSS = 1e-10  # nats: below it a row is certain, and its margin says nothing
_ALARM = 6.0  # standard errors of a typical point
_SHARE, _FEWEST = 32, 16
_DOUBTED = 4  # points evaluated at once where rows don't lie as interpolated


Kernel = Callable[[np.ndarray, float], np.ndarray]


def margins(losses: np.ndarray) -> np.ndarray:
    """The log-odds of exp(-loss), for losses in nats of 0 or more; any shape."""
    held = np.maximum(losses, _LEAST_LOSS)
    return -held - np.log(-np.expm1(-held))


def losses_of(found: np.ndarray) -> np.ndarray:
    """The losses in nats that have these margins."""
    return np.logaddexp(0.0, -found)


def weights(t: np.ndarray, covariance: np.ndarray, known: Sequence[int], at: Sequence[int]) -> np.ndarray:
    """What each value at t[known] (rising, the first and last of t among them) weighs in the one at each of t[at].

    `covariance`: (len(t), len(t)), of what differs from the chord between the ends. Returns (at, known).
    """
    inner, found = list(known[1:-1]), np.zeros((len(at), len(known)))
    found[:, 0], found[:, -1] = 1.0 - t[at], t[at]
    if inner:
        some = covariance[np.ix_(inner, inner)]
        held = some + _JITTER * np.trace(covariance) / len(t) * np.eye(len(inner))
        pull = np.linalg.solve(held, covariance[np.ix_(inner, at)]).T
        found[:, 1:-1] = pull
        found[:, 0] -= pull @ (1.0 - t[inner])
        found[:, -1] -= pull @ t[inner]
    return found


def smooth_covariance(t: np.ndarray, scale: float) -> np.ndarray:
    """(len(t), len(t)), of a smooth process that is 0 at both ends. `scale`: the length in t over which it is alike."""
    return _bridge(_squared, scale, t, t)


class Settling:
    """One profile on its way: the points that are evaluated, and whether they are enough.

    `t`: the points of the profile, rising from 0 to 1. `terms`: of each row's loss; the mean loss is
    sum(losses) / sum(terms). `tolerance`: nats.
    """

    def __init__(self, t: Sequence[float], terms: np.ndarray, tolerance: float):
        self.t, self.tolerance = [float(one) for one in t], tolerance
        self.known: list[float] = []  # rising
        self._at, self._place = np.asarray(self.t), {at: i for i, at in enumerate(self.t)}
        self._terms = float(np.sum(terms))
        self._losses: dict[float, np.ndarray] = {}
        self._margins: dict[float, np.ndarray] = {}
        self._seen: tuple[np.ndarray, np.ndarray] | None = None
        self._doubted: list[float] = []
        self._covariances = [smooth_covariance(self._at, scale) for scale in _SMOOTH]
        self._covariance = self._covariances[0]
        self._surprise = float("inf")  # nats: by how much the latest point missed what was interpolated there

    def look(self, rows: np.ndarray, seen: np.ndarray) -> None:
        """Take in what some rows lose at every point: (len(t), rows), summed over their terms, in nats."""
        self._seen = rows, seen
        found, along = margins(seen), self._at[:, None]
        bent = found - (1.0 - along) * found[0] - along * found[-1]
        if np.any(bent):
            theirs = bent @ bent.T / len(rows)
            variance = np.trace(theirs)
            self._covariances = [theirs + _ADDED * variance / np.trace(smooth) * smooth for smooth in self._covariances]
            self._covariance = self._covariances[0]

    @property
    def bound(self) -> float:
        """Nats: how far the mean loss may be off at any of `t`; 0 where all are evaluated."""
        return self.tolerance if self.missing() else 0.0

    def add(self, t: float, losses: np.ndarray) -> None:
        """A point that was evaluated: (rows,), each row's loss summed over its terms, in nats."""
        if len(self.known) - 2 >= len(FIRST):
            guessed = self._guess(self.known, t, self._covariance)
            self._surprise = abs(float((guessed - losses).sum()) / self._terms)
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
        misses = [self._misses(covariance) for covariance in self._covariances]
        least = min(range(len(misses)), key=lambda i: misses[i].sum())
        self._covariance = self._covariances[least]
        off = np.subtract.outer(rest, self.known[1:-1])
        near = _FAR + np.exp(-((off / _NEAR) ** 2) / 2)
        scale = np.sqrt(near @ misses[least] / near.sum(axis=1))
        deviation = _SAFETY * scale * _deviations(self.known, rest)
        settled = max(self._surprise, deviation.max()) <= self.tolerance
        return None if settled else rest[int(deviation.argmax())]

    def _first(self) -> list[float]:
        """The profile's own points that lie nearest to FIRST."""
        inner = self.t[1:-1]
        return list(dict.fromkeys(min(inner, key=lambda t: abs(t - wanted)) for wanted in FIRST))

    def _misses(self, covariance: np.ndarray) -> np.ndarray:
        """By how much each point between the ends would be missed without it: squares, of the error's process's scale.

        Rows' misses cancel in their mean, by luck at times: each miss counts with its standard error over the rows.
        """
        found = []
        for left in self.known[1:-1]:
            others = [t for t in self.known if t != left]
            off = (self._guess(others, left, covariance) - self._losses[left]) / self._terms
            square = off.sum() ** 2 + off.var() * len(off)
            found.append(square / _deviations(others, [left])[0] ** 2)
        return np.array(found)

    def _guess(self, known: Sequence[float], t: float, covariance: np.ndarray) -> np.ndarray:
        """Each row's loss at t from those at `known`."""
        stacked = np.stack([self._margins[one] for one in known])
        places = [self._place[one] for one in known]
        return losses_of(weights(self._at, covariance, places, [self._place[t]])[0] @ stacked)

    def weights(self) -> np.ndarray:
        """What each evaluated point weighs in each of `t`, (len(t), evaluated); a single 1 where it was evaluated."""
        places = [self._place[one] for one in self.known]
        found = weights(self._at, self._covariance, places, list(range(len(self.t))))
        for number, place in enumerate(places):
            found[place] = 0.0
            found[place, number] = 1.0
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

    def check(self) -> bool:
        """Whether the rows that were looked at lie where they are interpolated.

        Where their mean doesn't, those points are evaluated next. What counts as off is told by how much rows are off
        at a typical point: a peak that only few rows have widens the spread at its own.
        """
        place = [i for i, t in enumerate(self.t) if t not in self._losses]
        if self._seen is None or not place:
            return True
        rows, seen = self._seen
        share = self._terms / len(self._losses[0.0])  # terms a row
        off = (seen[place] - self.losses()[place][:, rows]) / share
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
    """The rows of a set of `count` that are looked at everywhere: 1 in 32, 16 at least, the same for every path."""
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
