"""Rows as token ids, made once, and batches of them under a token budget."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from raymc.specs.errors import RaymcError
from raymc.specs.task import TaskSpec
from raymc.tasks import prompts
from raymc.tasks.rows import Rows

IGNORED = -100
"""The label of a position that isn't scored: what torch's cross-entropy ignores."""


@dataclass(frozen=True)
class Tokens:
    """A split's rows as flat arrays: row i's ids are `ids[offsets[i]:offsets[i + 1]]`.

    ids: int32; types: int8 of the same length, or None where the model has no token types; offsets: int64, rows + 1;
    labels: int64, one a row, indices into the label names. Plain numpy, so that an object store can share them.
    choices: of a seq2seq or causal model, the token ids of each label's target, in label order; `ids` are prompts.
    """

    ids: np.ndarray
    types: np.ndarray | None
    offsets: np.ndarray
    labels: np.ndarray
    pad_id: int
    choices: tuple[tuple[int, ...], ...] = ()

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def lengths(self) -> np.ndarray:
        return np.diff(self.offsets)

    @property
    def target_lengths(self) -> np.ndarray:
        """Tokens of every row's own target: int64, one a row."""
        return np.array([len(choice) for choice in self.choices], dtype=np.int64)[self.labels]

    @property
    def highest(self) -> int:
        """The highest token id of all."""
        return max(int(self.ids.max()), *(max(choice) for choice in self.choices), 0)


def tokenize(tokenizer: Any, rows: Rows, labels: tuple[str, ...], task: TaskSpec, kind: str) -> Tokens:
    """Token ids of every row without padding, for a model of a kind (classifier, seq2seq, causal).

    `task.max_length` limits a classifier's row, a seq2seq prompt, or a causal prompt together with the longest target.
    Prompts are cut to it, targets never. Raises RaymcError where a prompt or a target can't be made.
    """
    types, choices = None, ()
    if kind == "classifier":
        texts = [rows.text] if rows.text_pair is None else [rows.text, rows.text_pair]
        encoded = tokenizer(*texts, truncation=True, max_length=task.max_length, padding=False)
        sequences, types = [ids or [prompts.blank(tokenizer)] for ids in encoded["input_ids"]], None
        if "token_type_ids" in encoded:
            types = [row or [0] for row in encoded["token_type_ids"]]
    else:
        choices = prompts.choices(tokenizer, labels, task, kind)
        longest = max(map(len, choices))
        room = task.max_length - (longest if kind == "causal" else 0)
        if room < 1:
            raise RaymcError(f"task.max_length: {task.max_length} leaves no room beside a target of {longest} tokens")
        sequences = prompts.prompt_ids(tokenizer, rows, task, kind, room)
    offsets = np.zeros(len(sequences) + 1, dtype=np.int64)
    np.cumsum([len(sequence) for sequence in sequences], out=offsets[1:])
    index = {name: i for i, name in enumerate(labels)}
    return Tokens(
        ids=np.fromiter((i for sequence in sequences for i in sequence), np.int32, offsets[-1]),
        types=None if types is None else np.fromiter((i for row in types for i in row), np.int8, offsets[-1]),
        offsets=offsets,
        labels=np.array([index[label] for label in rows.labels], dtype=np.int64),
        pad_id=tokenizer.pad_token_id if tokenizer.pad_token_id is not None else 0,
        choices=choices,
    )


def gather(tokens: Tokens, rows: np.ndarray, device: torch.device | str = "cpu") -> dict[str, torch.Tensor]:
    """Rows as one right-padded batch: input_ids, attention_mask (rows x width), token_type_ids if any, and labels."""
    parts = [slice(*tokens.offsets[row : row + 2]) for row in rows]
    ids, mask = _padded([tokens.ids[part] for part in parts], tokens.pad_id)
    batch = {"input_ids": ids, "attention_mask": mask, "labels": tokens.labels[rows]}
    if tokens.types is not None:
        batch["token_type_ids"] = _padded([tokens.types[part] for part in parts], 0)[0]
    return _tensors(batch, device)


def gather_with(
    tokens: Tokens, rows: np.ndarray, targets: list[tuple[int, ...]], device: torch.device | str = "cpu"
) -> dict[str, torch.Tensor]:
    """Prompts with a target after each, right-padded: input_ids, attention_mask, labels (all rows x width).

    labels are the target's ids at its places, and IGNORED elsewhere.
    """
    starts = [tokens.ids[slice(*tokens.offsets[row : row + 2])] for row in rows]
    ids, mask = _padded([[*start, *target] for start, target in zip(starts, targets, strict=True)], tokens.pad_id)
    both = zip(starts, targets, strict=True)
    labels, _ = _padded([[*[IGNORED] * len(start), *target] for start, target in both], IGNORED)
    return _tensors({"input_ids": ids, "attention_mask": mask, "labels": labels}, device)


def pad_targets(targets: list[tuple[int, ...]], device: torch.device | str = "cpu") -> torch.Tensor:
    """Targets as one right-padded tensor, rows x the longest, IGNORED where there is none."""
    return _tensors({"labels": _padded(targets, IGNORED)[0]}, device)["labels"]


def _padded(sequences: Sequence[Any], fill: int) -> tuple[np.ndarray, np.ndarray]:
    """Sequences of ids right-padded with `fill`, and 1 where one is, 0 elsewhere; both int64, rows x the longest."""
    lengths = np.array([len(sequence) for sequence in sequences])
    mask = np.arange(lengths.max())[None, :] < lengths[:, None]
    ids = np.full(mask.shape, fill, dtype=np.int64)
    ids[mask] = np.concatenate([np.asarray(sequence, dtype=np.int64) for sequence in sequences])
    return ids, mask.astype(np.int64)


def _tensors(batch: dict[str, np.ndarray], device: torch.device | str) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(array).to(device) for name, array in batch.items()}


def budget_batches(
    tokens: Tokens, token_budget: int, more: int = 0, rows: np.ndarray | None = None
) -> list[np.ndarray]:
    """Row numbers of batches cut by length: sorted by length, as many rows as fit rows x longest <= the budget.

    Each row counts `more` tokens beside its own. `rows`: the row numbers to batch, each once; None: all.
    """
    lengths = tokens.lengths + more
    order = np.argsort(lengths, kind="stable") if rows is None else rows[np.argsort(lengths[rows], kind="stable")]
    batches, start = [], 0
    while start < len(order):
        end = start + 1
        while end < len(order) and lengths[order[end]] * (end + 1 - start) <= token_budget:
            end += 1
        batches.append(order[start:end])
        start = end
    return batches
