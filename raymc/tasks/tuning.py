"""Tuning methods: which parameters train, and so make a minimum's point in parameter space.

A method is one entry of METHODS: how it changes a loaded classifier before training. Saving and reading back go
through the formats that transformers and peft define, so nothing else here depends on the method.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch

from raymc.specs.errors import TrainingFault
from raymc.specs.tuning import FullTuning, LoraTuning
from raymc.tasks.backbones import HEADS, derived_seed, line_of


def full(model: Any, spec: FullTuning, seed: int) -> Any:
    """Everything trains."""
    return model


def lora(model: Any, spec: LoraTuning, seed: int) -> Any:
    """Low-rank factors on the target modules, from `seed`; the head and other new modules train whole, and are saved.

    Raises TrainingFault where the model lacks a target.
    """
    import peft

    heads = [name for name, _ in model.named_children() if name in HEADS and name not in ("classifier", "score")]
    config = peft.LoraConfig(
        task_type=peft.TaskType.SEQ_CLS,
        r=spec.rank,
        lora_alpha=spec.alpha,  # type: ignore[arg-type]  # peft divides it by r: any number will do
        lora_dropout=spec.dropout,
        target_modules=list(spec.targets) or None,
        use_rslora=spec.rslora,
        modules_to_save=[*heads, *model.new_modules],  # peft adds classifier and score itself
    )
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # peft's own, of what transformers deprecates
        torch.manual_seed(derived_seed("lora", seed))
        try:
            return peft.get_peft_model(model, config)
        except ValueError as error:
            raise TrainingFault(f"tuning.targets: {line_of(error)}") from error


METHODS: dict[str, Callable[[Any, Any, int], Any]] = {"full": full, "lora": lora}


def apply(model: Any, spec: FullTuning | LoraTuning, seed: int) -> Any:
    """The model made ready to train by the spec's method; its new tensors are drawn from `seed`."""
    return METHODS[spec.method](model, spec, seed)
