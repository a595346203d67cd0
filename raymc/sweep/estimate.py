"""About what a sweep costs: bytes loaded, hours, wall time, on stated or measured hardware; and what that rests on."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from raymc.connectivity.records import fit_task
from raymc.connectivity.tiles import fewest_loads
from raymc.specs.content import backbone_key, backbone_trajectory
from raymc.specs.curves import AutoNebCurve
from raymc.specs.errors import CorruptArtefact
from raymc.specs.model import Pretrained
from raymc.specs.sweep import Point, SweepSpec
from raymc.specs.task import training_row_count
from raymc.specs.trial import TrialSpec
from raymc.store import layout
from raymc.store.store import Store
from raymc.sweep.calibration import Calibration
from raymc.sweep.check import backbones_of
from raymc.sweep.sizes import backbone_bytes, made_weights, rows_and_tokens, stored_bytes, tokens_of, weights_of

_FLOPS_PER_CORE = 5e10  # of fp32 matrix products on one server core; said in the estimate's basis
_READ_RATE = 1e9  # bytes a second that a worker reads endpoints at, where no load was timed; said there too
_RATES = 20  # minima whose training is read for their rate


@dataclass(frozen=True)
class Hardware:
    """What a user says of it: how many workers, and what rate forward passes reach on one (10^12 operations a second).

    Left out: as many workers as the spec says or this machine has room for, at the rate that was measured, or assumed.
    """

    workers: int | None = None
    tflops: float | None = None


AS_IT_IS = Hardware()


@dataclass(frozen=True)
class Work:
    """What is still to do. `passes`: over one row set; `pairs`: of minima, whatever curves; `fits`: by curve."""

    passes: int
    pairs: int
    minima: int
    fits: Mapping[str, int]


@dataclass(frozen=True)
class _Rate:
    """Forward tokens a second and worker, seconds a load, seconds a pair beside both; a training token counts as 3."""

    tokens: float
    load: float | None  # None: by the bytes, at an assumed rate
    pair: float
    basis: str
    gpu: bool


def estimate(
    spec: SweepSpec,
    store: Store,
    points: dict[str, Point],
    there: set[str],
    work: Work,
    hardware: Hardware = AS_IT_IS,
    calibration: Calibration | None = None,
) -> dict[str, Any]:
    """Floating-point operations still to do (2 a weight and token forward, 6 in training), bytes, hours and seconds.

    None for what can't be told, which `basis` explains.
    """
    cores = os.cpu_count() or 1
    asked = spec.resources.evaluator
    workers = hardware.workers or asked.actors or max(1, int(cores // asked.cpus))
    found: dict[str, Any] = _loads(spec, store, there, work, workers, calibration)
    size, per_pass, trained = _sizes(spec, points, there)
    if size is None or per_pass is None or trained is None:
        unknown = {"train_flops": None, "evaluate_flops": None, "seconds": None, "basis": "unknown: on the hub"}
        return unknown | {"hours": None, "hours_of": None, **found}
    trained += _tokens_fitted(spec, work.fits)
    made = sum(_pretraining(one) for key, one in _runs(points).items() if not store.has(layout.BACKBONES, key))
    train, evaluate = 6.0 * size * trained + made, 2.0 * size * per_pass * work.passes
    rate = _rate(spec, store, points, there, size, per_pass, workers, hardware, calibration)
    load = rate.load if rate.load is not None else (found["endpoint_bytes"] or 0) / _READ_RATE
    seconds = (train + evaluate) / (2.0 * size * rate.tokens) + found["loads"] * load + work.pairs * rate.pair
    basis = rate.basis
    if rate.load is None and found["bytes_loaded"]:
        basis += f"; endpoints read at an assumed {_READ_RATE / 1e9:g} GB/s a worker"
    if spec.model.kind != "classifier":
        basis += "; a pass over labels as text costs more than is counted"
    gpus = asked.gpus if isinstance(asked.gpus, float | int) and asked.gpus > 0 else 1.0
    return {
        "train_flops": train,
        "evaluate_flops": evaluate,
        "seconds": seconds / workers,
        "hours": seconds / 3600 * (gpus if rate.gpu else asked.cpus),
        "hours_of": "GPU" if rate.gpu else "CPU",
        "basis": basis,
        **found,
    }


# Bytes ------------------------------------------------------------------------------------------------------------


def _loads(
    spec: SweepSpec, store: Store, there: set[str], work: Work, workers: int, calibration: Calibration | None
) -> dict[str, Any]:
    """How many endpoints must be loaded at least, by the bound of tiles, and of how many bytes."""
    made, backbone = min(there, default=None), spec.model.backbone
    trained = None if isinstance(backbone, str) else backbone_key(backbone)
    if made is not None:
        size, basis = stored_bytes(store, layout.MINIMA, made), "an endpoint as a minimum in the store"
    elif calibration is not None:
        size, basis = calibration.bytes_per_endpoint, "an endpoint as measured"
    elif trained is not None and store.has(layout.BACKBONES, trained):
        size, basis = stored_bytes(store, layout.BACKBONES, trained), "an endpoint as its backbone in the store"
    else:
        size, basis = backbone_bytes(spec.model), "an endpoint as its whole backbone in fp32"
        basis += "" if trained is None else ", embeddings not counted"
    room = max(2, spec.resources.evaluator.cache // size if size else work.minima)
    loads = fewest_loads(work.pairs, min(work.minima, 2 * work.pairs), room, workers)
    bends = sum(count * getattr(spec.connectivity.curve(curve), "bends", 1) for curve, count in work.fits.items())
    fits = "all of them" if room >= work.minima else str(room)
    basis = f"{basis if size else 'an endpoint on the hub'}, a worker's cache with room for {fits}"
    return {
        "workers": workers,
        "endpoint_bytes": size or None,
        "loads": loads,
        "bytes_loaded": (loads + bends) * size if size else None,
        "loads_basis": f"{basis}; the fewest loads that tiles of pairs can take",
    }


# Tokens -----------------------------------------------------------------------------------------------------------


def _sizes(
    spec: SweepSpec, points: dict[str, Point], there: set[str]
) -> tuple[float | None, float | None, float | None]:
    """(weights in matrix products, the most; tokens of a pass; tokens still to train on); None where on the hub."""
    todo = {key: point.trial for key, point in points.items() if key not in there and point.existing is None}
    # Points of a sweep share the sections that they have alike.
    models = {id(trial.model): trial.model for trial in todo.values()} or {
        id(point.trial.model): point.trial.model for point in points.values()
    }
    weights = [weights_of(model) for model in models.values()]
    size = None if None in weights else max(weight for weight in weights if weight is not None)
    sets = [rows_and_tokens(rows_of.task, rows_of.split) for rows_of in spec.row_sets]
    known = [rows * tokens for rows, tokens in filter(None, sets)]
    return size, sum(known) / len(sets) if len(known) == len(sets) else None, _tokens_trained(todo)


def _tokens_trained(todo: Mapping[str, TrialSpec]) -> float | None:
    """Of each run to its last snapshot."""
    from raymc.training.schedule import steps_of

    tasks = {id(trial.task): trial.task for trial in todo.values()}
    counted = {one: rows_and_tokens(task, task.train_split) for one, task in tasks.items()}
    ends: dict[str, float] = {}
    for trial in todo.values():
        known = counted[id(trial.task)]
        if known is None:
            return None
        rows, tokens = known
        steps = trial.train.snapshot or steps_of(trial, training_row_count(trial.task, rows))
        ends[trial.trajectory] = max(ends.get(trial.trajectory, 0.0), steps * trial.train.batch_size * tokens)
    return sum(ends.values())


def _tokens_fitted(spec: SweepSpec, fits: Mapping[str, int]) -> float:
    """Training tokens of so many fits of each curve; an update of autoneb takes each pivot and each cycle."""
    total = 0.0
    for curve, count in fits.items():
        how = spec.connectivity.curve(curve)
        counted, fit = rows_and_tokens(fit_task(spec, how), fit_task(spec, how).train_split), how.fitted
        if counted is not None and fit is not None:
            pivots = how.pivots + how.insert * (how.cycles - 1) / 2 if isinstance(how, AutoNebCurve) else 1.0
            updates = fit.steps * (how.cycles * pivots if isinstance(how, AutoNebCurve) else fit.draws)
            total += count * updates * fit.batch_size * counted[1]
    return total


def _runs(points: dict[str, Point]) -> dict[str, Pretrained]:
    """Of each pre-training run the backbone that lies furthest, by its key."""
    furthest: dict[str, tuple[int, str, Pretrained]] = {}
    for key, backbone in backbones_of(points, set(points)).items():
        run, steps = backbone_trajectory(backbone), _updates(backbone)
        if run not in furthest or steps > furthest[run][0]:
            furthest[run] = (steps, key, backbone)
    return {key: backbone for _, key, backbone in furthest.values()}


def _updates(backbone: Pretrained) -> int:
    snapshot = getattr(backbone, "snapshot", None)
    return backbone.steps if snapshot is None else snapshot


def _pretraining(backbone: Pretrained) -> float:
    """Floating-point operations of one pre-training run; 0 where its network isn't known here."""
    weights = made_weights(backbone) or 0.0
    return 6.0 * weights * tokens_of(backbone) * _updates(backbone) * backbone.batch_size


