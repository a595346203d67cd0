"""What a backbone or a dataset is, by content: the part of a key that a path or a name stands for."""

from __future__ import annotations

import functools
import importlib.util
import json
import os
import re
from pathlib import Path
from typing import Any

from raymc.specs.errors import RaymcError, first_line
from raymc.specs.keys import BACKBONE_VERSION, file_digest, key_of
from raymc.specs.model import GrammarBackbone, ModelSpec, Pretrained
from raymc.specs.task import GRAMMAR_POSITIONS, GRAMMAR_VERSION, Dataset, GrammarDataset, HubDataset, LocalDataset
from raymc.specs.text import HubText, TextBackbone, TextFiles, TrainedTokenizer

FORMATS = (".jsonl", ".csv", ".tsv", ".parquet")
_SPLIT_STEMS = {"dev": "validation", "valid": "validation"}
_MODEL_FILES = re.compile(
    r"config\.json|adapter_config\.json|tokenizer.*|vocab.*|merges\.txt|special_tokens_map\.json|added_tokens\.json|.*\.model|.*\.safetensors"
    r"|.*\.safetensors\.index\.json"
)


def is_folder(path: str | Path) -> bool:
    """Whether a folder is there; False too for names that no file system takes (Path.is_dir raises)."""
    return os.path.isdir(path)  # noqa: PTH112


def backbone_key(backbone: Pretrained) -> str:
    """Key of a backbone that raymc pre-trains itself. Raises RaymcError where its text can't be found."""
    content = backbone.model_dump(mode="json", exclude_defaults=True)
    if isinstance(backbone, GrammarBackbone):
        return key_of({"kind": "backbone", "version": BACKBONE_VERSION, "grammar": GRAMMAR_VERSION, **content})
    content["text"] = text_content(backbone)
    if backbone.start is None and not isinstance(backbone.tokenizer, str):  # left out is as the default written out
        given = backbone.tokenizer or TrainedTokenizer()
        content["tokenizer"] = given.model_dump(mode="json", exclude_defaults=True)
    for name in ("tokenizer", "start"):
        given = getattr(backbone, name)
        if isinstance(given, str):
            content[name] = backbone_content(ModelSpec(backbone=given), weights=name == "start")
    if backbone.snapshot == backbone.steps:  # a snapshot at the end is the end
        content.pop("snapshot")
    return key_of({"kind": "backbone", "version": BACKBONE_VERSION, **content})


def backbone_trajectory(backbone: Pretrained) -> str:
    """Key of the pre-training run that passes through a backbone: the same for all snapshots of it."""
    if isinstance(backbone, TextBackbone) and backbone.snapshot is not None:
        return backbone_key(backbone.model_copy(update={"snapshot": None}))
    return backbone_key(backbone)


def text_files(text: TextFiles) -> dict[str, Path]:
    """train, and validation where there is one, to file. Raises RaymcError where the folder or a file is missing."""
    root = Path(text.path)
    files: dict[str, Path] = {}
    if text.splits:
        files = {split: root / file for split, file in text.splits.items()}
    elif is_folder(root):
        for path in sorted(root.glob("*.txt")):
            split = _SPLIT_STEMS.get(path.stem, path.stem)
            if split in files:
                raise RaymcError(f"{root} holds two files for split {split!r}: {files[split].name}, {path.name}")
            if split in ("train", "validation"):
                files[split] = path
    else:
        files = {"train": root}
    if "train" not in files:
        raise RaymcError("text.splits names no train file" if text.splits else f"{root} holds no train.txt")
    for path in files.values():
        if not os.path.isfile(path):  # noqa: PTH113 - Path.is_file raises for names that are too long
            raise RaymcError(f"no file or folder {path}")
    return files


def text_content(backbone: TextBackbone) -> Any:
    """What stands for a pre-training text in a key."""
    if isinstance(backbone.text, HubText):
        text = backbone.text
        commit = hub_commit(text.hub, text.revision, "dataset")
        return {"hub": text.hub, "subset": text.subset, "commit": commit, "column": text.column}
    return {split: file_digest(path) for split, path in text_files(backbone.text).items()}


