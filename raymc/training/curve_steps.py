"""Fitting a curve with the training loop: cross-entropy of training rows at random t (Garipov et al. 2018, eq. 2)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from raymc.specs.curves import FitSpec, GatesCurve, NamedCurve
from raymc.specs.errors import RaymcError, TrainingFault
from raymc.tasks.backbones import derived_seed
from raymc.training.checkpoint import Checkpoints
from raymc.training.curve_choice import Choice
from raymc.training.curve_model import CurveModule, Point, curve_module
from raymc.training.loop import Batch, Hooks, Objective, Recipe, Report, train
from raymc.training.memory import MicroBatch
from raymc.training.microbatch import parts_of
from raymc.training.parallel import Group

Measure = Callable[[Any], float]
_T = "t"  # the entry of a batch with the values of t
_AGAIN = "again"  # of a part of a batch: whether the part before it was at the same point


@dataclass(frozen=True)
class Ground:
    """What a curve is fitted on: its ends as flat vectors on the device of `point`, and the loss.

    `chosen_on`: mean loss of a plain model in evaluation mode on the split of fit.select. `sample`: on a fixed sample
    of the training rows. `groups`: of a gates curve, the number of each tensor's gate.
    """

    point: Point
    a: torch.Tensor
    b: torch.Tensor
    objective: Objective
    chosen_on: Measure | None = None
    sample: Measure | None = None
    groups: Sequence[int] = ()


@dataclass(frozen=True)
class Fitted:
    """A fitted curve. `bends`: (n, d); `at`: the t of each, None: of a Bezier curve; `step`: of the state kept."""

    bends: torch.Tensor
    at: tuple[float, ...] | None
    gates: torch.Tensor | None
    training: list[dict[str, float]]
    looks: list[tuple[int, list[float]]]
    step: int
    notes: dict[str, Any] = field(default_factory=dict)


def recipe_of(how: NamedCurve, log_every: int) -> Recipe:
    """The loop's settings of a fitted curve."""
    fit = fit_of(how)
    return Recipe(
        steps=fit.steps,
        learning_rate=how.learning_rate,
        optimizer=fit.optimizer,
        schedule=fit.schedule,
        warmup=fit.warmup,
        weight_decay=fit.weight_decay,
        clip_norm=fit.clip_norm,
        dropout_seed=fit.seed,
        log_every=log_every,
    )


def fit_of(how: NamedCurve) -> FitSpec:
    if how.fitted is None:
        raise ValueError(f"a {how.curve} curve isn't fitted")
    return how.fitted


def draws(fit: FitSpec, step: int) -> np.ndarray:
    """The values of t of an update, float64 in [0, 1), the same for all workers and parts of its batch."""
    stream = np.random.Generator(np.random.PCG64(derived_seed("t", fit.seed, step)))
    t = stream.random(fit.draws)
    return t if fit.t == "uniform" else (np.arange(fit.draws) + t) / fit.draws


class AlongCurve:
    """An objective's mean over the values of t that are drawn in each update, all on the same rows."""

    def __init__(self, objective: Objective, module: CurveModule, fit: FitSpec):
        self._objective, self._module, self._fit = objective, module, fit

    def batch(self, step: int, group: Group) -> tuple[Batch, int]:
        batch, weight = self._objective.batch(step, group)
        return {**batch, _T: torch.from_numpy(draws(self._fit, step))}, weight * self._fit.draws

    def parts(self, batch: Batch, most: int | None) -> list[Batch]:
        """Each part of the rows at each t: the model's buffer holds one point of the curve at a time."""
        cut = cut_rows({name: tensor for name, tensor in batch.items() if name != _T}, most)
        return [{**part, _T: t} for t in batch[_T] for part in cut]

    def loss(self, model: Any, batch: Batch) -> torch.Tensor:
        return loss_at(batch[_T].item(), self._module, self._objective, model, batch)


