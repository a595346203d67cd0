"""A minimum as a point of parameter space: one flat fp32 vector, and a model whose weights are views of it."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any, Protocol

import torch

from raymc.specs.errors import RaymcError, first_line
from raymc.specs.trial import TrialSpec
from raymc.store.store import Store
from raymc.tasks.adapters import merge, plain_name
from raymc.tasks.backbones import HEADS, UNREADABLE, quiet
from raymc.tasks.folders import adapter_names, is_whole, reopen
from raymc.tasks.likeness import (
    architecture,
    architecture_of,
    base_of,
    compare_architectures,
    compare_bases,
    compare_frames,
    frame,
)
from raymc.tasks.narrow import narrow
from raymc.tasks.weight_file import WeightFile

Views = dict[str, torch.Tensor]
_ALIGN = 32  # elements: every tensor starts on a 64-byte line, in bfloat16 too, as torch's own allocations do


class Checks(Protocol):
    """Sees to it that what is read of a minimum's folder is what was written. Both raise CorruptArtefact."""

    def file(self, name: str, sha256: str) -> None:
        """A file was read, and the bytes read have this hash."""
        ...

    def whole(self) -> None:
        """The folder is about to be read by others, or something of it doesn't fit: all of it is looked at."""
        ...


class PointModel:
    """A model in evaluation mode whose interpolated tensors lie in one flat buffer.

    `names` and `shapes` are the interpolated tensors in order: in the spaces `weights` and `delta_w` all parameters
    and floating-point buffers, each shared tensor once; in `factors` what the tuning method trains, on a base that
    stays. `head_names` are those of a classification head. `flat` is fp32; with precision bf16 the weights that
    compute are a bfloat16 copy made by `refresh`, but for the head's.
    """

    def __init__(self, folder: Path, trial: TrialSpec, labels: tuple[str, ...], space: str, store: Store):
        """Open a minimum's folder, whose own head has `labels`. Raises RaymcError where it can't be read in fp32."""
        quiet()
        self.space = space
        self._store = store
        self.model = _open(folder, trial, labels, space, store)
        tensors = _interpolated(self.model, space)
        for name, tensor in tensors.items():
            _require_float32(folder, name, tensor.dtype)
        self.architecture = architecture(self.model.config)
        self._frame = frame(folder) if space == "factors" else {}
        self._base = base_of(self.model) if space == "factors" else {}
        self._trial = trial
        self._files = adapter_names(self.model) if space == "factors" else {}
        self.names = tuple(tensors)
        self.head_names = tuple(name for name in tensors if is_head(name)) if trial.model.kind == "classifier" else ()
        self.shapes = tuple(tuple(tensor.shape) for tensor in tensors.values())
        self._offsets: list[int] = []
        end = 0
        for tensor in tensors.values():
            self._offsets.append(end)
            end += -(-tensor.numel() // _ALIGN) * _ALIGN
        self.flat = torch.zeros(end)
        self._compute = self.flat
        for view, tensor in zip(self._views(self.flat), tensors.values(), strict=True):
            view.copy_(tensor.detach())
            tensor.data = view

    @property
    def nbytes(self) -> int:
        return self.flat.numel() * 4

    def to(self, device: str, precision: str) -> None:
        """Move to a device and precision, once. The flat buffer stays fp32, and a head computes from it (`narrow`)."""
        self.model.to(device)
        self.flat = self._compute = self.flat.to(device)
        if precision == "bf16":
            self._compute = torch.zeros_like(self.flat, dtype=torch.bfloat16)
            narrow(self.model, self.views(self._compute), self.views(self.flat))
        else:
            tensors = _interpolated(self.model, self.space)
            for name, view in self.views(self.flat).items():
                tensors[name].data = view
        self.refresh()

    def refresh(self) -> None:
        """After a write to `flat`: bring the weights that compute up to it (nothing to do in fp32)."""
        if self._compute is not self.flat:
            self._compute.copy_(self.flat)

    def stacked(self, buffer: torch.Tensor) -> Views:
        """What computes several points, (points x size) fp32, by parameter name, points x its shape: see `refresh`."""
        rounded = buffer if self._compute is self.flat else buffer.to(torch.bfloat16)
        wide = {name for name, tensor in self.model.named_parameters() if tensor.dtype == torch.float32}
        places = zip(self.names, self._offsets, map(torch.Size, self.shapes), strict=True)
        return {
            name: (buffer if name in wide else rounded)[:, at : at + size.numel()].unflatten(1, size)
            if size
            else (buffer if name in wide else rounded)[:, at]
            for name, at, size in places
        }

    def views(self, buffer: torch.Tensor) -> Views:
        """The tensors of a flat vector of this layout by name, as views."""
        return dict(zip(self.names, self._views(buffer), strict=True))

    def read(
        self,
        folder: Path,
        trial: TrialSpec,
        labels: tuple[str, ...],
        head_from: torch.Tensor | None = None,
        order: tuple[str, ...] | None = None,
        checks: Checks | None = None,
    ) -> torch.Tensor:
        """Another minimum of the same shape as a flat fp32 CPU vector.

        `labels`: of the folder's own head, in its order. `head_from`: a vector of this layout whose head is taken
        instead of the folder's, which may have other labels. `order`: the order to put the folder's labels into, by
        name. `checks`: of the folder's hashes; None: they aren't looked at. Raises RaymcError where the shapes differ,
        or (factors) what stays while they are interpolated, or the labels aren't those of `order`.
        """
        vector = self.read_straight(folder, trial, labels, head_from, order, checks)
        if vector is not None:
            return vector
        if checks is not None:
            checks.whole()
        vector = torch.zeros(self.flat.numel())
        self._read_model(folder, trial, labels, *self._wanted(vector, head_from))
        return self._finished(vector, folder, labels, head_from, order)

    def read_straight(
        self,
        folder: Path,
        trial: TrialSpec,
        labels: tuple[str, ...],
        head_from: torch.Tensor | None = None,
        order: tuple[str, ...] | None = None,
        checks: Checks | None = None,
        pinned: bool = False,
    ) -> torch.Tensor | None:
        """As `read`, where it takes no more than reading one file once, straight into the vector; else None.

        May be called from another thread than the one that computes. `pinned`: into page-locked memory.
        """
        vector = torch.zeros(self.flat.numel(), pin_memory=pinned)
        views, lent = self._wanted(vector, head_from)
        if is_whole(folder):
            path, files = folder / "model.safetensors", {name: name for name in self.names}
        else:  # where it stands on our own base, what is added to it is all that need be read
            ours = self._trial
            if ours.model != trial.model or "existing" in (ours.tuning.method, trial.tuning.method):
                return None
            path, files = folder / "adapter_model.safetensors", self._files
        if not self._read_file(path, files, views, lent, checks):
            return None
        return self._finished(vector, folder, labels, head_from, order)

    def _wanted(self, vector: torch.Tensor, head_from: torch.Tensor | None) -> tuple[Views, tuple[str, ...]]:
        """(the views to fill, the names of those that another's head fills)."""
        lent = self.head_names if head_from is not None else ()
        return {name: view for name, view in self.views(vector).items() if name not in lent}, lent

    def _finished(
        self,
        vector: torch.Tensor,
        folder: Path,
        labels: tuple[str, ...],
        head_from: torch.Tensor | None,
        order: tuple[str, ...] | None,
    ) -> torch.Tensor:
        """With its head: another's, or its own with the labels in their order."""
        views = self.views(vector)
        if head_from is not None:
            heads = self.views(head_from)
            for name in self.head_names:
                views[name].copy_(heads[name])
        elif order is not None and order != labels:
            self.reorder(folder, views, labels, order)
        return vector

    def _read_model(
        self, folder: Path, trial: TrialSpec, labels: tuple[str, ...], views: Views, lent: tuple[str, ...]
    ) -> None:
        model = _open(folder, trial, labels, self.space, self._store)
        compare_architectures(self.architecture, folder, architecture(model.config))
        if self.space == "factors":
            compare_frames(self._frame, folder)
        tensors = _interpolated(model, self.space)
        self._check(folder, {name: tuple(tensor.shape) for name, tensor in tensors.items()}, lent)
        if self.space == "factors":
            compare_bases(self._base, folder, model)
        for name, view in views.items():
            _require_float32(folder, name, tensors[name].dtype)
            view.copy_(tensors[name].detach())

    def _read_file(
        self, path: Path, files: dict[str, str], views: Views, lent: tuple[str, ...], checks: Checks | None
    ) -> bool:
        """Straight from a file where it holds just our tensors (`files`: its names to ours); else False."""
        if not path.is_file():
            return False
        folder = path.parent
        try:
            with WeightFile(path) as file:
                if set(file.entries) != set(files) or set(files.values()) != set(self.names):
                    return False
                if self.space == "factors":
                    compare_frames(self._frame, folder)
                else:
                    compare_architectures(self.architecture, folder, architecture_of(folder))
                self._check(folder, {ours: file.entries[theirs].shape for theirs, ours in files.items()}, lent)
                into = {theirs: views[ours] for theirs, ours in files.items() if ours in views}
                for name in into:
                    _require_float32(folder, files[name], file.entries[name].dtype)
                digest = file.read(into, hashed=checks is not None)
        except (RaymcError, *UNREADABLE) as error:
            if checks is not None:
                checks.whole()  # damage explains it better than what it led to
            if isinstance(error, RaymcError):
                raise
            raise RaymcError(f"{folder} is no checkpoint that can be read: {first_line(error)}") from error
        if checks is not None:
            checks.file(path.name, digest)
        return True

    def reorder(self, folder: Path, views: Views, labels: tuple[str, ...], order: tuple[str, ...]) -> None:
        """Put the rows of the head's output, one a label, into another order of the same labels."""
        if sorted(labels) != sorted(order):
            raise RaymcError(f"{folder.name} has labels {', '.join(labels)}, not {', '.join(order)}")
        if not self.head_names:
            raise RaymcError(
                f"{folder.name} has its labels in the order {', '.join(labels)}, and its head is no part of the point, "
                "so they can't be put into another; use that order (task.labels), or connectivity.space: delta_w"
            )
        rows = torch.tensor([labels.index(label) for label in order])
        for name in self.head_names:
            if views[name].shape[0] == len(rows) and ".dense." not in name:
                views[name].copy_(views[name][rows])

    def _check(self, folder: Path, shapes: dict[str, tuple[int, ...]], lent: tuple[str, ...] = ()) -> None:
        ours = dict(zip(self.names, self.shapes, strict=True))
        for name in sorted(ours.keys() | shapes.keys()):
            if name not in lent and ours.get(name) != shapes.get(name):
                raise RaymcError(
                    f"shapes differ: {name} is {shapes.get(name, 'absent')} in {folder.name}, "
                    f"{ours.get(name, 'absent')} in the other end; minima of unlike shape can't be interpolated"
                )

    def _views(self, buffer: torch.Tensor) -> list[torch.Tensor]:
        sizes = [torch.Size(shape) for shape in self.shapes]
        return [buffer[at : at + s.numel()].view(s) for at, s in zip(self._offsets, sizes, strict=True)]


def _require_float32(folder: Path, name: str, dtype: torch.dtype | str) -> None:
    if dtype != torch.float32:
        raise RaymcError(f"{folder}: {name} is {dtype}; points are interpolated in float32")


def is_head(name: str) -> bool:
    """Whether a parameter, by its name in a tuned model, is of the classification head."""
    return plain_name(name).split(".")[0] in HEADS


def _open(folder: Path, trial: TrialSpec, labels: tuple[str, ...], space: str, store: Store) -> Any:
    """A saved minimum as a model in evaluation mode, in a space that it has a point in. Raises RaymcError."""
    model = reopen(folder, trial, labels, store)
    if space == "delta_w" and not is_whole(folder):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = merge(model, folder).eval()
    return model


def _interpolated(model: Any, space: str) -> dict[str, torch.Tensor]:
    """The tensors that make the point. Shared tensors come once; integer buffers and derived ones never."""
    if space == "factors":
        return {name: tensor for name, tensor in model.named_parameters() if tensor.requires_grad}
    saved = set(model.state_dict())
    buffers = {n: t for n, t in model.named_buffers() if n in saved and t.is_floating_point()}
    return dict(model.named_parameters()) | buffers