def backbone_folder(model: ModelSpec) -> Path | None:
    """The local folder of a backbone; None for one that is built in or on the hub. Raises RaymcError."""
    name = model.backbone
    if not isinstance(name, str):
        return None
    if name.startswith("package:"):
        package, _, inner = name.removeprefix("package:").partition("/")
        try:
            found = importlib.util.find_spec(package)
        except (ImportError, ValueError):  # no such parent package; no name at all
            found = None
        if found is None or not found.submodule_search_locations:
            raise RaymcError(
                f"the Python package {package!r} is not installed: pip install --no-deps {package.replace('_', '-')}"
            )
        return Path(next(iter(found.submodule_search_locations))) / inner
    return Path(name) if Path(name).is_absolute() else None


def backbone_fault(model: ModelSpec, adapter: bool = False) -> str | None:
    """What is wrong with a backbone as far as a look at its folder tells; None where nothing is.

    With `adapter`, a PEFT folder will do.
    """
    try:
        folder = backbone_folder(model)
    except RaymcError as error:
        return str(error)
    if folder is None:
        name = model.backbone
        if isinstance(name, str) and not re.fullmatch(r"\w[\w.-]*(/\w[\w.-]*)?", name):
            return f"{name!r} is neither a folder that exists nor a hub id (owner/name)"
        return None
    if not is_folder(folder):
        return f"no folder {folder}"
    name = "adapter_config.json" if adapter and (folder / "adapter_config.json").is_file() else "config.json"
    if not (folder / name).is_file():
        return f"{folder} is no checkpoint: it has no config.json"
    if read_config(folder, name) is None:
        return f"{folder} is no checkpoint: its {name} is no JSON mapping"
    if not any(folder.glob("*.safetensors")):
        return f"{folder} is no checkpoint that can be read safely: it has no *.safetensors (pickles are not loaded)"
    return None


def positions(model: ModelSpec) -> int | None:
    """How many tokens a backbone can read; None where its config is on the hub or sets no limit."""
    if isinstance(model.backbone, TextBackbone):
        return _text_positions(model.backbone)
    if isinstance(model.backbone, GrammarBackbone):
        return GRAMMAR_POSITIONS
    folder = backbone_folder(model) if backbone_fault(model) is None else None
    if folder is None:
        return None
    config = read_config(folder) or {}
    limit = config.get("max_position_embeddings") or config.get("n_positions")
    if not isinstance(limit, int):
        return None
    padding = config.get("pad_token_id")  # the RoBERTa kinds count positions from the padding id onwards
    return limit - (1 if padding is None else padding) - 1 if "roberta" in str(config.get("model_type")) else limit


def _text_positions(backbone: TextBackbone) -> int | None:
    """As its architecture says, else what it was pre-trained on; None for positions that are relative (T5's)."""
    if backbone.start is not None:
        return positions(ModelSpec(backbone=backbone.start))
    fields = backbone.architecture
    kind = str(fields["model_type"])
    if "t5" in kind.lower():
        return None
    given = next((fields[name] for name in ("max_position_embeddings", "n_positions") if name in fields), None)
    if not isinstance(given, int):
        return backbone.max_length
    # The RoBERTa kinds count positions from the padding id onwards: 0 of a trained tokenizer, 1 of RoBERTa's own.
    return max(backbone.max_length, given - 2) if "roberta" in kind else given


def read_config(folder: Path, name: str = "config.json") -> dict[str, Any] | None:
    """A JSON mapping in a folder; None where there is none that can be read."""
    try:
        config = json.loads((folder / name).read_bytes())
    except (OSError, ValueError):
        return None
    return config if isinstance(config, dict) else None


def backbone_content(model: ModelSpec, weights: bool = True, adapter: bool = False) -> Any:
    """What stands for a backbone in a key: its files' hashes, its hub commit, or its pre-training's key.

    Without `weights`, of a folder its tokenizer's files alone.
    """
    if isinstance(model.backbone, GrammarBackbone | TextBackbone):
        return {"pretrained": backbone_key(model.backbone)}
    folder = backbone_folder(model)
    if folder is None:
        return {"hub": model.backbone, "commit": hub_commit(model.backbone, model.revision, "model")}
    fault = backbone_fault(model, adapter) if weights else None
    if fault:
        raise RaymcError(f"model.backbone: {fault}")
    if not is_folder(folder):
        raise RaymcError(f"no folder {folder}")
    names = {"minimum.json"} if adapter else set()  # which may name a head's labels
    files = [path for path in sorted(folder.iterdir()) if path.is_file()]
    decisive = [path for path in files if path.name in names or _decides(path.name, model)]
    if not weights:
        decisive = [path for path in decisive if path.suffix != ".safetensors" and path.name != "config.json"]
    return {"files": {path.name: file_digest(path) for path in decisive}}


