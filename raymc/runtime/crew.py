"""The actors of a pool: those that work, those that wait for room, and new ones for those that died."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError

from raymc.runtime.actor import EvaluatorActor, EvaluatorSettings
from raymc.runtime.cluster import Shape, alive
from raymc.runtime.losses import LOSSES, halted, loss_of, objects_lost
from raymc.specs.errors import RaymcError
from raymc.specs.progress import Progress
from raymc.specs.trial import TrialSpec

_LOOK_AROUND = 10.0  # seconds between looks for nodes that came
_SAY_AGAIN = 300.0  # seconds between words on waiting for room, the first after a tenth of it
_STARTS = 5  # actors that may fail to start in a row, beside as many as there are


def _token_sets(
    spec_json: str, storage: str, minima: Sequence[str], trials: Mapping[str, TrialSpec]
) -> tuple[Any, bool]:
    """Run as a Ray task: the row sets as token ids; and True, for which the driver waits without fetching the first.

    Raises StorageFault, which names the machine, where that can't use the storage.
    """
    from raymc.connectivity.token_sets import token_sets
    from raymc.specs.sweep import SweepSpec

    try:
        return token_sets(SweepSpec.model_validate_json(spec_json), storage, minima, trials), True
    except (RaymcError, OSError, RuntimeError) as error:
        stop = halted(error, storage)
        if stop is None:
            raise
        raise stop from error


class Crew:
    """As many actors as there is work and room for; see Pool for what each is given to do."""

    def __init__(
        self,
        settings: EvaluatorSettings,
        spec_json: str,
        minima: Sequence[str],
        trials: Mapping[str, TrialSpec],
        count: int,
        most: int,
        progress: Progress,
    ):
        """`count` actors to begin with, up to `most` once nodes join."""
        self.count, self.idle = count, list[Any]()
        self._most, self._settings, self._progress = max(count, most), settings, progress
        self._asked = (spec_json, settings.storage, list(minima), dict(trials))
        self._sets, self._made = self._make_sets()
        options: dict[str, Any] = {"num_cpus": settings.cpus, "num_gpus": settings.gpus, "max_restarts": 0}
        self._actor = ray.remote(EvaluatorActor).options(**options)
        self._actors: list[Any] = []
        self._starting: dict[Any, Any] = {}  # actors that wait for room or begin, by the call that ends with that
        self._failed_starts = 0  # in a row
        self._looked = self._worked = time.monotonic()  # when nodes were last counted; when an actor last ran
        self._said, self._told = self._worked, False

    def close(self) -> None:
        for actor in self._actors:
            ray.kill(actor)
        self._actors.clear()
        self._starting.clear()
        self.idle.clear()

    def _make_sets(self) -> tuple[Any, Any]:
        """The rows as token ids, of which nodes share one copy; and what is there with them."""
        make: Any = ray.remote(_token_sets).options(num_cpus=self._settings.cpus, num_returns=2, max_retries=LOSSES)
        return make.remote(*self._asked)

    def tend(self, work: int, stop: threading.Event) -> None:
        """Have as many actors as there is room and work for, of those that run or wait for room."""
        now = time.monotonic()
        if stop.is_set() or not self._have_sets():
            self._say_waiting(now)
            return
        if self._most > self.count and now - self._looked > _LOOK_AROUND:
            self._looked = now
            fits = alive().fits(Shape(self._settings.cpus, self._settings.gpus))
            self.count = max(self.count, min(self._most, fits))
        while len(self._actors) < min(self.count, work):
            actor = self._actor.remote(self._settings, self._sets)
            self._actors.append(actor)
            self._starting[actor.ready.remote()] = actor
        if len(self._starting) < len(self._actors):
            self._worked = now
        self._say_waiting(now)

    def _say_waiting(self, now: float) -> None:
        if now - self._worked > _SAY_AGAIN / 10 and now - self._said > (_SAY_AGAIN if self._told else 0):
            self._said, self._told = now, True
            self._progress.say("no evaluator is up yet: starting, or waiting for room (other sweeps, nodes to come)")

    def _have_sets(self) -> bool:
        """Raises RaymcError where they can't be made."""
        if self._made is not None:
            if not ray.wait([self._made], timeout=0.5)[0]:
                return False
            try:
                ray.get(self._made)
            except RayTaskError as error:
                raise error.cause if isinstance(error.cause, RaymcError) else error from error
            except RayError as error:
                raise RaymcError(f"the rows can't be made into tokens: {loss_of(error).reason}") from error
            self._made = None
        return True

    def ended(self, flying: Mapping[Any, Any]) -> list[Any]:
        """Calls that have ended, after half a second at most; actors that began meanwhile are idle then."""
        ended = _ready([*self._starting, *flying])
        for call in ended:
            actor = self._starting.pop(call, None)
            if actor is not None:
                self._begun(actor, call)
        return [call for call in ended if call in flying]

    def _begun(self, actor: Any, call: Any) -> None:
        """Raises RaymcError where one actor after the other can't start."""
        try:
            ray.get(call)
        except RayError as error:
            self._actors.remove(actor)
            cause = getattr(error, "cause", None)
            if isinstance(cause, RaymcError):
                raise cause from error
            if self._made is None and objects_lost(error):  # with the node that they were made on
                self._sets, self._made = self._make_sets()
            self._failed_starts += 1
            if self._failed_starts > _STARTS + self.count:
                reason = loss_of(error).reason
                raise RaymcError(
                    f"evaluators can't be started ({self._failed_starts} in a row): {reason}; what is finished is kept"
                ) from error
        else:
            self._failed_starts = 0
            self.idle.append(actor)

    def drop(self, actor: Any) -> None:
        self._actors.remove(actor)
        if actor in self.idle:
            self.idle.remove(actor)
        ray.kill(actor)


def _ready(calls: list[Any]) -> list[Any]:
    """Those that have ended, after half a second at most."""
    if not calls:
        time.sleep(0.05)
        return []
    ready, _ = ray.wait(calls, num_returns=1, timeout=0.5)
    return ray.wait(calls, num_returns=len(calls), timeout=0)[0] if len(ready) < len(calls) and ready else ready
