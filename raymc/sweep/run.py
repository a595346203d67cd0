"""Run a sweep: train what is missing, evaluate what is missing, write the tables, bring the tracker up to date."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from raymc.connectivity.pairs import Connections, PairTask
from raymc.specs.content import backbone_trajectory
from raymc.specs.errors import CorruptArtefact
from raymc.specs.naming import name_of
from raymc.specs.progress import Progress, Silent
from raymc.specs.sweep import Point, SweepSpec
from raymc.specs.text import TextBackbone
from raymc.store import layout
from raymc.store.store import Store
from raymc.sweep.check import Locate, backbones_of, check, open_store, trials_by_key, unlocated, whole_minima
from raymc.sweep.results import Sweep, write_sweep
from raymc.sweep.tracking import Tracking

if TYPE_CHECKING:
    from raymc.runtime.cluster import Cluster
    from raymc.specs.results import Evaluation

_ROUNDS = 3  # of evaluation, where weights turn out damaged when they are read and are trained anew


class Interrupted(KeyboardInterrupt):
    """A run that was asked to stop and did; everything finished is in the store."""


def run(
    spec: SweepSpec,
    *,
    storage: str | None = None,
    tracking: str | None = None,
    address: str | None = None,
    progress: Progress | None = None,
    verbose: bool = False,
    locate: Locate = unlocated,
) -> Sweep:
    """Bring a sweep to its end and return it; what the store has already isn't computed again.

    `storage`: folder (else the spec's, else ./raymc-store). `tracking`: MLflow URI (else the spec's, else sqlite in
    the storage). `address`: a Ray cluster (else a Ray that is joined already, else one started here and stopped).
    Raises RaymcError for bad input before anything runs, and Interrupted after Ctrl-C. Minima and pairs that fail for
    good don't raise: see the sweep's `result` and `failures`.
    """
    return _Run(spec, storage, tracking, address, progress or Silent(), verbose, locate).go()


class _Run:
    def __init__(
        self,
        spec: SweepSpec,
        storage: str | None,
        tracking: str | None,
        address: str | None,
        progress: Progress,
        verbose: bool,
        locate: Locate,
    ):
        self.started = time.perf_counter()
        self.spec, self.address = spec, address
        self.progress, self.verbose, self.locate = progress, verbose, locate
        from raymc.tasks.rows import labels_of

        check(spec, locate)
        self.points: dict[str, Point] = trials_by_key(spec)
        self.store: Store = open_store(spec, storage, write=True)
        self.connections = Connections(spec, self.store, self.points, labels_of)
        self.stop = threading.Event()
        self.failed_minima: dict[str, str] = {}
        self.failed_pairs: dict[tuple[str, str, str], str] = {}
        self.computed_minima: set[str] = set()
        self.computed_pairs: set[tuple[str, str, str]] = set()
        self.seconds: dict[str, float] = {}
        self.tracking = Tracking(spec, self.store, tracking, progress) if spec.tracking.enabled else None

    def go(self) -> Sweep:
        self._look_after_minima()
        try:
            if self._missing() or self._missing_evaluations():
                self._place()
                with self._signals():
                    self._compute()
            if self.stop.is_set():
                raise Interrupted
            sweep = self._write()
            self._track(sweep)
        finally:
            if self.tracking is not None:
                self.tracking.close()
        return sweep

    # What there is ----------------------------------------------------------------------------------------------

    def _whole(self) -> set[str]:
        return whole_minima(self.store, set(self.points))

    def _missing(self) -> list[str]:
        there = self._whole()
        return [key for key in self.points if key not in there and key not in self.failed_minima]

    def _missing_evaluations(self) -> bool:
        endpoints, lost = self.connections.missing_endpoints(self._whole())
        pairs, lost_too = self.connections.missing_pairs(self._whole())
        for error in [*lost, *lost_too]:
            self.progress.say(f"corrupt, set aside and computed again: {error}")
        return bool(endpoints or pairs)

    def _look_after_minima(self) -> None:
        """Set aside what is damaged, as far as its files' sizes and times tell (their hashes are checked when read)."""
        needed: dict[str, str] = dict.fromkeys(self.points, layout.MINIMA)
        needed |= dict.fromkeys(backbones_of(self.points, set(self.points)), layout.BACKBONES)
        for key, kind in needed.items():
            if (self.store.folder(kind, key)).exists():
                try:
                    self.store.verify(kind, key)
                except CorruptArtefact as error:
                    self._set_aside(error)

    def _set_aside(self, error: CorruptArtefact) -> None:
        place = self.store.set_aside(error.kind, error.key)
        self.progress.say(f"corrupt, set aside and computed again: {error}" + (f" (now {place})" if place else ""))

    # Where it runs ----------------------------------------------------------------------------------------------

    def _place(self) -> None:
        """Refuse at once, before Ray starts, what this machine can never place. Raises SpecError."""
        from raymc.runtime.cluster import starts_here, this_machine

        gpus_left_open = self.spec.resources.trial.gpus == self.spec.resources.evaluator.gpus == "auto"
        if gpus_left_open and starts_here(self.address):
            self._shapes(this_machine())

    def _shapes(self, cluster: Cluster) -> tuple[Any, int, Any, int]:
        """(trial worker's shape, trials at once, evaluator's shape, actors). Raises SpecError where nothing fits."""
        from raymc.runtime.cluster import Shape, Unplaceable
        from raymc.specs.errors import SpecError

        trial, evaluator = self.spec.resources.trial, self.spec.resources.evaluator
        auto = 1.0 if cluster.has_gpus else 0.0
        worker = Shape(trial.cpus, auto if trial.gpus == "auto" else trial.gpus)
        actor = Shape(evaluator.cpus, auto if evaluator.gpus == "auto" else evaluator.gpus)
        try:
            at_once = cluster.require(worker, trial.workers, "resources.trial", "workers")
            wanted = evaluator.actors or 1
            fits = cluster.require(actor, wanted, "resources.evaluator", "actors") * wanted
        except Unplaceable as error:
            raise SpecError([self.locate(tuple(error.path.split(".")), error.message)]) from error
        return worker, at_once, actor, evaluator.actors or fits

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        """A first Ctrl-C (or SIGTERM) stops cleanly; a second one at once."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def ask(number: int, frame: Any) -> None:
            if self.stop.is_set():
                raise Interrupted
            self.stop.set()
            self.progress.say("stopping: what is finished is kept; once more stops at once")

        before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    # Computing --------------------------------------------------------------------------------------------------

    def _compute(self) -> None:
        from raymc.runtime.cluster import connect

        if self.tracking is not None:
            self.tracking.open()
        began = time.perf_counter()
        with connect(self.address, self.verbose) as cluster:
            worker, at_once, actor, actors = self._shapes(cluster)
            self._mark("start", began)
            for _ in range(_ROUNDS):
                self._train(worker, at_once)
                if self.stop.is_set() or not self._evaluate(actor, actors):
                    break

    def _train(self, worker: Any, at_once: int) -> None:
        from raymc.runtime.search import run_trials
        from raymc.runtime.trial import Settings, Trial

        spec, failure = self.spec, self.spec.failure
        settings = Settings(
            storage=self.store.uri,
            workers=1,
            cpus=worker.cpus,
            gpus=worker.gpus,
            strategy=spec.resources.trial.strategy,
            retries=failure.trial_retries,
            checkpoint_every=failure.checkpoint_every,
            log_every=spec.tracking.log_every,
            scratch=str(self.store.scratch("trials")),
        )
        missing = self._missing()
        peft = {key for key, point in self.points.items() if point.trial.tuning.method not in ("full", "bitfit")}
        backbones = backbones_of(self.points, {*missing, *peft})
        todo = [key for key in backbones if not self.store.has(layout.BACKBONES, key)]
        workers = spec.resources.trial.workers
        if todo:
            began = time.perf_counter()
            self.progress.stage("backbones", len(backbones), len(backbones) - len(todo))
            runs: dict[str, list[str]] = {}
            for key in todo:
                runs.setdefault(backbone_trajectory(backbones[key]), []).append(key)
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
                trials, several, each, self.store, self.progress, self.stop, lambda trial: None, self.verbose
            )
            lost = {key: failed[run] for run, keys in runs.items() if run in failed for key in keys}
            for key in missing:
                for backbone in backbones_of(self.points, {key}):
                    if backbone in lost and not self.store.has(layout.BACKBONES, backbone):
                        self.failed_minima[key] = f"its backbone failed: {lost[backbone]}"
            self._mark("backbones", began)
        missing = self._missing()
        if missing and not self.stop.is_set():
            began = time.perf_counter()
            self.progress.stage("minima", len(self.points), len(self.points) - len(missing) - len(self.failed_minima))
            for existing in (True, False):  # what exists already is only taken into the store, by one worker
                chosen = [key for key in missing if (self.points[key].existing is not None) == existing]
                several = replace(settings, workers=1 if existing else workers)
                if chosen:
                    self._tune(chosen, several, at_once)
            self.computed_minima |= set(missing) & self._whole()
            self._mark("minima", began)

    def _tune(self, keys: list[str], settings: Any, at_once: int) -> None:
        """One run for each trajectory that these minima are on."""
        from raymc.runtime.search import run_trials
        from raymc.runtime.trial import Trial

        runs: dict[str, list[str]] = {}
        for key in keys:
            runs.setdefault(self.points[key].trial.trajectory, []).append(key)
        trials = [
            Trial(
                layout.MINIMA,
                run,
                self._name(some[0]),
                tuple(some),
                tuple(self.points[key].trial.model_dump(mode="json") for key in some),
            )
            for run, some in runs.items()
        ]
        failed = run_trials(
            trials, settings, at_once, self.store, self.progress, self.stop, self._finished, self.verbose
        )
        for run, reason in failed.items():
            self.failed_minima |= {key: reason for key in runs[run] if not self.store.has(layout.MINIMA, key)}

    def _finished(self, trial: Any) -> None:
        if self.tracking is not None:
            for key in trial.keys:
                self.tracking.minimum(key, self.points[key])

    def _evaluate(self, shape: Any, actors: int) -> bool:
        """Evaluate what is missing; whether a minimum turned out damaged and is to be trained again."""
        from raymc.runtime.pool import EvaluatorSettings, Pool

        keys = self._whole()
        endpoints, _ = self.connections.missing_endpoints(keys)
        pairs, _ = self.connections.missing_pairs(keys)
        if not endpoints and not pairs:
            return False
        began = time.perf_counter()
        connectivity, evaluator = self.spec.connectivity, self.spec.resources.evaluator
        settings = EvaluatorSettings(
            storage=self.store.uri,
            points=connectivity.points,
            precision=connectivity.precision,
            cpus=shape.cpus,
            gpus=shape.gpus,
            cache_bytes=evaluator.cache,
            token_budget=evaluator.token_budget,
        )
        ends: dict[tuple[str, str], Evaluation] = {}
        damaged: dict[str, CorruptArtefact] = {}
        spec_json = self.spec.model_dump_json()
        retries = self.spec.failure.pair_retries
        count = max(1, min(actors, max(len(endpoints), len(pairs))))
        with Pool(settings, spec_json, sorted(keys), count, retries, self.progress) as pool:
            if endpoints:
                total = len(keys)
                self.progress.stage("endpoints", total, total - len(endpoints))
                for task, error in pool.run(endpoints, lambda _: {}, lambda _, found: self._put(found), self.stop):
                    if isinstance(error, CorruptArtefact):
                        damaged[error.key] = error
                    else:
                        self.failed_minima[task.key] = f"it can't be evaluated: {error}"  # type: ignore[union-attr]
                        self.progress.say(f"{self._name(task.key)} can't be evaluated: {error}")  # type: ignore[union-attr]
            self._mark("endpoints", began)
            began = time.perf_counter()
            for key in keys - damaged.keys():
                for split in self.connections.endpoint_splits(key):
                    found = self.connections.evaluation(key, split)
                    if found is not None:
                        ends[key, split] = found
            ready = [task for task in pairs if all(end in ends for end in _needed(task))]
            if ready and not self.stop.is_set():
                total = self.connections.total_pairs()
                possible = sum(1 for _ in self.connections.pairs(keys)) * len(connectivity.curves)
                self.progress.stage("pairs", total, possible - len(pairs))

                def both(task: Any) -> dict[str, tuple[Evaluation | None, Evaluation | None]]:
                    return {split: (ends.get((task.a, split)), ends.get((task.b, split))) for split in task.splits}

                for task, error in pool.run(ready, both, self._put_pair, self.stop):
                    if isinstance(error, CorruptArtefact):
                        damaged[error.key] = error
                    else:
                        self.failed_pairs[task.a, task.b, task.curve] = str(error)  # type: ignore[union-attr]
                        self.progress.say(f"{self._name(task.a)} - {self._name(task.b)} failed: {error}")  # type: ignore[union-attr]
            self._mark("pairs", began)
        for error in damaged.values():
            self._set_aside(error)
        return bool(damaged)

    def _put(self, found: list[Any]) -> None:
        for result in found:
            self.connections.put(result)

    def _put_pair(self, task: Any, found: list[Any]) -> None:
        self._put(found)
        self.computed_pairs.add((task.a, task.b, task.curve))

    # Writing ----------------------------------------------------------------------------------------------------

    def _write(self) -> Sweep:
        from raymc.sweep.tables import assemble

        began = time.perf_counter()
        tables, pairs_done = assemble(self.connections, self.points)
        pairs = self.connections.total_pairs()
        failures = [
            {"kind": "minimum", "key": key, "name": self._name(key), "reason": reason}
            for key, reason in self.failed_minima.items()
        ]
        failures += [
            {"kind": "pair", "key": f"{a}-{b}", "name": f"{self._name(a)} - {self._name(b)}", "reason": reason}
            for (a, b, _), reason in self.failed_pairs.items()
        ]
        self._mark("tables", began)
        result = {
            "name": self.spec.name,
            "storage": self.store.uri,
            "minima": _counts(len(self.points), len(self.computed_minima), len(tables["minima"])),
            "pairs": _counts(pairs, len(self.computed_pairs), pairs_done),
            "seconds": time.perf_counter() - self.started,
            "stages": {name: round(value, 3) for name, value in self.seconds.items()},
        }
        return write_sweep(self.store, self.spec, tables, result, failures)

    def _track(self, sweep: Sweep) -> None:
        if self.tracking is not None:
            began = time.perf_counter()
            sweep.result |= self.tracking.sync(sweep, self.points)
            self._mark("tracking", began)
            sweep.result["stages"]["tracking"] = round(self.seconds["tracking"], 3)
            sweep.result["seconds"] = time.perf_counter() - self.started

    def _mark(self, stage: str, began: float) -> None:
        self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - began

    def _name(self, key: str) -> str:
        return name_of(self.points[key])


def _needed(task: PairTask) -> list[tuple[str, str]]:
    """The evaluations (key, row set) that a path starts from: of the ends that are scored with their own head."""
    heads = list(zip(task.splits, task.heads, strict=True))
    return [(task.a, s) for s, head in heads if head != "b"] + [(task.b, s) for s, head in heads if head != "a"]


def _counts(total: int, computed: int, there: int) -> dict[str, int]:
    return {"total": total, "computed": computed, "reused": there - computed, "failed": total - there}
