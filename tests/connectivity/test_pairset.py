"""Sets of pairs against every pair looked at one by one."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raymc.connectivity import pairset
from raymc.connectivity.pairset import AnyOf, Differ, PairSet, numbered

N = 9
numbers = st.lists(st.integers(0, 2), min_size=N, max_size=N).map(np.array)
several = st.lists(numbers, max_size=2).map(tuple)
tables = st.lists(
    st.tuples(numbers, st.lists(st.booleans(), min_size=9, max_size=9).map(lambda b: np.array(b).reshape(3, 3))),
    max_size=2,
).map(tuple)
codes = st.sets(st.tuples(st.integers(0, N - 1), st.integers(0, N - 1)).filter(lambda pair: pair[0] < pair[1]))


@st.composite
def differs(draw) -> Differ:
    without, fields, kinds = draw(numbers), np.stack([draw(numbers), draw(numbers)], axis=1), draw(numbers)
    odd = draw(st.integers(0, 3))  # which differing fields are covered, where the kinds don't tell

    def covers(i: int, j: int) -> bool:
        return (int((fields[i] != fields[j]).sum()) + int(kinds[i]) * int(kinds[j])) % 4 != odd

    whole = numbered([without, *fields.T])[0]
    plain = draw(st.booleans())
    return Differ(without, whole, kinds, plain, fields, covers)


def differs_in(one: Differ | AnyOf, i: int, j: int) -> bool:
    if isinstance(one, AnyOf):
        return bool(one.of[i] or one.of[j])
    if one.without[i] != one.without[j] or (one.fields[i] == one.fields[j]).all():
        return False
    return bool((one.plain and one.kinds[i] == one.kinds[j]) or one.covers(i, j))


@st.composite
def pair_sets(draw) -> PairSet:
    listed = draw(st.none() | codes)
    either = st.one_of(differs(), numbers.map(lambda of: AnyOf(of == 0)))
    return PairSet(
        N,
        None if listed is None else np.array(sorted(i * N + j for i, j in listed), dtype=np.int64),
        tuple(draw(st.lists(either, max_size=2))),
        draw(several),
        draw(several),
        draw(tables),
    )


def expected(some: PairSet) -> list[tuple[int, int]]:
    return [
        (i, j)
        for i, j in itertools.combinations(range(N), 2)
        if (some.listed is None or i * N + j in some.listed.tolist())
        and (not some.differ or any(differs_in(one, i, j) for one in some.differ))
        and all(column[i] == column[j] for column in some.alike)
        and all(column[i] != column[j] for column in some.unlike)
        and all(table[classes[i], classes[j]] for classes, table in some.tables)
    ]


@pytest.fixture(autouse=True, scope="module")
def small_blocks():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pairset, "_CELLS", 4096)  # the first block is of one row
        yield


@settings(max_examples=100)
@given(pair_sets(), numbers, st.lists(st.integers(0, N - 1), max_size=N), numbers)
def test_pairs_are_those_that_hold(some: PairSet, classes: np.ndarray, rows: list[int], members: np.ndarray):
    pairs = expected(some)
    assert list(some) == pairs
    assert some.count() == len(pairs)
    block = some.block(np.array(rows, dtype=np.int64))
    assert block.shape == (len(rows), N)
    assert [(rows[r], j) for r, j in np.argwhere(block)] == [pair for row in rows for pair in pairs if pair[0] == row]
    counts = np.zeros((int(classes.max()) + 1,) * 2, dtype=int)
    firsts: dict[tuple[int, int], tuple[int, int]] = {}
    for i, j in pairs:
        counts[classes[i], classes[j]] += 1
        firsts.setdefault((classes[i], classes[j]), (i, j))
    assert some.counts(classes).tolist() == counts.tolist()
    assert list(some.firsts(classes)) == list(firsts.values())
    of = members > 0
    assert list(some.among(of)) == [(i, j) for i, j in pairs if of[i] and of[j]]
    assert some.among(of).count() == sum(bool(of[i] and of[j]) for i, j in pairs)


def test_fifty_million_pairs_are_counted_by_groups():
    """100 x 100 minima, a run of two snapshots each: closed forms."""
    index = np.arange(10_000)
    head, run = index // 100, index // 2
    assert PairSet(10_000).count() == 49_995_000
    assert PairSet(10_000, unlike=(run,)).count() == 49_995_000 - 5_000
    assert PairSet(10_000, alike=(head,), unlike=(run,)).count() == 100 * 4_950 - 5_000
    fields = np.stack([index % 100], axis=1)
    kinds = np.zeros(10_000, dtype=np.int64)
    order = Differ(head, index, kinds, True, fields, lambda i, j: False)
    heads = Differ(index % 100, index, kinds, True, fields, lambda i, j: False)
    assert PairSet(10_000, differ=(order, heads)).count() == 2 * 100 * 4_950
    by_class = PairSet(10_000).counts((index >= 4_000).astype(np.int64))
    assert by_class.tolist() == [[4_000 * 3_999 // 2, 4_000 * 6_000], [0, 6_000 * 5_999 // 2]]
    assert next(iter(PairSet(10_000, unlike=(run,)))) == (0, 2)
