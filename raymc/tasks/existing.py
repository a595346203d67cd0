"""Minima that exist already: opened from their folder or the hub, to be stored as they are."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError
from safetensors import SafetensorError

from raymc.specs.content import backbone_folder, hub_commit
from raymc.specs.errors import RaymcError, first_line
from raymc.specs.methods import UNFIT_PEFT
from raymc.specs.model import ModelSpec
from raymc.specs.taken import existing_peft
from raymc.specs.trial import TrialSpec
from raymc.store import layout
from raymc.store.store import Store
from raymc.tasks import folders, houlsby
from raymc.tasks.adapters import plain_name
from raymc.tasks.backbones import config_labels, load_model, load_tokenizer, source, tokenizer_digest

_CONFIGS = ("config.json", houlsby.CONFIG, layout.PROVENANCE)
_SAFE = (*_CONFIGS, "tokenizer*", "vocab*", "merges.txt", "special_tokens_map.json", "added_tokens.json", "*.model")
_UNNAMED = re.compile(r"LABEL_\d+")


def open_existing(trial: TrialSpec, labels: tuple[str, ...], store: Store) -> tuple[Any, Any]:
    """The finished minimum that a trial's model.backbone is, in fp32 and evaluation mode, and its tokenizer.

    `labels`: those of a classifier's own head, in its order (`existing_labels`). Raises RaymcError.
    """
    folder = _folder(trial, (*_SAFE, houlsby.WEIGHTS))
    if folders.is_whole(folder):
        head = "backbone" if trial.model.kind == "classifier" else "new"
        whole = TrialSpec(model=trial.model.model_copy(update={"head": head}), task=trial.task, train=trial.train)
        model = load_model(whole, labels, store)
        place, commit = source(trial.model, store)
        return model.eval(), load_tokenizer(place, commit, trial.model.trust_remote_code)
    kind = existing_peft(trial.model) or ""
    if kind in UNFIT_PEFT:
        raise RaymcError(f"{trial.model.backbone}: {kind} doesn't fit: {UNFIT_PEFT[kind]}")
    _check_backbone(trial, folder)
    model = folders.reopen(folder, trial, labels, store).float()
    _check_new(folder, model)
    if tokenizer_digest(folder):
        return model, load_tokenizer(str(folder))
    base = _base(trial, folder)
    return model, load_tokenizer(*source(base, store), base.trust_remote_code)


def existing_labels(trial: TrialSpec) -> tuple[str, ...]:
    """Label names of an existing classifier, in the order of its logits.

    From config.json; of an adapter's folder, from raymc's provenance if it has one, else its backbone's config. Raises
    RaymcError where its labels have no names (LABEL_0, ...) that the task's could be matched by.
    """
    folder = _folder(trial, (*_CONFIGS, houlsby.WEIGHTS))
    if folders.is_whole(folder):
        labels = config_labels(folder)
    else:
        labels = _adapter_labels(trial, folder)
    known = {*(trial.task.labels or ()), *trial.task.rename.values()}
    if labels and all(map(_UNNAMED.fullmatch, labels)) and not set(labels) <= known:
        raise RaymcError(
            f"{trial.model.backbone}: its labels have no names ({', '.join(labels)}), so they can't be matched with "
            "the task's; name them in config.json's id2label, or rename the data's to them (task.rename)"
        )
    return labels


def _adapter_labels(trial: TrialSpec, folder: Path) -> tuple[str, ...]:
    count = _head_rows(folder)
    provenance = folder / layout.PROVENANCE
    if provenance.is_file():
        labels = tuple(json.loads(provenance.read_bytes()).get("labels", ()))
        if labels and count in (None, len(labels)):
            return labels
    base = _base(trial, folder)
    labels = config_labels(_folder(trial.model_copy(update={"model": base}), _CONFIGS))
    if count in (None, len(labels)):
        return labels
    return tuple(f"LABEL_{i}" for i in range(count or 0))


def _base(trial: TrialSpec, folder: Path) -> ModelSpec:
    try:
        return folders.base_trial(trial, folders.adapter_config(folder)).model
    except (OSError, ValueError) as error:
        raise RaymcError(f"{folder} is no checkpoint that can be read: {first_line(error)}") from error


def _head_rows(folder: Path) -> int | None:
    """How many labels an adapter's saved head has; None where it holds none."""
    try:
        rows = [shape[0] for name, shape in folders.saved_head(folder).items() if ".dense." not in name]
    except (OSError, SafetensorError) as error:
        raise RaymcError(f"{folder} is no checkpoint that can be read: {first_line(error)}") from error
    return rows[0] if rows else None


def _check_backbone(trial: TrialSpec, folder: Path) -> None:
    """Raises RaymcError where an adapter of raymc's own was tuned on weights that are nowhere in its base's folder."""
    provenance = folder / layout.PROVENANCE
    made = json.loads(provenance.read_bytes()) if provenance.is_file() else {}
    if made.get("trial", {}).get("model", {}).get("perturbation"):
        raise RaymcError(
            f"{trial.model.backbone}: it was tuned on a perturbed backbone, and its folder holds the adapter alone; "
            "train it in this sweep (model.perturbation)"
        )


def _check_new(folder: Path, model: Any) -> None:
    """Raises RaymcError where an adapter lacks a module that its backbone has no weights for either."""
    trained = {plain_name(name) for name, tensor in model.named_parameters() if tensor.requires_grad}
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    for module in inner.new_modules:
        if not any(name.startswith(f"{module}.") for name in trained):
            raise RaymcError(f"{folder} holds no {module}, and its backbone has no weights for it")


def _folder(trial: TrialSpec, patterns: tuple[str, ...]) -> Path:
    """Where a checkpoint's files lie: its folder, or the hub's cache with the files of those names."""
    model = trial.model
    if not isinstance(model.backbone, str):
        raise RaymcError("model.backbone: no existing minimum; give a Hugging Face or PEFT folder or hub id")
    folder = backbone_folder(model)
    if folder is not None:
        return folder
    unreadable: Any = (*HfHubHTTPError.__bases__, ValueError)
    try:
        commit = hub_commit(model.backbone, model.revision, "model")
        return Path(snapshot_download(model.backbone, revision=commit, allow_patterns=list(patterns)))
    except unreadable as error:
        raise RaymcError(f"the hub's model {model.backbone!r} can't be read: {first_line(error)}") from error
