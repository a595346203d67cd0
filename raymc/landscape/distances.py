"""How far apart two points of parameter space lie."""

from __future__ import annotations

import torch

_CHUNK = 1 << 22  # elements summed in float64 at a time, so that no wide copy of a whole model is made


def l2_and_cosine(a: torch.Tensor, b: torch.Tensor) -> tuple[float, float]:
    """Euclidean distance |a - b| and cosine a.b / (|a| |b|) of two flat vectors, summed in float64.

    The cosine is NaN-free: 0 where a vector is zero.
    """
    square = dot = aa = bb = 0.0
    for start in range(0, a.numel(), _CHUNK):
        x, y = a[start : start + _CHUNK].double(), b[start : start + _CHUNK].double()
        square += (x - y).square().sum().item()
        dot += (x * y).sum().item()
        aa += x.square().sum().item()
        bb += y.square().sum().item()
    norm = (aa * bb) ** 0.5
    return square**0.5, min(1.0, max(-1.0, dot / norm)) if norm else 0.0
