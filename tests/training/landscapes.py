"""Small functions of two parameters as models, so that curves between their minima are fitted by the real loop."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch

from raymc.specs.curves import AutoNebCurve, BezierCurve, GatesCurve, PolygonalCurve
from raymc.training.curve_steps import Ground

Loss = Callable[[torch.Tensor], torch.Tensor]


class Plain(torch.nn.Module):
    """Parameters, and whether dropout would be on."""

    def __init__(self, sizes: dict[str, int]):
        super().__init__()
        for name, size in sizes.items():
            self.register_parameter(name, torch.nn.Parameter(torch.zeros(size)))

    def forward(self) -> torch.Tensor:
        return torch.cat(list(self._parameters.values()))  # type: ignore[arg-type]


class Toy:
    """What a curve needs of a model: here `sizes` are names and lengths of its tensors, without padding."""

    def __init__(self, sizes: dict[str, int]):
        self.model: Any = Plain(sizes)
        self.names, self.shapes = tuple(sizes), tuple((size,) for size in sizes.values())
        self.flat = torch.zeros(sum(sizes.values()))

    def views(self, buffer: torch.Tensor) -> dict[str, torch.Tensor]:
        return dict(zip(self.names, buffer.split([shape[0] for shape in self.shapes]), strict=True))


class Surface:
    """The objective of a function of all parameters: one term, the same in each update."""

    def __init__(self, loss: Loss):
        self._loss = loss

    def batch(self, step: int, group: Any) -> tuple[dict[str, torch.Tensor], int]:
        return {"row": torch.zeros(1)}, 1

    def loss(self, model: Any, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        return self._loss(model())


def ground(
    sizes: dict[str, int],
    a: list[float],
    b: list[float],
    loss: Loss,
    groups: tuple[int, ...] = (),
    chosen: bool = False,
) -> Ground:
    """What a curve from a to b is fitted on; with `chosen`, its best state is looked for by the same loss."""
    toy = Toy(sizes)
    for view, parameter in zip(toy.views(toy.flat).values(), toy.model.parameters(), strict=True):
        parameter.data = view

    def measure(model: Any) -> float:
        return float(loss(model()).detach())

    return Ground(toy, torch.tensor(a), torch.tensor(b), Surface(loss), measure if chosen else None, measure, groups)


def two_wells(x: torch.Tensor) -> torch.Tensor:
    """Minima of height 0 at (-1, 0) and (1, 0), joined by the valley y = 1 - x^2, whose pass is PASS at (0, 1).

    (x^2 - 1)^2 PASS is the height along the valley, and 4 times the squared distance from it in y is added.
    """
    return PASS * (x[0] ** 2 - 1) ** 2 + 4.0 * (x[1] - (1 - x[0] ** 2)) ** 2


PASS = 0.3  # the lowest height at which the wells are joined: every path crosses x = 0, where it is at least that
STRAIGHT = PASS + 4.0  # of the straight path, at its middle


def kinds(kind: str, fit: dict[str, Any], **fields: Any) -> Any:
    classes: dict[str, Any] = {
        "bezier": BezierCurve,
        "polygonal": PolygonalCurve,
        "gates": GatesCurve,
        "autoneb": AutoNebCurve,
    }
    return classes[kind].model_validate({"curve": kind, "fit": fit, **fields})


def highest(curve: Any, loss: Loss, points: int = 401) -> float:
    """The largest loss on a path, looked at closely."""
    out, found = torch.empty_like(curve.anchors[0]), -math.inf
    for i in range(points):
        curve.point(i / (points - 1), out)
        found = max(found, float(loss(out)))
    return found
