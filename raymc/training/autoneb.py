"""AutoNEB: a chain of pivots relaxed in cycles, with pivots added where it is high (Draxler et al. 2018, Alg. 1, 2).

In each update all pivots see the same rows; each moves along its own loss's gradient, less the part along the chain
(raymc.landscape.neb), by the optimizer, and then the pivots slide along the chain back to the shares of its length
that they had when the cycle began. The loop is that of minima: a cycle is one training with a learning rate half that
of the cycle before, and its own optimizer. A cycle's start is kept beside its checkpoints, so a kill costs no more
than in any training.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from raymc.landscape import neb
from raymc.landscape.curves import arc_parameters, start_bends
from raymc.specs.curves import AutoNebCurve
from raymc.specs.errors import CorruptArtefact, RaymcError, TrainingFault
from raymc.store import layout
from raymc.tasks.backbones import derived_seed
from raymc.tasks.bends import build_curve
from raymc.training.checkpoint import Checkpoints
from raymc.training.curve_choice import Choice
from raymc.training.curve_model import CurveModule
from raymc.training.curve_steps import Fitted, Ground, cut_rows, due, looker, loss_at, ready, recipe_of
from raymc.training.loop import Batch, Hooks, Report, train
from raymc.training.memory import MicroBatch
from raymc.training.parallel import Group

SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)  # of each segment, where the loss is measured after a cycle
_DECAY = 0.5  # of the learning rate, from one cycle to the next
_LOWER = "a lower fit.learning_rate may help"
_PIVOT = "pivot"  # the entry of a batch with the pivot's number


@dataclass(frozen=True)
class _Stage:
    """The chain at the start of a cycle (from 0), and what is known of those before it."""

    cycle: int
    pivots: torch.Tensor
    training: list[dict[str, float]] = field(default_factory=list)
    looks: list[tuple[int, list[float]]] = field(default_factory=list)
    inserted: list[list[tuple[int, float]]] = field(default_factory=list)
    best: tuple[float, int] | None = None
    chosen: torch.Tensor | None = None  # the pivots of the best state


def autoneb(
    how: AutoNebCurve,
    ground: Ground,
    group: Group,
    checkpoints: Checkpoints,
    log_every: int,
    report: Report,
    micro: MicroBatch | None = None,
) -> Fitted:
    """Fit a chain. All workers call it; what it keeps on the way lies under the key of `checkpoints`.

    Memory: five to six floats a pivot and parameter. Raises TrainingFault as the loop does.
    """
    stages = _Stages(checkpoints, ground.a.device)
    cycle = group.agreed(stages.newest() if group.rank == 0 else 0)  # all go on from the same
    stage = stages.read(cycle) if cycle else _Stage(0, torch.stack(start_bends(ground.a, ground.b, how.pivots)))
    while stage.cycle < how.cycles:
        stage = _cycle(how, ground, group, checkpoints, log_every, report, stage, micro)
        group.first(partial(stages.keep, stage))
    kept = stage.pivots if stage.chosen is None else stage.chosen
    knots = arc_parameters([ground.a, *kept, ground.b])[1:-1]
    step = how.fit.steps * how.cycles if stage.best is None else stage.best[1]
    notes = {"inserted": stage.inserted}
    return Fitted(kept, tuple(knots), None, stage.training, stage.looks, step, notes)


def _cycle(
    how: AutoNebCurve,
    ground: Ground,
    group: Group,
    checkpoints: Checkpoints,
    log_every: int,
    report: Report,
    stage: _Stage,
    micro: MicroBatch | None,
) -> _Stage:
    """Relax the chain for one cycle, and insert pivots unless it was the last."""
    fit, offset = how.fit, stage.cycle * how.fit.steps
    band = _Band(how, ground, stage.pivots, offset, group)
    recipe = replace(
        recipe_of(how, log_every),
        learning_rate=how.learning_rate * _DECAY**stage.cycle,
        dropout_seed=derived_seed("cycle", fit.seed, stage.cycle),
    )
    look = looker(band.module, ground, fit, group, offset)

    def updated(step: int, wrapped: Any) -> None:
        if step:
            band.settle()
        if due(fit, step):
            band.retime()
        look(step, wrapped)

    training: list[dict[str, float]] = []
    train(
        ready(band.module, group),
        band,
        recipe,
        group,
        replace(checkpoints, key=cycle_key(checkpoints.key, stage.cycle)),
        lambda point: report({**point, "step": point["step"] + offset}),
        {fit.steps: lambda wrapped, curve: training.extend(curve)},
        Hooks(band.parts, band.graded, updated),
        micro,
    )
    pivots, inserted = band.module.matrix, []
    if stage.cycle + 1 < how.cycles:
        band.retime()
        found: list[list[tuple[int, float]]] = []
        group.first(lambda: found.append(band.high_places()))
        inserted = [[(int(segment), float(share)) for segment, share in group.agreed(found)[0]]]
        pivots = neb.insert(ground.a, pivots, ground.b, inserted[0])
    best, chosen, looks = stage.best, stage.chosen, stage.looks
    choice = getattr(band.module, "choice", None)
    if isinstance(choice, Choice):
        looks = [*looks, *choice.history]
        if choice.best is not None and (best is None or choice.best < best):
            best, chosen = choice.best, choice.state.clone()
    points = [{**point, "step": point["step"] + offset} for point in training]
    return _Stage(
        stage.cycle + 1, pivots, [*stage.training, *points], looks, [*stage.inserted, *inserted], best, chosen
    )


class _Band:
    """The objective of a cycle, and the forces on its pivots."""

    def __init__(self, how: AutoNebCurve, ground: Ground, pivots: torch.Tensor, offset: int, group: Group):
        self._how, self._ground, self._offset, self._group = how, ground, offset, group
        self._at = arc_parameters([ground.a, *pivots, ground.b])[1:-1]
        self.module = CurveModule(how, ground.point, ground.a, ground.b, pivots, self._at, how.fit.dropout)
        self._cut: list[Batch] = []
        self._losses = torch.zeros(len(pivots) + 2, dtype=torch.float64, device=ground.a.device)

    def batch(self, step: int, group: Group) -> tuple[Batch, int]:
        batch, weight = self._ground.objective.batch(self._offset + step, group)
        return batch, weight * len(self.module.matrix)

    def parts(self, batch: Batch, most: int | None) -> list[Batch]:
        self._cut = cut_rows(batch, most)
        self._losses.zero_()
        numbers = torch.arange(1, len(self.module.matrix) + 1)
        return [{**part, _PIVOT: number} for number in numbers for part in self._cut]

    def loss(self, model: Any, batch: Batch) -> torch.Tensor:
        rows = {name: tensor for name, tensor in batch.items() if name != _PIVOT}
        return self._loss(model, rows, int(batch[_PIVOT].item()))

    def _loss(self, model: Any, rows: Batch, number: int) -> torch.Tensor:
        knot = self.module.curve.knots[number]  # type: ignore[attr-defined]
        loss = loss_at(knot, self.module, self._ground.objective, model, rows)
        self._losses[number] += loss.detach().double()
        return loss

    @torch.no_grad()
    def graded(self, step: int, wrapped: Any) -> None:
        """Leave of each pivot's gradient what is perpendicular to the chain; the loss is a mean over pivots."""
        count = len(self.module.matrix)
        for end in (0, count + 1):
            for rows in self._cut:
                self._loss(wrapped, rows, end)
        losses = self._group.total(self._losses.clone()).tolist()
        if not all(map(math.isfinite, losses)):
            raise TrainingFault(f"a loss of the chain is not finite by step {self._offset + step + 1}; {_LOWER}")
        tangents = neb.tangents(self._ground.a, self.module.matrix, self._ground.b, losses)
        for bend, tangent in zip(self.module.bends, tangents, strict=True):
            force = torch.zeros_like(tangent)
            for tensor, view in zip(bend.parameters(), self._ground.point.views(force).values(), strict=True):
                if tensor.grad is not None:
                    torch.mul(tensor.grad, count, out=view)
                tensor.grad = view
            neb.perpendicular(force, tangent)

    def settle(self) -> None:
        """After an update: the pivots slide along the chain to their shares of its length."""
        ground, pivots = self._ground, self.module.matrix
        if not torch.isfinite(pivots.sum()):
            raise TrainingFault(f"a pivot of the chain is not finite after an update; {_LOWER}")
        neb.redistribute(ground.a, pivots, ground.b, self._at)

    def retime(self) -> None:
        """Give the pivots the t that they would be stored with. The pivots themselves, which train, have none."""
        ground, pivots = self._ground, self.module.matrix
        knots = arc_parameters([ground.a, *pivots, ground.b])[1:-1]
        self.module.curve = build_curve(self._how, ground.a, ground.b, list(pivots), knots)

    def high_places(self) -> list[tuple[int, float]]:
        """Where pivots belong, by the loss on the fixed sample. Raises TrainingFault where it isn't finite."""
        if not self._how.insert:
            return []
        assert self._ground.sample is not None
        knots, sample = self.module.curve.knots, self._ground.sample  # type: ignore[attr-defined]
        known: dict[float, float] = {}

        def at(t: float) -> float:
            if t not in known:
                known[t] = sample(self.module.write(t))
            return known[t]

        try:
            losses = [
                [at(end if share == 1.0 else start + share * (end - start)) for share in SHARES]
                for start, end in pairwise(knots)
            ]
        except RaymcError as error:
            raise TrainingFault(f"autoneb: {error}; {_LOWER}") from error
        return neb.insertions(SHARES, losses, self._how.threshold, self._how.insert)


