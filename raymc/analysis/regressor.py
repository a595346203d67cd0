"""The effect of one regressor beside others, over pairs of minima, tested by permuting the minima."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np

from raymc.analysis.cells import above

LEVEL = 0.05  # of the tests that intervals invert
_CELLS = 1 << 20  # of the permutations drawn at once: 8 MiB, held three times
_NEAR = 1e-3  # relative: less is left of a square than a difference of squares tells to the last digits
ZERO = 1e-9  # relative: of a column that the others explain in full


class RegressorTest:
    """Of a regressor beside others: x, y and `there` by cell, `others` cells x columns."""

    def __init__(self, x: np.ndarray, others: np.ndarray, y: np.ndarray, there: np.ndarray, size: int):
        basis = basis_of(others[there])
        own = _cleared(x[there], basis)
        self.length, self.effect = float(np.linalg.norm(own)), math.nan
        self.separate = self.length > ZERO * math.sqrt(len(own))
        if not self.separate:
            return
        rest, whole = _cleared(y[there], basis), float(np.linalg.norm(y[there]))
        if np.linalg.norm(rest) <= ZERO * whole:  # the others explain all: rounding is no effect
            rest[:] = 0.0
        self.effect = float(own @ rest) / self.length**2
        rest -= self.effect * own
        if np.linalg.norm(rest) <= ZERO * whole:  # a perfect fit: rounding is no evidence
            rest[:] = 0.0
        fit = np.linalg.lstsq(others[there], x[there], rcond=None)[0]
        i, j = above(size)
        self._square = np.zeros((size, size))
        self._square[i, j] = self._square[j, i] = x - others @ fit  # known for missing pairs too, as x is
        # cleared once more, so that what is drawn needn't be: the product with what is left of it is the same
        self._fixed = np.column_stack([_cleared(own, basis), _cleared(rest, basis), basis])
        self._products: list[np.ndarray] = []

    def add(self, places: np.ndarray) -> None:
        """Some permutations; `places`, of each: where in the flat square the value of each pair there is found."""
        if not self.separate:
            return
        drawn = self._square.take(places)
        products = drawn @ self._fixed
        squares = np.einsum("ij,ij->i", drawn, drawn)
        left = squares - (products[:, 2:] ** 2).sum(axis=1)
        near = left <= _NEAR * squares
        norms = np.sqrt(np.where(near, 0.0, left))
        norms[near] = np.linalg.norm(_cleared(drawn[near], self._fixed[:, 2:]), axis=1)
        self._products.append(products[:, :2] / np.where(norms > ZERO, norms, np.inf)[:, None])

    def found(self, *names: str) -> dict[str, float]:
        """Coefficient, ends of its interval and p, under four names; the identity is one of the permutations.

        Also `least`: the least p that there can be, the share of permutations that leave the regressor as it is.
        """
        if not self.separate:
            return {**dict.fromkeys(names, math.nan), "least": math.nan}
        length, effect = self.length, self.effect
        # by permutation: the permuted regressor, of length 1, times the own one and the rest
        # At a true effect of effect + d, a permutation counts against d while |r - d c| >= |d| length
        c, r = np.concatenate(self._products).T
        c = np.where(np.abs(c) >= length * (1 - ZERO), np.copysign(length, c), c)
        same = np.abs(c) == length  # it leaves the regressor as it is: counts against any d
        with np.errstate(divide="ignore", invalid="ignore"):
            up = np.where(same, np.inf, np.maximum(r / (length + c), -r / (length - c)))
            down = np.where(same, np.inf, np.maximum(-r / (length + c), r / (length - c)))
        rank = math.floor(LEVEL * len(c) * (1 + ZERO)) + 1
        low, high = effect - np.sort(down)[-rank], effect + np.sort(up)[-rank]
        p_value = float((np.abs(r + effect * c) >= abs(effect) * length * (1 - ZERO)).mean())
        ends = [float(end) if math.isfinite(end) else math.nan for end in (low, high)]
        return {**dict(zip(names, (effect, *ends, p_value), strict=True)), "least": float(same.mean())}


def permute(tests: Sequence[RegressorTest], draws: np.ndarray, there: np.ndarray, size: int) -> None:
    """All permutations, some at a time: where their pairs lie is the same for every test."""
    i, j = (ends[there] for ends in above(size))
    chunk = max(1, _CELLS // len(i))
    for first in range(0, len(draws), chunk):
        order = draws[first : first + chunk]
        places = order.take(i, axis=1) * size
        places += order.take(j, axis=1)
        for test in tests:
            test.add(places)


def _cleared(x: np.ndarray, basis: np.ndarray) -> np.ndarray:
    """What the others leave of x (last axis: pairs)."""
    return x - (x @ basis) @ basis.T


def basis_of(x: np.ndarray) -> np.ndarray:
    """Orthonormal columns that span those of x."""
    u, s, _ = np.linalg.svd(x, full_matrices=False)
    return u[:, s > ZERO * s[0]]


def drawn_permutations(size: int, count: int, seed: int) -> tuple[np.ndarray, bool]:
    """(permutations x size, the identity among them; whether they are all there are)."""
    if math.factorial(size) <= max(count, 720):
        return np.array(list(itertools.permutations(range(size)))), True
    rng = np.random.default_rng(seed)
    drawn = rng.permuted(np.tile(np.arange(size), (count, 1)), axis=1)
    return np.concatenate([np.arange(size)[None], drawn]), False
