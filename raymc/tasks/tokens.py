"""Rows as token ids, made once, and batches of them under a token budget."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from raymc.tasks.rows import Rows


@dataclass(frozen=True)
class Tokens:
    """A split's rows as flat arrays: row i's ids are `ids[offsets[i]:offsets[i + 1]]`.

    ids: int32; types: int8 of the same length, or None where the model has no token types; offsets: int64, rows + 1;
    labels: int64, one a row, indices into the label names. Plain numpy, so that an object store can share them.
    """

    ids: np.ndarray
    types: np.ndarray | None
    offsets: np.ndarray
    labels: np.ndarray
    pad_id: int

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def lengths(self) -> np.ndarray:
        return np.diff(self.offsets)


def tokenize(tokenizer: Any, rows: Rows, labels: tuple[str, ...], max_length: int) -> Tokens:
    """Token ids of every row, cut at `max_length`, without padding."""
    texts = [rows.text] if rows.text_pair is None else [rows.text, rows.text_pair]
    encoded = tokenizer(*texts, truncation=True, max_length=max_length, padding=False)
    sequences = encoded["input_ids"]
    offsets = np.zeros(len(sequences) + 1, dtype=np.int64)
    np.cumsum([len(sequence) for sequence in sequences], out=offsets[1:])
    index = {name: i for i, name in enumerate(labels)}
    types = encoded.get("token_type_ids")
    return Tokens(
        ids=np.fromiter((i for sequence in sequences for i in sequence), np.int32, offsets[-1]),
        types=None if types is None else np.fromiter((i for row in types for i in row), np.int8, offsets[-1]),
        offsets=offsets,
        labels=np.array([index[label] for label in rows.labels], dtype=np.int64),
        pad_id=tokenizer.pad_token_id if tokenizer.pad_token_id is not None else 0,
    )


def gather(tokens: Tokens, rows: np.ndarray, device: torch.device | str = "cpu") -> dict[str, torch.Tensor]:
    """Rows as one right-padded batch: input_ids, attention_mask (rows x width), token_type_ids if any, labels."""
    lengths = tokens.lengths[rows]
    shape = (len(rows), int(lengths.max()))
    ids = np.full(shape, tokens.pad_id, dtype=np.int64)
    mask = np.arange(shape[1])[None, :] < lengths[:, None]
    ends = [slice(*tokens.offsets[row : row + 2]) for row in rows]
    ids[mask] = np.concatenate([tokens.ids[end] for end in ends])
    batch = {"input_ids": ids, "attention_mask": mask.astype(np.int64), "labels": tokens.labels[rows]}
    if tokens.types is not None:
        types = np.zeros(shape, dtype=np.int64)
        types[mask] = np.concatenate([tokens.types[end] for end in ends])
        batch["token_type_ids"] = types
    return {name: torch.from_numpy(array).to(device) for name, array in batch.items()}


def budget_batches(tokens: Tokens, token_budget: int) -> list[np.ndarray]:
    """Row numbers of batches cut by length: sorted by length, as many rows as fit rows x longest <= the budget."""
    lengths = tokens.lengths
    order = np.argsort(lengths, kind="stable")
    batches, start = [], 0
    while start < len(order):
        end = start + 1
        while end < len(order) and lengths[order[end]] * (end + 1 - start) <= token_budget:
            end += 1
        batches.append(order[start:end])
        start = end
    return batches