def _decides(name: str, model: ModelSpec) -> bool:
    return bool(_MODEL_FILES.fullmatch(name)) or (model.trust_remote_code and name.endswith(".py"))


def dataset_files(dataset: LocalDataset) -> dict[str, Path]:
    """Split name to file. Raises RaymcError where the folder or a named file is missing."""
    root = Path(dataset.path)
    if dataset.splits:
        files = {split: root / file for split, file in dataset.splits.items()}
    elif is_folder(root):
        files = {}
        for path in sorted(root.iterdir()):
            if path.suffix in FORMATS and path.is_file():
                split = _SPLIT_STEMS.get(path.stem, path.stem)
                if split in files:
                    raise RaymcError(f"{root} holds two files for split {split!r}: {files[split].name}, {path.name}")
                files[split] = path
        if not files:
            raise RaymcError(f"{root} holds no data file ({', '.join('SPLIT' + suffix for suffix in FORMATS)})")
    else:
        files = {"train": root}
    for path in files.values():
        if not os.path.isfile(path):  # noqa: PTH113 - Path.is_file raises for names that are too long
            raise RaymcError(f"no file or folder {path}")
        if path.suffix not in FORMATS:
            raise RaymcError(f"{path}: not one of {', '.join(FORMATS)}")
    return files


def dataset_splits(dataset: Dataset) -> list[str] | None:
    """Names of the splits; None where only the hub knows them. Raises RaymcError."""
    if isinstance(dataset, LocalDataset):
        return list(dataset_files(dataset))
    return ["train", "validation", "test"] if isinstance(dataset, GrammarDataset) else None


def dataset_content(dataset: Dataset, split: str) -> Any:
    """What stands for one split's rows in a key, so that a change of another split changes nothing."""
    if isinstance(dataset, LocalDataset):
        files = dataset_files(dataset)
        if split not in files:
            raise RaymcError(f"no split {split!r} in {dataset.path} (it has {', '.join(files)})")
        return {"sha256": file_digest(files[split]), "format": files[split].suffix}
    if isinstance(dataset, HubDataset):
        commit = hub_commit(dataset.hub, dataset.revision, "dataset")
        return {"hub": dataset.hub, "subset": dataset.subset, "commit": commit, "split": split}
    fields = {"domain", "seed", f"{split}_rows"} | ({"train_start", "label_noise"} if split == "train" else set())
    return {"grammar": GRAMMAR_VERSION, "split": split, **dataset.model_dump(mode="json", include=fields)}


@functools.cache
def hub_commit(repo: str, revision: str | None, kind: str) -> str:
    """The commit that a hub revision names: from the local cache, else from the hub. Raises RaymcError."""
    revision = revision or "main"
    if re.fullmatch(r"[0-9a-f]{40}", revision):
        return revision
    from huggingface_hub import constants, repo_info
    from huggingface_hub.errors import HfHubHTTPError

    unreadable: Any = (*HfHubHTTPError.__bases__, ValueError)  # httpx's HTTPError and OSError; ValueError: no such name
    cached = Path(constants.HF_HUB_CACHE) / f"{kind}s--{repo.replace('/', '--')}" / "refs" / revision
    if cached.is_file():
        return cached.read_text().strip()
    try:
        commit = repo_info(repo, revision=revision, repo_type=kind).sha
    except unreadable as error:
        reason = first_line(error)
        raise RaymcError(f"the hub's {kind} {repo!r} (revision {revision}) can't be read: {reason}") from error
    if commit is None:
        raise RaymcError(f"the hub names no commit for {kind} {repo!r} at revision {revision}")
    return commit
