"""What fine-tuning minimises: rows by step, and their cross-entropy."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from raymc.tasks.backbones import derived_seed
from raymc.tasks.tokens import Tokens, gather
from raymc.training.parallel import Group


class Classification:
    """Cross-entropy of a classifier on rows in an order that `seed` alone decides.

    The order is one random permutation after another; update k takes rows k * batch_size onwards of that stream.
    """

    def __init__(self, tokens: Tokens, batch_size: int, seed: int):
        self._tokens, self._size, self._seed = tokens, batch_size, seed
        self._epoch, self._permutation = -1, np.empty(0, dtype=np.int64)

    def rows(self, step: int) -> np.ndarray:
        """Row numbers of an update's global batch."""
        start = step * self._size
        return np.array([self._row(position) for position in range(start, start + self._size)])

    def _row(self, position: int) -> int:
        epoch, index = divmod(position, len(self._tokens))
        if epoch != self._epoch:
            seed = derived_seed("order", self._seed, epoch)
            self._epoch = epoch
            self._permutation = np.random.Generator(np.random.PCG64(seed)).permutation(len(self._tokens))
        return int(self._permutation[index])

    def batch(self, step: int, group: Group) -> tuple[dict[str, torch.Tensor], int]:
        rows = self.rows(step)[group.rank :: group.size]
        return gather(self._tokens, rows, group.device), self._size

    def loss(self, model: Any, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        inputs = {name: tensor for name, tensor in batch.items() if name != "labels"}
        logits = model(**inputs).logits.float()
        return torch.nn.functional.cross_entropy(logits, batch["labels"], reduction="sum")
