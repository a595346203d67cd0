"""The nudged elastic band on a chain of pivots: pure arithmetic, no model (Jonsson et al. 1998; Draxler et al. 2018).

A chain is the fixed ends a and b, (d,), and the pivots between them, (n, d), in order. A round of relaxation is
redistribute, the losses and gradients at all pivots, then a step of any optimizer along the gradients made
perpendicular to the tangents. Between rounds AutoNEB inserts pivots where the chain is too coarse.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate, pairwise

import torch

from raymc.landscape.curves import segments

_CHUNK = 1 << 18  # columns handled at a time, so that no second chain is made


@torch.no_grad()
def tangents(a: torch.Tensor, pivots: torch.Tensor, b: torch.Tensor, losses: Sequence[float]) -> torch.Tensor:
    """The chain's direction at each pivot, (n, d), unit vectors; a new tensor.

    `losses` are those of a, of each pivot and of b. The direction is that to the neighbour of higher loss; at a
    maximum or minimum of the chain both sides count, the one of the larger change of loss more, which keeps
    the direction from flipping between steps (Henkelman & Jonsson 2000, eqs. 8-11, as Draxler et al. 2018).
    Zero where a pivot and the neighbours that count are one point. Raises ValueError for another number of losses.
    """
    if len(losses) != len(pivots) + 2:
        raise ValueError(f"{len(pivots)} pivots and two ends need as many losses, not {len(losses)}")
    found = torch.empty_like(pivots)
    chain = [a, *pivots, b]
    for i, out in enumerate(found):
        before, here, after = chain[i : i + 3]
        backward, forward = _sides(*map(float, losses[i : i + 3]))
        if not backward:
            torch.sub(after, here, out=out)
        else:
            torch.sub(here, before, out=out)
            if forward:
                out.mul_(backward).add_(after - here, alpha=forward)
        norm = math.sqrt(_dot(out, out))
        if norm:
            out.div_(norm)
    return found


def _sides(before: float, here: float, after: float) -> tuple[float, float]:
    """How much the segment before and the one after count in a pivot's direction; they sum to 1."""
    if before < here < after:
        return 0.0, 1.0
    if before > here > after:
        return 1.0, 0.0
    changes = sorted((abs(before - here), abs(after - here)))
    larger = changes[1] / math.fsum(changes) if changes[1] else 0.5
    return (1.0 - larger, larger) if after > before else (larger, 1.0 - larger)


@torch.no_grad()
def perpendicular(gradient: torch.Tensor, tangents: torch.Tensor) -> torch.Tensor:
    """Take from each gradient its part along the unit tangent (Jonsson et al. 1998), in place; returns it.

    Both (d,) or (n, d). The inner products are summed in float64.
    """
    rows = zip(gradient, tangents, strict=True) if gradient.dim() > 1 else [(gradient, tangents)]
    for row, tangent in rows:
        row.sub_(tangent, alpha=_dot(row, tangent))
    return gradient


@torch.no_grad()
def redistribute(
    a: torch.Tensor, pivots: torch.Tensor, b: torch.Tensor, at: Sequence[float] | None = None
) -> torch.Tensor:
    """Slide the pivots along the chain to the shares `at` of its length, in place; returns them.

    `at` holds a share in [0, 1] for each pivot, rising, evenly spread where not given. It stands for springs of
    infinite stiffness (Draxler et al. 2018, Alg. 1). Corners are cut, so the chain's length may shrink.
    Raises ValueError for another number of shares or falling ones.
    """
    count = len(pivots)
    shares = [i / (count + 1) for i in range(1, count + 1)] if at is None else list(at)
    if len(shares) != count or not all(x <= y for x, y in pairwise([0.0, *shares, 1.0])):
        raise ValueError(f"{count} pivots need as many rising shares between 0 and 1, not {shares}")
    steps = segments([a, *pivots, b])
    gone = [0.0, *accumulate(steps)]
    if not gone[-1]:
        return pivots
    # the segment that holds each new pivot, never one of no length, and where in it
    full = [i for i, step in enumerate(steps) if step]
    held = [full[max(0, bisect_right([gone[i] for i in full], share * gone[-1]) - 1)] for share in shares]
    inside = [min(1.0, (share * gone[-1] - gone[i]) / steps[i]) for share, i in zip(shares, held, strict=True)]
    left = torch.tensor(held, dtype=torch.long, device=pivots.device)
    weight = torch.tensor(inside, dtype=pivots.dtype, device=pivots.device).unsqueeze(1)
    for start in range(0, pivots.shape[1], _CHUNK):
        part = slice(start, start + _CHUNK)
        old = torch.cat([a[part].unsqueeze(0), pivots[:, part], b[part].unsqueeze(0)])
        pivots[:, part] = torch.lerp(old[left], old[left + 1], weight)
    return pivots


def insertions(
    t: Sequence[float], losses: Sequence[Sequence[float]], threshold: float = 0.1, at_most: int | None = None
) -> list[tuple[int, float]]:
    """Where new pivots belong: (segment, share of the segment), in order, at most one a segment.

    `t` are the shares at which every segment was looked at, from 0 to 1, and `losses[s]` the losses there, so the
    first and last are those of its two pivots. A segment gets a pivot at the point that stands highest over the
    line between these two, where it stands higher than `threshold` times the chain's height: its largest loss less
    its smallest (Draxler et al. 2018, Alg. 2, and their released rule "highest", which takes 0.1; here the height
    counts the points between pivots too). Where there are more than `at_most`, the highest stay.
    Raises ValueError for t or losses of another form and for losses that aren't finite.
    """
    if len(t) < 2 or t[0] != 0.0 or t[-1] != 1.0 or not all(x < y for x, y in pairwise(t)):
        raise ValueError("segments need rising shares from 0 to 1")
    if not all(len(row) == len(t) and all(map(math.isfinite, row)) for row in losses):
        raise ValueError("each segment needs a finite loss for each share")
    height = max(map(max, losses)) - min(map(min, losses))
    over = []
    for segment, row in enumerate(losses):
        rise = row[-1] - row[0]
        excess, share = max(
            ((value - (row[0] + x * rise), x) for x, value in zip(t[1:-1], row[1:-1], strict=True)),
            key=lambda found: found[0],
            default=(0.0, 0.0),
        )
        if excess > threshold * height:
            over.append((excess, segment, share))
    over.sort(key=lambda found: (-found[0], found[1]))
    return sorted((segment, share) for _, segment, share in over[:at_most])


@torch.no_grad()
def insert(
    a: torch.Tensor, pivots: torch.Tensor, b: torch.Tensor, positions: Sequence[tuple[int, float]]
) -> torch.Tensor:
    """The pivots with those of `positions` added, (n + m, d), a new tensor; the chain's course stays the same.

    `positions` are pairs of a segment (0 from a to the first pivot) and a share of it, as `insertions` gives them.
    """
    found = pivots.new_empty(len(pivots) + len(positions), *a.shape)
    chain, rows = [a, *pivots, b], iter(found)
    for segment in range(len(pivots) + 1):
        for share in sorted(x for place, x in positions if place == segment):
            torch.lerp(chain[segment], chain[segment + 1], share, out=next(rows))
        if segment < len(pivots):
            next(rows).copy_(pivots[segment])
    return found


def _dot(x: torch.Tensor, y: torch.Tensor) -> float:
    """x . y in float64."""
    return sum(torch.dot(p.double(), q.double()).item() for p, q in zip(x.split(_CHUNK), y.split(_CHUNK), strict=True))
