"""A tuned model on disk: a whole Hugging Face folder, a PEFT folder, or ours for adapters that peft hasn't.

All are safetensors and JSON. A minimum's own folder tells which it is: that of an adapter has adapter_config.json.
"""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from raymc.specs.content import is_folder
from raymc.specs.errors import RaymcError, first_line
from raymc.specs.model import ModelSpec
from raymc.specs.taken import adapter_base
from raymc.specs.trial import TrialSpec
from raymc.specs.tuning import ExistingTuning, FullTuning
from raymc.store.store import Store
from raymc.tasks import adapters, houlsby
from raymc.tasks.backbones import CLASSES, HEADS, UNREADABLE, load_model


def is_whole(folder: Path) -> bool:
    """Whether a folder holds a whole model, and not what a method adds to one."""
    return not (folder / houlsby.CONFIG).is_file()


def save(model: Any, folder: Path, state: dict[str, torch.Tensor]) -> None:
    """Write a tuned model's folder. `state`: all its tensors by name, gathered from all workers."""
    import peft

    if isinstance(model, peft.PeftModel):
        adapters.save(model, folder, state)
    elif hasattr(model, "houlsby_config"):
        base = {"base_model_name_or_path": model.name_or_path, "revision": getattr(model.config, "_commit_hash", None)}
        houlsby.save(folder, state, {**base, **model.houlsby_config})
    else:
        model.save_pretrained(folder, state_dict=state)


def reopen(folder: Path, trial: TrialSpec, labels: tuple[str, ...], store: Store) -> Any:
    """A saved minimum as a model in evaluation mode; of an adapter's, the parameters that trained require gradients.

    `labels`: those of the folder's own head, in its order. Raises RaymcError where it can't be read.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            if is_whole(folder):
                return (
                    CLASSES[trial.model.kind]
                    .from_pretrained(
                        folder,
                        dtype=torch.float32,
                        use_safetensors=True,
                        trust_remote_code=trial.model.trust_remote_code,
                    )
                    .eval()
                )
            config = adapter_config(folder)
            standing = base_trial(trial, config)
            if trial.model.kind == "classifier" and standing is not trial and not saved_head(folder):
                standing = _with_own_head(standing)
            base = load_model(standing, labels, store)
            if config["peft_type"] == houlsby.PEFT_TYPE:
                return houlsby.load(base, folder, config).eval()
            return adapters.load(base, folder).eval()
        except (*UNREADABLE, TypeError) as error:
            raise RaymcError(f"{folder} is no checkpoint that can be read: {first_line(error)}") from error


def saved_head(folder: Path) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the classification head's tensors that an adapter's folder holds; {} where it holds none."""
    with safe_open(folder / houlsby.WEIGHTS, framework="pt") as file:
        names = [name for name in file.keys() if adapters.plain_name(name).split(".")[0] in HEADS]  # noqa: SIM118
        return {name: tuple(file.get_slice(name).get_shape()) for name in names}


def _with_own_head(trial: TrialSpec) -> TrialSpec:
    """A trial whose head is the backbone's: an adapter that holds none was trained under that."""
    model = trial.model.model_copy(update={"head": "backbone"})
    return TrialSpec(model=model, task=trial.task, tuning=trial.tuning, train=trial.train, seeds=trial.seeds)


def adapter_names(model: Any) -> dict[str, str]:
    """Of a reopened adapter: name in its file: name of its parameter. {}: its file holds other things too."""
    if hasattr(model, "houlsby_config"):
        return {name: name for name, parameter in model.named_parameters() if parameter.requires_grad}
    return adapters.file_names(model)


def adapter_config(folder: Path) -> dict[str, Any]:
    """The entries of a folder's adapter_config.json. Raises ValueError or OSError where they can't be read."""
    body = json.loads((folder / houlsby.CONFIG).read_bytes())
    if not isinstance(body, dict) or not isinstance(body.get("peft_type"), str):
        raise ValueError(f"{houlsby.CONFIG} names no peft_type")
    return body


def base_trial(trial: TrialSpec, config: dict[str, Any]) -> TrialSpec:
    """The trial whose backbone an adapter stands on: its own, or, of one that exists already, what its config names.

    Raises RaymcError where that names none.
    """
    if not isinstance(trial.tuning, ExistingTuning):
        return trial
    base, revision = adapter_base(config, trial.tuning.base)
    if base is None:
        raise RaymcError(f"{trial.model.backbone}: its {houlsby.CONFIG} names no backbone; give its base")
    if Path(base).is_absolute() and not is_folder(base):
        raise RaymcError(f"{trial.model.backbone}: its backbone {base} isn't there; give its base")
    model = trial.model
    return TrialSpec(
        model=ModelSpec(kind=model.kind, backbone=base, revision=revision, trust_remote_code=model.trust_remote_code),
        task=trial.task,
        tuning=FullTuning(method="full"),
        train=trial.train,
        seeds=trial.seeds,
    )
