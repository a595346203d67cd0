"""Whether bfloat16 will do for a matrix: its drift against fp32 and its speed, measured at a sample of points."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

import numpy as np
import torch

from raymc.connectivity.evaluator import Evaluator
from raymc.connectivity.passes import Passes
from raymc.connectivity.traces import Seen
from raymc.connectivity.work import PairTask
from raymc.specs.errors import CorruptArtefact, RaymcError
from raymc.specs.exactness import Computed
from raymc.specs.precision import Decision, SamplePoint

ROWS = 384  # at most, of a row set: a standard error of 1.6e-4 nats where rows differ by 3e-3, as MiniLM's do
FASTER = 1.1  # times, or bfloat16 isn't worth its rounding
_WARM = 16  # rows, of a pass that is not counted: kernels are chosen and weights laid out anew in the first one


@dataclass(frozen=True)
class Part:
    """A part of a matrix to decide on. `key`: its record's; `points`: paths that have the row set, and t on each."""

    key: str
    split: str
    points: tuple[tuple[PairTask, float], ...]


def measure(
    evaluator: Evaluator,
    parts: Sequence[Part],
    rows: Mapping[str, int],
    tolerance: float,
    *,
    device: str = "cpu",
    on_any_machine: bool = False,
    most: int = ROWS,
    clock: Callable[[], float] | None = None,
) -> dict[str, Decision]:
    """A decision for each part (by key) of which a point could be scored.

    `rows`: how many each row set has; of more than `most`, a fixed random subset is scored, and a larger one where the
    tolerance lies within two standard errors of the drift. `device`: the evaluator's. `on_any_machine`: only the drift
    decides, not the machine: the rest of the matrix is in bf16 already. `clock`: seconds, by default of the process on
    a CPU (others' load says nothing of the precision), else of the wall. Raises CorruptArtefact where something that it
    reads is damaged.
    """
    clock = clock or (time.perf_counter if device.startswith("cuda") else time.process_time)
    if not on_any_machine and not native(device):
        reason = f"{device_name(device)} has no bfloat16 of its own"
        kept = Decision(precision="fp32", reason=reason, tolerance=tolerance, device=device_name(device))
        return {part.key: kept for part in parts}
    found: dict[str, Decision] = {}
    for part in parts:
        count, chosen = rows[part.split], most
        decision = _decide(_Sample(evaluator, part, count, chosen, clock), tolerance, on_any_machine)
        while decision is not None and chosen < count and _open(decision, tolerance):
            if not on_any_machine and (decision.speed or FASTER) < FASTER:
                break
            chosen *= 4
            decision = _decide(_Sample(evaluator, part, count, chosen, clock), tolerance, on_any_machine)
        if decision is not None:
            found[part.key] = decision.model_copy(update={"device": device_name(device)})
    return found


def _open(decision: Decision, tolerance: float) -> bool:
    """Whether more rows might bring the bound below the tolerance."""
    if decision.drift is None or decision.bound is None:
        return False
    return 2 * decision.drift - decision.bound < tolerance < decision.bound


def _decide(sample: _Sample, tolerance: float, on_any_machine: bool) -> Decision | None:
    """None where no point could be scored in fp32."""
    refused = ""
    for task, t in sample.part.points:
        sample.evaluator.begin()
        try:
            plain = sample.score(task, t, "fp32")
        except CorruptArtefact:
            raise
        except RaymcError:  # ends that don't fit each other, a loss that isn't finite: the evaluation will say so
            continue
        try:
            sample.add(task, t, plain, sample.score(task, t, "bf16"))
        except CorruptArtefact:
            raise
        except RaymcError as error:
            refused = f"in bf16, {error}"
            break
        if sample.drift > tolerance:  # more points can't mend it
            break
    if not refused and not sample.points:
        return None
    body: dict[str, Any] = {"tolerance": tolerance}
    if sample.points:
        bound = sample.drift + 2 * max(point.error for point in sample.points)
        body |= {
            "drift": sample.drift,
            "bound": bound,
            "accuracy_drift": max(abs(point.accuracy) for point in sample.points),
            "seconds": {name: median(seconds) for name, seconds in sample.seconds.items()},
            "sample": tuple(sample.points),
        }
        speed = Decision(precision="fp32", reason="", **body).speed or float("inf")
        if not refused and bound > tolerance:
            refused = f"bf16 drifts by up to {bound:.1e} nats, beyond {tolerance:g}"
        if not refused and not on_any_machine and speed < FASTER:
            refused = f"bf16 is {speed:.2f} times as fast here, less than {FASTER:g}"
        if not refused:
            reason = f"drift {sample.drift:.1e} nats, bound {bound:.1e} of {tolerance:g}, {speed:.1f} times as fast"
            return Decision(precision="bf16", reason=reason, **body)
    return Decision(precision="fp32", reason=refused, **body)


