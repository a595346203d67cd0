"""The plane through three points of parameter space (Garipov et al. 2018, appendix A.1).

With origin a, u = (b - a) / |b - a| and v the part of c - a across u, normalised, a point of it is a + x u + y v.
Neither u nor v is kept: the point is written as a + alpha (b - a) + beta (c - a), whose factors follow from x and y by
inner products of the differences alone. These are taken in float64 a piece at a time; points are written in place.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch

from raymc.landscape.curves import Curve
from raymc.specs.errors import RaymcError

_CHUNK = 1 << 18  # elements of a vector handled at a time, so that no copy of a whole model is made
_FLAT = 1e-6  # share of the triangle's longer side that c must stand off the line through a and b


class Position(NamedTuple):
    """Where a vector lies: its foot on the plane, and its distance from the plane; in units of the parameters (L2)."""

    x: float
    y: float
    off: float


class Plane:
    """The plane through three flat fp32 vectors; `corners` are where they lie, as (x, y): a at (0, 0), b at y = 0.

    Raises RaymcError where the three lie on one line.
    """

    def __init__(self, a: torch.Tensor, b: torch.Tensor, c: torch.Tensor):
        if not a.shape == b.shape == c.shape:
            raise ValueError(f"the minima have {a.numel()}, {b.numel()} and {c.numel()} parameters")
        self.a, self.b, self.c = a, b, c
        (bb, bc), (_, cc) = self._inner([]).tolist()
        self._length, far = math.sqrt(bb), math.sqrt(cc)
        self._slope = bc / self._length if self._length else 0.0
        self._height = math.sqrt(max(0.0, cc - self._slope**2))
        if not self._length or self._height <= _FLAT * max(self._length, far):
            raise RaymcError("no plane: the three minima lie on one line; name others in connectivity.planes")
        self.corners = ((0.0, 0.0), (self._length, 0.0), (self._slope, self._height))

    def factors(self, x: float, y: float) -> tuple[float, float]:
        """alpha and beta of the point a + alpha (b - a) + beta (c - a)."""
        beta = y / self._height
        return (x - beta * self._slope) / self._length, beta

    @torch.no_grad()
    def point(self, x: float, y: float, out: torch.Tensor) -> None:
        """Write the point into `out` (shape and dtype of the minima, none of them itself), in place.

        At a corner it is the minimum bit for bit, and everywhere exact in parameters in which the three agree.
        """
        for corner, vector in zip(self.corners, (self.a, self.b, self.c), strict=True):
            if (x, y) == corner:
                out.copy_(vector)
                return
        alpha, beta = self.factors(x, y)
        room = torch.empty_like(out[:_CHUNK])
        for a, b, c, part in zip(*(one.split(_CHUNK) for one in (self.a, self.b, self.c, out)), strict=True):
            torch.lerp(a, b, alpha, out=part)
            part.add_(torch.sub(c, a, out=room[: part.numel()]), alpha=beta)

    def position(self, vector: torch.Tensor) -> Position:
        """Where a vector of the same size lies."""
        places, rests = self._feet([vector])
        return Position(float(places[0, 0]), float(places[0, 1]), math.sqrt(rests[0, 0]))

    def trace(self, curve: Curve, t: Sequence[float]) -> list[Position]:
        """Where phi(t) lies, for each t. Two passes over the curve's anchors, however many t.

        A foot is linear in the vector and phi(t) a weighted sum of the anchors, so theirs decide all.
        """
        places, rests = self._feet(curve.anchors, also_origin=True)
        found = []
        for one in t:
            weights = curve.weights(one)
            # phi - a = sum_k w_k (p_k - a) + (sum_k w_k - 1) a: on an arc the weights don't sum to 1
            shares = np.array([*weights, math.fsum([*weights, -1.0])])
            x, y = shares @ places
            found.append(Position(float(x), float(y), math.sqrt(max(0.0, shares @ rests @ shares))))
        return found

    def _feet(self, vectors: Sequence[torch.Tensor], also_origin: bool = False) -> tuple[np.ndarray, np.ndarray]:
        """(x, y) of each vector's foot, (k, 2), and inner products of what stands off the plane, (k, k).

        `also_origin`: of a itself too, last, as a direction. What stands off is taken as differences, not of squares,
        so a vector that lies in the plane is told to be there to float64's rounding.
        """
        gram = self._inner(vectors, also_origin)
        x = gram[2:, 0] / self._length
        y = (gram[2:, 1] - x * self._slope) / self._height
        factors = np.array([self.factors(*place) for place in zip(x, y, strict=True)])
        return np.column_stack([x, y]), self._inner(vectors, also_origin, factors)[2:, 2:]

    @torch.no_grad()
    def _inner(
        self, vectors: Sequence[torch.Tensor], also_origin: bool = False, less: np.ndarray | None = None
    ) -> np.ndarray:
        """Inner products of b - a, c - a, each vector - a, and a if asked for, in float64.

        `less`: factors of b - a and c - a, (k, 2), that are taken off each of those after the first two.
        """
        rows, device = 2 + len(vectors) + also_origin, self.a.device
        total = torch.zeros(rows, rows, dtype=torch.float64, device=device)
        foot = None if less is None else torch.from_numpy(less).to(device)
        others = [self.b, self.c, *vectors]
        for a, *parts in zip(*(one.split(_CHUNK) for one in (self.a, *others)), strict=True):
            origin = a.double()
            block = torch.stack([*(part.double() - origin for part in parts), *([origin] if also_origin else [])])
            if foot is not None:
                block[2:] -= foot @ block[:2]
            total.addmm_(block, block.T)
        return total.cpu().numpy()


def grid(
    corners: Sequence[tuple[float, float]], points: int, margin: float
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """x and y of the lines of a grid, `points` each way, even and rising, in units of the parameters (L2).

    It reaches from the lowest to the highest of the corners and beyond them by `margin` times that extent on each side.
    """
    found = []
    for values in zip(*corners, strict=True):
        extra = margin * (max(values) - min(values))
        low, high = min(values) - extra, max(values) + extra
        shares = [i / (points - 1) for i in range(points)]
        found.append(tuple((1.0 - share) * low + share * high for share in shares))
    return found[0], found[1]
