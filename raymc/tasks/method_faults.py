"""What is wrong with a method's settings and a model's head, as a look at the backbone's tensors or at peft tells."""

from __future__ import annotations

import re
from collections.abc import Iterator

from safetensors import SafetensorError, safe_open

from raymc.specs.content import backbone_folder
from raymc.specs.errors import RaymcError
from raymc.specs.model import ModelSpec
from raymc.specs.trial import TrialSpec
from raymc.specs.tuning import PeftTuning

_HEADS = ("classifier", "score", "classification_head", "sequence_summary", "logits_proj", "pooler_head")
# Modules that a checkpoint may lack: a head, what leads to it, and one that shares the embeddings' table.
_NEW = (*_HEADS, "pooler", "pre_classifier", "dense", "out_proj", "lm_head")
_SHOWN = 12


def setting_faults(trial: TrialSpec) -> Iterator[tuple[str, str]]:
    """(dotted field of the trial, what is wrong). Only `method: peft` imports peft, and with it torch."""
    names, model = tensor_names(trial.model), trial.model
    keeps = model.kind == "classifier" and model.head == "backbone"
    if names and keeps and not any(name.split(".")[0] in _HEADS for name in names):
        said = f"{backbone_folder(model)} carries no classification head"
        exists = trial.tuning.method == "existing"
        yield ("model.backbone", said) if exists else ("model.head", f"{said}; use head: new")
    if isinstance(trial.tuning, PeftTuning):
        from raymc.tasks.adapters import peft_config

        try:
            peft_config(trial, [])
        except RaymcError as error:
            field, _, message = str(error).partition(": ")
            yield field, message
    modules = {name.rpartition(".")[0] for name in names}
    for number, target in enumerate(getattr(trial.tuning, "targets", ())):
        if modules and target not in _NEW and not any(f".{name}".endswith(f".{target}") for name in modules):
            ends = {name.rpartition(".")[2] for name in modules}
            known = sorted(end for end in ends if not re.search(r"norm|embed|^\d*$", end, re.IGNORECASE))
            more = ", ..." if len(known) > _SHOWN else ""
            yield (
                f"tuning.targets.{number}",
                f"the backbone has no module called {target} (it has {', '.join(known[:_SHOWN])}{more})",
            )


def tensor_names(model: ModelSpec) -> frozenset[str]:
    """Names of a local checkpoint's tensors, from its files' headers; none of an adapter's, or where there are none."""
    try:
        folder = backbone_folder(model)
        if folder is None or (folder / "adapter_config.json").is_file():
            return frozenset()
        names: set[str] = set()
        for path in folder.glob("*.safetensors"):
            with safe_open(path, framework="np") as file:
                names.update(file.keys())
    except (RaymcError, OSError, SafetensorError):  # said where the checkpoint is opened
        return frozenset()
    return frozenset(names)