class _Stages:
    """The starts of cycles in the store, beside the checkpoints of the cycles."""

    def __init__(self, checkpoints: Checkpoints, device: torch.device):
        self._store, self._key, self._device = checkpoints.store, checkpoints.key, device

    def keep(self, stage: _Stage) -> None:
        """Write a stage; what led to it is removed once it is whole."""
        body = {name: value for name, value in vars(stage).items() if name not in ("pivots", "chosen")}
        tensors = {"pivots": stage.pivots, **({} if stage.chosen is None else {"chosen": stage.chosen})}
        with self._store.create(layout.CHECKPOINTS, self._name(stage.cycle)) as folder:
            save_file(
                {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}, folder / "chain.safetensors"
            )
            (folder / "stage.json").write_text(json.dumps(body))
        self._forget(self._name(stage.cycle - 1))
        self._forget(cycle_key(self._key, stage.cycle - 1))

    def newest(self) -> int:
        """The cycle of the furthest whole stage, 0 for none; those that are damaged are set aside."""
        below = self._store.below(layout.CHECKPOINTS, self._key)
        cycles = [int(name[6:]) for name in below if name.startswith("start-")]
        for cycle in sorted(cycles, reverse=True):
            name = self._name(cycle)
            try:
                self._store.verify(layout.CHECKPOINTS, name, deep=True)
            except CorruptArtefact:
                self._store.set_aside(layout.CHECKPOINTS, name)
                self._forget(cycle_key(self._key, cycle))  # it may come to have other pivots
                continue
            return cycle
        return 0

    def read(self, cycle: int) -> _Stage:
        folder = self._store.folder(layout.CHECKPOINTS, self._name(cycle))
        body = json.loads((folder / "stage.json").read_text())
        tensors = {name: t.to(self._device) for name, t in load_file(folder / "chain.safetensors").items()}
        body["best"] = None if body["best"] is None else tuple(body["best"])
        body["looks"] = [(step, losses) for step, losses in body["looks"]]
        return _Stage(**body, pivots=tensors["pivots"], chosen=tensors.get("chosen"))

    def _name(self, cycle: int) -> str:
        return f"{self._key}/start-{cycle:03d}"

    def _forget(self, name: str) -> None:
        self._store.discard(layout.CHECKPOINTS, name)


def cycle_key(key: str, cycle: int) -> str:
    """The key of a cycle's checkpoints."""
    return f"{key}/cycle-{cycle:03d}"
