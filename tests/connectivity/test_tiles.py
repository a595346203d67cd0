"""Orders of pairs: complete, and within a fifth of the fewest loads that any order can have."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest

from raymc.connectivity.missing import AllPairs, Bits, SomePairs, by_likeness, symmetric
from raymc.connectivity.pairset import PairSet
from raymc.connectivity.tiles import Cache, Listed, Order, Tiled, arrange, fewest_loads, to_evict


def listed(order: Order) -> list[tuple[int, int]]:
    return [(i, j) for i, j in order.pairs(0, order.total).tolist()]


# The bound -----------------------------------------------------------------------------------------------------------


def fewest_by_search(n: int, room: int) -> int:
    """The loads that all pairs of n endpoints take at least: every cache and set of pairs done, breadth first."""
    pairs = list(itertools.combinations(range(n), 2))
    everything = frozenset(pairs)
    seen = {(frozenset(), frozenset())}
    front, loads = list(seen), 0
    while True:
        after = []
        for kept, done in front:
            for new in set(range(n)) - kept:
                stay = [kept] if len(kept) < room else [kept - {one} for one in kept]
                for base in stay:
                    state = (base | {new}, done | {(min(new, o), max(new, o)) for o in base})
                    if state not in seen:
                        seen.add(state)
                        after.append(state)
        front, loads = after, loads + 1
        if any(done == everything for _, done in front):
            return loads


@pytest.mark.parametrize(("n", "room"), [(3, 2), (4, 2), (4, 3), (5, 3), (5, 4), (4, 6)])
def test_no_order_takes_fewer_loads_than_the_bound(n: int, room: int):
    exact = fewest_by_search(n, room)
    order = arrange(AllPairs(n), room)
    assert fewest_loads(n * (n - 1) // 2, n, room) <= exact <= Cache(room).loads(order.pairs(0, order.total))


def test_the_bound_by_hand():
    assert fewest_loads(190, 20, 20) == fewest_loads(190, 20, 40) == 20
    assert fewest_loads(190, 20, 2) == 191  # one load a pair, and the first
    assert fewest_loads(190, 20, 5) == 4 + 46  # 4 loads make 6 pairs, each later one 4
    assert fewest_loads(0, 0, 5) == 0
    assert fewest_loads(190, 20, 20, workers=190) == 2 * 190
    assert fewest_loads(20, 10, 10, workers=2) == 5 + 5
    assert fewest_loads(3, 6, 4) == 6  # three pairs that share nothing
    with pytest.raises(ValueError, match="room for 2"):
        fewest_loads(1, 2, 1)


# Orders --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("room", range(2, 24))
def test_all_pairs_of_20_minima_within_a_fifth_of_the_bound(room: int):
    order = arrange(AllPairs(20), room)
    assert sorted(listed(order)) == list(itertools.combinations(range(20), 2))
    assert Cache(room).loads(order.pairs(0, order.total)) <= 1.2 * fewest_loads(190, 20, room)


@pytest.mark.parametrize(("n", "room"), [(1500, 24), (600, 4), (1500, 40)])
def test_many_minima_are_near_the_bound(n: int, room: int):
    order = arrange(AllPairs(n), room)
    assert isinstance(order, Tiled)
    assert order.total == n * (n - 1) // 2
    some = order.pairs(order.total // 3, order.total // 3 + 40_000)
    assert len({(i, j) for i, j in some.tolist()}) == len(some)
    assert Cache(room).loads(some) <= 1.12 * len(some) / (room - 1) + room


KINDS: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "within four groups": lambda i, j: i % 4 == j % 4,
    "across four groups": lambda i, j: i % 4 != j % 4,
    "with one of ten new minima": lambda i, j: (i % 6 == 0) | (j % 6 == 0),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("tiled", [True, False])
def test_some_pairs_alone(kind: str, tiled: bool):
    """What lacks the same pairs is put side by side, so that no load is for a corner of a block."""
    i, j = np.triu_indices(60, 1)
    chosen = KINDS[kind](i, j)
    missing, room = SomePairs(60, np.stack([i, j], axis=1)[chosen]), 6
    order = Tiled(missing, room - 1) if tiled else arrange(missing, room)
    assert order.total == chosen.sum()
    assert sorted(listed(order)) == list(zip(i[chosen].tolist(), j[chosen].tolist(), strict=True))
    parts = [order.pairs(at, min(order.total, at + 17)) for at in range(0, order.total, 17)]
    np.testing.assert_array_equal(np.concatenate(parts), order.pairs(0, order.total))
    assert Cache(room).loads(order.pairs(0, order.total)) <= 1.3 * fewest_loads(order.total, order.endpoints, room)


def test_no_pairs_and_one():
    empty = arrange(SomePairs(5, np.zeros((0, 2))), 4)
    assert (empty.total, empty.endpoints, listed(empty)) == (0, 0, [])
    assert listed(arrange(SomePairs(5, np.array([[1, 3]])), 4)) == [(1, 3)]
    assert listed(arrange(AllPairs(2), 2)) == [(0, 1)]
    assert arrange(AllPairs(1), 2).total == 0


@pytest.mark.parametrize("held", [1, 2, 5, 30])
def test_a_column_shares_its_streamed_endpoint(held: int):
    for order in (Tiled(AllPairs(23), held), Tiled(SomePairs(23, np.argwhere(np.triu(np.ones((23, 23)), 1))), held)):
        for position in range(order.total):
            first = order.column(position)
            assert 0 <= first <= position
            assert order.column(first) == first
            column = order.pairs(first, position + 1)
            assert any((column == end).any(axis=1).all() for end in column[0])


def test_a_listed_column():
    order = Listed(np.array([[0, 9], [1, 9], [2, 9], [3, 8], [2, 8]]), 3)
    assert [order.column(position) for position in range(5)] == [0, 0, 0, 3, 3]


# The cache, and bits -------------------------------------------------------------------------------------------------


def test_what_is_used_last_goes():
    assert to_evict(["a", "b", "c"], ["c", "a", "b"]) == "b"
    assert to_evict(["a", "b", "c"], ["c"]) == "a"  # longest unused of those that don't come
    assert to_evict(["a", "b", "c"], ["b", "a", "c", "a"], start=1) == "b"


def test_a_batch_loads_what_it_would_as_a_part():
    """With what comes next told, batches of any size take the loads of the whole."""
    order = arrange(AllPairs(30), 7)
    whole = Cache(7).loads(order.pairs(0, order.total))
    for size in (1, 4, 50):
        cache, loads = Cache(7), 0
        for at in range(0, order.total, size):
            stop = min(order.total, at + size)
            loads += cache.loads(order.pairs(at, stop), order.pairs(stop, stop + 14).tolist())
        assert loads == whole


def test_bits_are_symmetric():
    random = np.random.default_rng(0)
    upper = np.triu(random.random((37, 37)) < 0.3, 1)
    bits = SomePairs(37, np.argwhere(upper))
    np.testing.assert_array_equal(bits.block(np.arange(37)), upper)
    both = np.unpackbits(symmetric(bits), axis=1, count=37).astype(bool)
    np.testing.assert_array_equal(both, upper | upper.T)
    rows, ordered = by_likeness(symmetric(bits))
    there = np.unpackbits(ordered, axis=1, count=len(rows)).astype(bool)
    np.testing.assert_array_equal(there, (upper | upper.T)[np.ix_(rows, rows)])
    assert bits.has(*np.argwhere(upper)[0].tolist())
    assert not Bits(4).has(0, 1)


def test_a_selection_of_a_sweep_is_what_may_be_missing():
    chosen = PairSet(9, alike=(np.arange(9) % 3,))
    assert sorted(listed(arrange(chosen, 3))) == sorted(chosen)
