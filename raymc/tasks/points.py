"""A minimum as a point of parameter space: one flat fp32 vector, and a model whose weights are views of it."""

from __future__ import annotations

import json
import re
import warnings
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from transformers import AutoConfig

from raymc.specs.errors import RaymcError
from raymc.specs.trial import TrialSpec
from raymc.store.store import Store
from raymc.tasks.adapters import merge, plain_name
from raymc.tasks.backbones import HEADS, UNREADABLE, line_of, quiet
from raymc.tasks.folders import adapter_config, adapter_names, is_whole, reopen

Views = dict[str, torch.Tensor]
_ALIGN = 32  # elements: every tensor starts on a 64-byte line, in bfloat16 too, as torch's own allocations do


class PointModel:
    """A model in evaluation mode whose interpolated tensors lie in one flat buffer.

    `names` and `shapes` are the interpolated tensors in order: in the spaces `weights` and `delta_w` all parameters
    and floating-point buffers, each shared tensor once; in `factors` what the tuning method trains, on a base that
    stays. `head_names` are those of a classification head. `flat` is fp32; with precision bf16 the weights that
    compute are a bfloat16 copy made by `refresh`.
    """

    def __init__(self, folder: Path, trial: TrialSpec, labels: tuple[str, ...], space: str, store: Store):
        """Open a minimum's folder, whose own head has `labels`. Raises RaymcError where it can't be read in fp32."""
        quiet()
        self.space = space
        self._store = store
        self.model = _open(folder, trial, labels, space, store)
        tensors = _interpolated(self.model, space)
        for name, tensor in tensors.items():
            _require_float32(folder, name, tensor)
        self.architecture = architecture(self.model.config)
        self._frame = _frame(folder) if space == "factors" else {}
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
        """Move to a device and precision. The flat buffer stays fp32."""
        self.model.to(device)
        self.flat = self.flat.to(device)
        self._compute = self.flat
        if precision == "bf16":
            self.model.to(torch.bfloat16)
            self._compute = torch.zeros_like(self.flat, dtype=torch.bfloat16)
        tensors = _interpolated(self.model, self.space)
        for view, name in zip(self._views(self._compute), self.names, strict=True):
            tensors[name].data = view
        self.refresh()

    def refresh(self) -> None:
        """After a write to `flat`: bring the weights that compute up to it (nothing to do in fp32)."""
        if self._compute is not self.flat:
            self._compute.copy_(self.flat)

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
    ) -> torch.Tensor:
        """Another minimum of the same shape as a flat fp32 CPU vector.

        `labels`: of the folder's own head, in its order. `head_from`: a vector of this layout whose head is taken
        instead of the folder's, which may have other labels. `order`: the order to put the folder's labels into, by
        name. Raises RaymcError where the shapes differ, or (factors) what stays while they are interpolated, or the
        labels aren't those of `order`.
        """
        vector = torch.zeros(self.flat.numel())
        views = dict(zip(self.names, self._views(vector), strict=True))
        lent = self.head_names if head_from is not None else ()
        wanted = {name: view for name, view in views.items() if name not in lent}
        if is_whole(folder):
            direct = self._read_file(folder / "model.safetensors", {name: name for name in self.names}, wanted, lent)
        else:  # where it stands on our own base, what is added to it is all that need be read
            ours = self._trial
            shared = ours.model == trial.model and "existing" not in (ours.tuning.method, trial.tuning.method)
            direct = shared and self._read_file(folder / "adapter_model.safetensors", self._files, wanted, lent)
        if not direct:
            self._read_model(folder, trial, labels, wanted, lent)
        if head_from is not None:
            heads = dict(zip(self.names, self._views(head_from), strict=True))
            for name in lent:
                views[name].copy_(heads[name])
        elif order is not None and order != labels:
            self.reorder(folder, views, labels, order)
        return vector

    def _read_model(
        self, folder: Path, trial: TrialSpec, labels: tuple[str, ...], views: Views, lent: tuple[str, ...]
    ) -> None:
        model = _open(folder, trial, labels, self.space, self._store)
        self._compare(folder, architecture(model.config))
        if self.space == "factors":
            self._compare_frames(folder)
        tensors = _interpolated(model, self.space)
        self._check(folder, {name: tuple(tensor.shape) for name, tensor in tensors.items()}, lent)
        if self.space == "factors":
            self._compare_bases(folder, model)
        for name, view in views.items():
            _require_float32(folder, name, tensors[name])
            view.copy_(tensors[name].detach())

    def _read_file(self, path: Path, files: dict[str, str], views: Views, lent: tuple[str, ...]) -> bool:
        """Straight from a file where it holds just our tensors (`files`: its names to ours); else False."""
        if not path.is_file():
            return False
        folder = path.parent
        try:
            with safe_open(path, framework="pt") as file:
                if set(file.keys()) != set(files) or set(files.values()) != set(self.names):
                    return False
                if self.space == "factors":
                    self._compare_frames(folder)
                else:
                    self._compare(folder, architecture_of(folder))
                shapes = {ours: tuple(file.get_slice(theirs).get_shape()) for theirs, ours in files.items()}
                self._check(folder, shapes, lent)
                for theirs, ours in files.items():
                    if ours in views:
                        tensor = file.get_tensor(theirs)
                        _require_float32(folder, ours, tensor)
                        views[ours].copy_(tensor)
        except UNREADABLE as error:
            raise RaymcError(f"{folder} is no checkpoint that can be read: {line_of(error)}") from error
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

    def _compare(self, folder: Path, theirs: dict[str, Any]) -> None:
        for name in sorted(self.architecture.keys() | theirs.keys()):
            if self.architecture.get(name) != theirs.get(name):
                raise RaymcError(
                    f"architectures differ: {name} is {theirs.get(name)!r} in {folder.name}, "
                    f"{self.architecture.get(name)!r} in the other end"
                )

    def _check(self, folder: Path, shapes: dict[str, tuple[int, ...]], lent: tuple[str, ...] = ()) -> None:
        ours = dict(zip(self.names, self.shapes, strict=True))
        for name in sorted(ours.keys() | shapes.keys()):
            if name not in lent and ours.get(name) != shapes.get(name):
                raise RaymcError(
                    f"shapes differ: {name} is {shapes.get(name, 'absent')} in {folder.name}, "
                    f"{ours.get(name, 'absent')} in the other end; minima of unlike shape can't be interpolated"
                )

    def _compare_frames(self, folder: Path) -> None:
        """Factors are a point only together with how they act on the weights that they are added to."""
        theirs = _frame(folder)
        for name in sorted(self._frame.keys() | theirs.keys()):
            if self._frame.get(name) != theirs.get(name):
                raise RaymcError(
                    f"{folder.name} has another {name} than the other end ({theirs.get(name)}, not "
                    f"{self._frame.get(name)}), so their factors can't be interpolated; "
                    "use connectivity.space: delta_w"
                )

    def _compare_bases(self, folder: Path, model: Any) -> None:
        """Nor are they without those weights."""
        ours, others = _base(self.model), _base(model)
        if ours.keys() != others.keys() or not all(torch.equal(t, others[name].to(t)) for name, t in ours.items()):
            raise RaymcError(
                f"{folder.name} has another base than the other end, so their factors can't be interpolated; "
                "use connectivity.space: delta_w"
            )

    def _views(self, buffer: torch.Tensor) -> list[torch.Tensor]:
        sizes = [torch.Size(shape) for shape in self.shapes]
        return [buffer[at : at + s.numel()].view(s) for at, s in zip(self._offsets, sizes, strict=True)]


