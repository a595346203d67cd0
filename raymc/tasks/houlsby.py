"""Bottleneck adapters of Houlsby et al. 2019 (arXiv 1902.00751), of which peft has none.

h + up(activation(down(h))) on the output of every attention and every feed-forward output projection, before the
residual is added. An adapter is a submodule `houlsby` of the projection that it follows, run by a forward hook, so the
backbone's own parameters keep their names.

A folder has PEFT's file names: adapter_config.json (peft_type HOULSBY) and adapter_model.safetensors (what trained, by
its name in the model). peft itself can't read it: its register_peft_method takes no types that its enum lacks.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, cast

import torch
from safetensors.torch import load_file, save_file

from raymc.specs.errors import RaymcError, TrainingFault
from raymc.specs.tuning import HoulsbyTuning
from raymc.tasks.backbones import derived_seed

PEFT_TYPE = "HOULSBY"
CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"

_BERT = ("attention.output.dense", "output.dense")
_T5 = ("SelfAttention.o", "EncDecAttention.o", "DenseReluDense.wo")
_LLAMA = ("self_attn.o_proj", "mlp.down_proj")
_BART = ("self_attn.out_proj", "encoder_attn.out_proj", "fc2")
# model_type: endings of the names of its attention and feed-forward output projections
TARGETS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("bert", "roberta", "xlm-roberta", "camembert", "electra", "deberta", "deberta-v2"), _BERT),
    "mpnet": ("attention.attn.o", "output.dense"),
    "albert": ("attention.dense", "ffn_output"),
    "distilbert": ("attention.out_lin", "ffn.lin2"),
    **dict.fromkeys(("t5", "mt5", "umt5"), _T5),
    **dict.fromkeys(("gpt2", "gpt_bigcode"), ("attn.c_proj", "mlp.c_proj")),
    "gpt_neo": ("attention.out_proj", "mlp.c_proj"),
    "gpt_neox": ("attention.dense", "mlp.dense_4h_to_h"),
    "opt": ("self_attn.out_proj", "fc2"),
    **dict.fromkeys(("bart", "mbart", "pegasus"), _BART),
    **dict.fromkeys(
        ("llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3_text", "phi3", "olmo", "olmo2", "smollm3"),
        _LLAMA,
    ),
}
_ACTIVATIONS = {
    "relu": torch.nn.functional.relu,
    "gelu": torch.nn.functional.gelu,
    "silu": torch.nn.functional.silu,
    "tanh": torch.tanh,
}


class Houlsby(torch.nn.Module):
    """h + up(activation(down(h))): (..., width) to the same shape."""

    def __init__(self, width: int, bottleneck: int, activation: str, bias: bool):
        super().__init__()
        self.down = _linear(width, bottleneck, bias)
        self.up = _linear(bottleneck, width, bias)
        self.activation = _ACTIVATIONS[activation]

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        return hidden + self.up(self.activation(self.down(hidden)))

    @torch.no_grad()
    def draw(self, std: float, up_std: float, seed: int) -> None:
        """Both matrices from N(0, std^2), biases 0. The draw of one matrix doesn't depend on the other's std."""
        for name, linear, scale in (("down", self.down, std), ("up", self.up, up_std)):
            stream = torch.Generator().manual_seed(derived_seed(name, seed))
            linear.weight.copy_(scale * torch.randn(linear.weight.shape, generator=stream))
            if linear.bias is not None:
                linear.bias.zero_()


def attach(model: Any, spec: HoulsbyTuning, seed: int, whole: Iterable[str]) -> Any:
    """Freeze the model but for new adapters, drawn from `seed`, and the modules named in `whole`.

    Raises TrainingFault where the architecture isn't known and no targets are given, or the model lacks a target.
    """
    kind = model.config.model_type
    targets = spec.targets or TARGETS.get(kind, ())
    if not targets:
        raise TrainingFault(
            f"tuning.targets: where adapters go in a {kind!r} isn't known; name the ends of its output projections"
        )
    modules = [name for name, _ in model.named_modules()]
    for target in spec.targets:  # of the architecture's own, some are in a decoder alone
        if not any(_ends(name, target) for name in modules):
            raise TrainingFault(f"tuning.targets: the model has no module named {target}")
    width = {"bottleneck": spec.bottleneck, "activation": spec.activation, "bias": spec.bias}
    for name, adapter in _insert(model, targets, **width):
        up_std = spec.init_std if spec.up_std is None else spec.up_std
        adapter.draw(spec.init_std, up_std, derived_seed("houlsby", seed, name))
    whole = sorted(whole)
    model.houlsby_config = {"peft_type": PEFT_TYPE, **width, "target_modules": list(targets), "modules_to_save": whole}
    _freeze(model, whole)
    return model


def save(folder: Path, state: dict[str, torch.Tensor], config: dict[str, Any]) -> None:
    """Write what trained, out of a model's whole state by name, and how to put it back."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: state[name].detach().clone().contiguous() for name in state if _trained(name, config)}
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
    (folder / CONFIG).write_text(json.dumps(config, indent=2, sort_keys=True))


