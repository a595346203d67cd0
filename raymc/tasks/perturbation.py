"""Noise on a backbone's weights, in proportion to each tensor's size."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from raymc.specs.model import Perturbation


@torch.no_grad()
def perturb(model: Any, spec: Perturbation, seed_of: Callable[[int, str], int], new: set[str]) -> None:
    """Add N(0, (scale x the tensor's root mean square)^2) to every floating-point parameter that isn't `new`.

    Each has a stream of its own, of `seed_of(spec.seed, its name)`; a tensor of several names is one parameter, under
    its first, and stays tied. torch's global random state is neither read nor changed.
    """
    for name, tensor in model.named_parameters():
        if name in new or not tensor.is_floating_point():
            continue
        stream = torch.Generator().manual_seed(seed_of(spec.seed, name))
        noise = torch.randn(tensor.shape, generator=stream, dtype=torch.float32)
        size = tensor.double().square().mean().sqrt().item()
        tensor.add_(noise.to(tensor), alpha=spec.scale * size)
