"""A batch in parts of like length: the same sum over rows with less padding to compute."""

from __future__ import annotations

import torch

_ROWS = 16  # a smaller batch isn't cut: its parts would keep the machine less busy
_SAVING = 0.1  # of the padded tokens, else it isn't worth two passes


def by_length(batch: dict[str, torch.Tensor]) -> list[dict[str, torch.Tensor]]:
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


def _cut(name: str, tensor: torch.Tensor, width: int, end: int) -> torch.Tensor:
    own = name.startswith("decoder_") or tensor.ndim < 2 or tensor.shape[1] != width
    return tensor if own else tensor[:, :end]
