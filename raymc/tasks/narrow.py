"""A model that computes in bfloat16, its logits in fp32."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from raymc.tasks.backbones import HEADS

Views = Mapping[str, torch.Tensor]


def narrow(model: Any, rounded: Views, exact: Views) -> None:
    """Round a model's weights to bfloat16, but for its head's, which takes what it is given in fp32.

    `rounded`: bfloat16 tensors that are to be its parameters and buffers from now on, by name; `exact`: fp32 ones of
    the same names, which the head's are to be. What neither names is rounded here, once. A head that is tied to the
    embedding gets its fp32 weights, the embedding the rounded ones. Buffers that aren't saved (angles of rotary
    embeddings, say) stay as they are, as where transformers loads a model in bfloat16.
    """
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    heads = head_modules(model)
    kept = [
        (module, own, parameter, exact.get(names[id(parameter)], parameter.detach().clone()))
        for module in dict.fromkeys(inner for head in heads for inner in head.modules())
        for own, parameter in module._parameters.items()
        if parameter is not None and parameter.is_floating_point()
    ]
    saved = set(model.state_dict())
    tensors = dict(model.named_parameters()) | {n: t for n, t in model.named_buffers() if n in saved}
    for name, tensor in tensors.items():
        if name in rounded:
            tensor.data = rounded[name]
        elif tensor.is_floating_point():
            tensor.data = tensor.detach().to(torch.bfloat16)
    for module, own, parameter, weight in kept:
        module._parameters[own] = nn.Parameter(weight, requires_grad=parameter.requires_grad)
    for head in heads:
        head.register_forward_pre_hook(_widen, with_kwargs=True)


def head_modules(model: Any) -> list[nn.Module]:
    """What makes a model's logits: a classification head, or what maps onto the vocabulary."""
    plain = model.get_base_model() if hasattr(model, "get_base_model") else model
    found = [module for name, module in plain.named_children() if name in HEADS]
    if not found and isinstance(output := plain.get_output_embeddings(), nn.Module):
        found = [output]
    return found


def _widen(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    return tuple(map(_wide, args)), {name: _wide(value) for name, value in kwargs.items()}


def _wide(value: Any) -> Any:
    return value.float() if isinstance(value, torch.Tensor) and value.is_floating_point() else value
