"""What a checkpoint that exists already is: its files, its backbone, its labels."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from raymc.specs.content import backbone_content, backbone_fault, backbone_folder, hub_commit, is_folder, read_config
from raymc.specs.errors import RaymcError
from raymc.specs.model import ModelSpec


def existing_peft(model: ModelSpec) -> str | None:
    """The peft type of an existing minimum's folder, upper case; None for a whole model. Raises RaymcError."""
    config = _adapter(model)
    return None if config is None else str(config.get("peft_type", "")).upper()


def existing_content(model: ModelSpec, base: str | None) -> dict[str, Any]:
    """What stands for a minimum that exists already in a key: its files, and those of an adapter's backbone.

    `base`: the backbone, where it isn't the one that adapter_config.json names. Raises RaymcError.
    """
    files = backbone_content(model, adapter=True)
    found, revision = adapter_base(_adapter(model) or {}, base)
    if found and base is None and Path(found).is_absolute() and not is_folder(found):
        found = None  # it can't be opened, which is said where it is
    return {
        "existing": files,
        "base": backbone_content(ModelSpec(backbone=found, revision=revision)) if found else None,
    }


def adapter_base(config: Mapping[str, Any], base: str | None) -> tuple[str | None, str | None]:
    """The backbone that an adapter stands on, and its hub revision; (None, None) where there is none.

    `base`, where it is given; else what `config`, the entries of adapter_config.json, names. A folder's path is made
    absolute.
    """
    revision = None
    if base is None:
        base, revision = config.get("base_model_name_or_path"), config.get("revision")
    if not isinstance(base, str) or not base:
        return None, None
    return (str(Path(base).resolve()), None) if is_folder(base) else (base, revision)


def existing_fault(model: ModelSpec, base: str | None) -> tuple[str, str] | None:
    """What else is wrong with a checkpoint in which `backbone_fault` found nothing: (uri or base, why). None: nothing.

    Nothing is fetched from the hub.
    """
    folder = backbone_folder(model)
    if folder is None:
        return None
    config = read_config(folder, "adapter_config.json")
    if config is None:
        return None if base is None else ("base", f"a base is for a PEFT folder, and {folder} holds a whole model")
    if not isinstance(config.get("peft_type"), str):
        return "uri", f"{folder} is no checkpoint: its adapter_config.json names no peft_type"
    if base is not None:
        fault = backbone_fault(ModelSpec(backbone=base))
        return None if fault is None else ("base", fault)
    named = config.get("base_model_name_or_path")
    if not isinstance(named, str) or not named:
        return "uri", f"{folder / 'adapter_config.json'} names no backbone; give its base"
    if Path(named).is_absolute() and not is_folder(named):
        return "uri", f"its backbone {named} isn't there; give its base"
    return None


def existing_labels(model: ModelSpec) -> tuple[str, ...] | None:
    """The labels that an existing classifier's local folder names; None where it is on the hub or names none."""
    folder = backbone_folder(model)
    if folder is None:
        return None
    made = read_config(folder, "minimum.json") or {}
    if isinstance(made.get("labels"), list) and made["labels"]:
        return tuple(map(str, made["labels"]))
    names = (read_config(folder) or {}).get("id2label")
    if not isinstance(names, dict) or not all(str(index).isdigit() for index in names):
        return None
    if any(re.fullmatch(r"LABEL_\d+", str(name)) for name in names.values()):
        return None
    return tuple(str(names[index]) for index in sorted(names, key=int))


def _adapter(model: ModelSpec) -> dict[str, Any] | None:
    """The entries of a PEFT folder's adapter_config.json; None for a whole model. Raises RaymcError."""
    folder = backbone_folder(model)
    if folder is not None:
        return read_config(folder, "adapter_config.json")
    if not isinstance(model.backbone, str):
        raise RaymcError("model.backbone: a backbone to pre-train is no finished checkpoint")
    return _hub_adapter(model.backbone, hub_commit(model.backbone, model.revision, "model"))


@functools.cache
def _hub_adapter(repo: str, commit: str) -> dict[str, Any] | None:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError

    unreadable: Any = (*HfHubHTTPError.__bases__, ValueError)
    try:
        path = hf_hub_download(repo, "adapter_config.json", revision=commit)
    except EntryNotFoundError:
        return None
    except unreadable as error:
        raise RaymcError(f"the hub's model {repo!r} can't be read: {error}") from error
    return json.loads(Path(path).read_bytes())
