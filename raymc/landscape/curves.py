"""Paths between two points of parameter space, all given as flat fp32 vectors.

Every curve is a weighted sum of its anchors, phi(t) = sum_k w_k(t) p_k with p_0 = a and p_last = b. So the gradient of
a loss at phi(t) for anchor k is w_k(t) times its gradient at phi(t), and arc lengths need the anchors' inner products
only. Weights are float64; points are written in place, without a temporary of a model's size.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Protocol

import numpy as np
import torch

_CHUNK = 1 << 18  # elements a vector taken to float64 at a time, so that no wide copy of a whole model is made
_OPPOSITE = 1e-3  # radians short of pi under which slerp's weights (beyond 1000) would drown fp32 in rounding
_SHORTEST = 1e-9  # share of a chain's length that a segment of no length is given, so that its t still rises


class Curve(Protocol):
    """A path phi with phi(0) = a and phi(1) = b, bit for bit."""

    name: str
    anchors: tuple[torch.Tensor, ...]  # flat fp32 vectors of one size: a, what bends the path, b

    def weights(self, t: float) -> tuple[float, ...]:
        """What each anchor weighs in phi(t). Raises ValueError for t outside [0, 1]."""
        ...

    def point(self, t: float, out: torch.Tensor) -> None:
        """Write phi(t) into `out` (shape and dtype of the ends, no anchor itself), in place.

        Raises ValueError for t outside [0, 1].
        """
        ...


class _Mixture:
    """A curve written as the sum of its weighted anchors; both ends are copied, so that the sign of a zero survives."""

    def __init__(self, a: torch.Tensor, b: torch.Tensor, bends: Sequence[torch.Tensor] = ()):
        if a.shape != b.shape:
            raise ValueError(f"the ends have {a.numel()} and {b.numel()} parameters")
        for bend in bends:
            if bend.shape != a.shape:
                raise ValueError(f"a bend has {bend.numel()} parameters where the ends have {a.numel()}")
        self.a, self.b = a, b
        self.anchors: tuple[torch.Tensor, ...] = (a, *bends, b)

    def weights(self, t: float) -> tuple[float, ...]:
        raise NotImplementedError

    @torch.no_grad()
    def point(self, t: float, out: torch.Tensor) -> None:
        _inside(t)
        if t == 0.0:
            out.copy_(self.a)
        elif t == 1.0:
            out.copy_(self.b)
        else:
            self._between(t, out)

    def _between(self, t: float, out: torch.Tensor) -> None:
        first, *rest = self.weights(t)
        torch.mul(self.a, first, out=out)
        for weight, anchor in zip(rest, self.anchors[1:], strict=True):
            out.add_(anchor, alpha=weight)


class Linear(_Mixture):
    """phi(t) = (1 - t) a + t b (Goodfellow et al. 2015; Frankle et al. 2020)."""

    name = "linear"

    def __init__(self, a: torch.Tensor, b: torch.Tensor):
        super().__init__(a, b)

    def weights(self, t: float) -> tuple[float, ...]:
        _inside(t)
        return 1.0 - t, t

    def _between(self, t: float, out: torch.Tensor) -> None:
        torch.lerp(self.a, self.b, t, out=out)  # exact where a and b agree


class Bezier(_Mixture):
    """phi(t) = sum_k C(m, k) (1-t)^(m-k) t^k p_k with m = n + 1 for n bends (Garipov et al. 2018)."""

    name = "bezier"

    def weights(self, t: float) -> tuple[float, ...]:
        _inside(t)
        m = len(self.anchors) - 1
        return tuple(math.comb(m, k) * (1.0 - t) ** (m - k) * t**k for k in range(m + 1))


class Polygonal(_Mixture):
    """Straight pieces from a over the bends to b (Garipov et al. 2018).

    `at`: the t of each bend, rising inside (0, 1), i / (n + 1) where not given; there phi(t) is the bend bit for bit.
    Raises ValueError for other `at`.
    """

    name = "polygonal"

    def __init__(
        self, a: torch.Tensor, b: torch.Tensor, bends: Sequence[torch.Tensor], at: Sequence[float] | None = None
    ):
        super().__init__(a, b, bends)
        inner = [i / (len(bends) + 1) for i in range(1, len(bends) + 1)] if at is None else at
        self.knots = (0.0, *map(float, inner), 1.0)
        if len(self.knots) != len(self.anchors) or not all(x < y for x, y in pairwise(self.knots)):
            raise ValueError(f"{len(bends)} bends need as many rising t between 0 and 1, not {list(inner)}")

    def weights(self, t: float) -> tuple[float, ...]:
        piece, share = self._place(t)
        weights = [0.0] * len(self.anchors)
        weights[piece] = 1.0 - share
        if share:
            weights[piece + 1] = share
        return tuple(weights)

    def _place(self, t: float) -> tuple[int, float]:
        """The piece that holds t and where in it, in [0, 1); for t = 1 the last anchor and 0."""
        _inside(t)
        piece = bisect_right(self.knots, t) - 1
        start = self.knots[piece]
        return piece, (t - start) / (self.knots[piece + 1] - start) if t > start else 0.0

    def _between(self, t: float, out: torch.Tensor) -> None:
        piece, share = self._place(t)
        if share:
            torch.lerp(self.anchors[piece], self.anchors[piece + 1], share, out=out)
        else:
            out.copy_(self.anchors[piece])


class Spherical(_Mixture):
    """phi(t) = (sin((1 - t) w) a + sin(t w) b) / sin w, w the angle between a and b (slerp; Shoemake 1985).

    The weights are applied to the vectors as they are, all parameters as one vector, so the norm is constant where
    the ends' norms are equal. Where an end is zero or both point the same way it is the straight path. Raises
    ValueError where they point in opposite directions: no arc is the shortest one.
    """

    name = "spherical"

    def __init__(self, a: torch.Tensor, b: torch.Tensor):
        super().__init__(a, b)
        self.angle = _angle(_gram((a, b)))
        if math.pi - self.angle < _OPPOSITE:
            raise ValueError("no spherical path: the ends point in opposite directions")

    def weights(self, t: float) -> tuple[float, ...]:
        _inside(t)
        if self.angle < 1e-8:  # the weights differ from the straight ones by w^2 / 6, less than float64 holds
            return 1.0 - t, t
        whole = math.sin(self.angle)
        return math.sin((1.0 - t) * self.angle) / whole, math.sin(t * self.angle) / whole


def start_bends(a: torch.Tensor, b: torch.Tensor, count: int) -> list[torch.Tensor]:
    """`count` new vectors evenly on the segment from a to b, in order; for one, the midpoint."""
    return [torch.lerp(a, b, i / (count + 1)) for i in range(1, count + 1)]


def lengths(curve: Curve, t: Sequence[float], chords: int = 1) -> list[float]:
    """How far phi has gone from t[0] to each t, in units of the parameters (L2), starting at 0.0.

    Between neighbouring t it is the chord, or `chords` of them at even steps of t; a chord never cuts a corner of a
    polygonal chain. Costs one pass over the anchors, however many t and chords: |phi(x) - phi(y)| follows from the
    anchors' inner products, taken in float64 as offsets from a, so that a path much shorter than |a| keeps its digits.
    Raises ValueError for t that fall or leave [0, 1].
    """
    if not all(x <= y for x, y in pairwise(t)):
        raise ValueError("lengths along a curve need rising values of t")
    gram, corners = _gram(curve.anchors), curve.knots if isinstance(curve, Polygonal) else ()

    def offset(x: float) -> np.ndarray:
        """phi(x) in the basis a, p_1 - a, p_2 - a, ..."""
        weights = curve.weights(x)
        return np.array([math.fsum(weights), *weights[1:]])

    found, gone = [], 0.0
    for i, end in enumerate(t):
        start = t[max(i - 1, 0)]
        stops = [start, *(x for x in corners if start < x < end), end]
        steps = [x + (y - x) * j / chords for x, y in pairwise(stops) for j in range(chords)]
        for one, other in pairwise([*map(offset, steps), offset(end)]):
            step = other - one
            gone += math.sqrt(max(0.0, step @ gram @ step))
        found.append(gone)
    return found


def segments(chain: Iterable[torch.Tensor]) -> list[float]:
    """The L2 distance between each two neighbours of a chain of flat vectors, summed in float64."""
    found = []
    for one, other in pairwise(chain):
        square = 0.0
        for x, y in zip(one.split(_CHUNK), other.split(_CHUNK), strict=True):
            square += (x.double() - y.double()).square().sum().item()
        found.append(math.sqrt(square))
    return found


def arc_parameters(chain: Iterable[torch.Tensor]) -> list[float]:
    """The t of each vector of a chain, ends included: its share of the chain's length, from exactly 0 to exactly 1.

    The t always rise: equal neighbours are taken 1e-9 of the length apart, and a chain of no length is spread evenly.
    """
    steps = segments(chain)
    whole = math.fsum(steps)
    steps = [max(step, _SHORTEST * whole) for step in steps] if whole else [1.0] * len(steps)
    whole = math.fsum(steps)
    return [0.0, *(math.fsum(steps[:i]) / whole for i in range(1, len(steps))), 1.0]


def _inside(t: float) -> None:
    if not 0.0 <= t <= 1.0:
        raise ValueError(f"t = {t} is outside [0, 1]")


@torch.no_grad()
def _gram(anchors: Sequence[torch.Tensor]) -> np.ndarray:
    """Inner products of a, p_1 - a, p_2 - a, ..., (k, k), in float64."""
    total = torch.zeros(len(anchors), len(anchors), dtype=torch.float64, device=anchors[0].device)
    for parts in zip(*(anchor.split(_CHUNK) for anchor in anchors), strict=True):
        rows = torch.stack([part.double() for part in parts])
        rows[1:] -= rows[0]
        total.addmm_(rows, rows.T)
    return total.cpu().numpy()


def _angle(gram: np.ndarray) -> float:
    """The angle between a and b in radians from |a|^2, a.(b - a) and |b - a|^2; 0 where one is zero.

    Kahan's formula on the triangle's sides, which keeps the digits of small angles where arccos loses them.
    """
    aa, step, dd = float(gram[0, 0]), float(gram[0, 1]), float(gram[1, 1])
    bb = aa + 2.0 * step + dd
    if aa <= 0.0 or bb <= 0.0:
        return 0.0
    one, other = math.sqrt(aa), math.sqrt(bb)
    gap = (2.0 * step + dd) / (one + other)  # |b| - |a|
    return 2.0 * math.atan2(math.sqrt(max(0.0, dd - gap**2)), math.sqrt(max(0.0, (one + other) ** 2 - dd)))