def cut_rows(batch: Batch, most: int | None) -> list[Batch]:
    """A batch in parts of at most `most` rows; those after the first are told to be at the point that it was at."""
    parts = parts_of(batch, most)
    return [{**part, _AGAIN: torch.tensor(number > 0)} for number, part in enumerate(parts)]


def loss_at(t: float, module: CurveModule, objective: Objective, model: Any, part: Batch) -> torch.Tensor:
    """An objective's loss of a part of `cut_rows` at phi(t); `model` is the module as it is wrapped."""
    module.t, module.written = t, bool(part[_AGAIN])
    own = {name: tensor for name, tensor in part.items() if name not in (_T, _AGAIN)}
    loss = objective.loss(model, own)
    module.written = False
    return loss


def fit(
    how: NamedCurve,
    ground: Ground,
    group: Group,
    checkpoints: Checkpoints | None,
    log_every: int,
    report: Report,
    micro: MicroBatch | None = None,
) -> Fitted:
    """Fit a Bezier, polygonal or gates curve. All workers call it; raises TrainingFault as the loop does."""
    settings = fit_of(how)
    module = curve_module(how, ground.point, ground.a, ground.b, ground.groups, settings.dropout)
    objective = AlongCurve(ground.objective, module, settings)
    look = looker(module, ground, settings, group)

    def graded(step: int, wrapped: Any) -> None:
        module.complete()

    training: list[dict[str, float]] = []
    train(
        ready(module, group),
        objective,
        recipe_of(how, log_every),
        group,
        checkpoints,
        report,
        {settings.steps: lambda wrapped, curve: training.extend(curve)},
        Hooks(objective.parts, graded, look),
        micro,
    )
    step, looks = settings.steps, []
    if isinstance(choice := getattr(module, "choice", None), Choice) and choice.best is not None:
        module.state.copy_(choice.state)
        step, looks = choice.best[1], choice.history
    module.refresh()
    knots = getattr(module.curve, "knots", None)
    gates = module.state.clone() if isinstance(how, GatesCurve) else None
    return Fitted(module.matrix, None if knots is None else tuple(knots[1:-1]), gates, training, looks, step)


def ready(module: CurveModule, group: Group) -> CurveModule:
    """A module made ready for the group's strategy. Raises RaymcError for one that can't train it."""
    if group.size > 1:
        if group.strategy != "ddp":
            raise RaymcError(f"run.strategy: curves train under ddp, not under {group.strategy}")
        module.every_gradient = True
        ignored = [f"choice.{name}" for name in ("state", "table")]  # all workers have them alike
        module._ddp_params_and_buffers_to_ignore = ignored  # type: ignore[assignment]
    return module


def looker(
    module: CurveModule, ground: Ground, settings: FitSpec, group: Group, offset: int = 0
) -> Callable[[int, Any], None]:
    """What looks at the split of fit.select when a look is due; the best state is kept in `module.choice`.

    `offset`: updates done before this training; then its start, which has been looked at, is not looked at.
    """
    if ground.chosen_on is None:
        return lambda step, wrapped: None
    choice = module.choice = Choice(module.state, 2 + settings.steps // settings.select_every, len(settings.select_at))
    measure = ground.chosen_on

    def updated(step: int, wrapped: Any) -> None:
        if not due(settings, step) or (offset and not step):
            return
        found: list[float] = []
        group.first(lambda: found.extend(_losses(module, measure, settings, offset + step)))
        choice.look(offset + step, group.agreed(found), module.state)
        module.train()

    return updated


def due(settings: FitSpec, step: int) -> bool:
    """Whether a look falls on a step: at the start, at the end, and in between."""
    return step % settings.select_every == 0 or step == settings.steps


def _losses(module: CurveModule, measure: Measure, settings: FitSpec, step: int) -> list[float]:
    try:
        return [measure(module.write(t)) for t in settings.select_at]
    except RaymcError as error:
        raise TrainingFault(f"fit.select, step {step}: {error}; a lower fit.learning_rate may help") from error
