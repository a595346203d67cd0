"""What is gained by fewer passes and by bfloat16, and how far the losses are from exhaustive ones in fp32."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import mean
from typing import Any

import numpy as np

from raymc.connectivity.evaluator import Evaluator
from raymc.connectivity.passes import Passes
from raymc.connectivity.precision import FASTER, native
from raymc.connectivity.work import PairTask
from raymc.landscape.grid import even_points
from raymc.specs.exactness import Computed
from raymc.specs.results import Profile
from raymc.sweep.bench.clock import Clock, Seconds, ratio
from raymc.sweep.bench.place import Place, hold, lender_of

_SLACK = 1e-6  # nats, of fp32's own rounding, which a bound doesn't count
_WARM = 16  # rows of a pass that isn't counted
_SETTLED = 8  # passes on a GPU, until it is settled how they are made
_BF16_POINTS = 5  # of a path, at most


@dataclass
class Against:
    """Profiles of some pairs against exhaustive ones in fp32: seconds of each pair by both, passes and differences.

    `off`: of every profile, the largest |difference of the mean loss| at a point that both have, nats. `bound`: what
    each states. `passes`: interior ones over a row set, of each profile.
    """

    seconds: list[Seconds] = field(default_factory=list)
    exhaustive: list[Seconds] = field(default_factory=list)
    inside: list[float] = field(default_factory=list)
    passes: list[float] = field(default_factory=list)
    off: list[float] = field(default_factory=list)
    bound: list[float] = field(default_factory=list)
    shared: int = 0  # points that a profile shares with the exhaustive one

    @property
    def faster(self) -> float:
        return ratio(self.exhaustive, self.seconds)

    @property
    def held(self) -> float:
        """The share of profiles that lie within their bound."""
        return mean(off <= bound + _SLACK for off, bound in zip(self.off, self.bound, strict=True))

    def as_dict(self) -> dict[str, Any]:
        return {
            "seconds": [one.wall for one in self.seconds],
            "exhaustive_seconds": [one.wall for one in self.exhaustive],
            "passes": self.passes,
            "off": self.off,
            "bound": self.bound,
            "shared_points": self.shared,
        }


def against(
    place: Place,
    evaluator: Evaluator,
    tasks: Sequence[PairTask],
    exhaustive: Sequence[tuple[PairTask, Seconds, list[Profile]]],
) -> Against:
    """Score each pair's task, its endpoints held already, and compare with its exhaustive profiles.

    Where those have fewer points than the profile, their seconds are taken as if they had as many.
    """
    clock, found = Clock(place.device), Against()
    for task, (whole, seconds, known) in zip(tasks, exhaustive, strict=True):
        ends = place.ends(evaluator, task)
        hold(evaluator, task)
        taken, profiles = clock.of(lambda task=task, ends=ends: place.score(evaluator, task, ends))
        share = (task.points - 2) / (whole.points - 2)
        found.seconds.append(taken)
        found.exhaustive.append(seconds * share)
        found.inside.append(sum(profile.seconds for profile in profiles))
        for profile, reference in zip(profiles, known, strict=True):
            at = {round(t, 9): loss for t, loss in zip(profile.t, profile.loss, strict=True)}
            both = [
                (at[round(t, 9)], loss)
                for t, loss in zip(reference.t, reference.loss, strict=True)
                if round(t, 9) in at
            ]
            found.shared = len(both)
            found.off.append(max(abs(one - other) for one, other in both))
            found.bound.append(profile.bound)
            found.passes.append(profile.passes)
    return found


@dataclass(frozen=True)
class Rounded:
    """Passes at the same points in both precisions, in turn. `off`: |difference of the mean loss|, nats, of each."""

    seconds: Mapping[Computed, list[Seconds]]
    off: list[float]

    def faster(self, by: str) -> float:
        return ratio(self.seconds["fp32"], self.seconds["bf16"], by)

    @property
    def drift(self) -> float:
        return max(self.off)

    def as_dict(self) -> dict[str, Any]:
        seconds = {name: [one.wall for one in some] for name, some in self.seconds.items()}
        return {"seconds": seconds, "off": self.off}


def rounded(place: Place, evaluator: Evaluator, task: PairTask, quick: bool) -> Rounded:
    """`task`: exhaustive, in fp32. All rows at points from one end of the path to its middle and beyond."""
    clock = Clock(place.device)
    grid = even_points(task.points)
    t = [grid[i * (len(grid) - 1) // (_BF16_POINTS - 1)] for i in range(_BF16_POINTS)]
    t = t[1:3] if quick else t
    seconds: dict[Computed, list[Seconds]] = {"fp32": [], "bf16": []}
    off: list[float] = []
    for split in task.splits:
        head, passes = lender_of(task, split), {}
        scorer = evaluator.scorer(head or task.a, split)
        few = evaluator.scorer(head or task.a, split, np.arange(min(_WARM, scorer.rows)))
        for precision in seconds:
            model, path, _ = evaluator.path(replace(task, precision=precision), head, evaluator.labels(split))
            Passes(model, path.curve, {split: few}).at(t[-1])  # kernels are chosen in the first one
            passes[precision] = Passes(model, path.curve, {split: scorer}, evaluator.running)
            for _ in range(0 if place.device == "cpu" else _SETTLED):
                passes[precision].at(t[-1])
        for number, at in enumerate(t):
            found = {}
            for precision in seconds if number % 2 == 0 else reversed(seconds):
                taken, found[precision] = clock.of(lambda one=passes[precision], at=at: one.at(at))
                seconds[precision].append(taken)
            off.append(abs(found["bf16"][split].score.loss - found["fp32"][split].score.loss))
    return Rounded(seconds, off)


def decided(place: Place, found: Rounded) -> tuple[Computed, str]:
    """What the sweep's passes compute in, and why: as it says, as its store has it, else as was measured here."""
    decisions = place.known.decisions
    if decisions.begun:
        return decisions.precision, decisions.decision.reason
    tolerance = place.spec.connectivity.drift_tolerance
    assert tolerance is not None
    if not native(place.device):
        return "fp32", "auto: no bfloat16 of its own here"
    if found.drift > tolerance:
        return "fp32", f"auto: drift {found.drift:.1e} nats, beyond {tolerance:g}"
    speed = found.faster("wall" if place.device.startswith("cuda") else "cpu")
    if speed < FASTER:
        return "fp32", f"auto: bf16 is {speed:.2f} times as fast here"
    return "bf16", f"auto: drift {found.drift:.1e} nats of {tolerance:g}, {speed:.1f} times as fast here"
