"""Tuning methods: which parameters train, and so make a minimum's point in parameter space.

A method is one entry of METHODS: how it changes a loaded classifier before training. Saving and reading back go
through the formats that transformers and peft define, so nothing else here depends on the method.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from raymc.specs.errors import TrainingFault
from raymc.specs.tuning import FullTuning, LoraTuning
from raymc.tasks.backbones import derived_seed


def full(model: Any, spec: FullTuning, seed: int) -> Any:
    """Everything trains."""
    return model


def lora(model: Any, spec: LoraTuning, seed: int) -> Any:
    """Low-rank factors on the target modules, from `seed`; the head trains whole. Raises TrainingFault."""
    import peft

    config = peft.LoraConfig(
        task_type=peft.TaskType.SEQ_CLS,
        r=spec.rank,
        lora_alpha=spec.alpha,  # type: ignore[arg-type]  # peft divides it by r: any number will do
        lora_dropout=spec.dropout,
        target_modules=list(spec.targets) or None,
        use_rslora=spec.rslora,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derived_seed("lora", seed))
        try:
            return peft.get_peft_model(model, config)
        except ValueError as error:
            raise TrainingFault(f"tuning.targets: {str(error).splitlines()[0]}") from error


METHODS: dict[str, Callable[[Any, Any, int], Any]] = {"full": full, "lora": lora}


def apply(model: Any, spec: FullTuning | LoraTuning, seed: int) -> Any:
    """The model made ready to train by the spec's method; its new tensors are drawn from `seed`."""
    return METHODS[spec.method](model, spec, seed)
