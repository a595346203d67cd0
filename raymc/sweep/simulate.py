"""The real scheduler, played against workers that only pass time: what a run on so many would take."""

from __future__ import annotations

import heapq
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from raymc.connectivity.missing import Missing
from raymc.connectivity.scheduler import Batch, Scheduler
from raymc.connectivity.tiles import Cache, arrange, fewest_loads
from raymc.specs.errors import CorruptArtefact
from raymc.store import layout
from raymc.sweep.calibration import read
from raymc.sweep.sizes import backbone_bytes, rows_and_tokens, stored_bytes

if TYPE_CHECKING:
    from raymc.connectivity.pairs import Connections
    from raymc.specs.sweep import SweepSpec

_ASK_AGAIN = 10.0  # simulated seconds after which a worker without work asks again
_READ = 50  # finished profiles that are read for their mean time


@dataclass(frozen=True)
class Costs:
    """What a run costs, in seconds; `basis` says where the figures come from."""

    pair: float = 0.2
    load: float = 0.1
    cache: int = 20  # endpoints that a worker has room for
    restart: float = 30.0  # from a worker's death until another in its place asks for work
    basis: str = "assumed: a small encoder on a data-centre GPU, 91 MB an endpoint from a shared file system"


@dataclass(frozen=True)
class Simulated:
    """How a simulated run went. Shares are of workers times makespan."""

    minima: int
    pairs: int
    workers: int
    failed_workers: int
    costs: Costs
    makespan: float  # seconds
    ideal: float  # seconds: all pairs and the fewest loads, spread evenly over workers that never fail
    idle_share: float  # without a batch in hand: waiting, dead, or starting anew
    lost_share: float  # spent on batches that died with their worker or that another finished first
    loads: int
    fewest_loads: int
    batches: int
    stolen: int  # spans split off by workers that ran out
    repeated: int  # batches given to a second worker
    scheduler_ms_mean: float  # CPU time of the scheduler a batch
    scheduler_ms_max: float  # of one call
    peak_memory: int  # bytes, of this process

    def as_dict(self) -> dict[str, Any]:
        ratio = self.loads / self.fewest_loads if self.fewest_loads else 1.0
        return {**asdict(self), "loads_over_fewest": ratio}


def of_sweep(spec: SweepSpec, storage: str | None = None) -> tuple[Missing, Costs]:
    """(all pairs that a sweep selects, what they cost as far as its store tells)."""
    from raymc.connectivity.pairs import Connections
    from raymc.sweep.check import open_store, trials_by_key, whole_minima
    from raymc.tasks.rows import labels_of

    store, points = open_store(spec, storage, write=False), trials_by_key(spec)
    connections = Connections(spec, store, points, labels_of)
    return connections.selected, costs_of(connections, whole_minima(store, set(points)))


