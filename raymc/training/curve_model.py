"""A fitted curve as a torch module: its parameters are what the curve has beside its ends.

phi(t) = sum_k w_k(t) p_k is written into the model's own flat buffer, whose views the model then computes with, so a
pass allocates no second model. With g the loss's gradient at phi(t), bend k gets w_k(t) g (raymc.landscape.curves),
and gate g of a gates curve w_1(t) s'(w_g) <g, b - a> over its group's tensors.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch

from raymc.landscape.curves import Curve, start_bends
from raymc.specs.curves import GatesCurve, NamedCurve
from raymc.tasks.bends import build_curve


class Point(Protocol):
    """A model whose weights are views of one flat fp32 vector (raymc.tasks.points.PointModel)."""

    model: Any
    flat: torch.Tensor
    names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]

    def views(self, buffer: torch.Tensor) -> Mapping[str, torch.Tensor]: ...


class CurveModule(torch.nn.Module):
    """The model of `point` at phi(t), t being the attribute `t`, with gradients for the bends.

    `bends`: flat fp32 vectors as rows, (n, d), whose tensors are the parameters. Ends and model are no part of the
    state. Of the graph of one pass nothing may be used after the next has begun: torch raises where it is.
    """

    def __init__(
        self,
        how: NamedCurve,
        point: Point,
        a: torch.Tensor,
        b: torch.Tensor,
        bends: torch.Tensor,
        at: Sequence[float] | None = None,
        dropout: bool = True,
    ):
        super().__init__()
        self.t = 0.5
        self.written = False  # whether the buffer holds phi(t) of these bends: parts of a batch share it
        self.dropout = dropout
        self.every_gradient = False  # of bends that phi(t) doesn't depend on too: workers wait for all of them
        self.matrix = bends
        self.point_model = point
        self.curve: Curve = build_curve(how, a, b, list(bends), at)
        self._register()
        self.train()

    def _register(self) -> None:
        """A parameter for each tensor of each bend: weight decay and Adafactor act as on the model itself."""
        self.bends = torch.nn.ModuleList(
            torch.nn.ParameterList(torch.nn.Parameter(view) for view in self.point_model.views(row).values())
            for row in self.matrix
        )

    @property
    def state(self) -> torch.Tensor:
        """All that trains, as one tensor; writes to it change the curve."""
        return self.matrix

    def refresh(self) -> None:
        """Bring the bends up to what trains."""

    def forward(self, *args: Any, **inputs: Any) -> Any:
        views = _Blend.apply(self, self.t, *self.parameters())
        names = self.point_model.names
        return torch.func.functional_call(self.point_model.model, dict(zip(names, views, strict=True)), args, inputs)

    @torch.no_grad()
    def write(self, t: float) -> Any:
        """The plain model at phi(t), in evaluation mode; `train()` puts it back."""
        self.refresh()
        self.curve.point(t, self.point_model.flat)
        return self.point_model.model.eval()

    def gradients(self, weights: Sequence[float], grads: Sequence[torch.Tensor | None]) -> list[torch.Tensor | None]:
        """For each parameter, from the gradients at phi(t), one a tensor; `weights` are those of the anchors."""
        found: list[torch.Tensor | None] = []
        for weight in weights[1:-1]:
            there = [g if weight or self.every_gradient else None for g in grads]
            found += [None if g is None else g * weight for g in there]
        return found

    def complete(self) -> None:
        """Give bends that no pass of an update depended on their gradient, 0: an optimizer's moments go on."""
        for tensors in zip(*self.bends, strict=True):
            if any(tensor.grad is not None for tensor in tensors):
                for tensor in tensors:
                    if tensor.grad is None:
                        tensor.grad = torch.zeros_like(tensor)

    def train(self, mode: bool = True) -> CurveModule:
        super().train(mode)
        self.point_model.model.train(mode and self.dropout)
        return self

    @property
    def config(self) -> Any:
        return self.point_model.model.config

    def prepare_decoder_input_ids_from_labels(self, labels: torch.Tensor) -> torch.Tensor:
        return self.point_model.model.prepare_decoder_input_ids_from_labels(labels=labels)


class GatesModule(CurveModule):
    """A chain over the one bend (1 - s(w_g)) a + s(w_g) b, s the sigmoid.

    `groups`: the number of each tensor's gate. Gates aren't decayed, as no vector is.
    """

    def __init__(
        self,
        how: GatesCurve,
        point: Point,
        a: torch.Tensor,
        b: torch.Tensor,
        groups: Sequence[int],
        dropout: bool = True,
    ):
        self._groups = tuple(groups)
        super().__init__(how, point, a, b, torch.stack(start_bends(a, b, 1)), None, dropout)
        self._ends = tuple(tuple(point.views(end).values()) for end in (a, b))
        self._steps = tuple(point.views(b - a).values())

    def _register(self) -> None:
        gates = torch.zeros(max(self._groups) + 1, device=self.matrix.device)
        self.gates = torch.nn.Parameter(gates)

    @property
    def state(self) -> torch.Tensor:
        return self.gates.data

    @torch.no_grad()
    def refresh(self) -> None:
        shares = torch.sigmoid(self.gates).tolist()
        for view, a, b, group in zip(
            self.point_model.views(self.matrix[0]).values(), *self._ends, self._groups, strict=True
        ):
            torch.lerp(a, b, shares[group], out=view)

    def complete(self) -> None:
        pass

    def gradients(self, weights: Sequence[float], grads: Sequence[torch.Tensor | None]) -> list[torch.Tensor | None]:
        used = [
            (g, step, group) for g, step, group in zip(grads, self._steps, self._groups, strict=True) if g is not None
        ]
        dots = torch.stack([torch.dot(g.reshape(-1), step.reshape(-1)) for g, step, _ in used])
        places = torch.tensor([group for *_, group in used], device=dots.device)
        summed = torch.zeros_like(self.gates).index_add_(0, places, dots)
        shares = torch.sigmoid(self.gates)
        return [weights[1] * summed * shares * (1.0 - shares)]


class _Blend(torch.autograd.Function):
    """phi(t) in the model's buffer, as one view a tensor."""

    @staticmethod
    def forward(ctx: Any, module: CurveModule, t: float, *parameters: torch.Tensor) -> tuple[torch.Tensor, ...]:
        ctx.set_materialize_grads(False)
        ctx.module, ctx.weights = module, module.curve.weights(t)
        if not module.written:
            module.refresh()
            module.curve.point(t, module.point_model.flat)
        return tuple(module.point_model.views(module.point_model.flat).values())

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor | None) -> Any:  # type: ignore[override]
        return None, None, *ctx.module.gradients(ctx.weights, grads)


def curve_module(
    how: NamedCurve,
    point: Point,
    a: torch.Tensor,
    b: torch.Tensor,
    groups: Sequence[int] = (),
    dropout: bool = True,
) -> CurveModule:
    """The module of a curve at its start: bends evenly on the segment from a to b, gates half open.

    a and b are flat vectors on the device of `point`. `groups`: of a gates curve, the number of each tensor's gate.
    """
    if isinstance(how, GatesCurve):
        return GatesModule(how, point, a, b, groups, dropout)
    count = getattr(how, "bends", 1)
    return CurveModule(how, point, a, b, torch.stack(start_bends(a, b, count)), None, dropout)