class _Sample:
    """Points of one part of a matrix as they are scored in both precisions, on the same rows."""

    def __init__(self, evaluator: Evaluator, part: Part, rows: int, most: int, clock: Callable[[], float]):
        self.evaluator, self.part, self._clock = evaluator, part, clock
        self._rows = chosen_rows(rows, most)
        self._warm: set[Computed] = set()
        self.points: list[SamplePoint] = []
        self.seconds: dict[Computed, list[float]] = {"fp32": [], "bf16": []}

    @property
    def drift(self) -> float:
        return max((point.drift for point in self.points), default=0.0)

    def score(self, task: PairTask, t: float, precision: Computed) -> Seen:
        """One pass, timed. Raises RaymcError where the ends don't fit or the loss isn't finite."""
        split = self.part.split
        head = task.heads[task.splits.index(split)]
        lender = {"path": "", "a": task.a, "b": task.b}[head]
        model, path, _ = self.evaluator.path(replace(task, precision=precision), lender, self.evaluator.labels(split))
        if precision not in self._warm:
            few = self.evaluator.scorer(lender or task.a, split, self._rows[:_WARM])
            Passes(model, path.curve, {split: few}).at(t)
            self._warm.add(precision)
        passes = Passes(model, path.curve, {split: self.evaluator.scorer(lender or task.a, split, self._rows)})
        began = self._clock()
        found = passes.at(t)[split]
        self.seconds[precision].append(self._clock() - began)
        return found

    def add(self, task: PairTask, t: float, plain: Seen, rounded: Seen) -> None:
        """The same rows in fp32 and bf16, compared."""
        off, terms = rounded.loss - plain.loss, plain.terms
        share = off.sum() / terms.sum()
        spread = off - share * terms  # of a ratio of sums, as the mean over terms is
        error = float(spread.std() / (terms.mean() * np.sqrt(len(off))))
        first = next(iter(plain.score.metrics))
        self.points.append(
            SamplePoint(
                a=task.a,
                b=task.b,
                curve=task.curve,
                split=self.part.split,
                t=t,
                rows=len(off),
                fp32=plain.score.loss,
                bf16=rounded.score.loss,
                error=error,
                accuracy=rounded.score.metrics[first] - plain.score.metrics[first],
            )
        )


def chosen_rows(rows: int, most: int) -> np.ndarray:
    """Row numbers in order: all, or a fixed random choice of `most`."""
    if rows <= most:
        return np.arange(rows)
    return np.sort(np.random.default_rng(0).permutation(rows)[:most])


def native(device: str) -> bool:
    """Whether the hardware multiplies bfloat16 itself (a CPU: AVX-512 BF16, AMX or Arm's), not by way of fp32."""
    if device.startswith("cuda"):
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if not hasattr(torch.cpu, "get_capabilities"):  # before torch 2.10
        return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    found = torch.cpu.get_capabilities()
    return any(found.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16", "sve_bf16"))


def device_name(device: str) -> str:
    """What a device is called by its maker, as far as torch knows."""
    if device.startswith("cuda"):
        return torch.cuda.get_device_name(device)
    known = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return str(known.get("cpu_name") or platform.machine())
