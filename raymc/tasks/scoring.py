"""Loss and metrics of a model over a whole split: weighted by example, so that batches and padding change nothing."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from raymc.specs.errors import RaymcError
from raymc.tasks.tokens import Tokens, budget_batches, gather


@dataclass(frozen=True)
class Score:
    """Mean cross-entropy in nats per example, metrics as fractions."""

    loss: float
    metrics: dict[str, float]


class Scorer:
    """A split made ready on a device: batches are padded once and used for every point of every path."""

    def __init__(self, tokens: Tokens, token_budget: int, device: torch.device | str = "cpu"):
        self.rows, self.tokens = len(tokens), int(tokens.offsets[-1])
        order = budget_batches(tokens, token_budget)
        batches = [gather(tokens, rows, device) for rows in order]
        self._labels = [batch.pop("labels") for batch in batches]
        self._batches = batches

    @torch.inference_mode()
    def __call__(self, model: Any) -> Score:
        """One pass over the split. The model is in evaluation mode (no dropout); logits' loss is taken in fp32.

        Raises RaymcError where the loss isn't finite.
        """
        losses, hits = [], []
        for batch, labels in zip(self._batches, self._labels, strict=True):
            logits = model(**batch).logits.float()
            losses.append(torch.nn.functional.cross_entropy(logits, labels, reduction="none"))
            hits.append(logits.argmax(-1))
        loss = torch.cat(losses).double().sum().item() / self.rows
        if not math.isfinite(loss):
            raise RaymcError(f"the loss is not finite ({loss})")
        predicted = torch.cat(hits).cpu().numpy()
        return Score(loss, classification_metrics(torch.cat(self._labels).cpu().numpy(), predicted))


def classification_metrics(gold: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
    """Accuracy, and F1 averaged over the labels that occur in `gold` or `predicted` (as scikit-learn's macro F1)."""
    labels = np.union1d(gold, predicted)
    scores = []
    for label in labels:
        hit = int(((gold == label) & (predicted == label)).sum())
        scores.append(2 * hit / int((gold == label).sum() + (predicted == label).sum()))
    return {"accuracy": int((gold == predicted).sum()) / len(gold), "f1_macro": sum(scores) / len(scores)}
