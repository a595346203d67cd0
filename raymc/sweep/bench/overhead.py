"""A sweep's training beside its bare training loops: the same trials, on as many processes."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from raymc.connectivity.pairs import Connections
from raymc.specs.content import backbone_key
from raymc.specs.curves import LinearCurve
from raymc.specs.errors import RaymcError
from raymc.specs.progress import Progress, Silent
from raymc.specs.sweep import Point, SweepSpec
from raymc.store import layout
from raymc.store.store import Store
from raymc.sweep.bench.source import linked
from raymc.sweep.check import backbones_of
from raymc.sweep.state import State
from raymc.sweep.training import train
from raymc.tasks.rows import labels_of
from raymc.training.bare import Bare, bare_loops

_QUICK = 2  # trials a process


@dataclass(frozen=True)
class Trained:
    """Wall seconds. `sweep`: the stage of the minima, of a run; `start`: of Ray; `bare`: of the loops alone."""

    trials: int
    processes: int
    start: float
    sweep: float
    bare: Bare

    def as_dict(self) -> dict[str, Any]:
        return {
            "trials": self.trials,
            "processes": self.processes,
            "ray_start": self.start,
            "minima_stage": self.sweep,
            "bare_loops": self.bare.loops,
            "bare_start": self.bare.start,
            "bare_each": list(self.bare.each),
        }


def trained(
    spec: SweepSpec, points: Mapping[str, Point], store: Store, home: Path, quick: bool, progress: Progress
) -> Trained:
    """Train a sweep's minima anew in a temporary store, and their bare loops after that.

    `store`: where backbones that raymc pre-trained are taken from; those that aren't there are made first. Raises
    RaymcError where a trial fails, or all of the minima exist already outside the sweep.
    """
    from raymc.runtime.cluster import Shape, connect

    chosen = {
        key: point for key, point in points.items() if point.existing is None and point.trial.train.snapshot is None
    }
    if not chosen:
        raise RaymcError(f"--training: sweep {spec.name} has no minimum that is trained by itself, to its end")
    backbones = backbones_of(dict(points), set(chosen))
    scratch = linked(store, home, ())
    asked = spec.resources.trial
    with connect(None, verbose=False) as cluster:
        gpus = (1.0 if cluster.has_gpus else 0.0) if asked.gpus == "auto" else asked.gpus
        worker = Shape(asked.cpus, gpus)
        processes = cluster.require(worker, 1, "resources.trial", "workers")
        if quick:
            chosen = dict(list(chosen.items())[: _QUICK * processes])
        processes = min(processes, len(chosen))
        state = _state(spec, chosen, scratch)
        if any(not scratch.has(layout.BACKBONES, backbone_key(one)) for one in backbones.values()):
            progress.say("the backbones are pre-trained first")
    began = time.perf_counter()
    with connect(None, verbose=False):
        start = time.perf_counter() - began
        train(state, worker, processes)
    if state.failed_minima:
        key, reason = next(iter(state.failed_minima.items()))
        raise RaymcError(f"{state.name(key)} can't be trained: {reason}")
    device = "cuda" if gpus and torch.cuda.is_available() else "cpu"
    bare = bare_loops(
        [point.trial for point in chosen.values()], scratch.uri, processes, max(1, int(asked.cpus)), device
    )
    return Trained(len(chosen), processes, start, state.seconds["minima"], bare)


def _state(spec: SweepSpec, points: dict[str, Point], store: Store) -> State:
    """A run that only trains: nothing is joined by fitted curves, nothing is tracked."""
    changed = {"curves": (LinearCurve(curve="linear"),), "planes": ()}
    asked = spec.model_copy(update={"connectivity": spec.connectivity.model_copy(update=changed)})
    return State(asked, points, store, Connections(asked, store, points, labels_of), Silent(), None, False)
