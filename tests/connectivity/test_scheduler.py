"""The scheduler against workers of all kinds: every pair once, nobody idle for long, nothing lost with a worker."""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import pytest

from raymc.connectivity.costs import Costs
from raymc.connectivity.missing import AllPairs, SomePairs
from raymc.connectivity.scheduler import Batch, Scheduler
from raymc.connectivity.tiles import Tiled, arrange


def ends(batch: Batch) -> list[tuple[int, int]]:
    return [(i, j) for i, j in batch.pairs.tolist()]


def drain(scheduler: Scheduler, workers: list[str], seconds: float = 1.0) -> Counter[tuple[int, int]]:
    """Workers in turn, each pair taking so long, until nothing is left."""
    found: Counter[tuple[int, int]] = Counter()
    now, flying = 0.0, {}
    while scheduler.left:
        for worker in workers:
            if worker not in flying and (batch := scheduler.next(worker, now)) is not None:
                flying[worker] = (batch, now + seconds * len(batch))
        worker = min(flying, key=lambda one: flying[one][1])
        batch, now = flying.pop(worker)
        if scheduler.done(worker, now) is not None:
            found.update(ends(batch))
    assert all(scheduler.next(worker, now) is None for worker in workers)
    return found


@pytest.mark.parametrize("seconds", [0.001, 0.4, 60.0])
@pytest.mark.parametrize("count", [1, 3, 40])
def test_each_pair_is_given_out_once(seconds: float, count: int):
    scheduler = Scheduler(arrange(AllPairs(25), 6, count), count)
    found = drain(scheduler, [f"w{k}" for k in range(count)], seconds)
    assert len(found) == 300
    assert set(found.values()) == {1}


def test_batches_take_about_the_time_aimed_at():
    scheduler, sizes, now = Scheduler(Tiled(AllPairs(300), 9), 1, target=5.0), [], 0.0
    for _ in range(30):
        batch = scheduler.next("w", now)
        assert batch is not None
        sizes.append(len(batch))
        now += 0.1 * len(batch)
        scheduler.done("w", now)
    assert sizes[0] == 1
    assert all(later <= 4 * earlier + 1 for earlier, later in itertools.pairwise(sizes))
    assert all(45 <= size <= 50 for size in sizes[-10:])


def test_what_comes_next_goes_along():
    """Every endpoint of the pairs that follow is in it, in the order of use, each brought by one pair."""
    order = Tiled(AllPairs(50), 5)
    batch = Scheduler(order, 1).next("w", 0.0)
    assert batch is not None
    coming = [end for pair in batch.coming for end in pair]
    follows = list(dict.fromkeys(order.pairs(batch.stop, batch.stop + 12).ravel().tolist()))
    assert list(dict.fromkeys(coming)) == follows


def test_who_runs_out_takes_the_later_half_of_the_longest():
    scheduler = Scheduler(Tiled(AllPairs(100), 9), 2)
    slow = scheduler.next("slow", 0.0)
    assert slow is not None
    scheduler.done("slow", 4.0)  # a pair takes it four times as long
    stuck = scheduler.next("slow", 4.0)
    assert stuck is not None
    now, given = 0.0, 0
    while not scheduler.stolen:
        batch = scheduler.next("fast", now)
        assert batch is not None
        given, now = given + len(batch), now + len(batch)
        scheduler.done("fast", now)
    assert 2300 < given < 2700  # its own half
    taken = 4950 - given - len(slow) - len(stuck)
    left = scheduler.next("fast", now)
    assert left is not None
    ahead = left.start - stuck.stop
    assert ahead / taken == pytest.approx(0.2, abs=0.05)  # both end at about the same time


def test_a_lost_batch_is_tried_again_pair_by_pair_and_only_the_culprit_is_given_up():
    bad, count = (3, 7), 3
    scheduler = Scheduler(arrange(AllPairs(12), 5, count), count, retries=2)
    workers, now, born = [f"w{k}" for k in range(count)], 0.0, count
    found: Counter[tuple[int, int]] = Counter()
    lost, given_up = 0, []
    while scheduler.left:
        for place, worker in enumerate(workers):
            batch = scheduler.next(worker, now)
            if batch is None:
                continue
            now += 0.01
            if bad in ends(batch):
                again, gone = scheduler.lost(worker, now)
                assert (again is None) != (gone is None)
                lost += 1
                given_up += ends(gone) if gone is not None else []
                workers[place], born = f"w{born}", born + 1
            elif scheduler.done(worker, now) is not None:
                found.update(ends(batch))
    assert given_up == [bad]
    assert lost == 3
    assert len(found) == 65
    assert set(found.values()) == {1}


