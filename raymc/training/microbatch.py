"""A batch in parts, a backward pass each: of like length, and of no more rows than fit the memory."""

from __future__ import annotations

import torch

_ROWS = 16  # a smaller batch isn't cut by length: its parts would keep the machine less busy
_SAVING = 0.1  # of the padded tokens, else it isn't worth two passes

Batch = dict[str, torch.Tensor]


def parts_of(batch: Batch, most: int | None) -> list[Batch]:
    """A batch cut by length, and its parts into ones of at most so many rows; None: of any number.

    Losses and gradients that are sums over rows add up to those of the whole batch, up to rounding.
    """
    whole = by_length(batch) if "attention_mask" in batch else [batch]
    return whole if most is None else [chunk for part in whole for chunk in chunks(part, most)]


def rows_of(part: Batch) -> int:
    """How many rows a part of a batch has; what says something of all its rows is a tensor without dimensions."""
    return next(len(tensor) for tensor in part.values() if tensor.ndim)


def by_length(batch: Batch) -> list[Batch]:
    """The shorter and the longer half of a right-padded batch, each as narrow as it can be; or the batch itself.

    `attention_mask` is rows x width; tensors of that width are cut with it, but for those of a decoder (decoder_...),
    whose width is their own. Losses and gradients that are sums over rows add up to those of the whole batch, up to
    rounding.
    """
    mask = batch["attention_mask"]
    rows, width = mask.shape
    if rows < _ROWS:
        return [batch]
    lengths = mask.sum(1)
    shorter, longer = torch.argsort(lengths, stable=True).tensor_split(2)
    narrow = int(lengths[shorter].max())
    if len(shorter) * (width - narrow) < _SAVING * rows * width:
        return [batch]
    return [
        {name: _cut(name, tensor[part], width, end) for name, tensor in batch.items()}
        for part, end in ((shorter, narrow), (longer, width))
    ]


def chunks(part: Batch, most: int, least: int = 1) -> list[Batch]:
    """A part in chunks of at most `most` rows, as even as can be, the shorter rows first; each as narrow as it can be.

    `least`: how many chunks there are at least, where there are as many rows.
    """
    rows = rows_of(part)
    count = min(rows, max(least, -(-rows // most)))
    if count == 1:
        return [part]
    mask = part.get("attention_mask")
    lengths = torch.zeros(rows) if mask is None else mask.sum(1)
    places = torch.argsort(lengths, stable=True).tensor_split(count)
    width = 0 if mask is None else mask.shape[1]
    ends = [width if mask is None else int(lengths[place].max()) for place in places]
    return [
        {name: _cut(name, tensor[place], width, end) if tensor.ndim else tensor for name, tensor in part.items()}
        for place, end in zip(places, ends, strict=True)
    ]


def _cut(name: str, tensor: torch.Tensor, width: int, end: int) -> torch.Tensor:
    own = name.startswith("decoder_") or tensor.ndim < 2 or tensor.shape[1] != width
    return tensor if own else tensor[:, :end]
