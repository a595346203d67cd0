"""The training loop: a loss that is summed over rows, exact under any number of workers and after any kill."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from typing import Any, Protocol

import torch

from raymc.specs.errors import TrainingFault
from raymc.tasks.backbones import derived_seed
from raymc.tasks.optimizers import make_optimizer, optimizer_fault
from raymc.training.checkpoint import Checkpoints
from raymc.training.memory import Exhausted, MicroBatch, is_exhaustion
from raymc.training.microbatch import chunks, parts_of, rows_of
from raymc.training.parallel import Group

Batch = dict[str, torch.Tensor]
Report = Callable[[dict[str, float]], None]
Keep = Callable[[Any, list[dict[str, float]]], None]


class Objective(Protocol):
    """What is trained: rows by step and their loss. `batch` is a pure function of the step and the group's place."""

    def batch(self, step: int, group: Group) -> tuple[dict[str, torch.Tensor], int]:
        """This worker's part of the global batch of a step, and the number of terms in the global loss."""
        ...

    def loss(self, model: Any, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """Cross-entropy summed over this worker's terms, in fp32."""
        ...


def _nothing(step: int, model: Any) -> None:
    pass


@dataclass(frozen=True)
class Hooks:
    """What happens beside the plain loop, on all workers; steps are updates done, models are wrapped."""

    parts: Callable[[Batch, int | None], list[Batch]] = parts_of
    """What a worker's batch is cut into, a backward pass each, whose losses are summed; the most rows of each."""
    graded: Callable[[int, Any], None] = _nothing
    """Before update `step`, with its whole gradients in place, before they are clipped."""
    updated: Callable[[int, Any], None] = _nothing
    """After every update, before its state is kept; and with 0 before the first of a run that isn't resumed."""


@dataclass(frozen=True)
class Recipe:
    """How the loop steps."""

    steps: int
    learning_rate: float
    optimizer: str = "adamw"
    schedule: str = "linear"
    warmup: float = 0.0
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.999)
    momentum: float = 0.9
    clip_norm: float | None = 1.0
    precision: str = "fp32"
    dropout_seed: int = 0
    log_every: int = 10

    def rate(self, step: int) -> float:
        """Learning rate of update `step` (from 0): a rise over the warm-up, then the schedule's fall to 0."""
        rise = math.ceil(Fraction(repr(self.warmup)) * self.steps)  # the decimal that was written
        if step < rise:
            return self.learning_rate * (step + 1) / rise
        share = (step - rise) / max(1, self.steps - rise)
        fall = {"constant": 1.0, "linear": 1.0 - share, "cosine": 0.5 * (1 + math.cos(math.pi * share))}
        return self.learning_rate * fall[self.schedule]


