"""Each optimizer against its formulas in float64, and which parameters decay."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, get_args

import numpy as np
import pytest
import torch

from raymc.specs.errors import TrainingFault
from raymc.specs.tuning import TrainSpec
from raymc.tasks.optimizers import make_optimizer, optimizer_fault

Arrays = list[np.ndarray]
NAMES = get_args(TrainSpec.model_fields["optimizer"].annotation)
SHAPES = ((3, 4), (4,), (2, 3, 4))
STEPS, RATE, DECAY = 5, 0.03, 0.2


class Tensors(torch.nn.Module):
    """A matrix, a vector and a stack of matrices."""

    def __init__(self) -> None:
        super().__init__()
        stream = torch.Generator().manual_seed(0)
        self.tensors = torch.nn.ParameterList([torch.randn(shape, generator=stream) for shape in SHAPES])


def gradients() -> list[list[torch.Tensor]]:
    """Of very unlike size from step to step, as the clipping of updates needs."""
    stream = torch.Generator().manual_seed(1)
    return [[torch.randn(s, generator=stream) * 10.0 ** (2 - step) for s in SHAPES] for step in range(STEPS)]


def adamw(weights: Arrays, moments: list[Any], grads: Arrays, step: int, betas: tuple[float, float]) -> None:
    """Loshchilov and Hutter 2019."""
    for i, (w, g) in enumerate(zip(weights, grads, strict=True)):
        m, v = moments[i] or (0.0, 0.0)
        m, v = betas[0] * m + (1 - betas[0]) * g, betas[1] * v + (1 - betas[1]) * g**2
        moments[i] = (m, v)
        w *= 1 - RATE * DECAY * (w.ndim > 1)
        w -= RATE * (m / (1 - betas[0] ** step)) / (np.sqrt(v / (1 - betas[1] ** step)) + 1e-8)


def sgd(weights: Arrays, moments: list[Any], grads: Arrays, step: int, momentum: float) -> None:
    """Heavy ball, the decay in the gradient."""
    for i, (w, g) in enumerate(zip(weights, grads, strict=True)):
        moments[i] = momentum * (0.0 if moments[i] is None else moments[i]) + g + DECAY * (w.ndim > 1) * w
        w -= RATE * moments[i]


def adafactor(weights: Arrays, moments: list[Any], grads: Arrays, step: int) -> None:
    """Shazeer and Stern 2018, algorithms 4 and 5, with a fixed rate: V is the outer product of its means over rows
    and over columns, over the mean of all; beta2 is 1 - step^-0.8; the update has a root mean square of 1 at most."""
    decay = 1 - step**-0.8
    for i, (w, g) in enumerate(zip(weights, grads, strict=True)):
        square = g**2 + 1e-30
        if w.ndim == 1:
            moments[i] = decay * (0.0 if moments[i] is None else moments[i]) + (1 - decay) * square
            v = moments[i]
        else:
            rows, columns = moments[i] or (0.0, 0.0)
            rows = decay * rows + (1 - decay) * square.mean(-1, keepdims=True)
            columns = decay * columns + (1 - decay) * square.mean(-2, keepdims=True)
            moments[i] = (rows, columns)
            v = rows * columns / rows.mean(-2, keepdims=True)
        update = g / np.sqrt(v)
        update /= max(1.0, math.sqrt((update**2).mean()))
        w -= RATE * DECAY * (w.ndim > 1) * w
        w -= RATE * update


@pytest.mark.parametrize(
    ("name", "options", "rule"),
    [
        ("adamw", {"betas": (0.9, 0.999)}, lambda *a: adamw(*a, (0.9, 0.999))),
        ("adamw", {"betas": (0.7, 0.8)}, lambda *a: adamw(*a, (0.7, 0.8))),
        ("sgd", {"momentum": 0.9}, lambda *a: sgd(*a, 0.9)),
        ("sgd", {"momentum": 0.0}, lambda *a: sgd(*a, 0.0)),
        ("adafactor", {}, adafactor),
    ],
)
def test_an_optimizer_is_its_formulas(name: str, options: dict[str, Any], rule: Callable[..., None]):
    model = Tensors()
    weights = [tensor.detach().double().numpy().copy() for tensor in model.tensors]
    moments: list[Any] = [None] * len(weights)
    optimizer = make_optimizer(model, name, RATE, weight_decay=DECAY, **options)
    for step, grads in enumerate(gradients(), 1):
        for tensor, gradient in zip(model.tensors, grads, strict=True):
            tensor.grad = gradient.clone()
        optimizer.step()
        rule(weights, moments, [gradient.double().numpy() for gradient in grads], step)
        for tensor, expected in zip(model.tensors, weights, strict=True):
            scale = max(1.0, float(abs(expected).max()))
            assert np.allclose(tensor.detach().double().numpy(), expected, rtol=0, atol=2e-5 * scale)


def test_adamw_is_torchs_to_the_last_bit():
    """Minima of before keep their keys."""
    found, plain = Tensors(), Tensors()
    matrices = [tensor for tensor in plain.tensors if tensor.ndim > 1]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": [plain.tensors[1]], "weight_decay": 0.0}]
    optimizers = make_optimizer(found, "adamw", 0.01, weight_decay=0.1), torch.optim.AdamW(groups, lr=0.01)
    for grads in gradients():
        for model, optimizer in zip((found, plain), optimizers, strict=True):
            for tensor, gradient in zip(model.tensors, grads, strict=True):
                tensor.grad = gradient.clone()
            optimizer.step()
    assert all(torch.equal(a, b) for a, b in zip(found.tensors, plain.tensors, strict=True))


@pytest.mark.parametrize("name", NAMES)
def test_what_does_not_train_is_let_alone(name: str):
    model = Tensors()
    model.tensors[0].requires_grad_(False)
    optimizer = make_optimizer(model, name, 0.1, weight_decay=0.5)
    held = {id(tensor) for group in optimizer.param_groups for tensor in group["params"]}
    assert held == {id(tensor) for tensor in list(model.tensors)[1:]}
    decays = {id(t): group["weight_decay"] for group in optimizer.param_groups for t in group["params"]}
    assert [decays[id(tensor)] for tensor in list(model.tensors)[1:]] == [0.0, 0.5]
    for tensor in model.tensors:
        tensor.requires_grad_(False)
    with pytest.raises(TrainingFault, match="no parameter of the model trains"):
        make_optimizer(model, name, 0.1, weight_decay=0.5)


def test_an_unknown_name_is_refused():
    with pytest.raises(TrainingFault, match=r"^train\.optimizer: there is no 'lion'; use adamw, adafactor or sgd$"):
        make_optimizer(Tensors(), "lion", 0.1, weight_decay=0.0)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
@pytest.mark.parametrize("workers", [1, 2])
def test_only_adafactor_can_not_be_sharded(name: str, strategy: str, workers: int):
    fault = optimizer_fault(name, strategy, workers)
    assert (fault is not None) == ((name, strategy, workers) == ("adafactor", "fsdp", 2))
    assert fault is None or "strategy: ddp" in fault
