"""The selected pairs of a sweep as one object: counted by groups, looked up by blocks, never held all at once."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

Numbers = np.ndarray  # int64 (N,): one number a minimum, the same where two are alike in something
Covers = Callable[[int, int], bool]
Listed = np.ndarray  # int64 (P,), i * N + j of each pair i < j, ascending

_CELLS = 1 << 20  # of a block that is looked at at once; the first ones are smaller: often one pair is asked for
_TERMS = 8  # conditions that are counted by inclusion and exclusion; more of them are counted block by block
_LARGE = 1 << 60
_FEW = 64  # classes whose pairs are counted, to know when all have been seen


@dataclass(frozen=True, eq=False)
class Differ:
    """Pairs of minima that differ in a factor and in nothing else.

    `without`: all of a minimum but the factor, a number of its own where no other is to be joined to it; `whole`: all
    of it; `kinds`: its variants. Two of one kind that differ in nothing but the factor are such a pair if `plain`; else
    `covers(i, j)` tells, and depends only on their kinds and on which of `fields` (int64 (N, F)) differ.
    """

    without: Numbers
    whole: Numbers
    kinds: Numbers
    plain: bool
    fields: np.ndarray
    covers: Covers

    @property
    def countable(self) -> bool:
        """Whether no two of different kinds differ in nothing else."""
        both = np.unique(np.stack([self.without, self.kinds]), axis=1)
        return self.plain and bool(both.shape[1] == len(np.unique(self.without)))

    def holds(self, i: np.ndarray, j: np.ndarray) -> np.ndarray:
        """Of indices that broadcast."""
        found = (self.without[i] == self.without[j]) & (self.whole[i] != self.whole[j])
        doubtful = found & (self.kinds[i] != self.kinds[j]) if self.plain else found
        if doubtful.any():
            one, other = (np.broadcast_to(ends, found.shape)[doubtful] for ends in (i, j))
            found[doubtful] = self._covered(one, other)
        return found

    def _covered(self, i: np.ndarray, j: np.ndarray) -> np.ndarray:
        """Each combination of kinds and differing fields is asked for once."""
        signs = self.kinds[i] * (self.kinds.max() + 1) + self.kinds[j]
        for field in self.fields.T:
            if signs.max() > _LARGE:
                signs = numbered([signs])[0]
            signs = signs * 2 + (field[i] != field[j])
        which, first = numbered([signs])
        asked = [self.covers(int(i[one]), int(j[one])) for one in first]
        return np.array(asked, dtype=bool)[which]


@dataclass(frozen=True, eq=False)
class AnyOf:
    """Pairs with at least one of some minima. `of`: bool (N,)."""

    of: np.ndarray

    countable = False

    def holds(self, i: np.ndarray, j: np.ndarray) -> np.ndarray:
        return self.of[i] | self.of[j]


@dataclass(frozen=True, eq=False)
class PairSet:
    """Pairs i < j of N minima, by their index.

    All must hold: the pair is `listed` (None: all are), one of `differ` holds (none given: that doesn't matter), the
    ends have the same number in each of `alike` and another in each of `unlike`, and each of `tables` is true of
    their classes: (classes (N,), bool (K, K) by the class of i and that of j).
    """

    size: int
    listed: Listed | None = None
    differ: tuple[Differ | AnyOf, ...] = ()
    alike: tuple[Numbers, ...] = ()
    unlike: tuple[Numbers, ...] = ()
    tables: tuple[tuple[Numbers, np.ndarray], ...] = ()

    def where(self, classes: Numbers, table: np.ndarray) -> PairSet:
        """Those whose ends' classes a table (bool, by the class of i and that of j) is true of."""
        return self if table.all() else replace(self, tables=(*self.tables, (classes, table)))

    def among(self, members: np.ndarray) -> PairSet:
        """Those with both ends among some minima. `members`: bool (N,)."""
        both = np.array([[False, False], [False, True]])
        return self if members.all() else self.where(members.astype(np.int64), both)

    # Looked up ----------------------------------------------------------------------------------------------------

    def has(self, i: np.ndarray, j: np.ndarray) -> np.ndarray:
        """Whether pairs are among them: bool, of int arrays of indices that broadcast."""
        found = np.asarray(i < j)
        if self.listed is not None:
            codes = i * np.int64(self.size) + j
            place = np.searchsorted(self.listed, codes).clip(max=max(len(self.listed) - 1, 0))
            found &= self.listed[place] == codes if len(self.listed) else False
        for numbers in self.alike:
            found &= numbers[i] == numbers[j]
        for numbers in self.unlike:
            found &= numbers[i] != numbers[j]
        for classes, table in self.tables:
            found &= table[classes[i], classes[j]]
        if self.differ:
            found &= np.logical_or.reduce([one.holds(i, j) for one in self.differ])
        return found

    def block(self, rows: np.ndarray) -> np.ndarray:
        """bool (len(rows), N): true at [r, j] where rows[r] < j and that pair is among them."""
        return self.has(np.asarray(rows)[:, None], np.arange(self.size)[None, :])

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """In order of i, then j."""
        for i, j in self._found():
            yield from zip(i.tolist(), j.tolist(), strict=True)

    def _found(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """The ends of pairs, some thousand at a time, in order."""
        if self.listed is not None:
            i, j = np.divmod(self.listed, self.size)
            kept = self.has(i, j)
            yield i[kept], j[kept]
            return
        rows, columns = self._possible()
        start, cells = 0, _CELLS >> 8
        while start < len(rows):
            these = rows[start : start + max(1, cells // max(len(columns), 1))]
            start, cells = start + len(these), min(_CELLS, 4 * cells)
            those = columns[np.searchsorted(columns, these[0] + 1) :]
            first, second = np.nonzero(self.has(these[:, None], those[None, :]))
            yield these[first], those[second]

    def _possible(self) -> tuple[np.ndarray, np.ndarray]:
        """Minima that can be the first of a pair, and the second, by the tables alone."""
        rows, columns = np.ones(self.size, dtype=bool), np.ones(self.size, dtype=bool)
        for classes, table in self.tables:
            rows &= np.any(table, axis=1, keepdims=True)[classes, 0]
            columns &= np.any(table, axis=0, keepdims=True)[0, classes]
        return np.flatnonzero(rows), np.flatnonzero(columns)

    # Counted ------------------------------------------------------------------------------------------------------

    def count(self) -> int:
        """How many there are."""
        return int(self.counts(np.zeros(self.size, dtype=np.int64)).sum())

    def counts(self, classes: Numbers) -> np.ndarray:
        """int64 (K, K): how many there are by the class of i and that of j (0 to K - 1)."""
        kinds = int(classes.max(initial=-1)) + 1
        joint, first = numbered([classes, *(own for own, _ in self.tables)])  # tables are of few classes
        found = np.zeros((kinds, kinds), dtype=np.int64)
        by_joint = self._counts(joint, len(first))
        for own, table in self.tables:
            by_joint = by_joint * table[np.ix_(own[first], own[first])]
        np.add.at(found, np.ix_(classes[first], classes[first]), by_joint)
        return found

    def _counts(self, classes: Numbers, kinds: int) -> np.ndarray:
        """As `counts`, of a set without its tables."""
        differs = [one for one in self.differ if isinstance(one, Differ) and one.countable]
        unlike = [*self.unlike, *(one.whole for one in differs[:1])]
        if self.listed is None and len(differs) == len(self.differ) and len(differs) + len(unlike) <= _TERMS:
            return self._by_groups(classes, kinds, [one.without for one in differs], unlike)
        found = np.zeros(kinds * kinds, dtype=np.int64)
        for i, j in replace(self, tables=())._found():
            found += np.bincount(classes[i] * kinds + classes[j], minlength=kinds * kinds)
        return found.reshape(kinds, kinds)

    def _by_groups(
        self, classes: Numbers, kinds: int, withouts: Sequence[Numbers], unlike: Sequence[Numbers]
    ) -> np.ndarray:
        """Inclusion and exclusion over "the same in", whose pairs are counted group by group, O(N) each."""
        found = np.zeros((kinds, kinds), dtype=np.int64)
        some = [one for count in range(1, len(withouts) + 1) for one in itertools.combinations(withouts, count)]
        for chosen in some or [()]:
            for count in range(len(unlike) + 1):
                for excluded in itertools.combinations(unlike, count):
                    sign = (-1) ** (count + max(len(chosen) - 1, 0))
                    found += sign * _same(self.size, [*self.alike, *chosen, *excluded], classes, kinds)
        return found

    def firsts(self, classes: Numbers) -> Iterator[tuple[int, int]]:
        """Of each (class of i, class of j) the first pair, in order."""
        kinds = int(classes.max(initial=-1)) + 1
        left = np.count_nonzero(self.counts(classes)) if kinds <= _FEW else kinds * kinds
        seen = np.zeros(kinds * kinds, dtype=bool)
        for i, j in self._found():
            if not left:
                return
            codes = classes[i] * kinds + classes[j]
            fresh = np.flatnonzero(~seen[codes])
            _, first = np.unique(codes[fresh], return_index=True)
            for place in np.sort(fresh[first]):
                yield int(i[place]), int(j[place])
            seen[codes[fresh]] = True
            left -= len(first)


def numbered(columns: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """(number of each row of these columns, 0 to K - 1, equal for equal rows; the first row of each number)."""
    _, first, numbers = np.unique(columns[0], return_index=True, return_inverse=True)
    for column in columns[1:]:
        both = numbers * (int(column.max(initial=0)) + 1) + column
        _, first, numbers = np.unique(both, return_index=True, return_inverse=True)
    return numbers, first


def _same(size: int, columns: Sequence[Numbers], classes: Numbers, kinds: int) -> np.ndarray:
    """int64 (K, K): pairs i < j with the same number in every column, by the class of i and that of j."""
    groups = numbered(columns)[0] if columns else np.zeros(size, dtype=np.int64)
    order = np.argsort(groups, kind="stable")
    groups, ordered = groups[order], classes[order]
    if kinds == 1:
        members = np.unique(groups, return_counts=True)[1] if size else np.zeros(0, dtype=np.int64)
        return np.array([[int((members * (members - 1) // 2).sum())]], dtype=np.int64)
    starts = np.searchsorted(groups, groups)  # of each minimum's group
    found = np.zeros((kinds, kinds), dtype=np.int64)
    for kind in range(kinds):  # how many of that class stand before each minimum in its group
        before = np.concatenate([[0], np.cumsum(ordered == kind)])
        earlier = before[:-1] - before[starts]
        found[kind] = np.bincount(ordered, weights=earlier, minlength=kinds)
    return found
