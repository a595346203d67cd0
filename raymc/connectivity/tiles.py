"""In which order a worker scores pairs so that it loads few endpoints, and how few they can be.

A worker with room for c endpoints holds a block of c - 1 of them and streams the others past it, one by one: each load
makes c - 1 pairs possible, which is the most there is.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence
from typing import Protocol, TypeVar

import numpy as np

from raymc.connectivity.missing import AllPairs, Missing, by_likeness, symmetric

Name = TypeVar("Name")
_SPARE = 12  # room from which on one place is spared for an endpoint that is read ahead
_BLOCKS = 64 << 20  # bytes of blocks of a sparse matrix that are kept at once
_LISTED, _GREEDY = 20_000, 2_000  # pairs, and minima, up to which several orders are tried


def fewest_loads(pairs: int, endpoints: int, room: int, workers: int = 1) -> int:
    """A lower bound on the loads that `pairs` pairs among `endpoints` endpoints take, `room` (c) fitting a worker.

    A pair needs both ends in one cache. A load makes at most as many new pairs possible as there are others beside it:
    the k-th of a worker at most min(k - 1, c - 1). So k <= c loads give at most k (k - 1) / 2 pairs, and each later one
    c - 1 more; and each endpoint is loaded once at least. Several workers start with empty caches: each is taken to do
    an equal share of the pairs. Raises ValueError for a room below 2.
    """
    if room < 2:
        raise ValueError(f"a pair needs room for 2 endpoints, not {room}")
    if not pairs:
        return 0
    share, more = divmod(pairs, workers)
    return max(endpoints, more * _alone(share + 1, room) + (workers - more) * _alone(share, room))


def _alone(pairs: int, room: int) -> int:
    """Loads of one worker at least."""
    if not pairs:
        return 0
    full = room * (room - 1) // 2
    if pairs > full:
        return room + -(-(pairs - full) // (room - 1))
    loads = (1 + math.isqrt(8 * pairs + 1)) // 2
    return loads if loads * (loads - 1) // 2 >= pairs else loads + 1


class Order(Protocol):
    """All pairs that are missing, at positions 0 ... total - 1. A worker does a range of them."""

    total: int
    endpoints: int  # how many minima are in them
    held: int  # endpoints held while others are streamed past them: what a new range costs in loads

    def pairs(self, start: int, stop: int) -> np.ndarray:
        """(stop - start, 2) int64: the pairs i < j at these positions."""
        ...

    def column(self, position: int) -> int:
        """Where the column (pairs with one streamed endpoint) begins that a position is in: a good place to part."""
        ...


class Tiled:
    """Blocks of `held` endpoints. Of each its own pairs come first, then the others stream past, the next block last.

    Nothing is listed: a position is turned into a pair by counting.
    """

    def __init__(self, missing: Missing, held: int):
        self.held = max(1, held)
        self._rows, self._bits = by_likeness(symmetric(missing)) if not isinstance(missing, AllPairs) else (None, None)
        n = self.endpoints = missing.size if self._rows is None else len(self._rows)
        firsts = range(0, n, self.held)
        self._known: OrderedDict[int, tuple[np.ndarray, np.ndarray]] = OrderedDict()
        self._kept = max(4, _BLOCKS // (max(1, n) * (self.held + 8)))
        counts = [self._count(first) for first in firsts]
        self._starts = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)]).astype(np.int64)
        self.total = int(self._starts[-1])

    def pairs(self, start: int, stop: int) -> np.ndarray:
        parts = []
        while start < stop:
            block = int(np.searchsorted(self._starts, start, "right")) - 1
            base, end = int(self._starts[block]), min(stop, int(self._starts[block + 1]))
            first = block * self.held
            parts.append((self._all if self._bits is None else self._some)(first, start - base, end - base))
            start = end
        found = parts[0] if len(parts) == 1 else np.concatenate(parts) if parts else np.zeros((0, 2), np.int64)
        if self._rows is None:
            return found
        found = self._rows[found]
        found.sort(axis=1)
        return found

    def column(self, position: int) -> int:
        block = int(np.searchsorted(self._starts, position, "right")) - 1
        base = int(self._starts[block])
        inside, rows = position - base, self._height(block * self.held)
        if self._bits is not None:
            ends = self._block(block * self.held)[1]
            return base + int(ends[np.searchsorted(ends, inside, "right") - 1])
        own = rows * (rows - 1) // 2
        if inside >= own:
            return base + own + (inside - own) // rows * rows
        last = (1 + math.isqrt(8 * inside + 1)) // 2
        return base + last * (last - 1) // 2

    def _height(self, first: int) -> int:
        return min(self.held, self.endpoints - first)

    def _count(self, first: int) -> int:
        if self._bits is not None:
            return int(self._block(first)[1][-1])
        rows = self._height(first)
        return rows * (rows - 1) // 2 + rows * (self.endpoints - first - rows)

    def _all(self, first: int, start: int, stop: int) -> np.ndarray:
        """Pairs of a block at positions within it, none of them done yet."""
        rows = self._height(first)
        own = rows * (rows - 1) // 2
        place = np.arange(start, stop)
        found = np.empty((len(place), 2), np.int64)
        if start < own:
            inner = place[: own - start]
            last = ((1 + np.sqrt(8.0 * inner + 1)) / 2).astype(np.int64)  # exact: far below 2 ** 52
            found[: len(inner), 0] = first + inner - last * (last - 1) // 2
            found[: len(inner), 1] = first + last
            place = place[len(inner) :]
        if len(place):
            columns, row = np.divmod(place - own, rows)
            found[-len(place) :, 0] = first + row
            found[-len(place) :, 1] = self.endpoints - 1 - columns
        return found

    def _some(self, first: int, start: int, stop: int) -> np.ndarray:
        """As `_all`, of those that are missing."""
        mask, ends = self._block(first)
        low = int(np.searchsorted(ends, start, "right")) - 1
        high = int(np.searchsorted(ends, stop, "left"))
        column, row = mask[low:high].nonzero()
        column, row = (x[start - ends[low] : stop - ends[low]] + shift for x, shift in ((column, low), (row, first)))
        rows = self._height(first)
        streamed = np.where(column < rows - 1, first + 1 + column, self.endpoints - 1 - (column - (rows - 1)))
        return np.stack([row, streamed], axis=1)

    def _block(self, first: int) -> tuple[np.ndarray, np.ndarray]:
        """(columns, rows) bool: which pairs of a block are missing; (columns + 1,): how many before each column."""
        if first in self._known:
            self._known.move_to_end(first)
            return self._known[first]
        assert self._bits is not None
        n, rows = self.endpoints, self._height(first)
        there = np.unpackbits(self._bits[first : first + rows], axis=1, count=n).view(bool)
        own = np.triu(there[:, first : first + rows], 1)[:, 1:]
        mask = np.ascontiguousarray(np.concatenate([own, there[:, first + rows :][:, ::-1]], axis=1).T)
        ends = np.concatenate([[0], np.cumsum(mask.sum(axis=1))])
        while len(self._known) >= self._kept:
            self._known.popitem(last=False)
        self._known[first] = mask, ends
        return mask, ends


class Listed:
    """Pairs in a given order, (pairs, 2) int; of few minima, or of an order found by trying."""

    def __init__(self, pairs: np.ndarray, held: int):
        self._pairs, self.held = np.asarray(pairs, np.int64).reshape(-1, 2), held
        self.total, self.endpoints = len(self._pairs), len(np.unique(self._pairs))

    def pairs(self, start: int, stop: int) -> np.ndarray:
        return self._pairs[start:stop]

    def column(self, position: int) -> int:
        """The pairs before it that share one endpoint all with it are of its column."""
        shared = set(self._pairs[position].tolist())
        while position > 0 and len(both := shared & set(self._pairs[position - 1].tolist())) == 1:
            shared, position = both, position - 1
        return position


class Cache:
    """The endpoints that a worker keeps, counted alone: what an Evaluator does with the same hints."""

    def __init__(self, room: int):
        self._room = max(2, room)
        self._kept: OrderedDict[int, None] = OrderedDict()

    def loads(self, pairs: np.ndarray, coming: Sequence[Sequence[int]] = ()) -> int:
        """How many endpoints are read for these pairs, (pairs, 2), done in order; `coming`: pairs that follow."""
        used = pairs.ravel().tolist()
        kept, count = self._kept, 0
        ahead: list[int] = []
        for at, one in enumerate(used):
            if one in kept:
                kept.move_to_end(one)
                continue
            count += 1
            if len(kept) >= self._room:
                ahead = ahead or [*used, *(end for pair in coming for end in pair)]
                both = at - at % 2
                del kept[to_evict(list(kept), ahead, both)]
            kept[one] = None
        return count


def to_evict(kept: Sequence[Name], coming: Sequence[Name], start: int = 0) -> Name:
    """Which of some endpoints to drop (Belady 1966: the one that is used last from now on).

    `kept`: the one used longest ago first; it goes where several don't come. `coming`: endpoints in the order of use,
    from `start` on.
    """
    left = dict.fromkeys(kept)
    for place in range(start, min(len(coming), start + 8 * len(kept) + 8)):
        if coming[place] in left:
            if len(left) == 1:
                break
            del left[coming[place]]
    return next(iter(left))


def arrange(missing: Missing, room: int, workers: int = 1) -> Order:
    """A good order of what is missing for workers with room for so many endpoints each."""
    count = missing.size * (missing.size - 1) // 2 if isinstance(missing, AllPairs) else None
    held = max(1, room - 1)
    if count is None or count <= _LISTED:
        first = Tiled(missing, held)
        count = first.total
    share = max(1, round(math.sqrt(count / max(1, workers))))  # a block is loaded anew by each worker: it must pay
    held = min(held, share)
    tiled = Tiled(missing, min(held, room - 2) if room >= _SPARE else held)
    if not 0 < tiled.total <= _LISTED:
        return tiled
    room = max(2, room)
    whole = _pairs(Tiled(missing, held))
    found = [(whole, held)]
    if workers == 1:
        found += [(_pairs(Tiled(missing, h)), h) for h in sorted({held - 1, held - 2, held * 3 // 4}) if 0 < h < held]
    if tiled.endpoints <= _GREEDY and not isinstance(missing, AllPairs):
        found += [(greedy(whole, held + 1, finish), held) for finish in (True, False)]
    best = min(found, key=lambda one: Cache(room).loads(one[0]))
    return Listed(*best)


def _pairs(order: Order) -> np.ndarray:
    return order.pairs(0, order.total)


def greedy(pairs: np.ndarray, room: int, finish: bool) -> np.ndarray:
    """The same pairs, (pairs, 2), in an order made load by load: the endpoint that meets most of those in the cache.

    What has no pair left is dropped first; then the one with most left, or with `finish` the one with fewest.
    """
    names, index = np.unique(pairs, return_inverse=True)
    index = index.reshape(-1, 2)
    n = len(names)
    todo = np.zeros((n, n), bool)
    todo[index[:, 0], index[:, 1]] = todo[index[:, 1], index[:, 0]] = True
    left, gain = todo.sum(axis=1), np.zeros(n, np.int64)
    kept: list[int] = []
    found: list[np.ndarray] = []
    outside = np.ones(n, bool)
    while left.any():
        if len(kept) >= room:
            gone = min(kept, key=lambda one: left[one] if finish or not left[one] else n - left[one])
            kept.remove(gone)
            outside[gone] = True
            gain -= todo[gone]
        score = np.where(outside, gain * n + left, -1)
        one = int(score.argmax())
        met = [other for other in kept if todo[one, other]]
        for other in met:
            todo[one, other] = todo[other, one] = False
        left[met] -= 1
        left[one] -= len(met)
        gain[one] -= len(met)
        gain[met] = [int(todo[other, kept].sum()) for other in met]
        gain += todo[one]
        kept.append(one)
        outside[one] = False
        found += [np.sort(names[[other, one]]) for other in met]
    return np.array(found).reshape(-1, 2)
