"""The training rows of a task as token ids: made once a process, and once for all processes that share a folder."""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from raymc.specs.content import backbone_content, backbone_folder, dataset_content, read_config
from raymc.specs.keys import key_of
from raymc.specs.model import ModelSpec
from raymc.specs.task import TaskSpec
from raymc.tasks.columns import Rows
from raymc.tasks.rows import fingerprint, label_names, read_rows, training_rows
from raymc.tasks.tokens import Tokens, tokenize

_ARRAYS = ("ids", "types", "offsets", "labels")
_KEPT = 4  # sets a process holds: trials of a sweep over data or tokenizers come one after another


@dataclass(frozen=True)
class TrainingData:
    """`rows`: how many there are; `digest`: of their indices and labels, in order; `tokenizer`: as it made `tokens`."""

    rows: int
    digest: str
    labels: tuple[str, ...]
    tokens: Tokens
    tokenizer: Any


def training_data(
    task: TaskSpec, kind: str, tokenizer_content: Any, open_tokenizer: Callable[[], Any], shared: Path | None
) -> TrainingData:
    """The rows that a task trains on, for a model of a kind (classifier, seq2seq, causal).

    `tokenizer_content`: of JSON values, what stands for the tokenizer (`tokenizer_of_model`). The arrays are those of
    raymc.tasks.tokens.tokenize, bit for bit, and read-only where they come from `shared`: a folder whose processes use
    one copy of them, mapped into memory. Raises RaymcError as reading and tokenizing the rows do.
    """
    content = dataset_content(task.dataset, task.train_split)
    parts = {"task": task.model_dump(mode="json"), "rows": content, "kind": kind, "tokenizer": tokenizer_content}
    key = key_of(parts)
    if key in _held:
        _held[key] = _held.pop(key)  # the last to be dropped
        return _held[key]
    found = _opened(shared / key, open_tokenizer(), task, kind) if shared is not None else None
    if found is None:
        found = _made(task, kind, open_tokenizer())
        if shared is not None:
            _keep(found, shared / key)
    _held[key] = found
    while len(_held) > _KEPT:
        del _held[next(iter(_held))]
    return found


_held: dict[str, TrainingData] = {}


def tokenizer_of_model(model: ModelSpec) -> Any:
    """What stands for a backbone's tokenizer: its files, and what of its config chooses a class for it."""
    folder = backbone_folder(model)
    return [
        backbone_content(model, weights=False),
        None if folder is None else _chooses(folder),
        model.trust_remote_code,
    ]


def tokenizer_of_folder(folder: Path, trust_remote_code: bool) -> Any:
    """As `tokenizer_of_model`, of a saved minimum."""
    return tokenizer_of_model(ModelSpec(backbone=str(folder), trust_remote_code=trust_remote_code))


def _chooses(folder: Path) -> Any:
    config = read_config(folder) or {}
    return [config.get(name) for name in ("model_type", "tokenizer_class", "auto_map")]


def _made(task: TaskSpec, kind: str, tokenizer: Any) -> TrainingData:
    labels = label_names(task, read_rows(task, task.train_split))
    rows, indices = training_rows(task)
    tokens = tokenize(tokenizer, rows, labels, task, kind)
    return TrainingData(len(rows), fingerprint(rows, indices), labels, tokens, tokenizer)


def _keep(data: TrainingData, place: Path) -> None:
    """Write a set under a name of its own, and give it its place: the first to finish does."""
    temporary = place.with_name(f"{place.name}-{os.getpid()}-{uuid.uuid4().hex[:8]}")
    try:
        temporary.mkdir(parents=True)
        for name in _ARRAYS:
            if (array := getattr(data.tokens, name)) is not None:
                np.save(temporary / f"{name}.npy", array)
        said = {"rows": data.rows, "digest": data.digest, "labels": data.labels}
        said |= {"pad_id": data.tokens.pad_id, "choices": data.tokens.choices}
        (temporary / "data.json").write_text(json.dumps(said))
        temporary.rename(place)
    except OSError:  # there is one already, or no room: nobody depends on it
        shutil.rmtree(temporary, ignore_errors=True)


def _opened(place: Path, tokenizer: Any, task: TaskSpec, kind: str) -> TrainingData | None:
    """A set that another process made; None where there is none."""
    try:
        said = json.loads((place / "data.json").read_text())
        paths = {name: place / f"{name}.npy" for name in _ARRAYS}
        # Plain arrays on the mapped pages: cutting rows out of numpy's own class for them is slow.
        arrays = {n: np.asarray(np.load(p, mmap_mode="r")) if p.is_file() else None for n, p in paths.items()}
    except OSError:
        return None
    labels = tuple(said["labels"])
    one = Rows(["a"], ["a"] if task.text_pair else None, [labels[0]])
    tokenize(tokenizer, one, labels, task, kind)  # a saved tokenizer tells what it was last used with
    choices = tuple(tuple(choice) for choice in said["choices"])
    tokens = Tokens(**arrays, pad_id=said["pad_id"], choices=choices)  # type: ignore[arg-type]
    return TrainingData(said["rows"], said["digest"], labels, tokens, tokenizer)
