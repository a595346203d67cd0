"""Run a sweep: train what is missing, evaluate what is missing, write the tables, bring the tracker up to date."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from raymc.connectivity.pairs import Connections
from raymc.connectivity.planes import Planes
from raymc.specs.errors import CorruptArtefact, StorageFault
from raymc.specs.progress import Progress, Silent
from raymc.specs.sweep import Point, SweepSpec
from raymc.store import layout
from raymc.store.store import Store
from raymc.sweep.check import Locate, backbones_of, check, open_store, trials_by_key, unlocated
from raymc.sweep.evaluation import evaluate
from raymc.sweep.failures import failures
from raymc.sweep.precision import decide, stay
from raymc.sweep.results import Sweep, write_sweep
from raymc.sweep.sharing import alone
from raymc.sweep.state import State
from raymc.sweep.tracking import Tracking
from raymc.sweep.training import train

if TYPE_CHECKING:
    from raymc.runtime.cluster import Cluster

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
        from raymc.tasks.rows import labels_of

        self.started = time.perf_counter()
        self.spec, self.address = spec, address
        self.progress, self.verbose, self.locate = progress, verbose, locate
        check(spec, locate)
        self.points: dict[str, Point] = trials_by_key(spec, locate)
        self.store: Store = open_store(spec, storage, write=True)
        self.connections = Connections(spec, self.store, self.points, labels_of)
        self.tracking = Tracking(spec, self.store, tracking, progress) if spec.tracking.enabled else None
        self.state = State(spec, self.points, self.store, self.connections, progress, self.tracking, verbose)

    def go(self) -> Sweep:
        self._look_after_minima()
        try:
            if self.state.missing() or self._missing_fits() or self._missing_evaluations():
                self._place()
                with self._signals():
                    self._compute()
            if self.state.stop.is_set():
                raise Interrupted
            with self._signals(), alone(self.state):
                if self.state.stop.is_set():
                    raise Interrupted
                sweep = self._write()  # whole, whatever comes meanwhile
                if not self.state.stop.is_set():  # else the next run brings the tracker up to date
                    with self._signals(at_once=True):
                        self._track(sweep)
        finally:
            try:
                if self.tracking is not None:
                    self.tracking.close()
            finally:
                with contextlib.suppress(StorageFault):  # others see by themselves that this run has ended
                    self.state.claims.close()
        return sweep

    # What there is ----------------------------------------------------------------------------------------------

    def _missing_fits(self) -> bool:
        return bool(self.connections.missing_fits(self.state.whole()))

    def _missing_evaluations(self) -> bool:
        endpoints, lost = self.connections.missing_endpoints(self.state.whole())
        pairs = self.connections.missing(self.state.whole())
        planes = Planes(self.connections)
        lines, lost_lines = planes.missing_lines(self.state.whole())
        traces, lost_traces = planes.missing_traces(self.state.whole())
        for error in [*lost, *pairs.corrupt, *lost_lines, *lost_traces]:
            self.progress.say(f"corrupt, set aside and computed again: {error}")
        return bool(endpoints or pairs.count() or lines or traces)

    def _look_after_minima(self) -> None:
        """Set aside what is damaged, as far as its files' sizes and times tell; minima are hashed when they are read.

        A backbone that something is to be trained from is hashed here: it is opened by others' code.
        """
        needed: dict[str, str] = dict.fromkeys(self.points, layout.MINIMA)
        needed |= dict.fromkeys(backbones_of(self.points, set(self.points)), layout.BACKBONES)
        opened = backbones_of(self.points, set(self.state.missing()))
        for key, kind in needed.items():
            if self.store.is_here(kind, key):
                try:
                    self.store.verify(kind, key, deep=kind == layout.BACKBONES and key in opened)
                except CorruptArtefact as error:
                    self.state.set_aside(error)

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
    def _signals(self, at_once: bool = False) -> Iterator[None]:
        """A first Ctrl-C (or SIGTERM) stops cleanly, a second one at once; with `at_once`, the first one too."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def ask(number: int, frame: Any) -> None:
            if at_once or self.state.stop.is_set():
                raise Interrupted
            self.state.stop.set()
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
            self.tracking.watch()
        began = time.perf_counter()
        # Ray sets a SIGTERM handler of its own, so that ours comes after it.
        with connect(self.address, self.verbose, self.progress.say) as cluster, self._signals():
            worker, at_once, actor, actors = self._shapes(cluster)
            self.state.mark("start", began)
            for _ in range(_ROUNDS):
                damaged = train(self.state, worker, at_once)
                damaged = damaged or decide(self.state, actor)
                if self.state.stop.is_set():
                    break
                damaged = damaged or evaluate(self.state, actor, actors)
                if not damaged and not self.state.missing():  # which another run may have set aside
                    break

    # Writing ----------------------------------------------------------------------------------------------------

    def _write(self) -> Sweep:
        from raymc.sweep.tables import assemble

        began = time.perf_counter()
        tables, pairs_done, lacking = assemble(self.connections, self.points)
        pairs = self.connections.total_pairs()
        if pairs_done:
            stay(self.connections)
        failed = failures(self.state, tables["minima"]["key"], lacking)
        self.state.mark("tables", began)
        fits = list(self.connections.fits())
        fitted = sum(self.store.has(layout.CURVES, self.connections.fit_key(*one)) for one in fits)
        result = {
            "name": self.spec.name,
            "storage": self.store.uri,
            "minima": _counts(len(self.points), len(self.state.computed_minima), len(tables["minima"])),
            "curves": _counts(len(fits), len(self.state.computed_curves), fitted),
            "pairs": _counts(pairs, self.state.computed_pairs, pairs_done),
            "precision": self.connections.decisions.decision.model_dump(mode="json"),
            "seconds": time.perf_counter() - self.started,
            "stages": {name: round(value, 3) for name, value in self.state.seconds.items()},
        }
        sweep = write_sweep(self.store, self.spec, tables, result, failed)
        sweep.connections = self.connections  # what they read of records needn't be read again
        return sweep

    def _track(self, sweep: Sweep) -> None:
        if self.tracking is not None:
            began = time.perf_counter()
            sweep.result |= self.tracking.sync(sweep, self.points)
            self.state.mark("tracking", began)
            sweep.result["stages"]["tracking"] = round(self.state.seconds["tracking"], 3)
            sweep.result["seconds"] = time.perf_counter() - self.started


def _counts(total: int, computed: int, there: int) -> dict[str, int]:
    return {"total": total, "computed": computed, "reused": there - computed, "failed": total - there}
