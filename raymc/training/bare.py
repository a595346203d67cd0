"""Only the training loops of some trials: what a sweep's overhead is measured against."""

from __future__ import annotations

import math
import multiprocessing
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import Any

import torch

from raymc.specs.errors import RaymcError
from raymc.specs.trial import TrialSpec
from raymc.store.store import Store
from raymc.tasks import backbones
from raymc.tasks.optimizers import make_optimizer
from raymc.training.finetune import data_of, prepared, recipe_of
from raymc.training.microbatch import parts_of
from raymc.training.objectives import objective_of
from raymc.training.parallel import Group
from raymc.training.schedule import steps_of


@dataclass(frozen=True)
class Bare:
    """Seconds of wall time. `loops`: of all loops; `start`: of what comes before them (processes, imports, token ids).

    `each`: of every trial's own loop with its model's load, in the order of the trials.
    """

    loops: float
    start: float
    each: tuple[float, ...]


def bare_loops(
    trials: Sequence[TrialSpec], storage: str, processes: int, threads: int = 1, device: str = "cpu"
) -> Bare:
    """Train every trial from its backbone, one after another in each of so many processes, and keep nothing.

    The batches, passes and optimizer are those of a sweep; there is no Ray, checkpoint, report, snapshot or store but
    for `storage`, which has the backbones that raymc pre-trained. Raises RaymcError as fine-tuning does.
    """
    bodies = [trial.model_dump_json() for trial in trials]
    context = multiprocessing.get_context("spawn")
    began = time.perf_counter()
    together = context.Barrier(processes)
    with ProcessPoolExecutor(processes, context, _begin, (together, storage, threads, device)) as pool:
        list(pool.map(_ready, [bodies] * processes))
        ready = time.perf_counter()
        each = tuple(pool.map(_loop, bodies))
        return Bare(time.perf_counter() - ready, ready - began, each)


_HERE: dict[str, Any] = {}  # what a process of the pool is told when it starts


def _begin(together: Any, storage: str, threads: int, device: str) -> None:
    torch.set_num_threads(threads)
    backbones.quiet()
    _HERE.update(together=together, store=Store(storage), device=device)


def _ready(bodies: list[str]) -> None:
    """Make the token ids; each process does, for none goes on before all have come here."""
    try:
        for body in bodies:
            data_of(TrialSpec.model_validate_json(body), _HERE["store"], None)
    except RaymcError:
        _HERE["together"].abort()  # else the others would wait for this one
        raise
    _HERE["together"].wait()


def _loop(body: str) -> float:
    began = time.perf_counter()
    trial, store, device = TrialSpec.model_validate_json(body), _HERE["store"], _HERE["device"]
    data = data_of(trial, store, None)
    model = prepared(trial, data, store).to(device).train()
    steps = steps_of(trial, data.rows)
    recipe = recipe_of(trial, steps, steps)
    objective = objective_of(trial.model.kind, data.tokens, trial.train.batch_size, trial.seeds.order)
    optimizer = make_optimizer(
        model,
        recipe.optimizer,
        recipe.learning_rate,
        weight_decay=recipe.weight_decay,
        betas=recipe.betas,
        momentum=recipe.momentum,
    )
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for step in range(trial.train.snapshot or steps):
        for group in optimizer.param_groups:
            group["lr"] = recipe.rate(step)
        batch, weight = objective.batch(step, Group(device=device))
        for part in parts_of(batch, None):
            with torch.autocast(device.split(":")[0], torch.bfloat16, enabled=recipe.precision == "bf16"):
                loss = objective.loss(model, part)
            (loss / weight).backward()
        torch.nn.utils.clip_grad_norm_(trained, recipe.clip_norm or math.inf)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    if device != "cpu":
        torch.cuda.synchronize()
    return time.perf_counter() - began
