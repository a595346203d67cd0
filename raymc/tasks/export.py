"""Points of parameter space as ordinary folders: what transformers and peft open by themselves, whole or not at all."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import uuid
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from raymc.specs.errors import RaymcError
from raymc.store import layout
from raymc.store.store import Store
from raymc.tasks import folders, houlsby
from raymc.tasks.points import PointModel

PROVENANCE = "raymc.json"
# Of a minimum's folder: what is written anew for another point, and what tells of the minimum alone.
_NOT_TOKENIZER = {
    *("config.json", "generation_config.json", "README.md", houlsby.CONFIG),
    *(layout.MANIFEST, layout.PROVENANCE, layout.TRAINING_CURVE),
}


@contextlib.contextmanager
def destination(out: str | Path) -> Iterator[Path]:
    """A temporary folder beside `out` to fill; it takes that name when the block ends well, and is gone if it doesn't.

    Raises RaymcError where `out` is a file or a folder with something in it, or its place can't be written.
    """
    final = Path(os.path.abspath(Path(out).expanduser()))  # noqa: PTH100 - a link stays one
    check_free(final)
    temporary = final.with_name(f".{final.name}.{os.getpid()}-{uuid.uuid4().hex[:8]}")
    try:
        with _writing(final):
            temporary.mkdir(parents=True)
        yield temporary
        with _writing(final):
            for path in (path for path in temporary.rglob("*") if path.is_file()):
                with path.open("rb") as file:
                    os.fsync(file.fileno())
            check_free(final)  # a rename over an empty folder replaces it, over a full one it fails
            temporary.rename(final)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def check_free(out: Path) -> None:
    """Raises RaymcError where something stands in the place of a new folder."""
    if out.is_dir() and any(out.iterdir()):
        raise RaymcError(f"{out} isn't empty; give a folder that is new")
    if (out.exists() or out.is_symlink()) and not (out.is_dir() and not out.is_symlink()):
        raise RaymcError(f"{out} is there and is no folder; give one that is new")


@contextlib.contextmanager
def _writing(out: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise RaymcError(f"{out} can't be written: {error.strerror or error}") from error


def write_point(model: PointModel, folder: Path, source: Path, labels: tuple[str, ...]) -> None:
    """Write the point that a model (in fp32) stands at: a whole model, or in `factors` what a method adds to one.

    `source`: the folder of a minimum of its kind, whose tokenizer it has. `labels`: of a classifier, in the order of
    its head. Raises RaymcError where the folder can't be written.
    """
    if model.names and next(iter(model.model.parameters())).dtype != torch.float32:
        raise ValueError("a model that computes in another precision than fp32 holds rounded weights")
    inner = model.model.get_base_model() if hasattr(model.model, "get_base_model") else model.model
    if labels:
        inner.config.id2label = dict(enumerate(labels))
        inner.config.label2id = {name: i for i, name in enumerate(labels)}
    with _writing(folder), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        folders.save(model.model, folder, _apart(model.model))
        copy_tokenizer(source, folder)


def copy_tokenizer(source: Path, folder: Path) -> None:
    """All files of a minimum's folder that are neither weights nor configs of models, as they are."""
    for path in sorted(source.iterdir()):
        if path.is_file() and path.name not in _NOT_TOKENIZER and ".safetensors" not in path.suffixes:
            shutil.copyfile(path, folder / path.name)


def copy_minimum(store: Store, key: str, folder: Path) -> None:
    """A minimum's own files, their hashes checked. Raises CorruptArtefact, or RaymcError where it can't be written."""
    store.verify(layout.MINIMA, key, deep=True)
    with _writing(folder):
        for path in sorted(store.folder(layout.MINIMA, key).iterdir()):
            if path.name != layout.MANIFEST:
                shutil.copyfile(path, folder / path.name)


def write_provenance(folder: Path, body: dict[str, Any]) -> dict[str, Any]:
    """Write raymc.json, with the hashes of the folder's weights; what it says."""
    digests = {}
    for path in sorted(folder.glob("*.safetensors")):
        with path.open("rb") as file:
            digests[path.name] = hashlib.file_digest(file, "sha256").hexdigest()
    body = {**body, "files": digests}
    with _writing(folder):
        (folder / PROVENANCE).write_text(json.dumps(body, indent=1, ensure_ascii=False, allow_nan=False))
    return body


def _apart(model: Any) -> dict[str, torch.Tensor]:
    """The model's state on the CPU, out of the one buffer that its tensors are views of; tied ones stay one tensor."""
    copies: dict[tuple[int, tuple[int, ...], tuple[int, ...]], torch.Tensor] = {}
    state: dict[str, torch.Tensor] = {}
    for name, tensor in model.state_dict().items():
        view = tensor.data_ptr(), tuple(tensor.shape), tuple(tensor.stride())
        if view not in copies or not tensor.numel():
            copies[view] = tensor.detach().to("cpu", copy=True).contiguous()
        state[name] = copies[view]
    return state
