"""How much a sweep asks for and how much of it the store has: counted by kinds of pairs, never pair by pair."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import numpy as np

from raymc.connectivity.pairset import PairSet, numbered
from raymc.connectivity.records import Names
from raymc.connectivity.work import known_ends
from raymc.specs.errors import CorruptArtefact
from raymc.specs.spaces import SPACES
from raymc.store import layout

if TYPE_CHECKING:
    from raymc.connectivity.pairs import Connections

EXPECTED = 6.0  # interior points of an adaptive profile, where none of a sweep's own is finished
_LISTED = 100_000  # fits that are looked up one by one; of more, those that the store has are
_READ = 50  # finished profiles that are read for their mean


class Counts:
    """Counts of a sweep's connections. Minima go by their place in `connections.order`."""

    def __init__(self, connections: Connections):
        self._connections, self._store = connections, connections.store
        self._places = {key: place for place, key in enumerate(connections.order)}
        self._profiles = Names(self._store, layout.PROFILES)

    # Pairs ------------------------------------------------------------------------------------------------------

    def pairs(self) -> int:
        """All pairs, each counted once a curve."""
        return self._connections.selected.count() * len(self._curves)

    def done_pairs(self, keys: set[str]) -> int:
        """Pairs (of curves) among these minima that have a record on every row set; by a look at names alone."""
        return sum(len(self._done(curve, keys)) for curve in self._curves)

    def finished(self, keys: set[str]) -> int:
        """As `done_pairs`, pairs of minima that are done on every curve."""
        done = [self._done(curve, keys) for curve in self._curves]
        return len(functools.reduce(np.intersect1d, done))

    def _done(self, curve: str, keys: set[str]) -> np.ndarray:
        """i * N + j of each."""
        found = [i * len(self._places) + j for _, _, i, j in self.recorded(curve, keys)]
        if not found:
            return np.zeros(0, dtype=np.int64)
        pairs, recorded = np.unique(np.concatenate(found), return_counts=True)
        return pairs[recorded == self._per_pair(*np.divmod(pairs, len(self._places)))]

    def _per_pair(self, i: np.ndarray, j: np.ndarray) -> np.ndarray:
        """(pairs,): how many row sets each is scored on."""
        numbers, examples = self._kinds(self._connections.kinds, i, j)
        return np.array([len(self._connections.heads(*pair)) for pair in examples])[numbers]

    # Passes -----------------------------------------------------------------------------------------------------

    def forward_passes(self, keys: set[str], interior: float | None = None) -> tuple[int, int]:
        """(passes over one row set that are still to do, all of them), given the minima that are there; as above.

        A path takes its interior points, and an end more where that is no minimum as it is: with the other's head, or
        where a part of the weights stays. `interior`: how many a path takes; left out: all, or of an adaptive profile
        what is expected. Raises RaymcError for a pair without a space.
        """
        connections = self._connections
        if interior is None:
            interior = len(connections.t) - 2
            interior = interior if connections.spec.connectivity.tolerance is None else min(interior, EXPECTED)
        endpoints = sum(len(connections.endpoint_splits(key)) for key in connections.order)
        total, todo = float(endpoints), float(endpoints - connections.done_endpoints(keys))
        by_kind = connections.selected.counts(connections.kinds)
        examples = [connections.order[i] for i in np.unique(connections.kinds, return_index=True)[1]]
        for curve in self._curves:
            for _ in self._spaced(curve):
                pass
            for c, d in np.argwhere(by_kind).tolist():
                passes = int(by_kind[c, d]) * sum(self._passes(curve, examples[c], examples[d], interior).values())
                total, todo = total + passes, todo + passes
            for split, _, i, j in self.recorded(curve, keys):
                numbers, pairs = self._kinds(connections.kinds, i, j)
                for pair, count in zip(pairs, np.bincount(numbers).tolist(), strict=False):
                    todo -= count * self._passes(curve, *pair, interior)[split]
        return round(todo), round(total)

    def _passes(self, curve: str, a: str, b: str, interior: float) -> dict[str, float]:
        """Of each row set that a path is scored on."""
        how = self._connections.spec.connectivity.curve(curve)
        heads = self._connections.heads(a, b)
        return {split: interior + known_ends(how, head).count(False) for split, head in heads.items()}

    def measured_passes(self, keys: set[str]) -> tuple[float, int] | None:
        """(interior passes of a path on the mean, how many profiles that is of), of this sweep's finished profiles."""
        passes: list[float] = []
        for curve in self._curves:
            for split, group, i, j in self.recorded(curve, keys):
                for a, b in self._keys(i, j)[: _READ - len(passes)]:
                    try:
                        found = self._store.get(layout.PROFILES, group, f"{a}-{b}").get("passes")
                    except (KeyError, CorruptArtefact):  # which the run looks after
                        continue
                    if found:
                        passes.append(found - self._passes(curve, a, b, 0)[split])
        return (sum(passes) / len(passes), len(passes)) if passes else None

    # Fits -------------------------------------------------------------------------------------------------------

    def fits(self) -> dict[str, tuple[int, int]]:
        """(all fits, those that the store has) of each fitted curve."""
        connections = self._connections
        titles = [one.title for one in connections.spec.connectivity.curves if one.fitted is not None]
        if not titles:
            return {}
        count, fitted = connections.selected.count(), self._store.keys(layout.CURVES)
        if not fitted:
            return dict.fromkeys(titles, (count, 0))
        pairs = list(connections.pairs()) if count * len(titles) <= _LISTED else self._ends(fitted)
        return {title: (count, sum(connections.fit_key(*pair, title) in fitted for pair in pairs)) for title in titles}

    def _ends(self, curves: Iterable[str]) -> list[tuple[str, str]]:
        """The selected pairs that stored curves were fitted between."""
        found: set[tuple[str, str]] = set()
        for curve in curves:
            try:
                body = self._store.read_json(layout.CURVES, curve, layout.CURVE)
            except CorruptArtefact:  # which the run looks after
                continue
            if body["a"] in self._places and body["b"] in self._places:
                found.add((body["a"], body["b"]))
        return sorted(pair for pair in found if self._selected(*pair))

    def _selected(self, a: str, b: str) -> bool:
        return bool(self._connections.selected.has(*(np.array([self._places[key]]) for key in (a, b)))[0])

    # What the store has -----------------------------------------------------------------------------------------

    @property
    def _curves(self) -> tuple[str, ...]:
        return self._connections.spec.connectivity.curve_names

    def _keys(self, i: np.ndarray, j: np.ndarray) -> list[tuple[str, str]]:
        order = self._connections.order
        return [(order[a], order[b]) for a, b in zip(i.tolist(), j.tolist(), strict=True)]

    def _spaced(self, curve: str) -> Iterator[tuple[tuple[str, str], str]]:
        """Of each two kinds of minima that are paired an example and its space. Raises RaymcError for none."""
        classes = numbered([self._connections.kinds, self._connections.joint_kinds(curve)])[0]
        for i, j in self._connections.selected.firsts(classes):
            pair = self._connections.order[i], self._connections.order[j]
            yield pair, self._connections.space(*pair, curve=curve)

    def recorded(self, curve: str, keys: set[str]) -> Iterator[tuple[str, str, np.ndarray, np.ndarray]]:
        """(row set, group, i, j) of this sweep's pairs among these minima that have a record there; only names count.

        Groups that the store doesn't have cost nothing.
        """
        connections = self._connections
        among = self._among(keys)
        if among is None:
            return
        classes = numbered([connections.kinds, connections.joint_kinds(curve)])[0]
        for split in connections.row_sets:
            for space in sorted({space for spaces in SPACES.values() for space in spaces}):
                for head in ("path", "own"):
                    group = connections.profile_key(split, space, curve, head)
                    i, j = self._listed(self._profiles.of(group))
                    kept = among.has(i, j)
                    i, j = i[kept], j[kept]
                    if not len(i):
                        continue
                    kinds, examples = self._kinds(classes, i, j)
                    right = np.array([self._lies(*pair, curve, split, space, head) for pair in examples])[kinds]
                    yield split, group, i[right], j[right]

    def _lies(self, a: str, b: str, curve: str, split: str, space: str, head: str) -> bool:
        """Whether a pair's record on a row set belongs to a group."""
        own = self._connections.heads(a, b).get(split)
        same = own is not None and (own == "path") == (head == "path")
        return same and self._connections.space(a, b, curve=curve) == space

    def _kinds(self, classes: np.ndarray, i: np.ndarray, j: np.ndarray) -> tuple[np.ndarray, list[tuple[str, str]]]:
        """(number of each pair by the classes of its ends, an example of each number)."""
        numbers, first = numbered([classes[i], classes[j]])
        return numbers, self._keys(i[first], j[first])

    def _among(self, keys: set[str]) -> PairSet | None:
        there = np.array([key in keys for key in self._connections.order])
        return self._connections.selected.among(there) if there.sum() > 1 else None

    def _listed(self, names: set[str]) -> tuple[np.ndarray, np.ndarray]:
        """The places of the minima that records are named after, of those whose minima are both this sweep's."""
        known = self._places
        ends = [
            place
            for a, _, b in (name.partition("-") for name in names)
            if a in known and b in known
            for place in (known[a], known[b])
        ]
        i, j = np.array(ends, dtype=np.int64).reshape(-1, 2).T
        return i, j
