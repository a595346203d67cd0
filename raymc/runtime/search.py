"""Ray Tune runs the trials that the store lacks; the store, not Tune's own state, says what is finished."""

from __future__ import annotations

import logging
import shutil
import threading
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune.callback import Callback
from ray.tune.execution.placement_groups import PlacementGroupFactory
from ray.tune.stopper import Stopper

from raymc.runtime.cluster import Shape
from raymc.runtime.trial import FAILED, Settings, Trial, tune_trial
from raymc.specs.progress import Progress
from raymc.store.store import Store


@dataclass
class _Live:
    """A running search, in the driver alone: Tune pickles its callbacks, so they hold this by number."""

    by_key: dict[str, Trial]
    store: Store
    progress: Progress
    stop: threading.Event
    finished: Callable[[Trial], None]
    failed: dict[str, str] = field(default_factory=dict)

    def fail(self, trial: Trial, reason: str) -> None:
        self.failed[trial.key] = reason
        self.progress.say(f"{trial.name} failed: {reason}")
        for key in trial.keys:
            self.progress.advance(self.store.has(trial.kind, key))


_LIVE: dict[int, _Live] = {}


class _Watch(Callback):
    """Passes on what happens to the trials."""

    def __init__(self, number: int):
        self._number = number

    def _of(self, trial: Any) -> tuple[_Live, Trial]:
        live = _LIVE[self._number]
        return live, live.by_key[trial.config["trial"]["key"]]

    def on_trial_result(self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any):
        live, ours = self._of(trial)
        if FAILED in result:
            live.failed[ours.key] = result[FAILED]
        elif "step" in result:
            live.progress.step(ours.name, int(result["step"]), int(result["steps"]), float(result["loss"]))

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any):
        live, ours = self._of(trial)
        if ours.done(live.store):
            for _ in ours.keys:
                live.progress.advance()
            live.finished(ours)
        elif ours.key in live.failed:
            live.fail(ours, live.failed[ours.key])

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any):
        live, ours = self._of(trial)
        live.fail(ours, _reason(trial))

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any):
        live, ours = self._of(trial)
        live.progress.say(f"{ours.name} is run again, from its last checkpoint: {_reason(trial)}")


class _OnStop(Stopper):
    """Ends the search once the run is asked to stop."""

    def __init__(self, number: int):
        self._number = number

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return self.stop_all()

    def stop_all(self) -> bool:
        return _LIVE[self._number].stop.is_set()


def run_trials(
    trials: Sequence[Trial],
    settings: Settings,
    concurrent: int,
    store: Store,
    progress: Progress,
    stop: threading.Event,
    finished: Callable[[Trial], None],
    verbose: bool = False,
) -> dict[str, str]:
    """Train all of them, `concurrent` at a time; the reason of each run that failed, by its key.

    A trial whose process dies is run again up to `settings.retries` times and goes on from its checkpoint. Once
    `stop` is set no trial goes on; what is finished is in the store. `finished` is called in the driver.
    """
    live = _Live({trial.key: trial for trial in trials}, store, progress, stop, finished)
    number = id(live)
    _LIVE[number] = live
    try:
        return _search(number, live, list(trials), settings, concurrent, verbose)
    finally:
        del _LIVE[number]


def _search(
    number: int, live: _Live, trials: list[Trial], settings: Settings, concurrent: int, verbose: bool
) -> dict[str, str]:
    store = live.store
    nested = settings.workers > 1
    # The driver of a worker group holds no CPU of its own, else it could starve its own workers.
    own = {"CPU": 0.0, "memory": 64 * 2**20} if nested else Shape(settings.cpus, settings.gpus).bundle()
    logging.getLogger("ray.tune").setLevel(logging.INFO if verbose else logging.CRITICAL)
    tuner = tune.Tuner(
        tune.with_resources(tune_trial, PlacementGroupFactory([own])),
        param_space={
            "trial": tune.grid_search([asdict(trial) for trial in trials]),
            "settings": asdict(settings),
        },
        tune_config=tune.TuneConfig(
            reuse_actors=not nested,
            max_concurrent_trials=concurrent,
            trial_name_creator=_key,
            trial_dirname_creator=_key,
        ),
        run_config=tune.RunConfig(
            name="trials",
            storage_path=settings.scratch,
            stop=_OnStop(number),
            failure_config=tune.FailureConfig(max_failures=0 if nested else settings.retries),
            callbacks=[_Watch(number)],
            verbose=1 if verbose else 0,
        ),
    )
    try:
        results = tuner.fit()
        for index in range(len(results)):  # what no callback saw
            result = results[index]
            key = (result.config or {}).get("trial", {}).get("key")
            if key and result.error is not None and key not in live.failed:
                live.failed[key] = _last_line(str(result.error))
    finally:
        shutil.rmtree(settings.scratch, ignore_errors=True)
    for trial in trials:
        if trial.done(store):
            live.failed.pop(trial.key, None)
        elif trial.key not in live.failed and not live.stop.is_set():
            live.failed[trial.key] = "it ended without a result"
    return live.failed


def _key(trial: Any) -> str:
    return trial.config["trial"]["key"]


def _reason(trial: Any) -> str:
    """The last line of a Tune trial's error: the exception itself."""
    path = trial.error_file
    text = Path(path).read_text() if path and Path(path).is_file() else ""
    return _last_line(text) or "its process died"


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.strip().splitlines() if line.strip()]
    named = [
        line for line in lines if ("Error" in line or "Exception" in line) and not line.startswith(("File", "at "))
    ]
    chosen = (named or lines or [""])[-1]
    return chosen[:300]
