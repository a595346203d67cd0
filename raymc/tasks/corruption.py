"""What a network is shown of packed text and what it has to say: masked tokens, corrupted spans, or the next token."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from raymc.specs.errors import RaymcError
from raymc.specs.text import TextBackbone
from raymc.tasks.backbones import derived_seed
from raymc.tasks.mlm import IGNORED, masked
from raymc.tasks.text_tokenizers import sentinels

Batch = dict[str, Tensor]


class Corruption(Protocol):
    """How rows become a batch, and what rows it takes.

    `length`: ids of a packed row, of which `before` and `after` are the first and the last. `separator`: the id after
    each text of the stream that is packed; None where the next text follows at once.
    """

    length: int
    before: Sequence[int]
    after: Sequence[int]
    separator: int | None

    def __call__(self, rows: Tensor, generator: torch.Generator) -> Batch:
        """int64 tensors: input_ids and attention_mask of like shape, labels aligned with the logits, and others."""
        ...


class Masked:
    """Rows [CLS] text [SEP] text ... [SEP], some tokens of which are masked (Devlin et al. 2019)."""

    before: Sequence[int] = ()
    after: Sequence[int] = ()
    separator: int | None

    def __init__(self, tokenizer: Any, length: int, rate: float):
        needed = {"cls": tokenizer.cls_token_id, "sep": tokenizer.sep_token_id, "mask": tokenizer.mask_token_id}
        lacking = [name for name, number in needed.items() if number is None]
        if lacking:
            raise RaymcError(f"tokenizer: it has no {lacking[0]} token, which masked language modelling needs")
        self.length, self.separator = length, needed["sep"]
        self.before, self.after = [needed["cls"]], [needed["sep"]]
        self._rate, self._mask_id = rate, needed["mask"]
        special = set(tokenizer.all_special_ids)
        self._special = torch.tensor(sorted(special))
        self._words = torch.tensor(sorted(set(range(len(tokenizer))) - special))

    def __call__(self, rows: Tensor, generator: torch.Generator) -> Batch:
        shown, labels = masked(
            rows, generator, self._rate, special=self._special, words=self._words, mask_id=self._mask_id
        )
        return {"input_ids": shown, "attention_mask": torch.ones_like(rows), "labels": labels}


class Causal:
    """Rows of text with the end-of-text token after each; every token but a row's first is predicted."""

    before: Sequence[int] = ()
    after: Sequence[int] = ()
    separator: int | None

    def __init__(self, tokenizer: Any, length: int):
        if tokenizer.eos_token_id is None:
            raise RaymcError("tokenizer: it has no eos token, which causal language modelling needs")
        self.length, self.separator = length, tokenizer.eos_token_id

    def __call__(self, rows: Tensor, generator: torch.Generator) -> Batch:
        labels = torch.cat([rows[:, 1:], torch.full_like(rows[:, :1], IGNORED)], 1)
        return {"input_ids": rows, "attention_mask": torch.ones_like(rows), "labels": labels}


class Span:
    """T5's corruption of spans (Raffel et al. 2020, 3.1.4), as their code does it.

    Of n tokens, `rate` are noise, in spans of `mean` tokens on average: the numbers of noise tokens and of spans are
    n * rate and that over `mean`, rounded; how noise and the rest are cut into spans is uniformly random. A row starts
    with what is kept and ends with noise. Inputs hold a sentinel for each span of noise, targets the sentinel and the
    span; both end with eos. Rows are as long as keeps both within `length`.
    """

    before: Sequence[int] = ()
    after: Sequence[int] = ()
    separator: int | None = None

    def __init__(self, tokenizer: Any, length: int, rate: float, mean: float, start: int):
        """`start` is the token that the decoder starts with."""
        if tokenizer.eos_token_id is None:
            raise RaymcError("tokenizer: it has no eos token, which span corruption needs")
        self._rate, self._mean, self._start, self._eos = rate, mean, start, tokenizer.eos_token_id
        self.length = row_length(length, rate, mean)
        spans = noise(self.length, rate, mean)[1]
        known = sentinels(tokenizer)
        if not known:
            raise RaymcError("tokenizer: it has no <extra_id_0>, which span corruption needs as a sentinel")
        if len(known) < spans:
            raise RaymcError(
                f"tokenizer: {spans} spans a row need <extra_id_0> to <extra_id_{spans - 1}>, and it has {len(known)}"
            )
        self._sentinels = torch.tensor(known)

    def __call__(self, rows: Tensor, generator: torch.Generator) -> Batch:
        mask = self._noise_mask(len(rows), rows.shape[1], generator)
        inputs, targets = self._shown(rows, mask), self._shown(rows, ~mask)
        starts = torch.full_like(rows[:, :1], self._start)
        return {
            "input_ids": inputs,
            "attention_mask": torch.ones_like(inputs),
            "decoder_input_ids": torch.cat([starts, targets[:, :-1]], 1),
            "labels": targets,
        }

    def _noise_mask(self, rows: int, length: int, generator: torch.Generator) -> Tensor:
        """True where a token is noise; rows x length."""
        noisy, spans = noise(length, self._rate, self._mean)
        lengths = torch.stack([_cut(rows, length - noisy, spans, generator), _cut(rows, noisy, spans, generator)], 2)
        return torch.tensor([False, True]).repeat(rows * spans).repeat_interleave(lengths.flatten()).view(rows, length)

    def _shown(self, rows: Tensor, hidden: Tensor) -> Tensor:
        """Rows with each run of hidden tokens as one sentinel, and eos at the end. All rows have as many of both."""
        first = hidden & ~torch.cat([torch.zeros_like(hidden[:, :1]), hidden[:, :-1]], 1)
        number = (first.cumsum(1) - 1).clamp_min(0)
        shown = torch.where(first, self._sentinels[number], rows)[first | ~hidden].view(len(rows), -1)
        return torch.cat([shown, torch.full_like(rows[:, :1], self._eos)], 1)