@torch.no_grad()
def load(model: Any, folder: Path, config: dict[str, Any]) -> Any:
    """Put a saved folder's adapters, and the modules saved with them, on the backbone that they were trained on.

    Raises RaymcError where it holds other tensors than its config and the model say.
    """
    try:
        width = {name: config[name] for name in ("bottleneck", "activation", "bias")}
        targets, whole = tuple(config["target_modules"]), list(config["modules_to_save"])
    except (KeyError, TypeError) as error:
        raise RaymcError(f"{folder}: {CONFIG} lacks {error}") from error
    if width["activation"] not in _ACTIVATIONS:
        raise RaymcError(f"{folder}: activation {width['activation']!r} is none of {', '.join(_ACTIVATIONS)}")
    _insert(model, targets, **width)
    _freeze(model, whole)
    model.houlsby_config = {name: config[name] for name in (*width, "peft_type", "target_modules", "modules_to_save")}
    theirs = load_file(folder / WEIGHTS)
    ours = {name: tensor for name, tensor in model.state_dict(keep_vars=True).items() if _trained(name, config)}
    for name in sorted(ours.keys() | theirs.keys()):
        shapes = [tuple(part[name].shape) if name in part else "absent" for part in (ours, theirs)]
        if shapes[0] != shapes[1]:
            raise RaymcError(f"{folder}: {name} is {shapes[1]} where the model has {shapes[0]}")
        ours[name].copy_(theirs[name])
    return model


def _insert(model: Any, targets: Iterable[str], **width: Any) -> list[tuple[str, Houlsby]]:
    """An adapter on each module whose name ends with one of `targets`, in the order of the model's modules."""
    inserted: list[tuple[str, Houlsby]] = []
    for name, module in list(model.named_modules()):
        if not any(_ends(name, target) for target in targets):
            continue
        weight = getattr(module, "weight", None)
        if weight is None or weight.ndim != 2 or isinstance(module, torch.nn.Embedding):
            raise TrainingFault(f"tuning.targets: {name} is no linear projection")
        linear = isinstance(module, torch.nn.Linear)  # the other kind, transformers' Conv1D, has its weight transposed
        adapter = Houlsby(int(weight.shape[0 if linear else 1]), **width).to(weight.dtype)
        module.add_module("houlsby", adapter)
        module.register_forward_hook(_adapt)
        inserted.append((name, adapter))
    if not inserted:
        raise TrainingFault(f"tuning.targets: the model has no module named {', '.join(targets)}")
    return inserted


def _ends(name: str, target: str) -> bool:
    return name == target or name.endswith(f".{target}")


def _linear(inputs: int, outputs: int, bias: bool) -> torch.nn.Linear:
    """Empty: torch's own start would draw from its global random state."""
    return cast(torch.nn.Linear, torch.nn.utils.skip_init(torch.nn.Linear, inputs, outputs, bias=bias))


def _adapt(module: Any, args: Any, output: torch.Tensor) -> torch.Tensor:
    return module.houlsby(output)


def _freeze(model: Any, whole: Iterable[str]) -> None:
    config = {"modules_to_save": list(whole)}
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(_trained(name, config))


def _trained(name: str, config: dict[str, Any]) -> bool:
    return ".houlsby." in name or any(name.startswith(f"{module}.") for module in config["modules_to_save"])
