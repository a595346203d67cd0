"""What fine-tuning minimises: rows by step, and their cross-entropy."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch.nn.parallel import DistributedDataParallel

from raymc.tasks.backbones import derived_seed
from raymc.tasks.tokens import IGNORED, Tokens, gather, gather_with, pad_targets
from raymc.training.parallel import Group


def objective_of(kind: str, tokens: Tokens, batch_size: int, seed: int) -> Classification | TextTarget:
    """The objective of a model of a kind on a split's rows; `seed` decides their order."""
    if kind == "classifier":
        return Classification(tokens, batch_size, seed)
    return TextTarget(kind, tokens, batch_size, seed)


class Order:
    """Rows in an order that `seed` alone decides.

    The order is one random permutation after another; update k takes rows k * size onwards of that stream.
    """

    def __init__(self, count: int, size: int, seed: int):
        self._count, self._size, self._seed = count, size, seed
        self._epoch, self._permutation = -1, np.empty(0, dtype=np.int64)

    def rows(self, step: int) -> np.ndarray:
        """Row numbers of an update's global batch."""
        start = step * self._size
        return np.array([self._row(position) for position in range(start, start + self._size)])

    def _row(self, position: int) -> int:
        epoch, index = divmod(position, self._count)
        if epoch != self._epoch:
            seed = derived_seed("order", self._seed, epoch)
            self._epoch = epoch
            self._permutation = np.random.Generator(np.random.PCG64(seed)).permutation(self._count)
        return int(self._permutation[index])


class Classification(Order):
    """Cross-entropy of a classifier: the mean over the rows of a batch."""

    def __init__(self, tokens: Tokens, batch_size: int, seed: int):
        super().__init__(len(tokens), batch_size, seed)
        self._tokens = tokens

    def batch(self, step: int, group: Group) -> tuple[dict[str, torch.Tensor], int]:
        rows = self.rows(step)[group.rank :: group.size]
        return gather(self._tokens, rows, group.device), self._size

    def loss(self, model: Any, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        inputs = {name: tensor for name, tensor in batch.items() if name != "labels"}
        logits = model(**inputs).logits.float()
        return torch.nn.functional.cross_entropy(logits, batch["labels"], reduction="sum")


class TextTarget(Order):
    """Cross-entropy of a seq2seq or causal model on the text of the rows' labels: the mean over its tokens."""

    def __init__(self, kind: str, tokens: Tokens, batch_size: int, seed: int):
        super().__init__(len(tokens), batch_size, seed)
        self._causal, self._tokens = kind == "causal", tokens
        self._lengths = tokens.target_lengths

    def batch(self, step: int, group: Group) -> tuple[dict[str, torch.Tensor], int]:
        """input_ids, attention_mask and the targets: `labels` of the same shape (causal) or `decoder_labels`."""
        rows = self.rows(step)
        terms = int(self._lengths[rows].sum())
        mine = rows[group.rank :: group.size]
        targets = [self._tokens.choices[label] for label in self._tokens.labels[mine]]
        if self._causal:
            return gather_with(self._tokens, mine, targets, group.device), terms
        batch = gather(self._tokens, mine, group.device)
        del batch["labels"]
        return {**batch, "decoder_labels": pad_targets(targets, group.device)}, terms

    def loss(self, model: Any, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
        if self._causal:  # a token is predicted from those before it; virtual tokens of a prompt method come first
            labels = batch["labels"][:, 1:]
            logits = model(**inputs).logits[:, -labels.shape[1] - 1 : -1]
        else:
            labels = batch["decoder_labels"]
            plain = model.module if isinstance(model, DistributedDataParallel) else model
            shifted = plain.prepare_decoder_input_ids_from_labels(labels=labels)
            logits = model(**inputs, decoder_input_ids=shifted).logits
        scored = labels != IGNORED
        return torch.nn.functional.cross_entropy(logits[scored].float(), labels[scored], reduction="sum")
