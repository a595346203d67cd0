"""Paths between two points of parameter space, both given as flat fp32 vectors."""

from __future__ import annotations

from typing import Protocol

import torch


class Curve(Protocol):
    """A path phi with phi(0) = a and phi(1) = b, bit for bit."""

    name: str

    def point(self, t: float, out: torch.Tensor) -> None:
        """Write phi(t) into `out` (shape and dtype of the ends), in place. Raises ValueError for t outside [0, 1]."""
        ...


class Linear:
    """phi(t) = (1 - t) a + t b (Goodfellow et al. 2015; Frankle et al. 2020)."""

    name = "linear"

    def __init__(self, a: torch.Tensor, b: torch.Tensor):
        if a.shape != b.shape:
            raise ValueError(f"the ends have {a.numel()} and {b.numel()} parameters")
        self.a, self.b = a, b

    def point(self, t: float, out: torch.Tensor) -> None:
        if not 0.0 <= t <= 1.0:
            raise ValueError(f"t = {t} is outside [0, 1]")
        if t == 0.0:  # copied, so that the sign of a zero survives too
            out.copy_(self.a)
        elif t == 1.0:
            out.copy_(self.b)
        else:
            torch.lerp(self.a, self.b, t, out=out)
