"""Which pairs among N minima are missing, as bits: 50 million pairs never exist one by one."""

from __future__ import annotations

from typing import Protocol

import numpy as np

_ROWS = 1024  # of a block, a multiple of 8


class Missing(Protocol):
    """Pairs (i, j), i < j, of minima that go by their number."""

    @property
    def size(self) -> int:
        """How many minima."""
        ...

    def block(self, rows: np.ndarray) -> np.ndarray:
        """(len(rows), size) bool, True at [k, j] where (rows[k], j) is missing; False where j <= rows[k]."""
        ...


class AllPairs:
    """All pairs of so many minima."""

    def __init__(self, size: int):
        self.size = size

    def block(self, rows: np.ndarray) -> np.ndarray:
        return np.arange(self.size)[None, :] > np.asarray(rows)[:, None]


class Bits:
    """Pairs i < j of `size` minima, N^2 / 8 bytes; none at first."""

    def __init__(self, size: int):
        self.size = size
        self._bits: np.ndarray | None = None

    def set(self, i: np.ndarray, j: np.ndarray) -> None:
        """Take pairs in; (pairs,) int."""
        if self._bits is None:
            self._bits = np.zeros((self.size, -(-self.size // 8)), np.uint8)
        np.bitwise_or.at(self._bits, (i, j // 8), (128 >> j % 8).astype(np.uint8))

    def has(self, i: int, j: int) -> bool:
        return self._bits is not None and bool(self._bits[i, j // 8] & 128 >> j % 8)

    def block(self, rows: np.ndarray) -> np.ndarray:
        """(len(rows), size) bool."""
        if self._bits is None:
            return np.zeros((len(rows), self.size), bool)
        return np.unpackbits(self._bits[rows], axis=1, count=self.size).view(bool)


class SomePairs(Bits):
    """Listed pairs i < j, (pairs, 2) int, of `size` minima."""

    def __init__(self, size: int, pairs: np.ndarray):
        super().__init__(size)
        pairs = np.asarray(pairs, np.int64).reshape(-1, 2)
        self.set(pairs[:, 0], pairs[:, 1])


def symmetric(missing: Missing) -> np.ndarray:
    """(N, ceil(N / 8)) uint8: bit j of row i (the highest first) is set where the pair of i and j is missing."""
    n = missing.size
    bits = np.zeros((n, -(-n // 8)), np.uint8)
    for first in range(0, n, _ROWS):
        upper = missing.block(np.arange(first, min(n, first + _ROWS)))
        bits[first : first + _ROWS] |= np.packbits(upper, axis=1)
        lower = np.packbits(upper.T, axis=1)
        bits[:, first // 8 : first // 8 + lower.shape[1]] |= lower
    return bits


def by_likeness(bits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(the minima that have a missing pair, ordered so that neighbours lack the same pairs; the bits in that order).

    By connected component, then those with most missing pairs first, then by the very pairs.
    """
    n = len(bits)
    firsts = range(0, n, _ROWS)
    degree = np.array([k for f in firsts for k in np.unpackbits(bits[f : f + _ROWS], axis=1).sum(axis=1)], np.int64)
    (rows,) = degree.nonzero()
    own = bits.copy()
    own[rows, rows // 8] |= (128 >> rows % 8).astype(np.uint8)
    kinds = min((_numbers(some) for some in (bits, own)), key=lambda found: int(found.max(initial=0)))
    part = _components(bits)
    rows = rows[np.lexsort((rows, kinds[rows], -degree[rows], part[rows]))]
    chosen = np.zeros((len(rows), -(-len(rows) // 8)), np.uint8)
    for first in range(0, len(rows), _ROWS):
        some = np.unpackbits(bits[rows[first : first + _ROWS]], axis=1, count=n)
        chosen[first : first + _ROWS] = np.packbits(some[:, rows], axis=1)
    return rows, chosen


def _numbers(bits: np.ndarray) -> np.ndarray:
    """(N,): the same number for equal rows."""
    if not bits.size:
        return np.zeros(len(bits), np.int64)
    whole = np.ascontiguousarray(bits).view(np.dtype((np.void, bits.shape[1]))).ravel()
    return np.unique(whole, return_inverse=True)[1]


def _components(bits: np.ndarray) -> np.ndarray:
    """(N,): the number of the connected component that each minimum is in."""
    n = len(bits)
    part = np.full(n, -1, np.int64)
    for start in range(n):
        if part[start] >= 0:
            continue
        part[start] = start
        new = np.array([start])
        while len(new):
            reached = np.unpackbits(np.bitwise_or.reduce(bits[new], axis=0), count=n).view(bool)
            (new,) = (reached & (part < 0)).nonzero()
            part[new] = start
    return part