def train(
    model: Any,
    objective: Objective,
    recipe: Recipe,
    group: Group,
    checkpoints: Checkpoints | None,
    report: Report,
    snapshots: Mapping[int, Keep],
    hooks: Hooks | None = None,
    micro: MicroBatch | None = None,
) -> Any:
    """Train to the last of `snapshots` (updates done: what keeps that state), from the newest checkpoint if there is
    one before the first of them; returns the wrapped model.

    A snapshot at 0 is the start. Each is called on all workers with the wrapped model and the training curve so far.

    The curve has a point every `log_every` steps and at the last: step, loss (mean per term since the point before,
    nats), learning_rate, grad_norm. Dropout draws anew from (dropout_seed, step, rank) at each step, so a resumed run
    repeats an undisturbed one bit for bit; parts of a batch draw one after the other. A step that runs out of memory is
    repeated from its start as `micro` says. Raises TrainingFault where the loss or the gradient isn't finite, the
    memory doesn't do, or the optimizer can't work with the group's strategy.
    """
    if fault := optimizer_fault(recipe.optimizer, group.strategy, group.size):
        raise TrainingFault(f"train.optimizer: {fault}")
    hooks, micro = hooks or Hooks(), micro or MicroBatch(None)
    model.train()
    wrapped = group.wrap(model)
    optimizer = make_optimizer(
        wrapped,
        recipe.optimizer,
        recipe.learning_rate,
        weight_decay=recipe.weight_decay,
        betas=recipe.betas,
        momentum=recipe.momentum,
    )
    first, last = min(snapshots), max(snapshots)
    start, curve = checkpoints.restore(wrapped, optimizer, group, before=first) if checkpoints else (0, [])
    if start == 0:
        hooks.updated(0, wrapped)
        if 0 in snapshots:
            snapshots[0](wrapped, [])
    trained = [p for p in wrapped.parameters() if p.requires_grad]
    summed, terms = torch.zeros((), dtype=torch.float64, device=group.device), 0
    for step in range(start, last):
        for parameters in optimizer.param_groups:
            parameters["lr"] = recipe.rate(step)
        passes = partial(_passes, wrapped, objective, recipe, group, hooks, step)
        added, weight = micro.fitted(passes, optimizer.zero_grad, group.size == 1)
        summed += added
        hooks.graded(step, wrapped)
        norm = torch.nn.utils.clip_grad_norm_(trained, recipe.clip_norm or math.inf)
        try:
            optimizer.step()
        except (RuntimeError, MemoryError) as error:
            if group.size == 1 and is_exhaustion(error):
                raise TrainingFault("the optimizer's state doesn't fit the memory beside the model") from None
            raise
        optimizer.zero_grad(set_to_none=True)
        hooks.updated(step + 1, wrapped)
        terms += weight
        done = step + 1
        logged = done % recipe.log_every == 0 or done == recipe.steps
        if logged or done in snapshots:
            mean = group.total(summed.clone()).item() / terms
            norm = getattr(norm, "full_tensor", lambda norm=norm: norm)()
            point = {"step": done, "loss": mean, "learning_rate": recipe.rate(step), "grad_norm": float(norm)}
            if not math.isfinite(mean) or not math.isfinite(point["grad_norm"]):
                raise TrainingFault(f"the loss is not finite ({mean}) by step {done}; a lower learning_rate may help")
            if done in snapshots:  # between two points of the curve it has half an interval of its own
                snapshots[done](wrapped, [*curve, point])
            if logged:
                curve.append(point)
                report(point)
                summed, terms = torch.zeros_like(summed), 0
                if checkpoints and checkpoints.every and _due(done, checkpoints.every, recipe.log_every, last):
                    checkpoints.save(wrapped, optimizer, done, curve, group)
    return wrapped


def _passes(
    model: Any, objective: Objective, recipe: Recipe, group: Group, hooks: Hooks, step: int, most: int | None
) -> tuple[torch.Tensor, int]:
    """Add an update's gradients, at most `most` rows a pass; (this worker's summed loss, terms of the global loss).

    Raises Exhausted where a pass runs out of memory.
    """
    torch.manual_seed(derived_seed("dropout", recipe.dropout_seed, step, group.rank))
    batch, weight = objective.batch(step, group)
    if group.size > 1 and group.strategy == "fsdp":
        # Shards are gathered in every pass, so all workers must take as many: as few as the one with the fewest rows.
        parts = [batch] if most is None else chunks(batch, rows_of(batch), group.least(-(-rows_of(batch) // most)))
    else:
        parts = hooks.parts(batch, most)
    summed = torch.zeros((), dtype=torch.float64, device=group.device)
    device = group.device.split(":")[0]
    for number, part in enumerate(parts, 1):
        try:
            with group.syncing(model, number == len(parts)):
                with torch.autocast(device, torch.bfloat16, enabled=recipe.precision == "bf16"):
                    loss = objective.loss(model, part)
                # Workers' gradients are averaged: each counts its sum over the global number of terms, times workers.
                (loss * (group.size / weight)).backward()
        except (RuntimeError, MemoryError) as error:
            if is_exhaustion(error):
                raise Exhausted(rows_of(part), error) from None
            raise
        summed += loss.detach().double()
    return summed, weight


def _due(done: int, every: int, log_every: int, steps: int) -> bool:
    """Checkpoints fall on points of the curve, so that a resumed curve has no half interval; none at the end."""
    return done < steps and done // every > (done - log_every) // every
