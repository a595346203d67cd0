"""Language modelling as an objective of the training loop, and how well a network does it on held-out text."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import torch

from raymc.specs.errors import TrainingFault
from raymc.tasks.mlm import IGNORED
from raymc.training.parallel import Group


class StepBatches(Protocol):
    """Global batches by step, a pure function of it; `labels` are aligned with the logits."""

    def batch(self, step: int) -> Any: ...


class LanguageModelling:
    """Cross-entropy of the tokens to predict: all positions whose label isn't IGNORED."""

    def __init__(self, batches: StepBatches, **options: Any):
        """`options` go to the model with each batch."""
        self._batches, self._options = batches, options

    def batch(self, step: int, group: Group) -> tuple[dict[str, torch.Tensor], int]:
        whole: dict[str, torch.Tensor] = dict(self._batches.batch(step))
        terms = int((whole["labels"] != IGNORED).sum())
        if not terms:
            raise TrainingFault(f"step {step} has no token to predict: its text is unknown to the tokenizer")
        return {name: tensor[group.rank :: group.size].to(group.device) for name, tensor in whole.items()}, terms

    def loss(self, model: Any, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        return cross_entropy(model, batch, **self._options)


def cross_entropy(model: Any, batch: Mapping[str, torch.Tensor], **options: Any) -> torch.Tensor:
    """Summed over the tokens to predict, in fp32."""
    inputs = {name: tensor for name, tensor in batch.items() if name != "labels"}
    logits = model(**inputs, **options).logits.float()
    return torch.nn.functional.cross_entropy(
        logits.flatten(0, 1), batch["labels"].flatten(), ignore_index=IGNORED, reduction="sum"
    )


@dataclass(frozen=True)
class Validation:
    """Mean cross-entropy per predicted token in nats, its exponential, and how many tokens were predicted.

    Of masked language modelling it is a pseudo-perplexity: of the masked tokens alone, given all others.
    """

    loss: float
    perplexity: float
    tokens: int

    def as_dict(self) -> dict[str, float]:
        return asdict(self)


@torch.no_grad()
def validate(
    model: Any, whole: Mapping[str, torch.Tensor], rows_at_once: int, device: str, **options: Any
) -> Validation:
    """Score a model without dropout on one fixed batch, some rows at a time; it is put back into training mode.

    Every worker scores all of it, so that none waits for another and their number changes nothing.
    """
    from torch.distributed.fsdp import FSDPModule

    model.eval()
    summed = torch.zeros((), dtype=torch.float64, device=device)
    for start in range(0, len(whole["labels"]), rows_at_once):
        part = {name: tensor[start : start + rows_at_once].to(device) for name, tensor in whole.items()}
        summed += cross_entropy(model, part, **options).double()
    model.train()
    for module in model.modules():
        # Sharded networks keep their outer weights gathered until a backward pass, which would miss their gradients.
        if isinstance(module, FSDPModule):
            module.reshard()
    tokens = int((whole["labels"] != IGNORED).sum())
    if not tokens:
        raise TrainingFault("the validation text has no token to predict: it is unknown to the tokenizer")
    loss = summed.item() / tokens
    return Validation(loss, math.exp(min(loss, 700.0)), tokens)
