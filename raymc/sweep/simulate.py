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
from raymc.specs.results import Profile
from raymc.store import layout

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
    """What a sweep's pairs cost by its finished profiles, and how many of its minima fit a worker; else assumed."""
    spec, store, costs = connections.spec, connections.store, Costs()
    for key in sorted(there):
        size = sum(path.stat().st_size for path in store.folder(layout.MINIMA, key).glob("*.safetensors"))
        if size:
            costs = replace(costs, cache=max(2, spec.resources.evaluator.cache // size))
            break
    seconds: dict[tuple[str, str], list[float]] = {}
    for curve in spec.connectivity.curve_names:
        for split, group, i, j in connections.counts.recorded(curve, there):
            for a, b in zip(i[:_READ].tolist(), j[:_READ].tolist(), strict=True):
                try:
                    name = f"{connections.order[a]}-{connections.order[b]}"
                    found = Profile.model_validate(store.get(layout.PROFILES, group, name))
                except (KeyError, CorruptArtefact):  # which a run looks after
                    continue
                seconds.setdefault((curve, split), []).append(found.seconds)
    if not seconds:
        return costs
    count, known = sum(map(len, seconds.values())), [sum(some) / len(some) for some in seconds.values()]
    asked = len(spec.connectivity.curves) * len(spec.row_sets)
    return replace(costs, pair=asked * sum(known) / len(known), basis=f"{count} finished profiles; a load as assumed")


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
