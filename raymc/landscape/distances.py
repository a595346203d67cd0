"""How far apart two points of parameter space lie."""

from __future__ import annotations

import torch

_CHUNK = 1 << 16  # elements taken to float64 at a time: they stay in a core's cache for all sums over them
_WIDE = 1 << 24  # the same on a GPU, whose launches cost more than its memory


@torch.no_grad()
def l2_and_cosine(a: torch.Tensor, b: torch.Tensor) -> tuple[float, float]:
    """Euclidean distance |a - b| and cosine a.b / (|a| |b|) of two flat vectors, summed in float64.

    The cosine is NaN-free: 0 where a vector is zero.
    """
    size = _CHUNK if a.device.type == "cpu" else _WIDE
    x, y, z = torch.empty(3, min(size, a.numel()), dtype=torch.float64, device=a.device)
    total = torch.zeros(4, dtype=torch.float64, device=a.device)
    for one, other in zip(a.split(size), b.split(size), strict=True):
        u, v, w = (part[: one.numel()] for part in (x, y, z))
        u.copy_(one)
        v.copy_(other)
        total[0] += torch.sub(u, v, out=w).square_().sum()
        total[1] += torch.mul(u, v, out=w).sum()
        total[2] += u.square_().sum()
        total[3] += v.square_().sum()
    square, dot, aa, bb = total.tolist()
    norm = (aa * bb) ** 0.5
    return square**0.5, min(1.0, max(-1.0, dot / norm)) if norm else 0.0
