"""What part of a transformer a tensor belongs to, told by its name: its block, its sublayer, its kind of module.

Names are those of transformers' models, with or without what peft puts around them. A block is where the first number
in a name stands (bert.encoder.layer.0, encoder.block.0, transformer.h.0, model.layers.0); T5's blocks number their
sublayers too (encoder.block.0.layer.1). Nothing else is known of an architecture.
"""

from __future__ import annotations

from collections.abc import Sequence

from raymc.specs.curves import Modules
from raymc.specs.errors import RaymcError
from raymc.tasks.adapters import plain_name
from raymc.tasks.points import is_head

_OUTPUTS = ("lm_head", "embed_out")  # of language models; a table that is tied to the embeddings has their name
_EMBEDDINGS = ("embed", "wte", "wpe", "shared", "prompt_encoder")
_CROSS = ("encdecattention", "encoder_attn", "crossattention")


def group_of(name: str, level: str) -> str:
    """The group of a tensor at a level: "block", "sublayer" or "tensor".

    Outside of the blocks all embeddings are one group, a classification head is one, and of the rest each module.
    Norms belong to the sublayer that they stand in or before. Raises ValueError for another level.
    """
    if level == "tensor":
        return name
    if level not in ("block", "sublayer"):
        raise ValueError(f"no level {level!r}")
    kind = kind_of(name)
    block, inner = _split(name)
    if kind == "head":
        return "head"
    if not block:
        return "embeddings" if kind == "embeddings" or "embed" in name else plain_name(name).rpartition(".")[0]
    if level == "block":
        return block
    if len(inner) > 1 and inner[0] == "layer" and inner[1].isdigit():
        return f"{block}.layer.{inner[1]}"
    return f"{block}.{_sublayer(inner)}"


def kind_of(name: str) -> str:
    """The kind of module that a tensor is of: one of raymc.specs.curves.Modules, or "other" (a pooler, say).

    Each tensor has one kind: those of norms are not of the attention or feed-forward sublayer that they stand in.
    Inside a block, what is neither norm nor attention is feed-forward. The output layer of a language model is its
    head, unless it is tied to the embeddings.
    """
    parts = plain_name(name).lower().split(".")
    if is_head(name) or parts[0] in _OUTPUTS:
        return "head"
    block, inner = _split(name)
    if any("norm" in part or part.startswith("ln_") for part in parts):
        return "norms"
    if block:
        return "attention" if _is_attention(inner) else "feedforward"
    return "embeddings" if any(part.startswith(_EMBEDDINGS) or "embed" in part for part in parts) else "other"


def moves(names: Sequence[str], modules: tuple[Modules, ...], layers: tuple[int, ...]) -> list[bool]:
    """Which tensors move on a path that moves these kinds of modules in these blocks; () stands for all.

    Where both are given, both must hold. Blocks of the same number (an encoder's and a decoder's) are taken together.
    Raises RaymcError where there is no block of a number, or nothing is left to move.
    """
    numbers = [_number(name) for name in names]
    there = sorted({number for number in numbers if number is not None})
    for layer in layers:
        if layer not in there:
            known = f"there are {', '.join(map(str, there))}" if there else "none is interpolated"
            raise RaymcError(f"curve.layers: no block {layer} ({known})")
    kinds = [kind_of(name) for name in names]
    found = [
        (not modules or kind in modules) and (not layers or number in layers)
        for kind, number in zip(kinds, numbers, strict=True)
    ]
    if not any(found):
        where = f" in block {', '.join(map(str, layers))}" if layers else ""
        present = sorted({k for k, number in zip(kinds, numbers, strict=True) if not layers or number in layers})
        raise RaymcError(
            f"curve.moves: no interpolated tensor is of {', '.join(modules)}{where} (there are {', '.join(present)})"
        )
    return found


def _split(name: str) -> tuple[str, list[str]]:
    """The block that a tensor is in, "" for none, and the parts of its name after that."""
    parts = plain_name(name).split(".")
    if is_head(name):
        return "", parts
    for place, part in enumerate(parts[:-1]):
        if part.isdigit() and place:
            return ".".join(parts[: place + 1]), parts[place + 1 :]
    return "", parts


def _number(name: str) -> int | None:
    block, _ = _split(name)
    return int(block.rpartition(".")[2]) if block else None


def _is_attention(inner: list[str]) -> bool:
    return any("attn" in part or "attention" in part for part in (one.lower() for one in inner))


def _sublayer(inner: list[str]) -> str:
    lower = [part.lower() for part in inner]
    if any(part.startswith(_CROSS) for part in lower):
        return "cross_attention"
    if "post_attention_layernorm" in lower:  # Llama's, which stands before the feed-forward sublayer
        return "feedforward"
    before = ("ln_1", "input_layernorm", "sa_layer_norm")  # GPT-2's, Llama's, DistilBERT's
    return "attention" if _is_attention(inner) or any(part in before for part in lower) else "feedforward"
