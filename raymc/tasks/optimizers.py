"""Optimizers by name: AdamW, Adafactor (Shazeer and Stern 2018) and SGD with momentum."""

from __future__ import annotations

from typing import Any

from raymc.specs.errors import TrainingFault


def optimizer_fault(name: str, strategy: str, workers: int) -> str | None:
    """Why an optimizer can't work with a strategy on so many workers; None where it can. Needs no torch."""
    if name == "adafactor" and strategy == "fsdp" and workers > 1:
        return "adafactor keeps means over whole rows and columns of a matrix, which fsdp cuts up; use strategy: ddp"
    return None


def make_optimizer(
    model: Any,
    name: str,
    learning_rate: float,
    *,
    weight_decay: float,
    betas: tuple[float, float] = (0.9, 0.999),
    momentum: float = 0.9,
) -> Any:
    """An optimizer of the parameters that train; no weight decay on biases and norms (tensors of one dimension).

    `betas` are AdamW's and `momentum` SGD's. Adafactor takes the learning rate as it is: no relative steps, no scaling
    by the parameter's size, no first moment, updates clipped to a root mean square of 1 (the setup of the paper's T5).
    Weight decay is decoupled in AdamW and Adafactor and part of the gradient in SGD. Raises TrainingFault where
    nothing trains.
    """
    import torch

    trained = [p for p in model.parameters() if p.requires_grad]
    if not trained:
        raise TrainingFault("no parameter of the model trains")
    groups = [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]
    groups = [entry for entry in groups if entry["params"]]
    if name == "adamw":
        return torch.optim.AdamW(groups, lr=learning_rate, betas=betas)
    if name == "sgd":
        return torch.optim.SGD(groups, lr=learning_rate, momentum=momentum)
    if name == "adafactor":
        from transformers.optimization import Adafactor

        return Adafactor(
            groups,
            lr=learning_rate,
            scale_parameter=False,
            relative_step=False,
            warmup_init=False,
            clip_threshold=1.0,
        )
    raise TrainingFault(f"train.optimizer: there is no {name!r}; use adamw, adafactor or sgd")
