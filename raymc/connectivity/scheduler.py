"""Which worker scores which pairs when: spans of one order, taken in batches, split where a worker runs out.

Nothing here knows Ray or a clock: times are given, in seconds from anywhere.
"""

from __future__ import annotations

import itertools
import math
from collections import deque
from collections.abc import Hashable
from dataclasses import dataclass, field

import numpy as np

from raymc.connectivity.costs import Costs
from raymc.connectivity.tiles import Order

_MOST = 4096  # pairs in a batch
_GROWTH = 4  # times as many pairs as in the batch before, at most: first times mislead
_OVERDUE = (4.0, 30.0)  # a batch is repeated when it takes so many times what is expected, and so many seconds more


@dataclass(eq=False)
class Batch:
    """Pairs (m, 2) of minima i < j, by their numbers, at `start` ... `stop` - 1 of the order.

    `coming`: those of the worker's next pairs that have an endpoint which no earlier of them has, (k, 2): what it loads
    or keeps, in order. `finished`: some worker did it.
    """

    start: int
    stop: int
    pairs: np.ndarray
    coming: list[list[int]]
    expected: float | None = None  # seconds
    workers: dict[Hashable, float] = field(default_factory=dict)  # who has it in hand, since when
    finished: bool = False

    def __len__(self) -> int:
        return self.stop - self.start


@dataclass
class _Span:
    """Positions that one worker goes through; those before `careful` one by one, as some of them ended a worker."""

    start: int
    stop: int
    careful: int = 0