def noise(length: int, rate: float, mean: float) -> tuple[int, int]:
    """How many of `length` (at least 2) tokens are noise, and in how many spans."""
    noisy = min(max(round(length * rate), 1), length - 1)
    return noisy, min(max(round(noisy / mean), 1), noisy, length - noisy)


def row_length(length: int, rate: float, mean: float) -> int:
    """The most tokens whose inputs and targets are both no longer than `length`, eos included."""
    size = 2
    while True:
        noisy, spans = noise(size + 1, rate, mean)
        if max(size + 1 - noisy, noisy) + spans + 1 > length:
            return size
        size += 1


def _cut(rows: int, total: int, parts: int, generator: torch.Generator) -> Tensor:
    """Lengths of `parts` pieces of at least 1 that add up to `total`, every such cut equally likely; rows x parts."""
    places = torch.rand((rows, total - 1), generator=generator).argsort(1)[:, : parts - 1].sort(1).values + 1
    edges = [torch.zeros((rows, 1), dtype=torch.int64), places, torch.full((rows, 1), total)]
    return torch.cat(edges, 1).diff(dim=1)


def corruption_of(backbone: TextBackbone, tokenizer: Any, model: Any) -> Corruption:
    """The corruption that a backbone is pre-trained on. Raises RaymcError where its tokenizer lacks a token for it."""
    if backbone.pretrain == "masked":
        return Masked(tokenizer, backbone.max_length, backbone.corruption)
    if backbone.pretrain == "causal":
        return Causal(tokenizer, backbone.max_length)
    start = getattr(model.config, "decoder_start_token_id", None)
    start = tokenizer.pad_token_id if start is None else start
    return Span(tokenizer, backbone.max_length, backbone.corruption, backbone.span_length, start)


class Batches:
    """Corrupted rows by step: `batch(step)` is a pure function of the arguments and the step.

    The order is one random permutation of the rows after another; update k takes rows k * batch_size onwards of that
    stream.
    """

    def __init__(self, rows: np.ndarray, corruption: Corruption, *, batch_size: int, seed: int):
        self._rows, self._corruption, self._size, self._seed = rows, corruption, batch_size, seed
        self._epoch, self._permutation = -1, np.empty(0, dtype=np.int64)

    def rows(self, step: int) -> np.ndarray:
        """Row numbers of an update's batch."""
        start = step * self._size
        return np.array([self._row(position) for position in range(start, start + self._size)])

    def _row(self, position: int) -> int:
        epoch, index = divmod(position, len(self._rows))
        if epoch != self._epoch:
            seed = derived_seed("text", self._seed, "order", epoch)
            self._epoch = epoch
            self._permutation = np.random.Generator(np.random.PCG64(seed)).permutation(len(self._rows))
        return int(self._permutation[index])

    def batch(self, step: int) -> Batch:
        """The global batch of a step, counted from 0."""
        return corrupted(self._rows[self.rows(step)], self._corruption, self._seed, step)


def corrupted(rows: np.ndarray, corruption: Corruption, seed: int, number: int) -> Batch:
    """Rows corrupted by draw `number` of a seed's stream."""
    generator = torch.Generator().manual_seed(derived_seed("text", seed, "corruption", number))
    return corruption(torch.from_numpy(rows), generator)