@pytest.mark.parametrize("retries", [0, 1])
def test_retries_are_of_each_pair_by_itself(retries: int):
    scheduler = Scheduler(arrange(SomePairs(4, np.array([[0, 1]])), 4), 1, retries=retries)
    for tries in range(retries + 1):
        assert scheduler.next(tries, 0.0) is not None
        again, gone = scheduler.lost(tries, 1.0)
        assert (again is None, gone is None) == ((True, False) if tries == retries else (False, True))
    assert scheduler.left == 0


def test_what_a_dead_worker_had_before_it_goes_to_others():
    scheduler = Scheduler(arrange(AllPairs(20), 5, 2), 2)
    assert scheduler.next("a", 0.0) is not None
    scheduler.lost("a", 1.0)
    assert scheduler.lost("never seen", 1.0) == (None, None)
    assert sum(drain(scheduler, ["b"]).values()) == 190


def test_an_overdue_batch_is_repeated_and_the_first_to_finish_counts():
    scheduler = Scheduler(arrange(AllPairs(6), 6), 2)
    stuck = scheduler.next("slow", 0.0)
    assert stuck is not None
    now = 0.0
    while (batch := scheduler.next("fast", now)) is not None:
        now += 1.0 * len(batch)
        assert scheduler.done("fast", now) is batch
    assert scheduler.left == len(stuck)
    assert scheduler.next("fast", now + 1) is None  # it isn't far over what is expected
    again = scheduler.next("fast", now + 100)
    assert again is stuck
    assert scheduler.done("fast", now + 101) is stuck
    assert scheduler.left == 0
    assert scheduler.done("slow", now + 102) is None


def test_of_two_copies_one_may_die():
    scheduler = Scheduler(arrange(SomePairs(4, np.array([[0, 1], [2, 3]])), 4), 1)
    first = scheduler.next("a", 0.0)
    assert first is not None
    scheduler.done("a", 1.0)
    stuck = scheduler.next("a", 1.0)
    assert scheduler.next("b", 1000.0) is stuck
    assert scheduler.lost("a", 1001.0) == (None, None)
    assert scheduler.done("b", 1002.0) is stuck
    assert scheduler.left == 0


def test_a_worker_has_one_batch_at_a_time():
    scheduler = Scheduler(arrange(AllPairs(9), 3), 1)
    scheduler.next("w", 0.0)
    with pytest.raises(ValueError, match="has a batch"):
        scheduler.next("w", 1.0)


def test_seconds_of_a_load_are_told_apart_from_those_of_pairs():
    costs, random = Costs(), np.random.default_rng(0)
    for _ in range(200):
        pairs, loads = int(random.integers(1, 50)), int(random.integers(0, 6))
        costs.add(pairs, loads, 0.2 * pairs + 1.5 * loads)
    assert costs.load_seconds == pytest.approx(1.5, rel=1e-6)
    alike = Costs()
    for _ in range(50):
        alike.add(10, 2, 5.0)
    assert alike.load_seconds == 0.0


def test_machines_that_are_lost_dont_count_as_tries_until_there_were_too_many():
    """A single pair: five machines are lost under it, then two tries end their workers, and it is given up."""
    scheduler = Scheduler(arrange(AllPairs(2), 6, 1), 1, retries=1, losses=5)
    for number in range(5):
        assert scheduler.next(f"w{number}", 0.0) is not None
        again, given_up = scheduler.lost(f"w{number}", 0.0, blame=False)
        assert again is not None
        assert given_up is None
    for number, last in ((5, False), (6, True)):
        assert scheduler.next(f"w{number}", 0.0) is not None
        again, given_up = scheduler.lost(f"w{number}", 0.0, blame=False)
        assert (again is None, given_up is not None) == (last, last)
    assert scheduler.left == 0


def test_a_batch_that_a_machine_takes_along_loses_no_pair():
    scheduler, now = Scheduler(Tiled(AllPairs(30), 9), 2, retries=0, losses=5), 0.0
    for _ in range(4):  # batches grow
        batch = scheduler.next("w", now)
        assert batch is not None
        now += 0.01 * len(batch)
        scheduler.done("w", now)
    batch = scheduler.next("w", now)
    assert batch is not None
    assert len(batch) > 1
    again, given_up = scheduler.lost("w", now, blame=False)
    assert given_up is None
    assert again is batch
    left = scheduler.left
    assert len(drain(scheduler, ["v"])) == left
