"""What two folders must have in common for their points to be joined, beside shapes."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig

from raymc.specs.errors import RaymcError, first_line
from raymc.tasks.backbones import UNREADABLE
from raymc.tasks.folders import adapter_config

# Entries of a config that change no function of the weights in evaluation.
_IDLE = re.compile(
    r".*dropout.*|.*pdrop|layerdrop|_name_or_path|.*version|dtype|torch_dtype|initializer.*|problem_type"
    r"|id2label|label2id|architectures|use_cache|gradient_checkpointing|_.*|return_dict|output_.*"
)


def architecture(config: Any) -> dict[str, Any]:
    """What of a model's config decides the function that its weights compute: equal for ends that can be joined."""
    entries = json.loads(config.to_json_string(use_diff=False))
    return {name: value for name, value in entries.items() if not _IDLE.fullmatch(name) and value is not None}


_PARSED: dict[bytes, dict[str, Any]] = {}  # by the file's content: most minima of a sweep have the same


def architecture_of(folder: Path) -> dict[str, Any]:
    """The architecture of a saved model. Raises RaymcError where its config can't be read."""
    try:
        content = (folder / "config.json").read_bytes()
        if content not in _PARSED:
            while len(_PARSED) >= 64:
                _PARSED.pop(next(iter(_PARSED)), None)
            _PARSED[content] = architecture(AutoConfig.from_pretrained(folder))
        return dict(_PARSED[content])
    except UNREADABLE as error:
        raise RaymcError(f"{folder} is no checkpoint that can be read: {first_line(error)}") from error


def compare_architectures(ours: dict[str, Any], folder: Path, theirs: dict[str, Any]) -> None:
    """Raises RaymcError where the architecture of a folder is another than that of the other end."""
    for name in sorted(ours.keys() | theirs.keys()):
        if ours.get(name) != theirs.get(name):
            raise RaymcError(
                f"architectures differ: {name} is {theirs.get(name)!r} in {folder.name}, "
                f"{ours.get(name)!r} in the other end"
            )


# Entries of an adapter's config that change no function of its tensors in evaluation, or that tensors or labels tell.
_UNFRAMED = re.compile(
    r".*dropout.*|.*init.*|base_model_name_or_path|revision|auto_mapping|inference_mode|task_type|.*version|.*_path"
    r"|modules_to_save|target_modules|exclude_modules|total_step|tinit|tfinal|deltaT|beta.|orth_reg_weight|target_r"
)


def frame(folder: Path) -> dict[str, Any]:
    """What of an adapter's config decides how its tensors act (scales, say): equal for ends joined in factors."""
    try:
        config = adapter_config(folder)
    except (OSError, ValueError) as error:
        raise RaymcError(f"{folder} is no checkpoint that can be read: {first_line(error)}") from error
    return {name: value for name, value in config.items() if not _UNFRAMED.fullmatch(name) and value is not None}


def compare_frames(ours: dict[str, Any], folder: Path) -> None:
    """Raises RaymcError where a folder's frame is another than the other end's.

    Factors are a point only together with how they act on the weights that they are added to.
    """
    theirs = frame(folder)
    for name in sorted(ours.keys() | theirs.keys()):
        if ours.get(name) != theirs.get(name):
            raise RaymcError(
                f"{folder.name} has another {name} than the other end ({theirs.get(name)}, not "
                f"{ours.get(name)}), so their factors can't be interpolated; "
                "use connectivity.space: delta_w"
            )


def compare_bases(ours: Mapping[str, torch.Tensor], folder: Path, model: Any) -> None:
    """Raises RaymcError where a folder's model has another base than the other end: factors are no point without it."""
    others = base_of(model)
    if ours.keys() != others.keys() or not all(torch.equal(t, others[name].to(t)) for name, t in ours.items()):
        raise RaymcError(
            f"{folder.name} has another base than the other end, so their factors can't be interpolated; "
            "use connectivity.space: delta_w"
        )


def base_of(model: Any) -> dict[str, torch.Tensor]:
    """What of an adapter's model doesn't train; of a module that trains whole, peft keeps the original beside it."""
    frozen = {name: p for name, p in model.named_parameters() if not p.requires_grad}
    return {name: p for name, p in (frozen | dict(model.named_buffers())).items() if ".original_module." not in name}