class Scheduler:
    """Gives out the pairs of an order, each until it is done or was lost with its worker more than `retries` times.

    `workers`: how many are expected; any may come and go. `losses`: how often a pair may go down with a worker that
    wasn't its fault. `target`: seconds a batch should take. `patience`: the share of the time so far that the end may
    wait for one span rather than split it (and load its endpoints once more).
    """

    def __init__(
        self,
        order: Order,
        workers: int,
        *,
        retries: int = 2,
        losses: int = 5,
        target: float = 5.0,
        patience: float = 0.01,
    ):
        self._order, self._retries, self._target, self._patience = order, retries, target, patience
        self._most_losses = losses
        self.left = order.total  # pairs that aren't finished, nor given up
        self.loads = self.batches = self.stolen = self.repeated = 0
        count = max(1, min(workers, order.total))
        cuts = [order.column(order.total * k // count) if k else 0 for k in range(count)] if order.total else [0]
        cuts = [*sorted(set(cuts)), order.total]
        self._loose = deque(_Span(a, b) for a, b in itertools.pairwise(cuts) if a < b)
        self._slots: dict[Hashable, int] = {}
        self._free: list[int] = []  # slots of workers that are gone
        self._spans: list[_Span] = []
        self._ahead = np.zeros(0)  # of each slot: pairs of its span that aren't given out
        self._costs: list[Costs] = []
        self._rates = np.zeros(0)  # of each slot: seconds a pair, as far as known
        self._all = Costs()
        self._flying: dict[Hashable, Batch] = {}
        self._tries: dict[int, int] = {}  # of positions that went down with a worker
        self._losses: dict[int, int] = {}  # of those that weren't to blame for it
        self._began: float | None = None
        self._none_before = -math.inf  # until when no batch is overdue

    # What a worker is given -------------------------------------------------------------------------------------------

    def next(self, worker: Hashable, now: float) -> Batch | None:
        """The next batch for an idle worker; None: there is nothing for it now, ask again later."""
        if worker in self._flying:
            raise ValueError(f"{worker} has a batch in hand")
        self._began = now if self._began is None else self._began
        slot = self._slot(worker)
        span = self._spans[slot]
        if span.start >= span.stop:
            found = self._loose.popleft() if self._loose else self._split(slot, now)
            if found is None:
                return self._repeat(worker, now)
            span = self._spans[slot] = found
        batch = self._cut(slot, span)
        self._ahead[slot] = span.stop - span.start
        self._fly(worker, batch, now)
        return batch

    def _cut(self, slot: int, span: _Span) -> Batch:
        """The first pairs of a span, as many as take the time aimed at; fewer near its end, for others to split."""
        rate, left = self._rate(slot), span.stop - span.start
        if span.start < span.careful or not rate:
            count = 1
        else:
            count = int(min(_MOST, self._target / rate, _GROWTH * self._costs[slot].last + 1))
            count = min(count, max(-(-left // 2), int(0.05 * self._target / rate)), left)
            count = max(1, count if span.careful <= span.start else min(count, span.careful - span.start))
        start, stop = span.start, span.start + count
        reach = min(span.stop, stop + self._order.held + min(self._order.held, 64) + 2)
        pairs = self._order.pairs(start, reach)
        coming = _first_uses(pairs[count:].tolist())
        span.start = stop
        return Batch(start, stop, pairs[:count], coming, count * rate if rate else None)

    def _split(self, slot: int, now: float) -> _Span | None:
        """The later part of the span with most work left, so that both workers end at about the same time.

        None where what is left is too little to be worth the loads.
        """
        if not len(self._ahead):
            return None
        rates = np.where(self._rates > 0, self._rates, self._all.rate or 1.0)
        work = self._ahead * rates
        victim = int(work.argmax())
        ahead = int(self._ahead[victim])
        elapsed = now - (self._began or 0.0)
        if not ahead or work[victim] <= self._patience * elapsed or work[victim] < 2 * self._starting():
            return None
        own = rates[slot]
        take = max(1, round(ahead * rates[victim] / (rates[victim] + own)))
        span = self._spans[victim]
        cut = span.stop - min(ahead, take)
        whole = self._order.column(cut)
        if whole > span.start and cut - whole <= take // 2:
            cut = whole
        found = _Span(cut, span.stop, span.careful)
        span.stop = cut
        self._ahead[victim] = span.stop - span.start
        self.stolen += 1
        return found

    def _starting(self) -> float:
        """Seconds that a worker's loads at the start of a span take."""
        return self._all.load_seconds * min(self._order.held, 64)

    def _repeat(self, worker: Hashable, now: float) -> Batch | None:
        """The batch that is most overdue, for a second worker."""
        if now < self._none_before:
            return None
        due, worst = math.inf, None
        for batch in self._flying.values():
            if len(batch.workers) != 1 or batch.finished:
                continue
            (since,) = batch.workers.values()
            expected = batch.expected or len(batch) * (self._all.rate or math.inf)
            if since + _OVERDUE[0] * expected + _OVERDUE[1] < due:
                due, worst = since + _OVERDUE[0] * expected + _OVERDUE[1], batch
        if worst is None or now <= due:
            self._none_before = min(due, now + _OVERDUE[1])  # batches given out later are due later than that
            return None
        self.repeated += 1
        self._fly(worker, worst, now)
        return worst

    def _fly(self, worker: Hashable, batch: Batch, now: float) -> None:
        self.batches += 1
        batch.workers[worker] = now
        self._flying[worker] = batch

    # What comes of it -------------------------------------------------------------------------------------------------

    def done(self, worker: Hashable, now: float, loads: int = 0, seconds: float | None = None) -> Batch | None:
        """A worker's batch is finished, its failed pairs too; None where another worker had finished it before.

        `loads`: endpoints it read. `seconds`: what the batch took, where that is known better than from the times.
        """
        batch = self._flying.pop(worker)
        since = batch.workers.pop(worker)
        slot = self._slots[worker]
        took = max(1e-9, now - since if seconds is None else seconds)
        for costs in (self._costs[slot], self._all):
            costs.add(len(batch), loads, took)
        self._rates[slot] = self._costs[slot].rate
        self.loads += loads
        if batch.finished:
            return None
        batch.finished = True
        self.left -= len(batch)
        for position in range(batch.start, batch.stop) if self._tries or self._losses else ():
            self._tries.pop(position, None)
            self._losses.pop(position, None)
        return batch

    def lost(self, worker: Hashable, now: float, blame: bool = True) -> tuple[Batch | None, Batch | None]:
        """A worker is gone. (the batch that is given again, the pair that is given up): one of them or none.

        The pairs of a batch are given again one by one, so that a pair that ends its workers takes no other with it.
        `blame`: whether the pairs may have been the cause; a machine that is lost counts once it was `losses` of them.
        """
        slot = self._slots.pop(worker, None)
        if slot is None:
            return None, None
        span, batch = self._spans[slot], self._flying.pop(worker, None)
        self._spans[slot], self._ahead[slot] = _Span(0, 0), 0.0
        self._costs[slot], self._rates[slot] = Costs(), 0.0
        self._free.append(slot)
        again = given_up = None
        if batch is not None:
            batch.workers.pop(worker)
            if not batch.finished and not batch.workers:
                again, given_up = self._tried(batch, blame)
        if again is not None and again.stop == span.start:
            span = _Span(again.start, span.stop, max(span.careful, again.stop))
        elif again is not None:
            self._loose.append(_Span(again.start, again.stop, again.stop))
        if span.start < span.stop:
            self._loose.append(span)
        return again, given_up

    def _tried(self, batch: Batch, blame: bool) -> tuple[Batch | None, Batch | None]:
        alone = len(batch) == 1
        if not blame:
            counts = [self._losses.get(position, 0) + 1 for position in range(batch.start, batch.stop)]
            self._losses.update(zip(range(batch.start, batch.stop), counts, strict=True))
            if not alone or counts[0] <= self._most_losses:
                return batch, None
        for position in range(batch.start, batch.stop):
            self._tries[position] = self._tries.get(position, 0) + 1
        if not alone and self._retries == 0:  # the batch's own try doesn't count: it says nothing of one pair
            for position in range(batch.start, batch.stop):
                self._tries[position] = 0
        if alone and self._tries[batch.start] > self._retries:
            del self._tries[batch.start]
            self._losses.pop(batch.start, None)
            batch.finished = True
            self.left -= 1
            return None, batch
        return batch, None

    @property
    def flying(self) -> int:
        """Workers with a batch in hand."""
        return len(self._flying)

    # Workers ----------------------------------------------------------------------------------------------------------

    def _slot(self, worker: Hashable) -> int:
        if worker not in self._slots:
            if not self._free:
                self._free.append(len(self._spans))
                self._spans.append(_Span(0, 0))
                self._costs.append(Costs())
                self._ahead, self._rates = (np.append(some, 0.0) for some in (self._ahead, self._rates))
            self._slots[worker] = self._free.pop()
        return self._slots[worker]

    def _rate(self, slot: int) -> float:
        """Seconds a pair of a worker, else of all; 0 where nothing is known."""
        return self._rates[slot] or self._all.rate


def _first_uses(pairs: list[list[int]]) -> list[list[int]]:
    seen: set[int] = set()
    found = []
    for pair in pairs:
        if not seen.issuperset(pair):
            found.append(pair)
            seen.update(pair)
    return found
