"""Ray Tune runs the trials that the store lacks; the store, not Tune's own state, says what is finished."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ray import tune
from ray.exceptions import RayActorError, RayError, RayTaskError
from ray.tune.callback import Callback
from ray.tune.error import TuneError
from ray.tune.execution import tune_controller
from ray.tune.execution.placement_groups import PlacementGroupFactory
from ray.tune.stopper import Stopper

from raymc.runtime.cluster import Shape
from raymc.runtime.leftovers import give_back
from raymc.runtime.losses import Tries, disk_full, last_line, loss_of
from raymc.runtime.scratch import clear
from raymc.runtime.trial import FAILED, GIVEN_UP, HALTED, Settings, Trial, tune_trial
from raymc.specs.errors import StorageFault
from raymc.specs.progress import Progress
from raymc.store.store import Store

_WAITING = 60.0  # seconds without a running trial before that is said
_LOOK = 5.0  # seconds between looks for room that groups of workers left behind


@dataclass
class _Live:
    """A running search, in the driver alone: Tune pickles its callbacks, so they hold this by number."""

    by_key: dict[str, Trial]
    store: Store
    progress: Progress
    stop: threading.Event
    finished: Callable[[Trial], None]
    retries: int
    group: dict[str, float] | None = None  # resources of each worker, where trials have several
    failed: dict[str, str] = field(default_factory=dict)
    tries: dict[str, Tries] = field(default_factory=dict)
    halted: str = ""  # why no trial can go on
    ran: float = field(default_factory=time.monotonic)  # when a trial last ran
    looked: float = 0.0  # when room was looked for that groups left behind

    def tries_of(self, trial: Trial) -> Tries:
        return self.tries.setdefault(trial.key, Tries(self.retries))

    def tidy(self) -> None:
        """Give back the room of groups of workers that died."""
        if self.group and self.tries:
            give_back(self.group)

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

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any):
        live, now = _LIVE[self._number], time.monotonic()
        if now - live.looked > _LOOK:
            live.looked = now
            live.tidy()
        if any(trial.status == "RUNNING" for trial in trials):
            live.ran = now
        elif now - live.ran > _WAITING:
            live.ran = now + 4 * _WAITING
            live.progress.say("no trial has room in the cluster: waiting for other sweeps to end, or for nodes")

    def on_trial_result(self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any):
        live, ours = self._of(trial)
        if FAILED in result:
            live.failed[ours.key] = result[FAILED]
            live.halted = live.halted or (result[FAILED] if result.get(HALTED) else "")
        elif "step" in result:
            live.tries_of(ours).reached(float(result["step"]))
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
        live.fail(ours, trial.config.get(GIVEN_UP) or loss_of(_last_error(trial)).reason)

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any):
        """Tune tries for ever; what is given up starts once more, says so and ends."""
        live, ours = self._of(trial)
        text = _last_error(trial)
        loss = loss_of(text)
        why = live.tries_of(ours).again(loss)
        if full := disk_full(OSError(text), live.store.uri):
            live.halted = live.halted or str(full)
        if why is None:
            live.progress.say(f"{ours.name} is run again, from its last checkpoint: {loss.reason}")
        else:
            trial.config[GIVEN_UP] = why
            trial.max_failures = 0


class _OnStop(Stopper):
    """Ends the search once the run is asked to stop."""

    def __init__(self, number: int):
        self._number = number

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return self.stop_all()

    def stop_all(self) -> bool:
        live = _LIVE[self._number]
        return live.stop.is_set() or bool(live.halted)


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
    """Train all of them; the reason of each run that failed, by its key. Groups of several workers go `concurrent` at a
    time, since their drivers hold nothing; of others as many as there is room for, more once nodes join.

    A trial whose process dies is run again up to `settings.retries` times and goes on from its checkpoint; one whose
    node is lost, for as long as it gets further (see raymc.runtime.losses). Once `stop` is set no trial goes on; what
    is finished is in the store. `finished` is called in the driver. Raises StorageFault where the storage can't
    be written or reached.
    """
    live = _Live({trial.key: trial for trial in trials}, store, progress, stop, finished, settings.retries)
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
    worker = Shape(settings.cpus, settings.gpus).bundle()
    live.group = worker if nested else None
    # The driver of a worker group holds no CPU of its own, else it could starve its own workers.
    own = {"CPU": 0.0, "memory": 64 * 2**20} if nested else worker
    logging.getLogger("ray.tune").setLevel(logging.INFO if verbose else logging.CRITICAL)
    tuner = tune.Tuner(
        tune.with_resources(tune_trial, PlacementGroupFactory([own])),
        param_space={
            "trial": tune.grid_search([asdict(trial) for trial in trials]),
            "settings": asdict(settings),
        },
        tune_config=tune.TuneConfig(
            reuse_actors=not nested,
            max_concurrent_trials=concurrent if nested else None,
            trial_name_creator=_key,
            trial_dirname_creator=_key,
        ),
        run_config=tune.RunConfig(
            name="trials",
            storage_path=settings.scratch,
            stop=_OnStop(number),
            failure_config=tune.FailureConfig(max_failures=-1),  # _Watch counts
            callbacks=[_Watch(number)],
            verbose=1 if verbose else 0,
        ),
    )
    try:
        with _memory_kills_are_deaths():
            results = tuner.fit()
        for index in range(len(results)):  # what no callback saw
            result = results[index]
            key = (result.config or {}).get("trial", {}).get("key")
            if key and result.error is not None and key not in live.failed:
                live.failed[key] = last_line(str(result.error))
    except (OSError, RuntimeError, TuneError) as error:
        full = disk_full(error, store.uri)
        if full is None:
            raise
        raise full from error
    finally:
        live.tidy()
        clear(settings.scratch, store, elsewhere=not live.stop.is_set())
    if live.halted:
        raise StorageFault(live.halted)
    for trial in trials:
        if trial.done(store):
            live.failed.pop(trial.key, None)
        elif trial.key not in live.failed and not live.stop.is_set():
            live.failed[trial.key] = "it ended without a result"
    return live.failed


def _key(trial: Any) -> str:
    return trial.config["trial"]["key"]


def _last_error(trial: Any) -> str:
    """The text of a Tune trial's last error; its file has all of them."""
    path = trial.error_file
    text = Path(path).read_text() if path and Path(path).is_file() else ""
    return text.rsplit("Failure # ", 1)[-1].partition("\n")[2]


@contextlib.contextmanager
def _memory_kills_are_deaths() -> Iterator[None]:
    """Tune knows of actors that die and of tasks that fail: the exception of Ray's memory monitor is neither, and would
    end the whole search.
    """
    module: Any = tune_controller
    known = module.RayActorManager

    class Manager(known):
        def _actor_task_failed(self, tracked_actor_task: Any, exception: Exception) -> None:
            if isinstance(exception, RayError) and not isinstance(exception, (RayActorError, RayTaskError)):
                exception = RayActorError(error_msg=f"{type(exception).__name__}: {exception}")
            super()._actor_task_failed(tracked_actor_task, exception)

    module.RayActorManager = Manager
    try:
        yield
    finally:
        module.RayActorManager = known