def costs_of(connections: Connections, there: set[str]) -> Costs:
    """What a pair of a sweep costs by a calibration in the store, else by its finished profiles, else as assumed."""
    spec, store = connections.spec, connections.store
    found = read(store, spec)
    size = found.bytes_per_endpoint if found is not None else 0
    if not size and there:
        size = stored_bytes(store, layout.MINIMA, min(there))
    size = size or backbone_bytes(spec.model)
    costs = replace(Costs(), cache=max(2, spec.resources.evaluator.cache // size)) if size else Costs()
    sets = [rows_and_tokens(rows.task, rows.split) for rows in spec.row_sets] if found is not None else []
    if found is not None and None not in sets:
        tokens = sum(rows * length for rows, length in filter(None, sets))
        path = found.passes_per_path * tokens / found.tokens_per_second + found.seconds_per_pair_overhead
        pair, basis = len(spec.connectivity.curves) * path, f"measured on {found.device} in {found.precision}"
        return replace(costs, pair=pair, load=found.seconds_per_load, basis=basis)
    seconds = _finished(connections, there)
    if not seconds:
        return costs
    mean = sum(map(sum, seconds)) / sum(map(len, seconds))
    basis = f"a pair as {sum(map(len, seconds))} finished profiles on the mean, a load as assumed"
    return replace(costs, pair=len(spec.connectivity.curves) * len(spec.row_sets) * mean, basis=basis)


def _finished(connections: Connections, there: set[str]) -> list[list[float]]:
    """Seconds of finished profiles, of each curve and row set that has some."""
    found = []
    for curve in connections.spec.connectivity.curve_names:
        for _, group, i, j in connections.counts.recorded(curve, there):
            seconds = []
            for a, b in zip(i[:_READ].tolist(), j[:_READ].tolist(), strict=True):
                try:
                    name = f"{connections.order[a]}-{connections.order[b]}"
                    seconds.append(connections.store.get(layout.PROFILES, group, name)["seconds"])
                except (KeyError, CorruptArtefact):  # which a run looks after
                    continue
            found.append(seconds)
    return [seconds for seconds in found if seconds]


@dataclass(eq=False)
class _Worker:
    slowness: float
    cache: Cache
    dies: float  # at which time; infinity: never
    began: float = 0.0
    batch: Batch | None = None
    loads: int = 0


def simulate(
    missing: Missing,
    workers: int,
    costs: Costs,
    *,
    spread: float = 0.1,
    fail: float = 0.01,
    seed: int = 0,
    target: float = 5.0,
) -> Simulated:
    """Play a run to its end. `spread`: of the workers' speeds, as a standard deviation of their logarithms.

    `fail`: the share of the workers that dies at some time in the run; another takes the place of each. `target`:
    seconds of a batch.
    """
    random = np.random.default_rng(seed)
    order = arrange(missing, costs.cache, workers)
    scheduler, clock = Scheduler(order, workers, target=target), _Clock()
    fewest = fewest_loads(order.total, order.endpoints, costs.cache, workers)
    ideal = (order.total * costs.pair + fewest * costs.load) / workers
    deaths = np.full(workers, np.inf)
    dying = random.permutation(workers)[: round(fail * workers)]
    deaths[dying] = random.uniform(0.0, ideal, len(dying))
    slowness = np.exp(random.normal(0.0, spread, workers))
    events: list[tuple[float, int, _Worker]] = []
    for s, dies in zip(slowness.tolist(), deaths.tolist(), strict=True):
        events.append((0.0, len(events), _Worker(s, Cache(costs.cache), dies)))
    count, now, busy, wasted = workers, 0.0, 0.0, 0.0
    while scheduler.left:
        now, _, worker = heapq.heappop(events)
        if now >= worker.dies:
            wasted += now - worker.began if worker.batch is not None else 0.0
            clock.time(scheduler.lost, worker, now)
            worker = _Worker(worker.slowness, Cache(costs.cache), np.inf)
            wake = now + costs.restart
        else:
            if worker.batch is not None:
                took, worker.batch = now - worker.began, None
                first = clock.time(scheduler.done, worker, now, worker.loads, took)
                busy, wasted = (busy + took, wasted) if first is not None else (busy, wasted + took)
            worker.batch, worker.began = clock.time(scheduler.next, worker, now), now
            if worker.batch is None:
                wake = now + _ASK_AGAIN
            else:
                worker.loads = worker.cache.loads(worker.batch.pairs, worker.batch.coming)
                wake = now + worker.slowness * (len(worker.batch) * costs.pair + worker.loads * costs.load)
        count += 1
        heapq.heappush(events, (min(wake, worker.dies), count, worker))
    wasted += sum(now - worker.began for _, _, worker in events if worker.batch is not None)
    whole = workers * now or 1.0
    return Simulated(
        minima=order.endpoints,
        pairs=order.total,
        workers=workers,
        failed_workers=len(dying),
        costs=costs,
        makespan=now,
        ideal=ideal,
        idle_share=1.0 - (busy + wasted) / whole,
        lost_share=wasted / whole,
        loads=scheduler.loads,
        fewest_loads=fewest,
        batches=scheduler.batches,
        stolen=scheduler.stolen,
        repeated=scheduler.repeated,
        scheduler_ms_mean=1e3 * clock.total / max(1, scheduler.batches),
        scheduler_ms_max=1e3 * clock.longest,
        peak_memory=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024),
    )


class _Clock:
    """CPU time of calls: what else the machine does is none of it."""

    def __init__(self) -> None:
        self.total = self.longest = 0.0

    def time(self, call: Callable[..., Any], *given: Any) -> Any:
        began = time.thread_time()
        found = call(*given)
        took = time.thread_time() - began
        self.total, self.longest = self.total + took, max(self.longest, took)
        return found
