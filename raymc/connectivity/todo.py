"""The pairs of a sweep that the store has no whole profile of: bits by pair, made into tasks when they are sent."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import numpy as np

from raymc.connectivity.counts import Counts
from raymc.connectivity.heads import Choice
from raymc.connectivity.missing import Bits
from raymc.connectivity.work import PairTask
from raymc.specs.errors import CorruptArtefact
from raymc.store import layout

if TYPE_CHECKING:
    from raymc.connectivity.pairs import Connections

_ROWS = 256  # of a block that is listed at once


class MissingPairs:
    """Selected pairs among minima that are there, each until it has a whole profile by every curve on every row set.

    Minima go by their place in `connections.order`. Those with a record are read and checked; `corrupt` are those that
    were not what was written, set aside. Takes N^2 / 8 bytes a row set and curve with records. Raises CorruptArtefact
    where a minimum can't be read.
    """

    def __init__(self, connections: Connections, keys: set[str]):
        self._of, self.size = connections, len(connections.order)
        self._chosen = connections.selected.among(np.array([key in keys for key in connections.order], dtype=bool))
        self._place = {key: place for place, key in enumerate(connections.order)}
        self._gone = Bits(self.size)  # pairs with nothing left to do
        self._left: list[np.ndarray] = []  # bool (size,): minima whose pairs among each other are left out
        self._whole: dict[tuple[str, str], Bits] = {}  # by curve and row set
        self.corrupt: list[CorruptArtefact] = []
        self._look(keys)

    def block(self, rows: np.ndarray) -> np.ndarray:
        """(len(rows), size) bool; see raymc.connectivity.missing."""
        found = self._chosen.block(rows) & ~self._gone.block(rows)
        for among in self._left:
            found &= ~(among[rows][:, None] & among[None, :])
        return found

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """The pairs i < j, in order."""
        for first in range(0, self.size, _ROWS):
            rows, columns = self.block(np.arange(first, min(self.size, first + _ROWS))).nonzero()
            yield from zip((rows + first).tolist(), columns.tolist(), strict=True)

    def count(self) -> int:
        """How many pairs."""
        firsts = range(0, self.size, _ROWS)
        return sum(int(self.block(np.arange(f, min(self.size, f + _ROWS))).sum()) for f in firsts)

    def tasks(self, i: int, j: int) -> list[PairTask]:
        """What is missing of a pair: a task a curve."""
        connections = self._of
        a, b = connections.order[i], connections.order[j]
        all_heads, asked = connections.heads(a, b), set()  # two names may be of one curve
        found = []
        for how in connections.spec.connectivity.curves:
            heads: dict[str, Choice] = {}
            for split, head in all_heads.items():
                group = connections.profile_key(split, connections.space(a, b, curve=how.title), how.title, head)
                whole = self._whole.get((how.title, split))
                if group not in asked and not (whole is not None and whole.has(i, j)):
                    heads[split] = head
                    asked.add(group)
            if heads:
                found.append(connections.pair_task(a, b, how, heads))
        return found

    def drop(self, pairs: Iterable[tuple[int, int]]) -> None:
        """Take pairs out, as they can't be done."""
        places = np.array(list(pairs), np.int64).reshape(-1, 2)
        self._gone.set(places[:, 0], places[:, 1])

    def leave(self, keys: Iterable[str]) -> bool:
        """Take out the pairs among some minima, as another run is at them; whether there are any."""
        members = sorted(self._place[key] for key in keys if key in self._place)
        parts = (np.array(members[first : first + _ROWS]) for first in range(0, len(members), _ROWS))
        if not any(self.block(rows)[:, members].any() for rows in parts):
            return False
        among = np.zeros(self.size, dtype=bool)
        among[members] = True
        self._left.append(among)
        return True

    def without(self, keys: Iterable[str]) -> None:
        """Take out all pairs of some minima."""
        out = set(keys)
        self._chosen = self._chosen.among(np.array([key not in out for key in self._of.order], dtype=bool))

    def ends(self) -> set[str]:
        """The minima with a missing pair."""
        found = np.zeros(self.size, dtype=bool)
        for first in range(0, self.size, _ROWS):
            rows = np.arange(first, min(self.size, first + _ROWS))
            block = self.block(rows)
            found[rows] |= block.any(axis=1)
            found |= block.any(axis=0)
        return {self._of.order[place] for place in found.nonzero()[0].tolist()}

    def of_minima(self, keys: Iterable[str]) -> Iterator[tuple[int, int]]:
        """The missing pairs with one of some minima."""
        for place in sorted(self._place[key] for key in keys if key in self._place):
            before = np.arange(place)
            yield from ((i, place) for i in before[self.block(before)[:, place]].tolist())
            yield from ((place, j) for j in self.block(np.array([place]))[0].nonzero()[0].tolist())

    def _look(self, keys: set[str]) -> None:
        connections = self._of
        some: set[tuple[int, int]] = set()
        for curve in connections.spec.connectivity.curve_names:
            for split, _, i, j in Counts(connections).recorded(curve, keys):
                bits = self._whole.setdefault((curve, split), Bits(self.size))
                for pair in zip(i.tolist(), j.tolist(), strict=True):
                    a, b = (connections.order[place] for place in pair)
                    if connections.has_whole(self.corrupt, a, split, b, curve):
                        bits.set(*np.array(pair)[:, None])
                        some.add(pair)
        self.corrupt += connections.store.mend(layout.PROFILES)
        self.drop(pair for pair in some if not self.tasks(*pair))
