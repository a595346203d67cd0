"""The bends of a fitted curve on disk: each tensor of the model by its name, so a file tells of no layout."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from raymc.landscape.curves import Bezier, Curve, Linear, Polygonal, Spherical
from raymc.specs.curves import BezierCurve, NamedCurve, SphericalCurve
from raymc.specs.errors import CorruptArtefact, RaymcError
from raymc.store import layout
from raymc.tasks.points import PointModel

WEIGHTS = "curve.safetensors"
_GATES = "gates"


class Layout(Protocol):
    """The tensors of a flat vector (raymc.tasks.points.PointModel)."""

    names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    flat: torch.Tensor

    def views(self, buffer: torch.Tensor) -> Mapping[str, torch.Tensor]: ...


def save_bends(model: Layout, bends: Sequence[torch.Tensor], folder: Path, gates: torch.Tensor | None = None) -> None:
    """Write bends (flat fp32 vectors of the model's layout, in order from a to b) into a folder, as "N:NAME" from 1.

    `gates`: of a gates curve, its weights w as they trained, one a group, in the order of curve.json.
    """
    tensors = {
        f"{number}:{name}": view.detach().cpu().clone()
        for number, bend in enumerate(bends, 1)
        for name, view in model.views(bend).items()
    }
    if gates is not None:
        tensors[_GATES] = gates.detach().cpu().clone()
    save_file(tensors, folder / WEIGHTS, {"format": "pt"})


def read_bends(
    model: PointModel, folder: Path, order: tuple[str, ...] = ()
) -> tuple[list[torch.Tensor], tuple[float, ...] | None]:
    """The bends of a fitted curve as flat fp32 CPU vectors of a model's layout, and the t of each (None: of a Bezier).

    `order`: the order of the labels that the head's rows are wanted in; the file has that of the task it was fitted on.
    Raises CorruptArtefact where the folder can't be read, RaymcError where its tensors don't fit the model or the
    labels aren't those of `order`.
    """
    try:
        body = json.loads((folder / layout.CURVE).read_bytes())
        at, labels = body["at"], tuple(body["labels"])
        count = body["bends"]
        with safe_open(folder / WEIGHTS, framework="pt") as file:
            keys = [key for key in file.keys() if key != _GATES]  # noqa: SIM118
            shapes = {key: tuple(file.get_slice(key).get_shape()) for key in keys}
            _check(model, folder, shapes, count)
            bends = [torch.zeros(model.flat.numel()) for _ in range(count)]
            views = [model.views(bend) for bend in bends]
            for key in keys:
                number, _, name = key.partition(":")
                views[int(number) - 1][name].copy_(file.get_tensor(key))
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise CorruptArtefact(layout.CURVES, folder.name, f"it can't be read ({error})") from error
    if order and labels and order != labels:
        for view in views:
            model.reorder(folder, dict(view), labels, order)
    return bends, None if at is None else tuple(at)


def build_curve(
    how: NamedCurve,
    a: torch.Tensor,
    b: torch.Tensor,
    bends: Sequence[torch.Tensor] = (),
    at: Sequence[float] | None = None,
) -> Curve:
    """The curve that a spec means between flat vectors a and b; `bends` and `at` as `read_bends` gives them.

    An aligned or partial path is a straight or spherical one between ends that are no minima as they are: these must
    be given. Raises RaymcError where there is no such curve between them.
    """
    try:
        if isinstance(how, SphericalCurve):
            return Spherical(a, b)
        if how.fitted is None:
            return Linear(a, b)
        return Bezier(a, b, bends) if isinstance(how, BezierCurve) else Polygonal(a, b, bends, at)
    except ValueError as error:
        raise RaymcError(f"curve {how.title}: {error}") from error


def _check(model: Layout, folder: Path, shapes: dict[str, tuple[int, ...]], count: int) -> None:
    ours = {
        f"{number}:{name}": tuple(shape)
        for number in range(1, count + 1)
        for name, shape in zip(model.names, model.shapes, strict=True)
    }
    for key in sorted(ours.keys() | shapes.keys()):
        if ours.get(key) != shapes.get(key):
            raise RaymcError(
                f"curve {folder.name}: {key} is {shapes.get(key, 'absent')}, the minima have {ours.get(key, 'absent')}"
            )
