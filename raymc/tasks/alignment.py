"""One minimum put into the order of another's attention heads and neurons: the same function, nearer weights."""

from __future__ import annotations

from typing import Any

import torch
from torch.func import functional_call

from raymc.landscape.matching import aligned
from raymc.specs.errors import RaymcError
from raymc.tasks.backbones import position_limit
from raymc.tasks.points import PointModel
from raymc.tasks.symmetries import HEADS, NEURONS, symmetries

_TOLERANCE = 1e-4  # of the largest output: sums in another order round otherwise, by some 1e-6
_WIDTH = 12  # tokens a row of the batch that outputs are compared on


def align(
    model: PointModel, a: torch.Tensor, b: torch.Tensor, what: tuple[str, ...] = (HEADS, NEURONS)
) -> torch.Tensor:
    """A new vector: b with its attention heads and feed-forward neurons in the order that lies nearest to a.

    a and b: flat fp32 CPU vectors of the model's layout, in its space `weights` or `delta_w`. Weight matching
    (Ainsworth et al. 2022), exact, as the residual stream stays; the same inputs give the same vector, equal ones the
    same order. The model's own weights are left alone. Raises RaymcError for other spaces and architectures, weights
    that aren't finite, and where the outputs of b and of the result differ on a batch of random tokens.
    """
    if not what or set(what) - {HEADS, NEURONS}:
        raise ValueError(f"what to align is {HEADS}, {NEURONS} or both, not {what}")
    if model.space == "factors":
        raise RaymcError(
            "minima can't be aligned in the space of their factors, which act on weights that stay where they are; "
            "use connectivity.space: delta_w"
        )
    shapes = dict(zip(model.names, model.shapes, strict=True))
    blocks = [block for block in symmetries(model.model.config, shapes) if block.what in what]
    if not (a.isfinite().all() and b.isfinite().all()):
        raise RaymcError("minima with weights that aren't finite can't be aligned")
    moved = b.clone()
    ours, theirs, result = model.views(a), model.views(b), model.views(moved)
    for block in blocks:
        for name, tensor in aligned(block, ours, theirs).items():
            result[name].copy_(tensor)
    if not torch.equal(moved, b):
        _require_same_outputs(model, b, moved)
    return moved


def _require_same_outputs(model: PointModel, b: torch.Tensor, moved: torch.Tensor) -> None:
    inputs = {name: tensor.to(model.flat.device) for name, tensor in _batch(model.model).items()}
    with torch.no_grad():  # fp32 weights put in for the model's own, whatever precision it computes in
        before, after = (
            functional_call(model.model, model.views(vector.to(model.flat.device)), kwargs=inputs).logits.double()
            for vector in (b, moved)
        )
    difference = ((before - after).abs().max() / before.abs().max().clamp_min(1e-30)).item()
    if not difference <= _TOLERANCE:
        raise RaymcError(
            f"aligning a minimum of type {model.model.config.model_type} changes its outputs by {difference:.1e} of "
            "their size: this variant's heads or neurons aren't interchangeable in the way that is known; "
            "leave out the alignment"
        )


def _batch(model: Any) -> dict[str, torch.Tensor]:
    """Three rows of random tokens, the last one padded; an encoder-decoder's end with its end-of-text token."""
    config = model.config
    known = model.get_input_embeddings().num_embeddings
    pad = config.pad_token_id if config.pad_token_id in range(known) else 0  # -1 in some
    ends = config.eos_token_id
    end = ends[0] if isinstance(ends, list | tuple) else ends
    width = min(_WIDTH, position_limit(model))
    usable = [i for i in range(known) if i not in (pad, end)]
    drawn = torch.randint(len(usable), (3, width), generator=torch.Generator().manual_seed(0))
    ids, mask = torch.tensor(usable)[drawn], torch.ones(3, width, dtype=torch.long)
    short = (width + 1) // 2
    ids[2, short:], mask[2, short:] = pad, 0
    if not getattr(config, "is_encoder_decoder", False):
        return {"input_ids": ids, "attention_mask": mask}
    if end is not None:  # whose state classifiers of this kind read
        ids[:2, -1] = ids[2, short - 1] = end
    start = getattr(config, "decoder_start_token_id", None)
    first = torch.full((3, 1), pad if start is None else start)
    return {"input_ids": ids, "attention_mask": mask, "decoder_input_ids": torch.cat([first, ids[:, :-1]], dim=1)}
