"""Barrier heights of a path from its values at points t; one definition each, named by its source.

The supremum is taken over the points of the profile, the ends counted, so no barrier is negative except
where stated; few points can miss a narrow peak, and noise biases a maximum upward.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise


def entezari(t: Sequence[float], loss: Sequence[float]) -> float:
    """max_t [ L(t) - ((1 - t) L(0) + t L(1)) ], in the loss's unit; 0 or more (Entezari et al. 2021, eq. 1)."""
    return max(_excess(t, loss))


def ainsworth(t: Sequence[float], loss: Sequence[float]) -> float:
    """max_t L(t) - (L(0) + L(1)) / 2, in the loss's unit; 0 or more (Ainsworth et al. 2022, released code).

    Where the ends differ it is at least half their difference, on a straight profile too.
    """
    _check(t, loss)
    return max(loss) - (loss[0] + loss[-1]) / 2


def frankle(t: Sequence[float], error: Sequence[float]) -> float:
    """max_t E(t) - (E(0) + E(1)) / 2 of the error rate E, as a fraction (Frankle et al. 2020, instability).

    Below 0.02 they call the pair stable.
    """
    return ainsworth(t, error)


def peak(t: Sequence[float], loss: Sequence[float]) -> float:
    """The t at which Entezari's barrier is attained: the first, where several tie; 0 where there is no barrier."""
    excess = _excess(t, loss)
    return t[excess.index(max(excess))]


def _excess(t: Sequence[float], loss: Sequence[float]) -> list[float]:
    """Height over the chord; exactly 0 at both ends."""
    _check(t, loss)
    first, rise = loss[0], loss[-1] - loss[0]  # written so that a flat profile is flat to the last bit
    inner = [value - (first + x * rise) for x, value in zip(t[1:-1], loss[1:-1], strict=True)]
    return [0.0, *inner, 0.0]


def _check(t: Sequence[float], values: Sequence[float]) -> None:
    if len(t) != len(values) or len(t) < 2 or t[0] != 0.0 or t[-1] != 1.0:
        raise ValueError("a profile needs a value for each t, from t = 0 to t = 1")
    if not all(x < y for x, y in pairwise(t)) or not all(map(math.isfinite, values)):
        raise ValueError("a profile needs rising values of t and finite values")