# Rates ------------------------------------------------------------------------------------------------------------


def _rate(
    spec: SweepSpec,
    store: Store,
    points: dict[str, Point],
    there: set[str],
    size: float,
    per_pass: float,
    workers: int,
    hardware: Hardware,
    calibration: Calibration | None,
) -> _Rate:
    """What the user says, else what a short run measured, else what training in this storage took, else assumed."""
    said = f"{workers} workers" if workers > 1 else "1 worker"
    if hardware.tflops is not None:
        basis = f"{size:.3g} weights in matrix products, about {per_pass:.0f} tokens a pass, {said} at the stated "
        basis += f"{hardware.tflops:g} TFLOP/s each, reached in full; start-up not counted"
        return _Rate(hardware.tflops * 1e12 / (2.0 * size), None, 0.0, basis, spec.resources.evaluator.gpus != 0)
    if calibration is not None:
        basis = f"measured on {calibration.device} in {calibration.precision}, {calibration.threads} threads: "
        basis += f"{calibration.tokens_per_second:.0f} tokens/s a worker; {said}"
        timed = calibration.seconds_per_load, calibration.seconds_per_pair_overhead
        return _Rate(calibration.tokens_per_second, *timed, basis, calibration.on_gpu)
    measured = _measured_rate(store, points, there)
    if measured:
        rate, count = measured
        basis = f"{count} minima of this sweep trained in this storage, {rate:.0f} tokens/s a worker; {said}"
        return _Rate(rate, None, 0.0, basis, False)
    cpus = spec.resources.evaluator.cpus
    cores = "1 core" if workers * cpus == 1 else f"{workers * cpus:g} cores"
    basis = f"{size:.3g} weights in matrix products, about {per_pass:.0f} tokens a pass, {cores} at an "
    basis += "assumed 50 GFLOP/s each, start-up (about half a minute) and the overhead of small models not counted"
    return _Rate(_FLOPS_PER_CORE * cpus / (2.0 * size), None, 0.0, basis, False)


def _measured_rate(store: Store, points: dict[str, Point], there: set[str]) -> tuple[float, int] | None:
    """Forward tokens a second and worker (a training token counts as three) over this sweep's finished minima."""
    tokens = seconds = 0.0
    trained = sorted(key for key in there if points[key].existing is None)
    for key in trained[:_RATES]:
        try:
            body = store.read_json(layout.MINIMA, key, layout.PROVENANCE)
        except CorruptArtefact:
            continue
        share = body["tokens"] / body["rows"]
        tokens += 3 * share * body["steps"] * points[key].trial.train.batch_size
        seconds += body["seconds"]["train"] * body["workers"]
    return (tokens / seconds, len(trained)) if seconds else None