# Entries of a config that change no function of the weights in evaluation.
_IDLE = re.compile(
    r".*dropout.*|.*pdrop|layerdrop|_name_or_path|.*version|dtype|torch_dtype|initializer.*|problem_type"
    r"|id2label|label2id|architectures|use_cache|gradient_checkpointing|_.*|return_dict|output_.*"
)


def architecture(config: Any) -> dict[str, Any]:
    """What of a model's config decides the function that its weights compute: equal for ends that can be joined."""
    entries = json.loads(config.to_json_string(use_diff=False))
    return {name: value for name, value in entries.items() if not _IDLE.fullmatch(name) and value is not None}


def architecture_of(folder: Path) -> dict[str, Any]:
    """The architecture of a saved model. Raises RaymcError where its config can't be read."""
    try:
        return architecture(AutoConfig.from_pretrained(folder))
    except UNREADABLE as error:
        raise RaymcError(f"{folder} is no checkpoint that can be read: {line_of(error)}") from error


def _require_float32(folder: Path, name: str, tensor: torch.Tensor) -> None:
    if tensor.dtype != torch.float32:
        raise RaymcError(f"{folder}: {name} is {tensor.dtype}; points are interpolated in float32")


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


# Entries of an adapter's config that change no function of its tensors in evaluation, or that tensors or labels tell.
_UNFRAMED = re.compile(
    r".*dropout.*|.*init.*|base_model_name_or_path|revision|auto_mapping|inference_mode|task_type|.*version|.*_path"
    r"|modules_to_save|target_modules|exclude_modules|total_step|tinit|tfinal|deltaT|beta.|orth_reg_weight|target_r"
)


def _frame(folder: Path) -> dict[str, Any]:
    """What of an adapter's config decides how its tensors act (scales, say): equal for ends joined in factors."""
    try:
        config = adapter_config(folder)
    except (OSError, ValueError) as error:
        raise RaymcError(f"{folder} is no checkpoint that can be read: {line_of(error)}") from error
    return {name: value for name, value in config.items() if not _UNFRAMED.fullmatch(name) and value is not None}


def _base(model: Any) -> dict[str, torch.Tensor]:
    """What of an adapter's model doesn't train; of a module that trains whole, peft keeps the original beside it."""
    frozen = {name: p for name, p in model.named_parameters() if not p.requires_grad}
    return {name: p for name, p in (frozen | dict(model.named_buffers())).items() if ".original_module." not in name}


def _interpolated(model: Any, space: str) -> dict[str, torch.Tensor]:
    """The tensors that make the point. Shared tensors come once; integer buffers and derived ones never."""
    if space == "factors":
        return {name: tensor for name, tensor in model.named_parameters() if tensor.requires_grad}
    saved = set(model.state_dict())
    buffers = {n: t for n, t in model.named_buffers() if n in saved and t.is_floating_point()}
    return dict(model.named_parameters()) | buffers
