"""The first half of a run: backbones, minima and fitted curves that the store lacks."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

from raymc.specs.content import backbone_trajectory
from raymc.specs.errors import CorruptArtefact
from raymc.specs.text import TextBackbone
from raymc.store import layout
from raymc.sweep.check import backbones_of
from raymc.sweep.sharing import Runs, share
from raymc.sweep.state import State

if TYPE_CHECKING:
    from raymc.runtime.cluster import Shape
    from raymc.runtime.trial import Settings, Trial
    from raymc.specs.model import Pretrained


def train(state: State, worker: Shape, at_once: int) -> bool:
    """Pre-train, fine-tune and fit what the store lacks; whether a minimum turned out damaged, to be trained again.

    `at_once` groups of workers of shape `worker` fit the cluster.
    """
    from raymc.runtime.scratch import clear
    from raymc.runtime.trial import Settings

    spec, failure = state.spec, state.spec.failure
    tokens = str(state.store.scratch("tokens"))
    settings = Settings(
        storage=state.store.uri,
        workers=1,
        cpus=worker.cpus,
        gpus=worker.gpus,
        strategy=spec.resources.trial.strategy,
        retries=failure.trial_retries,
        checkpoint_every=failure.checkpoint_every,
        log_every=spec.tracking.log_every,
        scratch=str(state.store.scratch("trials")),
        micro_batch=spec.resources.trial.micro_batch,
        tokens=tokens,
    )
    begun: list[str] = []
    try:
        return _train(state, settings, at_once, begun)
    finally:
        clear(tokens, state.store, elsewhere=bool(begun) and not state.stop.is_set())


def _train(state: State, settings: Settings, at_once: int, begun: list[str]) -> bool:
    """As `train`. `begun` gets the runs that make token ids, as they begin."""
    workers = state.spec.resources.trial.workers
    _pretrain(state, settings, workers, at_once)
    _minima(state, settings, workers, at_once, begun)
    return not state.stop.is_set() and _fit(state, settings, max(1, at_once * workers), begun)


def _pretrain(state: State, settings: Settings, workers: int, at_once: int) -> None:
    """The backbones that missing minima start from, or that PEFT folders need to be opened: one run a trajectory."""
    from raymc.runtime.search import run_trials
    from raymc.runtime.trial import Trial

    peft = {key for key, point in state.points.items() if point.trial.tuning.method not in ("full", "bitfit")}

    def needed() -> dict[str, Pretrained]:
        return backbones_of(state.points, {*state.missing(), *peft})

    def lacking() -> Runs:
        runs: Runs = {}
        for key, backbone in needed().items():
            if not state.store.has(layout.BACKBONES, key):
                runs.setdefault(backbone_trajectory(backbone), []).append(key)
        return runs

    def compute(runs: Runs) -> bool:
        began = time.perf_counter()
        missing, backbones = state.missing(), needed()
        todo = [key for keys in runs.values() for key in keys]
        there = sum(state.store.has(layout.BACKBONES, key) for key in backbones)
        state.progress.stage("backbones", len(backbones), there)
        trials = [
            Trial(
                layout.BACKBONES,
                run,
                f"pretraining seed={backbones[keys[0]].seed}",
                tuple(keys),
                tuple(backbones[key].model_dump(mode="json") for key in keys),
            )
            for run, keys in runs.items()
        ]
        text = any(isinstance(backbones[key], TextBackbone) for key in todo)  # the built-in ones are too small
        several = replace(settings, workers=workers if text else 1)
        each = at_once if several.workers > 1 else max(1, at_once * workers)
        failed = run_trials(
            trials, several, each, state.store, state.progress, state.stop, lambda trial: None, state.verbose
        )
        lost = {key: failed[run] for run, keys in runs.items() if run in failed for key in keys}
        for key in missing:
            for backbone in backbones_of(state.points, {key}):
                if backbone in lost and not state.store.has(layout.BACKBONES, backbone):
                    state.failed_minima[key] = f"its backbone failed: {lost[backbone]}"
        state.mark("backbones", began)
        return False

    share(state, layout.BACKBONES, lacking, compute)


def _minima(state: State, settings: Settings, workers: int, at_once: int, begun: list[str]) -> None:
    def lacking() -> Runs:
        """By trajectory: one run makes all snapshots of one."""
        runs: Runs = {}
        for key in state.missing():
            runs.setdefault(state.points[key].trial.trajectory, []).append(key)
        return runs

    def compute(runs: Runs) -> bool:
        began = time.perf_counter()
        missing = len(state.missing())
        state.progress.stage("minima", len(state.points), len(state.points) - missing - len(state.failed_minima))
        for existing in (True, False):  # what exists already is only taken into the store, by one worker
            chosen = {run: keys for run, keys in runs.items() if _existing(state, keys) == existing}
            if chosen:
                begun.extend(() if existing else chosen)
                _tune(state, chosen, replace(settings, workers=1 if existing else workers), at_once)
        state.computed_minima |= {key for keys in runs.values() for key in keys} & state.whole()
        state.mark("minima", began)
        return False

    share(state, layout.MINIMA, lacking, compute)


def _existing(state: State, keys: list[str]) -> bool:
    return any(state.points[key].existing is not None for key in keys)


def _tune(state: State, runs: Runs, settings: Settings, at_once: int) -> None:
    from raymc.runtime.search import run_trials
    from raymc.runtime.trial import Trial

    trials = [
        Trial(
            layout.MINIMA,
            run,
            state.name(some[0]),
            tuple(some),
            tuple(state.points[key].trial.model_dump(mode="json") for key in some),
        )
        for run, some in runs.items()
    ]

    def finished(trial: Trial) -> None:
        if state.tracking is not None:
            for key in trial.keys:
                state.tracking.minimum(key, state.points[key])

    failed = run_trials(trials, settings, at_once, state.store, state.progress, state.stop, finished, state.verbose)
    for run, reason in failed.items():
        state.failed_minima |= {key: reason for key in runs[run] if not state.store.has(layout.MINIMA, key)}


def _fit(state: State, settings: Settings, at_once: int, begun: list[str]) -> bool:
    """The fitted curves between minima that are there: one run a pair, by one worker; see `train`."""
    from raymc.runtime.search import run_trials
    from raymc.runtime.trial import Trial

    pairs: dict[str, tuple[str, str, str]] = {}
    damaged: list[CorruptArtefact] = []

    def lacking() -> Runs:
        for one in state.connections.missing_fits(state.whole()):
            pairs[state.connections.fit_key(*one)] = one
        failed = {key for key, one in pairs.items() if one in state.failed_pairs}
        return {key: [key] for key in pairs if key not in failed and not state.store.has(layout.CURVES, key)}

    def compute(runs: Runs) -> bool:
        began = time.perf_counter()
        total, whole = (sum(1 for _ in state.connections.fits(there)) for there in (None, state.whole()))
        left = sum(not state.store.has(layout.CURVES, key) for key in pairs)
        state.progress.stage("curves", total, whole - left)
        trials = []
        for key in runs:
            a, b, curve = pairs[key]
            fitting = state.connections.fitting(a, b, curve)
            name = f"{curve} {state.name(a)} - {state.name(b)}"
            trials.append(Trial(layout.CURVES, key, name, (key,), (fitting.model_dump(mode="json"),)))
        begun.extend(runs)
        failed = run_trials(
            trials, settings, at_once, state.store, state.progress, state.stop, lambda trial: None, state.verbose
        )
        damaged.extend(error for key in failed for error in _damaged(state, pairs[key][:2]))
        lost = {error.key for error in damaged}
        for key, reason in failed.items():
            if not lost & {*pairs[key][:2]}:
                state.failed_pairs[pairs[key]] = f"its curve failed: {reason}"
        for error in {error.key: error for error in damaged}.values():
            state.set_aside(error)
        state.computed_curves |= {key for key in runs if state.store.has(layout.CURVES, key)}
        state.mark("curves", began)
        return bool(damaged)

    share(state, layout.CURVES, lacking, compute)
    return bool(damaged)


def _damaged(state: State, ends: tuple[str, ...]) -> list[CorruptArtefact]:
    """Which minima aren't what was written: a fit that fails may have met one."""
    found = []
    for key in ends:
        try:
            state.store.verify(layout.MINIMA, key, deep=True)
        except CorruptArtefact as error:
            found.append(error)
    return found
